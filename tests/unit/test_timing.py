"""Time slices, backoff and retries."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.core.errors import OutOfTimeError, PermanentError, RetryableError, fault
from handlers.core.timing import MIN_SLICE, RESERVE, Budget, backoff, retry
from tests.fakes import NOON, FakeClock

THROTTLED = fault("TooManyRequestsException", "slow down")


def test_records_share_the_time_left_and_unused_time_goes_to_the_others() -> None:
    clock = FakeClock()
    budget = Budget(clock, milliseconds=48_000, records=4)

    first = budget.next_slice()
    clock.advance(1)
    second = budget.next_slice()

    assert first.deadline == NOON + timedelta(seconds=10)
    assert second.deadline == NOON + timedelta(seconds=14)
    assert first.lease_until > NOON + timedelta(seconds=48)


def test_a_time_slice_that_would_be_too_short_is_an_error() -> None:
    clock = FakeClock()
    budget = Budget(clock, milliseconds=round((RESERVE + MIN_SLICE).total_seconds() * 1000), records=1)
    assert budget.next_slice().deadline == NOON + MIN_SLICE

    late = Budget(clock, milliseconds=round((RESERVE + MIN_SLICE).total_seconds() * 1000) - 1, records=1)
    with pytest.raises(OutOfTimeError):
        late.next_slice()


@given(st.integers(1, 1000), st.randoms(use_true_random=False))
def test_backoff_doubles_up_to_fifteen_minutes_with_jitter_of_half(receives: int, rng: Random) -> None:
    ceiling = min(900, 30 * 2 ** (receives - 1))

    assert ceiling / 2 <= backoff(receives, rng) <= ceiling


@given(st.integers(0, 40), st.floats(0.1, 120), st.randoms(use_true_random=False))
def test_retries_never_exceed_the_deadline(failures: int, seconds: float, rng: Random) -> None:
    clock = FakeClock()
    deadline = NOON + timedelta(seconds=seconds)
    left = failures

    def call() -> str:
        nonlocal left
        if left:
            left -= 1
            raise RetryableError(THROTTLED, soon=True)
        return "done"

    try:
        assert retry(call, deadline=deadline, clock=clock, rng=rng) == "done"
        assert len(clock.slept) == failures
    except RetryableError:
        assert clock.now() + timedelta(seconds=5) >= deadline
    assert clock.now() < deadline
    for attempt, pause in enumerate(clock.slept):
        assert 0 <= pause <= min(5, 0.2 * 2**attempt)


@pytest.mark.parametrize(
    "error", [RetryableError(THROTTLED), PermanentError(THROTTLED)], ids=["transient", "permanent"]
)
def test_other_errors_are_not_retried(error: Exception) -> None:
    clock = FakeClock()
    calls = []

    def call() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        retry(call, deadline=NOON + timedelta(hours=1), clock=clock, rng=Random(1))  # noqa: S311 - jitter
    assert (len(calls), clock.slept) == (1, [])
