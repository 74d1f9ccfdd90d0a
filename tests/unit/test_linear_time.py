"""Work on foreign text grows no faster than the text: eight times the text, far less than 64 times the work.

What is compared is CPU time of this thread, the least of several runs, so that what else runs does not matter.
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
from tests.messages import ACCOUNT, announced, created, invited, requested, resource

#: So many characters, and eight times as many.
SIZE: Final = 2_000
TIMES: Final = 8
#: Linear work comes to 8, quadratic to 64.
LIMIT: Final = 24
#: Seconds; below that a clock measures nothing. What is bounded stays below it in both.
LEAST: Final = 0.002


def repeated(text: str) -> Callable[[int], str]:
    return lambda size: (text * (size // len(text) + 1))[:size]


#: Long runs without a match, starts without an end, separators and digits in turn.
TEXTS: Final = {
    "letters": repeated("a"),
    "blanks": repeated(" "),
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
    "one percent sign many times over": lambda size: "%" + "25" * (size // 2),
    "octets": repeated("%E4%BD"),
    "ampersands": repeated("&#0"),
    "zeros of an entity": lambda size: "&#" + "0" * size,
    "backslashes": repeated("\\"),
    "escapes": repeated("\\u0"),
    "braces": lambda size: "\\u{" + "0" * size,
    "wide digits": repeated("\uff11"),
    "unseen characters": repeated("1\u200b"),
    "policies": repeated("p-"),
    "dates": repeated("2026-11-24T12:00:00."),
    "uuids": repeated("12345678-1234-4234-8234-1234"),
    "line ends": repeated("a\n"),
    "lines in turn": repeated("".join(f"{number}\n" for number in range(120))),
    "lines that come again": lambda size: "\n".join("abcdefgh"[number * number % 8] for number in range(size // 2)),
    "lines that do not": lambda size: "\n".join(map(str, range(size // 6))),
    "control characters": repeated("\x1b[31m"),
}


def part(size: int) -> int:
    """How many entries of about twenty characters make up a size."""
    return size // 20


def handshake(size: int) -> str:
    return json.dumps(
        invited(resources=[resource("ACCOUNT", ACCOUNT)] * part(size), parties=[{"type": []}] * part(size))
    )


def twice_each(size: int) -> str:
    pairs = ",".join(f'"key{number // 2}":{{"id":{number}}}' for number in range(part(size)))
    return json.dumps(announced()).replace('"joinedMethod"', f'"x":{{{pairs}}},"joinedMethod"')


#: Bodies that are JSON, or almost.
BODIES: Final[dict[str, Callable[[int], str]]] = {
    "deep lists": repeated("["),
    "deep objects": repeated('{"a":'),
    "a list deep inside": lambda size: "[" * 500 + json.dumps(list(range(part(size)))) + "]" * 500,
    "lists that close": lambda size: "[" * (size // 2) + "]" * (size // 2),
    "flat lists": lambda size: "[" + "[]," * part(size) + "[]]",
    "strings that do not end": repeated('"\\"'),
    "numbers": lambda size: "[" + "1," * (size // 2) + "1]",
    "one number": repeated("7"),
    "a text in a text": lambda size: json.dumps(json.dumps("\\" * (size // 4))),
    "many keys": lambda size: json.dumps(announced(serviceEventDetails={f"key{n}": n for n in range(part(size))})),
    "one key many times": lambda size: '{"source":1' + ',"source":1' * part(size) + "}",
    "many keys twice": twice_each,
    "nested details": lambda size: json.dumps(announced(serviceEventDetails=[[[{"a": {"b": "c"}}]]] * part(size))),
    "a long way down": lambda size: json.dumps(announced(x=["account" * 9] * part(size))),
    "many accounts": lambda size: json.dumps(announced(serviceEventDetails={"a": [ACCOUNT] * part(size)})),
    "accounts in one ARN": lambda size: json.dumps(
        announced(serviceEventDetails={"a": "arn:" + f"{ACCOUNT}:" * part(size)})
    ),
    "resources and parties": handshake,
    "a long name": lambda size: json.dumps(created() | {"detail": created()["detail"] | {"eventName": "x" * size}}),
    "a long id": lambda size: json.dumps(created(accountId="2" * size)),
    "a long time": lambda size: json.dumps(invited() | {"time": "2026-11-24T12:00:00." + "0" * size + "Z"}),
    "records": lambda size: json.dumps({"Records": [{"eventName": "x"}] * part(size)}),
    "fields of a request": lambda size: json.dumps(requested() | {f"key{n}": n for n in range(part(size))}),
    "keys of nothing known": lambda size: json.dumps({f"key{n}": n for n in range(part(size))}),
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
    one = dead_letter_of(text)
    one.digest(FakePseudonyms(Steps()).digest)
    assert one.first_seen
    assert one.fingerprint
    assert one.code
    assert one.size_bytes > 0
    assert one.cannot_redrive is None
    assert len(one.policies) <= len(text)
    Filter(codes=[text], ids=[text], events=[text]).matches(one, NOON)
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


def screen(text: str) -> None:
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
    "letters": dead_letters,
    "backups": backups,
    "editing": editing,
    "queues": queues,
    "faults": faults,
    "screen": screen,
    "difference": difference,
}


def work(reader: Callable[[str], object], text: str, runs: int) -> float:
    """Return the least seconds of CPU that reading a text takes."""
    spent = []
    gc.disable()
    try:
        for _ in range(runs):
            begun = thread_time()
            reader(text)
            spent.append(thread_time() - begun)
    finally:
        gc.enable()
    return min(spent)


def grows_with_the_text(reader: Callable[[str], object], made: Callable[[int], str]) -> None:
    few = work(reader, made(SIZE), runs=3)
    many = work(reader, made(SIZE * TIMES), runs=1)
    if many > LIMIT * max(few, LEAST):
        # What else runs may have had a hand in it: of more runs the least.
        many = work(reader, made(SIZE * TIMES), runs=4)

    assert many <= LIMIT * max(few, LEAST), f"{many:.3f} s for {TIMES} times what took {few:.3f} s"


@pytest.mark.parametrize("made", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_reading_any_text_grows_with_it(reader: Callable[[str], object], made: Callable[[int], str]) -> None:
    grows_with_the_text(reader, made)


@pytest.mark.parametrize("made", BODIES.values(), ids=BODIES)
def test_reading_any_body_grows_with_it(made: Callable[[int], str]) -> None:
    grows_with_the_text(intake, made)


@pytest.mark.parametrize("made", BODIES.values(), ids=BODIES)
def test_comparing_any_bodies_grows_with_them(made: Callable[[int], str]) -> None:
    grows_with_the_text(difference, made)
