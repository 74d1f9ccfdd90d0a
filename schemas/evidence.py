"""What happened: one immutable object for each attempt that changed or decided anything."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.ids import EventId, OrganizationId, PolicyId
from schemas.outcome import Fault, OutcomeStatus, PolicyOutcome
from schemas.values import Moment, Text


class Pseudonym(BaseModel):
    """An account without its id: HMAC-SHA-256 under a key that leaves KMS only in derived form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Annotated[str, Field(pattern=r"^acct-[0-9a-f]{32}$")]
    #: The id of the KMS key that it was derived under.
    key_version: Text


class Evidence(BaseModel):
    """One attempt at one event. Holds no account id, e-mail address or ARN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal["joinguard/evidence/1"] = "joinguard/evidence/1"
    event_id: EventId
    event_name: Text
    event_time: Moment
    source: Text
    #: SHA-256 of the message's body, in hexadecimal: ties the record to the event as received.
    body_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    #: Absent where the event names no account.
    account: Pseudonym | None = None
    organization_id: OrganizationId
    attempt: Annotated[int, Field(ge=1)]
    #: `interrupted`: the attempt died, a later one wrote this from its intent and from what it found attached.
    #: `late`: the attempt was held for dead, but went on; this is its own account.
    course: Literal["completed", "interrupted", "late"] = "completed"
    status: OutcomeStatus
    required: tuple[PolicyId, ...] = ()
    policies: tuple[PolicyOutcome, ...] = ()
    fault: Fault | None = None
    recorded_at: Moment
