"""`drop` and `restore`: no message is lost, duplicated or changed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from handlers.core.errors import RetryableError, fault
from schemas.keys import backup_action
from schemas.outcome import Closed, Outcome, OutcomeStatus
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT, NOON, POLICIES, Killed
from tests.operator_cli import CONFIRM, Lock, OperatorCli, backup_key, operator_cli

if TYPE_CHECKING:
    from collections.abc import Callable


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


def test_dropping_closes_the_outcome_with_who_when_and_the_action_that_says_why() -> None:
    tool = operator_cli(dead_letter(1), dead_letter(2), dead_letter(3, body="{broken"), dead_letter(4))
    for number in (1, 2):
        tool.queues.add_failure(dead_letter(number))

    dropped = tool.run("drop", "--id", "m-1", "--id", "m-3", "--id", "m-4", *CONFIRM)

    assert "3 dropped; 1 outcome closed" in dropped.output, "one event is unreadable, and one has no outcome"
    [intended, done] = tool.bucket.audit_records
    assert done.results == {"dropped": 3, "closed": 1}
    assert [each.event_id for each in tool.queues.failing(OutcomeStatus.FAILED)] == ["event-2"]
    [closed] = tool.queues.failing(OutcomeStatus.CLOSED)
    assert isinstance(closed, Outcome)
    assert closed.closed == Closed(
        actor=intended.actor,
        actor_name=intended.actor_name,
        actor_id="AIDAEXAMPLE",
        act_id=intended.act_id,
        closed_at=tool.queues.clock.now(),
    )
    shown = tool.run("outcome", ACCOUNT).output
    assert "CLOSED" in shown
    assert intended.act_id in "".join(shown.split())
    assert "by you (name-" in " ".join(shown.split())


def test_an_outcome_stays_open_while_another_message_of_its_event_is_in_the_queues() -> None:
    tool = operator_cli(dead_letter(1), dead_letter(1, message_id="twin"))
    tool.queues.add_failure(dead_letter(1))

    assert "1 dropped; 0 outcomes closed" in tool.run("drop", "--id", "m-1", *CONFIRM).output
    assert tool.queues.failing(OutcomeStatus.FAILED)
    assert "1 dropped; 1 outcome closed" in tool.run("drop", "--id", "twin", *CONFIRM).output
    assert not tool.queues.failing(OutcomeStatus.FAILED)


def test_dropping_all_messages_of_an_event_at_once_closes_its_outcome() -> None:
    tool = operator_cli(dead_letter(1), dead_letter(1, message_id="twin"))
    tool.queues.add_failure(dead_letter(1))

    assert "2 dropped; 1 outcome closed" in tool.run("drop", "--event", "event-1", *CONFIRM).output


@pytest.mark.parametrize("step", ["before closing", "before deleting", "after deleting"])
def test_a_drop_that_was_interrupted_is_completed_by_another_one(step: str) -> None:
    tool = operator_cli(*(dead_letter(number) for number in range(1, 31)))
    for number in range(1, 31):
        tool.queues.add_failure(dead_letter(number))
    steps = 0

    def interrupt(now: str) -> None:
        nonlocal steps
        steps += now == step
        if steps == 2:
            raise KeyboardInterrupt

    tool.queues.on_step = interrupt
    assert tool.run("drop", "--older-than", "1s", *CONFIRM).exit_code == 1
    steps = -100
    assert tool.run("drop", "--older-than", "1s", *CONFIRM).exit_code == 0

    assert tool.queues.messages == []
    assert tool.queues.failing(OutcomeStatus.FAILED) == []
    assert len(tool.queues.failing(OutcomeStatus.CLOSED)) == 30


def test_a_redriven_message_with_a_closed_outcome_is_decided_by_its_next_attempt() -> None:
    tool = operator_cli(dead_letter(1), dead_letter(1, message_id="restored"))
    tool.queues.add_failure(dead_letter(1))
    tool.run("drop", "--event", "event-1", *CONFIRM)
    tool.queues.messages = [dead_letter(1)]

    assert "1 enforced" in tool.run("redrive", "--all", *CONFIRM).output


def test_restoring_reopens_the_outcomes_that_the_drop_closed_and_no_others() -> None:
    tool = operator_cli(dead_letter(1), dead_letter(2), dead_letter(3))
    for number in (1, 2):
        tool.queues.add_failure(dead_letter(number))
    key = backup_key(tool.run("drop", "--id", "m-1", "--id", "m-3", *CONFIRM))
    tool.run("drop", "--id", "m-2", *CONFIRM)

    assert tool.run("restore", key, *CONFIRM).exit_code == 0

    [reopened] = tool.queues.failing(OutcomeStatus.FAILED)
    assert isinstance(reopened, Outcome)
    assert (reopened.event_id, reopened.closed) == ("event-1", None)
    assert tool.bucket.audit_records[-1].results == {"restored": 2, "reopened": 1}
    assert "1 enforced" in tool.run("redrive", "--event", "event-1", *CONFIRM).output


def test_restore_edit_and_redrive_keep_the_trace_header() -> None:
    traced = [dead_letter(number, trace_header=f"Root=1-{number}") for number in (1, 2, 3)]
    tool = operator_cli(*traced)
    key = backup_key(tool.run("drop", "--id", "m-1", *CONFIRM))

    tool.run("restore", key, *CONFIRM)
    tool.run("edit", "m-2", *CONFIRM, EDITOR="sed -i s/envelope-2/envelope-9/")
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
    for number in range(1, 31):
        tool.queues.add_failure(dead_letter(number))
    key = backup_key(tool.run("drop", "--older-than", "1s", *CONFIRM))
    assert len(tool.queues.failing(OutcomeStatus.CLOSED)) == 30
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
    assert tool.queues.failing(OutcomeStatus.CLOSED) == []


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
    tool.bucket.objects |= dict.fromkeys(["acts/x.json", "backups/2026/11/24/x.jsonl"], b'{"schema_version": "x"}')

    assert "is not a backup" in str(tool.run("restore", "backups/2026/11/24/x.jsonl").exception)
    wrong = str(tool.run("restore", "acts/x.json").exception)
    assert wrong == "no backup has the key acts/x.json. `backups` lists the keys"


def test_the_beginning_of_a_backups_key_is_enough_if_no_other_has_it() -> None:
    tool = operator_cli(dead_letter(1), dead_letter(2))
    keys = [backup_key(tool.run("drop", "--id", f"m-{number}", *CONFIRM)) for number in (1, 2)]
    name = backup_action(keys[0])

    assert "2 backups have a key that begins with backups/2026" in str(tool.run("restore", "backups/2026").exception)
    result = tool.run("restore", name[:12], *CONFIRM)

    assert result.exit_code == 0, result.output
    assert "1 restored, with new message ids" in result.stderr
    assert [each.body for each in tool.queues.messages] == [dead_letter(1).body]


def test_the_backup_that_was_made_last_is_first_and_is_the_one_in_the_hint() -> None:
    """Keys name the day only, and are random within it."""
    tool = operator_cli(*(dead_letter(number) for number in range(1, 9)))
    made = []
    for number in range(1, 9):
        tool.queues.clock.sleep(1)
        made.append(backup_key(tool.run("drop", "--id", f"m-{number}", *CONFIRM)))
    tool.bucket.objects["backups/2026/11/24/unknown.jsonl"] = b""

    shown = [each["key"] for each in json.loads(tool.run("backups", "--json").stdout)]
    assert shown == [*reversed(made), "backups/2026/11/24/unknown.jsonl"]
    few = tool.run("backups", "--limit", "2")
    assert made[-1] in "".join(few.stdout.split())
    assert made[0] not in "".join(few.stdout.split())
    assert "12:00:08Z" in few.stdout
    assert f"`restore {made[-1]}` restores the latest, of 2026-11-24 12:00:08Z" in few.stderr


def test_a_lost_key_is_found_among_the_backups() -> None:
    tool = operator_cli(*(dead_letter(number) for number in range(1, 5)))
    assert "no backups" in tool.run("backups").stderr
    key = backup_key(tool.run("drop", "--id", "m-1", "--id", "m-2", "--confirm", "--reason", "INC-7"))
    tool.queues.clock.sleep(86_400)
    later = backup_key(tool.run("edit", "m-3", *CONFIRM, EDITOR="sed -i s/envelope-3/envelope-9/"))
    tool.bucket.objects["backups/2026/01/01/unknown.jsonl"] = b""

    result = tool.run("backups")

    text = "".join(result.stdout.split())
    assert text.index(later) < text.index(key) < text.index("unknown.jsonl")
    assert "2messages" in text
    assert "INC-7" in text
    assert f"`restore {later}` restores the latest" in result.stderr
    found = json.loads(tool.run("backups", "--json", "--limit", "2").stdout)
    assert [(each["key"], each["action"], each["messages"]) for each in found] == [(later, "edit", 1), (key, "drop", 2)]
    assert "2 more; --limit 3 shows all" in tool.run("backups", "--limit", "1").stderr
    assert tool.run("restore", key, *CONFIRM).exit_code == 0


def test_actions_lists_what_operators_did_and_how_it_ended() -> None:
    tool = operator_cli(dead_letter(1), dead_letter(2))
    assert "no actions" in tool.run("actions").stderr
    tool.run("drop", "--id", "m-1", "--confirm", "--reason", "INC-7")
    tool.queues.clock.sleep(3 * 86_400)
    tool.queues.on_step = killed_before_deleting(tool)
    with pytest.raises(Killed):
        tool.run("redrive", "--all", "--confirm", "--reason", "INC-8")

    found = json.loads(tool.run("actions", "--json").stdout)

    assert [(each["action"], each["reason"], each["ended"], each["results"]) for each in found] == [
        ("redrive", "INC-8", None, {}),
        ("drop", "INC-7", "completed", {"dropped": 1, "closed": 0}),
    ]
    text = tool.run("actions").stdout
    assert all(each in text for each in ("INC-7", "INC-8", "cut off", "completed", "you (name-", "1 dropped"))
    assert [each["reason"] for each in json.loads(tool.run("actions", "--since", "2d", "--json").stdout)] == ["INC-8"]


def killed_before_deleting(tool: OperatorCli) -> Callable[[str], None]:
    def kill(step: str) -> None:
        if step == "before deleting":
            tool.bucket.read_only = True
            raise Killed

    return kill


def test_a_closed_outcome_needs_no_evidence() -> None:
    """An outcome whose retries were exhausted may have none; it was RETRYING before."""
    tool = operator_cli(dead_letter(1))
    tool.organizations.attached = POLICIES
    tool.queues.add_failure(dead_letter(1))
    assert tool.run("outcome", ACCOUNT).exit_code == 1, "a FAILED outcome has evidence"

    tool.run("drop", "--id", "m-1", *CONFIRM)

    assert tool.run("outcome", ACCOUNT).exit_code == 0


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


def test_the_plan_of_a_drop_names_the_accounts_that_stay_without_their_policies() -> None:
    accounts = [f"{number:012}" for number in range(1, 13)]
    tool = operator_cli(*(dead_letter(number, account=each) for number, each in enumerate(accounts, 1)))

    text = tool.run("drop", "--older-than", "1s").stderr
    assert "12 accounts stay without the policies that these messages ask for: 000000000001, " in text
    assert "000000000010 and 2 more; `outcome ACCOUNT` shows what one carries" in text
    assert "1 account stays without" in tool.run("drop", "--account", accounts[0]).stderr
