"""The evidence pack: what the records of a period say about the accounts of an organization, for an auditor.

`pack.json` is a Pack, and `manifest.json` a Manifest. The other files of a pack show the same data.
"""

from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.audit import Action, Ended
from schemas.configuration import Configuration
from schemas.events import DepartureCause
from schemas.ids import ActionId, EventId, OrganizationId, PolicyId, Sha256
from schemas.sweep import NotRequested, SweepMode
from schemas.values import Moment, Text
from schemas.verification import Verification

_Count = Annotated[int, Field(ge=0)]
_Seconds = Annotated[float, Field(ge=0)]
#: The pseudonym of an account, or its id in a pack that reveals them.
AccountName = Annotated[str, Field(pattern=r"^(acct-[0-9a-f]{32}|[0-9]{12})$")]
#: The pseudonym of a principal or of the name of a session.
PersonName = Annotated[str, Field(pattern=r"^(acct|prin|name)-[0-9a-f]{32}$")]


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Period(_Recorded):
    """Whole days in UTC, the last one included."""

    first: date
    last: date


class MemberState(StrEnum):
    """The state of a member at the end of the period."""

    #: It carried every policy that it had to carry.
    COVERED = "COVERED"
    #: It lacked a policy.
    GAP = "GAP"
    #: The stage only observed it.
    OBSERVED = "OBSERVED"
    #: The records do not say.
    UNCLEAR = "UNCLEAR"
    #: It left before the end.
    LEFT = "LEFT"


class NoProof(StrEnum):
    """Why no record shows that an account that joined got all its policies."""

    #: Evidence of an attempt is missing, cannot be read, or is not what was written or sealed.
    EVIDENCE_WRONG = "EVIDENCE_WRONG"
    #: An outcome says that it got them, and its evidence was not read.
    EVIDENCE_UNREAD = "EVIDENCE_UNREAD"
    #: The outcome of an event after the period says that it got them; its evidence belongs to a later period.
    AFTER_PERIOD = "AFTER_PERIOD"
    #: The stage only observed it.
    OBSERVED = "OBSERVED"
    #: It left before.
    LEFT = "LEFT"
    #: No attempt succeeded.
    FAILED = "FAILED"
    #: No attempt is on record.
    NO_RECORD = "NO_RECORD"


class Member(_Recorded):
    """One membership of an account in the period. An account that left and joined again has two."""

    account: AccountName
    #: Absent if no record says when it joined.
    joined_at: Moment | None = None
    #: The name of the event that reported the join. If no event did, `organization` if Organizations' list says when it
    #: joined, or `sweep`: then `joined_at` is when a sweep found it.
    joined_by: Text | None = None
    #: Whether it joined in the period.
    is_new: bool = False
    #: When an attempt ended after which it carried everything that it had to. Absent if no valid evidence says so.
    guarded_at: Moment | None = None
    #: Why that is absent, if it joined in the period.
    no_proof: NoProof | None = None
    #: From the join to that moment. Absent if it is not known when the account joined.
    seconds: _Seconds | None = None
    left_at: Moment | None = None
    left_by: DepartureCause | None = None
    state: MemberState
    #: What it had to carry, and carried, at `known_at`. Absent if no valid evidence of the period says so.
    required: tuple[PolicyId, ...] | None = None
    carried: tuple[PolicyId, ...] | None = None
    #: The exceptions that took policies from it.
    exceptions: tuple[Text, ...] = ()
    known_at: Moment | None = None
    #: What it has to carry, and carries, in AWS Organizations when the pack is made. Absent if that is not known.
    required_now: tuple[PolicyId, ...] | None = None
    carried_now: tuple[PolicyId, ...] | None = None
    #: The evidence of the attempt after which it was guarded, or of the last attempt.
    evidence_key: Text | None = None


class LatencyRange(_Recorded):
    """How many joins took longer than one range's end, and at most as long as this one's."""

    #: Seconds. Absent in the last range, which has no end.
    up_to: _Seconds | None = None
    joins: _Count


