"""What becomes of letters that were put back: their outcomes tell."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Protocol

from handlers.core.ports import UnreadableRow
from handlers.core.redrive.dead_letter import DeadLetter
from schemas.outcome import FINAL, Outcome, OutcomeStatus

Key = tuple[str, str]

#: Outcomes that are asked for at once; DynamoDB gives as many to one BatchGetItem.
AT_ONCE: Final = 100
_NOT_SOONER: Final = timedelta(seconds=0.5)


class Outcomes(Protocol):
    """The outcomes as they are now."""

    def of_events(self, keys: Collection[Key]) -> Mapping[Key, Outcome | UnreadableRow]:
        """Return the outcomes of up to 100 events that have one, by account id and event id."""


@dataclass
class Following:
    """Follow letters from the moment they are sent until each is decided.

    A letter is decided when a later attempt than those before the sending came to an end for good.
    One whose body cannot be read has no outcome and is not followed.
    """

    outcomes: Outcomes
    #: Letters that are decided, by message id.
    decided: dict[str, OutcomeStatus] = field(default_factory=dict, init=False)
    #: How many letters ended so.
    ended: Counter[OutcomeStatus] = field(default_factory=Counter, init=False)
    #: How often each reason came back.
    reasons: Counter[str] = field(default_factory=Counter, init=False)
    #: How often an event had been begun before its letter was sent.
    _attempts: dict[Key, int] = field(default_factory=dict, init=False)
    _open: dict[Key, list[str]] = field(default_factory=dict, init=False)
    _looked_at: datetime | None = field(default=None, init=False)

    def expect(self, letters: Sequence[DeadLetter]) -> None:
        """Write down how things stand before up to 100 letters are sent."""
        keys = {letter.outcome_key for letter in letters if letter.outcome_key} - set(self._attempts)
        known = self.outcomes.of_events(keys) if keys else {}
        for key in keys:
            row = known.get(key)
            self._attempts[key] = row.attempts if isinstance(row, Outcome) else 0

    def follow(self, letters: Sequence[DeadLetter]) -> None:
        """Follow letters that were sent."""
        for letter in letters:
            if letter.outcome_key:
                self._open.setdefault(letter.outcome_key, []).append(letter.message_id)

    def look(self, now: datetime) -> None:
        """Ask for the hundred that were not asked for the longest; at most twice a second."""
        if not self._open or (self._looked_at and now - self._looked_at < _NOT_SOONER):
            return
        self._looked_at = now
        asked = list(islice(self._open, AT_ONCE))
        found = self.outcomes.of_events(asked)
        for key in asked:
            letters = self._open.pop(key)
            outcome = found.get(key)
            # What cannot be read tells nothing, until a worker puts a row in its place.
            if not isinstance(outcome, Outcome) or not self._is_decided(key, outcome):
                self._open[key] = letters
                continue
            self.decided |= dict.fromkeys(letters, outcome.status)
            self.ended[outcome.status] += len(letters)
            if outcome.status is OutcomeStatus.FAILED and outcome.fault:
                self.reasons[outcome.fault.code] += len(letters)

    @property
    def undecided(self) -> int:
        """How many letters are followed and not decided."""
        return sum(map(len, self._open.values()))

    def _is_decided(self, key: Key, outcome: Outcome) -> bool:
        if outcome.status in FINAL:
            return True
        over = outcome.status is OutcomeStatus.FAILED and outcome.lease_until is None
        return over and outcome.attempts > self._attempts.get(key, 0)
