"""What `list` and `show` print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest

from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.redrive.summary import KEYS
from handlers.operate import output
from infra.deploy.build import ROOT
from infra.local.waiting import HANGS_AFTER, until
from schemas.outcome import OutcomeStatus
from tests.fake_queues import dead_letter, outcome
from tests.fakes import ACCOUNT, NOON
from tests.operator_cli import CHANGE_BODY, CONFIRM, operator_cli


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

    assert "about 1 message is in flight elsewhere" in result.output
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
    groups = json.loads(tool.run("list", "--json", "--code", "INVALID_EVENT").stdout)["groups"]
    assert [(group["messages"], group["ids"]) for group in groups] == [(1, ["m-2"])]
    assert groups[0]["oldest"] == (NOON - timedelta(hours=2)).isoformat()
    assert "no message matches" in tool.run("list", "--code", "NO_PLACE").stdout
    assert "no messages" in operator_cli().run("list").stdout


@pytest.mark.parametrize("arguments", [[], ["--code", "INVALID_EVENT"]])
def test_after_a_killed_session_list_says_that_messages_are_invisible_and_not_that_there_are_none(
    arguments: list[str],
) -> None:
    tool = operator_cli()
    tool.queues.in_flight_ids = {"of a killed session"}

    text = " ".join(tool.run("list", *arguments).stdout.split())
    assert "no visible message" in text
    assert "about 1 message is in flight elsewhere" in text
    assert "15 minutes" in text
    assert json.loads(tool.run("list", *arguments, "--json").stdout) == {
        "messages": 0,
        "in_flight_elsewhere": 1,
        "retrying": 0,
        "groups": [],
    }
    assert "no visible message to be redriven" in " ".join(tool.run("redrive", *arguments).stdout.split())
    shown = tool.run("show", "m-1")
    assert "no visible message has the id m-1; about 1 message is in flight" in str(shown.exception)
    plan = tool.run("close", "--older-than", "1s")
    assert "--confirm will be refused: messages of these events may be in flight elsewhere" in plan.stderr


@pytest.mark.parametrize("command", [["list"], ["redrive"], ["outcomes"]])
def test_joins_that_are_being_retried_are_counted_where_nothing_else_shows_them(command: list[str]) -> None:
    tool = operator_cli()
    assert "RETRYING" not in tool.run(*command).stderr
    for number in (1, 2):
        key = (ACCOUNT, f"event-{number}")
        tool.queues.rows[key] = [(NOON, outcome(key, OutcomeStatus.RETRYING))]

    assert "2 joins are RETRYING" in tool.run(*command).stderr
    assert "`outcomes --status RETRYING`" in tool.run(*command).stderr


def test_list_shows_the_messages_although_dynamodb_does_not_answer() -> None:
    tool = operator_cli(dead_letter(1))

    def fail(_: OutcomeStatus) -> int:
        raise RetryableError(fault("DynamoDB.Unavailable", "no"))

    tool.queues.count = fail  # type: ignore[assignment, method-assign]
    assert tool.run("list").exit_code == 0
    assert json.loads(tool.run("list", "--json").stdout)["retrying"] is None


def test_reasons_that_differ_only_in_a_place_of_the_body_are_one_group() -> None:
    reasons = {number: f"body: is not JSON: line 1, column {number}" for number in (700, 701)}
    invalid = [dead_letter(each, code="INVALID_EVENT", body="{", error_message=why) for each, why in reasons.items()]
    others = [dead_letter(number, error_message=f"line 1, column {number}") for number in (1, 2)]
    tool = operator_cli(*invalid, *others)

    groups = json.loads(tool.run("list", "--json").stdout)["groups"]
    assert [group["messages"] for group in groups] == [2, 1, 1]
    assert "body: is not JSON: line …, column …" in tool.run("list").stdout
    assert "column 700" in tool.run("list", "--id", "m-700").stdout
    assert "2 left out" in " ".join(tool.run("redrive", "--code", "INVALID_EVENT").stdout.split())


@pytest.mark.parametrize("command", [["list"], ["redrive"], ["drop"], ["outcomes"], ["close"]])
def test_a_mistyped_code_is_an_error_that_names_the_nearest_one(command: list[str]) -> None:
    tool = operator_cli(dead_letter(1, code="NO_PERMISSIONS"))

    result = tool.run(*command, "--code", "AccesDeniedException")
    assert result.exit_code == 2
    assert "Did you mean AccessDeniedException?" in result.output
    assert tool.queues.in_flight_ids == set()


@pytest.mark.parametrize("code", ["NO_PERMISSIONS", "NO_PLACE"])
def test_a_code_that_a_message_has_or_that_the_worker_writes_is_no_error(code: str) -> None:
    tool = operator_cli(dead_letter(1, code="NO_PERMISSIONS"))

    assert tool.run("list", "--code", code).exit_code == 0


def test_show_prints_what_can_be_read_from_a_truncated_body() -> None:
    whole = dead_letter(1).body
    truncated = whole[: whole.index("userIdentity")]
    tool = operator_cli(dead_letter(1, code="INVALID_EVENT", body=truncated))

    text = " ".join(tool.run("show", "m-1").stdout.split())
    found = json.loads(tool.run("show", "m-1", "--json").stdout)["looks_like"]

    assert "looks like AcceptHandshake, event event-1" in text
    assert (found["event_ids"], found["event_names"]) == (["event-1"], ["AcceptHandshake"])
    assert ACCOUNT in found["account_ids"]
    assert "looks like" not in operator_cli(dead_letter(1)).run("show", "m-1").stdout


def test_plans_without_messages_print_no_empty_table() -> None:
    assert operator_cli().run("redrive").stdout == ""


@pytest.mark.parametrize("confirm", [(), CONFIRM])
def test_an_id_that_nothing_has_gives_one_exit_status_with_and_without_confirm(confirm: tuple[str, ...]) -> None:
    assert operator_cli(dead_letter(1)).run("redrive", "--id", "zzzz", *confirm).exit_code == 1


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

    result = tool.run(*arguments, **CHANGE_BODY)

    assert result.exit_code == 0, result.exception
    assert "Accept" in result.output
    assert not {"\x1b", "\x9b"} & set(result.output)


def test_show_cuts_a_long_body_and_prints_all_of_it_with_json() -> None:
    tool = operator_cli(dead_letter(1, body="x" * 100_000))

    assert "83,616 more characters; --json prints all" in " ".join(tool.run("show", "m-1").output.split())
    assert json.loads(tool.run("show", "m-1", "--json").stdout)["body"] == "x" * 100_000


def test_a_group_names_its_first_ten_messages() -> None:
    messages = [dead_letter(number) for number in range(1, 12)]

    [group] = json.loads(operator_cli(*messages).run("list", "--json").stdout)["groups"]

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
