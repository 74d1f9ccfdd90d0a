"""`drop` and `restore`: no message is lost, duplicated or changed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from handlers.core.errors import RetryableError, fault
from tests.fake_queues import dead_letter
from tests.fakes import NOON, Killed
from tests.operator_cli import CONFIRM, Lock, backup_key, operator_cli


def test_dropped_messages_are_restored_unchanged_to_their_own_queues() -> None:
    before = [
        dead_letter(1),
        dead_letter(2, queue="undelivered"),
        dead_letter(3, code="INVALID_EVENT", body="\u2603 {broken"),
    ]
    tool = operator_cli(*before)

    dropped = tool.run("drop", "--older-than", "1s", *CONFIRM)
    assert dropped.exit_code == 0, dropped.output
    assert tool.queues.messages == []
    [key] = [each for each in tool.bucket.objects if each.startswith("backups/")]
    assert f"restore {key}" in dropped.output
    assert tool.bucket.locks[key] == Lock("COMPLIANCE", NOON + timedelta(days=90))

    assert tool.run("restore", key).exit_code == 0
    assert tool.queues.messages == []
    restored = tool.run("restore", key, *CONFIRM)
    assert restored.exit_code == 0, restored.output
    assert tool.queues.joins == [], "restored messages are dead letters again"
    after = [(each.queue, each.body, each.attributes) for each in tool.queues.messages]
    assert sorted(after) == sorted((each.queue, each.body, each.attributes) for each in before)
    assert [record.action for record in tool.bucket.audit_records] == ["drop", "drop", "restore", "restore"]


def test_restore_edit_and_redrive_keep_the_trace_header() -> None:
    traced = [dead_letter(number, trace_header=f"Root=1-{number}") for number in (1, 2, 3)]
    tool = operator_cli(*traced)
    key = backup_key(tool.run("drop", "--id", "m-1", *CONFIRM))

    tool.run("restore", key, *CONFIRM)
    tool.run("edit", "m-2", *CONFIRM, EDITOR="sed -i s/event-2/event-9/")
    tool.run("redrive", "--id", "m-3", *CONFIRM)

    assert [each.trace_header for each in tool.queues.messages] == ["Root=1-1"]
    assert [each.trace_header for each in tool.queues.joins] == ["Root=1-2", "Root=1-3"]


def test_messages_that_were_never_dropped_or_already_restored_are_not_restored() -> None:
    tool = operator_cli(*(dead_letter(number) for number in range(1, 31)))
    deletes = 0

    def interrupt(step: str) -> None:
        nonlocal deletes
        deletes += step == "before deleting"
        if deletes == 2:
            raise KeyboardInterrupt

    tool.queues.on_step = interrupt
    dropped = tool.run("drop", "--older-than", "1s", *CONFIRM)
    assert dropped.exit_code == 1
    assert len(tool.queues.messages) == 20
    key = backup_key(dropped)
    deletes = -100

    first = tool.run("restore", key, *CONFIRM)
    second = tool.run("restore", key, *CONFIRM)

    assert "left out: it is in its queue" in first.output
    assert "Nothing to do" in second.output
    tool.queues.messages = tool.queues.messages[:25]
    third = tool.run("restore", key, "--confirm", "--reason", "the others were redriven meanwhile")
    assert "left out: it was restored before" in third.output
    assert (first.exit_code, second.exit_code, third.exit_code) == (0, 1, 1)
    assert len(tool.queues.messages) == 25


def test_restore_completes_the_work_of_a_restore_that_was_killed() -> None:
    """The killed restore has no record of its results, so the messages in the queue decide what is missing."""
    same_body = dead_letter(31, body=dead_letter(1).body)
    tool = operator_cli(*(dead_letter(number) for number in range(1, 31)), same_body)
    key = backup_key(tool.run("drop", "--older-than", "1s", *CONFIRM))
    sends = 0

    def kill(step: str) -> None:
        nonlocal sends
        sends += step == "after sending"
        if sends == 2:
            tool.bucket.read_only = True
            raise Killed

    tool.queues.on_step = kill
    with pytest.raises(Killed):
        tool.run("restore", key, *CONFIRM)
    assert len(tool.queues.messages) == 20
    tool.bucket.read_only, sends = False, -100

    again = tool.run("restore", key, *CONFIRM)

    assert again.exit_code == 0
    assert len(tool.queues.messages) == 31
    assert sorted(each.body for each in tool.queues.messages) == sorted(
        [*(dead_letter(n).body for n in range(1, 31)), dead_letter(1).body]
    )


def test_restore_needs_force_while_messages_are_in_flight_elsewhere() -> None:
    """A drop that was killed may still have the messages in flight; restored, they would exist twice."""
    tool = operator_cli(dead_letter(1))
    key = backup_key(tool.run("drop", "--id", "m-1", *CONFIRM))
    tool.queues.in_flight_ids = {"received by a killed process"}

    refused = tool.run("restore", key, *CONFIRM)
    assert "in 15 minutes, or add --force" in str(refused.exception)
    assert tool.queues.messages == []

    tool.run("restore", key, "--force", *CONFIRM)
    assert len(tool.queues.messages) == 1


def test_drop_and_restore_retry_after_a_lost_connection() -> None:
    tool = operator_cli(dead_letter(1))
    lost = ["before deleting", "before sending"]

    def lose_connection(step: str) -> None:
        if step in lost:
            lost.remove(step)
            raise RetryableError(fault("SQS.ConnectionClosedError", "the connection was lost"), soon=True)

    tool.queues.on_step = lose_connection
    dropped = tool.run("drop", "--id", "m-1", *CONFIRM)

    assert dropped.exit_code == 0, dropped.output
    assert tool.run("restore", backup_key(dropped), *CONFIRM).exit_code == 0
    assert lost == []


def test_an_object_that_is_not_a_backup_is_not_restored() -> None:
    tool = operator_cli()
    tool.bucket.objects["acts/x.json"] = b'{"schema_version": "x"}'

    assert "is not a backup" in str(tool.run("restore", "acts/x.json").exception)


def test_a_message_that_sqs_refuses_is_not_restored_and_the_restore_can_be_repeated() -> None:
    tool = operator_cli(dead_letter(1), dead_letter(2))
    key = backup_key(tool.run("drop", "--older-than", "1s", *CONFIRM))
    tool.queues.refused_ids = ["m-2"]

    first = tool.run("restore", key, *CONFIRM)

    assert first.exit_code == 1
    assert "1 restored" in first.output
    assert {each.message_id: each.result for each in tool.bucket.audit_records[-1].letters} == {
        "m-1": "restored",
        "m-2": "refused: InternalError",
    }
    tool.queues.refused_ids = []
    assert tool.run("restore", key, *CONFIRM).exit_code == 0
    assert sorted(each.body for each in tool.queues.messages) == sorted(dead_letter(n).body for n in (1, 2))
