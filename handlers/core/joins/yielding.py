"""The pace of requests that can wait: live joins go first."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from handlers.core.joins.ports import Turns
from handlers.core.ports import Clock

#: How long a worker lets others go first. While live joins use the whole rate, each worker of requests still gets a
#: turn after this time, so that no request waits for ever.
YIELDS_FOR: Final = timedelta(seconds=10)


@dataclass(frozen=True)
class YieldingPace:
    """Take a turn only if nobody else waits for it.

    Other workers reserve their next turn ahead. This one reserves none as long as its patience lasts, so that a live
    join waits for one turn at most.
    """

    turns: Turns
    clock: Clock
    patience: timedelta = YIELDS_FOR

    def reserve(self, now: datetime) -> datetime:
        """Wait for a free turn and return its time; after the patience, reserve a turn as other workers do."""
        until = now + self.patience
        while now < until:
            free_at = self.turns.reserve_free(now)
            if free_at <= now:
                return now
            self.clock.sleep((min(free_at, until) - now).total_seconds())
            now = self.clock.now()
        return self.turns.reserve(now)
