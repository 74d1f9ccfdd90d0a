"""What a queue message means: a join, an event that is no join, or an invalid event.

Tolerant about what AWS has not published, strict about what decides: source, account id,
organization id, action, state, error code. The only error that leaves this module is
`InvalidEventError`, whatever the bytes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError

from schemas.events import (
    CloudTrailRecord,
    CreateAccountStatus,
    Handshake,
    Join,
    JoinRequest,
    NoJoin,
    OrganizationsEvent,
    Requester,
)
from schemas.ids import AccountId, OrganizationId

#: The largest message SQS takes (1 MiB); nothing longer can be one of ours.
MAX_BODY_BYTES: Final = 1024 * 1024

Model = TypeVar("Model", bound=BaseModel)

_account_id: TypeAdapter[str] = TypeAdapter(AccountId)
_organization_id: TypeAdapter[str] = TypeAdapter(OrganizationId)


class InvalidEventError(ValueError):
    """Say what is wrong with an event, and where."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{where}: {what}" for where, what in problems))


_message: TypeAdapter[JoinRequest | OrganizationsEvent] = TypeAdapter(
    Annotated[JoinRequest | OrganizationsEvent, Field(discriminator="source")]
)


def read_event(body: str | bytes) -> Join | NoJoin:
    """Tell what the body of a queue message means.

    Raises `InvalidEventError`, and nothing else, where it cannot be told.
    """
    try:
        octets = body.encode() if isinstance(body, str) else body
    except UnicodeEncodeError as error:
        raise InvalidEventError(("body", "is not valid Unicode")) from error
    if len(octets) > MAX_BODY_BYTES:
        raise InvalidEventError(("body", f"is longer than {MAX_BODY_BYTES} bytes"))
    try:
        message = _message.validate_json(octets)
        return _requested(message) if isinstance(message, JoinRequest) else _organizations(message)
    except ValidationError as error:
        raise InvalidEventError(*_problems(error)) from error


def _problems(error: ValidationError, prefix: str = "") -> Iterator[tuple[str, str]]:
    for problem in error.errors(include_url=False, include_input=False, include_context=False)[:10]:
        if problem["type"].startswith("union_tag"):
            yield "source", f"must be one of aws.organizations, {', '.join(get_args(Requester))}"
            continue
        # In a message, the first step names the branch of the union, not a place.
        path = [prefix, *problem["loc"]] if prefix else problem["loc"][1:]
        yield ".".join(map(str, path)) or "body", problem["msg"]


def _requested(request: JoinRequest) -> Join:
    return Join(
        event_id=request.event_id,
        event_name="JoinRequest",
        event_time=request.requested_at,
        source=request.source,
        account_id=request.account_id,
        organization_id=request.organization_id,
    )


def _organizations(event: OrganizationsEvent) -> Join | NoJoin:
    record = event.detail
    event_time = record.event_time or event.time
    if event_time is None:
        raise InvalidEventError(("detail.eventTime", "is missing, and so is the envelope's time"))
    common: dict[str, Any] = {
        "event_id": record.event_id,
        "event_name": record.event_name,
        "event_time": event_time,
        "source": event.source,
    }
    reader = _READERS.get(record.event_name)
    if reader is None:
        return NoJoin(**common, reason=f"{record.event_name} does not report a join")
    if record.error_code is not None:
        return NoJoin(**common, reason=f"the call failed: {record.error_code[:256]}")
    reading = reader(record)
    if isinstance(reading, str):
        return NoJoin(**common, reason=reading)
    account_id, organization_id = reading
    return Join(**common, account_id=account_id, organization_id=organization_id)


#: Account id and organization id of a join, or the reason why it is none.
Reading: TypeAlias = tuple[str, str | None] | str


