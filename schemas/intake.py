"""What a queue message means: a join, an event that is no join, or an invalid event.

Exact about what decides (source, names, ids, action, state, error code: there once, and well-formed), tolerant about
everything else, which is not even looked at. The only error that leaves this module is `InvalidEventError`.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias, get_args

from pydantic import ValidationError

from schemas.announcements import joined
from schemas.document import MAX_BODY_BYTES, InvalidEventError, Number, Place, parse
from schemas.events import KNOWN_EVENT_NAMES, CloudTrailRecord, Join, JoinRequest, NoJoin, Requester
from schemas.ids import AccountId
from schemas.naming import account_id, agreed, is_account_id, organization_id
from schemas.values import moment
from schemas.wrapping import unwrapped

__all__ = ["MAX_BODY_BYTES", "InvalidEventError", "read_event"]

#: Four times what SQS keeps a message, for redrives, and the day for which EventBridge tries.
_EARLIEST: Final = timedelta(days=60)
#: No clock of AWS's is that far ahead of SQS's.
_LATEST: Final = timedelta(minutes=15)
_SOURCE: Final = "aws.organizations"
_EVENT_SOURCE: Final = "organizations.amazonaws.com"

# What may be repeated of an event, since it is one of AWS's own words (botocore, organizations 2016-11-28).
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
#: Without `Exception`, which CloudTrail writes for some and not for others.
_ERRORS: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedForDependency",
        "AWSOrganizationsNotInUse",
        "ConcurrentModification",
        "ConstraintViolation",
        "HandshakeAlreadyInState",
        "HandshakeConstraintViolation",
        "HandshakeNotFound",
        "InvalidHandshakeTransition",
        "InvalidInput",
        "MasterCannotLeaveOrganization",
        "Service",
        "TooManyRequests",
    }
)

#: Account id and organization id of a join, or the reason why it is none.
Reading: TypeAlias = tuple[str, str | None] | str
_From: TypeAlias = Literal["event", "envelope", "queue"]


def read_event(
    body: str | bytes, *, management_account_id: AccountId | None = None, sent_at: datetime | None = None
) -> Join | NoJoin:
    """Tell what the body of a queue message means.

    `sent_at` is when SQS took the message: it stands in for a time that the event does not tell, or that is far off.
    Raises `InvalidEventError`, and nothing else, where it cannot be told.
    """
    try:
        message = unwrapped(_text(body))
        source = message["source"]
        if source.text in get_args(Requester):
            return _requested(message, sent_at)
        if "source" not in message and "detail" not in message:
            if message["eventSource"].text != _EVENT_SOURCE:
                raise InvalidEventError(("eventSource", f"must be {_EVENT_SOURCE}"))
            return _organizations(Place("", None), message, management_account_id, sent_at)
        if source.text != _SOURCE:
            raise InvalidEventError(("source", f"must be one of {', '.join((_SOURCE, *get_args(Requester)))}"))
        return _organizations(message, _detail(message["detail"]), management_account_id, sent_at)
    except ValidationError as error:
        raise InvalidEventError(*_problems(error)) from None
    except RecursionError:
        # Only where the caller's own stack is nearly used up: the depth of a body is bounded.
        raise InvalidEventError(("body", "is nested too deeply")) from None


def _text(body: str | bytes) -> str:
    try:
        octets = body.encode(errors="surrogatepass") if isinstance(body, str) else body
        if len(octets) > MAX_BODY_BYTES:
            raise InvalidEventError(("body", f"is longer than {MAX_BODY_BYTES} bytes"))
        return body if isinstance(body, str) else body.decode(errors="surrogatepass")
    except UnicodeError:
        raise InvalidEventError(("body", "is not UTF-8 text")) from None


def _detail(detail: Place) -> Place:
    """Return the CloudTrail record of an envelope; an input transformer may have made a text of it."""
    record = Place(detail.where, parse(detail.text, detail.where)) if detail.text is not None else detail
    if not isinstance(record.value, dict):
        raise InvalidEventError((detail.where, "must be an object"))
    return record


def _problems(error: ValidationError, where: str = "") -> list[tuple[str, str]]:
    """Say what is wrong in pydantic's words, none of which is the event's."""
    return [
        (".".join(filter(None, (where, *map(str, problem["loc"])))), problem["msg"])
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _requested(message: Place, sent_at: datetime | None) -> Join:
    if isinstance(message.value, dict) and not message.value.keys() <= JoinRequest.model_fields.keys():
        raise InvalidEventError(("body", "has a field that a join request does not have"))
    request = JoinRequest.model_validate({name: message[name].text for name in JoinRequest.model_fields})
    event_time, told_by = _plausible(request.requested_at, "event", sent_at)
    return Join(
        event_id=request.event_id,
        event_name="JoinRequest",
        event_time=event_time,
        event_time_from=told_by,
        source=request.source,
        account_id=request.account_id,
        organization_id=request.organization_id,
    )


def _organizations(
    envelope: Place, record: Place, management_account_id: AccountId | None, sent_at: datetime | None
) -> Join | NoJoin:
    fields = {name: record[name].value for name in ("eventID", "eventName", "eventSource")}
    try:
        # A number is no text, also where it is kept as it is written.
        event = CloudTrailRecord.model_validate({k: 0 if isinstance(v, Number) else v for k, v in fields.items()})
    except ValidationError as error:
        raise InvalidEventError(*_problems(error, record.where)) from None
    event_time, told_by = _time(envelope, record, sent_at)
    common: dict[str, Any] = {
        "event_id": event.event_id,
        "event_name": event.event_name,
        "event_time": event_time,
        "event_time_from": told_by,
        "source": _SOURCE,
    }
    reading = _reading(event.event_name, envelope, record, management_account_id)
    if isinstance(reading, str):
        return NoJoin(**common, reason=reading)
    return Join(**common, account_id=reading[0], organization_id=reading[1])


def _time(envelope: Place, record: Place, sent_at: datetime | None) -> tuple[datetime, _From]:
    told: tuple[tuple[Place, str, _From], ...] = ((record, "eventTime", "event"), (envelope, "time", "envelope"))
    for place, name, told_by in told:
        # It does not decide who gets the policies, so that one that cannot be read is as good as none.
        with suppress(ValueError):
            return _plausible(moment(place[name].text or ""), told_by, sent_at)
    if sent_at is None:
        where = record["eventTime"].where
        raise InvalidEventError((where, "is no date and time in RFC 3339 form, and the envelope's time is none either"))
    return sent_at, "queue"


def _plausible(event_time: datetime, told_by: _From, sent_at: datetime | None) -> tuple[datetime, _From]:
    """Return a time, or when SQS took the message where the two are too far apart."""
    if sent_at is None or -_LATEST <= sent_at - event_time <= _EARLIEST:
        return event_time, told_by
    return sent_at, "queue"


def _reading(name: str, envelope: Place, record: Place, management_account_id: AccountId | None) -> Reading:
    if name not in {"AcceptHandshake", "AccountJoinedOrganization", "CreateAccountResult"}:
        return f"{name if name in KNOWN_EVENT_NAMES else 'another event'} does not report a join"
    code = record["errorCode"]
    if code.value not in (None, ""):
        error = _text_of(code)
        known = error.removesuffix("Exception") in _ERRORS
        return f"the call failed: {error if known else 'another error'}"
    if name == "AcceptHandshake":
        return _accept_handshake(record)
    if name == "CreateAccountResult":
        return _create_account_result(record)
    places = (envelope["account"], record["recipientAccountId"])
    management = {management_account_id, *(place.text for place in places if is_account_id(place.text))}
    account, organization = joined(record, frozenset(filter(None, management)))
    if account is None:
        return "the management account itself joined: AWS says so when an organization is created"
    return account, organization


def _accept_handshake(record: Place) -> Reading:
    """Read an `AcceptHandshake` (also reports all-features approval and billing transfer, which are no joins)."""
    handshake = record["responseElements"]["handshake"]
    action, state = _word(handshake["action"]), _word(handshake["state"])
    if action != "INVITE":
        return f"the handshake's action is {action if action in _ACTIONS else 'another action'}, not INVITE"
    if state != "ACCEPTED":
        return f"the handshake's state is {state if state in _HANDSHAKE_STATES else 'another state'}, not ACCEPTED"
    caller = record["userIdentity"]["accountId"]
    about = list(_about(handshake, "ACCOUNT"))
    # The caller decides where the handshake names no account; else it has to agree, if it can be read at all.
    if is_account_id(caller.text) or not any(map(account_id, about)):
        about.append(caller)
    account = agreed("account id", about, account_id)
    if account is None:
        where = (handshake["resources"].where, handshake["parties"].where, caller.where)
        raise InvalidEventError((" or ".join(where), "carries no account id"))
    return account, agreed("organization id", _about(handshake, "ORGANIZATION"), organization_id)


def _about(handshake: Place, kind: str) -> Iterator[Place]:
    """Yield what the handshake's resources and parties of a kind say; named by their list."""
    for name, key in (("resources", "value"), ("parties", "id")):
        for entry in handshake[name]:
            if entry["type"].word == kind:
                yield Place(entry.where, entry[key].value)


def _create_account_result(record: Place) -> Reading:
    status = record["serviceEventDetails"]["createAccountStatus"]
    state = _word(status["state"])
    if state != "SUCCEEDED":
        return f"the account's creation ended as {state if state in _CREATION_STATES else 'something else'}"
    # Never `govCloudAccountId`: that account is in no organization yet.
    account = account_id(status["accountId"])
    if account is None:
        raise InvalidEventError((status["accountId"].where, "carries no account id"))
    return account, None


def _word(place: Place) -> str:
    """Return a text that decides, in capitals."""
    text = _text_of(place)
    return text.upper() if text.isascii() else "something else"


def _text_of(place: Place) -> str:
    if not place.text:
        raise InvalidEventError((place.where, "must be a text"))
    return place.text