class Latency(_Recorded):
    """The time from the join to the moment at which an account carried its policies."""

    measured: _Count
    #: The accounts that joined and were guarded, and of which it is not known when they joined.
    not_measured: _Count
    #: Seconds, by the nearest rank. Absent if nothing was measured.
    p50: _Seconds | None = None
    p95: _Seconds | None = None
    longest: _Seconds | None = None
    ranges: tuple[LatencyRange, ...] = ()


class SweepResult(_Recorded):
    """What a complete sweep of the organization found."""

    decided_at: Moment
    mode: SweepMode
    guardrails: Sha256
    members: _Count
    observed: _Count
    covered: _Count
    with_gaps: _Count
    unclear: _Count
    gaps: dict[str, _Count] = {}
    drifted: _Count
    requested: _Count
    not_requested: dict[NotRequested, _Count] = {}
    #: Members that joined although no event told of them.
    missed_events: _Count
    departed: _Count
    #: What was wrong for the whole organization.
    faults: tuple[Text, ...] = ()
    halted: Text | None = None
    evidence_key: Text


class CoverageDay(_Recorded):
    """The sweeps of one day."""

    day: date
    sweeps: _Count
    #: Of the last sweep of the day; absent without a sweep, like the others.
    members: _Count | None = None
    covered: _Count | None = None
    #: The most accounts that lacked a policy, or of which that was not known, in one sweep of the day.
    most_gaps: _Count | None = None
    most_unclear: _Count | None = None
    most_drifted: _Count | None = None


class Gap(_Recorded):
    """That sweeps found an account without a policy."""

    account: AccountName
    policy_id: PolicyId
    #: The cause that the last of these sweeps named.
    cause: Text
    first_seen: Moment
    last_seen: Moment
    #: The first sweep that did not find it any more. Absent if the last sweep of the period still found it.
    closed_at: Moment | None = None


class ExceptionInForce(_Recorded):
    """An exception that took policies from accounts on a day of the period."""

    id: Text
    #: Empty if the guardrails that define it could not be read.
    policies: tuple[PolicyId, ...] = ()
    accounts: tuple[AccountName, ...] = ()
    starts: date | None = None
    #: The last day. Absent if the guardrails that define it could not be read.
    expires: date | None = None
    #: Absent if the guardrails document of this version is not at hand; the compiled guardrails hold no person's name.
    owner: Text | None = None
    approved_by: Text | None = None
    reason: Text | None = None
    #: How many attempts of the period name it.
    attempts: _Count = 0


class FailureEnd(StrEnum):
    """How an event that failed ended, as far as the records say."""

    #: A later attempt at the event succeeded.
    ENFORCED = "ENFORCED"
    #: An attempt at another event of the account succeeded later.
    ENFORCED_BY_ANOTHER_EVENT = "ENFORCED_BY_ANOTHER_EVENT"
    #: A later attempt only observed.
    OBSERVED = "OBSERVED"
    #: A later attempt found that nothing had to be done.
    IGNORED = "IGNORED"
    #: An operator closed it.
    CLOSED = "CLOSED"
    #: The account left.
    ACCOUNT_LEFT = "ACCOUNT_LEFT"
    #: It is being retried.
    RETRYING = "RETRYING"
    #: Nobody has done anything about it.
    OPEN = "OPEN"


class Failure(_Recorded):
    """An event of the period that failed, and how it ended."""

    #: Absent if the event names no account.
    account: AccountName | None = None
    event_id: EventId
    event_name: Text
    event_time: Moment
    #: When the first attempt that failed was recorded.
    failed_at: Moment
    code: Text
    #: AWS's enumerated reason.
    reason: Text | None = None
    #: Our own message; that of AWS is not stored.
    message: Text | None = None
    #: The policies that could not be attached or removed.
    policies: tuple[PolicyId, ...] = ()
    end: FailureEnd
    ended_at: Moment | None = None
    #: The actions of operators that name the event.
    actions: tuple[ActionId, ...] = ()


