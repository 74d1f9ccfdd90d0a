"""What is on record: the evidence of an event, and what operators did."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from pydantic import ValidationError

from handlers.core.letters import DeadLetter
from handlers.core.ports import Clock
from schemas.act import Act
from schemas.evidence import Evidence
from schemas.outcome import Outcome


class Reading(Protocol):
    """The immutable bucket, as it is read."""

    def read(self, key: str) -> bytes:
        """Return an object."""

    def under(self, prefix: str) -> list[str]:
        """Return the keys under a prefix, in order."""


@dataclass(frozen=True)
class Trail:
    """Read what is on record."""

    archive: Reading
    clock: Clock

    def evidence(self, outcome: Outcome) -> dict[str, Evidence]:
        """Return the evidence of an event by key, the first attempt's first."""
        keys = self.archive.under(f"evidence/{outcome.event_time:%Y/%m/%d}/{outcome.event_id}/")
        return {key: Evidence.model_validate_json(self.archive.read(key)) for key in keys}

    def history(self, letter: DeadLetter) -> list[tuple[Act, Act | None]]:
        """Return what operators meant to do and did to a letter of this body or event since it was first seen."""
        digest = letter.digest()
        names = {digest.body_sha256, digest.event_id} - {None}
        return [
            acts
            for acts in self._acts_since(letter.first_seen.date())
            if any({each.body_sha256, each.event_id} & names for each in acts[0].letters)
        ]

    def restored_since(self, letters: Sequence[DeadLetter], backup_key: str) -> set[str]:
        """Return the message ids of those letters that were brought back since their backup was made."""
        found = re.search(r"[0-9]{4}/[0-9]{2}/[0-9]{2}", backup_key)
        day = datetime.strptime(found[0], "%Y/%m/%d").replace(tzinfo=UTC).date() if found else self.clock.now().date()
        theirs = {letter.message_id for letter in letters}
        return theirs & {
            each.message_id
            for _, done in self._acts_since(day)
            if done and done.action == "restore"
            for each in done.letters
            if each.result == "restored" and each.message_id
        }

    def _acts_since(self, day: date) -> Iterator[tuple[Act, Act | None]]:
        """Yield what was intended since a day, and what came of it where that is known, the oldest first."""
        found: list[tuple[Act, Act | None]] = []
        while day <= self.clock.now().date():
            acts = {key: self._act(key) for key in self.archive.under(f"acts/{day:%Y/%m/%d}/")}
            for key, act in acts.items():
                if act and act.phase == "intended":
                    found.append((act, acts.get(key.replace("/intended.json", "/done.json"))))
            day += timedelta(days=1)
        yield from sorted(found, key=lambda acts: acts[0].recorded_at)

    def _act(self, key: str) -> Act | None:
        """Read an act; None where somebody else has put something there that is none."""
        try:
            return Act.model_validate_json(self.archive.read(key))
        except ValidationError:
            return None
