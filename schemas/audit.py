"""What an operator did: immutable evidence, before and after."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.evidence import Pseudonym
from schemas.ids import EventId, Sha256
from schemas.values import Moment, Text

Action = Literal["redrive", "drop", "restore", "edit", "enforce", "move", "cancel"]


class LetterDigest(BaseModel):
    """A letter without what it says: enough to find it again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Absent where SQS has not given it one yet.
    message_id: Text | None = None
    #: Ties it to its outcome and evidence; a keyed digest where the event's own id holds an account id. Absent where
    #: the body cannot be read.
    event_id: EventId | None = None
    #: HMAC-SHA-256 of the body under the pseudonyms' key. A plain digest would give an account away, for all else in
    #: a body can be known.
    body_digest: Sha256 | None = None
    #: Version 1 only: the plain digest.
    body_sha256: Sha256 | None = None
    #: Absent where it was never dead.
    error_code: Text | None = None
    redrives: Annotated[int, Field(ge=0)] = 0
    #: What became of it, in the `done` record: `sent`, `deleted`, `enforced`, `failed`, `left`, …
    result: Text | None = None


class Act(BaseModel):
    """One act of an operator. Holds no account id, e-mail address or ARN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal["joinguard/act/1", "joinguard/act/2"] = "joinguard/act/2"
    act_id: Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{1,64}$")]
    action: Action
    #: `intended` is written before anything is done; without it nothing is.
    phase: Literal["intended", "done"]
    #: The caller's ARN as a pseudonym, and the unique id that IAM gave the caller.
    actor: Pseudonym
    actor_id: Text
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    letters: tuple[LetterDigest, ...] = ()
    #: What came of it, counted.
    results: dict[str, int] = {}
    #: How it ended, in the `done` record. An act without such a record was cut off.
    ended: Literal["completed", "stopped", "interrupted"] | None = None
    recorded_at: Moment
