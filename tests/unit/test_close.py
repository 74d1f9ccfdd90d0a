"""`close`: outcomes whose messages are gone do not stay FAILED for ever."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from schemas.outcome import OutcomeStatus
from tests.fake_queues import dead_letter, outcome
from tests.fakes import ACCOUNT, NOON
from tests.operator_cli import CONFIRM, OperatorCli, operator_cli


def purged() -> OperatorCli:
    """Return a tool with three failed events, of which one still has its message."""
    tool = operator_cli(dead_letter(3))
    for number in (1, 2, 3):
        tool.queues.add_failure(dead_letter(number))
    return tool


def statuses(tool: OperatorCli) -> dict[str, OutcomeStatus]:
    return {key[1]: rows[-1][1].status for key, rows in tool.queues.rows.items()}


def test_outcomes_without_a_message_are_closed_on_record() -> None:
    tool = purged()

    plan = tool.run("close", "--account", ACCOUNT)
    assert (plan.exit_code, tool.bucket.objects) == (0, {})
    assert "Outcomes to be closed: 2" in plan.output
    assert "1 left out: their messages are in the queues" in plan.output
    result = tool.run("close", "--account", ACCOUNT, "--confirm", "--reason", "the queue was purged")

    assert result.exit_code == 1, "one is left out"
    assert "2 outcomes closed" in result.output
    assert statuses(tool) == {
        "event-1": OutcomeStatus.CLOSED,
        "event-2": OutcomeStatus.CLOSED,
        "event-3": OutcomeStatus.FAILED,
    }
    [intended, done] = tool.bucket.audit_records
    assert (intended.action, intended.reason, done.results) == ("close", "the queue was purged", {"closed": 2})
    assert {each.event_id: each.result for each in done.letters} == {"event-1": "closed", "event-2": "closed"}
    assert tool.queues.in_flight_ids == set()


@pytest.mark.parametrize(
    ("arguments", "closed"),
    [
        (["--code", "AccessDeniedException"], {"event-1", "event-2"}),
        (["--code", "INVALID_EVENT"], set()),
        (["--account", "333333333333"], set()),
        (["--older-than", "1h"], {"event-2"}),
        (["--older-than", "1h", "--status", "RETRYING"], set()),
    ],
)
def test_filters_choose_the_outcomes(arguments: list[str], closed: set[str]) -> None:
    tool = purged()
    old = outcome((ACCOUNT, "event-2"), OutcomeStatus.FAILED, updated_at=NOON - timedelta(hours=2))
    tool.queues.rows[ACCOUNT, "event-2"] = [(NOON, old)]

    chosen = json.loads(tool.run("close", *arguments, "--json").stdout)["chosen"]

    assert {each["event_id"] for each in chosen} == closed


def test_nothing_is_closed_without_a_filter_or_while_messages_are_in_flight_elsewhere() -> None:
    tool = purged()
    assert tool.run("close", *CONFIRM).exit_code == 2
    tool.queues.in_flight_ids = {"received by another process"}

    result = tool.run("close", "--account", ACCOUNT, *CONFIRM)

    assert "may be in flight elsewhere" in str(result.exception)
    assert set(statuses(tool).values()) == {OutcomeStatus.FAILED}
    assert tool.bucket.objects == {}


def test_a_running_attempt_is_not_closed() -> None:
    tool = purged()
    running = outcome((ACCOUNT, "event-1"), OutcomeStatus.FAILED, lease_until=NOON + timedelta(minutes=1))
    tool.queues.rows[ACCOUNT, "event-1"] = [(NOON, running)]
    tool.queues.messages = []

    result = tool.run("close", "--account", ACCOUNT, *CONFIRM)

    assert result.exit_code == 1
    assert statuses(tool)["event-1"] is OutcomeStatus.FAILED
    assert "2 outcomes closed" in result.output
