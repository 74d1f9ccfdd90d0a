"""How `redrive` ends: stopped by the breaker, or interrupted while it waits for the outcomes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from handlers.core.ports import UnreadableRow
from handlers.operate.errors import OperateError
from schemas.outcome import Outcome
from tests.fake_queues import FakeQueues, Key, dead_letter
from tests.operator_cli import CONFIRM, OperatorCli, operator_cli


def test_a_redrive_that_the_breaker_stops_fails_and_is_recorded_as_stopped() -> None:
    tool = operator_cli(*(dead_letter(number) for number in range(1, 21)), fails_again=lambda _: True)

    result = tool.run("redrive", "--all", "--breaker", "2", *CONFIRM)

    assert isinstance(result.exception, OperateError)
    assert "AccessDeniedException" in str(result.exception)
    assert "2 sent and deleted; 18 left in their queues; 2 failed" in result.stderr
    assert len(tool.queues.messages) == 18
    assert tool.queues.in_flight_ids == set()
    ended = tool.bucket.audit_records[-1]
    assert (ended.phase, ended.ended, ended.results["failed"]) == ("done", "stopped", 2)


class InterruptedWhileWaiting(FakeQueues):
    """Queues of an operator who presses Ctrl-C when everything is sent."""

    def of_events(self, keys: Collection[Key]) -> Mapping[Key, Outcome | UnreadableRow]:
        if self.joins and not self.messages:
            raise KeyboardInterrupt
        return super().of_events(keys)


def test_an_interrupt_while_waiting_for_outcomes_ends_only_the_waiting() -> None:
    tool = OperatorCli(InterruptedWhileWaiting([dead_letter()]))

    result = tool.run("redrive", "--all", *CONFIRM)

    assert result.exit_code == 0, result.exception
    assert "no longer waiting" in result.stderr
    assert "1 sent and deleted; 1 without an outcome yet" in result.stderr
    ended = tool.bucket.audit_records[-1]
    assert (ended.phase, ended.ended) == ("done", "completed")
    assert {each.result for each in ended.letters} == {"deleted"}
