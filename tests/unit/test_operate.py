"""The operator's commands, over a desk without AWS: what they ask for before they act, and what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from handlers.aws.moves import Move
from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.letters import DeadLetter, restored
from handlers.core.summary import KEYS
from handlers.operate import screens
from handlers.operate.__main__ import cli
from handlers.operate.workbench import Caller, Workbench
from schemas.act import Act
from schemas.evidence import Pseudonym
from tests.desk import Desk, Killed, letter
from tests.fakes import ACCOUNT, MANAGEMENT, NOON, ORGANIZATION, POLICIES
from tests.unit.test_preflight import FakeOrganization, preflight


@dataclass
class Bucket:
    """Everything that was put into the bucket; or none of it, where it refuses."""

    refuses: bool = False
    objects: dict[str, Any] = field(default_factory=dict)
    locks: dict[str, Any] = field(default_factory=dict)

    def record(self, key: str, evidence: Any) -> bool:  # noqa: ANN401 - an act, or bytes
        if self.refuses:
            raise RetryableError(fault("S3.AccessDenied", "no"))
        self.objects[key] = evidence
        return True

    def keep(self, key: str, body: bytes, **lock: Any) -> bool:  # noqa: ANN401 - how long, and how
        self.locks[key] = lock
        return self.record(key, body)

    def read(self, key: str) -> bytes:
        if key not in self.objects:
            raise RetryableError(fault("S3.NoSuchKey", "no such key"))
        found = self.objects[key]
        return found if isinstance(found, bytes) else found.model_dump_json().encode()

    def under(self, prefix: str) -> list[str]:
        return [key for key in self.objects if key.startswith(prefix)]

    @property
    def acts(self) -> list[Act]:
        return [each for each in self.objects.values() if isinstance(each, Act)]


class Names:
    def of(self, _arn: str) -> Pseudonym:
        return Pseudonym(value="acct-" + "0" * 32, key_version="k")


@dataclass
class Moves:
    """SQS's own move task, which neither moto nor the embedded AWS has."""

    states: list[Move | BaseException | None] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def start(self, *, per_second: int) -> None:
        self.started.append(per_second)

    def latest(self) -> Move | None:
        state = self.states.pop(0)
        if isinstance(state, BaseException):
            raise state
        return state

    def cancel(self, handle: str) -> None:
        self.cancelled.append(handle)


@dataclass
class Office:
    """A desk with the tool on it."""

    desk: Desk
    bucket: Bucket = field(default_factory=Bucket)
    moves: Moves = field(default_factory=Moves)
    organization: FakeOrganization = field(default_factory=FakeOrganization)

    def bench(self) -> Workbench:
        parts: dict[str, Any] = {
            "post": self.desk,
            "moves": self.moves,
            "archive": self.bucket,
            "outcomes": self.desk,
            "organization": None,
            "pseudonyms": Names(),
            "clock": self.desk.clock,
        }
        return Workbench(
            **parts,
            preflight=preflight(self.organization),
            caller=Caller("arn:aws:iam::111111111111:user/x", "AIDAEXAMPLE:session"),
            policy_ids=POLICIES,
            organization_id=ORGANIZATION,
            attachments_per_second=2.0,
            lock_mode="COMPLIANCE",
            backups_kept_for=timedelta(days=90),
        )

    def run(self, *arguments: str, **environment: str) -> Result:
        command, *others = arguments
        return CliRunner().invoke(cli.commands[command], others, obj=self.bench, env=environment, catch_exceptions=True)


def office(*letters: Any, **told: Any) -> Office:  # noqa: ANN401 - letters, and parts of a desk
    return Office(Desk(list(letters), **told))


@pytest.fixture(autouse=True)
def drawer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tool keeps bodies that were not sent."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "joinguard" / "edits"


SEND_ELSEWHERE = {"EDITOR": "sed -i s/event-1/event-9/"}


@pytest.mark.parametrize(
    "arguments",
    [["redrive", "--all"], ["drop", "--id", "m-1"], ["edit", "m-1"]],
    ids=["redrive", "drop", "edit"],
)
def test_an_act_that_cannot_be_put_on_record_is_not_done(arguments: list[str]) -> None:
    at = office(letter())
    at.bucket.refuses = True

    done = at.run(*arguments, "--confirm", "--reason", "x", **SEND_ELSEWHERE)

    assert isinstance(done.exception, RetryableError)
    assert at.desk.lying == [letter()]
    assert at.desk.joins == []
    assert at.desk.in_hand == set(), "letters stay in hand"


