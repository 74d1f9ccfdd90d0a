"""What may stand on the queue, and what it comes to.

AWS's events are read tolerantly: what decides is checked, everything else is welcome.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from schemas.ids import AccountId, EventId, OrganizationId
from schemas.values import Moment, Text

#: Events of Organizations and Control Tower about accounts and handshakes, and our own. Any other name is foreign text.
KNOWN_EVENT_NAMES: Final = frozenset(
    {
        "AcceptHandshake",
        "AccountDepartedOrganization",
        "AccountJoinedOrganization",
        "CancelHandshake",
        "CloseAccount",
        "CloseAccountResult",
        "CreateAccount",
        "CreateAccountResult",
        "CreateGovCloudAccount",
        "CreateGovCloudAccountResult",
        "CreateManagedAccount",
        "DeclineHandshake",
        "InviteAccountToOrganization",
        "JoinRequest",
        "LeaveOrganization",
        "MoveAccount",
        "RemoveAccountFromOrganization",
        "ResponsibilityTransferAccepted",
    }
)


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    event_id: EventId
    event_name: Text
    event_time: Moment
    #: Where the time is from: CloudTrail's record, EventBridge's envelope, or when SQS took the message.
    event_time_from: Literal["event", "envelope", "queue"] = "event"


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
    """A part of an AWS event: of what decides, what all events share. Everything else is welcome."""

    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel)


class CloudTrailRecord(_Received):
    """The CloudTrail record in an event's `detail`."""

    event_id: EventId = Field(alias="eventID")
    event_name: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    event_source: Literal["organizations.amazonaws.com"] | None = None


class OrganizationsEvent(_Received):
    """An event of AWS Organizations as EventBridge delivers it.

    `detail-type` is not looked at: it differs between sources for one and the same event.
    """

    source: Literal["aws.organizations"]
    detail: CloudTrailRecord
