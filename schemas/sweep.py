"""The report of a sweep: what a complete reading of the organization found, and what was requested because of it."""

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.ids import ActionId, OrganizationId, PolicyId, Sha256
from schemas.pseudonym import Pseudonym
from schemas.values import Moment, Text

#: How many gaps the evidence of a sweep names.
MAX_NAMED: Final = 1000

_Count = Annotated[int, Field(ge=0)]


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SweepMode(StrEnum):
    """What a sweep does with what it finds."""

    #: It reports.
    REPORT = "report"
    #: It requests the policies of accounts that lack some.
    ENFORCE = "enforce"


class NotRequested(StrEnum):
    """Why the sweep requests nothing for an account that lacks policies."""

    #: The sweep only reports.
    REPORT_ONLY = "REPORT_ONLY"
    #: Many accounts lost policies at once, so nothing was requested.
    HALTED = "HALTED"
    #: A request or an event of the account waits in a queue.
    WAITING = "WAITING"
    #: A message of the account is in the dead letters.
    DEAD_LETTER = "DEAD_LETTER"
    #: The account joined within the last minutes, so its event may be on its way.
    JOINED_JUST_NOW = "JOINED_JUST_NOW"
    #: Reconciling is paused for it.
    PAUSED = "PAUSED"
    #: Nothing that it lacks can be attached.
    LASTING = "LASTING"


class FaultOfOrganization(_Recorded):
    """What is wrong for the whole organization, whichever account is concerned."""

    kind: Literal["POLICY_CHANGED", "POLICY_UNREAD", "NO_POLICY", "TYPE_DISABLED", "UNREAD"]
    #: The id of the policy, the policy type, or what could not be read.
    what: Text


class NamedGap(_Recorded):
    """A policy that an account lacks."""

    account: Pseudonym
    policy_id: PolicyId
    cause: Text


class SweepReport(_Recorded):
    """A complete sweep. Holds no account id, e-mail address or ARN."""

    schema_version: Literal["joinguard/sweep/1"] = "joinguard/sweep/1"
    sweep_id: ActionId
    organization_id: OrganizationId
    guardrails: Sha256
    mode: SweepMode
    begun_at: Moment
    #: When everything was read and decided, and the requests began.
    decided_at: Moment
    #: The active accounts, without the management account.
    members: _Count
    #: The members that policies are not attached to, because the stage only observes them.
    observed: _Count = 0
    #: Of the other accounts of the organization, how many are left out, by AWS's state.
    left_out: dict[str, _Count] = {}
    #: The members that carry everything that they must carry.
    covered: _Count
    #: The members that lack a policy.
    with_gaps: _Count
    #: The members of which it is not known whether they lack a policy.
    unclear: _Count
    #: The missing attachments, by cause.
    gaps: dict[str, _Count] = {}
    #: The members that lost a policy that Joinguard attached.
    drifted: _Count = 0
    #: The members that carry what Joinguard attached and they no longer need.
    with_excess: _Count = 0
    #: The members for which an evaluation is requested.
    requested: _Count
    #: How many of them the sweep before requested, too.
    requested_again: _Count = 0
    not_requested: dict[NotRequested, _Count] = {}
    faults: tuple[FaultOfOrganization, ...] = ()
    #: Why nothing is requested, if too much changed at once.
    halted: Text | None = None
    #: Whether no sweep was completed before, so that it is not known who joined or left since.
    is_first: bool = False
    #: The members that joined since the last sweep although no event told of them.
    missed_events: _Count = 0
    #: The accounts that were there at the last sweep and no longer are.
    departed: _Count = 0


class SweepEvidence(_Recorded):
    """The evidence of a sweep."""

    report: SweepReport
    #: The members that are there since the last sweep; all of them in the first one.
    appeared: tuple[Pseudonym, ...] = ()
    #: The accounts that were there at the last sweep and no longer are.
    departed: tuple[Pseudonym, ...] = ()
    #: Missing attachments, at most MAX_NAMED.
    gaps: Annotated[tuple[NamedGap, ...], Field(max_length=MAX_NAMED)] = ()


class SweepInProgress(_Recorded):
    """How far a sweep is."""

    sweep_id: ActionId
    begun_at: Moment
    mode: SweepMode
    guardrails: Sha256
    #: How many parts of what was read are stored.
    parts: _Count = 0
    #: How many pieces the decision takes; 0 until everything is read.
    decision: _Count = 0
    report: SweepReport | None = None
    #: How many requests were sent.
    sent: _Count = 0


class SweepState(_Recorded):
    """What is kept between the invocations of the sweep."""

    current: SweepInProgress | None = None
    #: The last complete sweep, and how many pieces hold its members and requests.
    last: SweepReport | None = None
    remembered: _Count = 0
    #: When the sweep ran for the first time.
    since: Moment
