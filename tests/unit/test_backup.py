"""Backups: every message is restored unchanged, and nothing is restored from an invalid backup."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.core.redrive.backup import BackupError, backup_line, read_backup
from tests.fake_queues import dead_letter
from tests.operator_cli import CONFIRM, operator_cli

#: A line as version 0.1.0 wrote it.
OLD = (
    '{"queue": "undelivered", "message_id": "6f1c2a4e-0b7e-4a43-9b61-6b0a1d5b7c11", '
    '"sent_at": "2026-11-24T11:00:00.123000+00:00", "receives": 2, "attributes": {"ERROR_CODE": {"DataType": "String", '
    '"StringValue": "NO_PERMISSIONS"}, "raw": {"DataType": "Binary", "BinaryValue": "0001ff"}}, "body": "\\u2603 {"}'
)
ACCEPTED = st.characters(
    exclude_categories=["Cs"], exclude_characters="\ufffe\uffff" + "".join(map(chr, {*range(32)} - {9, 10, 13}))
)
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,20}(\.[a-z]{1,5})?", fullmatch=True)
LINE: dict[str, Any] = json.loads(OLD)


@given(
    st.text(ACCEPTED, min_size=1),
    st.dictionaries(NAMES, st.binary(min_size=1), max_size=10),
    st.sampled_from(["Root=1-2", None]),
)
def test_a_message_is_restored_byte_for_byte(body: str, binaries: dict[str, bytes], trace: str | None) -> None:
    attributes = {name: {"DataType": "Binary.x", "BinaryValue": value} for name, value in binaries.items()}
    text = {"t": {"DataType": "String", "StringValue": body}} if len(binaries) < 10 else {}
    message = dead_letter(body=body, attributes=attributes | text, trace_header=trace)

    assert read_backup(backup_line(message).encode()) == [replace(message, receipt_handle="", deleted_at=None)]


def test_an_older_backup_can_be_read() -> None:
    another = json.dumps(LINE | {"message_id": "another"})
    [first, second] = read_backup(f"{OLD}\n{another}\n".encode())

    assert replace(second, message_id=first.message_id) == first
    assert (first.queue, first.body, first.attributes["raw"]["BinaryValue"]) == ("undelivered", "\u2603 {", b"\0\1\xff")
    assert first.trace_header is None


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "another queue": ({"queue": "joins"}, "queue: Input should be 'dead letters' or 'undelivered'"),
    "a queue that is null": ({"queue": None}, "queue: "),
    "a time without a zone": ({"sent_at": "2026-11-24T11:00:00"}, "sent_at: "),
    "seconds since 1970": ({"sent_at": 1795521600}, "sent_at: "),
    "a date before SQS": ({"sent_at": "0001-01-01T00:00:00Z"}, "sent_at: "),
    "a count that is a string": ({"receives": "2"}, "receives: "),
    "a count below zero": ({"receives": -1}, "receives: "),
    "a count that is too large": ({"receives": 10**30}, "receives: "),
    "an empty body": ({"body": ""}, "body: "),
    "a body that is an object": ({"body": {}}, "body: "),
    "a body that SQS rejects": ({"body": "\x00"}, "body: "),
    "a body that is too long": ({"body": "x" * 1_048_577}, "body: "),
    "a body that is too long in bytes": (
        {"body": "\u2603" * 400_000},
        "body and attributes are larger than SQS's limit of 1,048,576 bytes",
    ),
    "eleven attributes": (
        {"attributes": {f"a{n}": {"DataType": "String", "StringValue": "x"} for n in range(11)}},
        "attributes: ",
    ),
    "an id that may be an account id": ({"message_id": "to-3456-7890-1234"}, "message_id: is not a message id of SQS"),
    "a number that is not a number": (
        {"attributes": {"a": {"DataType": "Number", "StringValue": "abc"}}},
        "attributes.a: Value error, must be a number",
    ),
    "an attribute that is a string": ({"attributes": {"a": "x"}}, "attributes.a: "),
    "a name reserved by AWS": (
        {"attributes": {"AWS.x": {"DataType": "String", "StringValue": "x"}}},
        "attributes.AWS.x",
    ),
    "an attribute without a value": ({"attributes": {"a": {"DataType": "String"}}}, "attributes.a: "),
    "an empty value": ({"attributes": {"a": {"DataType": "String", "StringValue": ""}}}, "attributes.a."),
    "a value of another type": ({"attributes": {"a": {"DataType": "Binary", "StringValue": "x"}}}, "attributes.a: "),
    "an unknown type": ({"attributes": {"a": {"DataType": "Text", "StringValue": "x"}}}, "attributes.a."),
    "not hexadecimal": (
        {"attributes": {"a": {"DataType": "Binary", "BinaryValue": "xyz"}}},
        "attributes.a",
    ),
    "an id that is too long": ({"message_id": "m" * 129}, "message_id: "),
    "an id with control characters": ({"message_id": "\x1b[2J"}, "message_id: "),
    "an invalid trace header": ({"trace_header": "a\nb"}, "trace_header: "),
    "an unknown field": ({"receipt": "r"}, "receipt: "),
}


@pytest.mark.parametrize(("change", "rule"), INVALID.values(), ids=INVALID)
def test_an_invalid_line_is_reported_with_its_number_and_rule_and_nothing_is_restored(
    change: dict[str, Any], rule: str
) -> None:
    tool = operator_cli()
    key = "backups/2026/11/24/x.jsonl"
    tool.bucket.objects[key] = f"{OLD}\n{OLD}\n{json.dumps(LINE | change)}".encode()

    result = tool.run("restore", key, *CONFIRM)

    message = str(result.exception)
    assert f"{key} is not a backup of `drop` or `edit`: line 3: {rule}" in message
    assert "Nothing was restored" in message
    assert len(message) < 1000
    assert tool.queues.messages == []
    assert tool.bucket.audit_records == []


@pytest.mark.parametrize("text", [b"", b"\n", b"{", b"[]", b"\xff", b"null", b"[" * 100_000, b'{"body": "\\ud800"}'])
def test_other_content_is_not_a_backup(text: bytes) -> None:
    with pytest.raises(BackupError, match="line 1: "):
        read_backup(text)


@pytest.mark.parametrize("day", ["2026/99/99", "0001/01/01", "9999/12/31", "x"])
def test_a_backup_can_be_restored_whatever_the_date_in_its_key(day: str) -> None:
    tool = operator_cli()
    tool.bucket.objects[f"backups/{day}/x.jsonl"] = OLD.encode()

    result = tool.run("restore", f"backups/{day}/x.jsonl", *CONFIRM)

    assert result.exit_code == 0, result.exception
    assert [each.body for each in tool.queues.messages] == ["\u2603 {"]


@pytest.mark.parametrize(
    "line",
    [
        OLD[:-1] + ', "body": "another"}',
        OLD[:-1] + ', "queue": "dead letters"}',
        OLD.replace('"attributes": {', '"attributes": {"raw": {"DataType": "String", "StringValue": "x"}, '),
    ],
)
def test_a_line_with_a_duplicate_key_is_not_a_backup(line: str) -> None:
    with pytest.raises(BackupError, match="line 1: an object has two values of one name"):
        read_backup(line.encode())


def test_a_backup_with_a_duplicate_message_is_invalid() -> None:
    with pytest.raises(BackupError, match="line 2: message_id is that of line 1"):
        read_backup(f"{OLD}\n{OLD}\n".encode())
