"""`joinguard rehearse`: each hop as it happens, and where a rehearsal was lost."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from handlers.core.errors import Cause, RetryableError, fault
from handlers.core.joins.ports import Message
from handlers.core.joins.rehearse import RehearsalRun
from infra.local.events import rehearsal
from schemas.events import Rehearsal
from schemas.intake import read_event
from schemas.keys import REHEARSAL_ROW
from tests.fake_queues import dead_letter
from tests.fakes import MANAGEMENT, ORGANIZATION
from tests.operator_cli import CONFIRM, OperatorCli, operator_cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from handlers.core.redrive.dead_letter import DeadLetter, Queue
    from schemas.outcome import Outcome


class Worker:
    """Handles rehearsals on the operator's fakes; the queue and the bus are where a test says that they are."""

    def __init__(self, cli: OperatorCli) -> None:
        self.cli = cli
        cli.bus.on_put = self.handle
        #: Raised by the writes of the row, in turn.
        self.row_errors: list[Exception | None] = []
        self.is_last = False

    def record_rehearsal(self, outcome: Outcome) -> None:
        if self.row_errors and (error := self.row_errors.pop(0)):
            raise error
        self.cli.queues.rows[REHEARSAL_ROW] = [(self.cli.queues.clock.now(), outcome)]

    def handle(self, event_id: str) -> None:
        clock = self.cli.queues.clock
        event = rehearsal(MANAGEMENT) | {"id": event_id, "time": clock.now().isoformat()}
        message = Message(json.dumps(event), "message-1", "receipt-1", 1, clock.now() + timedelta(seconds=1))
        clock.advance(2)
        run = RehearsalRun(self, self.cli.bucket, self.cli.pseudonyms, clock, ORGANIZATION)
        event_read = read_event(message.body)
        assert isinstance(event_read, Rehearsal)
        with suppress(RetryableError):
            run.run(event_read, message, last=self.is_last)

    def without_bucket(self, *, is_last: bool) -> None:
        self.cli.bucket.read_only, self.is_last = True, is_last


def output_of(cli: OperatorCli, *arguments: str) -> tuple[int, Any, str]:
    result = cli.run("rehearse", "--json", *arguments)
    return result.exit_code, json.loads(result.stdout), result.stderr


def test_a_rehearsal_that_comes_through_shows_each_hop_and_writes_no_audit_record() -> None:
    cli = operator_cli()
    Worker(cli)

    status, found, said = output_of(cli)

    assert status == 0
    assert (found["event_id"], found["came_through"], found["lost_at"]) == ("rehearsal-1", True, None)
    assert [*found["passed"]] == ["bus", "queue", "worker", "evidence", "outcome"]
    assert found["seconds"] == {"queue": 1.0, "worker": 1.0, "evidence": 0.0, "outcome": 0.0}
    assert [line.partition("Z ")[2] for line in said.splitlines()] == [
        "put on the event bus",
        "in the joins queue",
        "received by the worker",
        "evidence written",
        "outcome written",
    ]
    assert not cli.bucket.audit_records


def test_people_get_a_table_on_stdout() -> None:
    cli = operator_cli()
    Worker(cli)

    result = cli.run("rehearse")

    assert result.exit_code == 0
    assert "Rehearsal rehearsal-1" in result.stdout
    assert "outcome written" in result.stdout


def test_a_rehearsal_that_never_arrives_ends_after_the_timeout_and_names_the_hop_and_the_next_step() -> None:
    cli = operator_cli()
    begun = cli.queues.clock.now()

    status, found, said = output_of(cli, "--timeout", "2m")

    assert status == 1
    assert (found["lost_at"], [*found["passed"]]) == ("queue", ["bus"])
    assert cli.queues.clock.now() - begun == timedelta(minutes=2)
    assert "no visible message" in said
    assert "`make status`" in said
    assert "RUNBOOK.md#no-rehearsals" in said


def test_if_messages_wait_in_the_queue_it_is_the_worker_that_does_not_receive() -> None:
    cli = operator_cli(backlogs={"joins": [3] * 100})

    status, found, said = output_of(cli)

    assert (status, found["lost_at"]) == (1, "queue")
    assert "about 3 visible messages" in said


