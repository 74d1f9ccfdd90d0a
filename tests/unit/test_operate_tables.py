"""What the operator is shown."""

from __future__ import annotations

import json
from datetime import timedelta

import click
import pytest
from click.testing import CliRunner

from handlers.core.errors import PermanentError, fault
from handlers.core.redrive.summary import KEYS
from handlers.operate import output
from handlers.operate.__main__ import cli
from handlers.operate.differences import differences
from tests.fake_queues import dead_letter
from tests.fakes import NOON
from tests.operator_cli import SEND_ELSEWHERE, operator_cli


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_explains_itself(name: str) -> None:
    command = cli.commands[name]
    told = CliRunner().invoke(command, ["--help"])

    assert told.exit_code == 0
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    assert any(option.name == "as_json" for option in command.params), "--json is everywhere"


@pytest.mark.parametrize("by", KEYS)
def test_what_others_wrote_is_not_taken_for_markup(by: str) -> None:
    event = json.loads(dead_letter().body)
    event["detail"]["eventName"] = "[/red]"
    at = operator_cli(dead_letter(1, body=json.dumps(event), why="[bold]p-aaaaaaaa[/x] :smile:", code="[/red]"))

    told = at.run("list", "--by", by)

    assert told.exit_code == 0, told.exception
    assert "[bold]p-aaaaaaaa[/x] :smile:" in told.output


def test_what_was_taken_out_of_a_message_shows_as_such() -> None:
    at = operator_cli(dead_letter())
    at.organizations.error = PermanentError(fault("AccessDeniedException", "arn:aws:iam::111111111111:user/x may not"))

    assert "unknown: Organizations does not answer: AccessDeniedException: [arn] may not" in at.run("redrive").output


def test_something_else_among_the_acts_keeps_nothing_from_being_shown() -> None:
    at = operator_cli(dead_letter())
    at.bucket.objects["acts/2026/11/24/zz/intended.json"] = b"{}"

    assert at.run("show", "m-1").exit_code == 0


def test_letters_are_told_apart_by_a_part_of_their_ids() -> None:
    at = operator_cli(dead_letter(1, message_id="aaaaaaaa-1"), dead_letter(2, message_id="aaaaaaaa-2"), dead_letter(3))

    assert "2 messages have the id" in str(at.run("show", "aaaaaaaa").exception)
    assert "no message has the id bbbbbbbb" in str(at.run("show", "bbbbbbbb").exception)
    assert at.queues.in_hand == set()
    shown = at.run("show", "event-3", "--json")
    assert json.loads(shown.stdout)["message_id"] == "m-3"


def test_show_tells_what_operators_did_to_a_letter() -> None:
    at = operator_cli(dead_letter(1, redrives=3), dead_letter(2))
    at.run("redrive", "--id", "m-2", "--confirm", "--reason", "another one")
    at.queues.dies = lambda _: True
    at.run("redrive", "--id", "m-1", "--force", "--confirm", "--reason", "tried too early")
    at.queues.lying = [dead_letter(1, redrives=4, message_id="new")]

    shown = json.loads(at.run("show", "new", "--json").stdout)

    [action] = shown["history"]
    assert action | {"recorded_at": ""} == {
        "recorded_at": "",
        "action": "redrive",
        "actor": "prin-" + "0" * 32,
        "actor_id": "AIDAEXAMPLE",
        "reason": "tried too early",
        "ended": "completed",
        "result": "deleted, failed",
    }
    assert "tried too early (completed: deleted, failed)" in " ".join(at.run("show", "new").output.split())
    assert shown["outcome"]["status"] == "FAILED"


def test_what_another_operator_has_in_hand_is_told() -> None:
    at = operator_cli(dead_letter(1))
    at.queues.in_hand = {"of another"}

    told = at.run("list")

    assert "1 more are in flight elsewhere" in told.output
    assert at.queues.in_hand == {"of another"}


def test_a_look_says_what_waits_and_where_to_go_on() -> None:
    at = operator_cli(dead_letter(1), dead_letter(2, code="INVALID_EVENT", body="{", redrives=2))

    told = at.run("list")

    assert "2 messages" in told.output
    assert "→ find out who sent it" in told.output
    assert "redriven: 2" in told.output
    groups = json.loads(at.run("list", "--json", "--code", "INVALID_EVENT").stdout)
    assert [(group["messages"], group["ids"]) for group in groups] == [(1, ["m-2"])]
    assert groups[0]["oldest"] == (NOON - timedelta(hours=2)).isoformat()
    assert "no message matches" in at.run("list", "--code", "x").output
    assert "no messages" in operator_cli().run("list").output


