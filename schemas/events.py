"""What may stand on the queue, and what it comes to.

AWS's events are read tolerantly: unknown fields are welcome, known ones are checked.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints
from pydantic.alias_generators import to_camel

from schemas.ids import AccountId, EventId, OrganizationId
from schemas.values import Moment, Text

KNOWN_EVENT_NAMES = frozenset(
    {"AcceptHandshake", "AccountJoinedOrganization", "CreateAccountResult", "MoveAccount", "JoinRequest"}
)


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    event_id: EventId
    event_name: Text
    event_time: Moment


class Join(_Result):
    """An account joined the organization (or the sweep or an operator says that it must be treated so)."""

    kind: Literal["join"] = "join"
    source: Text
    account_id: AccountId
    #: None where the event does not carry it; then the queue's own provenance has to do.
    organization_id: OrganizationId | None = None


class NoJoin(_Result):
    """An event of the organization that is not a join."""

    kind: Literal["no_join"] = "no_join"
    source: Text
    reason: Text


Requester = Literal["joinguard.sweep", "joinguard.operator"]


class JoinRequest(BaseModel):
    """Ask for an account to be treated as one that joined: put on the queue by the sweep or by an operator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Requester
    event_id: EventId
    requested_at: Moment
    account_id: AccountId
    organization_id: OrganizationId
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class _Received(BaseModel):
    """A part of an AWS event: unknown fields are welcome, known ones are checked."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


class Party(_Received):
    """A party of a handshake."""

    type: str
    id: str | None = None


class Resource(_Received):
    """A resource of a handshake."""

    type: str
    value: str | None = None


class Handshake(_Received):
    """The handshake of an `AcceptHandshake` response."""

    action: str
    state: str
    parties: tuple[Party, ...] = ()
    resources: tuple[Resource, ...] = ()


class CreateAccountStatus(_Received):
    """The outcome of a `CreateAccount` request."""

    state: str
    account_id: str | None = None


class CloudTrailRecord(_Received):
    """The CloudTrail record in an event's `detail`."""

    event_id: EventId = Field(alias="eventID")
    event_name: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    event_time: Moment | None = None
    event_source: Literal["organizations.amazonaws.com"] = "organizations.amazonaws.com"
    error_code: str | None = None
    user_identity: dict[str, JsonValue] | None = None
    request_parameters: dict[str, JsonValue] | None = None
    response_elements: dict[str, JsonValue] | None = None
    service_event_details: dict[str, JsonValue] | None = None


class OrganizationsEvent(_Received):
    """An event of AWS Organizations as EventBridge delivers it.

    `detail-type` is not looked at: it differs between sources for one and the same event.
    """

    source: Literal["aws.organizations"]
    time: Moment | None = None
    detail: CloudTrailRecord
