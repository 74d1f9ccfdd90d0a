"""The entry point: one log line per record, one metric line per batch, and no account ids in either."""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from handlers.batch import MARGIN, MIN_SECONDS, handle_in_time, handle_record, logger, metrics
from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.timing import Budget
from infra.local.events import account_removed, policy_deleted, policy_detached, rehearsal
from schemas.outcome import OutcomeStatus
from tests.fakes import ACCOUNT, MANAGEMENT, World, joined, of_age


def record(body: object, attributes: dict[str, Any] | None = None) -> SQSRecord:
    return SQSRecord(
        {
            "messageId": "message-1",
            "receiptHandle": "receipt-1",
            "body": body if isinstance(body, str) else json.dumps(body),
            "attributes": {"ApproximateReceiveCount": "2", "SentTimestamp": "1795521600000"},
            "messageAttributes": attributes or {},
        }
    )


def handle(world: World, body: object, attributes: dict[str, Any] | None = None) -> None:
    handle_record(world.enforcer, Budget(world.clock, milliseconds=60_000, records=1), record(body, attributes))


class Output:
    """What the function has written: its log, then its metrics."""

    def __init__(self, log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
        self._log = log
        self._capsys = capsys

    def text(self) -> str:
        return self._log.getvalue() + self._capsys.readouterr().out

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Iterator[Output]:
    log = io.StringIO()
    [handler] = logger.handlers
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(log)
    metrics.clear_metrics()
    yield Output(log, capsys)
    handler.setStream(before)


def test_a_record_writes_one_line_with_its_result(output: Output) -> None:
    handle(World(), joined())

    [line] = output.lines()
    assert (line["message"], line["status"], line["event_id"], line["attempt"]) == ("handled", "ENFORCED", "event-1", 1)
    assert line["policies"] == {"p-aaaaaaaa": "ATTACHED", "p-bbbbbbbb": "ATTACHED"}
    assert line["account"].startswith("acct-")
    assert line["evidence_key"].startswith("evidence/2026/11/24/event-1/")


def test_a_record_to_retry_fails_and_its_line_has_the_code(output: Output) -> None:
    world = World()
    world.steps.fail("read", RetryableError(fault("TooManyRequestsException", "slow down")))

    with pytest.raises(RetryableError):
        handle(world, joined())

    [line] = output.lines()
    assert (line["level"], line["status"], line["code"]) == ("WARNING", "RETRYING", "TooManyRequestsException")


def test_a_record_sent_to_the_dead_letters_succeeds_and_is_counted_by_its_code(output: Output) -> None:
    world = World()
    world.steps.fail("attach", PermanentError(fault("PolicyNotFoundException", "gone")))

    handle(world, joined())

    line, metric = output.lines()
    assert (line["status"], line["code"]) == ("FAILED", "PolicyNotFoundException")
    assert (metric["DeadLetters"], metric["code"]) == ([1.0], "PolicyNotFoundException")
    assert len(world.dead_letters.dead_letters) == 1


def test_an_unexpected_error_fails_the_record_and_its_line_has_no_account_id(output: Output) -> None:
    world = World()
    world.steps.fail("read", KeyError(f"{ACCOUNT} of a@example.com"))

    with pytest.raises(RetryableError) as raised:
        handle(world, joined())

    [line] = output.lines()
    assert line["message"] == "not handled"
    assert line["where"].startswith("fakes.py:")
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    for text in (json.dumps(line), str(raised.value)):
        assert ACCOUNT not in text
        assert "@example" not in text


def test_a_message_keeps_its_attributes_on_the_way_to_the_dead_letters() -> None:
    world = World()
    attributes = {
        "REDRIVES": {"dataType": "Number", "stringValue": "2"},
        "raw": {"dataType": "Binary", "binaryValue": "AAEC"},
    }

    handle(world, "{broken", attributes)

    [(message, _)] = world.dead_letters.dead_letters
    assert message.attributes == {
        "REDRIVES": {"DataType": "Number", "StringValue": "2"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\x01\x02"},
    }
    assert message.receives == 2
    assert message.trace_header is None


def test_a_message_keeps_its_trace_header_on_the_way_to_the_dead_letters() -> None:
    world, delivered = World(), record("{broken")
    delivered["attributes"]["AWSTraceHeader"] = "Root=1-5759e988-bd862e3fe1be46a994272793"

    handle_record(world.enforcer, Budget(world.clock, milliseconds=60_000, records=1), delivered)

    [(message, _)] = world.dead_letters.dead_letters
    assert message.trace_header == "Root=1-5759e988-bd862e3fe1be46a994272793"


@pytest.mark.parametrize("body", ["{broken", joined(), joined(action="APPROVE_ALL_FEATURES"), joined(MANAGEMENT)])
def test_no_line_has_an_account_id(body: object, output: Output) -> None:
    handle(World(), body)

    text = output.text()
    assert text
    assert not re.search(r"(?<![0-9])(1{12}|2{12})(?![0-9])", text)
    assert "arn:" not in text


def test_evidence_conflicts_and_replaced_rows_are_counted(output: Output) -> None:
    world = World()
    key = World().handle(joined()).evidence_key
    assert key
    world.archive.bodies[key] = b"planted"
    world.ledger.replaced = True

    metrics.log_metrics(lambda _event, _context: handle(world, joined()))({}, {})

    line, metric = output.lines()
    assert (line["level"], line["evidence_conflicts"], line["row_replaced"]) == ("ERROR", [key], True)
    assert (metric["EvidenceDiffers"], metric["RowsReplaced"], metric["EvidenceWritten"]) == ([1.0], [1.0], [1.0])


class Context:
    """The context of an invocation with this many seconds left."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return round((self._ends - time.monotonic()) * 1000)


def test_departures_are_counted_at_zero_too(output: Output) -> None:
    world = World()
    handle(world, joined())
    del world.organizations.attached[ACCOUNT]
    handle(world, of_age(1, account_removed(ACCOUNT, MANAGEMENT), event_id="departure-1"))
    handle(world, of_age(1, account_removed(ACCOUNT, MANAGEMENT), event_id="departure-1"))
    # A join that the departure ends is closed, too, and no departure.
    handle(world, joined(event_id="event-2"))
    metrics.flush_metrics()

    assert output.lines()[-1]["Departures"] == [0, 1, 0], "and the repeated event is not counted"


def test_restores_and_changes_of_the_guardrails_are_counted_at_zero_too(output: Output) -> None:
    world = World()
    handle(world, joined())
    for number in range(1, 5):
        world.clock.advance(60)
        world.organizations.attached[ACCOUNT].remove("p-aaaaaaaa")
        event = of_age(-60 * number, policy_detached(ACCOUNT, MANAGEMENT, "p-aaaaaaaa"), event_id=f"detach-{number}")
        handle(world, event)
    handle(world, of_age(1, policy_deleted("p-aaaaaaaa", MANAGEMENT), event_id="delete-1"))
    metrics.flush_metrics()

    line = output.lines()[-1]
    assert line["Restores"] == [0, 1, 1, 1, 0, 0]
    assert line["RestoresStopped"] == [0, 0, 0, 0, 1, 0]
    assert line["GuardrailsChanged"] == [0, 0, 0, 0, 0, 1]


def test_a_hanging_call_is_ended_in_time_and_the_other_records_keep_their_results(output: Output) -> None:
    """The alarm signal arrives after a quarter of a second; the call would hang for an hour."""
    world = World()
    budget = Budget(world.clock, milliseconds=60_000, records=3)
    context: Any = Context(MARGIN + MIN_SECONDS)

    def hang(name: str, when: str) -> None:
        if (name, when) == ("record", "before"):
            time.sleep(3600)

    handle_in_time(context, world.enforcer, budget, record(joined(action="ENABLE_ALL_FEATURES", event_id="event-0")))
    world.steps.on_call = hang
    with pytest.raises(RetryableError, match="OUT_OF_TIME"):
        handle_in_time(context, world.enforcer, budget, record(joined()))
    world.steps.on_call = lambda _name, _when: None
    with suppress(RetryableError):
        handle_in_time(context, world.enforcer, budget, record(joined(event_id="event-2")))

    assert [line["message"] for line in output.lines()][:2] == ["handled", "out of time"]
    assert world.ledger.outcome("event-1").intents, "the intent is lost"
    world.clock.advance(100)
    handle(world, joined())
    assert world.ledger.outcome("event-1").status is OutcomeStatus.ENFORCED


@pytest.mark.parametrize("error", [RetryableError(fault("Throttling", "slow down")), KeyError("unexpected")])
def test_the_receives_of_a_record_to_retry_are_a_metric(error: Exception, output: Output) -> None:
    world = World()
    world.steps.fail("read", error)
    context: Any = Context(60)
    late = record(joined())
    late["attributes"]["ApproximateReceiveCount"] = "7"

    with pytest.raises(RetryableError):
        handle_in_time(context, world.enforcer, Budget(world.clock, milliseconds=60_000, records=1), late)
    handle(world, joined(event_id="event-2"))
    metrics.flush_metrics()

    [metric] = [each for line in output.lines() if (each := line.get("ReceivesOfRetriedMessages"))]
    assert metric == [7.0], "only the record to retry is measured"


def test_the_alarm_signal_is_off_after_the_record() -> None:
    context: Any = Context(MARGIN + 60)
    world = World()

    handle_in_time(context, world.enforcer, Budget(world.clock, milliseconds=60_000, records=1), record(joined()))

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_an_impossible_event_time_is_replaced_and_its_source_is_logged(output: Output) -> None:
    world = World()

    handle(world, joined(age=-10 * 365 * 86400))

    [line] = output.lines()
    assert line["event_time_from"] == "queue"
    [evidence] = world.evidence()
    assert evidence.event_time_from == "queue"
    assert evidence.event_time == datetime.fromtimestamp(1795521600, UTC)


def test_in_a_thread_that_python_sends_no_signals_a_record_is_handled_without_a_limit() -> None:
    world = World()
    context: Any = Context(MARGIN + 60)
    budget = Budget(world.clock, milliseconds=60_000, records=1)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(handle_in_time, context, world.enforcer, budget, record(joined())).result()

    assert world.ledger.outcome("event-1").status is OutcomeStatus.ENFORCED


def test_a_rehearsal_that_comes_through_is_counted_with_the_seconds_of_each_hop(output: Output) -> None:
    handle(World(), rehearsal(MANAGEMENT) | {"id": "rehearsal-1", "time": "2026-11-24T11:59:57Z"})
    metrics.flush_metrics()

    line, written = output.lines()
    assert (line["status"], line["event_name"], line["event_id"]) == ("IGNORED", "Rehearsal", "rehearsal-1")
    assert line["seconds_by_hop"] == {"queue": 3.0, "worker": 0.0, "evidence": 0.0, "outcome": 0.0}
    seconds = {name: written[f"RehearsalTo{name}"] for name in ("Queue", "Worker", "Outcome")}
    assert (written["Rehearsals"], seconds) == ([1.0], {"Queue": [3.0], "Worker": [0.0], "Outcome": [0.0]})
    # The alarms and the dashboard on joins are about joins alone.
    assert {"Ignored", "Decided", "EvidenceWritten"}.isdisjoint(written)


def test_a_rehearsal_that_does_not_come_through_is_counted_as_none_with_a_warning(output: Output) -> None:
    world = World()
    world.steps.fail("record", RetryableError(fault("S3.SlowDown", "slow down")))

    with pytest.raises(RetryableError):
        handle(world, rehearsal(MANAGEMENT))
    metrics.flush_metrics()

    line, written = output.lines()
    assert (line["level"], line["code"]) == ("WARNING", "S3.SlowDown")
    assert written["Rehearsals"] == [0.0]
    assert "RehearsalToQueue" not in written