@pytest.mark.parametrize(
    ("spoil", "lost_at", "code"),
    [
        (lambda worker: worker.without_bucket(is_last=False), "evidence", None),
        (lambda worker: worker.without_bucket(is_last=True), "evidence", "S3.AccessDenied"),
        (lambda worker: worker.row_errors.extend([None, failure()]), "outcome", None),
    ],
    ids=["no evidence", "given up without evidence", "no outcome"],
)
def test_a_rehearsal_whose_records_fail_names_what_was_not_written(
    spoil: Callable[[Worker], Any], lost_at: str, code: str | None
) -> None:
    cli = operator_cli()
    spoil(Worker(cli))

    status, found, said = output_of(cli)

    assert (status, found["lost_at"], found["code"]) == (1, lost_at, code)
    assert f"has not written the {lost_at}" in said
    assert "rehearsal-1" in said


def failure() -> RetryableError:
    return RetryableError(fault("DynamoDB.Throttled", "slow down"))


def test_a_rehearsal_that_the_worker_gives_up_ends_the_wait() -> None:
    cli = operator_cli()
    worker = Worker(cli)
    worker.without_bucket(is_last=True)
    begun = cli.queues.clock.now()

    status, _, said = output_of(cli)

    assert status == 1
    assert "S3.AccessDenied" in said
    assert cli.queues.clock.now() - begun < timedelta(seconds=30)


def test_a_later_rehearsal_in_the_row_does_not_hide_this_one() -> None:
    cli = operator_cli()
    worker = Worker(cli)

    def both(event_id: str) -> None:
        worker.handle(event_id)
        worker.handle("of-the-schedule")

    cli.bus.on_put = both

    status, found, _ = output_of(cli)

    assert (status, found["event_id"], found["came_through"]) == (0, "rehearsal-1", True)


def test_the_row_of_another_rehearsal_is_not_taken_for_this_one() -> None:
    cli = operator_cli()
    worker = Worker(cli)
    cli.bus.on_put = lambda _event_id: worker.handle("of-the-schedule")

    status, found, _ = output_of(cli)

    assert (status, found["lost_at"]) == (1, "queue")


def test_a_refused_event_is_an_error_with_the_next_step() -> None:
    cli = operator_cli()
    cli.bus.error = RetryableError(fault("EventBridge.AccessDeniedException", "no"), cause=Cause.ACCESS_DENIED)

    result = cli.run("rehearse")

    assert result.exit_code == 1
    assert isinstance(result.exception, RetryableError | SystemExit)


def test_it_can_begin_in_the_region_of_the_forwarder() -> None:
    cli = operator_cli()
    Worker(cli)

    assert output_of(cli, "--from-region", "us-east-1")[0] == 0
    assert output_of(cli)[0] == 0
    assert cli.bus.regions == ["us-east-1", None]


# ---------------------------------------------------------------- rehearsals among the messages that failed


def lost(number: int, queue: Queue = "undelivered") -> DeadLetter:
    return dead_letter(number, queue=queue, body=json.dumps(rehearsal(MANAGEMENT) | {"id": f"rehearsal-{number}"}))


def test_rehearsals_that_were_not_delivered_are_redriven_without_waiting_for_outcomes_of_their_own() -> None:
    """They share one row, which the next one replaces, so nobody can tell what became of each."""
    cli = operator_cli(*(lost(number) for number in range(1, 10)))
    begun = cli.queues.clock.now()

    done = cli.run("redrive", "--all", *CONFIRM)

    assert done.exit_code == 0, done.output
    assert len(cli.queues.joins) == 9
    assert not cli.queues.messages
    assert "cannot be tracked" not in done.output
    assert cli.queues.clock.now() - begun < timedelta(minutes=1)


def test_rehearsals_are_listed_by_their_source_shown_and_dropped() -> None:
    cli = operator_cli(lost(1))

    assert "joinguard.rehearsal" in cli.run("list").output
    assert "rehearsal-1" in cli.run("show", "m-1").output
    dropped = cli.run("drop", "--id", "m-1", *CONFIRM)

    assert dropped.exit_code == 0, dropped.output
    assert not cli.queues.messages


def test_a_rehearsal_is_no_event_whose_policies_can_be_requested(tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text(json.dumps(rehearsal(MANAGEMENT)))

    refused = operator_cli().run("enforce", "--event", str(event))

    assert refused.exit_code == 1
    assert "it is a rehearsal, which is about no account" in str(refused.exception)
