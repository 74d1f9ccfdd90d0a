"""No command prints anything that a terminal would interpret: no control characters, no markup of others."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import unicodedata
from dataclasses import replace
from typing import Final

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
from tests.operator_cli import CONFIRM, OperatorCli, operator_cli

HOSTILE: Final = (
    "\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\x08", "\x0b", "\r", "\x7f", "\x85", "\u202e", "\u2066", "\u200f",
    "\u061c", "\u2028", "\ufeff", "\ue000", "\U000e0041", "[bold]", "[/]", ":smile:", "[link=x]", "\t", "\n",
)  # fmt: skip
FOREIGN: Final = st.lists(st.sampled_from(HOSTILE) | st.text("ab1-_", max_size=4), min_size=1, max_size=6).map("".join)
#: Characters that change the direction of text (https://www.unicode.org/reports/tr9/).
BIDIRECTIONAL: Final = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def control_characters(text: str) -> set[str]:
    """Return the characters of a text that a terminal would interpret."""
    return {
        each
        for each in text
        if (unicodedata.category(each).startswith("C") and each != "\n")
        or unicodedata.bidirectional(each) in BIDIRECTIONAL
        or each in "\u200e\u200f\u061c\u2028\u2029"
    }


def tool_with(hostile: str) -> OperatorCli:
    """Return a tool with this text in everything that others can write."""
    event = json.loads(dead_letter(1).body)
    event["detail"]["eventName"] = hostile[:256]
    names = {
        "ERROR_CODE": hostile,
        "ERROR_MESSAGE": hostile,
        "FIRST_SEEN": hostile,
        "ATTEMPTS": hostile,
        hostile: hostile,
    }
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in names.items()}
    message = replace(dead_letter(1), attributes=attributes)
    tool = operator_cli(
        message,
        replace(message, body=json.dumps(event), message_id="m-2"),
        replace(message, body=hostile, message_id="m-3", queue="undelivered"),
        replace(message, body=hostile, message_id=f"m-4{hostile}"),
        refused_ids=["m-2"],
    )
    fault = Fault(code=hostile[:90], message=hostile)
    tool.queues.rows[ACCOUNT, "event-1"] = [
        (
            NOON,
            outcome((ACCOUNT, "event-1"), OutcomeStatus.FAILED, fault=fault, event_name=hostile, evidence_key=hostile),
        )
    ]
    tool.queues.unreadable = [(ACCOUNT, hostile)]
    intended = {
        "schema_version": "joinguard/act/1",
        "act_id": "a",
        "action": "redrive",
        "phase": "intended",
        "actor": {"value": "acct-" + "0" * 32, "key_version": hostile},
        "actor_id": hostile,
        "reason": hostile,
        "letters": [{"event_id": "event-1", "body_sha256": "0" * 64}],
        "recorded_at": NOON.isoformat(),
    }
    done = intended | {"phase": "done", "ended": "completed", "results": {hostile: 1}}
    tool.bucket.objects = {
        "acts/2026/11/24/a/intended.json": json.dumps(intended).encode(),
        "acts/2026/11/24/a/done.json": json.dumps(done).encode(),
        f"evidence/2026/11/24/event-1/{hostile}.json": hostile.encode(errors="replace"),
        hostile: hostile.encode(errors="replace"),
    }
    tool.organizations.error = PermanentError(Fault(code=hostile[:90], message=hostile))
    return tool


COMMANDS: Final[tuple[tuple[str, ...], ...]] = (
    ("list",),
    ("list", "--by", "code"),
    ("list", "--by", "event"),
    ("show", "m-1"),
    ("show", "m-3"),
    ("redrive", "--all", "--force", *CONFIRM),
    ("redrive",),
    ("redrive", "--id", "{}", *CONFIRM),
    ("drop", "--code", "{}"),
    ("drop", "--id", "m-2", *CONFIRM),
    ("restore", "{}"),
    ("edit", "m-1"),
    ("outcome", ACCOUNT),
    ("outcome", "{}"),
    ("outcomes",),
    ("outcomes", "--csv"),
    ("actions",),
    ("close", "--account", ACCOUNT),
    ("close", "--code", "{}"),
    ("backups",),
    ("outcomes", "--status", "{}"),
    ("enforce", ACCOUNT),
    ("enforce", "--event", "{}"),
    ("list", "--older-than", "{}"),
    ("redrive", "--rate", "{}"),
    ("list", "--{}"),
    ("{}",),
    ("show",),
)


def run(tool: OperatorCli, *arguments: str, color: bool = False) -> str:
    """Run a command of the group; return everything that it printed."""
    runner = CliRunner()
    edits = {"EDITOR": "sed -i s/event-1/event-9/"}
    result = runner.invoke(cli, list(arguments), obj=tool.context, env=edits, color=color)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result.output


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "JSON"])
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@settings(max_examples=6)
@example("".join(HOSTILE))
@given(FOREIGN)
def test_no_command_prints_a_control_character(
    arguments: tuple[str, ...], as_json: tuple[str, ...], hostile: str
) -> None:
    # An argument of a process holds no null character; the x keeps it from beginning like an option.
    argument = "x" + hostile.replace("\x00", "")

    printed = run(tool_with(hostile), *(each.format(argument) for each in arguments), *as_json)

    assert printed
    assert not control_characters(printed)
    if as_json and "{" in printed:
        assert printed.isascii() or not printed.startswith("{")


@pytest.mark.parametrize("arguments", [("list",), ("show", "m-1"), ("redrive",), ("outcome", ACCOUNT)], ids=" ".join)
def test_markup_in_foreign_text_is_printed_as_text(arguments: tuple[str, ...]) -> None:
    printed = "".join(run(tool_with("[bold]x[/bold] :smile: [link=y]z[/link]"), *arguments).split())

    assert "[bold]x[/bold]:smile:[link=y]z[/link]" in printed


@given(FOREIGN)
def test_the_only_control_codes_are_richs_own_colours(hostile: str) -> None:
    file = io.StringIO()
    console = CleanConsole(file=file, force_terminal=True, color_system="standard", width=40)

    console.print(plain(hostile, "red"))
    console.print(hostile, style="green")
    console.print(f"{hostile}: {hostile}")

    printed = file.getvalue()
    assert "\x1b[31m" in printed or not clean(hostile).strip()
    for code in ("\x1b[31m", "\x1b[32m", "\x1b[0m"):
        printed = printed.replace(code, "")
    assert not control_characters(printed)


@pytest.mark.parametrize(
    "error", [OperateError, click.ClickException, click.UsageError], ids=lambda each: each.__name__
)
def test_error_messages_are_printed_without_control_characters(error: type[Exception]) -> None:
    def fail() -> None:
        raise error("an error \x1b[2J of \u202eothers")

    result = CliRunner().invoke(cli, ["list"], obj=fail)

    assert "an error \ufffd[2J of \ufffdothers" in result.output
    assert result.exit_code == (2 if error is click.UsageError else 1)


def test_rich_interprets_markup() -> None:
    """Without this, the tests of markup above could not fail."""
    assert markup("[bold]x[/bold]").plain == "x"


def test_a_pipe_is_as_wide_as_the_terminal_of_stderr() -> None:
    """`show | head` on a terminal of 80 columns would otherwise break each line."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    program = "from handlers.operate.output import stdout; print(stdout.width)"

    def width(stderr: int) -> str:
        return subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-c", program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, check=True
        ).stdout.decode()

    assert width(theirs) == "80\n"
    assert width(subprocess.DEVNULL) == "110\n"
    os.close(ours)
    os.close(theirs)
