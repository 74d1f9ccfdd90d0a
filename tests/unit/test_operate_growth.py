"""The operator's tool does no more than twice the work for twice the text, whatever the text is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from handlers.core.backups import BackupError, backup, restored
from handlers.core.letters import DeadLetter
from handlers.core.ports import Message
from handlers.core.reasons import with_reason
from handlers.core.summary import KEYS, summarize
from handlers.operate.differences import differences
from handlers.operate.screens import sheet
from handlers.operate.terminal import show
from schemas.outcome import Fault
from tests.desk import letter
from tests.fakes import ACCOUNT, NOON
from tests.office import Names, office

SMALL: Final = 24_000
LARGER: Final = 8
#: Linear work is 8 times as much, and squared work 64; what is read in caches and not at first, in between.
MOST: Final = 24
#: Less is noise.
LEAST: Final = 0.004

SHAPES: Final[Mapping[str, Callable[[int], str]]] = {
    "one letter": lambda n: "x" * n,
    "words": lambda n: "word " * (n // 5),
    "lines": lambda n: "a\n" * (n // 2),
    "different lines": lambda n: "\n".join(map(str, range(n // 6))),
    "few lines, often": lambda n: "\n".join("abcdefgh"[number * number % 8] for number in range(n // 2)),
    "brackets": lambda n: "[" * n,
    "nested": lambda n: "[" * (n // 2) + "]" * (n // 2),
    "an array": lambda n: json.dumps(list(range(n // 7))),
    "an array deep inside": lambda n: "[" * 500 + json.dumps(list(range(n // 7))) + "]" * 500,
    "an object": lambda n: json.dumps({str(number): "v" for number in range(n // 14)}),
    "escapes": lambda n: "\x1b[2J" * (n // 4),
    "policies": lambda n: "p-" * (n // 2),
    "a policy": lambda n: "p-" + "a" * n,
    "digits": lambda n: "1" * n,
    "digits and dashes": lambda n: "1-" * (n // 2),
    "addresses": lambda n: "a@" * (n // 2),
    "ARNs": lambda n: "arn:" * (n // 4),
    "percents": lambda n: "%25" * (n // 3),
    "blanks": lambda n: " " * n,
    "other scripts": lambda n: "\u4e2d" * (n // 3),
    "quotes": lambda n: '"' * n,
    "dates": lambda n: "2026-11-24T12:00:00Z" * (n // 20),
}


def written(text: str, name: str = "ERROR_MESSAGE") -> DeadLetter:
    attributes = {each: {"DataType": "String", "StringValue": text} for each in (name, "ERROR_CODE", "FIRST_SEEN")}
    return letter(1, body=text, attributes=attributes)


def all_of(one: DeadLetter) -> Any:  # noqa: ANN401 - all sorts of answers
    return one.code, one.why, one.policies, one.event, one.stuck, one.likeness, one.digest(Names().digest), one.weight


def shown(text: str) -> None:
    with show.capture():
        sheet("title", {"body": text, "attributes": [f"a {text}"]})


def brought_back(text: str) -> None:
    for line in (backup(written(text)), text):
        try:
            restored(line.encode())
        except BackupError:
            continue


def dead(text: str) -> None:
    ten = {f"a{number}": {"DataType": "String", "StringValue": text[number::10] or "x"} for number in range(9)}
    carried = {"CARRIED": {"DataType": "String", "StringValue": text or "x"}}
    message = Message(text, "m", "r", 1, NOON, ten | carried)
    with_reason(message, Fault(code="X", message="y" * 900))


FUNCTIONS: Final[Mapping[str, Callable[[str], Any]]] = {
    "a letter": lambda text: all_of(written(text)),
    "groups": lambda text: [summarize([written(text), letter(2)], by) for by in KEYS],
    "a difference at the end": lambda text: differences(text, f"{text}x"),
    "a difference in all lines": lambda text: differences(text, text.replace("a", "b").replace("1", "2")),
    "a difference in order": lambda text: differences(text, "\n".join(reversed(text.split("\n")))),
    "a difference to nothing": lambda text: differences(text, ""),
    "a backup": brought_back,
    "a reason": dead,
    "a screen": shown,
    "a redriven letter": lambda text: replace(written(text), body=ACCOUNT).redriven(),
}


def work(function: Callable[[str], Any], text: str, *, runs: int) -> float:
    """Return the least processor time of several runs: what the machine does besides only adds to it."""
    least = float("inf")
    for _ in range(runs):
        begin = time.process_time()
        function(text)
        least = min(least, time.process_time() - begin)
    return least


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_work_grows_as_the_text_does(function: Callable[[str], Any]) -> None:
    """No time is asserted, but how many times as much work eight times as much text is."""
    grown = {}
    for shape, text in SHAPES.items():
        small = max(LEAST, work(function, text(SMALL), runs=3))
        grown[shape] = work(function, text(SMALL * LARGER), runs=2) / small

    assert not {shape: times for shape, times in grown.items() if times > MOST}


def test_a_difference_is_told_where_it_is() -> None:
    old = letter(1).body

    assert [line[0] for line in differences(old, old.replace("event-1", "event-9")) if line[0] in "+-"] == ["-", "+"]
    assert differences(old, old) == []
    assert differences('{"a": 1}', '{"a":  1}') == ['-{"a": 1}', '+{"a":  1}']
    assert differences("a\nb\nc\nd\ne\nf", "a\nb\nc\nX\ne\nf") == [" b", " c", "-d", "+X", " e", " f"]
    long = "x" * 500_000
    [removed, added] = differences(f"{long}a{long}", f"{long}b{long}")
    assert removed.startswith(f"-…{'x' * 100}a")
    assert added.startswith(f"+…{'x' * 100}b")
    assert max(map(len, (removed, added))) < 600
    assert len(differences("a\n" * 100_000, "b\n" * 100_000)) == 401


def test_a_value_that_nobody_reads_on_a_screen_is_cut_and_says_so() -> None:
    at = office(letter(1, body="x" * 100_000))

    assert "83,616 more characters; --json tells all" in " ".join(at.run("show", "m-1").output.split())
    assert json.loads(at.run("show", "m-1", "--json").stdout)["body"] == "x" * 100_000