def test_a_join_by_hand_that_cannot_be_put_on_record_is_not_sent() -> None:
    at = office()
    at.bucket.refuses = True

    assert isinstance(at.run("enforce", "222222222222", "--confirm", "--reason", "x").exception, RetryableError)
    assert at.desk.joins == []


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["redrive"], ["drop", "--id", "m-1"], ["redrive", "--reason", "x"], ["enforce", "222222222222"]],
)
def test_nothing_is_done_without_confirm(arguments: list[str]) -> None:
    at = office(letter())

    done = at.run(*arguments)

    assert done.exit_code == 0, done.output
    assert at.desk.lying == [letter()]
    assert at.desk.joins == []
    assert at.desk.in_hand == set()
    assert at.bucket.objects == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["redrive", "--all", "--confirm"], "--confirm needs --reason"),
        (["redrive", "--all", "--confirm", "--reason", "  "], "--confirm needs --reason"),
        (["redrive", "--all", "--confirm", "--reason", "x" * 1001], "evidence holds 1000"),
        (["redrive", "--confirm", "--reason", "x"], "say --all"),
        (["drop", "--confirm", "--reason", "x"], "a filter or --id"),
        (["drop", "--limit", "3", "--confirm", "--reason", "x"], "a filter or --id"),
        (["list", "--older-than", "soon"], "no length of time"),
        (["redrive", "--account", "12"], "twelve digits"),
        (["redrive", "--rate", "-1"], "is no rate"),
        (["redrive", "--rate", "nan"], "is no rate"),
        (["redrive", "--rate", "inf"], "is no rate"),
        (["redrive", "--rate", "1e-300"], "is no rate"),
        (["redrive", "--all", "--confirm", "--reason", "\x07"], "--confirm needs --reason"),
        (["enforce", "123"], "twelve digits"),
        (["redrive", "--native", "--all", "--code", "x"], "takes no filter"),
    ],
)
def test_wrong_use_is_told_and_nothing_is_done(arguments: list[str], told: str) -> None:
    at = office(letter())

    done = at.run(*arguments)

    assert done.exit_code == 2
    assert told in done.output
    assert at.desk.joins == []
    assert at.bucket.objects == {}


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_explains_itself(name: str) -> None:
    command = cli.commands[name]
    told = CliRunner().invoke(command, ["--help"])

    assert told.exit_code == 0
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    assert any(option.name == "machine" for option in command.params), "--json is everywhere"


def test_evidence_says_what_became_of_each_letter() -> None:
    at = office(letter(1), letter(2), letter(3, body="{broken"), dies=lambda each: each.message_id == "m-2")

    done = at.run("redrive", "--all", "--confirm", "--reason", "mended by bob@example.com", "--json")

    assert done.exit_code == 1, "one came back dead, one was left out"
    [intended, ended] = at.bucket.acts
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
    at = office(letter(1), letter(2), letter(3))
    in_hand: list[set[str]] = []
    at.desk.at = lambda step: in_hand.append(set(at.desk.in_hand)) if step == "before deleting" else None

    assert at.run(*arguments, "--confirm", "--reason", "x").exit_code == 0

    assert in_hand == [{"m-1"}]


def test_an_interrupt_leaves_evidence_and_nothing_in_hand() -> None:
    at = office(*(letter(number) for number in range(1, 31)))
    sends = 0

    def at_step(step: str) -> None:
        nonlocal sends
        sends += step == "before sending"
        if sends == 4:
            raise KeyboardInterrupt

    at.desk.at = at_step
    done = at.run("redrive", "--all", "--rate", "0", "--confirm", "--reason", "x")

    assert done.exit_code == 1
    assert "interrupted: 25 sent" in done.output
    ended = at.bucket.acts[-1]
    assert (ended.ended, ended.results["sent"]) == ("interrupted", len(at.desk.joins))
    assert {each.result for each in ended.letters} == {"deleted", "deleted, enforced", "left"}
    assert at.desk.in_hand & {each.message_id for each in at.desk.lying} == set()


def test_a_process_that_dies_leaves_the_intention_on_record() -> None:
    at = office(letter())

    def at_step(step: str) -> None:
        if step == "after sending":
            at.bucket.refuses = True
            raise Killed

    at.desk.at = at_step
    with pytest.raises(Killed):
        at.run("redrive", "--all", "--confirm", "--reason", "x")

    assert [act.phase for act in at.bucket.acts] == ["intended"]


