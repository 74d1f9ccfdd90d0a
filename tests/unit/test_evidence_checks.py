"""What the tool says of evidence: nothing is believed for its key, and nothing that is wrong is passed over."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

import pytest

from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.evidence.checks import MAX_BYTES, MAX_OBJECTS
from schemas.keys import key_beside
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT, World, joined, message
from tests.operator_cli import OperatorCli, operator_cli

ANOTHER: Final = "333333333333"


def enforced() -> tuple[OperatorCli, str]:
    """Return an office after a join was enforced, and the key of its evidence."""
    world = World()
    world.handle(joined())
    return with_records_of(world)


def with_records_of(world: World) -> tuple[OperatorCli, str]:
    tool = operator_cli(dead_letter(1, body=message(joined()).body))
    outcome = world.ledger.outcome("event-1", ACCOUNT)
    tool.queues.rows[ACCOUNT, "event-1"] = [(tool.queues.clock.now(), outcome)]
    tool.bucket.objects |= world.archive.bodies
    return tool, outcome.evidence_key or ""


def change(tool: OperatorCli, **told: Any) -> None:
    [(since, outcome)] = tool.queues.rows[ACCOUNT, "event-1"]
    tool.queues.rows[ACCOUNT, "event-1"] = [(since, outcome.model_copy(update=told))]


def told(tool: OperatorCli, *, exit_code: int) -> list[tuple[str, bool]]:
    """Return what both commands say of each piece of evidence, for machines, and see that they say it to people too."""
    done = tool.run("outcome", ACCOUNT, "--json")
    assert done.exit_code == exit_code, done.exception or done.output
    [event] = json.loads(done.stdout)["events"]
    shown = json.loads(tool.run("show", "m-1", "--json").stdout)
    assert shown["verdicts"] == event["evidence"]
    for command in (["outcome", ACCOUNT], ["show", "m-1"]):
        words = "".join(tool.run(*command).output.split()).lower()
        for each in event["evidence"]:
            assert each["verdict"].replace("_", "") in words or each["verdict"] == "another_account"
            assert each["key"] in words
    return [(each["verdict"], each["wrong"]) for each in event["evidence"]]


def test_evidence_that_is_what_was_written_is_valid() -> None:
    tool, key = enforced()

    assert told(tool, exit_code=0) == [("valid", False)]
    assert f"({key}): valid" in json.loads(tool.run("show", "m-1", "--json").stdout)["evidence"][0]


def of_another(tool: OperatorCli, key: str) -> None:
    world = World()
    world.organizations.attached[ANOTHER] = []
    world.handle(joined(ANOTHER))
    [tool.bucket.objects[key]] = world.archive.bodies.values()


def without_account(tool: OperatorCli, key: str) -> None:
    evidence = json.loads(tool.bucket.objects[key])
    del evidence["account"]
    tool.bucket.objects[key] = json.dumps(evidence).encode()


def put(change_body: Callable[[bytes], bytes]) -> Callable[[OperatorCli, str], object]:
    return lambda tool, key: tool.bucket.objects.update({key: change_body(tool.bucket.objects[key])})


HARM: Final[dict[str, tuple[Callable[[OperatorCli, str], object], str]]] = {
    "deleted": (lambda tool, key: tool.bucket.objects.pop(key), "missing"),
    "another result": (put(lambda body: body.replace(b"ENFORCED", b"FAILED")), "differs"),
    "another byte": (put(lambda body: body + b"\n"), "differs"),
    "another account's": (of_another, "another_account"),
    "nobody's": (without_account, "another_account"),
    "another event's": (put(lambda body: body.replace(b"event-1", b"event-2")), "another_event"),
    "garbage": (put(lambda _: b"garbage \xff"), "unreadable"),
    "nested without end": (put(lambda _: b"[" * 200_000), "unreadable"),
    "empty": (put(lambda _: b""), "unreadable"),
    "too large": (put(lambda body: body + b" " * MAX_BYTES), "unreadable"),
    "elsewhere": (
        lambda tool, _: change(tool, evidence_key="evidence/2026/11/24/event-2/0001.json"),
        "missing",
    ),
    "no evidence": (lambda tool, _: change(tool, evidence_key="backups/2026/11/24/x.jsonl"), "missing"),
    "not named": (lambda tool, _: change(tool, evidence_key=None, evidence_sha256=None), "missing"),
}


@pytest.mark.parametrize(("harm", "verdict"), HARM.values(), ids=HARM)
def test_what_is_wrong_with_evidence_is_said(harm: Callable[[OperatorCli, str], object], verdict: str) -> None:
    tool, key = enforced()
    harm(tool, key)

    assert (verdict, True) in told(tool, exit_code=1)


def test_an_outcome_that_waits_for_its_first_attempt_owes_no_evidence() -> None:
    world = World()
    world.steps.fail("read", *[RetryableError(fault("TooManyRequestsException", "slow down"))] * 9)
    world.handle(joined())
    tool, _ = with_records_of(world)

    assert told(tool, exit_code=0) == []


def test_a_row_of_an_older_version_has_nothing_to_compare_with_and_says_so() -> None:
    tool, key = enforced()
    old = f"{'/'.join(key.split('/')[:5])}/0001.json"
    told_then = json.loads(tool.bucket.objects.pop(key)) | {"schema_version": "joinguard/evidence/1"}
    told_then["body_sha256"] = told_then.pop("body_digest")
    tool.bucket.objects[old] = json.dumps(told_then).encode()
    change(tool, evidence_key=old, evidence_sha256=None)

    assert told(tool, exit_code=0) == [("not_compared", False)]
    assert "holds no SHA-256" in " ".join(tool.run("outcome", ACCOUNT).output.split())


def test_evidence_of_another_attempt_is_held_against_event_and_account() -> None:
    world = World()
    world.steps.fail("attach", PermanentError(fault("AccessDeniedException", "no")))
    world.handle(joined())
    world.handle(joined())
    tool, key = with_records_of(world)
    first = key.replace("0002", "0001")

    assert told(tool, exit_code=0) == [("not_compared", False), ("valid", False)]
    of_another(tool, first)
    assert told(tool, exit_code=1) == [("another_account", True), ("valid", False)]


def test_one_event_id_of_two_accounts_is_no_fault_of_either() -> None:
    world = World()
    world.organizations.attached[ANOTHER] = []
    world.handle(joined(ANOTHER))
    world.handle(joined())
    tool, key = with_records_of(world)

    assert sorted(told(tool, exit_code=0)) == [("another_account", False), ("valid", False)]
    tool.bucket.objects[f"{'/'.join(key.split('/')[:5])}/0001.json"] = next(
        body for each, body in world.archive.bodies.items() if each != key
    )
    assert sorted(told(tool, exit_code=0)) == [("another_account", False)] * 2 + [("valid", False)]


@pytest.mark.parametrize(("there", "verdict"), [(b"garbage", "unreadable"), (None, "differs")])
def test_evidence_beside_a_conflict_is_valid_and_the_conflict_is_told(there: bytes | None, verdict: str) -> None:
    """Somebody came before the worker."""
    tool, key = enforced()
    genuine = tool.bucket.objects[key]
    beside = key_beside(key, sha256(genuine).hexdigest())
    tool.bucket.objects |= {key: there or genuine.replace(b"ATTACHED", b"FAILED"), beside: genuine}
    change(tool, evidence_key=beside)

    assert sorted(told(tool, exit_code=1)) == sorted([(verdict, True), ("valid", False)])
    assert "valid, beside the object that its own key holds" in " ".join(tool.run("outcome", ACCOUNT).output.split())


def test_of_a_flood_of_objects_no_more_are_read_than_an_event_can_have_and_the_named_one_is() -> None:
    tool, key = enforced()
    tool.bucket.objects |= {
        key.replace("0001.json", f"0000-{number:05d}.json"): b"{}" for number in range(MAX_OBJECTS + 9)
    }

    verdicts = told_quickly(tool)

    assert ("valid", False) in verdicts
    assert len(verdicts) <= MAX_OBJECTS + 2


def told_quickly(tool: OperatorCli) -> list[tuple[str, bool]]:
    done = tool.run("outcome", ACCOUNT, "--json")
    assert done.exit_code == 1
    [event] = json.loads(done.stdout)["events"]
    return [(each["verdict"], each["wrong"]) for each in event["evidence"]]


def test_an_object_that_s3_does_not_give_is_told_and_keeps_no_other_from_being_shown() -> None:
    """Somebody encrypted it with a key of their own."""
    tool, key = enforced()
    read = tool.bucket.read

    def refusing(name: str, *, limit: int | None = None) -> bytes:
        if name == key:
            raise RetryableError(fault("S3.AccessDenied", "no"))
        return read(name, limit=limit)

    tool.bucket.read = refusing  # type: ignore[method-assign, assignment]

    assert told(tool, exit_code=1) == [("unreadable", True)]


def test_rows_that_cannot_be_read_are_shown_and_counted_and_hide_nothing() -> None:
    tool, _ = enforced()
    tool.queues.unreadable = [(ACCOUNT, "event-7"), (ACCOUNT, "event-8")]

    one = tool.run("outcome", ACCOUNT)
    assert one.exit_code == 1
    assert "event-1" in one.output
    assert "event-7" in one.output
    assert "2 of 3 rows are unreadable" in one.output
    machine = json.loads(tool.run("outcome", ACCOUNT, "--json").stdout)["events"]
    assert {"account_id": ACCOUNT, "event_id": "event-8", "unreadable": True, "evidence": []} in machine
    many = tool.run("outcomes")
    assert (many.exit_code, "2 of 2 rows are unreadable" in many.output) == (0, True)


def test_a_letter_whose_row_cannot_be_read_is_shown_and_redriven() -> None:
    tool = operator_cli(dead_letter(1))
    tool.queues.unreadable = [(ACCOUNT, "event-1")]

    assert "the row is unreadable" in tool.run("show", "m-1").output
    assert json.loads(tool.run("show", "m-1", "--json").stdout)["outcome"]["unreadable"] is True
    done = tool.run("redrive", "--all", "--wait", "1s", "--confirm", "--reason", "x")
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert "1 not decided yet" in done.output
    assert len(tool.queues.joins) == 1


@pytest.mark.parametrize("name", ["0002.json", "0009.json", "0001-late.json", "x/y.json"])
def test_evidence_under_a_key_that_no_worker_would_give_it_differs(name: str) -> None:
    tool, key = enforced()
    tool.bucket.objects[f"{key.rpartition('/')[0]}/{name}"] = tool.bucket.objects[key]

    assert sorted(told(tool, exit_code=1)) == [("differs", True), ("valid", False)]
