"""One way to the screen: whatever stands anywhere, the terminal is told nothing but text."""

from __future__ import annotations

import io
import json
import unicodedata
from dataclasses import replace
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.markup import render as markup

from handlers.core.errors import PermanentError
from handlers.operate.__main__ import cli
from handlers.operate.errors import OperateError
from handlers.operate.output import CleanConsole, clean, plain
from schemas.outcome import Fault, OutcomeStatus
from tests.fake_queues import dead_letter, outcome
from tests.fakes import ACCOUNT, NOON
from tests.operator_cli import OperatorCli, operator_cli

ACTING: Final = ("--confirm", "--reason", "x")
NASTY: Final = (
    "\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\x08", "\x0b", "\r", "\x7f", "\x85", "\u202e", "\u2066", "\u200f",
    "\u061c", "\u2028", "\ufeff", "\ue000", "\U000e0041", "[bold]", "[/]", ":smile:", "[link=x]", "\t", "\n",
)  # fmt: skip
FOREIGN: Final = st.lists(st.sampled_from(NASTY) | st.text("ab1-_", max_size=4), min_size=1, max_size=6).map("".join)
#: Characters that turn the direction of reading (https://www.unicode.org/reports/tr9/).
TURNING: Final = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def obeyed(text: str) -> set[str]:
    """Return what of a text a terminal obeys."""
    return {
        each
        for each in text
        if (unicodedata.category(each).startswith("C") and each != "\n")
        or unicodedata.bidirectional(each) in TURNING
        or each in "\u200e\u200f\u061c\u2028\u2029"
    }


def filled(nasty: str) -> OperatorCli:
    """Return an office where everything that others may write is that."""
    event = json.loads(dead_letter(1).body)
    event["detail"]["eventName"] = nasty[:256]
    names = {"ERROR_CODE": nasty, "ERROR_MESSAGE": nasty, "FIRST_SEEN": nasty, "ATTEMPTS": nasty, nasty: nasty}
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in names.items()}
    known = replace(dead_letter(1), attributes=attributes)
    at = operator_cli(
        known,
        replace(known, body=json.dumps(event), message_id="m-2"),
        replace(known, body=nasty, message_id="m-3", queue="undelivered"),
        replace(known, body=nasty, message_id=f"m-4{nasty}"),
        refuses=["m-2"],
    )
    fault = Fault(code=nasty[:90], message=nasty)
    at.queues.rows[ACCOUNT, "event-1"] = [
        (NOON, outcome((ACCOUNT, "event-1"), OutcomeStatus.FAILED, fault=fault, event_name=nasty, evidence_key=nasty))
    ]
    at.queues.spoilt = [(ACCOUNT, nasty)]
    act = {
        "schema_version": "joinguard/act/1",
        "act_id": "a",
        "action": "redrive",
        "phase": "intended",
        "actor": {"value": "acct-" + "0" * 32, "key_version": nasty},
        "actor_id": nasty,
        "reason": nasty,
        "letters": [{"event_id": "event-1", "body_sha256": "0" * 64}],
        "recorded_at": NOON.isoformat(),
    }
    done = act | {"phase": "done", "ended": "completed", "results": {nasty: 1}}
    at.bucket.objects = {
        "acts/2026/11/24/a/intended.json": json.dumps(act).encode(),
        "acts/2026/11/24/a/done.json": json.dumps(done).encode(),
        f"evidence/2026/11/24/event-1/{nasty}.json": nasty.encode(errors="replace"),
        nasty: nasty.encode(errors="replace"),
    }
    at.organizations.error = PermanentError(Fault(code=nasty[:90], message=nasty))
    return at


COMMANDS: Final[tuple[tuple[str, ...], ...]] = (
    ("list",),
    ("list", "--by", "code"),
    ("list", "--by", "event"),
    ("show", "m-1"),
    ("show", "m-3"),
    ("redrive", "--all", "--force", *ACTING),
    ("redrive",),
    ("redrive", "--id", "{}", *ACTING),
    ("drop", "--code", "{}"),
    ("drop", "--id", "m-2", *ACTING),
    ("restore", "{}"),
    ("edit", "m-1"),
    ("outcome", ACCOUNT),
    ("outcome", "{}"),
    ("outcomes",),
    ("outcomes", "--status", "{}"),
    ("enforce", ACCOUNT),
    ("enforce", "--event", "{}"),
    ("list", "--older-than", "{}"),
    ("redrive", "--rate", "{}"),
    ("list", "--{}"),
    ("{}",),
    ("show",),
)


def run(at: OperatorCli, *arguments: str, color: bool = False) -> str:
    """Run a command as the group does; return all that it wrote."""
    runner = CliRunner()
    edits = {"EDITOR": "sed -i s/event-1/event-9/"}
    done = runner.invoke(cli, list(arguments), obj=at.context, env=edits, color=color)
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return done.output


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["people", "machines"])
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@settings(max_examples=6)
@example("".join(NASTY))
@given(FOREIGN)
def test_no_command_writes_what_a_terminal_obeys(
    arguments: tuple[str, ...], as_json: tuple[str, ...], nasty: str
) -> None:
    # What the system hands to a process holds no null, and nothing that begins like an option is an argument.
    argument = "x" + nasty.replace("\x00", "")

    written = run(filled(nasty), *(each.format(argument) for each in arguments), *as_json)

    assert written
    assert not obeyed(written)
    if as_json and "{" in written:
        assert written.isascii() or not written.startswith("{")


@pytest.mark.parametrize("arguments", [("list",), ("show", "m-1"), ("redrive",), ("outcome", ACCOUNT)], ids=" ".join)
def test_nothing_that_others_wrote_is_taken_for_markup(arguments: tuple[str, ...]) -> None:
    written = "".join(run(filled("[bold]x[/bold] :smile: [link=y]z[/link]"), *arguments).split())

    assert "[bold]x[/bold]:smile:[link=y]z[/link]" in written


@given(FOREIGN)
def test_colours_are_rich_s_own_and_the_only_codes(nasty: str) -> None:
    file = io.StringIO()
    screen = CleanConsole(file=file, force_terminal=True, color_system="standard", width=40)

    screen.print(plain(nasty, "red"))
    screen.print(nasty, style="green")
    screen.print(f"{nasty}: {nasty}")

    written = file.getvalue()
    assert "\x1b[31m" in written or not clean(nasty).strip()
    for code in ("\x1b[31m", "\x1b[32m", "\x1b[0m"):
        written = written.replace(code, "")
    assert not obeyed(written)


@pytest.mark.parametrize(
    "error", [OperateError, click.ClickException, click.UsageError], ids=lambda each: each.__name__
)
def test_errors_are_told_in_a_clean_text(error: type[Exception]) -> None:
    def fail() -> Any:
        raise error("told \x1b[2J by \u202eothers")

    done = CliRunner().invoke(cli, ["list"], obj=fail)

    assert "told \ufffd[2J by \ufffdothers" in done.output
    assert done.exit_code == (2 if error is click.UsageError else 1)


def test_rich_would_take_it_for_markup() -> None:
    """What the tests above hold off is real."""
    assert markup("[bold]x[/bold]").plain == "x"
