"""What happened: one immutable object for each attempt that changed or decided anything."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.ids import EventId, OrganizationId, PolicyId, Sha256
from schemas.outcome import AttachmentResult, Fault, OutcomeStatus, PolicyOutcome
from schemas.values import Moment, Text


class Pseudonym(BaseModel):
    """An account or a principal without its name: HMAC-SHA-256 under a key that leaves KMS only in derived form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: `acct-` for accounts, `prin-` for principals; principals in records of version 1 have `acct-` too.
    value: Annotated[str, Field(pattern=r"^(acct|prin)-[0-9a-f]{32}$")]
    #: The id of the KMS key that it was derived under.
    key_version: Text


#: Messages of these are our own words; what others wrote is not kept for years.
OUR_OWN: Final = frozenset({"NOT_A_JOIN", "WRONG_ORGANIZATION", "MANAGEMENT_ACCOUNT", "INTERRUPTED"})


class RecordedFault(BaseModel):
    """Why something failed, in words that cannot hold a name: codes, AWS's enumerated reasons, and our own words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: Text
    reason: Text | None = None
    #: In version 1 AWS's message too.
    message: Text | None = None

    @classmethod
    def of(cls, fault: Fault | None) -> "RecordedFault | None":
        """Return a fault as evidence holds it: without a message that others wrote."""
        if fault is None:
            return None
        return cls(code=fault.code, reason=fault.reason, message=fault.message if fault.code in OUR_OWN else None)


class RecordedPolicy(BaseModel):
    """What became of one policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy_id: PolicyId
    result: AttachmentResult
    fault: RecordedFault | None = None

    @classmethod
    def of(cls, policy: PolicyOutcome) -> "RecordedPolicy":
        """Return a result as evidence holds it."""
        return cls(policy_id=policy.policy_id, result=policy.result, fault=RecordedFault.of(policy.fault))


class Evidence(BaseModel):
    """One attempt at one event. Holds no account id, e-mail address or ARN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal["joinguard/evidence/1", "joinguard/evidence/2"] = "joinguard/evidence/2"
    #: A keyed digest where the event's own id holds an account id.
    event_id: EventId
    #: A keyed digest where the event's name is not one that we know.
    event_name: Text
    event_time: Moment
    #: `queue`: the event gave no time that can be right, and this is when SQS got the message.
    event_time_from: Literal["event", "envelope", "queue"] = "event"
    source: Text
    #: HMAC-SHA-256 of the message's body under the pseudonyms' key: ties the record to the event as received.
    #: A plain digest would give the account away, for all else in a body can be known.
    body_digest: Sha256 | None = None
    #: Version 1 only: the plain digest.
    body_sha256: Sha256 | None = None
    #: Absent where the event names no account.
    account: Pseudonym | None = None
    organization_id: OrganizationId
    attempt: Annotated[int, Field(ge=1)]
    #: `interrupted`: the attempt died, a later one wrote this from its intent and from what it found attached.
    #: `late`: a later attempt took over while this one was still running; this is its own account.
    course: Literal["completed", "interrupted", "late"] = "completed"
    status: OutcomeStatus
    #: What the account had to carry; empty for `interrupted`, since it may have changed since then.
    required: tuple[PolicyId, ...] = ()
    policies: tuple[RecordedPolicy, ...] = ()
    fault: RecordedFault | None = None
    recorded_at: Moment
