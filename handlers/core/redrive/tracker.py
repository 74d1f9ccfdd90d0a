"""Track the outcomes of redriven messages."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.ports import EventOutcomes, OutcomeKey
from schemas.outcome import FINAL, AttachmentResult, Outcome, OutcomeStatus

#: The number of outcomes in one read: DynamoDB's limit for BatchGetItem.
BATCH: Final = 100
#: The statuses in which an attempt ends, although the same event can be handled again.
_ENDED: Final = frozenset({OutcomeStatus.FAILED, OutcomeStatus.OBSERVED})
_POLL_INTERVAL: Final = timedelta(seconds=0.5)


@dataclass
class OutcomeTracker:
    """Track messages from the moment they are sent until each is decided.

    A message is decided when a later attempt than those before it was sent is final, failed, or found that the account
    has left. A message with an unreadable body has no outcome and is not tracked.
    """

    outcomes: EventOutcomes
    #: The final status of each decided message, by message id.
    decided: dict[str, OutcomeStatus] = field(default_factory=dict, init=False)
    #: The number of decided messages for each status.
    by_status: Counter[OutcomeStatus] = field(default_factory=Counter, init=False)
    #: The number of failed messages for each code.
    codes: Counter[str] = field(default_factory=Counter, init=False)
    #: The number of decided messages after which the removal of policies was requested.
    removals_requested: int = field(default=0, init=False)
    #: The number of attempts at each event before its message was sent.
    _attempts: dict[OutcomeKey, int] = field(default_factory=dict, init=False)
    _undecided: dict[OutcomeKey, list[str]] = field(default_factory=dict, init=False)
    _polled_at: datetime | None = field(default=None, init=False)

    def expect(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Read the outcomes of up to 100 messages before they are sent."""
        keys = {each.outcome_key for each in dead_letters if each.outcome_key} - set(self._attempts)
        known = self.outcomes.of_events(keys) if keys else {}
        for key in keys:
            row = known.get(key)
            self._attempts[key] = row.attempts if isinstance(row, Outcome) else 0

    def track(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Track messages that were sent."""
        for each in dead_letters:
            if each.outcome_key:
                self._undecided.setdefault(each.outcome_key, []).append(each.message_id)

    def poll(self, now: datetime) -> None:
        """Read the 100 least recently polled outcomes, at most twice a second."""
        if not self._undecided or (self._polled_at and now - self._polled_at < _POLL_INTERVAL):
            return
        self._polled_at = now
        keys = list(islice(self._undecided, BATCH))
        found = self.outcomes.of_events(keys)
        for key in keys:
            message_ids = self._undecided.pop(key)
            outcome = found.get(key)
            # An unreadable row decides nothing until a worker replaces it.
            if not isinstance(outcome, Outcome) or not self._is_decided(key, outcome):
                self._undecided[key] = message_ids
                continue
            self.decided |= dict.fromkeys(message_ids, outcome.status)
            self.by_status[outcome.status] += len(message_ids)
            if any(each.result is AttachmentResult.REMOVAL_REQUESTED for each in outcome.policies):
                self.removals_requested += len(message_ids)
            if outcome.status is OutcomeStatus.FAILED and outcome.fault:
                self.codes[outcome.fault.code] += len(message_ids)

    @property
    def undecided(self) -> int:
        """The number of tracked messages that are not decided."""
        return sum(map(len, self._undecided.values()))

    def _is_decided(self, key: OutcomeKey, outcome: Outcome) -> bool:
        if outcome.status in FINAL:
            return True
        is_over = outcome.status in _ENDED or outcome.departed is not None
        ended = is_over and outcome.lease_until is None
        return ended and outcome.attempts > self._attempts.get(key, 0)