def _accept_handshake(record: CloudTrailRecord) -> Reading:
    """Read an `AcceptHandshake` (also reports all-features approval and billing transfer, which are no joins)."""
    where = "detail.responseElements.handshake"
    handshake = _part(Handshake, (record.response_elements or {}).get("handshake"), where)
    action, state = handshake.action.upper(), handshake.state.upper()
    if action != "INVITE":
        return f"the handshake's action is {handshake.action[:256]}, not INVITE"
    if state != "ACCEPTED":
        return f"the handshake's state is {handshake.state[:256]}, not ACCEPTED"
    accounts: dict[str, list[JsonValue]] = {
        f"{where}.resources": [r.value for r in handshake.resources if r.type.upper() == "ACCOUNT"],
        f"{where}.parties": [p.id for p in handshake.parties if p.type.upper() == "ACCOUNT"],
        "detail.userIdentity.accountId": [(record.user_identity or {}).get("accountId")],
    }
    organizations: dict[str, list[JsonValue]] = {
        f"{where}.resources": [r.value for r in handshake.resources if r.type.upper() == "ORGANIZATION"],
        f"{where}.parties": [p.id for p in handshake.parties if p.type.upper() == "ORGANIZATION"],
    }
    return (
        _required_account(accounts),
        _single("organization id", organizations, _organization_id),
    )


def _create_account_result(record: CloudTrailRecord) -> Reading:
    where = "detail.serviceEventDetails.createAccountStatus"
    status = _part(CreateAccountStatus, (record.service_event_details or {}).get("createAccountStatus"), where)
    if status.state.upper() != "SUCCEEDED":
        return f"the account's creation ended as {status.state[:256]}"
    return _required_account({f"{where}.accountId": [status.account_id]}), None


def _account_joined(record: CloudTrailRecord) -> Reading:
    """Read an `AccountJoinedOrganization`, whose layout AWS has not published.

    Never `userIdentity`: for a service event that is the management account.
    """
    sections = {
        "detail.serviceEventDetails": record.service_event_details,
        "detail.responseElements": record.response_elements,
        "detail.requestParameters": record.request_parameters,
    }
    accounts = {where: _found(section, _names_the_account, _account_id) for where, section in sections.items()}
    organizations = {
        where: _found(section, _names_the_organization, _organization_id) for where, section in sections.items()
    }
    return (
        _required_account(accounts),
        _single("organization id", organizations, _organization_id),
    )


def _names_the_account(path: tuple[str, ...]) -> bool:
    """Accept `accountId`, `joinedAccountId`, `account` and `account.id`, never the management account's."""
    name = "".join(path[-2:]) if path[-1:] == ("id",) else path[-1] if path else ""
    foreign = any(other in step for step in path for other in ("management", "master", "payer"))
    return name.endswith(("accountid", "account")) and not foreign


def _names_the_organization(path: tuple[str, ...]) -> bool:
    name = "".join(path[-2:]) if path[-1:] == ("id",) else path[-1] if path else ""
    return name.endswith(("organizationid", "organization"))


_READERS: Final = {
    "AcceptHandshake": _accept_handshake,
    "AccountJoinedOrganization": _account_joined,
    "CreateAccountResult": _create_account_result,
}


def _part(model: type[Model], value: JsonValue, where: str) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidEventError(*_problems(error, where)) from error


def _required_account(places: Mapping[str, Sequence[JsonValue]]) -> str:
    account_id = _single("account id", places, _account_id)
    if account_id is None:
        raise InvalidEventError((" or ".join(places), "carries no account id"))
    return account_id


def _single(what: str, places: Mapping[str, Sequence[JsonValue]], kind: TypeAdapter[str]) -> str | None:
    """Take the one id that all places agree on."""
    found: dict[str, str] = {}
    for where, values in places.items():
        for value in values:
            if value is None:
                continue
            try:
                found.setdefault(kind.validate_python(value, strict=True), where)
            except ValidationError as error:
                raise InvalidEventError((where, f"is not an {what}")) from error
    if len(found) > 1:
        raise InvalidEventError((" and ".join(sorted(set(found.values()))), f"name {len(found)} different {what}s"))
    return next(iter(found), None)


def _found(section: JsonValue, names: Callable[[tuple[str, ...]], bool], kind: TypeAdapter[str]) -> list[JsonValue]:
    """Collect the well-formed ids of a section of unknown layout."""
    return [value for path, value in _leaves(section) if names(path) and _is(kind, value)]


def _is(kind: TypeAdapter[str], value: JsonValue) -> bool:
    try:
        kind.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _leaves(value: JsonValue, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], JsonValue]]:
    """Walk a JSON value and yield each leaf with its folded path.

    The parser has bounded the depth (200), so recursion is safe.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name.replace("_", "").replace("-", "").lower()))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value
