"""The checks of evidence in `outcome` and `show`: every difference from the outcome is reported."""

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
from tests.fakes import ACCOUNT, POLICIES, World, joined, message
from tests.operator_cli import CONFIRM, FakeBucket, OperatorCli, operator_cli

ANOTHER: Final = "333333333333"


def enforced() -> tuple[OperatorCli, str]:
    """Return a tool after a join was enforced, and the key of the evidence."""
    world = World()
    world.handle(joined())
    return with_records_of(world)


def with_records_of(world: World) -> tuple[OperatorCli, str]:
    tool = operator_cli(dead_letter(1, body=message(joined()).body))
    outcome = world.ledger.outcome("event-1", ACCOUNT)
    tool.queues.rows[ACCOUNT, "event-1"] = [(tool.queues.clock.now(), outcome)]
    tool.bucket.objects |= world.archive.bodies
    tool.organizations.attached = POLICIES
    return tool, outcome.evidence_key or ""


def change(tool: OperatorCli, **fields: Any) -> None:
    [(since, outcome)] = tool.queues.rows[ACCOUNT, "event-1"]
    tool.queues.rows[ACCOUNT, "event-1"] = [(since, outcome.model_copy(update=fields))]


def verdicts(tool: OperatorCli, *, exit_code: int) -> list[tuple[str, bool]]:
    """Return the verdicts that both commands print as JSON, and check that they print the same as text."""
    result = tool.run("outcome", ACCOUNT, "--json")
    assert result.exit_code == exit_code, result.exception or result.output
    [event] = json.loads(result.stdout)["events"]
    shown = json.loads(tool.run("show", "m-1", "--json").stdout)
    assert shown["evidence"] == event["evidence"]
    for command in (["outcome", ACCOUNT], ["show", "m-1"]):
        text = "".join(tool.run(*command).output.split()).lower()
        for each in event["evidence"]:
            assert each["verdict"].replace("_", "") in text or each["verdict"] == "another_account"
            assert each["key"] in text
    return [(each["verdict"], each["wrong"]) for each in event["evidence"]]


def test_unchanged_evidence_is_valid() -> None:
    tool, key = enforced()

    assert verdicts(tool, exit_code=0) == [("valid", False)]
    [checked] = json.loads(tool.run("show", "m-1", "--json").stdout)["evidence"]
    assert (checked["key"], checked["verdict"]) == (key, "valid")


def replace_by_evidence_of_another_account(tool: OperatorCli, key: str) -> None:
    world = World()
    world.organizations.attached[ANOTHER] = []
    world.handle(joined(ANOTHER))
    [tool.bucket.objects[key]] = world.archive.bodies.values()


def remove_account(tool: OperatorCli, key: str) -> None:
    evidence = json.loads(tool.bucket.objects[key])
    del evidence["account"]
    tool.bucket.objects[key] = json.dumps(evidence).encode()


def rewrite(change_body: Callable[[bytes], bytes]) -> Callable[[OperatorCli, str], object]:
    return lambda tool, key: tool.bucket.objects.update({key: change_body(tool.bucket.objects[key])})


TAMPERING: Final[dict[str, tuple[Callable[[OperatorCli, str], object], str]]] = {
    "deleted": (lambda tool, key: tool.bucket.objects.pop(key), "missing"),
    "another result": (rewrite(lambda body: body.replace(b"ENFORCED", b"FAILED")), "differs"),
    "another byte": (rewrite(lambda body: body + b"\n"), "differs"),
    "evidence of another account": (replace_by_evidence_of_another_account, "another_account"),
    "no account": (remove_account, "another_account"),
    "evidence of another event": (rewrite(lambda body: body.replace(b"event-1", b"event-2")), "another_event"),
    "garbage": (rewrite(lambda _: b"garbage \xff"), "unreadable"),
    "deeply nested": (rewrite(lambda _: b"[" * 200_000), "unreadable"),
    "empty": (rewrite(lambda _: b""), "unreadable"),
    "too large": (rewrite(lambda body: body + b" " * MAX_BYTES), "unreadable"),
    "a key of another event": (
        lambda tool, _: change(tool, evidence_key="evidence/2026/11/24/event-2/0001.json"),
        "missing",
    ),
    "a key of a backup": (lambda tool, _: change(tool, evidence_key="backups/2026/11/24/x.jsonl"), "missing"),
    "no key": (lambda tool, _: change(tool, evidence_key=None, evidence_sha256=None), "missing"),
}


