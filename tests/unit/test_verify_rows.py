"""Rows that somebody wrote by hand have findings, and rows that the workers and the tool wrote have none."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.timing import KEPT, MAX_LEASE
from schemas.audit import AuditRecord, MessageDigest
from schemas.keys import REHEARSAL_ROW, audit_key
from schemas.outcome import (
    AttachmentResult,
    Called,
    Claim,
    Closed,
    Departed,
    Outcome,
    OutcomeStatus,
    PolicyOutcome,
    RehearsalHops,
)
from schemas.pseudonym import Pseudonym
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT, NOON, POLICIES, Killed, World, joined
from tests.operator_cli import CONFIRM, operator_cli
from tests.removals import TwoWorkers
from tests.unit.test_crash import AFTER_THE_LEASE, kill
from tests.unit.test_departures import departed, failed_join, leave
from tests.verifying import VerifyWorld

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

THROTTLED: Final = fault("TooManyRequestsException", "slow down")
OPERATOR: Final = Pseudonym(value=f"prin-{'1' * 32}", key_version="key-1")
LATER: Final = timedelta(hours=2)


def sealed(*rows: Outcome, objects: dict[str, bytes], after: timedelta = LATER) -> VerifyWorld:
    """Return a world with these rows, whose objects were sealed at noon, when it is sealed again some time later."""
    w = VerifyWorld()
    for key, body in objects.items():
        w.bucket.put(key, body)
    w.seal()
    w.rows.rows += rows
    w.clock.advance(after.total_seconds())
    w.seal()
    return w


def not_sealed(world: VerifyWorld, after: timedelta) -> VerifyWorld:
    """Return a world with the same rows and objects, all written just after the last batch of its log was sealed."""
    w = VerifyWorld()
    w.seal()
    for key, versions in world.bucket.versions.items():
        if key.startswith(("evidence/", "acts/")):
            w.bucket.put(key, versions[0].body or b"")
    w.rows.rows += world.rows.rows
    w.clock.advance(after.total_seconds())
    return w


def of(world: World, after: timedelta = LATER) -> VerifyWorld:
    """Return a world with what the workers wrote."""
    return sealed(
        *map(Outcome.model_validate, world.ledger.rows.values()), objects=dict(world.archive.bodies), after=after
    )


def found(w: VerifyWorld) -> list[str]:
    """Return what findings about records say. Nothing is sealed for hours, which is a finding about the log."""
    return [each.meaning for each in w.verification().findings if each.kind.value != "gap"]


def change(w: VerifyWorld, **fields: Any) -> None:
    [row] = w.rows.rows
    w.rows.rows[0] = row.model_copy(update=fields)


def enforced() -> VerifyWorld:
    world = World()
    world.handle(joined())
    return of(world)


def retrying() -> VerifyWorld:
    """Return a world in which an attempt was throttled, and is made again."""
    world = World()
    world.steps.fail("read", *[RetryableError(THROTTLED)] * 9)
    world.handle(joined())
    return of(world, after=timedelta(0))


def failed() -> VerifyWorld:
    world = World()
    failed_join(world)
    return of(world)


# ---------------------------------------------------------------- one field after the other

OTHER: Final = "p-somethingelse"
HOPS: Final = RehearsalHops(event_id="event-9", queued_at=NOON)
CLOSED: Final = Closed(actor=OPERATOR, actor_id="AIDAEXAMPLE", act_id="invented", closed_at=NOON)
DEPARTED: Final = Departed(cause="left", left_at=NOON, event_id="departure-9")
CLAIM: Final = Claim(result=AttachmentResult.ATTACHED, at=NOON, seal="0" * 64)

#: For each field of an outcome, what somebody sets it to in the row of a join whose policies were attached.
BY_HAND: Final[dict[str, list[dict[str, Any]]]] = {
    "account_id": [{"account_id": "333333333333"}],
    "event_id": [{"event_id": "event-2"}],
    "event_name": [{"event_name": "MoveAccount"}],
    "source": [{"source": "joinguard.sweep"}],
    "status": [{"status": each} for each in OutcomeStatus if each is not OutcomeStatus.ENFORCED],
    "policies": [
        {"policies": ()},
        {"policies": (PolicyOutcome(policy_id=OTHER, result=AttachmentResult.ATTACHED),)},
        {
            "policies": tuple(
                PolicyOutcome(policy_id=each, result=AttachmentResult.ATTACHED, fault=THROTTLED) for each in POLICIES
            )
        },
        {
            "policies": tuple(
                PolicyOutcome(policy_id=each, result=AttachmentResult.ATTACHED, exceptions=("EXC",))
                for each in POLICIES
            )
        },
    ],
    "attempts": [{"attempts": 0}, {"attempts": 2}],
    "event_time": [{"event_time": NOON - timedelta(days=3)}, {"event_time": NOON - timedelta(seconds=9)}],
    "received_at": [{"received_at": NOON + timedelta(minutes=30)}, {"received_at": NOON + timedelta(days=9)}],
    "updated_at": [{"updated_at": NOON + timedelta(minutes=1)}, {"updated_at": NOON + timedelta(days=9)}],
    "done_at": [{"done_at": None}, {"done_at": NOON + timedelta(hours=1), "updated_at": NOON + timedelta(hours=1)}],
    "fault": [{"fault": THROTTLED}],
    "evidence_key": [{"evidence_key": None}, {"evidence_key": "evidence/2026/11/24/event-1/none/0001.json"}],
    "evidence_sha256": [{"evidence_sha256": None}, {"evidence_sha256": "0" * 64}],
    "intents": [{"intents": {2: (OTHER,)}}, {"intents": {1: (OTHER,), 9: ()}}],
    "guardrails": [{"guardrails": "0" * 64}, {"guardrails": None}],
    "announced": [{"announced": {2: ("0" * 64,)}}],
    "claims": [{"claims": {OTHER: CLAIM}}, {"claims": {POLICIES[0]: CLAIM.model_copy(update={"result": "REMOVED"})}}],
    "called": [{"called": Called(principal=OPERATOR, policy_id=OTHER)}],
    "closed": [{"closed": CLOSED}, {"status": OutcomeStatus.CLOSED, "closed": CLOSED}],
    "departed": [{"departed": DEPARTED}, {"status": OutcomeStatus.CLOSED, "departed": DEPARTED}],
    "rehearsal": [{"rehearsal": HOPS}, {"rehearsal": HOPS, "event_id": "event-2", "evidence_key": None}],
    "lease_until": [
        {"lease_until": NOON + LATER + each} for each in (timedelta(minutes=1), timedelta(1), -timedelta(1))
    ],
}
#: What nothing finds; infra/THREATS.md says why.
NOT_FOUND: Final[dict[str, dict[str, Any]]] = {
    "received_at": {"received_at": NOON - timedelta(days=3)},
    "policies": {
        "policies": (
            *(PolicyOutcome(policy_id=each, result=AttachmentResult.ATTACHED) for each in POLICIES),
            PolicyOutcome(policy_id=OTHER, result=AttachmentResult.REMOVAL_REQUESTED),
        )
    },
    "unclear": {"unclear": (OTHER,)},
    "claims": {"claims": {}},
}


def test_every_field_of_an_outcome_is_set_by_hand_below() -> None:
    assert BY_HAND.keys() | NOT_FOUND.keys() == Outcome.model_fields.keys()


@pytest.mark.parametrize("fields", [each for many in BY_HAND.values() for each in many], ids=str)
def test_a_field_that_somebody_set_by_hand_has_a_finding(fields: dict[str, Any]) -> None:
    w = enforced()
    assert found(w) == []

    change(w, **fields)

    assert found(w)


@pytest.mark.parametrize("field", NOT_FOUND)
def test_what_the_document_of_threats_says_that_nothing_finds_is_not_found(field: str) -> None:
    w = enforced()
    change(w, **NOT_FOUND[field])

    assert found(w) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts": 2, "lease_until": NOON + LATER + timedelta(minutes=1)},
        {"attempts": 2, "lease_until": NOON + LATER + timedelta(minutes=1), "policies": ()},
        {"attempts": 2, "updated_at": NOON + LATER},
        {"attempts": 2, "lease_until": NOON + LATER, "status": OutcomeStatus.FAILED},
    ],
    ids=str,
)
def test_no_attempt_that_somebody_made_up_keeps_an_enforced_row_from_being_compared(fields: dict[str, Any]) -> None:
    w = enforced()
    change(w, **fields)

    assert found(w)


@pytest.mark.parametrize(
    "fields",
    [
        {"policies": ()},
        {"status": OutcomeStatus.ENFORCED},
        {"fault": None},
        {"done_at": None},
        {"done_at": None, "status": OutcomeStatus.RETRYING},
        {"attempts": 1},
        {"lease_until": NOON + LATER + MAX_LEASE + timedelta(seconds=1)},
        {"lease_until": NOON + LATER - KEPT - timedelta(seconds=1)},
        {},
    ],
    ids=str,
)
def test_while_an_attempt_is_running_the_row_says_what_the_one_before_recorded(fields: dict[str, Any]) -> None:
    running = {"attempts": 2, "lease_until": NOON + LATER + timedelta(minutes=1)}
    w = failed()
    change(w, **running | fields)

    assert bool(found(w)) == bool(fields)


def with_time(row: Outcome, name: str, at: datetime) -> Outcome:
    """Return a row with another time in one of its fields, or in a field of one of them."""
    outer, _, inner = name.partition(".")
    if not inner:
        return row.model_copy(update={name: at})
    value = getattr(row, outer)
    if outer == "claims":
        return row.model_copy(update={outer: {each: CLAIM.model_copy(update={inner: at}) for each in value}})
    return row.model_copy(update={outer: value.model_copy(update={inner: at})})


def moments_of(model: type[BaseModel]) -> set[str]:
    """Return the names of the times that a contract has."""
    return {name for name, field in model.model_fields.items() if "AwareDatetime" in repr(field)}


#: Every time of a row. A rehearsal has a finding of its own in any row but that of rehearsals.
TIMES: Final = (
    "event_time",
    "received_at",
    "updated_at",
    "done_at",
    "lease_until",
    "claims.at",
    "closed.closed_at",
    "departed.left_at",
)


def test_every_time_of_a_row_is_set_below() -> None:
    nested: dict[str, type[BaseModel]] = {"claims": Claim, "closed": Closed, "departed": Departed}
    names = {f"{outer}.{inner}" for outer, model in nested.items() for inner in moments_of(model)}

    assert {*TIMES} == names | (moments_of(Outcome) & Outcome.model_fields.keys())


@pytest.mark.parametrize("at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)], ids=str)
@pytest.mark.parametrize("name", TIMES)
def test_the_first_and_the_last_time_that_there_is_have_a_finding(name: str, at: datetime) -> None:
    w = closed_by(close)[0] if "closed" in name else of(departure()) if "departed" in name else enforced()
    number = next(number for number, row in enumerate(w.rows.rows) if row.closed or row.departed or row.done_at)

    w.rows.rows[number] = with_time(w.rows.rows[number], name, at)

    is_found = name != "claims.at" and (name, at.year) != ("received_at", 1)
    assert bool(found(w)) == is_found


@pytest.mark.parametrize("at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)], ids=str)
def test_a_row_whose_times_are_all_the_first_or_the_last_one_has_a_finding(at: datetime) -> None:
    w, row = closed_by(close)

    for name in ("event_time", "received_at", "updated_at", "done_at", "closed.closed_at"):
        row = with_time(row, name, at)
    w.rows.rows[0] = row

    assert found(w)


def test_an_operator_whose_clock_is_slow_closes_an_outcome_before_it_was_decided() -> None:
    w, row = closed_by(close)
    assert row.done_at
    assert row.closed
    slow = row.done_at - timedelta(minutes=5)

    change(w, updated_at=slow, closed=row.closed.model_copy(update={"closed_at": slow}))

    assert found(w) == []


def test_an_attempt_whose_evidence_was_not_written_has_an_hour_for_the_next_one() -> None:
    world = World()
    world.steps.fail("record", *[RetryableError(fault("S3.SlowDown", "slow down"))] * 9)
    world.handle(joined())

    assert found(of(world, after=timedelta(minutes=59))) == []
    [says] = [each for each in of(world).verification().findings if each.kind.value != "gap"]
    assert "no evidence of the event says so" in says.meaning
    assert "make dlq" in says.next_step


def test_a_row_that_is_retrying_without_evidence_is_counted_and_after_two_weeks_a_finding() -> None:
    w = retrying()

    verification = w.verification()
    assert verification.findings == ()
    assert list(verification.left_out) == ["outcomes that are tried again"]
    w.clock.advance(KEPT.total_seconds())
    assert found(w) == []
    w.clock.advance(1)
    [says] = found(w)
    assert "longer than SQS keeps a message" in says


@pytest.mark.parametrize(
    "fields",
    [
        {"policies": (PolicyOutcome(policy_id=OTHER, result=AttachmentResult.ATTACHED),)},
        {"claims": {OTHER: CLAIM}},
        {"intents": {9: (OTHER,)}},
        {"announced": {9: ("0" * 64,)}},
        {"updated_at": NOON + timedelta(days=9)},
        {"done_at": NOON},
        {"evidence_key": "evidence/2026/11/25/event-1/none/0001.json"},
    ],
    ids=str,
)
def test_what_a_retrying_row_says_beyond_its_attempts_has_a_finding(fields: dict[str, Any]) -> None:
    w = retrying()
    w.clock.advance(LATER.total_seconds())
    w.seal()
    change(w, **fields)

    assert found(w)


def test_a_row_with_a_rehearsal_is_left_out_only_under_the_key_of_rehearsals() -> None:
    w = enforced()
    account_id, event_id = REHEARSAL_ROW
    w.rows.rows.append(
        w.rows.rows[0].model_copy(update={"account_id": account_id, "event_id": event_id, "rehearsal": HOPS})
    )

    assert found(w) == []
    made_up = {"event_id": "event-2", "evidence_key": None, "rehearsal": HOPS}
    w.rows.rows.append(w.rows.rows[0].model_copy(update=made_up))
    assert any("rehearsal" in each for each in found(w))


@pytest.mark.parametrize("fields", [{"intents": {1: (OTHER,)}}, {"announced": {1: ("0" * 64,)}}], ids=str)
def test_no_attempt_of_a_decided_event_is_open_without_evidence(fields: dict[str, Any]) -> None:
    world = World()
    kill(world, 3, "before")
    with suppress(Killed):
        world.handle(joined())
    world.steps.on_call = lambda _name, _when: None
    world.clock.advance(AFTER_THE_LEASE)
    world.handle(joined(), receives=2)
    w = of(world)
    assert (w.rows.rows[0].attempts, found(w)) == (2, [])

    change(w, **fields)

    assert found(w)


def test_a_later_attempt_that_changed_a_policy_has_evidence_of_its_own() -> None:
    world = World()
    throttled = RetryableError(fault("ReadTimeoutError", "no answer"), soon=True, ambiguous=True)
    world.steps.fail("attach", *[throttled] * 99)
    world.handle(joined())
    w = of(world)
    [row] = w.rows.rows
    assert (row.status, bool(row.evidence_key), found(w)) == (OutcomeStatus.RETRYING, True, [])

    change(w, attempts=2)
    assert found(w) == []
    change(w, policies=(PolicyOutcome(policy_id=OTHER, result=AttachmentResult.ATTACHED),))
    assert [each for each in found(w) if "other results of policies" in each]


# ---------------------------------------------------------------- closed by an operator


def closed_by(command: Callable[[Any], Any], event_id: str = "event-1") -> tuple[VerifyWorld, Outcome]:
    """Let an operator close the outcome of a failed join, and seal what that wrote."""
    world = World()
    failed_join(world, event_id=event_id)
    row = world.ledger.outcome(event_id)
    tool = operator_cli(dead_letter(1))
    tool.queues.rows[ACCOUNT, event_id] = [(NOON, row)]
    tool.bucket.objects |= world.archive.bodies
    result = command(tool)
    assert result.exit_code == 0, result.output
    [*_, (_, changed)] = tool.queues.rows[ACCOUNT, event_id]
    objects = {key: body for key, body in tool.bucket.objects.items() if not key.startswith("backups/")}
    return sealed(changed, objects=objects), changed


def drop(tool: Any) -> Any:
    return tool.run("drop", "--id", "m-1", *CONFIRM)


def close(tool: Any) -> Any:
    tool.queues.messages.clear()
    return tool.run("close", "--account", ACCOUNT, *CONFIRM)


def restore(tool: Any) -> Any:
    drop(tool)
    [key] = [each for each in tool.bucket.objects if each.startswith("backups/")]
    return tool.run("restore", key, *CONFIRM)


@pytest.mark.parametrize("command", [drop, close, restore])
def test_what_an_operator_closed_or_reopened_has_no_finding(command: Callable[[Any], Any]) -> None:
    w, row = closed_by(command)

    assert (row.status is OutcomeStatus.CLOSED) == (command is not restore)
    assert found(w) == []


def test_an_outcome_without_evidence_that_was_dropped_and_restored_has_no_finding() -> None:
    world = World()
    world.steps.fail("read", *[RetryableError(THROTTLED)] * 9)
    world.handle(joined())
    row = world.ledger.outcome("event-1").model_copy(update={"status": OutcomeStatus.FAILED})

    assert found(sealed(row, objects={})) == []


def another_action(closed: Closed) -> dict[str, Any]:
    return {"closed": closed.model_copy(update={"act_id": "0a1b2c"})}


def another_actor(closed: Closed) -> dict[str, Any]:
    return {"closed": closed.model_copy(update={"actor": OPERATOR})}


def another_name(closed: Closed) -> dict[str, Any]:
    return {"closed": closed.model_copy(update={"actor_name": OPERATOR})}


def another_unique_id(closed: Closed) -> dict[str, Any]:
    return {"closed": closed.model_copy(update={"actor_id": "AIDAOTHER"})}


def another_time(closed: Closed) -> dict[str, Any]:
    later = closed.closed_at + timedelta(hours=1)
    return {"closed": closed.model_copy(update={"closed_at": later}), "updated_at": later}


def another_time_of_the_row(_closed: Closed) -> dict[str, Any]:
    return {"updated_at": NOON + timedelta(hours=1)}


def other_policies(_closed: Closed) -> dict[str, Any]:
    return {"policies": ()}


def a_departure_too(_closed: Closed) -> dict[str, Any]:
    return {"departed": DEPARTED}


@pytest.mark.parametrize("command", [drop, close])
@pytest.mark.parametrize(
    "forge",
    [
        another_action,
        another_actor,
        another_name,
        another_unique_id,
        another_time,
        another_time_of_the_row,
        other_policies,
        a_departure_too,
    ],
)
def test_what_a_row_says_of_an_operator_is_what_the_audit_records_say(
    command: Callable[[Any], Any], forge: Callable[[Closed], dict[str, Any]]
) -> None:
    w, row = closed_by(command)
    assert row.closed

    change(w, **forge(row.closed))

    assert found(w)


def test_an_action_that_did_not_name_the_event_closed_nothing() -> None:
    w, row = closed_by(drop)
    w.rows.rows[0] = (
        failed()
        .rows.rows[0]
        .model_copy(
            update={
                "event_id": "event-2",
                "status": row.status,
                "closed": row.closed,
                "evidence_key": None,
                "done_at": None,
            }
        )
    )

    assert [each for each in found(w) if "do not name its event" in each]


def recorded(**changes: Any) -> VerifyWorld:
    """Return a world in which the audit records of an action say something else than that it closed the event."""
    w, row = closed_by(close)
    assert row.closed
    for phase in ("intended", "done"):
        [stored] = w.bucket.versions[audit_key(NOON, row.closed.act_id, phase)]
        record = AuditRecord.model_validate_json(stored.body or b"")
        stored.body = record.model_copy(update=changes).model_dump_json(exclude_none=True).encode()
    return w


@pytest.mark.parametrize(
    "changes",
    [
        {"letters": (MessageDigest(event_id="event-1", result="left"),)},
        {"letters": ()},
        {"action": "redrive"},
        {"act_id": "another"},
    ],
    ids=str,
)
def test_audit_records_that_say_that_something_else_was_done_close_nothing(changes: dict[str, Any]) -> None:
    assert [each for each in found(recorded(**changes)) if "audit record" in each]


@pytest.mark.parametrize("phase", ["intended", "done"])
def test_what_an_operator_closed_is_left_out_if_an_audit_record_is_in_an_archive(phase: str) -> None:
    w, row = closed_by(close)
    assert row.closed
    w.sealed_bucket.archived.add(audit_key(NOON, row.closed.act_id, phase))
    w.rows.rows.append(row.model_copy(update={"event_id": "event-8"}))

    verification = w.verification()
    assert [each for each in verification.findings if "event-8" in each.meaning], "further rows are compared"
    assert verification.left_out["outcomes that an operator closed"].startswith("2 have audit records")


def test_an_audit_record_that_s3_denies_closed_nothing_and_further_rows_are_compared() -> None:
    w, row = closed_by(close)
    assert row.closed
    w.sealed_bucket.foreign.add(audit_key(NOON, row.closed.act_id, "intended"))
    w.rows.rows.append(row.model_copy(update={"event_id": "event-8", "closed": None}))

    verification = w.verification()
    says = {each.what: each.meaning for each in verification.findings if each.what in {"event-1", "event-8"}}
    assert "no audit record" in says["event-1"]
    assert "event-8" in says
    assert "outcomes" not in verification.left_out


def test_an_object_that_is_larger_than_any_audit_record_closed_nothing() -> None:
    w, row = closed_by(close)
    assert row.closed
    [stored] = w.bucket.versions[audit_key(NOON, row.closed.act_id, "intended")]
    stored.body = (stored.body or b"") + b" " * 64 * 1024 * 1024

    assert [each for each in found(w) if "no audit record" in each]


def test_an_event_that_records_name_under_a_key_that_is_gone_may_be_the_one_that_was_closed() -> None:
    event_id = f"event-{ACCOUNT}"
    w, _ = closed_by(close, event_id)
    assert found(w) == []

    w.pseudonyms = replace(w.pseudonyms, key_version="key-2", former=("key-1",))
    assert found(w) == []
    w.pseudonyms.lost_keys = ("key-1",)
    assert found(w) == []
    change(w, event_id="event-9", evidence_key=None, done_at=None)
    assert [each for each in found(w) if "do not name its event" in each], "this id is in no record as a digest"


def test_an_action_that_was_cut_off_has_closed_what_it_intended_to() -> None:
    w, row = closed_by(drop)
    assert row.closed
    cut_off = {key: versions[0].body or b"" for key, versions in w.bucket.versions.items() if key[0] in "ae"}
    del cut_off[audit_key(NOON, row.closed.act_id, "done")]

    assert found(sealed(row, objects=cut_off)) == []
    del cut_off[audit_key(NOON, row.closed.act_id, "intended")]
    assert found(sealed(row, objects=cut_off))


def test_an_action_of_the_last_hour_may_not_be_sealed_yet_and_an_invented_one_is_found_at_once() -> None:
    w, row = closed_by(drop)
    assert row.closed
    evidence = {key: each[0].body or b"" for key, each in w.bucket.versions.items() if key.startswith("evidence/")}
    acts = {key: each[0].body or b"" for key, each in w.bucket.versions.items() if key.startswith("acts/")}

    young = sealed(row, objects=evidence, after=timedelta(minutes=30))
    for key, body in acts.items():
        young.bucket.put(key, body)
    assert found(young) == []
    assert found(sealed(row, objects=evidence, after=timedelta(minutes=1)))
    old = sealed(row, objects=evidence)
    for key, body in acts.items():
        old.bucket.put(key, body)
    assert [each for each in found(old) if "no audit record in the log" in each]


# ---------------------------------------------------------------- closed by a departure


def departure() -> World:
    """Return a world in which an account left after a failed join."""
    world = World()
    failed_join(world)
    leave(world)
    world.handle(departed())
    world.handle(joined(event_id="event-3", age=5000), receives=9)
    assert {each["status"] for each in world.ledger.rows.values()} == {OutcomeStatus.CLOSED}
    return world


def test_what_a_departure_closed_has_no_finding() -> None:
    w = of(departure())

    assert len(w.rows.rows) == 3
    assert found(w) == []


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(
    "changes",
    [{"cause": "left"}, {"left_at": NOON - timedelta(seconds=1)}, {"event_id": "departure-2"}],
    ids=str,
)
def test_what_a_row_says_of_a_departure_is_what_its_evidence_says(number: int, changes: dict[str, Any]) -> None:
    w = of(departure())
    row = w.rows.rows[number]
    assert row.departed
    w.rows.rows[number] = row.model_copy(update={"departed": row.departed.model_copy(update=changes)})

    assert found(w)


def test_a_departure_closes_nothing_that_came_after_it_or_that_is_another_accounts() -> None:
    world = departure()
    for changes in ({"event_time": NOON}, {"account_id": "333333333333"}):
        w = of(world)
        [row] = [each for each in w.rows.rows if each.event_id == "event-1"]
        made_up = {"evidence_key": None, "evidence_sha256": None, "policies": (), "done_at": None}
        w.rows.rows.append(row.model_copy(update={**made_up, "event_id": "event-8", **changes}))

        assert found(w)


def test_the_evidence_of_a_departure_has_an_hour_to_be_written_and_sealed() -> None:
    world = departure()
    row = world.ledger.outcome("event-1")
    own = {key: body for key, body in world.archive.bodies.items() if "event-1/" in key}

    assert found(sealed(row, objects=own, after=timedelta(minutes=59))) == []
    [says] = found(sealed(row, objects=own))
    assert "no evidence of that departure" in says


# ---------------------------------------------------------------- after the end of the log


def crashed() -> VerifyWorld:
    """Return a world in which the second attempt wrote the evidence of the first one."""
    world = World()
    kill(world, 5, "after")
    with suppress(Killed):
        world.handle(joined())
    world.steps.on_call = lambda _name, _when: None
    world.clock.advance(AFTER_THE_LEASE)
    world.handle(joined(), receives=2)
    assert len(world.archive.bodies) == 2
    return of(world)


@pytest.mark.parametrize(
    "history", [crashed, lambda: closed_by(close)[0], lambda: of(departure())], ids=["crashed", "closed", "departed"]
)
def test_what_was_written_after_the_end_of_the_log_is_not_compared_with_the_log(
    history: Callable[[], VerifyWorld],
) -> None:
    w = not_sealed(history(), timedelta(minutes=70))
    assert found(w) == []

    # These announcements are lost, so the log never names the records.
    w.bucket.queue.clear()
    w.seal()
    assert [each for each in found(w) if "the row" in each]


def test_a_row_that_somebody_made_up_does_not_hide_the_action_that_closed_another_one() -> None:
    w, row = closed_by(close)
    assert row.closed
    before = NOON - timedelta(days=3)
    closed = row.closed.model_copy(update={"closed_at": before})
    w.rows.rows.insert(0, row.model_copy(update={"event_id": "event-0", "closed": closed, "updated_at": before}))

    assert {each.what for each in w.verification().findings if "audit record" in each.meaning} == {"event-0"}


# ---------------------------------------------------------------- whatever happens to a worker


def test_requests_to_remove_policies_and_what_became_of_them_have_no_finding() -> None:
    world = TwoWorkers()
    world.join()
    world.retire()
    world.remove()
    results = {each.result for row in world.ledger.rows.values() for each in row["policies"]}
    assert {AttachmentResult.REMOVAL_REQUESTED, AttachmentResult.REMOVED} <= results

    assert found(of(world)) == []


def test_an_attempt_whose_request_was_not_sent_has_an_hour_for_the_next_one() -> None:
    world = TwoWorkers()
    world.join()
    world.steps.fail("request removal", *[RetryableError(fault("SQS.Down", "no"))] * 9)
    world.retire()
    assert world.ledger.outcome("event-2").status is OutcomeStatus.RETRYING

    assert found(of(world, after=timedelta(minutes=59))) == []
    [says] = [each for each in of(world).verification().findings if each.kind.value != "gap"]
    assert "the row says RETRYING, and its evidence ENFORCED" in says.meaning
    assert "make dlq" in says.next_step


def test_a_decided_row_that_somebody_made_retrying_has_the_next_step_of_any_other() -> None:
    w = enforced()
    change(w, status=OutcomeStatus.RETRYING, done_at=None)

    [says] = [each for each in w.verification().findings if each.kind.value != "gap"]
    assert "make dlq" not in says.next_step


def attached_by_somebody(world: World, policy_id: str) -> None:
    """Let somebody attach a policy just before the worker does."""

    def on_call(name: str, _when: str) -> None:
        if name == "attach" and policy_id not in world.organizations.attached[ACCOUNT]:
            world.organizations.attached[ACCOUNT].append(policy_id)
        if name == "settle":
            raise Killed

    world.steps.on_call = on_call


def refused_by_aws(world: World, _policy_id: str) -> None:
    """Let AWS refuse the first attachment."""
    world.steps.fail("attach", PermanentError(fault("ConstraintViolationException", "no place")))

    def on_call(name: str, _when: str) -> None:
        if name == "settle":
            raise Killed

    world.steps.on_call = on_call


@pytest.mark.parametrize("crash", [attached_by_somebody, refused_by_aws])
def test_what_the_attempt_after_a_crash_claims_more_than_the_evidence_says_is_no_finding(
    crash: Callable[[World, str], None],
) -> None:
    world = World()
    crash(world, POLICIES[0])
    with suppress(Killed):
        world.handle(joined())
    world.steps.on_call = lambda _name, _when: None
    world.organizations.attached[ACCOUNT] = ["p-FullAWSAccess", *POLICIES]
    world.clock.advance(AFTER_THE_LEASE)
    world.handle(joined(), receives=2)

    row = world.ledger.outcome("event-1")
    assert (row.status, row.attempts, set(row.claims)) == (OutcomeStatus.ENFORCED, 2, set(POLICIES))
    assert found(of(world)) == []


STEPS: Final = ["begin", "read", "attach", "intend", "announce", "record", "settle", "pseudonym"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 14), st.sampled_from(["before", "after"])), max_size=4),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 3)), max_size=3),
    st.integers(0, 59),
)
def test_no_history_of_crashes_and_faults_has_a_finding(
    kills: list[tuple[int, str]], faults: list[tuple[str, int]], minutes: int
) -> None:
    world = World()
    for step, times in faults:
        world.steps.fail(step, *[RetryableError(fault("S3.SlowDown", "slow down"), ambiguous=step == "attach")] * times)
    for receive, (call, when) in enumerate(kills, start=1):
        kill(world, call, when)
        with suppress(Killed):
            world.handle(joined(), receives=receive)
        assert found(of(world, after=timedelta(minutes=minutes) + (world.clock.now() - NOON))) == []
        world.clock.advance(AFTER_THE_LEASE)
    world.steps.on_call = lambda _name, _when: None
    for receive in range(len(kills) + 1, len(kills) + 12):
        world.handle(joined(), receives=receive)
        world.clock.advance(AFTER_THE_LEASE)

    row = world.ledger.outcome("event-1")
    assert row.status is OutcomeStatus.ENFORCED
    assert found(of(world)) == []
