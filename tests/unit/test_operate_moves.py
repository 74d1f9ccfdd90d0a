"""SQS's own move of all dead letters, from the operator's side."""

from __future__ import annotations

import json

import pytest

from tests.fake_queues import dead_letter
from tests.operator_cli import ended, operator_cli, running


@pytest.mark.parametrize(("status", "exit_code"), [("COMPLETED", 0), ("FAILED", 1), ("CANCELLED", 1)])
def test_sqs_own_move_is_started_at_the_organizations_pace_and_watched(status: str, exit_code: int) -> None:
    at = operator_cli(dead_letter())
    yesterdays = ended("COMPLETED", started=1, moved=77)
    at.moves.states = [yesterdays, None, yesterdays, running(), ended(status)]

    done = at.run("redrive", "--all", "--native", "--confirm", "--reason", "all at once")

    assert done.exit_code == exit_code, done.output
    assert at.moves.started == [1]
    assert f"{status}: 7 messages moved" in done.output
    [intended, last] = at.bucket.audit_records
    assert (intended.action, last.results) == ("move", {"moved": 7})


def test_a_move_that_runs_is_followed_and_not_started_again() -> None:
    at = operator_cli()
    at.moves.states = [running(), running(), ended("COMPLETED")]

    followed = at.run("redrive", "--all", "--native")

    assert followed.exit_code == 0
    assert "COMPLETED: 7 messages moved" in followed.output
    assert at.moves.started == []


def test_an_interrupt_stops_the_looking_and_not_the_move() -> None:
    at = operator_cli()
    at.moves.states = [None, running(), KeyboardInterrupt()]

    assert at.run("redrive", "--all", "--native", "--confirm", "--reason", "x").exit_code == 1
    assert at.moves.cancelled == []
    last = at.bucket.audit_records[-1]
    assert (last.ended, last.results) == ("interrupted", {"moved": 3})


def test_a_move_that_sqs_does_not_tell_of_is_not_waited_for_for_ever() -> None:
    at = operator_cli()
    at.moves.states = [None] * 100

    done = at.run("redrive", "--all", "--native", "--confirm", "--reason", "x")

    assert "SQS does not list the move" in str(done.exception)


def test_a_move_is_cancelled_with_a_reason() -> None:
    at = operator_cli()
    at.moves.states = [running()]
    assert "Nothing was done" in at.run("redrive", "--cancel").output
    at.moves.states = [running()]
    assert json.loads(at.run("redrive", "--cancel", "--json").stdout)["moved"] == 3
    at.moves.states = [running(), ended("CANCELLED")]

    done = at.run("redrive", "--cancel", "--confirm", "--reason", "too early")

    assert done.exit_code == 0, done.output
    assert at.moves.cancelled == ["handle"]
    assert [act.action for act in at.bucket.audit_records] == ["cancel", "cancel"]
    at.moves.states = [ended("CANCELLED")]
    assert "no running move" in str(at.run("redrive", "--cancel").exception)


def test_where_the_move_does_not_apply_it_says_why() -> None:
    at = operator_cli(dead_letter(1), dead_letter(2, queue="undelivered"))
    at.moves.states = [None]

    dry = at.run("redrive", "--all", "--native")

    assert "1 undelivered messages stay" in dry.output
    assert "Nothing was done" in dry.output
    at.moves.states = [None]
    assert "Add --all, or remove --native" in at.run("redrive", "--native").output