def test_what_is_dropped_comes_back_as_it_was_and_where_it_was() -> None:
    lying = [letter(1), letter(2, queue="undelivered"), letter(3, code="INVALID_EVENT", body="\u2603 {broken")]
    at = office(*lying)

    dropped = at.run("drop", "--older-than", "1s", "--confirm", "--reason", "x")
    assert dropped.exit_code == 0, dropped.output
    assert at.desk.lying == []
    [key] = [each for each in at.bucket.objects if each.startswith("backups/")]
    assert f"restore {key}" in dropped.output
    assert at.bucket.locks[key] == {"mode": "COMPLIANCE", "until": NOON + timedelta(days=90)}

    assert at.run("restore", key).exit_code == 0
    assert at.desk.lying == []
    restored = at.run("restore", key, "--confirm", "--reason", "x")
    assert restored.exit_code == 0, restored.output
    assert at.desk.joins == [], "it was dead, and is dead again"
    as_it_was = [(each.queue, each.body, each.attributes) for each in lying]
    assert sorted((each.queue, each.body, each.attributes) for each in at.desk.lying) == sorted(as_it_was)
    assert [act.action for act in at.bucket.acts] == ["drop", "drop", "restore", "restore"]


def test_what_was_restored_or_never_dropped_is_not_restored_again() -> None:
    at = office(*(letter(number) for number in range(1, 31)))
    deletes = 0

    def at_step(step: str) -> None:
        nonlocal deletes
        deletes += step == "before deleting"
        if deletes == 2:
            raise KeyboardInterrupt

    at.desk.at = at_step
    dropped = at.run("drop", "--older-than", "1s", "--confirm", "--reason", "x")
    assert dropped.exit_code == 1
    assert len(at.desk.lying) == 20
    key = dropped.output.partition("`restore ")[2].partition("`")[0]
    deletes = -100

    first = at.run("restore", key, "--confirm", "--reason", "x")
    second = at.run("restore", key, "--confirm", "--reason", "x")

    assert "left out: it lies there" in first.output
    assert "nothing to do" in second.output
    at.desk.lying = at.desk.lying[:25]
    third = at.run("restore", key, "--confirm", "--reason", "what went since was redriven")
    assert "left out: it was restored before" in third.output
    assert (first.exit_code, second.exit_code, third.exit_code) == (0, 1, 1)
    assert len(at.desk.lying) == 25


def test_a_restore_that_died_is_finished_by_doing_it_again() -> None:
    """Nothing is on record of what it did, so the letters themselves tell."""
    at = office(*(letter(number) for number in range(1, 31)), letter(31, body=letter(1).body))
    key = at.run("drop", "--older-than", "1s", "--confirm", "--reason", "x").output
    key = key.partition("`restore ")[2].partition("`")[0]
    sends = 0

    def at_step(step: str) -> None:
        nonlocal sends
        sends += step == "after sending"
        if sends == 2:
            at.bucket.refuses = True
            raise Killed

    at.desk.at = at_step
    with pytest.raises(Killed):
        at.run("restore", key, "--confirm", "--reason", "x")
    assert len(at.desk.lying) == 20
    at.bucket.refuses, sends = False, -100

    again = at.run("restore", key, "--confirm", "--reason", "x")

    assert again.exit_code == 0
    assert len(at.desk.lying) == 31
    assert sorted(each.body for each in at.desk.lying) == sorted(
        [*(letter(n).body for n in range(1, 31)), letter(1).body]
    )


def test_nothing_is_restored_while_letters_are_in_other_hands_unless_forced() -> None:
    """A drop that died has them in hand still, and they would be there twice."""
    at = office(letter(1))
    key = at.run("drop", "--id", "m-1", "--confirm", "--reason", "x").output.partition("`restore ")[2].partition("`")[0]
    at.desk.in_hand = {"of the dead"}

    refused = at.run("restore", key, "--confirm", "--reason", "x")
    assert "within 15 minutes, or --force" in str(refused.exception)
    assert at.desk.lying == []

    at.run("restore", key, "--force", "--confirm", "--reason", "x")
    assert len(at.desk.lying) == 1


