"""What operators did, from the audit records."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Final

from pydantic import ValidationError

from handlers.core.errors import Cause, RetryableError
from handlers.core.evidence.ports import EvidenceReader
from handlers.core.ports import Clock
from schemas.audit import AuditRecord, MessageDigest
from schemas.keys import BACKUPS, audit_key, audit_prefix, backup_action, backup_day, done_key

#: The size limit of an audit record: SQS allows about 120,000 messages in flight.
_MAX_BYTES: Final = 64 * 1024 * 1024
#: How far back actions are read.
_MAX_DAYS: Final = 400


@dataclass(frozen=True)
class PastAction:
    """An action as it was intended, and as it was done."""

    intended: AuditRecord
    #: None if the action was cut off.
    done: AuditRecord | None

    def concerns(self, names: Collection[str]) -> bool:
        """Return whether the action was intended for a message with one of these event ids or body digests."""
        return bool(_digests(self.intended, names))

    def result(self, names: Collection[str]) -> str | None:
        """Return the result of such a message; None if the action was cut off."""
        return next((each.result for each in _digests(self.done, names)), None) if self.done else None


@dataclass(frozen=True)
class Backup:
    """A backup, and the action that made it."""

    key: str
    #: None if the action's record is missing or not one.
    made_by: AuditRecord | None


@dataclass(frozen=True)
class History:
    """The audit records in the archive."""

    archive: EvidenceReader
    clock: Clock

    def of(self, names: Collection[str], since: date) -> list[PastAction]:
        """Return the actions since a day on messages with one of these event ids or body digests, oldest first."""
        return [each for each in self._since(since) if each.concerns(names)]

    def all_since(self, since: date) -> list[PastAction]:
        """Return all actions since a day, oldest first."""
        return list(self._since(since))

    def backup_keys(self) -> list[str]:
        """Return the keys of all backups, the latest day first."""
        return self.archive.under(BACKUPS)[::-1]

    def backup(self, key: str) -> Backup:
        """Return a backup with the action that made it."""
        try:
            return Backup(key, self._read(audit_key(backup_day(key), backup_action(key), "intended")))
        except RetryableError as error:
            if error.cause is not Cause.NOT_FOUND:
                raise
            return Backup(key, None)

    def latest_backups(self, keys: Sequence[str], limit: int) -> list[Backup]:
        """Return the backups that were made last, the latest first, then those whose audit record is unreadable.

        `keys` are those of all backups. A key names only the day, so the records of as many days as needed are read.
        """
        found: list[Backup] = []
        for _, of_day in groupby(sorted(keys, key=backup_day, reverse=True), backup_day):
            found += map(self.backup, of_day)
            if sum(each.made_by is not None for each in found) >= limit:
                break
        return sorted(found, key=_made, reverse=True)[:limit]

    def restored_since(self, message_ids: Collection[str], backup_key: str) -> set[str]:
        """Return which of these messages were restored since their backup was made."""
        return set(message_ids) & {
            digest.message_id
            for each in self._since(backup_day(backup_key))
            if each.done and each.done.action == "restore"
            for digest in each.done.letters
            if digest.result == "restored" and digest.message_id
        }

    def _since(self, day: date) -> Iterator[PastAction]:
        found: list[PastAction] = []
        today = self.clock.now().date()
        day = max(day, today - timedelta(days=_MAX_DAYS))
        while day <= today:
            records = {key: self._read(key) for key in self.archive.under(audit_prefix(day))}
            for key, record in records.items():
                if record and record.phase == "intended":
                    found.append(PastAction(record, records.get(done_key(key))))
            day += timedelta(days=1)
        yield from sorted(found, key=lambda each: each.intended.recorded_at)

    def _read(self, key: str) -> AuditRecord | None:
        """Read an audit record; return None for an object that is not one."""
        try:
            body = self.archive.read(key, limit=_MAX_BYTES)
            return AuditRecord.model_validate_json(body) if len(body) <= _MAX_BYTES else None
        except ValidationError:
            return None


def _made(backup: Backup) -> tuple[bool, datetime]:
    return (True, backup.made_by.recorded_at) if backup.made_by else (False, datetime.min.replace(tzinfo=UTC))


def _digests(record: AuditRecord, names: Collection[str]) -> list[MessageDigest]:
    wanted = set(names)
    return [each for each in record.letters if {each.body_digest, each.body_sha256, each.event_id} & wanted]
