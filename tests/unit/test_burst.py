"""A burst of joins in virtual time: no account is missed, no message is lost, and the rate is kept."""

from __future__ import annotations

import pytest

from infra.local.organizations import Rules
from tests.bench.burst import Experiment, Mapping
from tests.bench.paces import Shared, Unpaced


def test_a_burst_runs_at_the_rate_of_aws_without_throttles_or_second_receives() -> None:
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
    ids=["nine policies", "ten workers", "half the rate", "a fifth of the calls fails", "accounts unknown at first"],
)
def test_every_account_is_enforced_and_no_message_becomes_a_dead_letter(
    policies: int, mapping: Mapping, rules: Rules
) -> None:
    burst = Experiment(60, Shared, policies=policies, mapping=mapping, rules=rules).run()

    assert (burst.dead_letters, burst.failed, burst.without_policies) == (0, 0, 0)


def test_without_a_shared_pace_most_calls_are_throttled() -> None:
    """This is the reason for the shared pace. If the test fails, the pace is no longer needed."""
    assert Experiment(200, Unpaced).run().throttled > 0.5