def test_a_lost_connection_does_not_end_a_drop_nor_a_restore() -> None:
    at = office(letter(1))
    cuts = ["before deleting", "before sending"]

    def at_step(step: str) -> None:
        if step in cuts:
            cuts.remove(step)
            raise RetryableError(fault("SQS.ConnectionClosedError", "cut"), soon=True)

    at.desk.at = at_step
    dropped = at.run("drop", "--id", "m-1", "--confirm", "--reason", "x")
    key = dropped.output.partition("`restore ")[2].partition("`")[0]

    assert dropped.exit_code == 0, dropped.output
    assert at.run("restore", key, "--confirm", "--reason", "x").exit_code == 0
    assert cuts == []


def test_a_reason_in_any_language_goes_on_record_and_names_nobody() -> None:
    at = office()

    at.run("enforce", "222222222222", "--confirm", "--reason", "修复完成, Müller für 333333333333")

    assert {act.reason for act in at.bucket.acts} == {"修复完成, Müller für [account]"}
    [digest] = at.bucket.acts[-1].letters
    assert digest.result == "sent"


@pytest.mark.parametrize("by", KEYS)
def test_what_others_wrote_is_not_taken_for_markup(by: str) -> None:
    event = json.loads(letter().body)
    event["detail"]["eventName"] = "[/red]"
    at = office(letter(1, body=json.dumps(event), why="[bold]p-aaaaaaaa[/x] :smile:", code="[/red]"))

    told = at.run("list", "--by", by)

    assert told.exit_code == 0, told.exception
    assert "[bold]p-aaaaaaaa[/x] :smile:" in told.output


def test_what_was_taken_out_of_a_message_shows_as_such() -> None:
    at = office(letter())
    at.organization.error = PermanentError(fault("AccessDeniedException", "arn:aws:iam::111111111111:user/x may not"))

    assert (
        "not found out: Organizations does not answer: AccessDeniedException: [arn] may not" in at.run("redrive").output
    )


def test_what_nobody_can_follow_is_no_success() -> None:
    done = office(letter(1, body="{broken")).run("redrive", "--all", "--force", "--confirm", "--reason", "x")

    assert done.exit_code == 1
    assert "of 1 nobody can tell" in done.output


def test_something_else_among_the_acts_keeps_nothing_from_being_shown() -> None:
    at = office(letter())
    at.bucket.objects["acts/2026/11/24/zz/intended.json"] = b"{}"

    assert at.run("show", "m-1").exit_code == 0


@pytest.mark.parametrize("arguments", [["redrive", "--id", "m-7"], ["drop", "--event", "nothing"]])
def test_a_letter_that_is_named_and_not_there_is_a_failure(arguments: list[str]) -> None:
    at = office(letter(1))

    assert at.run(*arguments).exit_code == 0
    assert at.run(*arguments, "--confirm", "--reason", "x").exit_code == 1
    together = at.run(
        *arguments, arguments[1], "m-1" if arguments[1] == "--id" else "event-1", "--confirm", "--reason", "x"
    )
    assert together.exit_code == 1, "one is done, and one is not there"
    assert f"not there: {arguments[2]}" in together.output
    assert at.desk.lying == []


