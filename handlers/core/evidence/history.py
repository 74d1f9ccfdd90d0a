"""What is on record of what operators did."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Protocol

from pydantic import ValidationError

from handlers.core.evidence.references import Keyed
from handlers.core.ports import Clock
from handlers.core.redrive.dead_letter import DeadLetter
from schemas.audit import Act

#: No record of an act has more bytes: SQS lets about 120,000 letters be in hand at once.
_MOST_BYTES: Final = 64 * 1024 * 1024
#: For so many days back acts are looked for.
_MOST_DAYS: Final = 400
_DAY: Final = re.compile(r"backups/([0-9]{4})/([0-9]{2})/([0-9]{2})/")


class Reading(Protocol):
    """The immutable bucket, as it is read."""

    def read(self, key: str, *, most: int) -> bytes:
        """Return an object's bytes; of a larger one, one more than so many."""

    def under(self, prefix: str) -> list[str]:
        """Return the keys under a prefix, in order."""


@dataclass(frozen=True)
class Trail:
    """Read what operators did."""

    archive: Reading
    clock: Clock
    keyed: Keyed

    def history(self, letter: DeadLetter) -> list[tuple[Act, Act | None]]:
        """Return what operators meant to do and did to a letter of this body or event since it was first seen."""
        digest = letter.digest(self.keyed)
        # Records of version 1 hold the plain digest, and the event's id as it is.
        names = {digest.body_digest, letter.body_sha256, digest.event_id, letter.event_id} - {None, ""}
        return [
            acts
            for acts in self._acts_since(letter.first_seen.date())
            if any({each.body_digest, each.body_sha256, each.event_id} & names for each in acts[0].letters)
        ]

    def restored_since(self, letters: Sequence[DeadLetter], backup_key: str) -> set[str]:
        """Return the message ids of those letters that were brought back since their backup was made."""
        theirs = {letter.message_id for letter in letters}
        return theirs & {
            each.message_id
            for _, done in self._acts_since(_day_of(backup_key))
            if done and done.action == "restore"
            for each in done.letters
            if each.result == "restored" and each.message_id
        }

    def _acts_since(self, day: date) -> Iterator[tuple[Act, Act | None]]:
        """Yield what was intended since a day, and what came of it where that is known, the oldest first."""
        found: list[tuple[Act, Act | None]] = []
        today = self.clock.now().date()
        day = max(day, today - timedelta(days=_MOST_DAYS))
        while day <= today:
            acts = {key: self._act(key) for key in self.archive.under(f"acts/{day:%Y/%m/%d}/")}
            for key, act in acts.items():
                if act and act.phase == "intended":
                    found.append((act, acts.get(key.replace("/intended.json", "/done.json"))))
            day += timedelta(days=1)
        yield from sorted(found, key=lambda acts: acts[0].recorded_at)

    def _act(self, key: str) -> Act | None:
        """Read an act; None where somebody else has put something there that is none."""
        try:
            body = self.archive.read(key, most=_MOST_BYTES)
            return Act.model_validate_json(body) if len(body) <= _MOST_BYTES else None
        except ValidationError:
            return None


def _day_of(backup_key: str) -> date:
    """Return the day of a backup; where its key does not tell, a day before all of them."""
    found = _DAY.match(backup_key)
    try:
        return date(*map(int, found.groups())) if found else date.min
    except ValueError:
        return date.min
