"""The claims that the ledger writes with an outcome, and that the worker that removes policies reads."""

from __future__ import annotations

from typing import Any

import pytest

from handlers.aws.dynamodb_claims import DynamoClaims
from handlers.aws.dynamodb_ledger import DynamoLedger
from handlers.core.errors import Cause, PermanentError, RetryableError
from handlers.core.joins.claims import attached_by_us, claims_of
from handlers.core.joins.ports import Attempt, Settlement
from schemas.events import Join
from schemas.outcome import AttachmentResult, OutcomeStatus
from tests.fakes import ACCOUNT, NOON, POLICIES, FakePseudonyms, Steps
from tests.integration.conftest import FAILURES, TABLE, Hook, client, intercepted
from tests.integration.test_dynamodb_ledger import JOIN, LEASE, SECOND, begin

PSEUDONYMS = FakePseudonyms(Steps())
ATTACHED, REMOVED = AttachmentResult.ATTACHED, AttachmentResult.REMOVED


@pytest.fixture
def ledger(table: Any) -> DynamoLedger:  # noqa: ARG001 - used for its effect
    return DynamoLedger(client("dynamodb"), TABLE)


def made(*policies: str, result: Any = ATTACHED) -> Settlement:
    """Return a settlement that claims policies."""
    claims = claims_of(ACCOUNT, dict.fromkeys(policies, NOON), result, PSEUDONYMS)
    return Settlement(OutcomeStatus.ENFORCED, proven=frozenset({1}), claims=claims)


def ours() -> frozenset[str]:
    return attached_by_us(ACCOUNT, DynamoClaims(client("dynamodb"), TABLE).of(ACCOUNT), NOON, PSEUDONYMS)


def test_a_claim_that_was_written_is_read_and_its_seal_fits(ledger: DynamoLedger) -> None:
    ledger.settle(JOIN, begin(ledger).number, made(*POLICIES), now=NOON)

    assert ours() == set(POLICIES)


def test_claims_of_several_events_are_read_together(ledger: DynamoLedger) -> None:
    for event_id, policy in zip(("event-1", "event-2"), POLICIES, strict=True):
        event = JOIN.model_copy(update={"event_id": event_id})
        ledger.settle(event, begin(ledger, event).number, made(policy), now=NOON)

    assert ours() == set(POLICIES)


def test_claims_of_other_accounts_are_not_read(ledger: DynamoLedger) -> None:
    event: Join = JOIN.model_copy(update={"account_id": "333333333333"})
    ledger.settle(event, begin(ledger, event).number, made(*POLICIES), now=NOON)

    assert ours() == set()


def test_the_next_attempt_keeps_the_claims_of_the_one_before(ledger: DynamoLedger) -> None:
    settlement = made(POLICIES[0])
    first = Settlement(OutcomeStatus.RETRYING, claims=settlement.claims)
    ledger.settle(JOIN, begin(ledger).number, first, now=NOON)

    begun = ledger.begin(JOIN, now=NOON + SECOND, lease_until=NOON + LEASE)

    assert isinstance(begun, Attempt)
    assert begun.claims == settlement.claims


@pytest.mark.parametrize("status", [OutcomeStatus.CLOSED, OutcomeStatus.OBSERVED])
def test_a_row_that_a_new_one_replaces_keeps_its_claims(
    ledger: DynamoLedger, table: Any, status: OutcomeStatus
) -> None:
    ledger.settle(JOIN, begin(ledger).number, made(*POLICIES), now=NOON)
    key = {"account_id": ACCOUNT, "event_id": JOIN.event_id}
    table.update_item(
        Key=key,
        UpdateExpression="SET #s = :s",
        ExpressionAttributeNames={"#s": "status"},
        ExpressionAttributeValues={":s": status.value},
    )

    begin(ledger)

    assert ours() == set(POLICIES)


def test_an_outcome_without_claims_has_none(ledger: DynamoLedger, table: Any) -> None:
    ledger.settle(JOIN, begin(ledger).number, Settlement(OutcomeStatus.ENFORCED), now=NOON)

    assert ours() == set()
    assert "claims" not in table.get_item(Key={"account_id": ACCOUNT, "event_id": JOIN.event_id})["Item"]


