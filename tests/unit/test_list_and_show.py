"""What `list` and `show` print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest

from handlers.core.errors import PermanentError, fault
from handlers.core.redrive.summary import KEYS
from handlers.operate import output
from infra.deploy.build import ROOT
from infra.local.waiting import HANGS_AFTER, until
from tests.fake_queues import dead_letter
from tests.fakes import NOON
from tests.operator_cli import CHANGE_EVENT_ID, CONFIRM, operator_cli


@pytest.mark.parametrize("by", KEYS)
def test_list_prints_markup_in_messages_as_text(by: str) -> None:
    event = json.loads(dead_letter().body)
    event["detail"]["eventName"] = "[/red]"
    tool = operator_cli(
        dead_letter(1, body=json.dumps(event), error_message="[bold]p-aaaaaaaa[/x] :smile:", code="[/red]")
    )

    result = tool.run("list", "--by", by)

    assert result.exit_code == 0, result.exception
    assert "[bold]p-aaaaaaaa[/x] :smile:" in result.output


def test_redacted_parts_of_an_error_message_are_marked() -> None:
    tool = operator_cli(dead_letter())
    tool.organizations.error = PermanentError(
        fault("AccessDeniedException", "arn:aws:iam::111111111111:user/x may not")
    )

    assert "unknown: Organizations does not answer: AccessDeniedException: [arn] may not" in tool.run("redrive").output


def test_show_ignores_objects_that_are_not_audit_records() -> None:
    tool = operator_cli(dead_letter())
    tool.bucket.objects["acts/2026/11/24/zz/intended.json"] = b"{}"

    assert tool.run("show", "m-1").exit_code == 0


def test_the_beginning_of_an_id_identifies_a_message_if_it_is_unique() -> None:
    tool = operator_cli(
        dead_letter(1, message_id="aaaaaaaa-1"), dead_letter(2, message_id="aaaaaaaa-2"), dead_letter(3)
    )

    assert "2 messages have an id that begins with aaaaaaaa" in str(tool.run("show", "aaaaaaaa").exception)
    assert json.loads(tool.run("show", "aaaaaaaa-2", "--json").stdout)["message_id"] == "aaaaaaaa-2"
    assert json.loads(tool.run("show", "m", "--json").stdout)["message_id"] == "m-3"
    assert "no message has the id bbbbbbbb" in str(tool.run("show", "bbbbbbbb").exception)
    assert tool.queues.in_flight_ids == set()
    shown = tool.run("show", "event-3", "--json")
    assert json.loads(shown.stdout)["message_id"] == "m-3"


def test_show_prints_the_history_of_a_message() -> None:
    tool = operator_cli(dead_letter(1, redrives=3), dead_letter(2))
    tool.run("redrive", "--id", "m-2", "--confirm", "--reason", "another message")
    tool.queues.fails_again = lambda _: True
    tool.run("redrive", "--id", "m-1", "--force", "--confirm", "--reason", "too early")
    tool.queues.messages = [dead_letter(1, redrives=4, message_id="new")]

    shown = json.loads(tool.run("show", "new", "--json").stdout)

    [action] = shown["history"]
    assert action | {"recorded_at": ""} == {
        "recorded_at": "",
        "action": "redrive",
        "actor": tool.pseudonyms.principal(tool.caller.arn).value,
        "actor_name": tool.pseudonyms.name("x").value,
        "you": True,
        "actor_id": "AIDAEXAMPLE",
        "reason": "too early",
        "ended": "completed",
        "result": "deleted, failed",
    }
    assert "too early (completed: deleted, failed)" in " ".join(tool.run("show", "new").output.split())
    assert shown["outcome"]["status"] == "FAILED"


def test_list_counts_the_messages_in_flight_elsewhere() -> None:
    tool = operator_cli(dead_letter(1))
    tool.queues.in_flight_ids = {"received by another process"}

    result = tool.run("list")

    assert "1 more are in flight elsewhere" in result.output
    assert tool.queues.in_flight_ids == {"received by another process"}


@pytest.mark.parametrize("command", [["list"], ["redrive"], ["drop", "--older-than", "1s"]])
def test_messages_that_arrive_meanwhile_are_left_out_and_counted(command: list[str]) -> None:
    tool = operator_cli(dead_letter(1), dead_letter(2, late=True))

    result = tool.run(*command)

    assert "1 more arrived meanwhile" in result.output
    assert "m-1" in result.output
    assert "m-2" not in result.output
    assert tool.queues.in_flight_ids == set()


def test_a_pipe_gets_lines_of_progress() -> None:
    """rich draws its status on a terminal only."""
    assert "receiving both queues" in operator_cli(dead_letter(1)).run("list").stderr
    tool = operator_cli(*(dead_letter(number) for number in range(1, 21)))
    assert "dropping: 10 of 20" in tool.run("drop", "--older-than", "1s", *CONFIRM).stderr


def test_list_prints_each_group_with_its_next_step() -> None:
    tool = operator_cli(dead_letter(1), dead_letter(2, code="INVALID_EVENT", body="{", redrives=2))

    result = tool.run("list")

    assert "2 messages" in result.output
    assert "→ find out who sent it" in result.output
    assert "redriven: 2" in result.output
    groups = json.loads(tool.run("list", "--json", "--code", "INVALID_EVENT").stdout)
    assert [(group["messages"], group["ids"]) for group in groups] == [(1, ["m-2"])]
    assert groups[0]["oldest"] == (NOON - timedelta(hours=2)).isoformat()
    assert "no message matches" in tool.run("list", "--code", "x").output
    assert "no messages" in operator_cli().run("list").output


@pytest.mark.parametrize("width", [30, 60, 89, 90, 200])
def test_list_cuts_nothing_off_on_a_narrow_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output.stdout, "_width", width)

    printed = operator_cli(dead_letter(1, code="INVALID_EVENT", body="{")).run("list", "--by", "policy").output

    words = set("".join(each if each.isprintable() else " " for each in printed).split())
    assert {"INVALID_EVENT", "p-aaaaaaaa", "unreadable", "not", "allowed"} <= words
    assert "m-1" in words
    assert all(len(line.rstrip()) <= width for line in printed.splitlines() if "`" not in line)


@pytest.mark.parametrize("arguments", [["list", "--by", "event"], ["list"], ["show", "m-1"], ["edit", "m-1"]])
def test_control_characters_in_a_message_are_not_printed(arguments: list[str]) -> None:
    """SQS rejects control characters, but JSON can contain them as escapes."""
    event = json.loads(dead_letter().body)
    event["detail"]["eventName"] = "Accept\x1b[2J\x9b31mHandshake"
    tool = operator_cli(dead_letter(1, body=json.dumps(event)))

    result = tool.run(*arguments, **CHANGE_EVENT_ID)

    assert result.exit_code == 0, result.exception
    assert "Accept" in result.output
    assert not {"\x1b", "\x9b"} & set(result.output)


def test_show_cuts_a_long_body_and_prints_all_of_it_with_json() -> None:
    tool = operator_cli(dead_letter(1, body="x" * 100_000))

    assert "83,616 more characters; --json prints all" in " ".join(tool.run("show", "m-1").output.split())
    assert json.loads(tool.run("show", "m-1", "--json").stdout)["body"] == "x" * 100_000


def test_a_group_names_its_first_ten_messages() -> None:
    messages = [dead_letter(number) for number in range(1, 12)]

    [group] = json.loads(operator_cli(*messages).run("list", "--json").stdout)

    assert group["messages"] == 11
    assert group["ids"] == [each.message_id for each in messages[:10]]


RECEIVE_SLOWLY = """
import itertools, sys
from handlers.operate.progress import receive_all
from tests.fake_queues import FakeQueues, dead_letter, new_in_flight

calls = itertools.count()
queues = FakeQueues([dead_letter(number) for number in range(1, 1011)])
# Before the last ten messages, wait until the test has seen the number.
queues.on_step = lambda _step: sys.stdin.readline() if next(calls) == 100 else None
with new_in_flight(queues) as in_flight:
    print(len(list(receive_all(in_flight, "receiving both queues"))))
"""


def test_a_terminal_shows_how_many_messages_are_received_so_far() -> None:
    ours, theirs = os.openpty()
    shown = bytearray()

    def shows(text: bytes) -> bool:
        shown.extend(os.read(ours, 4096))
        return text in shown

    with subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", RECEIVE_SLOWLY],
        cwd=ROOT,
        env=os.environ | {"TERM": "xterm"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        until(lambda: shows(b"receiving both queues: 1,000 so far"), "the terminal to show the number")
        stdout, _ = process.communicate(b"\n", timeout=HANGS_AFTER)
    for end in (ours, theirs):
        os.close(end)

    assert (process.returncode, stdout) == (0, b"1010\n")
