"""Unwrap an event from what other services put around it; name other wrappings in the error."""

from collections.abc import Mapping
from typing import Final

from schemas.document import InvalidEventError, Json, Node, parse

#: The deepest wrapping in practice is an SNS notification of a string that was encoded twice.
_MAX_WRAPPINGS: Final = 3

#: For messages that can hold no event.
_ONLY_EVENTS: Final = "this queue accepts only events of AWS Organizations"
#: By description: a body with all keys of one of the sets.
_KNOWN: Final[Mapping[str, tuple[frozenset[str], ...]]] = {
    f"is an S3 test notification; {_ONLY_EVENTS}": (frozenset({"Service", "Event", "Bucket"}),),
    "is a notification that CloudTrail wrote a log file; send the records of the file one by one": (
        frozenset({"s3Bucket", "s3ObjectKey"}),
    ),
    f"is data of a CloudWatch Logs subscription; {_ONLY_EVENTS}": (
        frozenset({"awslogs"}),
        frozenset({"logGroup", "logEvents"}),
    ),
    "is the output of SQS ReceiveMessage; send the Body of one message": (frozenset({"Messages"}),),
    "is a message with its metadata; send only its body": (
        frozenset({"MessageId", "Body"}),
        frozenset({"messageId", "body"}),
    ),
    "is an entry for PutEvents; send the event that EventBridge delivers": (
        frozenset({"DetailType", "Detail"}),
        frozenset({"Entries"}),
    ),
    f"is a CloudWatch alarm; {_ONLY_EVENTS}": (frozenset({"AlarmName"}),),
}
_SNS: Final = {
    "SubscriptionConfirmation": f"is an SNS subscription confirmation; {_ONLY_EVENTS}",
    "UnsubscribeConfirmation": f"is an SNS unsubscribe confirmation; {_ONLY_EVENTS}",
}
_NO_EVENT: Final = (
    "is the answer of CloudTrail's lookup-events that it has no such event; look up the eventID in detail, not the "
    "envelope's id, in the Region of the organization's events, 15 minutes to 90 days after the event"
)
#: By the event source of the first record.
_RECORDS: Final = {
    "aws:s3": f"is an S3 notification; {_ONLY_EVENTS}",
    "aws:sqs": "is a Lambda event with messages of SQS; send the bodies of the messages one by one",
    "aws:sns": "is a Lambda event with messages of SNS; send the messages one by one",
    "aws:kinesis": f"is a Lambda event with records of Kinesis; {_ONLY_EVENTS}",
    "aws:dynamodb": f"is a Lambda event with records of DynamoDB; {_ONLY_EVENTS}",
}


def unwrapped(body: str) -> Node:
    """Return the event of a body: an object with a `source`, or a CloudTrail record.

    Raises InvalidEventError for any other body, and names a known wrapping.
    """
    value = parse(body, "body")
    for _ in range(_MAX_WRAPPINGS + 1):
        node = Node("", value)
        if isinstance(value, dict) and not {"source", "detail", "eventName"}.isdisjoint(value):
            return node
        value = _inside(node)
    raise InvalidEventError(("body", f"is wrapped more than {_MAX_WRAPPINGS} times"))


def _inside(node: Node) -> Json:
    """Remove one wrapping."""
    if node.string is not None:
        return parse(node.string, "body")
    if not isinstance(node.value, dict):
        raise InvalidEventError(("body", f"must be a JSON object, not {_kind(node.value)}"))
    if node["Type"].string == "Notification":
        return parse(node["Message"].string or "", "Message")
    if "CloudTrailEvent" in node:
        return parse(node["CloudTrailEvent"].string or "", "CloudTrailEvent")
    for name in ("Records", "Events"):
        if isinstance(node.value.get(name), list):
            return _only(node[name])
    raise InvalidEventError(_problem(node))


def _only(entries: Node) -> Json:
    """Return the only record of a CloudTrail log file, or of the output of `lookup-events`."""
    found = list(entries)
    for each in found[:1]:
        source = _value(each.value, "eventSource") or _value(each.value, "EventSource")
        if isinstance(source, str) and source in _RECORDS:
            raise InvalidEventError(("body", _RECORDS[source]))
    if len(found) == 1 and isinstance(found[0].value, dict):
        return found[0].value
    what = "a CloudTrail log file" if entries.path == "Records" else "the output of CloudTrail's lookup-events"
    if not found and entries.path == "Events":
        raise InvalidEventError(("body", _NO_EVENT))
    plural = "record" if len(found) == 1 else "records"
    raise InvalidEventError(("body", f"is {what} with {len(found)} {plural}; send the records one by one"))


def _value(value: Json, name: str) -> Json:
    return value.get(name) if isinstance(value, dict) else None


def _problem(node: Node) -> tuple[str, str]:
    """Return what is wrong with an object that is neither an event nor a wrapping of one."""
    keys = set(node.value) if isinstance(node.value, dict) else set()
    for description, key_sets in _KNOWN.items():
        if any(key_set <= keys for key_set in key_sets):
            return "body", description
    kind = node["Type"].string or ""
    if kind in _SNS:
        return "body", _SNS[kind]
    return "source", "is missing, and the body is not a known wrapping of an event"


def _kind(value: Json) -> str:
    if isinstance(value, list):
        return "an array"
    return "null" if value is None else "a single value"
