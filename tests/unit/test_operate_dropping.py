"""Taking letters away, bringing them back, mending them: nothing is lost, doubled or altered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from handlers.core.errors import RetryableError, fault
from handlers.core.redrive.backup import read_backup
from handlers.core.redrive.dead_letter import DeadLetter
from tests.fake_queues import Killed, dead_letter
from tests.fakes import ACCOUNT, MANAGEMENT, NOON
from tests.operator_cli import SEND_ELSEWHERE, operator_cli


def test_a_join_by_hand_that_cannot_be_put_on_record_is_not_sent() -> None:
    at = operator_cli()
    at.bucket.refuses = True

    assert isinstance(at.run("enforce", "222222222222", "--confirm", "--reason", "x").exception, RetryableError)
    assert at.queues.joins == []


def test_what_is_dropped_comes_back_as_it_was_and_where_it_was() -> None:
    lying = [
        dead_letter(1),
        dead_letter(2, queue="undelivered"),
        dead_letter(3, code="INVALID_EVENT", body="\u2603 {broken"),
    ]
    at = operator_cli(*lying)

    dropped = at.run("drop", "--older-than", "1s", "--confirm", "--reason", "x")
    assert dropped.exit_code == 0, dropped.output
    assert at.queues.lying == []
    [key] = [each for each in at.bucket.objects if each.startswith("backups/")]
    assert f"restore {key}" in dropped.output
    assert at.bucket.locks[key] == {"mode": "COMPLIANCE", "until": NOON + timedelta(days=90)}

    assert at.run("restore", key).exit_code == 0
    assert at.queues.lying == []
    restored = at.run("restore", key, "--confirm", "--reason", "x")
    assert restored.exit_code == 0, restored.output
    assert at.queues.joins == [], "it was dead, and is dead again"
    as_it_was = [(each.queue, each.body, each.attributes) for each in lying]
    assert sorted((each.queue, each.body, each.attributes) for each in at.queues.lying) == sorted(as_it_was)
    assert [act.action for act in at.bucket.audit_records] == ["drop", "drop", "restore", "restore"]


def test_whatever_is_done_to_a_letter_it_keeps_its_trace_header() -> None:
    traced = [dead_letter(number, trace_header=f"Root=1-{number}") for number in (1, 2, 3)]
    at = operator_cli(*traced)
    dropped = at.run("drop", "--id", "m-1", "--confirm", "--reason", "x").output

    at.run("restore", dropped.partition("`restore ")[2].partition("`")[0], "--confirm", "--reason", "x")
    at.run("edit", "m-2", "--confirm", "--reason", "x", EDITOR="sed -i s/event-2/event-9/")
    at.run("redrive", "--id", "m-3", "--confirm", "--reason", "x")

    assert [each.trace_header for each in at.queues.lying] == ["Root=1-1"]
    assert [each.trace_header for each in at.queues.joins] == ["Root=1-2", "Root=1-3"]


def test_what_was_restored_or_never_dropped_is_not_restored_again() -> None:
    at = operator_cli(*(dead_letter(number) for number in range(1, 31)))
    deletes = 0

    def at_step(step: str) -> None:
        nonlocal deletes
        deletes += step == "before deleting"
        if deletes == 2:
            raise KeyboardInterrupt

    at.queues.at = at_step
    dropped = at.run("drop", "--older-than", "1s", "--confirm", "--reason", "x")
    assert dropped.exit_code == 1
    assert len(at.queues.lying) == 20
    key = dropped.output.partition("`restore ")[2].partition("`")[0]
    deletes = -100

    first = at.run("restore", key, "--confirm", "--reason", "x")
    second = at.run("restore", key, "--confirm", "--reason", "x")

    assert "left out: it is in its queue" in first.output
    assert "Nothing to do" in second.output
    at.queues.lying = at.queues.lying[:25]
    third = at.run("restore", key, "--confirm", "--reason", "what went since was redriven")
    assert "left out: it was restored before" in third.output
    assert (first.exit_code, second.exit_code, third.exit_code) == (0, 1, 1)
    assert len(at.queues.lying) == 25


def test_a_restore_that_died_is_finished_by_doing_it_again() -> None:
    """Nothing is on record of what it did, so the letters themselves tell."""
    at = operator_cli(*(dead_letter(number) for number in range(1, 31)), dead_letter(31, body=dead_letter(1).body))
    key = at.run("drop", "--older-than", "1s", "--confirm", "--reason", "x").output
    key = key.partition("`restore ")[2].partition("`")[0]
    sends = 0

    def at_step(step: str) -> None:
        nonlocal sends
        sends += step == "after sending"
        if sends == 2:
            at.bucket.refuses = True
            raise Killed

    at.queues.at = at_step
    with pytest.raises(Killed):
        at.run("restore", key, "--confirm", "--reason", "x")
    assert len(at.queues.lying) == 20
    at.bucket.refuses, sends = False, -100

    again = at.run("restore", key, "--confirm", "--reason", "x")

    assert again.exit_code == 0
    assert len(at.queues.lying) == 31
    assert sorted(each.body for each in at.queues.lying) == sorted(
        [*(dead_letter(n).body for n in range(1, 31)), dead_letter(1).body]
    )


def test_nothing_is_restored_while_letters_are_in_other_hands_unless_forced() -> None:
    """A drop that died has them in hand still, and they would be there twice."""
    at = operator_cli(dead_letter(1))
    key = at.run("drop", "--id", "m-1", "--confirm", "--reason", "x").output.partition("`restore ")[2].partition("`")[0]
    at.queues.in_hand = {"of the dead"}

    refused = at.run("restore", key, "--confirm", "--reason", "x")
    assert "in 15 minutes, or add --force" in str(refused.exception)
    assert at.queues.lying == []

    at.run("restore", key, "--force", "--confirm", "--reason", "x")
    assert len(at.queues.lying) == 1


def test_a_lost_connection_does_not_end_a_drop_nor_a_restore() -> None:
    at = operator_cli(dead_letter(1))
    cuts = ["before deleting", "before sending"]

    def at_step(step: str) -> None:
        if step in cuts:
            cuts.remove(step)
            raise RetryableError(fault("SQS.ConnectionClosedError", "cut"), soon=True)

    at.queues.at = at_step
    dropped = at.run("drop", "--id", "m-1", "--confirm", "--reason", "x")
    key = dropped.output.partition("`restore ")[2].partition("`")[0]

    assert dropped.exit_code == 0, dropped.output
    assert at.run("restore", key, "--confirm", "--reason", "x").exit_code == 0
    assert cuts == []


def test_an_edit_that_would_only_come_back_is_not_sent_unless_forced() -> None:
    at = operator_cli(dead_letter(1, code="INVALID_EVENT"))
    foreign = {"EDITOR": f"sed -i s/{ACCOUNT}/{MANAGEMENT}/g"}

    refused = at.run("edit", "m-1", "--confirm", "--reason", "x", **foreign)
    assert refused.exit_code == 1
    assert "it would fail again: it is about the management account" in refused.output
    assert at.queues.joins == []

    assert at.run("edit", "m-1", "--force", "--confirm", "--reason", "x", **foreign).exit_code == 0
    assert len(at.queues.joins) == 1


def test_an_edit_that_took_too_long_is_kept_and_not_sent() -> None:
    """Its time in hand is over, and somebody else may have acted on it."""
    at = operator_cli(dead_letter(1), lost=["m-1"])
    receive_all = at.queues.receive_all

    def slowly() -> Iterator[Sequence[DeadLetter]]:
        yield from receive_all()
        at.queues.clock.pass_(1000)

    at.queues.receive_all = slowly  # type: ignore[method-assign]
    done = at.run("edit", "m-1", "--confirm", "--reason", "x", **SEND_ELSEWHERE)

    assert "no longer in flight" in str(done.exception)
    assert at.queues.joins == []


def test_a_key_of_something_else_is_no_backup() -> None:
    at = operator_cli()
    at.bucket.objects["acts/x.json"] = b'{"schema_version": "x"}'

    assert "is not a backup" in str(at.run("restore", "acts/x.json").exception)


def test_what_an_editor_made_and_was_not_sent_is_kept(tmp_path: Path, drawer: Path) -> None:
    at = operator_cli(dead_letter())
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")

    broken = at.run("edit", "m-1", "--confirm", "--reason", "x", EDITOR="sed -i s/.$/x/")
    assert "the new body is unreadable" in str(broken.exception)
    dry = at.run("edit", "m-1", **SEND_ELSEWHERE)
    assert dry.exit_code == 0
    assert "-" in dry.output
    assert at.queues.lying == [dead_letter()]
    kept = dry.output.partition("--body ")[2].partition("`")[0]

    assert "not UTF-8" in str(at.run("edit", "m-1", "--body", str(binary)).exception)
    sent = at.run("edit", "m-1", "--body", kept, "--confirm", "--reason", "x")
    assert not Path(kept).exists(), "it holds account ids"
    assert (Path(kept).parent, drawer.stat().st_mode & 0o777) == (drawer, 0o700)
    assert sent.exit_code == 0, sent.output
    [back] = at.queues.joins
    assert back.body == dead_letter().body.replace("event-1", "event-9")
    [backup] = [each for key, each in at.bucket.objects.items() if key.startswith("backups/")]
    assert [each.body for each in read_backup(backup)] == [dead_letter().body]
    assert at.queues.lying == []
    assert at.bucket.audit_records[-1].results["enforced"] == 1


def test_a_file_of_the_operators_own_is_named_again_and_never_deleted(tmp_path: Path) -> None:
    at = operator_cli(dead_letter())
    own = tmp_path / "joinguard-mine.json"
    own.write_text(dead_letter().body.replace("event-1", "event-9"))

    dry = at.run("edit", "m-1", "--body", str(own))
    assert f"--body {own}`" in dry.output
    assert at.run("edit", "m-1", "--body", str(own), "--confirm", "--reason", "x").exit_code == 0
    assert own.exists()
