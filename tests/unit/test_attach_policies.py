"""The entry point: one line a record, one metric line a batch, nothing in clear."""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from handlers.attach_policies import MARGIN, MIN_SECONDS, handle_in_time, handle_record, logger, metrics
from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.timing import Budget
from schemas.outcome import OutcomeStatus
from tests.fakes import ACCOUNT, MANAGEMENT, World, joined


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


class Said:
    """What the function has written: its log, then its metrics."""

    def __init__(self, log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
        self._log = log
        self._capsys = capsys

    def text(self) -> str:
        return self._log.getvalue() + self._capsys.readouterr().out

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Iterator[Said]:
    log = io.StringIO()
    [handler] = logger.handlers
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(log)
    metrics.clear_metrics()
    yield Said(log, capsys)
    handler.setStream(before)


def test_a_record_gets_one_line_that_says_all(said: Said) -> None:
    handle(World(), joined())

    [line] = said.lines()
    assert (line["message"], line["status"], line["event_id"], line["attempt"]) == ("handled", "ENFORCED", "event-1", 1)
    assert line["policies"] == {"p-aaaaaaaa": "ATTACHED", "p-bbbbbbbb": "ATTACHED"}
    assert line["account"].startswith("acct-")
    assert line["evidence_key"].startswith("evidence/2026/11/24/event-1/")


def test_what_has_to_come_again_fails_alone_and_says_why(said: Said) -> None:
    world = World()
    world.steps.fail("read", RetryableError(fault("TooManyRequestsException", "slow down")))

    with pytest.raises(RetryableError):
        handle(world, joined())

    [line] = said.lines()
    assert (line["level"], line["status"], line["code"]) == ("WARNING", "RETRYING", "TooManyRequestsException")


def test_what_is_dead_succeeds_and_is_counted_by_its_reason(said: Said) -> None:
    world = World()
    world.steps.fail("attach", PermanentError(fault("PolicyNotFoundException", "gone")))

    handle(world, joined())

    line, counted = said.lines()
    assert (line["status"], line["code"]) == ("FAILED", "PolicyNotFoundException")
    assert (counted["DeadLetters"], counted["code"]) == ([1.0], "PolicyNotFoundException")
    assert len(world.dead_letters.dead_letters) == 1


def test_a_defect_of_ours_fails_the_record_and_leaks_nothing(said: Said) -> None:
    world = World()
    world.steps.fail("read", KeyError(f"{ACCOUNT} of a@example.com"))

    with pytest.raises(RetryableError) as raised:
        handle(world, joined())

    [line] = said.lines()
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
    world, told = World(), record("{broken")
    told["attributes"]["AWSTraceHeader"] = "Root=1-5759e988-bd862e3fe1be46a994272793"

    handle_record(world.enforcer, Budget(world.clock, milliseconds=60_000, records=1), told)

    [(message, _)] = world.dead_letters.dead_letters
    assert message.trace_header == "Root=1-5759e988-bd862e3fe1be46a994272793"


@pytest.mark.parametrize("body", ["{broken", joined(), joined(action="APPROVE_ALL_FEATURES"), joined(MANAGEMENT)])
def test_no_line_names_an_account(body: object, said: Said) -> None:
    handle(World(), body)

    out = said.text()
    assert out
    assert not re.search(r"(?<![0-9])(1{12}|2{12})(?![0-9])", out)
    assert "arn:" not in out


def test_evidence_that_is_not_ours_and_a_replaced_row_are_counted_for_their_alarms(said: Said) -> None:
    world = World()
    key = World().handle(joined()).evidence_key
    assert key
    world.archive.bodies[key] = b"planted"
    world.ledger.replaced = True

    metrics.log_metrics(lambda _event, _context: handle(world, joined()))({}, {})

    line, counted = said.lines()
    assert (line["level"], line["evidence_conflicts"], line["row_replaced"]) == ("ERROR", [key], True)
    assert (counted["EvidenceDiffers"], counted["RowsReplaced"], counted["EvidenceWritten"]) == ([1.0], [1.0], [1.0])


class Context:
    """An invocation that has so many seconds left."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return round((self._ends - time.monotonic()) * 1000)


def test_a_call_that_hangs_ends_before_the_invocation_does_and_the_others_stand(said: Said) -> None:
    """The alarm rings after a quarter of a second; the call would hang for an hour."""
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

    assert [line["message"] for line in said.lines()][:2] == ["handled", "out of time"]
    assert world.ledger.outcome("event-1").intents, "it is known what was about to be done"
    world.clock.advance(100)
    handle(world, joined())
    assert world.ledger.outcome("event-1").status is OutcomeStatus.ENFORCED


def test_the_alarm_is_off_when_the_record_is_done() -> None:
    context: Any = Context(MARGIN + 60)
    world = World()

    handle_in_time(context, world.enforcer, Budget(world.clock, milliseconds=60_000, records=1), record(joined()))

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_a_time_that_cannot_be_the_events_is_replaced_and_said(said: Said) -> None:
    world = World()

    handle(world, joined(age=-10 * 365 * 86400))

    [line] = said.lines()
    assert line["event_time_from"] == "queue"
    [evidence] = world.evidence()
    assert evidence.event_time_from == "queue"
    assert evidence.event_time == datetime.fromtimestamp(1795521600, UTC)
