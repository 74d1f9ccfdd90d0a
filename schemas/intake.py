"""Read a message: an account to evaluate or that has left, an event that needs neither, or an invalid event.

The fields that decide (source, names, ids, action, state, error code) must appear once and be well-formed. All other
fields are ignored. The only error that this module raises is `InvalidEventError`.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias, get_args

from pydantic import ValidationError

from schemas.announcements import joined
from schemas.changes import account_of_call, change_of
from schemas.departures import departure
from schemas.document import MAX_BODY_BYTES, InvalidEventError, Node, Number, parse
from schemas.events import (
    DEPARTURE,
    DEPARTURES,
    KNOWN_EVENT_NAMES,
    REHEARSAL,
    REMOVAL,
    Cause,
    Change,
    CloudTrailRecord,
    Departure,
    DepartureRequest,
    Event,
    Join,
    JoinRequest,
    NoJoin,
    PolicyChange,
    Received,
    Rehearsal,
    RehearsalEvent,
    RemovalRequest,
    Requester,
)
from schemas.ids import AccountId
from schemas.naming import ACCOUNT_ID_RULE, account_id, agreed, is_account_id, organization_id
from schemas.policy_changes import ORGANIZATION_CALLS, caller, changed_policy, detachment
from schemas.values import moment
from schemas.wrapping import unwrapped

__all__ = ["MAX_BODY_BYTES", "InvalidEventError", "read_event"]

#: The greatest age of an event: four times SQS's longest retention, because of redrives, and a day of EventBridge's
#: retries.
_MAX_AGE: Final = timedelta(days=60)
#: The greatest difference by which AWS's other clocks are ahead of SQS's.
_MAX_AHEAD: Final = timedelta(minutes=15)
_SOURCE: Final = "aws.organizations"
_EVENT_SOURCE: Final = "organizations.amazonaws.com"
#: The events of Organizations that may need an evaluation.
_CAUSES: Final[Mapping[str, Cause]] = {
    "AcceptHandshake": "joined",
    "AccountJoinedOrganization": "joined",
    "CreateAccountResult": "joined",
    "MoveAccount": "moved",
    "TagResource": "tagged",
    "UntagResource": "tagged",
    "DetachPolicy": "detached",
}

# Values that reasons may repeat, because they are enumerated by AWS (botocore, organizations 2016-11-28).
_ACTIONS: Final = frozenset(
    {
        "INVITE",
        "ENABLE_ALL_FEATURES",
        "APPROVE_ALL_FEATURES",
        "ADD_ORGANIZATIONS_SERVICE_LINKED_ROLE",
        "TRANSFER_RESPONSIBILITY",
    }
)
_HANDSHAKE_STATES: Final = frozenset({"REQUESTED", "OPEN", "CANCELED", "ACCEPTED", "DECLINED", "EXPIRED"})
_CREATION_STATES: Final = frozenset({"IN_PROGRESS", "SUCCEEDED", "FAILED"})
#: Without the suffix `Exception`, which CloudTrail writes only for some of them.
_ERRORS: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedForDependency",
        "AccountNotFound",
        "AWSOrganizationsNotInUse",
        "ConcurrentModification",
        "ConstraintViolation",
        "DestinationParentNotFound",
        "DuplicateAccount",
        "HandshakeAlreadyInState",
        "HandshakeConstraintViolation",
        "HandshakeNotFound",
        "InvalidHandshakeTransition",
        "InvalidInput",
        "MasterCannotLeaveOrganization",
        "Service",
        "SourceParentNotFound",
        "TargetNotFound",
        "TooManyRequests",
    }
)

#: Our own requests, by their source.
_REQUESTS: Final[Mapping[str, type[JoinRequest | RemovalRequest | DepartureRequest]]] = {
    **dict.fromkeys(get_args(Requester), JoinRequest),
    REMOVAL: RemovalRequest,
    DEPARTURE: DepartureRequest,
}

#: How pydantic's messages begin.
_SHOULD: Final = re.compile("^(?:(?:Input|String) should|Value error, must)")

#: The account id and organization id of an account to evaluate, or the reason why none has to be evaluated.
Reading: TypeAlias = tuple[str, str | None] | str
_TimeSource: TypeAlias = Literal["event", "envelope", "queue"]


def read_event(
    body: str | bytes, *, management_account_id: AccountId | None = None, sent_at: datetime | None = None
) -> Received:
    """Read the body of a message.

    `sent_at` is when SQS received the message. It replaces the time of the event if that is missing or implausible.
    Raises InvalidEventError, and no other error, if the body is not a valid event.
    """
    try:
        message = unwrapped(_text(body))
        source = message["source"]
        if source.string == REHEARSAL:
            return _rehearsal(message, sent_at)
        if kind := _REQUESTS.get(source.string or ""):
            return _requested(message, kind, sent_at)
        if "source" not in message and "detail" not in message:
            if message["eventSource"].string != _EVENT_SOURCE:
                raise InvalidEventError(("eventSource", f"must be {_EVENT_SOURCE}"))
            return _organizations(Node("", None), message, management_account_id, sent_at)
        if source.string != _SOURCE:
            known = ", ".join((_SOURCE, *_REQUESTS, REHEARSAL))
            raise InvalidEventError(("source", f"must be one of {known}"))
        return _organizations(message, _detail(message["detail"]), management_account_id, sent_at)
    except ValidationError as error:
        raise InvalidEventError(*_problems(error)) from None
    except RecursionError:
        # Only if the caller's stack is nearly used up, because the depth of a body is limited.
        raise InvalidEventError(("body", "is nested too deeply")) from None


def _text(body: str | bytes) -> str:
    try:
        octets = body.encode(errors="surrogatepass") if isinstance(body, str) else body
        if len(octets) > MAX_BODY_BYTES:
            raise InvalidEventError(("body", f"is longer than {MAX_BODY_BYTES} bytes, the limit of SQS"))
        return body if isinstance(body, str) else body.decode(errors="surrogatepass")
    except UnicodeError:
        raise InvalidEventError(("body", "is not UTF-8 text")) from None


def _detail(detail: Node) -> Node:
    """Return the CloudTrail record of an envelope; an input transformer may have turned it into a string."""
    record = Node(detail.path, parse(detail.string, detail.path)) if detail.string is not None else detail
    if not isinstance(record.value, dict):
        raise InvalidEventError((detail.path, "must be a JSON object"))
    return record


def _problems(error: ValidationError, path: str = "") -> list[tuple[str, str]]:
    """Return the paths and rules of pydantic's errors, without any value of the event."""
    return [
        (".".join(filter(None, (path, *map(str, problem["loc"])))), _SHOULD.sub("must", problem["msg"]))
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _requested(
    message: Node, kind: type[JoinRequest | RemovalRequest | DepartureRequest], sent_at: datetime | None
) -> Join | Departure:
    if isinstance(message.value, dict) and not message.value.keys() <= kind.model_fields.keys():
        names = ", ".join(kind.model_fields)
        raise InvalidEventError(("body", f"must not have fields other than {names}"))
    fields: dict[str, Any] = {name: message[name].string for name in kind.model_fields}
    if kind is RemovalRequest:
        fields["changed_tags"] = [
            {"key": each["key"].string, "value": each["value"].string} for each in message["changed_tags"]
        ]
    request = kind.model_validate(fields)
    event_time, time_from = _plausible(request.requested_at, "event", sent_at)
    common: dict[str, Any] = {
        "event_id": request.event_id,
        "event_name": kind.__name__,
        "event_time": event_time,
        "event_time_from": time_from,
        "source": request.source,
        "account_id": request.account_id,
        "organization_id": request.organization_id,
    }
    match request:
        case DepartureRequest():
            return Departure(**common, cause="missing")
        case RemovalRequest():
            return Join(**common, cause="removal", change=_change(request))
    return Join(**common, cause="requested")


def _rehearsal(message: Node, sent_at: datetime | None) -> Rehearsal:
    """Read a rehearsal: nothing in its detail, which whoever sends it chooses."""
    event = RehearsalEvent.model_validate({name: message[name].string for name in ("source", "id")})
    event_time, time_from = _time(message, Node("detail", None), sent_at)
    return Rehearsal(event_id=event.id, event_time=event_time, event_time_from=time_from)


def _change(request: RemovalRequest) -> Change:
    return Change(parent_id=request.changed_parent, tags={each.key: each.value for each in request.changed_tags})


def _organizations(
    envelope: Node, record: Node, management_account_id: AccountId | None, sent_at: datetime | None
) -> Event:
    fields = {name: record[name].value for name in ("eventID", "eventName", "eventSource")}
    try:
        # `Number` is a str, but a JSON number is not a string: the model must reject it.
        event = CloudTrailRecord.model_validate({k: 0 if isinstance(v, Number) else v for k, v in fields.items()})
    except ValidationError as error:
        raise InvalidEventError(*_problems(error, record.path)) from None
    event_time, time_from = _time(envelope, record, sent_at)
    common: dict[str, Any] = {
        "event_id": event.event_id,
        "event_name": event.event_name,
        "event_time": event_time,
        "event_time_from": time_from,
        "source": _SOURCE,
    }
    if failure := _failure(event.event_name, record):
        return NoJoin(**common, reason=failure)
    if event.event_name in DEPARTURES:
        return _departure(common, envelope, record, management_account_id)
    if event.event_name in ORGANIZATION_CALLS:
        return PolicyChange(**(common | changed_policy(event.event_name, record)), caller=caller(record))
    if event.event_name == "DetachPolicy":
        return _detached(common, record, management_account_id)
    reading = _reading(event.event_name, envelope, record, management_account_id)
    if isinstance(reading, str):
        return NoJoin(**common, reason=reading)
    cause = _CAUSES[event.event_name]
    account, organization = reading
    return Join(**common, cause=cause, account_id=account, organization_id=organization, change=change_of(record))


def _time(envelope: Node, record: Node, sent_at: datetime | None) -> tuple[datetime, _TimeSource]:
    times: tuple[tuple[Node, str, _TimeSource], ...] = ((record, "eventTime", "event"), (envelope, "time", "envelope"))
    for node, name, time_from in times:
        # The time does not decide which account gets the policies, so an invalid time counts as a missing one.
        with suppress(ValueError):
            return _plausible(moment(node[name].string or ""), time_from, sent_at)
    if sent_at is None:
        path = record["eventTime"].path
        raise InvalidEventError((path, "must be a date and time in RFC 3339 form, unless the event's `time` is one"))
    return sent_at, "queue"


def _plausible(event_time: datetime, time_from: _TimeSource, sent_at: datetime | None) -> tuple[datetime, _TimeSource]:
    """Return the time of an event, or when SQS received the message if the two are too far apart."""
    if sent_at is None or -_MAX_AHEAD <= sent_at - event_time <= _MAX_AGE:
        return event_time, time_from
    return sent_at, "queue"


def _failure(name: str, record: Node) -> str | None:
    """Return why an event says nothing about an account, whatever the record holds; None if it may."""
    if name not in {*_CAUSES, *DEPARTURES, *ORGANIZATION_CALLS}:
        known = name if name in KNOWN_EVENT_NAMES else "an unknown event"
        return f"{known} reports nothing that accounts or their policies depend on"
    code = record["errorCode"]
    if code.value in (None, ""):
        return None
    error = _required(code)
    return f"the API call failed: {error if error.removesuffix('Exception') in _ERRORS else 'unknown error'}"


def _departure(
    common: dict[str, Any], envelope: Node, record: Node, management_account_id: AccountId | None
) -> Departure | NoJoin:
    name = common["event_name"]
    # The record of a member's own call is the member's, so only this event tells the management account.
    is_announced = name == "AccountDepartedOrganization"
    known = frozenset(filter(None, [management_account_id]))
    management = _management(envelope, record, management_account_id) if is_announced else known
    reading = departure(name, record, management)
    if isinstance(reading, str):
        return NoJoin(**common, reason=reading)
    account, organization, cause = reading
    return Departure(**common, cause=cause, account_id=account, organization_id=organization)


def _detached(common: dict[str, Any], record: Node, management_account_id: AccountId | None) -> Join | NoJoin:
    found = detachment(record)
    if found.account_id is None:
        return NoJoin(**common, reason="the policy was detached from an OU or the root, and Joinguard guards accounts")
    if found.account_id == management_account_id:
        return NoJoin(**common, reason="the call is about the management account, to which no policy is attached")
    change = Change(detached=found.policy_id)
    return Join(**common, cause="detached", account_id=found.account_id, change=change, caller=caller(record))


def _reading(name: str, envelope: Node, record: Node, management_account_id: AccountId | None) -> Reading:
    match name:
        case "AcceptHandshake":
            return _accept_handshake(record)
        case "CreateAccountResult":
            return _create_account_result(record)
        case "AccountJoinedOrganization":
            return _account_joined(envelope, record, management_account_id)
    return _changed(name, record, management_account_id)


def _accept_handshake(record: Node) -> Reading:
    """Read an `AcceptHandshake`, which also reports approvals of all features and transfers of billing: not joins."""
    handshake = record["responseElements"]["handshake"]
    action, state = _capitals(handshake["action"]), _capitals(handshake["state"])
    if action != "INVITE":
        return f"the handshake's action is {action if action in _ACTIONS else 'unknown'}, not INVITE"
    if state != "ACCEPTED":
        return f"the handshake's state is {state if state in _HANDSHAKE_STATES else 'unknown'}, not ACCEPTED"
    caller = record["userIdentity"]["accountId"]
    about = list(_about(handshake, "ACCOUNT"))
    # The caller decides if the handshake names no account. Otherwise the caller has to agree, if its id is readable.
    if is_account_id(caller.string) or not any(map(account_id, about)):
        about.append(caller)
    account = agreed("account id", about, account_id)
    if account is None:
        paths = (handshake["resources"].path, handshake["parties"].path, caller.path)
        raise InvalidEventError((" or ".join(paths), "must hold an account id"))
    return account, agreed("organization id", _about(handshake, "ORGANIZATION"), organization_id)


def _about(handshake: Node, kind: str) -> Iterator[Node]:
    """Yield the values of the handshake's resources and parties of a type; each has the path of its array."""
    for name, key in (("resources", "value"), ("parties", "id")):
        for entry in handshake[name]:
            if entry["type"].upper == kind:
                yield Node(entry.path, entry[key].value)


def _create_account_result(record: Node) -> Reading:
    status = record["serviceEventDetails"]["createAccountStatus"]
    state = _capitals(status["state"])
    if state != "SUCCEEDED":
        known = state if state in _CREATION_STATES else "unknown"
        return f"the state of the account's creation is {known}, not SUCCEEDED"
    # Not `govCloudAccountId`: that account is not in an organization yet.
    account = account_id(status["accountId"])
    if account is None:
        raise InvalidEventError((status["accountId"].path, ACCOUNT_ID_RULE))
    return account, None


def _account_joined(envelope: Node, record: Node, management_account_id: AccountId | None) -> Reading:
    account, organization = joined(record, _management(envelope, record, management_account_id))
    if account is None:
        return "the management account itself joined, which AWS reports when an organization is created"
    return account, organization


def _management(envelope: Node, record: Node, management_account_id: AccountId | None) -> frozenset[str]:
    """Return the ids by which a service event may name the management account, the only one that receives it."""
    nodes = (envelope["account"], record["recipientAccountId"])
    found = {management_account_id, *(node.string for node in nodes if is_account_id(node.string))}
    return frozenset(filter(None, found))


def _changed(name: str, record: Node, management_account_id: AccountId | None) -> Reading:
    """Read a call that moved an account or changed the tags of a resource."""
    account, resource = account_of_call(name, record)
    if account is None:
        return f"the tags are those of {resource}, not of an account"
    # Not the account of the envelope or of the record: a delegated administrator can change its own tags.
    if account == management_account_id:
        return "the call is about the management account, to which no policy is attached"
    return account, None


def _capitals(node: Node) -> str:
    """Return a required string in capitals; an empty string if it is not ASCII."""
    _required(node)
    return node.upper or ""


def _required(node: Node) -> str:
    if not node.string:
        raise InvalidEventError((node.path, "must be a non-empty string"))
    return node.string