UNREADABLE: dict[str, dict[str, object]] = {
    "a text": {"claims": "all of them"},
    "a number": {"claims": 1},
    "a list": {"claims": ["p-aaaaaaaa"]},
    "another result": {
        "claims": {POLICIES[0]: {"result": "KEPT", "at": "2026-11-24T12:00:00.000000Z", "seal": "0" * 64}}
    },
    "no time": {"claims": {POLICIES[0]: {"result": "ATTACHED", "seal": "0" * 64}}},
    "no seal": {"claims": {POLICIES[0]: {"result": "ATTACHED", "at": "2026-11-24T12:00:00.000000Z"}}},
    "a field of a later version": {
        "claims": {POLICIES[0]: {"result": "REMOVED", "at": "2026-11-24T12:00:00Z", "seal": "0" * 64, "by": "x"}}
    },
    "a seal that does not fit": {
        "claims": {POLICIES[0]: {"result": "REMOVED", "at": "2026-11-24T12:00:00.000000Z", "seal": "0" * 64}}
    },
    "intents in another form": {"intents": "p-aaaaaaaa"},
    "ambiguous policies in another form": {"unclear": {"p-aaaaaaaa": 1}},
}


@pytest.mark.parametrize("fields", UNREADABLE.values(), ids=UNREADABLE)
def test_nobody_knows_what_is_ours_if_a_row_is_not_as_a_worker_writes_it(
    ledger: DynamoLedger, table: Any, fields: dict[str, Any]
) -> None:
    """A claim that is skipped may have been that of a removal."""
    ledger.settle(JOIN, begin(ledger).number, made(*POLICIES), now=NOON)
    table.put_item(Item={"account_id": ACCOUNT, "event_id": "forged", **fields})

    with pytest.raises(PermanentError) as raised:
        ours()

    assert raised.value.cause is Cause.CLAIMS_UNREADABLE


def test_what_an_attempt_has_not_recorded_yet_is_read(ledger: DynamoLedger) -> None:
    begin(ledger)
    ledger.intend(JOIN, 1, POLICIES[:1], ambiguous=POLICIES[1:])

    [row] = DynamoClaims(client("dynamodb"), TABLE).of(ACCOUNT)

    assert (row.claims, row.open) == ({}, frozenset(POLICIES))


def test_what_a_decided_event_left_unclear_does_not_count(ledger: DynamoLedger) -> None:
    begin(ledger)
    ambiguous = Settlement(OutcomeStatus.ENFORCED, ambiguous=frozenset(POLICIES))
    ledger.settle(JOIN, 1, ambiguous, now=NOON)

    assert [each.open for each in DynamoClaims(client("dynamodb"), TABLE).of(ACCOUNT)] == [frozenset()]


def test_the_latest_writes_are_read(ledger: DynamoLedger) -> None:
    """moto is always consistent."""
    dynamodb, requests = client("dynamodb"), list[dict[str, Any]]()
    dynamodb.meta.events.register("before-parameter-build.dynamodb", lambda params, **_: requests.append(params))
    ledger.settle(JOIN, begin(ledger).number, made(*POLICIES), now=NOON)

    list(DynamoClaims(dynamodb, TABLE).of(ACCOUNT))

    assert [each["ConsistentRead"] for each in requests] == [True]


def test_more_rows_than_a_page_holds_are_read(ledger: DynamoLedger, table: Any) -> None:
    ledger.settle(JOIN, begin(ledger).number, made(*POLICIES), now=NOON)
    with table.batch_writer() as batch:
        for number in range(5):
            batch.put_item(Item={"account_id": ACCOUNT, "event_id": f"a-{number}", "filler": "x" * 350_000})

    assert ours() == set(POLICIES)


@pytest.mark.parametrize("hook", FAILURES.values(), ids=FAILURES)
def test_claims_that_cannot_be_read_are_no_empty_claims(hook: Hook) -> None:
    made, _ = intercepted("dynamodb", hook)

    with pytest.raises(RetryableError):
        list(DynamoClaims(made, TABLE).of(ACCOUNT))
