"""Reading foreign text takes linear time: eight times the text takes far less than 64 times as long.

The tests compare CPU times of this thread, each the minimum of several runs, so that other processes do not matter.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from contextlib import suppress
from time import thread_time
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from handlers.aws.errors import organizations_errors, service_errors
from handlers.aws.sqs_worker import SqsDeadLetters
from handlers.core.errors import JoinguardError, fault
from handlers.core.joins.ports import Message
from handlers.core.redaction import holds_account_id, redact, redact_words, safe_code
from handlers.core.redrive.backup import BackupError, backup_line, read_backup
from handlers.core.redrive.dead_letter import DeadLetter, edited
from handlers.core.redrive.selection import Filter
from handlers.core.redrive.summary import KEYS, summarize
from handlers.operate import tables
from handlers.operate.differences import differences
from handlers.operate.output import clean, stderr, stdout
from schemas.intake import InvalidEventError, read_event
from tests.fake_queues import dead_letter
from tests.fakes import MANAGEMENT, NOON, FakePseudonyms, Steps
from tests.messages import (
    ACCOUNT,
    announced,
    created,
    departed,
    detached,
    invited,
    left,
    moved,
    requested,
    resource,
    tagged,
)

#: Characters of the short text; the long one has eight times as many.
SIZE: Final = 2_000
TIMES: Final = 8
#: The allowed ratio. It is 8 in linear time, and 64 in quadratic time.
LIMIT: Final = 24
#: Seconds, below which the clock is too coarse. Bounded work stays below it for both texts.
MINIMUM: Final = 0.002


def repeated(text: str) -> Callable[[int], str]:
    return lambda size: (text * (size // len(text) + 1))[:size]


#: Long texts without a match, beginnings without an end, alternating separators and digits.
TEXTS: Final = {
    "letters": repeated("a"),
    "spaces": repeated(" "),
    "digits": repeated("1"),
    "digits and dashes": repeated("1-"),
    "eleven digits": repeated("1 2 3 4 5 6 7 8 9 0 1 x"),
    "account ids": repeated("345678901234 "),
    "at signs": repeated("@"),
    "letters and at signs": repeated("a@"),
    "addresses": repeated('"A B" <a@b.c>, '),
    "brackets and at signs": repeated("A <a@"),
    "quotes": repeated('"'),
    "starts of ARNs": repeated("arn:"),
    "starts of starts of ARNs": repeated("arn:aws-"),
    "colons": repeated(":"),
    "percent signs": repeated("%"),
    "percent signs in percent": repeated("%25"),
    "one percent sign encoded many times": lambda size: "%" + "25" * (size // 2),
    "encoded bytes": repeated("%E4%BD"),
    "ampersands": repeated("&#0"),
    "an entity with zeros": lambda size: "&#" + "0" * size,
    "backslashes": repeated("\\"),
    "escapes": repeated("\\u0"),
    "an escape with zeros": lambda size: "\\u{" + "0" * size,
    "fullwidth digits": repeated("\uff11"),
    "invisible characters": repeated("1\u200b"),
    "policies": repeated("p-"),
    "dates": repeated("2026-11-24T12:00:00."),
    "fields of events": repeated('"eventID": "a"'),
    "beginnings of fields": repeated('"eventID" '),
    "quoted accounts": repeated('"type":"ACCOUNT","id":"1"'),
    "uuids": repeated("12345678-1234-4234-8234-1234"),
    "short lines": repeated("a\n"),
    "lines that repeat in order": repeated("".join(f"{number}\n" for number in range(120))),
    "lines that repeat": lambda size: "\n".join("abcdefgh"[number * number % 8] for number in range(size // 2)),
    "lines that do not repeat": lambda size: "\n".join(map(str, range(size // 6))),
    "control characters": repeated("\x1b[31m"),
}


def entries(size: int) -> int:
    """Return the number of entries of about twenty characters in a text of this size."""
    return size // 20


def handshake(size: int) -> str:
    return json.dumps(
        invited(resources=[resource("ACCOUNT", ACCOUNT)] * entries(size), parties=[{"type": []}] * entries(size))
    )


def duplicate_keys(size: int) -> str:
    pairs = ",".join(f'"key{number // 2}":{{"id":{number}}}' for number in range(entries(size)))
    return json.dumps(announced()).replace('"joinedMethod"', f'"x":{{{pairs}}},"joinedMethod"')


#: Bodies that are JSON or nearly JSON.
BODIES: Final[dict[str, Callable[[int], str]]] = {
    "deep lists": repeated("["),
    "deep objects": repeated('{"a":'),
    "a list in deep lists": lambda size: "[" * 500 + json.dumps(list(range(entries(size)))) + "]" * 500,
    "lists that close": lambda size: "[" * (size // 2) + "]" * (size // 2),
    "flat lists": lambda size: "[" + "[]," * entries(size) + "[]]",
    "strings that do not end": repeated('"\\"'),
    "numbers": lambda size: "[" + "1," * (size // 2) + "1]",
    "one number": repeated("7"),
    "a string in a string": lambda size: json.dumps(json.dumps("\\" * (size // 4))),
    "many keys": lambda size: json.dumps(announced(serviceEventDetails={f"key{n}": n for n in range(entries(size))})),
    "many keys of a departure": lambda size: json.dumps(
        departed(**{f"departed{n}": n for n in range(entries(size))}, accountId=None)
    ),
    "a long caller of a departure": lambda size: json.dumps(left()).replace("someone", "1" * size),
    "a long policy and a long caller": lambda size: json.dumps(detached(policy_id="p-" + "a" * size)).replace(
        "arn:aws:sts:", "arn:" * (size // 4)
    ),
    "one key repeated": lambda size: '{"source":1' + ',"source":1' * entries(size) + "}",
    "many duplicate keys": duplicate_keys,
    "nested details": lambda size: json.dumps(announced(serviceEventDetails=[[[{"a": {"b": "c"}}]]] * entries(size))),
    "long values": lambda size: json.dumps(announced(x=["account" * 9] * entries(size))),
    "many accounts": lambda size: json.dumps(announced(serviceEventDetails={"a": [ACCOUNT] * entries(size)})),
    "accounts in one ARN": lambda size: json.dumps(
        announced(serviceEventDetails={"a": "arn:" + f"{ACCOUNT}:" * entries(size)})
    ),
    "resources and parties": handshake,
    "a long name": lambda size: json.dumps(created() | {"detail": created()["detail"] | {"eventName": "x" * size}}),
    "a long id": lambda size: json.dumps(created(accountId="2" * size)),
    "a long account": lambda size: json.dumps(moved(accountId="2" * size)),
    "a long resource": lambda size: json.dumps(tagged(resourceId="ou-" + "2" * size + "!")),
    "many tags": lambda size: json.dumps(tagged(tags=[{"key": "a", "value": "b"}] * entries(size))),
    "a long time": lambda size: json.dumps(invited() | {"time": "2026-11-24T12:00:00." + "0" * size + "Z"}),
    "records": lambda size: json.dumps({"Records": [{"eventName": "x"}] * entries(size)}),
    "fields of a request": lambda size: json.dumps(requested() | {f"key{n}": n for n in range(entries(size))}),
    "unknown keys": lambda size: json.dumps({f"key{n}": n for n in range(entries(size))}),
}


def intake(text: str) -> None:
    for body in (text, text.encode(errors="surrogatepass"), json.dumps(text), json.dumps(invited(state=text))):
        with suppress(InvalidEventError):
            read_event(body, management_account_id=MANAGEMENT, sent_at=NOON)


def dead_letter_of(text: str) -> DeadLetter:
    names = ("ERROR_CODE", "ERROR_MESSAGE", "REDRIVES", "FIRST_SEEN", "OTHER")
    attributes = {name: {"DataType": "String", "StringValue": text} for name in names}
    return dead_letter(1, body=text, attributes=attributes)


def dead_letters(text: str) -> None:
    message = dead_letter_of(text)
    message.digest(FakePseudonyms(Steps()).digest)
    assert message.first_seen
    assert message.legible
    assert message.fingerprint
    assert message.code
    assert message.size_bytes > 0
    assert message.cannot_redrive is None
    assert len(message.policies) <= len(text)
    Filter(codes=[text], ids=[text], events=[text]).matches(message, NOON)
    for by in KEYS:
        summarize([dead_letter_of(text)], by)


def backups(text: str) -> None:
    for line in (backup_line(dead_letter_of(text)), text):
        with suppress(BackupError):
            read_backup(line.encode(errors="surrogatepass"))


def editing(text: str) -> None:
    with suppress(InvalidEventError):
        edited(dead_letter(1), text)


def queues(text: str) -> None:
    client = SimpleNamespace(send_message=lambda **_: None)
    names = ("FIRST_SEEN", "ATTEMPTS", "REDRIVES", "CARRIED", *map(str, range(6)))
    attributes = {name: {"DataType": "String", "StringValue": text} for name in names}
    message = Message(text, "m-1", "r-1", 1, NOON, attributes)
    SqsDeadLetters(cast("Any", client), "url").send(message, fault(text, text, text))


def faults(text: str) -> None:
    answer: Any = {"Error": {"Code": text, "Message": text}, "Reason": text}
    for error in (ClientError(answer, "AttachPolicy"), EndpointConnectionError(endpoint_url=text)):
        for translated in (organizations_errors, lambda: service_errors("SQS")):
            with pytest.raises(JoinguardError), translated():
                raise error


def output(text: str) -> None:
    with stdout.capture(), stderr.capture():
        clean(text)
        tables.print_table(text, ["a", "b"], [[text, text]])
        tables.print_fields(text, {"a": text})
        stderr.print(text)


def difference(text: str) -> None:
    lines = text.split("\n")
    for other in (f"{text}x", text.replace("a", "b", 3), text.replace("a", "b"), "\n".join(lines[::-1]), ""):
        differences(text, other)
        differences(other, text)


READERS: Final[dict[str, Callable[[str], object]]] = {
    "intake": intake,
    "redact": redact,
    "redact_words": redact_words,
    "holds_account_id": holds_account_id,
    "safe_code": safe_code,
    "dead letters": dead_letters,
    "backups": backups,
    "editing": editing,
    "queues": queues,
    "faults": faults,
    "output": output,
    "difference": difference,
}


def cpu_seconds(reader: Callable[[str], object], text: str, runs: int) -> float:
    """Return the minimum CPU time of reading a text."""
    times = []
    gc.disable()
    try:
        for _ in range(runs):
            start = thread_time()
            reader(text)
            times.append(thread_time() - start)
    finally:
        gc.enable()
    return min(times)


def assert_linear(reader: Callable[[str], object], made: Callable[[int], str]) -> None:
    short = cpu_seconds(reader, made(SIZE), runs=3)
    long = cpu_seconds(reader, made(SIZE * TIMES), runs=1)
    if long > LIMIT * max(short, MINIMUM):
        # Another process may have disturbed the only run.
        long = cpu_seconds(reader, made(SIZE * TIMES), runs=4)

    assert long <= LIMIT * max(short, MINIMUM), f"{short:.3f} s, and {long:.3f} s for {TIMES} times the text"


@pytest.mark.parametrize("made", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_any_text_is_read_in_linear_time(reader: Callable[[str], object], made: Callable[[int], str]) -> None:
    assert_linear(reader, made)


@pytest.mark.parametrize("made", BODIES.values(), ids=BODIES)
def test_any_body_is_read_in_linear_time(made: Callable[[int], str]) -> None:
    assert_linear(intake, made)


@pytest.mark.parametrize("made", BODIES.values(), ids=BODIES)
def test_any_two_bodies_are_compared_in_linear_time(made: Callable[[int], str]) -> None:
    assert_linear(difference, made)