@pytest.mark.parametrize(("tamper", "verdict"), TAMPERING.values(), ids=TAMPERING)
def test_tampered_evidence_is_reported(tamper: Callable[[OperatorCli, str], object], verdict: str) -> None:
    tool, key = enforced()
    tamper(tool, key)

    assert (verdict, True) in verdicts(tool, exit_code=1)


def test_an_outcome_without_a_completed_attempt_needs_no_evidence() -> None:
    world = World()
    world.steps.fail("read", *[RetryableError(fault("TooManyRequestsException", "slow down"))] * 9)
    world.handle(joined())
    tool, _ = with_records_of(world)

    assert verdicts(tool, exit_code=0) == []


def first_version(body: bytes) -> bytes:
    """Return evidence as the first version of Joinguard wrote it."""
    older = json.loads(body) | {"schema_version": "joinguard/evidence/1"}
    older["body_sha256"] = older.pop("body_digest")
    return json.dumps(older).encode()


def test_evidence_of_an_older_version_is_reported_as_not_compared() -> None:
    tool, key = enforced()
    old = f"{'/'.join(key.split('/')[:5])}/0001.json"
    tool.bucket.objects[old] = first_version(tool.bucket.objects.pop(key))
    change(tool, evidence_key=old, evidence_sha256=None)

    assert verdicts(tool, exit_code=0) == [("not_compared", False)]
    assert "holds no SHA-256" in " ".join(tool.run("outcome", ACCOUNT).output.split())


def test_evidence_of_another_attempt_is_compared_with_event_and_account() -> None:
    world = World()
    world.steps.fail("attach", PermanentError(fault("AccessDeniedException", "no")))
    world.handle(joined())
    world.handle(joined())
    tool, key = with_records_of(world)
    first = key.replace("0002", "0001")

    assert verdicts(tool, exit_code=0) == [("not_compared", False), ("valid", False)]
    replace_by_evidence_of_another_account(tool, first)
    assert verdicts(tool, exit_code=1) == [("another_account", True), ("valid", False)]


def test_one_event_id_in_events_of_two_accounts_is_not_wrong() -> None:
    world = World()
    world.organizations.attached[ANOTHER] = []
    world.handle(joined(ANOTHER))
    world.handle(joined())
    tool, key = with_records_of(world)

    assert sorted(verdicts(tool, exit_code=0)) == [("another_account", False), ("valid", False)]
    without_account = f"{'/'.join(key.split('/')[:5])}/0001.json"
    theirs = next(body for each, body in world.archive.bodies.items() if each != key)
    tool.bucket.objects[without_account] = first_version(theirs)
    assert sorted(verdicts(tool, exit_code=0)) == [("another_account", False)] * 2 + [("valid", False)]
    tool.bucket.objects[without_account] = theirs
    found = sorted(verdicts(tool, exit_code=1))
    assert found == [("another_account", False), ("another_account", True), ("valid", False)]


@pytest.mark.parametrize(("planted", "verdict"), [(b"garbage", "unreadable"), (None, "differs")])
def test_evidence_beside_a_conflict_is_valid_and_the_conflict_is_reported(planted: bytes | None, verdict: str) -> None:
    """Another object was written under the key before the worker's."""
    tool, key = enforced()
    genuine = tool.bucket.objects[key]
    beside = key_beside(key, sha256(genuine).hexdigest())
    tool.bucket.objects |= {key: planted or genuine.replace(b"ATTACHED", b"FAILED"), beside: genuine}
    change(tool, evidence_key=beside)

    assert sorted(verdicts(tool, exit_code=1)) == sorted([(verdict, True), ("valid", False)])
    assert "valid, beside the object that its own key holds" in " ".join(tool.run("outcome", ACCOUNT).output.split())


