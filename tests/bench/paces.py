"""Strategies for the pace of attachments. The product uses `Shared`."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.virtual import VirtualTime


class Unpaced:
    """Call at once, and rely on retries with full jitter alone."""

    def __init__(self, _clock: VirtualTime) -> None:
        pass

    def reserve(self, now: datetime) -> datetime:
        return now


class Shared:
    """Take turns from one row, half a second apart, as `handlers.aws.dynamodb_pace` does, but without DynamoDB."""

    def __init__(self, clock: VirtualTime, interval: float = 0.5, write_seconds: float = 0.008) -> None:
        self._clock, self._write_seconds = clock, write_seconds
        self._interval = timedelta(seconds=interval)
        self._next: datetime | None = None

    def reserve(self, now: datetime) -> datetime:
        self._clock.wait(self._write_seconds)
        turn = max(now, self._next or now)
        self._next = turn + self._interval
        return turn

    def reserve_free(self, now: datetime) -> datetime:
        self._clock.wait(self._write_seconds)
        if self._next is not None and self._next > now:
            return self._next
        self._next = now + self._interval
        return now


class Fixed:
    """Pause for a fixed time after each attachment; each of two workers gets half of the rate."""

    def __init__(self, _clock: VirtualTime, interval: float = 1.0) -> None:
        self._interval = timedelta(seconds=interval)
        self._next: dict[int, datetime] = {}

    def reserve(self, now: datetime) -> datetime:
        worker = threading.get_ident()
        turn = max(now, self._next.get(worker, now))
        self._next[worker] = turn + self._interval
        return turn


class Aimd:
    """In each worker, speed up a little after each attachment, and slow down by 30 % after each throttle (AIMD)."""

    def __init__(self, _clock: VirtualTime) -> None:
        self._rates: dict[int, float] = {}
        self._next: dict[int, datetime] = {}

    def reserve(self, now: datetime) -> datetime:
        worker = threading.get_ident()
        turn = max(now, self._next.get(worker, now))
        self._next[worker] = turn + timedelta(seconds=1 / self._rates.get(worker, 2.0))
        return turn

    def adapt(self, *, throttled: bool) -> None:
        """Adapt the rate to the result of an attachment."""
        worker = threading.get_ident()
        rate = self._rates.get(worker, 2.0)
        self._rates[worker] = max(0.2, rate * 0.7) if throttled else min(2.5, rate + 0.02)
