"""The operator's commands: what they ask for before they act, and what they leave behind."""

from __future__ import annotations

import json

import pytest

from handlers.core.errors import RetryableError
from tests.fake_queues import Killed, dead_letter
from tests.operator_cli import SEND_ELSEWHERE, operator_cli


@pytest.mark.parametrize(
    "arguments",
    [["redrive", "--all"], ["drop", "--id", "m-1"], ["edit", "m-1"]],
    ids=["redrive", "drop", "edit"],
)
def test_an_act_that_cannot_be_put_on_record_is_not_done(arguments: list[str]) -> None:
    at = operator_cli(dead_letter())
    at.bucket.refuses = True

    done = at.run(*arguments, "--confirm", "--reason", "x", **SEND_ELSEWHERE)

    assert isinstance(done.exception, RetryableError)
    assert at.queues.lying == [dead_letter()]
    assert at.queues.joins == []
    assert at.queues.in_hand == set(), "letters stay in hand"


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["redrive"], ["drop", "--id", "m-1"], ["redrive", "--reason", "x"], ["enforce", "222222222222"]],
)
def test_nothing_is_done_without_confirm(arguments: list[str]) -> None:
    at = operator_cli(dead_letter())

    done = at.run(*arguments)

    assert done.exit_code == 0, done.output
    assert at.queues.lying == [dead_letter()]
    assert at.queues.joins == []
    assert at.queues.in_hand == set()
    assert at.bucket.objects == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
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
        (["redrive", "--native", "--all", "--code", "x"], "Remove the filter"),
    ],
)
def test_wrong_use_is_told_and_nothing_is_done(arguments: list[str], told: str) -> None:
    at = operator_cli(dead_letter())

    done = at.run(*arguments)

    assert done.exit_code == 2
    assert told in done.output
    assert at.queues.joins == []
    assert at.bucket.objects == {}


def test_evidence_says_what_became_of_each_letter() -> None:
    at = operator_cli(
        dead_letter(1), dead_letter(2), dead_letter(3, body="{broken"), dies=lambda each: each.message_id == "m-2"
    )

    done = at.run("redrive", "--all", "--confirm", "--reason", "mended by bob@example.com", "--json")

    assert done.exit_code == 1, "one came back dead, one was left out"
    [intended, ended] = at.bucket.audit_records
    assert (intended.phase, intended.results, intended.ended) == ("intended", {}, None)
    assert [each.event_id for each in intended.letters] == ["event-2", "event-1"]
    assert (ended.phase, ended.ended) == ("done", "completed")
    assert ended.results == {"sent": 2, "deleted": 2, "refused": 0, "enforced": 1, "failed": 1}
    assert {each.message_id: each.result for each in ended.letters} == {
        "m-1": "deleted, enforced",
        "m-2": "deleted, failed",
    }
    assert ended.reason == "mended by [e-mail]"
    assert ended.actor_id == "AIDAEXAMPLE"
    told = json.loads(done.stdout)
    assert told["results"] == ended.results
    assert [each["id"] for each in told["left_out"]] == ["m-3"]


@pytest.mark.parametrize("arguments", [["redrive", "--id", "m-1"], ["drop", "--id", "m-1"]])
def test_letters_that_are_not_meant_are_given_back_before_anything_is_done(arguments: list[str]) -> None:
    at = operator_cli(dead_letter(1), dead_letter(2), dead_letter(3))
    in_hand: list[set[str]] = []
    at.queues.at = lambda step: in_hand.append(set(at.queues.in_hand)) if step == "before deleting" else None

    assert at.run(*arguments, "--confirm", "--reason", "x").exit_code == 0

    assert in_hand == [{"m-1"}]


def test_an_interrupt_leaves_evidence_and_nothing_in_hand() -> None:
    at = operator_cli(*(dead_letter(number) for number in range(1, 31)))
    sends = 0

    def at_step(step: str) -> None:
        nonlocal sends
        sends += step == "before sending"
        if sends == 4:
            raise KeyboardInterrupt

    at.queues.at = at_step
    done = at.run("redrive", "--all", "--rate", "0", "--confirm", "--reason", "x")

    assert done.exit_code == 1
    assert "interrupted: 25 sent" in done.output
    ended = at.bucket.audit_records[-1]
    assert (ended.ended, ended.results["sent"]) == ("interrupted", len(at.queues.joins))
    assert {each.result for each in ended.letters} == {"deleted", "deleted, enforced", "left"}
    assert at.queues.in_hand & {each.message_id for each in at.queues.lying} == set()


def test_a_process_that_dies_leaves_the_intention_on_record() -> None:
    at = operator_cli(dead_letter())

    def at_step(step: str) -> None:
        if step == "after sending":
            at.bucket.refuses = True
            raise Killed

    at.queues.at = at_step
    with pytest.raises(Killed):
        at.run("redrive", "--all", "--confirm", "--reason", "x")

    assert [act.phase for act in at.bucket.audit_records] == ["intended"]


def test_a_reason_in_any_language_goes_on_record_and_names_nobody() -> None:
    at = operator_cli()

    at.run("enforce", "222222222222", "--confirm", "--reason", "修复完成, Müller für 333333333333")

    assert {act.reason for act in at.bucket.audit_records} == {"修复完成, Müller für [account]"}
    [digest] = at.bucket.audit_records[-1].letters
    assert digest.result == "sent"


def test_what_nobody_can_follow_is_no_success() -> None:
    done = operator_cli(dead_letter(1, body="{broken")).run("redrive", "--all", "--force", "--confirm", "--reason", "x")

    assert done.exit_code == 1
    assert "1 with unreadable bodies cannot be tracked" in done.output


@pytest.mark.parametrize("arguments", [["redrive", "--id", "m-7"], ["drop", "--event", "nothing"]])
def test_a_letter_that_is_named_and_not_there_is_a_failure(arguments: list[str]) -> None:
    at = operator_cli(dead_letter(1))

    assert at.run(*arguments).exit_code == 0
    assert at.run(*arguments, "--confirm", "--reason", "x").exit_code == 1
    together = at.run(
        *arguments, arguments[1], "m-1" if arguments[1] == "--id" else "event-1", "--confirm", "--reason", "x"
    )
    assert together.exit_code == 1, "one is done, and one is not there"
    assert f"not found: {arguments[2]}" in together.output
    assert at.queues.lying == []


def test_letters_in_other_hands_are_left_and_counted() -> None:
    at = operator_cli()
    at.queues.in_hand = {"of another"}

    done = at.run("redrive", "--all", "--confirm", "--reason", "x", "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["elsewhere"] == 1

    at.queues.lying = [dead_letter(1)]
    some = at.run("redrive", "--all", "--confirm", "--reason", "x", "--json")
    assert some.exit_code == 1
    assert (json.loads(some.stdout)["elsewhere"], json.loads(some.stdout)["done"]) == (1, True)
