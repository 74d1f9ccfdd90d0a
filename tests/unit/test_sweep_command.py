"""`sweep`, from outside."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.reconcile.sweep import Step
from handlers.operate.sweeping import InstalledSweep
from schemas.sweep import FaultOfOrganization, NotRequested, SweepInProgress, SweepMode, SweepReport, SweepState
from tests.fakes import NOON, ORGANIZATION
from tests.operator_cli import CONFIRM, OperatorCli, operator_cli

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

SHA = "0" * 64


def report(number: int = 1, **changes: Any) -> SweepReport:
    """Return a sweep that began twelve minutes ago and found that everything is there."""
    values: dict[str, Any] = {
        "sweep_id": f"{number:032x}",
        "organization_id": ORGANIZATION,
        "guardrails": SHA,
        "mode": SweepMode.REPORT,
        "begun_at": NOON - timedelta(minutes=12),
        "decided_at": NOON - timedelta(minutes=11),
        "members": 400,
        "covered": 400,
        "with_gaps": 0,
        "unclear": 0,
        "requested": 0,
    }
    return SweepReport(**{**values, **changes})


def in_progress(**changes: Any) -> SweepInProgress:
    begun_at = NOON - timedelta(minutes=1)
    values: dict[str, Any] = {"sweep_id": "f" * 32, "begun_at": begun_at, "mode": SweepMode.REPORT, "guardrails": SHA}
    return SweepInProgress(**{**values, **changes})


LACKING = report(covered=397, with_gaps=3, gaps={"NEVER_SEEN": 5, "DRIFTED": 1, "FAILED": 0}, drifted=1)


@dataclass
class FakeSweep:
    """The function and its state. Each invocation makes the next of some changes, and returns the step."""

    state: SweepState | None = None
    steps: list[Callable[[FakeSweep], Step]] = field(default_factory=list)
    invocations: int = 0

    def read(self) -> SweepState | None:
        return self.state

    def run(self) -> Step:
        self.invocations += 1
        return self.steps.pop(0)(self)


def kept(last: SweepReport | None = None, current: SweepInProgress | None = None) -> SweepState:
    return SweepState(last=last, current=current, since=NOON - timedelta(days=1))


def completes(found: SweepReport) -> Callable[[FakeSweep], Step]:
    def run(sweep: FakeSweep) -> Step:
        sweep.state = kept(found)
        return Step.COMPLETE

    return run


def ends_with(step: Step, state: SweepState | None = None) -> Callable[[FakeSweep], Step]:
    def run(sweep: FakeSweep) -> Step:
        sweep.state = state or sweep.state
        return step

    return run


def fails_with(error: Exception) -> Callable[[FakeSweep], Step]:
    def run(_: FakeSweep) -> Step:
        raise error

    return run


def tool_of(
    state: SweepState | None, *steps: Callable[[FakeSweep], Step], mode: SweepMode = SweepMode.REPORT
) -> tuple[OperatorCli, FakeSweep]:
    tool, sweep = operator_cli(), FakeSweep(state, list(steps))
    tool.sweep = InstalledSweep(sweep, sweep, mode, timedelta(minutes=30))
    return tool, sweep


def shown(tool: OperatorCli, *arguments: str) -> Result:
    # Wide enough that no cell is broken.
    return tool.run("sweep", *arguments, COLUMNS="200")


def test_without_confirm_it_shows_the_last_sweep_and_invokes_nothing() -> None:
    tool, sweep = tool_of(kept(report()))

    result = shown(tool)

    assert result.exit_code == 0, result.output
    assert "report: requests nothing" in result.stdout
    assert "2026-11-24 11:48Z, 12m ago, took 1m to read and decide" in result.stdout
    assert "due in 18m" in result.stdout
    assert "Nothing was done" in result.stderr
    assert (sweep.invocations, tool.bucket.objects) == (0, {})


def test_what_a_sweep_found_is_shown_with_its_causes_and_the_next_step() -> None:
    found = LACKING.model_copy(
        update={
            "observed": 2,
            "left_out": {"SUSPENDED": 4},
            "unclear": 1,
            "not_requested": {NotRequested.REPORT_ONLY: 3},
            "missed_events": 2,
            "departed": 1,
            "with_excess": 1,
            "faults": (FaultOfOrganization(kind="POLICY_CHANGED", what="p-aaaaaaaa"),),
        }
    )
    tool, _ = tool_of(kept(found))

    result = shown(tool)

    assert result.exit_code == 1
    for text in (
        "400 (2 only observed; without 4 SUSPENDED)",
        "5 NEVER_SEEN",
        "1 DRIFTED",
        "3: the stage only reports",
        "1 lost what Joinguard attached",
        "policy p-aaaaaaaa has another content than the lock file pins (POLICY_CHANGED)",
        f"sweeps/2026/11/24/{found.sweep_id}.json",
    ):
        assert text in result.stdout, text
    assert "0 FAILED" not in result.stdout
    assert "`enforce --gaps` requests their policies" in result.stderr


def test_no_request_is_suggested_if_none_helps() -> None:
    lasting = LACKING.model_copy(update={"not_requested": {NotRequested.LASTING: 3}})

    result = shown(tool_of(kept(lasting))[0])

    assert "`coverage` shows the accounts. No request helps them now" in result.stderr
    assert "enforce --gaps" not in result.stderr


def test_missed_events_are_not_known_in_the_first_sweep() -> None:
    def missed(found: SweepReport) -> Any:
        return json.loads(shown(tool_of(kept(found))[0], "--json").stdout)["last"]["missed_events"]

    assert missed(report(is_first=True)) is None
    assert missed(report()) == 0


def test_a_sweep_that_halted_says_why_and_whom_to_look_for() -> None:
    halted = report(
        covered=300,
        with_gaps=100,
        drifted=100,
        not_requested={NotRequested.HALTED: 100},
        halted="100 of 400 members lack policies that Joinguard attached",
    )
    tool, _ = tool_of(kept(halted), mode=SweepMode.ENFORCE)

    result = shown(tool)

    assert result.exit_code == 1
    assert "100 of 400 members lack policies that Joinguard attached" in result.stdout
    assert "Find out who did this" in result.stderr


@pytest.mark.parametrize(
    ("current", "text"),
    [
        (in_progress(), "reading the organization"),
        (in_progress(parts=3), "reading the organization, 3 parts stored"),
        (
            in_progress(decision=1, sent=20, report=report(2, requested=400, mode=SweepMode.ENFORCE)),
            "requesting: 20 of 400",
        ),
    ],
    ids=["begun", "reading", "requesting"],
)
def test_a_sweep_that_runs_is_shown_with_how_far_it_is(current: SweepInProgress, text: str) -> None:
    tool, _ = tool_of(kept(report(), current))

    result = shown(tool)

    assert result.exit_code == 0, "the last complete one found nothing"
    assert f"since 2026-11-24 11:59Z, 1m ago: {text}" in result.stdout


@pytest.mark.parametrize("state", [None, kept()], ids=["never invoked", "never completed"])
def test_before_the_first_sweep_nothing_is_known(state: SweepState | None) -> None:
    tool, _ = tool_of(state)

    result = shown(tool)

    assert result.exit_code == 1
    assert "none yet" in result.stdout
    assert "due now" in result.stdout


def test_an_installation_of_an_earlier_version_has_no_sweep() -> None:
    result = operator_cli().run("sweep")

    assert result.exit_code == 1
    assert "Run `make deploy`" in str(result.exception)


def test_json_has_the_report_and_no_account() -> None:
    tool, _ = tool_of(kept(LACKING, in_progress(parts=1)))

    result = tool.run("sweep", "--json")

    fields = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (fields["mode"], fields["every_minutes"], fields["done"], fields["is_clean"]) == ("report", 30, False, False)
    assert fields["next_due_at"] == "2026-11-24T12:18:00+00:00"
    assert fields["last"]["gaps"] == {"NEVER_SEEN": 5, "DRIFTED": 1, "FAILED": 0}
    assert fields["current"]["progress"] == "reading the organization, 1 part stored"
    assert SweepReport.model_validate(fields["last"]) == LACKING


def test_with_confirm_it_sweeps_now_on_record_and_prints_what_was_found() -> None:
    tool, sweep = tool_of(kept(report()), completes(report(2, begun_at=NOON, decided_at=NOON)))

    result = shown(tool, "--confirm", "--reason", "the trail was off")

    assert result.exit_code == 0, result.output
    assert "400 members: 400 covered" in result.stderr
    assert f"sweeps/2026/11/24/{2:032x}.json" in result.stdout
    assert sweep.invocations == 1
    [intended, done] = tool.bucket.audit_records
    assert (intended.action, intended.phase, intended.reason) == ("sweep", "intended", "the trail was off")
    assert (done.phase, done.ended, done.results) == ("done", "completed", {"requested": 0, "accounts with gaps": 0})


def test_gaps_that_a_sweep_leaves_are_the_exit_status() -> None:
    enforced = LACKING.model_copy(update={"sweep_id": "2" * 32, "mode": SweepMode.ENFORCE, "requested": 3})
    tool, _ = tool_of(kept(report()), completes(enforced), mode=SweepMode.ENFORCE)

    result = tool.run("sweep", *CONFIRM, "--json")

    fields = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (fields["done"], fields["last"]["sweep_id"], fields["last"]["requested"]) == (True, "2" * 32, 3)
    assert fields["results"] == {"requested": 3, "accounts with gaps": 3}
    assert "400 members: 397 covered, 3 with gaps (3 requests sent)" in result.stderr


def test_a_sweep_that_needs_several_invocations_is_followed_to_its_end() -> None:
    parts = [ends_with(Step.UNFINISHED, kept(None, in_progress(parts=number))) for number in (1, 2)]
    tool, sweep = tool_of(None, *parts, completes(report(2)))

    result = tool.run("sweep", *CONFIRM)

    assert result.exit_code == 0, result.output
    assert sweep.invocations == 3
    assert "sweeping: reading the organization, 1 part stored" in result.stderr


def test_a_sweep_that_another_invocation_completes_is_not_begun_again() -> None:
    """The operator asked for one sweep; one that the schedule began is as good."""

    def completed_elsewhere(sweep: FakeSweep) -> Step:
        sweep.state = kept(report(7))
        return Step.RUNNING

    running = ends_with(Step.RUNNING, kept(report(), in_progress()))
    tool, sweep = tool_of(kept(report(), in_progress()), running, completed_elsewhere)

    result = shown(tool, *CONFIRM)

    assert result.exit_code == 0, result.output
    assert sweep.invocations == 2
    assert f"{7:032x}" in result.stdout


def test_a_sweep_that_takes_too_long_goes_on_by_itself() -> None:
    unfinished = [ends_with(Step.UNFINISHED, kept(report(), in_progress(parts=1))) for _ in range(100)]
    tool, sweep = tool_of(kept(report()), *unfinished)

    result = tool.run("sweep", *CONFIRM, "--wait", "10s")

    assert result.exit_code == 1
    assert "not complete after 10s, and goes on by itself" in result.stderr
    assert 2 <= sweep.invocations < 10
    assert [each.ended for each in tool.bucket.audit_records] == [None, "completed"]


def test_an_invocation_that_does_not_end_is_left_to_itself() -> None:
    """The clock passes the deadline while the function runs."""
    ends = threading.Event()

    def hangs(_: FakeSweep) -> Step:
        tool.queues.clock.sleep(100)
        ends.wait(60)
        return Step.COMPLETE

    tool, _ = tool_of(kept(report()), hangs)
    try:
        result = tool.run("sweep", *CONFIRM, "--wait", "10s")
    finally:
        ends.set()

    assert result.exit_code == 1
    assert "goes on by itself" in result.stderr


@pytest.mark.parametrize(
    "error",
    [
        PermanentError(fault("SWEEP_FAILED", "the sweep failed with SettingsError: SWEEP_MINUTES is empty")),
        RetryableError(fault("Lambda.AccessDeniedException", "not allowed to invoke")),
    ],
    ids=["the function fails", "it cannot be invoked"],
)
def test_a_function_that_fails_is_an_error_on_record(error: Exception) -> None:
    tool, _ = tool_of(kept(report()), fails_with(error))

    result = tool.run("sweep", *CONFIRM)

    assert result.exit_code == 1
    assert str(result.exception) == str(error)
    assert [each.ended for each in tool.bucket.audit_records] == [None, "interrupted"]


def test_a_sweep_that_cannot_be_recorded_is_not_begun() -> None:
    tool, sweep = tool_of(kept(report()))
    tool.bucket.read_only = True

    result = tool.run("sweep", *CONFIRM)

    assert result.exit_code == 1
    assert sweep.invocations == 0
