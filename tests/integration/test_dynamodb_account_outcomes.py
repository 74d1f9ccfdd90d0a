"""Closing the outcomes of an account that has left, and finding its of."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from handlers.aws.dynamodb_account_outcomes import DynamoAccountOutcomes
from handlers.aws.dynamodb_ledger import DynamoLedger
from handlers.aws.dynamodb_outcomes import DynamoOutcomes
from handlers.core.errors import RetryableError, fault
from handlers.core.joins.depart import departure_after
from handlers.core.joins.ports import Attempt, Closing, Settlement
from schemas.events import Departure, Join
from schemas.outcome import Departed, Outcome, OutcomeStatus
from tests.fakes import ACCOUNT, NOON
from tests.integration.conftest import FAILURES, TABLE, Hook, client
from tests.integration.test_dynamodb_ledger import JOIN, LEASE, SECOND

LEFT = NOON + timedelta(hours=1)
LATER = LEFT + timedelta(hours=1)
DEPARTED = Departed(cause="removed", left_at=LEFT, event_id="departure-1")
DEPARTURE = Departure(
    event_id="departure-1",
    event_name="RemoveAccountFromOrganization",
    event_time=LEFT,
    source="aws.organizations",
    account_id=ACCOUNT,
    cause="removed",
)
RETRYING, FAILED, CLOSED = OutcomeStatus.RETRYING, OutcomeStatus.FAILED, OutcomeStatus.CLOSED


@pytest.fixture
def ledger(table: Any) -> DynamoLedger:  # noqa: ARG001 - used for its effect
    return DynamoLedger(client("dynamodb"), TABLE)


@pytest.fixture
def of(ledger: DynamoLedger) -> DynamoAccountOutcomes:  # noqa: ARG001 - the table is needed
    return DynamoAccountOutcomes(client("dynamodb"), TABLE)


def begin(ledger: DynamoLedger, event: Join | Departure) -> Attempt:
    begun = ledger.begin(event, now=NOON, lease_until=NOON + LEASE)
    assert isinstance(begun, Attempt)
    return begun


def join(event_id: str, event_time: datetime = NOON) -> Join:
    return JOIN.model_copy(update={"event_id": event_id, "event_time": event_time})


def settled(ledger: DynamoLedger, event: Join | Departure, status: OutcomeStatus, **fields: Any) -> None:
    number = begin(ledger, event).number
    ledger.settle(event, number, Settlement(status, proven=frozenset({number}), **fields), now=NOON)


def outcome(event_id: str) -> Outcome:
    found = {each.event_id: each for each in DynamoOutcomes(client("dynamodb"), TABLE).of_account(ACCOUNT)}[event_id]
    assert isinstance(found, Outcome)
    return found


@pytest.mark.parametrize("status", [RETRYING, FAILED])
def test_what_was_open_before_the_departure_is_closed(
    ledger: DynamoLedger, of: DynamoAccountOutcomes, status: OutcomeStatus
) -> None:
    settled(ledger, join("event-1"), status, fault=fault("CODE", "why"))

    assert of.close(ACCOUNT, DEPARTED, LATER) == Closing(closed=1, running=0)

    closed = outcome("event-1")
    assert (closed.status, closed.departed, closed.updated_at) == (CLOSED, DEPARTED, LATER)
    assert closed.fault
    failing = DynamoOutcomes(client("dynamodb"), TABLE).failing
    assert not [*failing(FAILED), *failing(RETRYING)], "it is not in the index any more"


@pytest.mark.parametrize("status", [OutcomeStatus.ENFORCED, OutcomeStatus.OBSERVED, OutcomeStatus.IGNORED])
def test_what_is_decided_stays(ledger: DynamoLedger, of: DynamoAccountOutcomes, status: OutcomeStatus) -> None:
    settled(ledger, join("event-1"), status)

    assert of.close(ACCOUNT, DEPARTED, LATER) == Closing(closed=0, running=0)
    assert outcome("event-1").status is status


def test_what_came_after_the_departure_stays(ledger: DynamoLedger, of: DynamoAccountOutcomes) -> None:
    settled(ledger, join("event-1", LEFT), FAILED)
    settled(ledger, join("event-2", LEFT + SECOND), FAILED)

    assert of.close(ACCOUNT, DEPARTED, LATER) == Closing(closed=0, running=0)


def test_what_belongs_to_other_accounts_stays(ledger: DynamoLedger, of: DynamoAccountOutcomes) -> None:
    settled(ledger, join("event-1").model_copy(update={"account_id": "333333333333"}), FAILED)

    assert of.close(ACCOUNT, DEPARTED, LATER) == Closing(closed=0, running=0)


def test_a_running_attempt_keeps_its_outcome_open(ledger: DynamoLedger, of: DynamoAccountOutcomes) -> None:
    begin(ledger, join("event-1"))

    assert of.close(ACCOUNT, DEPARTED, NOON + SECOND) == Closing(closed=0, running=1)
    assert outcome("event-1").status is RETRYING
    assert of.close(ACCOUNT, DEPARTED, LATER) == Closing(closed=1, running=0)


def test_what_an_attempt_needs_to_repair_a_crash_stays(ledger: DynamoLedger, of: DynamoAccountOutcomes) -> None:
    event = join("event-1")
    ledger.intend(event, begin(ledger, event).number, ["p-aaaaaaaa"], ambiguous=["p-bbbbbbbb"])

    of.close(ACCOUNT, DEPARTED, LATER)
    again = ledger.begin(event, now=LATER, lease_until=LATER + LEASE)

    assert isinstance(again, Attempt)
    assert (again.number, dict(again.interrupted)) == (2, {1: ("p-aaaaaaaa",)})
    assert again.ambiguous == {"p-bbbbbbbb"}
    assert outcome("event-1").departed is None


def test_operators_reopen_nothing_that_a_departure_closed(ledger: DynamoLedger, of: DynamoAccountOutcomes) -> None:
    settled(ledger, join("event-1"), FAILED)
    of.close(ACCOUNT, DEPARTED, LATER)

    assert not DynamoOutcomes(client("dynamodb"), TABLE).reopen([(ACCOUNT, "event-1")], "departure-1", LATER)
    assert outcome("event-1").status is CLOSED


def test_a_row_that_no_worker_wrote_stays(table: Any, of: DynamoAccountOutcomes) -> None:
    table.put_item(Item={"account_id": ACCOUNT, "event_id": "event-1", "status": "FAILED", "event_time": 7})

    assert of.close(ACCOUNT, DEPARTED, LATER) == Closing(closed=0, running=0)


def test_a_recorded_departure_is_found_from_any_moment_before_it(
    ledger: DynamoLedger, of: DynamoAccountOutcomes
) -> None:
    settled(ledger, DEPARTURE, CLOSED, departed=DEPARTED)

    assert departure_after(of.outcomes(ACCOUNT), NOON) == DEPARTED
    assert departure_after(of.outcomes(ACCOUNT), LEFT) == DEPARTED
    assert departure_after(of.outcomes(ACCOUNT), LEFT + SECOND) is None


def test_the_first_of_several_departures_is_found(ledger: DynamoLedger, of: DynamoAccountOutcomes) -> None:
    later = DEPARTED.model_copy(update={"left_at": LATER, "event_id": "departure-0"})
    event = DEPARTURE.model_copy(update={"event_time": LATER, "event_id": "departure-0"})
    settled(ledger, event, CLOSED, departed=later)
    settled(ledger, DEPARTURE, CLOSED, departed=DEPARTED)

    assert departure_after(of.outcomes(ACCOUNT), NOON) == DEPARTED
    assert departure_after(of.outcomes(ACCOUNT), LEFT + SECOND) == later


def test_a_join_that_a_departure_closed_is_no_departure(ledger: DynamoLedger, of: DynamoAccountOutcomes) -> None:
    settled(ledger, join("event-1"), FAILED)
    of.close(ACCOUNT, DEPARTED, LATER)

    assert departure_after(of.outcomes(ACCOUNT), NOON) is None


def test_a_departure_that_is_being_handled_is_waited_for(ledger: DynamoLedger, of: DynamoAccountOutcomes) -> None:
    begin(ledger, DEPARTURE)

    with pytest.raises(RetryableError, match="DEPARTURE_PENDING"):
        departure_after(of.outcomes(ACCOUNT), NOON)


@pytest.mark.parametrize("status", [FAILED, OutcomeStatus.IGNORED])
def test_a_departure_that_nothing_was_found_of_does_not_count(
    ledger: DynamoLedger, of: DynamoAccountOutcomes, status: OutcomeStatus
) -> None:
    settled(ledger, DEPARTURE, status)

    assert departure_after(of.outcomes(ACCOUNT), NOON) is None


@pytest.mark.parametrize(
    ("status", "fields"), [(CLOSED, {"departed": DEPARTED}), (OutcomeStatus.IGNORED, {})], ids=["closed", "ignored"]
)
def test_a_decided_departure_is_not_begun_again(
    ledger: DynamoLedger, status: OutcomeStatus, fields: dict[str, Any]
) -> None:
    settled(ledger, DEPARTURE, status, **fields)

    found = ledger.begin(DEPARTURE, now=NOON, lease_until=NOON + LEASE)

    assert isinstance(found, Outcome)
    assert found.departed == fields.get("departed")


def test_a_decided_departure_does_not_keep_a_join_with_its_ids_from_being_handled(ledger: DynamoLedger) -> None:
    settled(ledger, DEPARTURE, CLOSED, departed=DEPARTED)

    assert isinstance(ledger.begin(join("departure-1"), now=NOON, lease_until=NOON + LEASE), Attempt)


@pytest.mark.parametrize("operation", ["Query", "UpdateItem"])
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_table_that_does_not_answer_is_asked_again(ledger: DynamoLedger, failure: Hook, operation: str) -> None:
    settled(ledger, join("event-1"), FAILED)
    failing = client("dynamodb")
    # Before moto, which answers otherwise.
    failing.meta.events.register_first(f"before-send.dynamodb.{operation}", failure)

    with pytest.raises(RetryableError):
        DynamoAccountOutcomes(failing, TABLE).close(ACCOUNT, DEPARTED, LATER)