@pytest.mark.parametrize("width", [30, 60, 89, 90, 200])
def test_nothing_is_cut_off_on_a_narrow_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output.stdout, "_width", width)

    told = operator_cli(dead_letter(1, code="INVALID_EVENT", body="{")).run("list", "--by", "policy").output

    words = set("".join(each if each.isprintable() else " " for each in told).split())
    assert {"INVALID_EVENT", "p-aaaaaaaa", "unreadable", "not", "allowed"} <= words
    assert "m-1" in words
    assert all(len(line.rstrip()) <= width for line in told.splitlines() if "`" not in line)


@pytest.mark.parametrize("arguments", [["list", "--by", "event"], ["list"], ["show", "m-1"], ["edit", "m-1"]])
def test_no_letter_commands_the_terminal(arguments: list[str]) -> None:
    """SQS takes no control characters, but JSON may write them as escapes."""
    event = json.loads(dead_letter().body)
    event["detail"]["eventName"] = "Accept\x1b[2J\x9b31mHandshake"
    at = operator_cli(dead_letter(1, body=json.dumps(event)))

    told = at.run(*arguments, **SEND_ELSEWHERE)

    assert told.exit_code == 0, told.exception
    assert "Accept" in told.output
    assert not {"\x1b", "\x9b"} & set(told.output)


def test_a_difference_is_told_where_it_is() -> None:
    old = dead_letter(1).body

    assert [line[0] for line in differences(old, old.replace("event-1", "event-9")) if line[0] in "+-"] == ["-", "+"]
    assert differences(old, old) == []
    assert differences('{"a": 1}', '{"a":  1}') == ['-{"a": 1}', '+{"a":  1}']
    assert differences("a\nb\nc\nd\ne\nf", "a\nb\nc\nX\ne\nf") == [" b", " c", "-d", "+X", " e", " f"]


def test_of_a_long_line_the_part_that_differs_is_told() -> None:
    long = "x" * 500_000

    [removed, added] = differences(f"{long}a{long}", f"{long}b{long}")

    assert removed.startswith(f"-…{'x' * 100}a")
    assert added.startswith(f"+…{'x' * 100}b")
    assert max(map(len, (removed, added))) < 600


def test_of_two_long_bodies_the_part_that_differs_is_told() -> None:
    old = json.dumps({"lines": [number % 120 for number in range(5000)]})

    told = differences(old, old.replace("[0, 1,", "[0, 7777,", 1))

    assert [line for line in told if line[0] in "+-"] == ["-  1,", "+  7777,"]


@pytest.mark.parametrize(("depth", "by_field"), [(50, True), (51, False)])
def test_a_body_that_is_nested_too_deep_is_compared_by_its_own_lines(depth: int, *, by_field: bool) -> None:
    """Python 3.13 indents thousands of levels, in lines that grow with the depth."""
    old = "[" * depth + "1, 2" + "]" * depth

    told = differences(old, old.replace("1, 2", "1, 3"))

    assert [line[0] for line in told if line[0] in "+-"] == ["-", "+"]
    assert any(line.strip("+- ") == "3" for line in told) is by_field


def test_of_two_long_bodies_that_differ_throughout_the_beginning_is_told() -> None:
    told = differences(json.dumps(["a"] * 3000), json.dumps(["b"] * 3000))

    assert len(told) == 401
    assert told[-1] == " … 5,602 more lines"


def test_bodies_that_nest_too_deep_for_a_parser_are_compared_as_text() -> None:
    assert differences("[" * 5000, "[" * 5000 + "]")[-1].endswith("[]")


def test_a_value_that_nobody_reads_on_a_screen_is_cut_and_says_so() -> None:
    at = operator_cli(dead_letter(1, body="x" * 100_000))

    assert "83,616 more characters; --json prints all" in " ".join(at.run("show", "m-1").output.split())
    assert json.loads(at.run("show", "m-1", "--json").stdout)["body"] == "x" * 100_000