def test_of_too_many_objects_only_a_limited_number_and_the_outcomes_own_are_read() -> None:
    tool, key = enforced()
    tool.bucket.objects |= {
        key.replace("0001.json", f"0000-{number:05d}.json"): b"{}" for number in range(MAX_OBJECTS + 9)
    }

    found = json_verdicts(tool)

    assert ("valid", False) in found
    assert len(found) <= MAX_OBJECTS + 2


def json_verdicts(tool: OperatorCli) -> list[tuple[str, bool]]:
    result = tool.run("outcome", ACCOUNT, "--json")
    assert result.exit_code == 1
    [event] = json.loads(result.stdout)["events"]
    return [(each["verdict"], each["wrong"]) for each in event["evidence"]]


def test_an_object_that_cannot_be_read_is_reported() -> None:
    """Another principal may have encrypted it with its own key."""
    tool, key = enforced()
    read = tool.bucket.read

    def deny(name: str, *, limit: int | None = None) -> bytes:
        if name == key:
            raise RetryableError(fault("S3.AccessDenied", "no"))
        return read(name, limit=limit)

    tool.bucket.read = deny  # type: ignore[method-assign, assignment]

    assert verdicts(tool, exit_code=1) == [("unreadable", True)]


def test_unreadable_rows_are_printed_and_counted_beside_the_others() -> None:
    tool, _ = enforced()
    tool.queues.unreadable = [(ACCOUNT, "event-7"), (ACCOUNT, "event-8")]

    one = tool.run("outcome", ACCOUNT)
    assert one.exit_code == 1
    assert "event-1" in one.output
    assert "event-7" in one.output
    assert "2 of 3 rows are unreadable" in one.output
    events = json.loads(tool.run("outcome", ACCOUNT, "--json").stdout)["events"]
    assert {"account_id": ACCOUNT, "event_id": "event-8", "unreadable": True, "evidence": []} in events
    many = tool.run("outcomes")
    assert (many.exit_code, "2 of 2 rows are unreadable" in many.output) == (0, True)


def test_a_message_whose_row_is_unreadable_can_be_shown_and_redriven() -> None:
    tool = operator_cli(dead_letter(1))
    tool.queues.unreadable = [(ACCOUNT, "event-1")]

    assert "the row is unreadable" in tool.run("show", "m-1").output
    assert json.loads(tool.run("show", "m-1", "--json").stdout)["outcome"]["unreadable"] is True
    result = tool.run("redrive", "--all", "--wait", "1s", *CONFIRM)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "1 without an outcome yet" in result.output
    assert len(tool.queues.joins) == 1


@pytest.mark.parametrize("name", ["0002.json", "0009.json", "0001-late.json", "x/y.json"])
def test_evidence_under_a_key_that_no_worker_writes_differs(name: str) -> None:
    tool, key = enforced()
    tool.bucket.objects[f"{key.rpartition('/')[0]}/{name}"] = tool.bucket.objects[key]

    assert sorted(verdicts(tool, exit_code=1)) == [("differs", True), ("valid", False)]


@pytest.mark.parametrize("name", ["ACCOUNT/0001.json", "0002.json", "0001-late.json", "x/0001.json", "BESIDE"])
def test_evidence_of_the_first_version_under_a_key_that_no_worker_wrote_differs(name: str) -> None:
    tool, key = enforced()
    folder, account = "/".join(key.split("/")[:5]), key.split("/")[5]
    body = first_version(tool.bucket.objects.pop(key))
    beside = key_beside("0001.json", sha256(body).hexdigest())
    planted = f"{folder}/{name.replace('ACCOUNT', account).replace('BESIDE', beside)}"
    tool.bucket.objects[planted] = body
    change(tool, evidence_key=planted, evidence_sha256=None)

    assert verdicts(tool, exit_code=1) == [("differs", True)]


class Offline(FakeBucket):
    """A bucket whose objects can be listed but not read, because the connection is lost."""

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        if limit and key:
            raise RetryableError(fault("S3.ConnectionClosedError", "the connection was lost"), soon=True)
        return super().read(key, limit=limit)


def test_evidence_that_a_lost_connection_hides_is_not_reported_as_tampered() -> None:
    tool, _ = enforced()
    tool.bucket = Offline(objects=tool.bucket.objects)

    result = tool.run("outcome", ACCOUNT)

    assert isinstance(result.exception, RetryableError)
    assert "unreadable" not in result.output
