"""Live joins come first: a backlog of requests delays them little, and still comes to an end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bench.burst import Mapping
from tests.bench.first import Design, First, Result, steady_and_bursts

GAPS = 300
#: Seconds that a backlog may add to the time from join to guardrail.
MORE = 10.0
LIVE = steady_and_bursts(360, burst_every=90)


def p95(result: Result) -> float:
    return result.live[int(len(result.live) * 0.95)]


@pytest.fixture(scope="module")
def idle() -> float:
    """The time from join to guardrail of live joins without a backlog."""
    return p95(First(0, LIVE, Design()).measure())


def test_a_backlog_delays_live_joins_little_and_uses_the_rest_of_the_rate(idle: float) -> None:
    found = First(GAPS, LIVE, Design()).measure()

    assert p95(found) <= idle + MORE / 2
    assert found.over_limit <= 1.05
    assert (found.lost, found.receives) == (0, 1)


def test_a_backlog_of_accounts_that_lack_nothing_any_more_does_not_use_up_the_reads(idle: float) -> None:
    found = First(5 * GAPS, LIVE, Design(), stale=True).measure()

    assert p95(found) <= idle + MORE
    assert found.lost == 0


@pytest.mark.parametrize("policies", [2, 9])
def test_live_joins_that_use_the_whole_rate_do_not_stop_requests(policies: int) -> None:
    """Each worker gets a turn after its patience, and no message is pushed towards the dead letters by waiting."""
    live = [number / 2 for number in range(200)]

    found = First(10, live, Design(), policies=policies).measure()

    assert found.longest_pause <= 60
    assert (found.lost, found.receives <= 3) == (0, True)


@pytest.mark.parametrize(
    "design",
    [Design(repairs=None), Design(patience=None), replace(Design(patience=None), repairs=Mapping(batch=5))],
    ids=["one queue", "turns for all alike", "turns for all alike, batches of five"],
)
def test_without_a_queue_and_a_pace_of_their_own_requests_delay_live_joins(idle: float, design: Design) -> None:
    """This is the reason for the second queue and its pace. If the test fails, they are no longer needed."""
    assert p95(First(GAPS, LIVE, design).measure()) > idle + MORE
