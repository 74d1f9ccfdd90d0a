"""Evidence of what happened: one immutable object for each attempt that changed or decided anything."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.events import DepartureCause
from schemas.ids import EventId, OrganizationId, PolicyId, Sha256
from schemas.outcome import AttachmentResult, Called, Fault, OutcomeStatus, PolicyOutcome
from schemas.pseudonym import Pseudonym
from schemas.values import Moment, Text

#: Codes whose messages are our own. Messages of others, which may hold a name, are not stored in evidence.
OUR_CODES: Final = frozenset(
    {
        "ACCOUNT_LEFT",
        "AWS_MANAGED",
        "CLAIMS_UNREADABLE",
        "FACTS_STALE",
        "FACTS_UNKNOWN",
        "GUARDRAILS_CHANGED",
        "INTERRUPTED",
        "LAST_POLICY",
        "MANAGEMENT_ACCOUNT",
        "NOT_A_JOIN",
        "NOT_OURS",
        "NOT_GUARDED",
        "NO_PLACE",
        "ONLY_OBSERVED",
        "OPEN_ATTEMPT",
        "PAUSED",
        "REMOVAL_LIMIT",
        "REMOVED_BY_US",
        "RESTORES_HALTED",
        "RESTORES_STOPPED",
        "STILL_A_MEMBER",
        "WRONG_ORGANIZATION",
    }
)


class RecordedFault(BaseModel):
    """Why something failed, without text that may hold a name: a code, AWS's enumerated reason, our own message."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: Text
    reason: Text | None = None
    #: Our own message; in version 1 also that of AWS.
    message: Text | None = None

    @classmethod
    def of(cls, fault: Fault | None) -> "RecordedFault | None":
        """Return a fault for evidence, without the message of others."""
        if fault is None:
            return None
        return cls(code=fault.code, reason=fault.reason, message=fault.message if fault.code in OUR_CODES else None)


class RecordedPolicy(BaseModel):
    """The result of one policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy_id: PolicyId
    result: AttachmentResult
    fault: RecordedFault | None = None
    #: The exceptions in force that take the policy from the account. Absent before version 3, and if there are none.
    exceptions: tuple[Text, ...] | None = None

    @classmethod
    def of(cls, policy: PolicyOutcome) -> "RecordedPolicy":
        """Return a result for evidence."""
        return cls(
            policy_id=policy.policy_id,
            result=policy.result,
            fault=RecordedFault.of(policy.fault),
            exceptions=policy.exceptions or None,
        )


class RecordedDeparture(BaseModel):
    """That the account left the organization."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cause: DepartureCause
    #: The time of the event that reports it.
    left_at: Moment
    #: That event; a keyed digest if its id holds an account id.
    event_id: EventId


class Evidence(BaseModel):
    """One attempt at one event. Holds no account id, e-mail address or ARN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Version 3 has the results of removals, `exceptions`, `approved_plan`, `departure` and `called`.
    schema_version: Literal["joinguard/evidence/1", "joinguard/evidence/2", "joinguard/evidence/3"] = (
        "joinguard/evidence/3"
    )
    #: A keyed digest if the event's own id holds an account id.
    event_id: EventId
    #: A keyed digest if the name is not in KNOWN_EVENT_NAMES.
    event_name: Text
    event_time: Moment
    #: `queue`: the event has no plausible time, and this is when SQS received the message.
    event_time_from: Literal["event", "envelope", "queue"] = "event"
    source: Text
    #: HMAC-SHA-256 of the message's body with the secret of the pseudonyms: links the evidence to the message. A plain
    #: digest would reveal the account, because everything else in a body can be known.
    body_digest: Sha256 | None = None
    #: Version 1 only: the plain digest.
    body_sha256: Sha256 | None = None
    #: Absent if the event names no account.
    account: Pseudonym | None = None
    organization_id: OrganizationId
    attempt: Annotated[int, Field(ge=1)]
    #: `interrupted`: the attempt crashed, and a later one wrote this from its intent and from the attached policies.
    #: `late`: a later attempt began while this one was still running, and this one wrote the evidence itself.
    course: Literal["completed", "interrupted", "late"] = "completed"
    status: OutcomeStatus
    #: SHA-256 of the compiled guardrails that decided. Absent if the event is no join, and in version 1.
    guardrails: Sha256 | None = None
    #: SHA-256 of the approved plan that a removal of this attempt, or of interrupted ones before it, is part of.
    approved_plan: Sha256 | None = None
    #: The policies that the account must carry, as far as its facts are known; empty for `interrupted`, because the
    #: settings may have changed since.
    required: tuple[PolicyId, ...] = ()
    policies: tuple[RecordedPolicy, ...] = ()
    #: Why the status is CLOSED: the account left after the event. Absent with any other status.
    departure: RecordedDeparture | None = None
    #: Who detached or changed a policy, if the event reports that.
    called: Called | None = None
    fault: RecordedFault | None = None
    recorded_at: Moment


class RehearsalEvidence(BaseModel):
    """One rehearsal that reached the worker: when it passed each part of the path. Holds nothing of its body."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal["joinguard/rehearsal/1"] = "joinguard/rehearsal/1"
    event_id: EventId
    #: When it was put on the event bus, to the second.
    event_time: Moment
    event_time_from: Literal["event", "envelope", "queue"] = "envelope"
    source: Literal["joinguard.rehearsal"] = "joinguard.rehearsal"
    #: HMAC-SHA-256 of the message's body, as in other evidence.
    body_digest: Sha256
    organization_id: OrganizationId
    #: How many times SQS has delivered the message.
    receives: Annotated[int, Field(ge=1)]
    queued_at: Moment
    received_at: Moment
    recorded_at: Moment
