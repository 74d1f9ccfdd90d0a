"""A burst loses nobody, kills nobody and keeps to the rate. Seconds here are virtual: they depend on no machine."""

from __future__ import annotations

import pytest

from infra.local.organizations import Rules
from tests.bench.burst import Experiment, Mapping
from tests.bench.paces import Shared, Unpaced


def test_a_burst_ends_at_the_physical_limit_without_a_throttle_or_a_second_receive() -> None:
    burst = Experiment(200, Shared).run()

    assert burst.over_limit <= 1.05
    assert (burst.throttled, burst.conflicts) == (0, 0)
    assert (burst.receives, burst.dead_letters, burst.failed, burst.without_policies) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    ("policies", "mapping", "rules"),
    [
        (9, Mapping(), Rules()),
        (2, Mapping(workers=10), Rules()),
        (2, Mapping(), Rules(attach_rate=1.0)),
        (2, Mapping(), Rules(faults=0.2, seed=7)),
        (2, Mapping(), Rules(unknown_for=90)),
    ],
    ids=["nine policies", "ten workers", "others take half", "a fifth of calls fails", "accounts unknown at first"],
)
def test_whatever_happens_nobody_is_lost_and_no_healthy_message_dies(
    policies: int, mapping: Mapping, rules: Rules
) -> None:
    burst = Experiment(60, Shared, policies=policies, mapping=mapping, rules=rules).run()

    assert (burst.dead_letters, burst.failed, burst.without_policies) == (0, 0, 0)


def test_without_a_shared_pace_most_calls_are_throttled() -> None:
    """The comparison that the design rests on; if this fails, the shared pace has lost its reason."""
    assert Experiment(200, Unpaced).run().throttled > 0.5
