"""Dead letters and outcomes of accounts that have left: what operators see, and what is not redriven."""

from __future__ import annotations

import json
from datetime import timedelta

from handlers.core.redrive.tracker import OutcomeTracker
from schemas.outcome import Departed, OutcomeStatus
from tests.fake_queues import dead_letter, outcome
from tests.fakes import ACCOUNT, NOON
from tests.messages import departed, updated
from tests.operator_cli import CONFIRM, OperatorCli, operator_cli

LEFT = NOON - timedelta(hours=2)
DEPARTED = Departed(cause="removed", left_at=LEFT, event_id="departure-1")
OTHER = "333333333333"


def tool_with_a_departed_account() -> OperatorCli:
    """Return the tool with a message of an account that left, and one of an account that did not."""
    tool = operator_cli(dead_letter(1), dead_letter(2, account=OTHER))
    close(tool, 1)
    tool.queues.add_failure(dead_letter(2, account=OTHER))
    return tool


def close(tool: OperatorCli, number: int) -> None:
    key = (ACCOUNT, f"event-{number}")
    tool.queues.rows[key] = [(NOON, outcome(key, OutcomeStatus.CLOSED, departed=DEPARTED))]


def test_list_says_how_many_messages_are_of_accounts_that_left() -> None:
    tool = tool_with_a_departed_account()

    assert "account left: 1" in " ".join(tool.run("list").output.split())
    assert json.loads(tool.run("list", "--json").stdout)["groups"][0]["departed"] == 1
    [group] = json.loads(tool.run("list", "--departed", "--json").stdout)["groups"]
    assert group["ids"] == ["m-1"]


def test_show_says_when_the_account_left() -> None:
    tool = tool_with_a_departed_account()

    assert json.loads(tool.run("show", "m-1", "--json").stdout)["account_left_at"] == LEFT.isoformat()
    shown = " ".join(tool.run("show", "m-1").output.split())
    assert "2026-11-24 10:00:00Z, 2h ago" in shown
    assert "departure-1" in shown
    assert json.loads(tool.run("show", "m-2", "--json").stdout)["account_left_at"] is None


def test_a_redrive_leaves_them_out_and_says_why() -> None:
    tool = tool_with_a_departed_account()

    planned = tool.run("redrive", "--all")

    assert "the account left the organization on 2026-11-24" in " ".join(planned.output.split())
    plan = json.loads(tool.run("redrive", "--all", "--json").stdout)
    assert plan["chosen"] == ["m-2"]


def test_drop_selects_them() -> None:
    tool = tool_with_a_departed_account()

    dropped = tool.run("drop", "--departed", *CONFIRM)

    assert dropped.exit_code == 0, dropped.output
    assert [each.message_id for each in tool.queues.messages] == ["m-2"]
    assert "stays without the policies" not in dropped.output, "it is nobody's account any more"


def test_a_closed_outcome_says_that_the_account_left() -> None:
    tool = tool_with_a_departed_account()

    assert "closed because the account left 2026-11-24 10:00Z, by event departure-1" in " ".join(
        tool.run("outcome", ACCOUNT).output.split()
    )
    csv = tool.run("outcomes", "--status", "CLOSED", "--csv").stdout.splitlines()
    assert csv[0].endswith(",left_at")
    assert csv[1].endswith("2026-11-24T10:00:00Z")


def test_more_outcomes_than_are_read_at_once_are_read() -> None:
    tool = operator_cli(*(dead_letter(number) for number in range(1, 252)))
    for number in (1, 150, 251):
        close(tool, number)

    assert json.loads(tool.run("list", "--json").stdout)["groups"][0]["departed"] == 3


def test_a_change_of_the_guardrails_is_not_redriven_and_can_be_dropped() -> None:
    changed = dead_letter(1, body=json.dumps(updated()), code="GUARDRAILS_CHANGED", error_message="changed by prin-1")
    tool = operator_cli(changed)

    planned = " ".join(tool.run("redrive", "--all").output.split())

    assert "no redrive undoes" in planned
    assert tool.run("drop", "--code", "GUARDRAILS_CHANGED", *CONFIRM).exit_code == 0


def test_the_message_of_a_departure_that_failed_can_be_redriven() -> None:
    tool = operator_cli(dead_letter(1, body=json.dumps(departed())))

    assert json.loads(tool.run("redrive", "--all", "--json").stdout)["chosen"] == ["m-1"]


def test_a_redriven_message_is_decided_when_its_attempt_finds_that_the_account_left() -> None:
    tool = operator_cli()
    letter = dead_letter(1)
    tracker = OutcomeTracker(tool.queues)
    key = (ACCOUNT, "event-1")
    tool.queues.rows[key] = [(NOON, outcome(key, OutcomeStatus.FAILED, attempts=1))]
    tracker.expect([letter])
    tracker.track([letter])
    tool.queues.rows[key] = [(NOON, outcome(key, OutcomeStatus.CLOSED, attempts=1, departed=DEPARTED))]
    tracker.poll(NOON)
    assert tracker.undecided == 1, "its own attempt is still to come"
    tool.queues.rows[key] = [(NOON, outcome(key, OutcomeStatus.CLOSED, attempts=2, departed=DEPARTED))]

    tracker.poll(NOON + timedelta(seconds=1))

    assert tracker.undecided == 0
    assert tracker.by_status == {OutcomeStatus.CLOSED: 1}
