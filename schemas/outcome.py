"""The outcome of one event, as it is now: a row in the outcomes table."""

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.events import DepartureCause
from schemas.ids import ActionId, EventId, PolicyId, Sha256
from schemas.pseudonym import Pseudonym
from schemas.values import Moment, Text

#: The maximum number of attempts without confirmed evidence. A message has fewer receives, redrives included.
_MAX_UNPROVEN: Final = 400
#: Guardrails name about fifty policies at most, because their ARNs have to fit in a parameter; settings that change
#: between attempts add more.
_MAX_POLICIES: Final = 120
MAX_ATTEMPTS: Final = 999_999

_Number = Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)]


class OutcomeStatus(StrEnum):
    """The status of an event."""

    #: In this attempt, Organizations listed each required policy as attached or accepted its attachment, and the
    #: evidence exists. Final. It does not say that the policies are attached now: others may have detached them.
    #: Of a request to remove policies: each policy was removed, or is kept for a lasting reason.
    ENFORCED = "ENFORCED"
    #: An attempt is running, or one failed for a passing cause and SQS will deliver the message again.
    RETRYING = "RETRYING"
    #: An attempt failed for a lasting cause, and the message is in the dead letters with the reason.
    FAILED = "FAILED"
    #: After the event, no account has to be evaluated. Final.
    IGNORED = "IGNORED"
    #: The worker only observes this account, and attached nothing. If the event comes again, it is handled again.
    OBSERVED = "OBSERVED"
    #: An operator dropped its message, or the account has left, so nothing will happen. If the event comes again, it is
    #: handled as new work. Of the event that reports the departure: its record is closed. Final.
    CLOSED = "CLOSED"


#: The statuses that do not change. A redelivery of such an event makes no call of Organizations.
FINAL: Final = frozenset({OutcomeStatus.ENFORCED, OutcomeStatus.IGNORED})
#: The statuses that still need an attempt or an operator; the sparse index lists them.
FAILING: Final = frozenset({OutcomeStatus.RETRYING, OutcomeStatus.FAILED})


class AttachmentResult(StrEnum):
    """The result of one policy in one attempt."""

    #: The worker attached it.
    ATTACHED = "ATTACHED"
    #: It was attached already.
    ALREADY_ATTACHED = "ALREADY_ATTACHED"
    #: It is not attached, and the worker would have attached it if it did not only observe the account.
    WOULD_ATTACH = "WOULD_ATTACH"
    #: The account no longer needs it, and the other worker was asked to remove it.
    REMOVAL_REQUESTED = "REMOVAL_REQUESTED"
    #: The worker removed it.
    REMOVED = "REMOVED"
    #: It was not attached any more when the worker removed it.
    ALREADY_REMOVED = "ALREADY_REMOVED"
    #: The account does not need it, and it stays; the fault says why.
    KEPT = "KEPT"
    #: It is not attached, or not removed; the fault says why.
    FAILED = "FAILED"
    #: It may be attached or removed: the call got no answer, or the attempt crashed before the answer. The fault says
    #: which.
    UNKNOWN = "UNKNOWN"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(_Record):
    """Why something failed. Holds no account id, e-mail address or ARN."""

    code: Text
    message: Text
    #: AWS's `Reason`, which `ConstraintViolationException` and `InvalidInputException` have.
    reason: Text | None = None


class PolicyOutcome(_Record):
    """The result of one policy."""

    policy_id: PolicyId
    result: AttachmentResult
    fault: Fault | None = None
    #: The exceptions in force that take it from the account.
    exceptions: tuple[Text, ...] = ()


class Claim(_Record):
    """That Joinguard attached or removed a policy of the account, according to its evidence."""

    result: Literal[AttachmentResult.ATTACHED, AttachmentResult.REMOVED]
    #: When the outcome was recorded.
    at: Moment
    #: HMAC-SHA-256 of the claim with the secret of the pseudonyms: whoever can only write to the table cannot make one.
    seal: Sha256


