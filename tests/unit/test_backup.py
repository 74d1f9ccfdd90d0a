"""Backups: a letter comes back as it was, and nothing that is no backup is restored, not even half."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.core.redrive.backup import BackupError, backup_line, read_backup
from tests.fake_queues import dead_letter
from tests.operator_cli import operator_cli

#: As version 0.1.0 wrote them.
OLD = (
    '{"queue": "undelivered", "message_id": "6f1c2a4e-0b7e-4a43-9b61-6b0a1d5b7c11", '
    '"sent_at": "2026-11-24T11:00:00.123000+00:00", "receives": 2, "attributes": {"ERROR_CODE": {"DataType": "String", '
    '"StringValue": "NO_PERMISSIONS"}, "raw": {"DataType": "Binary", "BinaryValue": "0001ff"}}, "body": "\\u2603 {"}'
)
TAKEN = st.characters(
    exclude_categories=["Cs"], exclude_characters="\ufffe\uffff" + "".join(map(chr, {*range(32)} - {9, 10, 13}))
)
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,20}(\.[a-z]{1,5})?", fullmatch=True)
LINE: dict[str, Any] = json.loads(OLD)


@given(
    st.text(TAKEN, min_size=1),
    st.dictionaries(NAMES, st.binary(min_size=1), max_size=10),
    st.sampled_from(["Root=1-2", None]),
)
def test_a_backup_brings_a_letter_back_byte_for_byte(body: str, binaries: dict[str, bytes], trace: str | None) -> None:
    attributes = {name: {"DataType": "Binary.x", "BinaryValue": value} for name, value in binaries.items()}
    text = {"t": {"DataType": "String", "StringValue": body}} if len(binaries) < 10 else {}
    odd = dead_letter(body=body, attributes=attributes | text, trace_header=trace)

    assert read_backup(backup_line(odd).encode()) == [replace(odd, receipt_handle="", deleted_at=None)]


def test_an_older_backup_comes_back_too() -> None:
    told = json.loads(OLD)
    another = json.dumps(told | {"message_id": "another"})
    [first, second] = read_backup(f"{OLD}\n{another}\n".encode())

    assert replace(second, message_id=first.message_id) == first
    assert (first.queue, first.body, first.attributes["raw"]["BinaryValue"]) == ("undelivered", "\u2603 {", b"\0\1\xff")
    assert first.trace_header is None


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another queue": ({"queue": "joins"}, "queue: Input should be 'dead letters' or 'undelivered'"),
    "a queue that is none": ({"queue": None}, "queue: "),
    "no zone": ({"sent_at": "2026-11-24T11:00:00"}, "sent_at: "),
    "seconds since 1970": ({"sent_at": 1795521600}, "sent_at: "),
    "a date before SQS": ({"sent_at": "0001-01-01T00:00:00Z"}, "sent_at: "),
    "a count that is a text": ({"receives": "2"}, "receives: "),
    "a count below zero": ({"receives": -1}, "receives: "),
    "a count without end": ({"receives": 10**30}, "receives: "),
    "no body": ({"body": ""}, "body: "),
    "a body that is none": ({"body": {}}, "body: "),
    "a body that SQS refuses": ({"body": "\x00"}, "body: "),
    "a body too long": ({"body": "x" * 1_048_577}, "body: "),
    "a body too long in bytes": (
        {"body": "\u2603" * 400_000},
        "body and attributes are larger than SQS's limit of 1,048,576 bytes",
    ),
    "eleven attributes": (
        {"attributes": {f"a{n}": {"DataType": "String", "StringValue": "x"} for n in range(11)}},
        "attributes: ",
    ),
    "an id that is an account's": ({"message_id": "to-3456-7890-1234"}, "message_id: is not a message id of SQS"),
    "a number that is none": (
        {"attributes": {"a": {"DataType": "Number", "StringValue": "abc"}}},
        "attributes.a: Value error, must be a number",
    ),
    "an attribute that is none": ({"attributes": {"a": "x"}}, "attributes.a: "),
    "an attribute of AWS's": (
        {"attributes": {"AWS.x": {"DataType": "String", "StringValue": "x"}}},
        "attributes.AWS.x",
    ),
    "an attribute without a value": ({"attributes": {"a": {"DataType": "String"}}}, "attributes.a: "),
    "an empty value": ({"attributes": {"a": {"DataType": "String", "StringValue": ""}}}, "attributes.a."),
    "another type's value": ({"attributes": {"a": {"DataType": "Binary", "StringValue": "x"}}}, "attributes.a: "),
    "no type": ({"attributes": {"a": {"DataType": "Text", "StringValue": "x"}}}, "attributes.a."),
    "no hexadecimal": ({"attributes": {"a": {"DataType": "Binary", "BinaryValue": "xyz"}}}, "attributes.a"),
    "an id without end": ({"message_id": "m" * 129}, "message_id: "),
    "an id with escapes": ({"message_id": "\x1b[2J"}, "message_id: "),
    "no trace header": ({"trace_header": "a\nb"}, "trace_header: "),
    "a field too many": ({"receipt": "r"}, "receipt: "),
}


@pytest.mark.parametrize(("change", "rule"), BAD.values(), ids=BAD)
def test_a_line_that_is_no_backup_is_told_with_its_number_and_rule_and_nothing_is_restored(
    change: dict[str, Any], rule: str
) -> None:
    tool = operator_cli()
    key = "backups/2026/11/24/x.jsonl"
    tool.bucket.objects[key] = f"{OLD}\n{OLD}\n{json.dumps(LINE | change)}".encode()

    done = tool.run("restore", key, "--confirm", "--reason", "x")

    message = str(done.exception)
    assert f"{key} is not a backup of `drop` or `edit`: line 3: {rule}" in message
    assert "Nothing was restored" in message
    assert len(message) < 1000
    assert tool.queues.messages == []
    assert tool.bucket.audit_records == []


@pytest.mark.parametrize("text", [b"", b"\n", b"{", b"[]", b"\xff", b"null", b"[" * 100_000, b'{"body": "\\ud800"}'])
def test_what_is_no_json_of_ours_is_no_backup(text: bytes) -> None:
    with pytest.raises(BackupError, match="line 1: "):
        read_backup(text)


@pytest.mark.parametrize("day", ["2026/99/99", "0001/01/01", "9999/12/31", "x"])
def test_whatever_day_a_key_names_acts_are_looked_for_within_bounds(day: str) -> None:
    tool = operator_cli()
    tool.bucket.objects[f"backups/{day}/x.jsonl"] = OLD.encode()

    done = tool.run("restore", f"backups/{day}/x.jsonl", "--confirm", "--reason", "x")

    assert done.exit_code == 0, done.exception
    assert [each.body for each in tool.queues.messages] == ["\u2603 {"]


@pytest.mark.parametrize(
    "double",
    [
        OLD[:-1] + ', "body": "another"}',
        OLD[:-1] + ', "queue": "dead letters"}',
        OLD.replace('"attributes": {', '"attributes": {"raw": {"DataType": "String", "StringValue": "x"}, '),
    ],
)
def test_a_line_that_says_something_twice_is_no_backup(double: str) -> None:
    with pytest.raises(BackupError, match="line 1: an object has two values of one name"):
        read_backup(double.encode())


def test_a_letter_stands_in_a_backup_once() -> None:
    with pytest.raises(BackupError, match="line 2: message_id is that of line 1"):
        read_backup(f"{OLD}\n{OLD}\n".encode())
