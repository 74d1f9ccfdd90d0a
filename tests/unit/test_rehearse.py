"""Rehearsals: they come to the records, and to nothing else, whatever they hold."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from handlers.core.errors import RetryableError, fault
from handlers.core.joins.ports import Message
from handlers.core.timing import Budget
from infra.local.events import rehearsal
from schemas.events import Rehearsal
from schemas.evidence import Evidence, RehearsalEvidence
from schemas.intake import InvalidEventError, read_event
from schemas.keys import REHEARSAL_ROW
from schemas.outcome import OutcomeStatus
from tests.fakes import ACCOUNT, MANAGEMENT, NOON, World, joined
from tests.messages import (
    announced,
    changed,
    created,
    invited,
    json_values,
    moved,
    paths,
    read,
    requested,
    tagged,
    untagged,
    with_detail,
)

#: Every call with which a worker reads or changes the organization.
OF_ORGANIZATIONS = frozenset({"read", "describe", "tags", "attach", "member", "detach"})
#: What only the handling of a join does.
OF_JOINS = frozenset({"begin", "intend", "announce", "settle", "send"})
EVENTS = (invited(), created(), announced(), moved(), tagged(), untagged(), requested(), rehearsal(MANAGEMENT))


def rehearsed(*, seconds_ago: float = 3, **changes: Any) -> dict[str, Any]:
    when = (NOON - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return rehearsal(MANAGEMENT) | {"id": "rehearsal-1", "time": when} | changes


def failing() -> RetryableError:
    return RetryableError(fault("S3.SlowDown", "slow down"))


def test_a_rehearsal_leaves_a_row_and_evidence_of_its_own_kind() -> None:
    world = World()
    message = Message(json.dumps(rehearsed()), "message-1", "receipt-1", 1, NOON - timedelta(seconds=2))

    handled = world.enforcer.handle(message, Budget(world.clock, milliseconds=60_000, records=1))

    outcome = world.ledger.outcome("rehearsal", "none")
    [(key, body)] = world.archive.bodies.items()
    evidence = RehearsalEvidence.model_validate_json(body)
    assert (outcome.status, outcome.source, outcome.evidence_key) == ("IGNORED", "joinguard.rehearsal", key)
    assert outcome.rehearsal
    assert (outcome.rehearsal.event_id, evidence.event_id) == ("rehearsal-1", "rehearsal-1")
    assert key.startswith("evidence/rehearsal/2026/11/24/rehearsal-1/")
    assert (evidence.event_time, evidence.queued_at) == (NOON - timedelta(seconds=3), NOON - timedelta(seconds=2))
    assert handled.rehearsal
    assert handled.hops
    assert handled.hops == {"queue": 1, "worker": 2, "evidence": 0, "outcome": 0}
    assert not world.archive.objects, "it can be taken for the evidence of a join"


def test_rehearsals_share_one_row_and_each_has_its_evidence() -> None:
    world = World()
    for number in range(3):
        world.handle(rehearsed(id=f"rehearsal-{number}"))

    assert [*world.ledger.rows] == [REHEARSAL_ROW]
    assert world.ledger.outcome("rehearsal").rehearsal.event_id == "rehearsal-2"  # type: ignore[union-attr]
    assert len(world.archive.bodies) == 3


def test_the_row_says_that_the_rehearsal_has_arrived_before_its_evidence_is_written() -> None:
    world = World()

    world.handle(rehearsed())

    assert world.steps.log == ["rehearsal row", "record", "rehearsal row"]


def test_an_observing_stage_rehearses_too() -> None:
    world = World(attach_to="none")

    assert world.handle(rehearsed()).hops


@pytest.mark.parametrize("call", ["rehearsal row", "record"])
def test_a_rehearsal_whose_records_fail_is_received_again_and_given_up_before_it_is_a_dead_letter(call: str) -> None:
    world = World()

    for receives in (1, 2):
        world.steps.fail(call, failing())
        handled = world.handle(rehearsed(), receives=receives)
        assert (handled.status, handled.hops) == (OutcomeStatus.RETRYING, None)
    world.steps.fail(call, failing())
    handled = world.handle(rehearsed(), receives=3)

    assert (handled.status, handled.hops) == (OutcomeStatus.IGNORED, None)
    assert world.dead_letters.dead_letters == []
    outcome = world.ledger.outcome("rehearsal")
    assert (outcome.fault.code, outcome.done_at) == ("S3.SlowDown", None)  # type: ignore[union-attr]


def test_a_rehearsal_whose_row_never_says_so_has_not_come_through() -> None:
    world = World()
    world.steps.fail("rehearsal row", None, failing())

    assert world.handle(rehearsed()).hops is None
    assert world.ledger.outcome("rehearsal").status is OutcomeStatus.RETRYING


# ---------------------------------------------------------------- its source alone decides

bodies = st.one_of(
    st.sampled_from(EVENTS).map(lambda event: event | {"source": "joinguard.rehearsal"}),
    st.sampled_from(EVENTS).map(lambda event: rehearsed(detail=event)),
    st.sampled_from(EVENTS).map(lambda event: rehearsed(detail=event.get("detail", event))),
    st.sampled_from(EVENTS).map(lambda event: rehearsed(detail=json.dumps(event))),
    st.sampled_from(EVENTS).map(lambda event: rehearsed(Type="Notification", Message=json.dumps(event))),
    st.sampled_from(EVENTS).map(lambda event: rehearsed(Records=[event.get("detail", event)], Body=event)),
    st.dictionaries(st.text(), json_values, max_size=4).map(lambda detail: rehearsed(detail=detail)),
)


@settings(max_examples=300)
@given(bodies, st.data(), st.integers(1, 4))
@example(rehearsed(source="joinguard.rehearsal", detail=invited()), None, 1)
def test_no_body_of_a_rehearsal_leads_to_a_call_of_organizations_or_to_a_record_of_a_join(
    body: dict[str, Any], data: st.DataObject | None, receives: int
) -> None:
    """A changed body may be refused, if what EventBridge sets is missing: then it is a dead letter."""
    if data:
        path = data.draw(st.sampled_from([each for each in paths(body) if each and each != ("source",)]))
        body = changed(body, path, data.draw(json_values | st.sampled_from(EVENTS)))
    world = World()

    handled = world.handle(body, receives=receives)

    assert OF_ORGANIZATIONS.isdisjoint(world.steps.log)
    assert (OF_JOINS - {"send"}).isdisjoint(world.steps.log)
    assert set(world.ledger.rows) <= {REHEARSAL_ROW}
    assert not world.archive.objects
    if "send" in world.steps.log:
        assert handled.fault
        assert handled.fault.code == "INVALID_EVENT"
    else:
        assert handled.rehearsal


@settings(max_examples=200)
@given(st.sampled_from(EVENTS[:-1]), st.data())
def test_nothing_from_others_is_taken_for_a_rehearsal(event: dict[str, Any], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([each for each in paths(event) if each and each[:1] != ("source",)]))
    body = changed(event, path, data.draw(json_values | st.just(rehearsed()) | st.just("joinguard.rehearsal")))

    try:
        found = read(body)
    except InvalidEventError:
        return
    assert not isinstance(found, Rehearsal)


def test_an_event_of_aws_that_is_named_a_rehearsal_is_none() -> None:
    assert not isinstance(read(with_detail(invited(), eventName="Rehearsal")), Rehearsal)


def test_two_sources_are_refused() -> None:
    body = json.dumps(rehearsed()).replace('"source"', '"source": "aws.organizations", "source"')

    with pytest.raises(InvalidEventError, match="source: must not appear more than once"):
        read_event(body)


@pytest.mark.parametrize("event_id", [None, "", 7, "../../acts", "x" * 129])
def test_a_rehearsal_without_a_usable_id_is_refused_and_the_reason_names_the_field(event_id: object) -> None:
    with pytest.raises(InvalidEventError, match=r"^id: "):
        read(rehearsed(id=event_id))


def test_nothing_that_is_kept_of_a_rehearsal_comes_from_its_detail() -> None:
    world = World()
    body = rehearsed(id=f"{ACCOUNT}", detail=joined()["detail"] | {"eventID": "of-the-detail"}, account=ACCOUNT)

    handled = world.handle(body)

    kept = "".join([*world.archive.bodies, *(each.decode() for each in world.archive.bodies.values())])
    assert handled.hops
    for text in (kept, repr(handled), repr(world.ledger.rows)):
        assert ACCOUNT not in text
        assert "of-the-detail" not in text
        assert "AcceptHandshake" not in text


def test_evidence_of_joins_cannot_be_read_as_that_of_a_rehearsal_and_the_other_way_round() -> None:
    world = World()
    world.handle(rehearsed())
    world.handle(joined())
    kinds = (Evidence, RehearsalEvidence)

    for body in world.archive.bodies.values():
        read_as = []
        for kind in kinds:
            try:
                read_as.append(kind.model_validate_json(body))
            except ValueError:
                continue
        assert len(read_as) == 1