class Closed(_Record):
    """Who closed an outcome, when, and in which audited action, whose record holds the reason."""

    actor: Pseudonym
    #: The name of the operator's session or user, as in the audit record. Absent in rows of older versions.
    actor_name: Pseudonym | None = None
    #: The operator's unique id in IAM.
    actor_id: Text
    act_id: ActionId
    closed_at: Moment


class Departed(_Record):
    """The departure of the account, after which nothing is left to do for an event before it."""

    cause: DepartureCause
    #: The time of the event that reports the departure.
    left_at: Moment
    #: The id of that event.
    event_id: EventId


class Called(_Record):
    """The call that an event reports, and who made it."""

    #: Absent if the event does not hold it.
    principal: Pseudonym | None = None
    #: The policy that was detached, changed or deleted.
    policy_id: PolicyId | None = None
    #: The policy type that was switched off.
    policy_type: Text | None = None


class RehearsalHops(_Record):
    """What the row of the last rehearsal holds beside the times that every outcome has."""

    #: The id of the event on the bus; the row's own event id is the same for all rehearsals.
    event_id: EventId
    #: When SQS received it.
    queued_at: Moment
    #: When its evidence was written. Absent until then.
    evidence_at: Moment | None = None


class Outcome(_Record):
    """The outcome of one event, as it is now."""

    #: `none` if the event names no account.
    account_id: Annotated[str, Field(pattern=r"^([0-9]{12}|none)$")]
    event_id: EventId
    event_name: Text
    source: Text
    status: OutcomeStatus
    policies: tuple[PolicyOutcome, ...] = ()
    #: The number of attempts that have begun.
    attempts: Annotated[int, Field(ge=0, le=MAX_ATTEMPTS)]
    event_time: Moment
    #: When the first attempt began.
    received_at: Moment
    #: When the row was last written.
    updated_at: Moment
    #: When it became ENFORCED, FAILED, IGNORED or OBSERVED.
    done_at: Moment | None = None
    #: Why it is RETRYING, FAILED or IGNORED.
    fault: Fault | None = None
    #: The evidence of the last attempt that changed or decided anything.
    evidence_key: Text | None = None
    #: SHA-256 of that object's bytes, in hexadecimal.
    evidence_sha256: Sha256 | None = None
    #: The policies that attempts without confirmed evidence were about to change, by the number of the attempt.
    intents: Annotated[
        dict[_Number, Annotated[tuple[PolicyId, ...], Field(max_length=_MAX_POLICIES)]], Field(max_length=_MAX_UNPROVEN)
    ] = {}
    #: SHA-256 of the compiled guardrails that decided in the last attempt.
    guardrails: Sha256 | None = None
    #: SHA-256 of all evidence that was about to be written about these attempts, by the number of the attempt.
    announced: Annotated[
        dict[_Number, Annotated[tuple[Sha256, ...], Field(max_length=_MAX_UNPROVEN)]], Field(max_length=_MAX_UNPROVEN)
    ] = {}
    #: The ambiguous policies: the call to attach them failed but may have taken effect. The next attempt checks them.
    unclear: Annotated[tuple[PolicyId, ...], Field(max_length=2 * _MAX_UNPROVEN * _MAX_POLICIES)] = ()
    #: The policies that our evidence says we changed.
    claims: Annotated[dict[PolicyId, Claim], Field(max_length=_MAX_POLICIES)] = {}
    #: Present if the event reports that somebody detached or changed a policy.
    called: Called | None = None
    #: Present if an operator closed it.
    closed: Closed | None = None
    #: Present if it is CLOSED because the account left.
    departed: Departed | None = None
    #: Present only in the row of the last rehearsal.
    rehearsal: RehearsalHops | None = None
    #: The end of the running attempt's lease. Absent if no attempt is running.
    lease_until: Moment | None = None
