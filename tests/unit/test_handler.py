"""The entry point: one line a record, one metric line a batch, nothing in clear."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from handlers.attach_policies import handle_record, logger
from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.timing import Budget
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
    assert len(world.dead_letters.letters) == 1


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

    [(message, _)] = world.dead_letters.letters
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

    [(message, _)] = world.dead_letters.letters
    assert message.trace_header == "Root=1-5759e988-bd862e3fe1be46a994272793"


@pytest.mark.parametrize("body", ["{broken", joined(), joined(action="APPROVE_ALL_FEATURES"), joined(MANAGEMENT)])
def test_no_line_names_an_account(body: object, said: Said) -> None:
    handle(World(), body)

    out = said.text()
    assert out
    assert not re.search(r"(?<![0-9])(1{12}|2{12})(?![0-9])", out)
    assert "arn:" not in out
