"""When to try again, and whether the time left allows it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Final, TypeVar

from handlers.core.errors import OutOfTimeError, RetryableError, fault
from handlers.core.ports import Clock

T = TypeVar("T")

#: Reserved at the end of an invocation for writing evidence and outcome.
RESERVE: Final = timedelta(seconds=8)
#: The shortest time slice in which a record is begun: a read, an attachment and the writes, each with one retry.
MIN_SLICE: Final = timedelta(seconds=4)
#: How long the operators' tool retries while the connection is lost.
PATIENCE: Final = timedelta(minutes=2)
#: Clock skew allowed before an expired lease counts as free.
CLOCK_SKEW: Final = timedelta(seconds=10)
#: The longest lease of a worker: Lambda ends an invocation after at most 15 minutes, and clocks may differ.
MAX_LEASE: Final = timedelta(minutes=16)
#: A message that is tried again is received at least every 15 minutes, so one that was not for longer is gone.
RECEIVED_AGAIN: Final = timedelta(hours=1)
#: The retention of the dead letters, which is longer than that of any other queue.
KEPT: Final = timedelta(days=14)
#: Seconds: the first and the longest visibility timeout of a message that is tried again.
FIRST_BACKOFF: Final = 30
MAX_BACKOFF: Final = 900


@dataclass(frozen=True)
class TimeSlice:
    """One record's share of an invocation."""

    #: No call begins after this.
    deadline: datetime
    #: When Lambda has certainly ended the invocation.
    lease_until: datetime


class Budget:
    """Divide the time of an invocation among its records.

    Each record gets an equal share of the time left, so that a slow record does not use the time of those behind it.
    """

    def __init__(self, clock: Clock, *, milliseconds: int, records: int) -> None:
        self._clock = clock
        self._ends_at = clock.now() + timedelta(milliseconds=milliseconds)
        self._left = records

    def next_slice(self) -> TimeSlice:
        """Return the next record's time slice; raise OutOfTimeError if it is too short to begin."""
        now = self._clock.now()
        share = (self._ends_at - RESERVE - now) / max(self._left, 1)
        self._left -= 1
        if share < MIN_SLICE:
            raise OutOfTimeError(fault("OUT_OF_TIME", "the time left is too short for this record; it is tried again"))
        return TimeSlice(deadline=now + share, lease_until=self._ends_at + CLOCK_SKEW)


def backoff(receives: int, rng: Random) -> int:
    """Return the visibility timeout after a receive, in seconds: doubling from 30 s to 15 min, with equal jitter."""
    ceiling = min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** min(receives - 1, 10))
    return round(rng.uniform(ceiling / 2, ceiling))


def retry(call: Callable[[], T], *, deadline: datetime, clock: Clock, rng: Random) -> T:
    """Make a call until it succeeds, fails permanently, or the deadline allows no other try.

    Waits with full jitter, doubling from 0.2 s to 5 s. Only errors marked `soon` are retried here; the queue delivers
    the message again after the others.
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
    """Make a call, and retry it for two minutes while the connection is lost: for the operators' tool."""
    return retry(call, deadline=clock.now() + PATIENCE, clock=clock, rng=rng)
