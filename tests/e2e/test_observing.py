"""A stage that only observes, in the embedded AWS with IAM enforced: it attaches nothing, and its role could not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.local.installation import configure
from infra.local.waiting import until
from schemas.outcome import AttachmentResult, OutcomeStatus
from tests.e2e.test_main_job import event_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Pipeline


@pytest.fixture
def observing(pipeline: Pipeline) -> Iterator[Pipeline]:
    configure(pipeline.aws, {"AttachTo": "none"})
    yield pipeline
    configure(pipeline.aws, {"AttachTo": "all"})


def test_a_join_is_observed_with_what_would_have_been_attached(observing: Pipeline) -> None:
    account_id = observing.account()
    event = observing.invited(account_id)

    observing.handle(event)

    outcome = observing.outcome(event_id(event))
    assert outcome.status is OutcomeStatus.OBSERVED
    assert {each.policy_id: each.result for each in outcome.policies} == dict.fromkeys(
        observing.at.policy_ids, AttachmentResult.WOULD_ATTACH
    )
    assert observing.relay.counted() == {"ListPoliciesForTarget": 1}
    assert observing.watch.attached(account_id) == set()
    [evidence] = observing.watch.evidence(event_id(event))
    assert evidence.status is OutcomeStatus.OBSERVED
    assert observing.watch.failing() == []
    assert observing.watch.dead_letter_count() == 0


def test_the_role_refuses_to_attach_also_if_somebody_changes_the_function(observing: Pipeline) -> None:
    functions, name = observing.client("lambda"), observing.resource("AttachPolicies")
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": variables | {"ATTACH_TO": "all"}}
    )
    account_id = observing.account()
    event = observing.invited(account_id)

    observing.watch.put(event)

    until(lambda: observing.watch.failing() == [event_id(event)], "the attempt to begin")
    until(lambda: observing.outcome(event_id(event)).fault, "the attempt to fail")
    outcome = observing.outcome(event_id(event))
    assert outcome.fault is not None
    assert outcome.fault.code == "AccessDeniedException"
    assert observing.watch.attached(account_id) == set()
