"""`outcomes`: which events are failing, in groups, one by one, and for other programs."""

from __future__ import annotations

import csv
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.outcome import Fault, OutcomeStatus
from tests.fake_queues import outcome
from tests.fakes import ACCOUNT, NOON
from tests.operator_cli import OperatorCli, operator_cli

if TYPE_CHECKING:
    from collections.abc import Iterable


def with_outcomes(*found: tuple[OutcomeStatus, dict[str, Any]]) -> OperatorCli:
    tool = operator_cli()
    for number, (status, changes) in enumerate(found):
        key = (ACCOUNT, f"event-{number}")
        tool.queues.rows[key] = [(NOON, outcome(key, status, **changes))]
    return tool


def failed(code: str, *, minutes_ago: int = 0, **changes: Any) -> tuple[OutcomeStatus, dict[str, Any]]:
    times = {"updated_at": NOON - timedelta(minutes=minutes_ago)}
    return OutcomeStatus.FAILED, times | {"fault": Fault(code=code, message=f"why {code}")} | changes


MIXED: tuple[tuple[OutcomeStatus, dict[str, Any]], ...] = (
    failed("AccessDeniedException", minutes_ago=30),
    failed("PolicyNotFoundException", minutes_ago=90),
    failed("AccessDeniedException", minutes_ago=60),
    (OutcomeStatus.RETRYING, {}),
    (OutcomeStatus.ENFORCED, {}),
    (OutcomeStatus.CLOSED, {}),
)


def shown(tool: OperatorCli, *arguments: str) -> list[str]:
    return [each["event_id"] for each in json.loads(tool.run("outcomes", *arguments, "--json").stdout)]


@pytest.mark.parametrize(
    ("arguments", "events"),
    [
        ([], [1, 2, 0]),
        (["--status", "RETRYING"], [3]),
        (["--status", "ENFORCED"], [4]),
        (["--status", "CLOSED"], [5]),
        (["--status", "IGNORED"], []),
        (["--status", "any"], [1, 2, 0, 3, 4, 5]),
        (["--code", "AccessDeniedException"], [2, 0]),
        (["--since", "70m"], [2, 0]),
        (["--since", "70m", "--status", "any", "--limit", "1"], [2]),
        (["--limit", "2"], [1, 2]),
    ],
)
def test_filters_choose_the_outcomes_least_recently_updated_first(arguments: list[str], events: Iterable[int]) -> None:
    assert shown(with_outcomes(*MIXED), *arguments) == [f"event-{number}" for number in events]


def test_many_outcomes_are_grouped_and_only_some_are_shown_one_by_one() -> None:
    many = [failed("AccessDeniedException", minutes_ago=number) for number in range(190)]
    tool = with_outcomes(*many, *[failed("TargetNotFoundException")] * 6)

    result = tool.run("outcomes")

    text = " ".join(result.stdout.split())
    assert "Events that are FAILED: 196" in text
    assert "190 FAILED" in text
    assert "why AccessDeniedException (190)" in text
    assert "6 FAILED" in text
    assert result.stdout.count("AcceptHandshake") == 20
    assert "176 more; --limit 196 shows all" in result.stderr
    assert tool.run("outcomes", "--limit", "196").stdout.count("AcceptHandshake") == 196


def test_a_code_that_only_other_outcomes_have_is_found_with_the_option_that_shows_them() -> None:
    left = Fault(code="ACCOUNT_LEFT", message="the account left")
    tool = with_outcomes(failed("AccessDeniedException"), (OutcomeStatus.CLOSED, {"fault": left}))

    result = tool.run("outcomes", "--code", "ACCOUNT_LEFT")

    assert result.exit_code == 0, result.output
    text = "no event that is FAILED has the code ACCOUNT_LEFT; others do: CLOSED. Add `--status any`"
    assert text in " ".join(result.stderr.split())
    assert shown(tool, "--code", "ACCOUNT_LEFT", "--status", "any") == ["event-1"]
    assert "others do" not in tool.run("outcomes", "--code", "AccessDeniedException").stderr


def test_csv_has_a_line_for_each_outcome_and_no_formulas() -> None:
    tool = with_outcomes(failed("AccessDeniedException"), failed("=cmd()", event_name="@x\nsecond,line"))
    tool.queues.unreadable = {(ACCOUNT, "planted")}

    rows = list(csv.DictReader(tool.run("outcomes", "--csv").stdout.splitlines()))

    assert [(each["event_id"], each["status"], each["code"]) for each in rows] == [
        ("event-0", "FAILED", "AccessDeniedException"),
        ("event-1", "FAILED", "'=cmd()"),
        ("planted", "unreadable", ""),
    ]
    assert rows[0]["message"] == "why AccessDeniedException"
    assert rows[0]["updated_at"] == "2026-11-24T12:00:00Z"
    assert rows[1]["event_name"] == "'@x second,line"


def test_csv_and_json_exclude_each_other() -> None:
    assert with_outcomes().run("outcomes", "--csv", "--json").exit_code == 2


def test_no_outcome_is_said_in_words() -> None:
    assert "Events that are FAILED: none" in with_outcomes().run("outcomes").stderr


def test_messages_without_an_outcome_are_named_with_the_command_that_shows_them() -> None:
    hint = "messages with an unreadable body have no outcome: `list --code INVALID_EVENT`"

    for arguments in ([], ["--status", "any"]):
        assert hint in with_outcomes(failed("AccessDeniedException")).run("outcomes", *arguments).stderr
    assert hint not in with_outcomes().run("outcomes", "--status", "RETRYING").stderr


def test_a_status_without_a_code_is_named_once() -> None:
    printed = with_outcomes((OutcomeStatus.ENFORCED, {})).run("outcomes", "--status", "any").stdout
    groups = printed.partition("One by one")[0]

    assert groups.count("ENFORCED") == 1
