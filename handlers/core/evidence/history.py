"""What operators did, from the audit records."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, TypeAlias

from pydantic import ValidationError

from handlers.core.evidence.ports import ReadableArchive
from handlers.core.ports import Clock
from schemas.audit import AuditRecord
from schemas.keys import audit_prefix, backup_day, done_key

#: An action as it was intended, and as it was done; None if it was cut off.
Recorded: TypeAlias = tuple[AuditRecord, AuditRecord | None]

#: The size limit of an audit record: SQS allows about 120,000 messages in flight.
_MAX_BYTES: Final = 64 * 1024 * 1024
#: How far back actions are read.
_MAX_DAYS: Final = 400


@dataclass(frozen=True)
class History:
    """The audit records in the archive."""

    archive: ReadableArchive
    clock: Clock

    def of(self, names: Collection[str], since: date) -> list[Recorded]:
        """Return the actions since a day on messages with one of these event ids or body digests, oldest first."""
        wanted = set(names)
        return [
            each
            for each in self._since(since)
            if any({digest.body_digest, digest.body_sha256, digest.event_id} & wanted for digest in each[0].letters)
        ]

    def restored_since(self, message_ids: Collection[str], backup_key: str) -> set[str]:
        """Return which of these messages were restored since their backup was made."""
        return set(message_ids) & {
            digest.message_id
            for _, done in self._since(backup_day(backup_key))
            if done and done.action == "restore"
            for digest in done.letters
            if digest.result == "restored" and digest.message_id
        }

    def _since(self, day: date) -> Iterator[Recorded]:
        found: list[Recorded] = []
        today = self.clock.now().date()
        day = max(day, today - timedelta(days=_MAX_DAYS))
        while day <= today:
            records = {key: self._read(key) for key in self.archive.under(audit_prefix(day))}
            for key, record in records.items():
                if record and record.phase == "intended":
                    found.append((record, records.get(done_key(key))))
            day += timedelta(days=1)
        yield from sorted(found, key=lambda each: each[0].recorded_at)

    def _read(self, key: str) -> AuditRecord | None:
        """Read an audit record; return None for an object that is not one."""
        try:
            body = self.archive.read(key, limit=_MAX_BYTES)
            return AuditRecord.model_validate_json(body) if len(body) <= _MAX_BYTES else None
        except ValidationError:
            return None
