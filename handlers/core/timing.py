"""When to try again, and whether there is time for it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Final, TypeVar

from handlers.core.errors import OutOfTimeError, RetryableError, fault
from handlers.core.ports import Clock

T = TypeVar("T")

#: Kept back at the end of an invocation for writing evidence and outcome.
RESERVE: Final = timedelta(seconds=8)
#: Below this share a record is not begun: a read, a first attach and the writes with one botocore retry each.
LEAST_SHARE: Final = timedelta(seconds=4)
#: For so long an operator's tool waits for a lost connection.
PATIENCE: Final = timedelta(minutes=2)
#: How much a worker's clock may be off before a lease that has run out is still held for alive.
CLOCK_TOLERANCE: Final = timedelta(seconds=10)


@dataclass(frozen=True)
class Turn:
    """One record's share of an invocation."""

    #: No call is begun after this.
    deadline: datetime
    #: After this the worker is dead for sure: the platform has ended it.
    lease_until: datetime


class Budget:
    """Divide the time of an invocation among its records.

    Each record gets an equal share of what is left, so a slow one never starves those behind it,
    and what a fast one leaves over is theirs.
    """

    def __init__(self, clock: Clock, *, milliseconds: int, records: int) -> None:
        self._clock = clock
        self._ends_at = clock.now() + timedelta(milliseconds=milliseconds)
        self._left = records

    def turn(self) -> Turn:
        """Return the next record's share; raise OutOfTimeError where it would be too short to begin."""
        now = self._clock.now()
        share = (self._ends_at - RESERVE - now) / max(self._left, 1)
        self._left -= 1
        if share < LEAST_SHARE:
            raise OutOfTimeError(fault("OUT_OF_TIME", "the time left cannot finish this record; it comes again"))
        return Turn(deadline=now + share, lease_until=self._ends_at + CLOCK_TOLERANCE)


def backoff(receives: int, rng: Random) -> int:
    """Return the seconds to hide a message after its n-th receive: doubling from 30 s to 15 min, at least half of it.

    Five receives so span an outage of minutes, not one minute.
    """
    ceiling = min(900, 30 * 2 ** min(receives - 1, 10))
    return round(rng.uniform(ceiling / 2, ceiling))


def retry(call: Callable[[], T], *, deadline: datetime, clock: Clock, rng: Random) -> T:
    """Call until it succeeds, fails for good, or the deadline leaves no room for another try.

    Waits with full jitter, doubling from 0.2 s to 5 s. Only errors marked `soon` are tried again here;
    the others are left to the queue. botocore has tried throttles and server errors before.
    """
    ceiling = 0.2
    while True:
        try:
            return call()
        except RetryableError as error:
            pause = rng.uniform(0, ceiling)
            if not error.soon or clock.now() + timedelta(seconds=pause) >= deadline:
                raise
        clock.sleep(pause)
        ceiling = min(5.0, ceiling * 2)


def patiently(call: Callable[[], T], *, clock: Clock, rng: Random) -> T:
    """Call, and again while the connection is lost, for two minutes: for people who wait, not for functions."""
    return retry(call, deadline=clock.now() + PATIENCE, clock=clock, rng=rng)


class LocalPace:
    """Hand out moments that lie an interval apart, to one process that knows of no other."""

    def __init__(self, interval: timedelta) -> None:
        self._interval = interval
        self._next: datetime | None = None

    def reserve(self, now: datetime) -> datetime:
        """Return when the caller's turn is."""
        turn = max(now, self._next or now)
        self._next = turn + self._interval
        return turn
