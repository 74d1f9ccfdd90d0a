"""The pace of requests: a turn only if nobody else waits for it, and after some time like everybody."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from handlers.core.joins.yielding import YieldingPace
from tests.fakes import NOON, FakeClock

HALF = timedelta(seconds=0.5)


class Turns:
    """A row from which others take each turn until a moment, the next one ahead."""

    def __init__(self, busy_for: float) -> None:
        self.busy_until = NOON + timedelta(seconds=busy_for)
        self.reserved: list[tuple[str, datetime]] = []

    def reserve_free(self, now: datetime) -> datetime:
        if now < self.busy_until:
            return min(now + HALF, self.busy_until)
        self.reserved.append(("free", now))
        return now

    def reserve(self, now: datetime) -> datetime:
        self.reserved.append(("next", now))
        return now + HALF


@pytest.mark.parametrize("busy_for", [0, 0.3, 5, 9.9])
def test_a_request_takes_the_first_turn_that_nobody_else_waits_for(busy_for: float) -> None:
    turns, clock = Turns(busy_for), FakeClock()

    turn = YieldingPace(turns, clock, timedelta(seconds=10)).reserve(NOON)

    assert turn == clock.now() == NOON + timedelta(seconds=busy_for)
    assert turns.reserved == [("free", turn)]


def test_after_its_patience_a_request_takes_the_next_turn() -> None:
    turns, clock = Turns(3600), FakeClock()

    turn = YieldingPace(turns, clock, timedelta(seconds=10)).reserve(NOON)

    assert turns.reserved == [("next", NOON + timedelta(seconds=10))]
    assert turn == NOON + timedelta(seconds=10.5)


def test_a_turn_that_is_far_away_does_not_outlast_the_patience() -> None:
    clock = FakeClock()

    class FarAway(Turns):
        def reserve_free(self, now: datetime) -> datetime:
            return now + timedelta(seconds=50)

    YieldingPace(FarAway(3600), clock, timedelta(seconds=10)).reserve(NOON)

    assert clock.now() == NOON + timedelta(seconds=10)
