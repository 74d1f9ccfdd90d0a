"""What `make deploy` says about the accounts of its plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from infra.deploy.following import next_step, notes
from infra.deploy.stages import Stage
from tests.infra.test_approving import planned, report
from tests.unit.test_plan import Made, guardrails, plan

ENFORCE = "`make enforce STAGE=test ARGS='--from FILE'`"


def stage(*, removes: bool) -> Stage:
    return Stage(name="test", region="us-east-1", parameters={"RemovePolicies": str(removes).lower()})


def test_a_plan_that_removes_says_that_a_deployment_removes_nothing_by_itself() -> None:
    acting, made = stage(removes=True), report(planned())

    assert [*notes(acting, made)] == [
        f"deploying removes nothing by itself; each account loses its policies at its next event, or now with {ENFORCE}"
    ]
    assert next_step(acting, made) == (
        f"request the accounts of the plan with {ENFORCE}, or wait: each changes at its next event"
    )


def test_a_stage_whose_sweep_enforces_changes_accounts_without_an_event() -> None:
    acting, made = stage(removes=True), report(planned())
    acting = acting.model_copy(update={"parameters": {**acting.parameters, "Sweep": "enforce"}})

    for text in (*notes(acting, made), next_step(acting, made)):
        assert "at its next event or in the next sweep" in text


def test_a_stage_that_removes_nothing_says_so_and_needs_no_request() -> None:
    keeping, made = stage(removes=False), report(planned())

    assert [*notes(keeping, made)] == ['nothing is removed, because RemovePolicies is not "true" in the stage']
    assert next_step(keeping, made) == "invite or create an account"


def test_without_a_plan_the_next_step_of_a_stage_with_a_document_fits_changed_guardrails_too() -> None:
    documented = stage(removes=True).model_copy(update={"document": Path("test.yaml")})

    step = next_step(documented, None)

    assert step.startswith("each account gets and loses policies at its next event; if the guardrails have changed, ")
    assert step.endswith(f"with {ENFORCE}")


@pytest.mark.parametrize("has_plan", [True, False])
def test_without_changes_the_next_step_is_a_new_account(*, has_plan: bool) -> None:
    made = replace(report(planned()), plan=plan(guardrails(), Made([], {})))

    assert [*notes(stage(removes=True), made)] == []
    assert next_step(stage(removes=True), made if has_plan else None) == "invite or create an account"
