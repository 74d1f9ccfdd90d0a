"""The events that the queue may hold, and what the worker reads from them.

In events of AWS, only the fields that decide are checked. Other fields may have any value.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from schemas.ids import AccountId, EventId, OrganizationId, PolicyId
from schemas.values import Moment, Text

#: The events of Organizations and Control Tower about accounts and handshakes, and our own. No other name is logged or
#: stored, because it may hold any text.
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
        "DeletePolicy",
        "DepartureRequest",
        "DetachPolicy",
        "DisablePolicyType",
        "InviteAccountToOrganization",
        "JoinRequest",
        "LeaveOrganization",
        "MoveAccount",
        "RemovalRequest",
        "RemoveAccountFromOrganization",
        "ResponsibilityTransferAccepted",
        "TagResource",
        "UntagResource",
        "UpdatePolicy",
    }
)
#: Why an account is evaluated: it joined, it was moved, its tags were changed, a policy was taken off, the sweep, an
#: operator or a worker requests it, or a worker requests the removal of what it no longer needs.
Cause = Literal["joined", "moved", "tagged", "detached", "requested", "removal"]
#: How an account leaves: by itself, by a call of the management account, by being closed, at the end of the 90 days
#: after that, in a way that the event does not name, or the sweep finds that it is not there any more.
DepartureCause = Literal["left", "removed", "closed", "cleaned", "departed", "missing"]


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    event_id: EventId
    event_name: Text
    event_time: Moment
    #: The source of the time: CloudTrail's record, EventBridge's envelope, or SQS, which received the message then.
    event_time_from: Literal["event", "envelope", "queue"] = "event"


class Change(BaseModel):
    """What a call changed, as its event reports it: reads that do not show it yet are stale."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The OU or root that the account was moved to.
    parent_id: str | None = None
    #: The tags that were set; None for a tag that was removed.
    tags: Mapping[str, str | None] = {}
    #: The policy that was detached from the account.
    detached: PolicyId | None = None


class AccountEvent(_Result):
    """An event about one account."""

    source: Text
    account_id: AccountId
    #: None if the event does not hold it; then only the queue's policy ensures that the event is from the organization.
    organization_id: OrganizationId | None = None


class Join(AccountEvent):
    """An account has to be evaluated: it joined the organization, or what decides its policies may have changed."""

    kind: Literal["join"] = "join"
    #: Records hold the event's name and source, from which it follows.
    cause: Cause = "joined"
    #: Tags may hold any text, so no representation of an event has them.
    change: Change = Field(default=Change(), repr=False)
    #: The ARN of who detached the policy, if the event holds it. Only its pseudonym is logged or stored.
    caller: str | None = Field(default=None, repr=False)


class Departure(AccountEvent):
    """An account left the organization or was closed. The event's time is not before that."""

    kind: Literal["departure"] = "departure"
    cause: DepartureCause


class PolicyChange(_Result):
    """Somebody changed or deleted a policy, or switched a policy type off, in the whole organization."""

    kind: Literal["policy_change"] = "policy_change"
    source: Text
    #: The policy that was changed or deleted.
    policy_id: PolicyId | None = None
    #: The policy type that was switched off.
    policy_type: Text | None = None
    #: The ARN of who did, as above.
    caller: str | None = Field(default=None, repr=False)


class NoJoin(_Result):
    """An event of the organization after which no account has to be evaluated."""

    kind: Literal["no_join"] = "no_join"
    source: Text
    reason: Text


#: The source of rehearsals. It alone makes an event a rehearsal, whatever else the event holds.
REHEARSAL: Final = "joinguard.rehearsal"


class Rehearsal(_Result):
    """An event that only travels the path of the others: no account has to be evaluated after it."""

    kind: Literal["rehearsal"] = "rehearsal"
    event_name: Literal["Rehearsal"] = "Rehearsal"
    source: Literal["joinguard.rehearsal"] = REHEARSAL
    reason: ClassVar[str] = "it is a rehearsal, which is about no account"


#: An event after which there may be something to do.
Actionable: TypeAlias = Join | Departure | PolicyChange
Event: TypeAlias = Actionable | NoJoin
#: What a message can report.
Received: TypeAlias = Event | Rehearsal

#: The sources of the sweep's and the operators' requests.
SWEEP: Final = "joinguard.sweep"
OPERATOR: Final = "joinguard.operator"
#: The names of the events that tell of a join.
JOINS: Final = frozenset({"AcceptHandshake", "AccountJoinedOrganization", "CreateAccountResult"})
Requester = Literal["joinguard.sweep", "joinguard.operator", "joinguard.worker"]
#: Distinguishes requests to remove policies from requests to evaluate an account.
REMOVAL: Final = "joinguard.removal"
#: Distinguishes the sweep's reports of accounts that have left.
DEPARTURE: Final = "joinguard.departure"
#: The names of the events after which the record of an account is closed.
DEPARTURES: Final = frozenset(
    {
        "AccountDepartedOrganization",
        "CloseAccountResult",
        "DepartureRequest",
        "LeaveOrganization",
        "RemoveAccountFromOrganization",
    }
)


class _Request(BaseModel):
    """What a request says of an account."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_id: EventId
    requested_at: Moment
    account_id: AccountId
    organization_id: OrganizationId
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class JoinRequest(_Request):
    """A request to handle an account as if it had joined, which the sweep, an operator or a worker sends."""

    source: Requester


class ChangedTag(BaseModel):
    """A tag that was set, or removed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    #: None if it was removed.
    value: str | None = None


class RemovalRequest(_Request):
    """A request to remove the policies that an account no longer needs, which one worker sends to the other."""

    source: Literal["joinguard.removal"]
    #: What the event changed because of which the account was evaluated.
    changed_parent: str | None = None
    changed_tags: tuple[ChangedTag, ...] = ()


class DepartureRequest(_Request):
    """A request to close the record of an account that a complete snapshot does not list any more.

    `requested_at` is when the sweep decided: what happened after it may belong to a later membership. Nobody has to be
    trusted with it: the worker closes nothing before it has asked Organizations itself.
    """

    source: Literal["joinguard.departure"]


class _Received(BaseModel):
    """A part of an event of AWS: the fields that decide and that all events have. Other fields are allowed."""

    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel)


class CloudTrailRecord(_Received):
    """The CloudTrail record in an event's `detail`."""

    event_id: EventId = Field(alias="eventID")
    event_name: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    event_source: Literal["organizations.amazonaws.com"] | None = None


class OrganizationsEvent(_Received):
    """An event of AWS Organizations as EventBridge delivers it.

    `detail-type` is ignored, because different sources use different values for the same event.
    """

    source: Literal["aws.organizations"]
    detail: CloudTrailRecord


class RehearsalEvent(_Received):
    """A rehearsal as EventBridge delivers it. EventBridge itself sets these fields; the worker reads no others."""

    source: Literal["joinguard.rehearsal"]
    #: The id that PutEvents returned to the sender.
    id: EventId