def test_letters_in_other_hands_are_left_and_counted() -> None:
    at = office()
    at.desk.in_hand = {"of another"}

    done = at.run("redrive", "--all", "--confirm", "--reason", "x", "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["elsewhere"] == 1

    at.desk.lying = [letter(1)]
    some = at.run("redrive", "--all", "--confirm", "--reason", "x", "--json")
    assert some.exit_code == 1
    assert (json.loads(some.stdout)["elsewhere"], json.loads(some.stdout)["done"]) == (1, True)


def test_an_edit_that_would_only_come_back_is_not_sent_unless_forced() -> None:
    at = office(letter(1, code="INVALID_EVENT"))
    foreign = {"EDITOR": f"sed -i s/{ACCOUNT}/{MANAGEMENT}/g"}

    refused = at.run("edit", "m-1", "--confirm", "--reason", "x", **foreign)
    assert refused.exit_code == 1
    assert "it would only come back: it is the management account" in refused.output
    assert at.desk.joins == []

    assert at.run("edit", "m-1", "--force", "--confirm", "--reason", "x", **foreign).exit_code == 0
    assert len(at.desk.joins) == 1


def test_an_edit_that_took_too_long_is_kept_and_not_sent() -> None:
    """Its time in hand is over, and somebody else may have acted on it."""
    at = office(letter(1), lost=["m-1"])
    browse = at.desk.browse

    def slowly() -> Iterator[Sequence[DeadLetter]]:
        yield from browse()
        at.desk.clock.pass_(1000)

    at.desk.browse = slowly  # type: ignore[method-assign]
    done = at.run("edit", "m-1", "--confirm", "--reason", "x", **SEND_ELSEWHERE)

    assert "not in hand any more" in str(done.exception)
    assert at.desk.joins == []


def test_a_key_of_something_else_is_no_backup() -> None:
    at = office()
    at.bucket.objects["acts/x.json"] = b'{"schema_version": "x"}'

    assert "is no backup" in str(at.run("restore", "acts/x.json").exception)


def test_what_an_editor_made_and_was_not_sent_is_kept(tmp_path: Path, drawer: Path) -> None:
    at = office(letter())
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")

    broken = at.run("edit", "m-1", "--confirm", "--reason", "x", EDITOR="sed -i s/.$/x/")
    assert "still cannot be read" in str(broken.exception)
    dry = at.run("edit", "m-1", **SEND_ELSEWHERE)
    assert dry.exit_code == 0
    assert "-" in dry.output
    assert at.desk.lying == [letter()]
    kept = dry.output.partition("--body ")[2].partition("`")[0]

    assert "no UTF-8" in str(at.run("edit", "m-1", "--body", str(binary)).exception)
    sent = at.run("edit", "m-1", "--body", kept, "--confirm", "--reason", "x")
    assert not Path(kept).exists(), "it holds account ids"
    assert (Path(kept).parent, drawer.stat().st_mode & 0o777) == (drawer, 0o700)
    assert sent.exit_code == 0, sent.output
    [back] = at.desk.joins
    assert back.body == letter().body.replace("event-1", "event-9")
    [backup] = [each for key, each in at.bucket.objects.items() if key.startswith("backups/")]
    assert restored(backup.decode()).body == letter().body
    assert at.desk.lying == []
    assert at.bucket.acts[-1].results["enforced"] == 1


def test_a_file_of_the_operators_own_is_named_again_and_never_deleted(tmp_path: Path) -> None:
    at = office(letter())
    own = tmp_path / "joinguard-mine.json"
    own.write_text(letter().body.replace("event-1", "event-9"))

    dry = at.run("edit", "m-1", "--body", str(own))
    assert f"--body {own}`" in dry.output
    assert at.run("edit", "m-1", "--body", str(own), "--confirm", "--reason", "x").exit_code == 0
    assert own.exists()


def test_letters_are_told_apart_by_a_part_of_their_ids() -> None:
    at = office(letter(1, message_id="aaaaaaaa-1"), letter(2, message_id="aaaaaaaa-2"), letter(3))

    assert "means 2 letters" in str(at.run("show", "aaaaaaaa").exception)
    assert "no letter bbbbbbbb waits" in str(at.run("show", "bbbbbbbb").exception)
    assert at.desk.in_hand == set()
    shown = at.run("show", "event-3", "--json")
    assert json.loads(shown.stdout)["message_id"] == "m-3"


def test_show_tells_what_operators_did_to_a_letter() -> None:
    at = office(letter(1, redrives=3), letter(2))
    at.run("redrive", "--id", "m-2", "--confirm", "--reason", "another one")
    at.desk.dies = lambda _: True
    at.run("redrive", "--id", "m-1", "--force", "--confirm", "--reason", "tried too early")
    at.desk.lying = [letter(1, redrives=4, message_id="new")]

    shown = json.loads(at.run("show", "new", "--json").stdout)

    [line] = shown["history"]
    name = "acct-" + "0" * 32
    assert line.endswith(f"redrive by AIDAEXAMPLE ({name}): tried too early (completed: 1 sent, 1 deleted, 1 failed)")
    assert shown["outcome"]["status"] == "FAILED"


def running(moved: int = 3) -> Move:
    return Move("RUNNING", moved, 7, "handle", None, started=2)


def ended(status: str, *, started: int = 2, moved: int = 7) -> Move:
    return Move(status, moved, 7, None, "no room" if status == "FAILED" else None, started=started)


@pytest.mark.parametrize(("status", "exit_code"), [("COMPLETED", 0), ("FAILED", 1), ("CANCELLED", 1)])
def test_sqs_own_move_is_started_at_the_organizations_pace_and_watched(status: str, exit_code: int) -> None:
    at = office(letter())
    yesterdays = ended("COMPLETED", started=1, moved=77)
    at.moves.states = [yesterdays, None, yesterdays, running(), ended(status)]

    done = at.run("redrive", "--all", "--native", "--confirm", "--reason", "all at once")

    assert done.exit_code == exit_code, done.output
    assert at.moves.started == [1]
    assert f"{status}: 7 moved" in done.output
    [intended, last] = at.bucket.acts
    assert (intended.action, last.results) == ("move", {"moved": 7})


def test_a_move_that_runs_is_followed_and_not_started_again() -> None:
    at = office()
    at.moves.states = [running(), running(), ended("COMPLETED")]

    followed = at.run("redrive", "--all", "--native")

    assert followed.exit_code == 0
    assert "COMPLETED: 7 moved" in followed.output
    assert at.moves.started == []


def test_an_interrupt_stops_the_looking_and_not_the_move() -> None:
    at = office()
    at.moves.states = [None, running(), KeyboardInterrupt()]

    assert at.run("redrive", "--all", "--native", "--confirm", "--reason", "x").exit_code == 1
    assert at.moves.cancelled == []
    last = at.bucket.acts[-1]
    assert (last.ended, last.results) == ("interrupted", {"moved": 3})


def test_a_move_that_sqs_does_not_tell_of_is_not_waited_for_for_ever() -> None:
    at = office()
    at.moves.states = [None] * 100

    done = at.run("redrive", "--all", "--native", "--confirm", "--reason", "x")

    assert "SQS does not tell how the move goes" in str(done.exception)


def test_a_move_is_cancelled_with_a_reason() -> None:
    at = office()
    at.moves.states = [running()]
    assert "Nothing was done" in at.run("redrive", "--cancel").output
    at.moves.states = [running()]
    assert json.loads(at.run("redrive", "--cancel", "--json").stdout)["moved"] == 3
    at.moves.states = [running(), ended("CANCELLED")]

    done = at.run("redrive", "--cancel", "--confirm", "--reason", "too early")

    assert done.exit_code == 0, done.output
    assert at.moves.cancelled == ["handle"]
    assert [act.action for act in at.bucket.acts] == ["cancel", "cancel"]
    at.moves.states = [ended("CANCELLED")]
    assert "moves nothing" in str(at.run("redrive", "--cancel").exception)


def test_where_the_move_does_not_apply_it_says_why() -> None:
    at = office(letter(1), letter(2, queue="undelivered"))
    at.moves.states = [None]

    dry = at.run("redrive", "--all", "--native")

    assert "1 undelivered stay: SQS moves only out of a queue that another queue leaves its letters in" in dry.output
    assert "Nothing was done" in dry.output
    at.moves.states = [None]
    assert "say --all --native" in at.run("redrive", "--native").output


def test_what_another_operator_has_in_hand_is_told() -> None:
    at = office(letter(1))
    at.desk.in_hand = {"of another"}

    told = at.run("list")

    assert "1 more in other hands" in told.output
    assert at.desk.in_hand == {"of another"}


def test_a_look_says_what_waits_and_where_to_go_on() -> None:
    at = office(letter(1), letter(2, code="INVALID_EVENT", body="{", redrives=2))

    told = at.run("list")

    assert "2 letters wait" in told.output
    assert "→ see who may send to the queue" in told.output
    assert "redriven: 2" in told.output
    groups = json.loads(at.run("list", "--json", "--code", "INVALID_EVENT").stdout)
    assert [(group["letters"], group["ids"]) for group in groups] == [(1, ["m-2"])]
    assert groups[0]["oldest"] == (NOON - timedelta(hours=2)).isoformat()
    assert "no letter matches" in at.run("list", "--code", "x").output
    assert "no letter waits" in office().run("list").output


@pytest.mark.parametrize("width", [30, 60, 89, 90, 200])
def test_nothing_is_cut_off_on_a_narrow_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screens.show, "_width", width)

    told = office(letter(1, code="INVALID_EVENT", body="{")).run("list", "--by", "policy").output

    words = set("".join(each if each.isprintable() else " " for each in told).split())
    assert {"INVALID_EVENT", "p-aaaaaaaa", "unreadable", "not", "allowed"} <= words
    assert "m-1" in words
    assert all(len(line.rstrip()) <= width for line in told.splitlines() if "`" not in line)
