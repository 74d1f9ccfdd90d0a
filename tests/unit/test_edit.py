"""`edit`: the edited message is sent once, the original is backed up, and no edited body is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from handlers.core.redrive.backup import read_backup
from handlers.core.redrive.dead_letter import DeadLetter
from schemas.outcome import OutcomeStatus
from tests.fake_queues import dead_letter, outcome
from tests.fakes import ACCOUNT, MANAGEMENT, NOON
from tests.operator_cli import CHANGE_BODY, CONFIRM, operator_cli


def test_an_edited_message_that_would_fail_again_is_sent_only_with_force() -> None:
    tool = operator_cli(dead_letter(1, code="INVALID_EVENT"))
    to_management_account = {"EDITOR": f"sed -i s/{ACCOUNT}/{MANAGEMENT}/g"}

    refused = tool.run("edit", "m-1", *CONFIRM, **to_management_account)
    assert refused.exit_code == 1
    assert "it is about the management account" in refused.output
    assert tool.queues.joins == []

    assert tool.run("edit", "m-1", "--force", *CONFIRM, **to_management_account).exit_code == 0
    assert len(tool.queues.joins) == 1


def test_a_message_that_is_visible_again_after_the_edit_is_not_sent() -> None:
    """Another process may have received it."""
    tool = operator_cli(dead_letter(1), expired_ids=["m-1"])
    receive_all = tool.queues.receive_all

    def receive_slowly() -> Iterator[Sequence[DeadLetter]]:
        yield from receive_all()
        tool.queues.clock.advance(1000)

    tool.queues.receive_all = receive_slowly  # type: ignore[method-assign]
    result = tool.run("edit", "m-1", *CONFIRM, **CHANGE_BODY)

    assert "no longer in flight" in str(result.exception)
    assert tool.queues.joins == []


def test_an_edited_body_is_kept_in_a_file_until_it_is_sent(tmp_path: Path, edits: Path) -> None:
    tool = operator_cli(dead_letter())
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")

    broken = tool.run("edit", "m-1", *CONFIRM, EDITOR="sed -i s/.$/x/")
    assert "the new body is unreadable" in str(broken.exception)
    plan = tool.run("edit", "m-1", **CHANGE_BODY)
    assert plan.exit_code == 0
    assert "-" in plan.output
    assert tool.queues.messages == [dead_letter()]
    kept = plan.output.partition("--body ")[2].partition("`")[0]

    assert "not UTF-8" in str(tool.run("edit", "m-1", "--body", str(binary)).exception)
    sent = tool.run("edit", "m-1", "--body", kept, *CONFIRM)
    assert not Path(kept).exists(), "it holds account ids"
    assert (Path(kept).parent, edits.stat().st_mode & 0o777) == (edits, 0o700)
    assert sent.exit_code == 0, sent.output
    [join] = tool.queues.joins
    assert join.body == dead_letter().body.replace("envelope-1", "envelope-9")
    [backup] = [each for key, each in tool.bucket.objects.items() if key.startswith("backups/")]
    assert [each.body for each in read_backup(backup)] == [dead_letter().body]
    assert tool.queues.messages == []
    assert tool.bucket.audit_records[-1].results["enforced"] == 1


def test_a_file_of_the_operator_is_printed_in_the_next_command_and_never_deleted(tmp_path: Path) -> None:
    tool = operator_cli(dead_letter())
    own = tmp_path / "joinguard-mine.json"
    own.write_text(dead_letter().body.replace("envelope-1", "envelope-9"))

    plan = tool.run("edit", "m-1", "--body", str(own))
    assert f"--body {own}`" in plan.output
    assert tool.run("edit", "m-1", "--body", str(own), *CONFIRM).exit_code == 0
    assert own.exists()


def test_an_unwritable_home_is_found_before_the_editor_opens(tmp_path: Path) -> None:
    """Otherwise the edited body would be lost. A file in the place of the folder works for root too."""
    (tmp_path / "file").touch()
    tool = operator_cli(dead_letter(1))

    result = tool.run("edit", "m-1", EDITOR=f"touch {tmp_path}/opened;", XDG_CONFIG_HOME=str(tmp_path / "file"))

    assert "cannot keep the edited body" in str(result.exception)
    assert "Set XDG_CONFIG_HOME" in str(result.exception)
    assert not (tmp_path / "opened").exists()
    assert tool.queues.in_flight_ids == set()


def test_the_body_of_a_message_that_sqs_refuses_is_kept() -> None:
    tool = operator_cli(dead_letter(), refused_ids=["m-1"])
    plan = tool.run("edit", "m-1", **CHANGE_BODY)
    kept = plan.output.partition("--body ")[2].partition("`")[0]

    refused = tool.run("edit", "m-1", "--body", kept, *CONFIRM)

    assert refused.exit_code == 1
    assert "refused: InternalError" in refused.output
    assert "envelope-9" in Path(kept).read_text()
    assert tool.queues.messages == [dead_letter()]


BODIES = {
    "a whole body": dead_letter(1).body,
    "a truncated body": dead_letter(1).body[:700],
    "a body inside a string": json.dumps({"detail": dead_letter(1).body[:700]}),
}


@pytest.mark.parametrize("old", BODIES.values(), ids=BODIES)
def test_the_body_of_another_event_is_sent_only_with_force(old: str, tmp_path: Path) -> None:
    """Otherwise the message would be gone, and its own event unhandled."""
    tool = operator_cli(dead_letter(1, body=old, code="INVALID_EVENT"))
    file = tmp_path / "event.json"
    file.write_text(dead_letter(9).body)

    for arguments in ((), CONFIRM):
        refused = tool.run("edit", "m-1", "--body", str(file), *arguments)
        text = " ".join(refused.stderr.split())
        assert refused.exit_code == 1
        assert "the old body is about event event-1 and the new one about event-9" in text
        assert "the new body is about AcceptHandshake event-9, account 222222222222" in text
    assert (tool.queues.joins, len(tool.queues.messages)) == ([], 1)

    forced = tool.run("edit", "m-1", "--body", str(file), "--force", *CONFIRM)
    assert forced.exit_code == 0, forced.output
    assert "message m-1: deleted; AcceptHandshake event-9, account 222222222222: enforced" in forced.stderr


def test_the_whole_record_of_a_truncated_body_is_sent_without_force(tmp_path: Path) -> None:
    tool = operator_cli(dead_letter(1, body=dead_letter(1).body[:700], code="INVALID_EVENT"))
    file = tmp_path / "event.json"
    file.write_text(json.dumps(json.loads(dead_letter(1).body)["detail"]))

    sent = tool.run("edit", "m-1", "--body", str(file), *CONFIRM)

    assert sent.exit_code == 0, sent.output
    assert "editing" in sent.stderr
    assert "redriving" not in sent.stderr


def test_another_account_in_the_body_of_an_event_is_refused_too() -> None:
    tool = operator_cli(dead_letter(1))

    refused = tool.run("edit", "m-1", *CONFIRM, EDITOR=f"sed -i s/{ACCOUNT}/333333333333/g")

    assert "so account 222222222222 would stay without its policies" in " ".join(refused.stderr.split())
    assert tool.queues.joins == []


def test_an_event_that_is_handled_already_is_named_as_such() -> None:
    tool = operator_cli(dead_letter(1))
    key = (ACCOUNT, "event-1")
    tool.queues.rows[key] = [(NOON, outcome(key, OutcomeStatus.ENFORCED))]

    assert "this event is ENFORCED already" in tool.run("edit", "m-1", **CHANGE_BODY).stderr


def test_an_edit_counts_as_one_message_in_the_list_of_actions() -> None:
    tool = operator_cli(dead_letter(1))
    tool.run("edit", "m-1", *CONFIRM, **CHANGE_BODY)

    [action] = json.loads(tool.run("actions", "--json").stdout)
    assert action["messages"] == 1
    assert "1 message" in tool.run("actions").stdout


def test_an_unchanged_body_is_said_and_leaves_no_file(edits: Path) -> None:
    result = operator_cli(dead_letter(1)).run("edit", "m-1", EDITOR="true")

    assert "the body is not changed" in result.stderr
    assert list(edits.iterdir()) == []


def test_kept_bodies_that_are_older_than_any_message_are_deleted(edits: Path) -> None:
    edits.mkdir(parents=True)
    for name, days in (("old.json", 15), ("new.json", 13)):
        (edits / name).touch()
        at = (NOON - timedelta(days=days)).timestamp()
        os.utime(edits / name, (at, at))

    operator_cli(dead_letter(1)).run("edit", "m-1", EDITOR="true")

    assert [each.name for each in edits.iterdir()] == ["new.json"]
