"""What is true now of one event: the row in the outcomes table."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from schemas.ids import EventId, PolicyId, Sha256
from schemas.values import Moment, Text

#: A message has fewer receives, redrives included; and as many fit into one update expression (4 KB).
_MOST_OWED: Final = 80
#: An account carries ten policies of a type; settings that change between attempts make it more.
_MOST_POLICIES: Final = 40
_MOST_ATTEMPTS: Final = 999_999

_Number = Annotated[int, Field(ge=1, le=_MOST_ATTEMPTS)]


class OutcomeStatus(StrEnum):
    """How an event stands."""

    #: In this attempt Organizations listed each required policy as attached, or accepted its attachment, and the
    #: evidence of it exists. What others detach afterwards, or between that list and the last attachment, is not
    #: looked for here. Final.
    ENFORCED = "ENFORCED"
    #: An attempt runs, or one failed for a passing cause and the message will come again.
    RETRYING = "RETRYING"
    #: Failed for a lasting cause; the message stands in the dead letters with the reason.
    FAILED = "FAILED"
    #: The event is no join. Final.
    IGNORED = "IGNORED"


#: Nothing follows these; a redelivery of such an event calls nobody.
FINAL = frozenset({OutcomeStatus.ENFORCED, OutcomeStatus.IGNORED})


class AttachmentResult(StrEnum):
    """What became of one policy in one attempt."""

    #: We attached it.
    ATTACHED = "ATTACHED"
    #: It was there.
    ALREADY_ATTACHED = "ALREADY_ATTACHED"
    #: It is not attached; the fault says why.
    FAILED = "FAILED"
    #: It may be attached: no answer to the call arrived, or the attempt ended before one did. The fault says which.
    UNKNOWN = "UNKNOWN"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(_Record):
    """Why something failed. Holds no account id, e-mail address or ARN."""

    code: Text
    message: Text
    #: AWS's finer cause, where it gives one (`ConstraintViolationException` and `InvalidInputException` do).
    reason: Text | None = None


class PolicyOutcome(_Record):
    """What became of one policy."""

    policy_id: PolicyId
    result: AttachmentResult
    fault: Fault | None = None


class Outcome(_Record):
    """What is true now of one event."""

    #: `none` where the event names no account.
    account_id: Annotated[str, Field(pattern=r"^([0-9]{12}|none)$")]
    event_id: EventId
    event_name: Text
    source: Text
    status: OutcomeStatus
    policies: tuple[PolicyOutcome, ...] = ()
    #: How often handling was begun.
    attempts: Annotated[int, Field(ge=0, le=_MOST_ATTEMPTS)]
    event_time: Moment
    #: When the first attempt began.
    received_at: Moment
    #: When the last change of this row was written.
    updated_at: Moment
    #: When it became ENFORCED, FAILED or IGNORED.
    done_at: Moment | None = None
    #: Why it is RETRYING, FAILED or IGNORED.
    fault: Fault | None = None
    #: The evidence of the last attempt that changed or decided anything.
    evidence_key: Text | None = None
    #: SHA-256 of that object's bytes, in hexadecimal.
    evidence_sha256: Sha256 | None = None
    #: What attempts whose evidence is not confirmed yet were about to attach, by number of the attempt.
    intents: Annotated[
        dict[_Number, Annotated[tuple[PolicyId, ...], Field(max_length=_MOST_POLICIES)]], Field(max_length=_MOST_OWED)
    ] = {}
    #: SHA-256 of all evidence that was about to be written for these attempts, by number of the attempt.
    announced: Annotated[
        dict[_Number, Annotated[tuple[Sha256, ...], Field(max_length=_MOST_OWED)]], Field(max_length=_MOST_OWED)
    ] = {}
    #: Policies whose attachment failed in a way that may have taken effect (a time-out); the next attempt looks.
    unclear: Annotated[tuple[PolicyId, ...], Field(max_length=2 * _MOST_OWED * _MOST_POLICIES)] = ()
    #: Until when the attempt that runs may still act. Absent when none runs.
    lease_until: Moment | None = None
