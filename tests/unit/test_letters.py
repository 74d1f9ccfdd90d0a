"""Putting letters back: what was meant goes back exactly once or is still there, what was not meant is untouched."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.acts import NEXT_STEPS, Actor
from handlers.core.errors import RetryableError, fault
from handlers.core.letters import GAVE_UP, DeadLetter, backup, edited, restored
from handlers.core.redrive import Filter, Redrive, group, make_plan
from handlers.operate.__main__ import drop, edit, list_letters, redrive, restore, show_letter
from handlers.operate.workbench import Workbench
from infra.deploy.build import ROOT
from schemas.evidence import Pseudonym
from schemas.intake import InvalidEventError
from tests.fakes import ACCOUNT, NOON, FakeClock, joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def letter(
    number: int = 1,
    *,
    code: str = "AccessDeniedException",
    account: str = ACCOUNT,
    **changes: Any,  # noqa: ANN401 - parts of a letter
) -> DeadLetter:
    attributes: dict[str, dict[str, Any]] = {
        "ERROR_CODE": {"DataType": "String", "StringValue": code},
        "ERROR_MESSAGE": {"DataType": "String", "StringValue": "p-aaaaaaaa: not allowed"},
        "REDRIVES": {"DataType": "Number", "StringValue": str(changes.pop("redrives", 0))},
        "foreign": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
    }
    made = DeadLetter(
        queue="dead letters",
        message_id=f"m-{number}",
        receipt=f"r-{number}",
        body=json.dumps(joined(account, event_id=f"event-{number}")),
        attributes=attributes,
        sent_at=NOON - timedelta(hours=number),
        receives=1,
    )
    return replace(made, **changes)


@dataclass
class FakePost:
    """Both queues and the joins, in memory, in batches as SQS has them."""

    lying: list[DeadLetter]
    in_hand: set[str] = field(default_factory=set)
    joins: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)
    #: Called before and after each step.
    at: Callable[[str], None] = lambda _step: None
    #: Letters that come back dead at once.
    comes_back: bool = False
    came_back: int = 0
    held: int = 0

    def browse(self) -> Iterator[DeadLetter]:
        for each in list(self.lying):
            self.in_hand.add(each.message_id)
            yield each

    def release(self, letters: Sequence[DeadLetter]) -> None:
        self.in_hand -= {each.message_id for each in letters}

    def hold(self, letters: Sequence[DeadLetter]) -> None:
        self.held += len(letters)

    def resend(self, letters: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
        self.at("before sending")
        self.joins += [(each.body, dict(each.put_back())) for each in letters]
        self.came_back += len(letters) if self.comes_back else 0
        self.at("after sending")
        return letters

    def delete(self, letters: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
        self.at("before deleting")
        gone = {each.message_id for each in letters}
        self.lying = [each for each in self.lying if each.message_id not in gone]
        self.at("after deleting")
        return letters

    def waiting(self) -> int:
        return self.waits.pop(0) if self.waits else 0

    def returned(self) -> int:
        return self.came_back


def engine(post: FakePost, clock: FakeClock | None = None, **options: Any) -> Redrive:  # noqa: ANN401 - the engine's own
    at = clock or FakeClock()
    return Redrive(post, at.sleep, lambda: at.now().timestamp(), **options)


letters_ = st.lists(
    st.builds(
        letter,
        st.integers(1, 400),
        code=st.sampled_from(["AccessDeniedException", "INVALID_EVENT", "PolicyNotFoundException"]),
        account=st.sampled_from(["222222222222", "333333333333"]),
        redrives=st.integers(0, 4),
        body=st.one_of(st.just("{broken"), st.text(), st.just(json.dumps(joined()))),
    ),
    unique_by=lambda each: each.message_id,
    max_size=40,
)
filters = st.builds(
    Filter,
    codes=st.sets(st.sampled_from(["AccessDeniedException", "INVALID_EVENT"])),
    accounts=st.sets(st.sampled_from(["222222222222", "333333333333"])),
    ids=st.sets(st.sampled_from([f"m-{number}" for number in range(1, 20)])),
    older_than=st.none() | st.timedeltas(timedelta(0), timedelta(days=10)),
    limit=st.none() | st.integers(1, 50),
)


class Killed(BaseException):
    """As little to be caught as a SIGKILL, but for what `finally` does."""


@settings(deadline=None, max_examples=200)
@given(letters_, filters, st.booleans(), st.none() | st.integers(1, 12))
def test_what_is_meant_goes_back_once_or_is_still_there_and_the_rest_is_untouched(
    letters: list[DeadLetter],
    wanted: Filter,
    force: bool,  # noqa: FBT001 - hypothesis passes it so
    dies_at: int | None,
) -> None:
    post = FakePost(list(letters))
    plan = make_plan(list(post.browse()), wanted, now=NOON, max_redrives=3, would_fail=lambda _: None, force=force)
    post.release([*plan.others, *(each for each, _ in plan.left_out)])
    steps = 0

    def at(_step: str) -> None:
        nonlocal steps
        steps += 1
        if steps == dies_at:
            raise Killed

    post.at = at
    try:
        engine(post).run(plan.chosen, lambda _: None)
    except Killed:
        assert dies_at is not None

    chosen = {each.message_id for each in plan.chosen}
    assert all(wanted.matches(each, NOON) for each in plan.chosen)
    assert wanted.limit is None or len(chosen) <= wanted.limit
    assert force or all(each.redrives < 3 for each in plan.chosen)
    back = [body for body, _ in post.joins]
    lying = {each.message_id: each for each in post.lying}
    for each in letters:
        if each.message_id not in chosen:
            assert lying[each.message_id] == each
            assert each.message_id not in post.in_hand
        elif each.message_id not in lying:
            assert each.body in back
    expected = [(each.body, dict(each.put_back())) for each in plan.chosen]
    assert all(sent in expected for sent in post.joins)
    assert len(post.joins) <= len(expected)
    if dies_at is None:
        assert post.joins == expected


def test_all_attributes_go_back_and_the_redrive_is_counted() -> None:
    back = letter(redrives=2).put_back()

    assert back["REDRIVES"] == {"DataType": "Number", "StringValue": "3"}
    assert back["foreign"] == {"DataType": "Binary", "BinaryValue": b"\x00\x01"}
    assert back["ERROR_CODE"]["StringValue"] == "AccessDeniedException"


def test_it_stops_when_letters_come_back_dead() -> None:
    post = FakePost([letter(number) for number in range(1, 101)], comes_back=True)
    redriver = engine(post, breaker=5, rate=1.0)

    redriver.run(list(post.browse()), lambda _: None)

    assert redriver.sent == 5
    assert "came back dead" in redriver.stopped
    assert len(post.lying) == 95
    assert len(post.in_hand & {each.message_id for each in post.lying}) == 0


def test_live_joins_go_first() -> None:
    clock = FakeClock()
    post = FakePost([letter()], waits=[500, 200, 51, 50])

    engine(post, clock, rate=10.0).run(list(post.browse()), lambda _: None)

    assert clock.slept[:3] == [2, 2, 2]
    assert len(post.joins) == 1


def test_it_keeps_to_the_rate_and_holds_on_to_what_is_left() -> None:
    clock = FakeClock()
    post = FakePost([letter(number) for number in range(1, 701)])

    engine(post, clock, rate=1.0).run(list(post.browse()), lambda _: None)

    assert (clock.now() - NOON).total_seconds() == pytest.approx(700)
    assert post.held > 0
    assert len(post.joins) == 700


def test_a_backup_brings_a_letter_back_byte_for_byte() -> None:
    odd = letter(body='{"\\u2603": "\u2603"} \t\r')

    assert restored(backup(odd)) == replace(odd, receipt="")


def test_an_edited_body_must_be_readable() -> None:
    body = json.dumps(joined())

    assert edited(letter(body="x"), body).body == body
    with pytest.raises(InvalidEventError):
        edited(letter(), "{broken")


@pytest.mark.parametrize("by", ["code", "account", "policy", "event", "day"])
def test_every_letter_is_in_one_group(by: str) -> None:
    letters = [letter(1), letter(2, code="INVALID_EVENT", body="{broken"), letter(3, attributes={})]

    assert sum(len(each) for each in group(letters, by).values()) == 3


def test_the_runbook_has_a_line_for_each_reason_and_no_other() -> None:
    runbook = (ROOT / "RUNBOOK.md").read_text()
    section = runbook.partition("## Dead letters")[2].partition("## ")[0]
    named = {
        code.strip(" `")
        for line in section.splitlines()
        if line.strip().startswith("| `")
        for code in line.split("|")[1].split(",")
    }

    assert named == set(NEXT_STEPS)
    assert GAVE_UP in named


# --- the commands, over the fake


class Refusing:
    """A bucket that takes nothing."""

    def record(self, *_: object) -> bool:
        raise RetryableError(fault("S3.AccessDenied", "no"))

    keep = record


class Preflight:
    def would_fail(self, _letter: DeadLetter) -> str | None:
        return None


def bench(post: FakePost) -> Workbench:
    parts: dict[str, Any] = {
        "post": post,
        "archive": Refusing(),
        "outcomes": None,
        "preflight": Preflight(),
        "clock": FakeClock(),
        "sqs": None,
    }
    return Workbench(
        **parts,
        actor=Actor(Pseudonym(value="acct-" + "0" * 32, key_version="k"), "AIDAEXAMPLE"),
        policy_ids=("p-aaaaaaaa",),
        organization_id="o-exampleorgid",
        dead_letters_url="",
    )


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(redrive, []), (drop, ["--id", "m-1"]), (edit, ["m-1"])],
    ids=["redrive", "drop", "edit"],
)
def test_an_act_that_cannot_be_put_on_record_is_not_done(command: Any, arguments: list[str]) -> None:  # noqa: ANN401 - a click command
    lying = [letter()]
    post = FakePost(list(lying))
    changed = {"EDITOR": "sed -i s/event-1/event-9/"}

    done = CliRunner().invoke(command, [*arguments, "--confirm", "--reason", "x"], obj=lambda: bench(post), env=changed)

    assert isinstance(done.exception, RetryableError)
    assert post.lying == lying
    assert post.joins == []
    assert post.in_hand == set(), "letters stay in hand"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (list_letters, []),
        (redrive, []),
        (drop, ["--id", "m-1"]),
        (redrive, ["--confirm"]),
        (redrive, ["--reason", "x"]),
    ],
)
def test_nothing_is_done_without_confirm_and_reason(command: Any, arguments: list[str]) -> None:  # noqa: ANN401 - a click command
    lying = [letter()]
    post = FakePost(list(lying))

    done = CliRunner().invoke(command, arguments, obj=lambda: bench(post))

    assert done.exit_code == 0, done.output
    assert post.lying == lying
    assert post.in_hand == set()


@pytest.mark.parametrize("command", [show_letter, redrive, drop, restore, edit, list_letters])
def test_every_command_explains_itself(command: Any) -> None:  # noqa: ANN401 - a click command
    told = CliRunner().invoke(command, ["--help"])

    assert told.exit_code == 0
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))


class Moves:
    """SQS's own move task, which neither moto nor the embedded AWS has."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.cancelled: list[str] = []

    def get_queue_attributes(self, **_: object) -> dict[str, Any]:
        return {"Attributes": {"QueueArn": "arn"}}

    def start_message_move_task(self, **_: object) -> dict[str, Any]:
        return {"TaskHandle": "handle"}

    def cancel_message_move_task(self, *, TaskHandle: str) -> None:  # noqa: N803 - SQS's own name
        self.cancelled.append(TaskHandle)

    def list_message_move_tasks(self, **_: object) -> dict[str, Any]:
        state = self.states.pop(0)
        if state == "interrupt":
            raise KeyboardInterrupt
        return {"Results": [{"Status": state, "ApproximateNumberOfMessagesMoved": 7}]}


@pytest.mark.parametrize(
    ("states", "status", "cancelled"),
    [(["COMPLETED"], 0, []), (["FAILED"], 1, []), (["interrupt", "CANCELLED"], 1, ["handle"])],
    ids=["done", "failed", "interrupted"],
)
def test_sqs_own_move_is_watched_and_can_be_cancelled(states: list[str], status: int, cancelled: list[str]) -> None:
    moves = Moves(*states)
    kept: list[object] = []

    class Records:
        def record(self, _key: str, act: object) -> bool:
            kept.append(act)
            return True

    parts: dict[str, Any] = {"sqs": moves, "archive": Records()}
    at = replace(bench(FakePost([])), **parts)

    done = CliRunner().invoke(redrive, ["--native", "--confirm", "--reason", "all at once"], obj=lambda: at)

    assert done.exit_code == status, done.output
    assert moves.cancelled == cancelled
    assert [getattr(act, "phase", "") for act in kept] == ["intended", "done"]
    assert getattr(kept[1], "results", {}) == {"moved": 7}
