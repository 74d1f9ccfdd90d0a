"""Strategies that were weighed against each other; the product's is the shared one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.virtual import VirtualTime


class Unpaced:
    """Call at once; rely on retries with full jitter alone."""

    def __init__(self, _clock: VirtualTime) -> None:
        pass

    def reserve(self, now: datetime) -> datetime:
        return now


class Shared:
    """Take turns from one row, half a second apart: `handlers.aws.pace` without DynamoDB."""

    def __init__(self, clock: VirtualTime, interval: float = 0.5, write_seconds: float = 0.008) -> None:
        self._clock, self._write_seconds = clock, write_seconds
        self._interval = timedelta(seconds=interval)
        self._next: datetime | None = None

    def reserve(self, now: datetime) -> datetime:
        self._clock.wait(self._write_seconds)
        turn = max(now, self._next or now)
        self._next = turn + self._interval
        return turn
