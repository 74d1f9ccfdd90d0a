"""Write an audit record before and after each action of an operator."""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from types import TracebackType
from typing import Literal, Self

from handlers.core.errors import RetryableError, fault
from handlers.core.evidence.actor import Actor
from handlers.core.evidence.ports import EvidenceWriter
from handlers.core.ports import Clock
from handlers.core.redaction import redact_words, safe_code
from schemas.audit import Action, AuditRecord, Ended, MessageDigest
from schemas.keys import audit_key, backup_key


@dataclass
class AuditedAction:
    """An action with two audit records: `intended` when it begins, `done` with the results when the context ends."""

    archive: EvidenceWriter
    clock: Clock
    intended: AuditRecord
    #: The number of messages for each result.
    results: dict[str, int] = field(default_factory=dict, init=False)
    #: The result of each message, by message id, or by event id before SQS has assigned a message id.
    result_of: dict[str, str] = field(default_factory=dict, init=False)
    ended: Literal["completed", "stopped"] = field(default="completed", init=False)

    @classmethod
    def begin(  # noqa: PLR0913, PLR0917 - the parts of an audit record
        cls,
        archive: EvidenceWriter,
        clock: Clock,
        actor: Actor,
        action: Action,
        reason: str,
        messages: Sequence[MessageDigest],
    ) -> Self:
        """Write the record of the intended action; raise RetryableError if it cannot be written."""
        intended = AuditRecord(
            act_id=uuid.uuid4().hex,
            action=action,
            phase="intended",
            actor=actor.pseudonym,
            actor_name=actor.name,
            actor_id=actor.unique_id,
            reason=redact_words(reason),
            letters=tuple(messages),
            recorded_at=clock.now(),
        )
        begun = cls(archive, clock, intended)
        begun._record(intended)
        return begun

    def __enter__(self) -> Self:
        """Return the action, to be carried out."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write the record of the action as done, also after an error or an interrupt."""
        if error is None:
            self._end(self.ended)
            return
        # The error matters more than its record; an action without a `done` record counts as cut off.
        with suppress(RetryableError):
            self._end("interrupted")

    def add(self, result: str, ids: Sequence[str]) -> None:
        """Add the result of messages, by message id or event id. The text after a colon is not counted."""
        self.result_of |= dict.fromkeys(ids, result)
        word = result.partition(":")[0]
        self.results[word] = self.results.get(word, 0) + len(ids)

    @property
    def action_id(self) -> str:
        """The id of the action."""
        return self.intended.act_id

    @property
    def backup_key(self) -> str:
        """The key of the backup of its messages."""
        return backup_key(self.intended.recorded_at, self.action_id)

    def _end(self, ended: Ended) -> None:
        messages = [
            each.model_copy(
                update={"result": _recorded(self.result_of.get(each.message_id or each.event_id or "", "left"))}
            )
            for each in self.intended.letters
        ]
        update = {
            "phase": "done",
            "results": self.results,
            "letters": tuple(messages),
            "ended": ended,
            "recorded_at": self.clock.now(),
        }
        self._record(self.intended.model_copy(update=update))

    def _record(self, record: AuditRecord) -> None:
        """Write a record; raise RetryableError if its key holds another object."""
        key = audit_key(self.intended.recorded_at, self.action_id, record.phase)
        body = record.model_dump_json(exclude_none=True).encode()
        if self.archive.record(key, body) != sha256(body).hexdigest():
            raise RetryableError(fault("EVIDENCE_CONFLICT", "the key of this audit record holds another object"))


def _recorded(result: str) -> str:
    """Return a result as an audit record holds it: our own words, and only the code of SQS's reason for a refusal."""
    word, colon, why = result.partition(": ")
    return f"{word}: {safe_code(why.partition(':')[0])}" if colon else result
