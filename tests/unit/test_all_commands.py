"""What holds for all commands: help, wrong use, --confirm, and an audit record before each action."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from handlers.aws.errors import CAUSES
from handlers.core.errors import RetryableError
from handlers.operate.__main__ import cli
from tests.fake_queues import dead_letter
from tests.fakes import Killed
from tests.operator_cli import CHANGE_BODY, CONFIRM, operator_cli


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_has_help_and_a_json_option(name: str) -> None:
    command = cli.commands[name]
    result = CliRunner().invoke(command, ["--help"])

    assert result.exit_code == 0
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    assert any(option.name == "as_json" for option in command.params)


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_has_valid_examples_in_its_help(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The commands read this file.
    monkeypatch.chdir(tmp_path)
    for name_of_file in ("event.json", "accounts.tsv", "log.key", "object.tlog-proof", "people.txt"):
        (tmp_path / name_of_file).touch()
    command = cli.commands[name]
    examples = (
        CliRunner().invoke(command, ["--help"], terminal_width=60).output.partition("Examples:\n")[2].splitlines()
    )

    assert examples
    for each in examples:
        program, named, *words = shlex.split(each.partition(" > ")[0])
        assert (program, named) == ("joinguard", name)
        with command.make_context(name, words) as context:
            assert not context.args


@pytest.mark.parametrize("name", ["list", "redrive", "drop", "outcomes"])
def test_every_code_of_a_dead_letter_is_completed(name: str) -> None:
    completion = ShellComplete(cli, {}, "joinguard", "_JOINGUARD_COMPLETE")

    assert {each.value for each in completion.get_completions([name, "--code"], "")} == set(CAUSES)
    found = completion.get_completions([name, "--code"], "Pol")
    assert [each.value for each in found] == ["PolicyNotFoundException", "PolicyTypeNotEnabledException"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["redrive", "--all", "--confirm"], "--confirm needs a reason"),
        (["redrive", "--all", "--confirm", "--reason", "  "], "--confirm needs a reason"),
        (["redrive", "--all", "--confirm", "--reason", "x" * 1001], "Use at most 1000"),
        (["redrive", "--confirm", "--reason", "x"], "Add --all"),
        (["drop", "--confirm", "--reason", "x"], "drop needs a filter"),
        (["drop", "--limit", "3", "--confirm", "--reason", "x"], "drop needs a filter"),
        (["list", "--older-than", "soon"], "not a duration"),
        (["redrive", "--account", "12"], "twelve digits"),
        (["redrive", "--rate", "-1"], "is not a rate"),
        (["redrive", "--rate", "nan"], "is not a rate"),
        (["redrive", "--rate", "inf"], "is not a rate"),
        (["redrive", "--rate", "1e-300"], "is not a rate"),
        (["redrive", "--all", "--confirm", "--reason", "\x07"], "--confirm needs a reason"),
        (["enforce", "123"], "twelve digits"),
        (["outcome", f"acct-{'0' * 32}"], "is a pseudonym. `coverage --reveal` shows the account ids"),
        (["redrive", "--native", "--all", "--code", "x"], "Remove the filter"),
    ],
)
def test_wrong_use_exits_with_2_and_a_message_and_changes_nothing(arguments: list[str], message: str) -> None:
    tool = operator_cli(dead_letter())

    result = tool.run(*arguments)

    assert result.exit_code == 2
    assert message in result.output
    assert tool.queues.joins == []
    assert tool.bucket.objects == {}


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["redrive"], ["drop", "--id", "m-1"], ["redrive", "--reason", "x"], ["enforce", "222222222222"]],
)
def test_nothing_changes_without_confirm(arguments: list[str]) -> None:
    tool = operator_cli(dead_letter())

    result = tool.run(*arguments)

    assert result.exit_code == 0, result.output
    assert tool.queues.messages == [dead_letter()]
    assert tool.queues.joins == []
    assert tool.queues.in_flight_ids == set()
    assert tool.bucket.objects == {}


@pytest.mark.parametrize(
    "arguments",
    [["redrive", "--all"], ["drop", "--id", "m-1"], ["edit", "m-1"]],
    ids=["redrive", "drop", "edit"],
)
def test_an_action_that_cannot_be_recorded_is_not_performed(arguments: list[str]) -> None:
    tool = operator_cli(dead_letter())
    tool.bucket.read_only = True

    result = tool.run(*arguments, *CONFIRM, **CHANGE_BODY)

    assert isinstance(result.exception, RetryableError)
    assert tool.queues.messages == [dead_letter()]
    assert tool.queues.joins == []
    assert tool.queues.in_flight_ids == set(), "messages stay in flight"


def test_a_killed_process_leaves_the_record_of_its_intended_action() -> None:
    tool = operator_cli(dead_letter())

    def kill(step: str) -> None:
        if step == "after sending":
            tool.bucket.read_only = True
            raise Killed

    tool.queues.on_step = kill
    with pytest.raises(Killed):
        tool.run("redrive", "--all", *CONFIRM)

    assert [record.phase for record in tool.bucket.audit_records] == ["intended"]


def test_a_reason_is_recorded_in_any_language_without_account_ids() -> None:
    tool = operator_cli()

    tool.run("enforce", "222222222222", "--confirm", "--reason", "修复完成, Müller für 333333333333")

    assert {record.reason for record in tool.bucket.audit_records} == {"修复完成, Müller für [account]"}
    [digest] = tool.bucket.audit_records[-1].letters
    assert digest.result == "sent, enforced"


@pytest.mark.parametrize("arguments", [["redrive", "--id", "m-1"], ["drop", "--id", "m-1"]])
def test_other_messages_are_released_before_the_action(arguments: list[str]) -> None:
    tool = operator_cli(dead_letter(1), dead_letter(2), dead_letter(3))
    in_flight: list[set[str]] = []

    def observe(step: str) -> None:
        if step == "before deleting":
            in_flight.append(set(tool.queues.in_flight_ids))

    tool.queues.on_step = observe

    assert tool.run(*arguments, *CONFIRM).exit_code == 0

    assert in_flight == [{"m-1"}]


@pytest.mark.parametrize("arguments", [["redrive", "--id", "m-7"], ["drop", "--event", "nothing"]])
def test_an_id_that_no_message_has_is_a_failure(arguments: list[str]) -> None:
    tool = operator_cli(dead_letter(1))
    _, option, unknown = arguments

    assert tool.run(*arguments).exit_code == 1, "the plan ends as the action does"
    assert tool.run(*arguments, *CONFIRM).exit_code == 1
    both = tool.run(*arguments, option, "m-1" if option == "--id" else "event-1", *CONFIRM)
    assert both.exit_code == 1, "the action is performed on one message, and the other is not found"
    assert f"not found: {unknown}" in both.output
    assert tool.queues.messages == []


def test_an_interrupt_leaves_an_audit_record_and_no_messages_in_flight() -> None:
    tool = operator_cli(*(dead_letter(number) for number in range(1, 31)))
    sends = 0

    def interrupt(step: str) -> None:
        nonlocal sends
        sends += step == "before sending"
        if sends == 4:
            raise KeyboardInterrupt

    tool.queues.on_step = interrupt
    result = tool.run("redrive", "--all", "--rate", "0", *CONFIRM)

    assert result.exit_code == 1
    assert "25 of 30 sent" in result.output
    ended = tool.bucket.audit_records[-1]
    assert (ended.ended, ended.results["sent"]) == ("interrupted", len(tool.queues.joins))
    assert {each.result for each in ended.letters} == {"deleted", "deleted, enforced", "left"}
    assert tool.queues.in_flight_ids & {each.message_id for each in tool.queues.messages} == set()


def test_the_audit_record_of_a_redrive_has_the_result_of_each_message() -> None:
    tool = operator_cli(
        dead_letter(1),
        dead_letter(2),
        dead_letter(3, body="{broken"),
        fails_again=lambda each: each.message_id == "m-2",
    )

    result = tool.run("redrive", "--all", "--confirm", "--reason", "corrected by bob@example.com", "--json")

    assert result.exit_code == 1, "one message failed again, and one was left out"
    [intended, ended] = tool.bucket.audit_records
    assert (intended.phase, intended.results, intended.ended) == ("intended", {}, None)
    assert [each.event_id for each in intended.letters] == ["event-2", "event-1"]
    assert (ended.phase, ended.ended) == ("done", "completed")
    assert ended.results == {"sent": 2, "deleted": 2, "refused": 0, "enforced": 1, "failed": 1}
    assert {each.message_id: each.result for each in ended.letters} == {
        "m-1": "deleted, enforced",
        "m-2": "deleted, failed",
    }
    assert ended.reason == "corrected by [e-mail]"
    assert ended.actor_id == "AIDAEXAMPLE"
    output = json.loads(result.stdout)
    assert output["results"] == ended.results
    assert [each["id"] for each in output["left_out"]] == ["m-3"]


def test_a_redrive_of_messages_that_cannot_be_tracked_does_not_succeed() -> None:
    tool = operator_cli(dead_letter(1, body="{broken"))

    result = tool.run("redrive", "--all", "--force", *CONFIRM)

    assert result.exit_code == 1
    assert "1 with unreadable bodies cannot be tracked" in result.output


def test_messages_in_flight_elsewhere_are_left_and_counted() -> None:
    tool = operator_cli()
    tool.queues.in_flight_ids = {"received by another process"}

    result = tool.run("redrive", "--all", *CONFIRM, "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["elsewhere"] == 1

    tool.queues.messages = [dead_letter(1)]
    result = tool.run("redrive", "--all", *CONFIRM, "--json")
    assert result.exit_code == 1
    assert (json.loads(result.stdout)["elsewhere"], json.loads(result.stdout)["done"]) == (1, True)
