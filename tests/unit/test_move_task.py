"""`redrive --native`: SQS's own move of all dead letters."""

from __future__ import annotations

import json

import pytest

from tests.fake_queues import dead_letter
from tests.operator_cli import CONFIRM, ended_move, operator_cli, running_move


@pytest.mark.parametrize(("status", "exit_code"), [("COMPLETED", 0), ("FAILED", 1), ("CANCELLED", 1)])
def test_a_move_is_started_at_the_workers_pace_and_watched_to_its_end(status: str, exit_code: int) -> None:
    tool = operator_cli(dead_letter())
    yesterday = ended_move("COMPLETED", started=1, moved=77)
    tool.moves.states = [yesterday, None, yesterday, running_move(), ended_move(status)]

    result = tool.run("redrive", "--all", "--native", "--confirm", "--reason", "all at once")

    assert result.exit_code == exit_code, result.output
    assert tool.moves.started == [1]
    assert f"{status}: 7 messages moved" in result.output
    [intended, last] = tool.bucket.audit_records
    assert (intended.action, last.results) == ("move", {"moved": 7})


def test_a_running_move_is_watched_and_not_started_again() -> None:
    tool = operator_cli()
    tool.moves.states = [running_move(), running_move(), ended_move("COMPLETED")]

    result = tool.run("redrive", "--all", "--native")

    assert result.exit_code == 0
    assert "COMPLETED: 7 messages moved" in result.output
    assert tool.moves.started == []


def test_an_interrupt_does_not_cancel_the_move() -> None:
    tool = operator_cli()
    tool.moves.states = [None, running_move(), KeyboardInterrupt()]

    assert tool.run("redrive", "--all", "--native", *CONFIRM).exit_code == 1
    assert tool.moves.cancelled == []
    last = tool.bucket.audit_records[-1]
    assert (last.ended, last.results) == ("interrupted", {"moved": 3})


def test_a_move_that_sqs_does_not_list_is_an_error() -> None:
    tool = operator_cli()
    tool.moves.states = [None] * 100

    result = tool.run("redrive", "--all", "--native", *CONFIRM)

    assert "SQS does not list the move" in str(result.exception)


def test_a_running_move_is_cancelled_only_with_confirm() -> None:
    tool = operator_cli()
    tool.moves.states = [running_move()]
    assert "Nothing was done" in tool.run("redrive", "--cancel").output
    tool.moves.states = [running_move()]
    assert json.loads(tool.run("redrive", "--cancel", "--json").stdout)["moved"] == 3
    tool.moves.states = [running_move(), ended_move("CANCELLED")]

    result = tool.run("redrive", "--cancel", "--confirm", "--reason", "too early")

    assert result.exit_code == 0, result.output
    assert tool.moves.cancelled == ["handle"]
    assert [record.action for record in tool.bucket.audit_records] == ["cancel", "cancel"]
    tool.moves.states = [ended_move("CANCELLED")]
    assert "no running move" in str(tool.run("redrive", "--cancel").exception)


def test_the_plan_of_a_move_says_what_it_does_not_move() -> None:
    tool = operator_cli(dead_letter(1), dead_letter(2, queue="undelivered"))
    tool.moves.states = [None]

    plan = tool.run("redrive", "--all", "--native")

    assert "1 undelivered messages stay" in plan.output
    assert "Nothing was done" in plan.output
    tool.moves.states = [None]
    assert "Add --all, or remove --native" in tool.run("redrive", "--native").output


@pytest.mark.parametrize("running", [False, True], ids=["started", "followed"])
@pytest.mark.parametrize(("status", "failure"), [("COMPLETED", None), ("FAILED", "no room")])
def test_the_end_of_a_move_is_printed_as_json(status: str, failure: str | None, *, running: bool) -> None:
    tool = operator_cli()
    tool.moves.states = [running_move() if running else None, running_move(), ended_move(status)]

    result = tool.run("redrive", "--all", "--native", "--json", *CONFIRM)

    printed = json.loads(result.stdout)
    ended = {name: printed[name] for name in ("done", "status", "moved", "failure")}
    assert ended == {"done": True, "status": status, "moved": 7, "failure": failure}
    assert (failure is None) == (f"{status}: 7 messages moved\n" in result.stderr)
    assert result.exit_code == (1 if failure else 0)


def test_a_move_of_messages_that_would_all_fail_again_needs_force() -> None:
    tool = operator_cli(dead_letter())
    tool.organizations.enabled = False
    tool.moves.states = [None]

    refused = tool.run("redrive", "--all", "--native", *CONFIRM)

    assert "all of them would fail again: " in str(refused.exception)
    assert "Add --force" in str(refused.exception)
    assert (tool.moves.started, tool.bucket.objects) == ([], {})
    tool.moves.states = [None, ended_move("COMPLETED")]
    assert tool.run("redrive", "--all", "--native", "--force", *CONFIRM).exit_code == 0
    assert tool.moves.started == [1]
