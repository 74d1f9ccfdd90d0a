"""What a message may be wrapped in on its way: unwrapped where that is certain, else named."""

from collections.abc import Mapping
from typing import Final

from schemas.document import InvalidEventError, Json, Place, parse

#: A notification of a doubly encoded text is the most that was ever seen.
_MOST_WRAPPINGS: Final = 3

#: By what gives it away: one of these sets of keys.
_KNOWN: Final[Mapping[str, tuple[frozenset[str], ...]]] = {
    "is an S3 test notification; the queue is for events of AWS Organizations": (
        frozenset({"Service", "Event", "Bucket"}),
    ),
    "is a notice that CloudTrail wrote a log file; send the file's records one by one": (
        frozenset({"s3Bucket", "s3ObjectKey"}),
    ),
    "is data of a CloudWatch Logs subscription": (frozenset({"awslogs"}), frozenset({"logGroup", "logEvents"})),
    "is the output of SQS ReceiveMessage; send the Body of one message": (frozenset({"Messages"}),),
    "is a message with its receipt; send its body alone": (
        frozenset({"MessageId", "Body"}),
        frozenset({"messageId", "body"}),
    ),
    "is an entry for PutEvents, not an event": (frozenset({"DetailType", "Detail"}), frozenset({"Entries"})),
    "is a CloudWatch alarm": (frozenset({"AlarmName"}),),
}
_SNS: Final = {
    "SubscriptionConfirmation": "is an SNS subscription confirmation",
    "UnsubscribeConfirmation": "is an SNS unsubscribe confirmation",
}
#: By the source of the first record.
_RECORDS: Final = {
    "aws:s3": "is an S3 notification",
    "aws:sqs": "is a Lambda event with messages of SQS; send their bodies one by one",
    "aws:sns": "is a Lambda event with messages of SNS; send them one by one",
    "aws:kinesis": "is a Lambda event with records of Kinesis",
    "aws:dynamodb": "is a Lambda event with records of DynamoDB",
}


def unwrapped(body: str) -> Place:
    """Return the object that a body comes to: an event with its `source`, or a bare CloudTrail record.

    Raises InvalidEventError where the body is something else, and names it where it is known.
    """
    value = parse(body, "body")
    for _ in range(_MOST_WRAPPINGS + 1):
        place = Place("", value)
        if isinstance(value, dict) and not {"source", "detail", "eventName"}.isdisjoint(value):
            return place
        value = _inside(place)
    raise InvalidEventError(("body", f"is wrapped more than {_MOST_WRAPPINGS} times"))


def _inside(place: Place) -> Json:
    """Take one wrapping off."""
    if place.text is not None:
        return parse(place.text, "body")
    if not isinstance(place.value, dict):
        raise InvalidEventError(("body", f"is {_kind(place.value)}, not an object"))
    if place["Type"].text == "Notification":
        return parse(place["Message"].text or "", "Message")
    if "CloudTrailEvent" in place:
        return parse(place["CloudTrailEvent"].text or "", "CloudTrailEvent")
    for name in ("Records", "Events"):
        if isinstance(place.value.get(name), list):
            return _only(place[name])
    raise InvalidEventError(_named(place))


def _only(entries: Place) -> Json:
    """Return the one entry of a CloudTrail log file, or of the output of `lookup-events`."""
    found = list(entries)
    for each in found[:1]:
        source = _last(each.value, "eventSource") or _last(each.value, "EventSource")
        if isinstance(source, str) and source in _RECORDS:
            raise InvalidEventError(("body", _RECORDS[source]))
    if len(found) == 1 and isinstance(found[0].value, dict):
        return found[0].value
    what = "a CloudTrail log file" if entries.where == "Records" else "the output of CloudTrail's lookup-events"
    plural = "record" if len(found) == 1 else "records"
    raise InvalidEventError(("body", f"is {what} with {len(found)} {plural}; send them one by one"))


def _last(value: Json, name: str) -> Json:
    return value.get(name) if isinstance(value, dict) else None


def _named(place: Place) -> tuple[str, str]:
    keys = set(place.value) if isinstance(place.value, dict) else set()
    for words, signs in _KNOWN.items():
        if any(sign <= keys for sign in signs):
            return "body", words
    kind = place["Type"].text or ""
    if kind in _SNS:
        return "body", _SNS[kind]
    return "source", "is missing, and the body is nothing that is known to wrap an event"


def _kind(value: Json) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)} values"
    return "null" if value is None else "a single value"