class OperatorAction(_Recorded):
    """What an operator did."""

    action_id: ActionId
    action: Action
    begun_at: Moment
    #: Absent if the action was cut off.
    ended: Ended | None = None
    ended_at: Moment | None = None
    actor: PersonName
    actor_name: PersonName | None = None
    actor_id: Text
    reason: Text
    messages: _Count
    results: dict[str, int] = {}
    #: False for an action after the period that concerns a failure of the period.
    in_period: bool = True


class ChangeKind(StrEnum):
    """What happened to a policy."""

    #: Joinguard removed it, because the account no longer needed it.
    REMOVED = "REMOVED"
    #: The account no longer needed it, and it stays, or could not be removed.
    KEPT = "KEPT"
    #: Somebody detached it, and it is attached again.
    RESTORED = "RESTORED"
    #: Somebody detached it, and it was not attached again after that event.
    DETACHED = "DETACHED"
    #: Somebody changed or deleted the policy, or switched its type off.
    POLICY_CHANGED = "POLICY_CHANGED"


class Change(_Recorded):
    """A policy that was taken from an account, or changed, with who and why."""

    kind: ChangeKind
    at: Moment
    #: Absent if the change concerns the whole organization.
    account: AccountName | None = None
    #: Absent if a policy type was switched off.
    policy_id: PolicyId | None = None
    event_name: Text
    event_id: EventId
    #: Who detached or changed it, if the event says so; absent for what Joinguard removed.
    who: PersonName | None = None
    why: Text
    evidence_key: Text


class RehearsalDay(_Recorded):
    """The rehearsals of one day."""

    day: date
    rehearsals: _Count
    #: Seconds from the event bus to the evidence. Absent without a rehearsal.
    slowest: _Seconds | None = None


class Deployment(_Recorded):
    """A configuration that was in force in the period."""

    key: Text
    record: Configuration
    #: When the next one took its place. Absent for the last one that is known.
    until: Moment | None = None


class WrongEvidence(StrEnum):
    """What is wrong with an object of an outcome's evidence, in the words of `outcome`."""

    #: The outcome names it, and the bucket does not have it.
    MISSING = "MISSING"
    #: It is not the object that the outcome names, or that is written under its key.
    DIFFERS = "DIFFERS"
    ANOTHER_ACCOUNT = "ANOTHER_ACCOUNT"
    ANOTHER_EVENT = "ANOTHER_EVENT"
    #: It is no evidence, or S3 does not return it.
    UNREADABLE = "UNREADABLE"


class Disagreement(_Recorded):
    """An object of the evidence of an outcome of the period that is missing or wrong."""

    account: AccountName | None = None
    event_id: EventId
    event_name: Text
    event_time: Moment
    what: WrongEvidence
    #: Empty if the outcome names none, although it must.
    evidence_key: Text


class Unproven(_Recorded):
    """What the pack does not prove, and why."""

    code: Text
    text: Text
    #: Whether that is so in every pack; others have something that this one lacks.
    is_general: bool = False


class Control(_Recorded):
    """What Joinguard does for a control, and what shows it."""

    framework: Literal["SOC 2", "ISO/IEC 27001:2022"]
    reference: Text
    title: Text
    claim: Text
    #: The tests of the product that show it: a file, two colons, the name.
    tests: tuple[Text, ...]
    #: The commands that show it for this installation.
    commands: tuple[Text, ...]
    #: The sections of the report that hold the figures.
    sections: tuple[Text, ...]


class ProofState(StrEnum):
    """What the sealed log says about an object that the pack was made of."""

    #: It was sealed as it was read, and its proof is in the pack.
    PROVED = "PROVED"
    #: It was sealed, and is not what was read. The proof in the pack is that of what was sealed.
    DIFFERS = "DIFFERS"
    #: The checkpoint is not about it; an object is sealed within the hour after it was written.
    NOT_SEALED = "NOT_SEALED"
    #: It was sealed, and its proof could not be made.
    NOT_PROVED = "NOT_PROVED"


