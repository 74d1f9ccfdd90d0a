"""The sweep with the real zip, under its role: what no event told of is found, and requested if the stage says so."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest

from schemas.sweep import NotRequested, SweepMode
from tests.e2e.test_operate import audit_records, operate, session_of
from tests.sweeps import Sweeps, enforcing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Pipeline


@pytest.fixture
def sweeps(pipeline: Pipeline) -> Iterator[Sweeps]:
    made = Sweeps(pipeline)
    made.forget()
    yield made
    made.forget()


def test_a_stage_that_reports_finds_an_account_without_its_event_and_requests_nothing(
    pipeline: Pipeline, sweeps: Sweeps
) -> None:
    bare, enforced = pipeline.account(), pipeline.account()
    pipeline.handle(pipeline.invited(enforced))

    found = sweeps.run()

    assert found.mode is SweepMode.REPORT
    assert found.with_gaps >= 1
    assert found.covered >= 1
    assert (found.requested, found.not_requested[NotRequested.REPORT_ONLY]) == (0, found.with_gaps)
    sweeps.until_quiet()
    assert pipeline.watch.attached(bare) == set()
    evidence = sweeps.evidence(found)
    assert evidence.report == found
    assert bare not in evidence.model_dump_json()


def test_a_stage_that_enforces_repairs_an_account_without_its_event(pipeline: Pipeline, sweeps: Sweeps) -> None:
    with enforcing(pipeline):
        bare = pipeline.account()
        found = sweeps.run()
        assert found.requested >= 1
        sweeps.until_quiet()

        assert pipeline.watch.attached(bare) == set(pipeline.at.policy_ids)
        again = sweeps.run()

    assert (again.requested, again.with_gaps, again.covered) == (0, 0, again.members)
    assert again.is_first is False


def test_the_schedules_event_begins_no_sweep_before_it_is_due(sweeps: Sweeps) -> None:
    first = sweeps.invoke("joinguard.schedule")
    second = sweeps.invoke("joinguard.schedule")

    assert (first["state"], second["state"]) == ("complete", "idle")
    assert second["sweep"] == first["sweep"]


def test_an_operator_sweeps_on_record_and_reads_the_result(pipeline: Pipeline, sweeps: Sweeps) -> None:
    pipeline.account()
    reads, acts = session_of(pipeline, "OperatorReads"), session_of(pipeline, "OperatorActs")

    before = operate(pipeline, "sweep", "--json", **reads)
    assert before.returncode == 1, before.stderr
    assert json.loads(before.stdout)["last"] is None
    done = operate(pipeline, "sweep", "--json", "--confirm", "--reason", "the first sweep, INC-123", **acts)
    after = operate(pipeline, "sweep", "--json", **reads)

    assert done.returncode == 1, done.stderr
    fields = json.loads(done.stdout)
    assert (fields["done"], fields["mode"], fields["every_minutes"]) == (True, "report", 30)
    assert fields["last"]["with_gaps"] >= 1
    recorded = sweeps.report().model_dump(mode="json", exclude_none=True)
    # The first sweep knows of no earlier members, so it cannot say whose events were missed.
    assert json.loads(after.stdout)["last"] == fields["last"] == recorded | {"missed_events": None}
    assert "the first sweep, INC-123" in {each.reason for each in audit_records(pipeline)}
    table = operate(pipeline, "coverage", "--csv", **reads)
    missing = {row["account"] for row in csv.DictReader(io.StringIO(table.stdout)) if row["status"] == "MISSING"}
    assert len(missing) == fields["last"]["with_gaps"], "coverage and the sweep agree"


def test_only_an_operator_that_acts_may_begin_a_sweep(pipeline: Pipeline, sweeps: Sweeps) -> None:
    reads = session_of(pipeline, "OperatorReads")

    refused = operate(pipeline, "sweep", "--confirm", "--reason", "x", **reads)

    assert refused.returncode == 1
    assert "AccessDenied" in refused.stderr
    assert sweeps.store.read() is None
