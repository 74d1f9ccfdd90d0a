"""Audit records of what operators did: one before and one after each action, both immutable."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.ids import ActionId, EventId, Sha256
from schemas.pseudonym import Pseudonym
from schemas.values import Moment, Text

Action = Literal[
    "redrive",
    "drop",
    "restore",
    "edit",
    "enforce",
    "move",
    "cancel",
    "close",
    "pause",
    "resume",
    "sweep",
    "pseudonym",
    "resolve",
]
Ended = Literal["completed", "stopped", "interrupted"]


class MessageDigest(BaseModel):
    """A message without its content: enough to find it again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Absent before SQS has assigned one.
    message_id: Text | None = None
    #: Links the message to its outcome and evidence; a keyed digest if the event's own id holds an account id. Absent
    #: if the body is unreadable. In the record of `pause` and `resume`, the pause's id; in that of `pseudonym` and
    #: `resolve`, a pseudonym that was asked about.
    event_id: EventId | None = None
    #: HMAC-SHA-256 of the body with the secret of the pseudonyms. A plain digest would reveal the account, because
    #: everything else in a body can be known.
    body_digest: Sha256 | None = None
    #: Version 1 only: the plain digest.
    body_sha256: Sha256 | None = None
    #: Absent if the message was never a dead letter.
    error_code: Text | None = None
    redrives: Annotated[int, Field(ge=0)] = 0
    #: The message's result, in the `done` record: `sent`, `deleted`, `enforced`, `failed`, `left`, …
    result: Text | None = None


class AuditRecord(BaseModel):
    """One action of an operator. Holds no account id, e-mail address or ARN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal["joinguard/act/1", "joinguard/act/2", "joinguard/act/3"] = "joinguard/act/3"
    act_id: ActionId
    action: Action
    #: `intended` is written before the action; without it, nothing is done.
    phase: Literal["intended", "done"]
    #: The caller's ARN as a pseudonym.
    actor: Pseudonym
    #: The name of the caller's session or user as a pseudonym, which is the same in every role and account. Absent in
    #: versions 1 and 2.
    actor_name: Pseudonym | None = None
    #: The caller's unique id in IAM. All sessions of a role have the same one.
    actor_id: Text
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    letters: tuple[MessageDigest, ...] = ()
    #: The number of messages for each result.
    results: dict[str, int] = {}
    #: How the action ended, in the `done` record. An action without that record was cut off.
    ended: Ended | None = None
    recorded_at: Moment

    @property
    def messages(self) -> int:
        """The number of messages. The record of an edit names its message before and after, with one message id."""
        named = [each.message_id for each in self.letters if each.message_id]
        return len(set(named)) + len(self.letters) - len(named)