class SealedAt(_Recorded):
    """The signed checkpoint of the sealed log to which the proofs of a pack lead; a verification's is the same."""

    origin: Text
    size: _Count
    root: Sha256
    #: The verifier keys of the log, one of which signed it.
    keys: tuple[Text, ...]


class ObjectRead(_Recorded):
    """An object of the evidence bucket that the pack was made of."""

    key: Text
    sha256: Sha256
    size: _Count
    #: Absent if the sealed log could not be read.
    proof: ProofState | None = None


class SourceRead(_Recorded):
    """How much of a source was read."""

    source: Text
    read: _Count
    #: What could not be read, or is not what its key says.
    unread: _Count = 0
    #: What went wrong first.
    problem: Text | None = None


class Summary(_Recorded):
    """The figures that answer the auditor's question."""

    #: The accounts that were members at any time in the period; memberships, if an account joined twice.
    members: _Count
    #: At the end of the period.
    members_at_end: _Count
    joined: _Count
    left: _Count
    #: Of those that joined, how many carried all their policies at some time after the join.
    guarded: _Count
    #: Of those that joined, how many the stage only observed.
    observed: _Count
    #: Of those that joined, the others: they left before, or no record shows that they were guarded.
    not_guarded: _Count
    #: Of the members at the end, by state.
    covered_at_end: _Count
    gaps_at_end: _Count
    unclear_at_end: _Count
    failures: _Count
    open_failures: _Count
    sweeps: _Count
    days_without_sweep: _Count
    rehearsals: _Count
    #: Objects of evidence that are missing or wrong.
    disagreements: _Count


class Pack(_Recorded):
    """The data of an evidence pack. Holds no account id unless `reveals` says so."""

    schema_version: Literal["joinguard/pack/1"] = "joinguard/pack/1"
    organization_id: OrganizationId
    period: Period
    made_at: Moment
    #: The version of Joinguard that made it.
    made_by: Text
    #: Whether it names accounts by their ids.
    reveals: bool
    #: The accounts whose ids are not known, in a pack that reveals ids.
    not_revealed: _Count = 0
    summary: Summary
    #: The names of policies in AWS Organizations when the pack was made, as far as they could be read.
    policy_names: dict[PolicyId, Text] = {}
    members: tuple[Member, ...]
    latency: Latency
    days: tuple[CoverageDay, ...]
    sweeps: tuple[SweepResult, ...]
    gaps: tuple[Gap, ...]
    exceptions: tuple[ExceptionInForce, ...]
    failures: tuple[Failure, ...]
    actions: tuple[OperatorAction, ...]
    changes: tuple[Change, ...]
    rehearsals: tuple[RehearsalDay, ...]
    deployments: tuple[Deployment, ...]
    disagreements: tuple[Disagreement, ...]
    #: Absent if nobody verified the sealed log for this pack.
    verification: Verification | None = None
    #: Why the log could not be verified.
    not_verified: Text | None = None
    #: The command that verifies it.
    verify_command: Text
    #: Absent if the sealed log could not be read.
    sealed_at: SealedAt | None = None
    unproven: tuple[Unproven, ...]
    controls: tuple[Control, ...]
    sources: tuple[SourceRead, ...]
    objects: tuple[ObjectRead, ...]


class PackFile(_Recorded):
    """A file of the pack."""

    #: Relative to the pack's folder, with slashes.
    path: Text
    size: _Count
    sha256: Sha256


class Manifest(_Recorded):
    """Every file of the pack except the manifest itself, in the order of their paths."""

    schema_version: Literal["joinguard/manifest/1"] = "joinguard/manifest/1"
    organization_id: OrganizationId
    period: Period
    made_at: Moment
    reveals: bool
    files: tuple[PackFile, ...]
