"""The outcomes table: only the latest attempt may write, and a final outcome never changes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.conditions import Key
from botocore.stub import Stubber
from hypothesis import example, given
from hypothesis import strategies as st

from handlers.aws.dynamodb_ledger import DynamoLedger
from handlers.aws.dynamodb_outcomes import DynamoOutcomes
from handlers.aws.dynamodb_rows import outcome, stamp
from handlers.core.errors import AttemptInProgressError, RetryableError, fault
from handlers.core.joins.ports import Attempt, Settlement
from schemas.events import Join, NoJoin
from schemas.keys import NO_ACCOUNT
from schemas.outcome import (
    FAILING,
    FINAL,
    AttachmentResult,
    Closed,
    Outcome,
    OutcomeStatus,
    PolicyOutcome,
    RehearsalHops,
)
from schemas.pseudonym import Pseudonym
from tests.fakes import ACCOUNT, NOON, POLICIES
from tests.integration.conftest import FAILURES, SECRETS, TABLE, Hook, client, intercepted

JOIN = Join(
    event_id="event-1", event_name="AcceptHandshake", event_time=NOON, source="aws.organizations", account_id=ACCOUNT
)
OTHER = NoJoin(event_id="event-2", event_name="MoveAccount", event_time=NOON, source="aws.organizations", reason="no")
DIGEST, OTHER_DIGEST = "a" * 64, "b" * 64
LEASE = timedelta(seconds=70)
SECOND = timedelta(seconds=1)
WHY = fault("CODE", "a message", "A_REASON")
ATTACHED = tuple(PolicyOutcome(policy_id=policy_id, result=AttachmentResult.ATTACHED) for policy_id in POLICIES)
HALF_DONE = (ATTACHED[0], PolicyOutcome(policy_id=POLICIES[1], result=AttachmentResult.FAILED, fault=WHY))


def settled(status: OutcomeStatus, *proven: int, ambiguous: frozenset[str] = frozenset()) -> Settlement:
    why = None if status is OutcomeStatus.ENFORCED else WHY
    return Settlement(
        status,
        ATTACHED,
        why,
        evidence_key="evidence/1",
        evidence_sha256=DIGEST,
        proven=frozenset(proven),
        ambiguous=ambiguous,
    )


def begin(ledger: DynamoLedger, event: Join | NoJoin = JOIN, *, now: datetime = NOON) -> Attempt:
    begun = ledger.begin(event, now=now, lease_until=now + LEASE)
    assert isinstance(begun, Attempt)
    return begun


def row(table: Any, event_id: str = "event-1", account_id: str = ACCOUNT) -> dict[str, Any]:
    item: dict[str, Any] = table.get_item(Key={"account_id": account_id, "event_id": event_id})["Item"]
    return item


@pytest.fixture
def ledger(table: Any) -> DynamoLedger:  # noqa: ARG001 - used for its effect
    return DynamoLedger(client("dynamodb"), TABLE)


def test_the_first_attempt_has_nothing_to_repair(ledger: DynamoLedger, table: Any) -> None:
    begun = begin(ledger, now=NOON + SECOND)

    assert begun == Attempt(number=1, interrupted={}, ambiguous=frozenset(), event_time=NOON, received_at=NOON + SECOND)
    assert outcome(row(table)) == Outcome(
        account_id=ACCOUNT,
        event_id="event-1",
        event_name="AcceptHandshake",
        source="aws.organizations",
        status=OutcomeStatus.RETRYING,
        attempts=1,
        event_time=NOON,
        received_at=NOON + SECOND,
        updated_at=NOON + SECOND,
        lease_until=NOON + SECOND + LEASE,
    )


def test_no_other_attempt_begins_before_the_lease_expires(ledger: DynamoLedger, table: Any) -> None:
    begin(ledger)
    before = row(table)

    with pytest.raises(AttemptInProgressError):
        ledger.begin(JOIN, now=NOON + LEASE, lease_until=NOON + 2 * LEASE)
    assert row(table) == before
    assert begin(ledger, now=NOON + LEASE + timedelta(microseconds=1)).number == 2


def test_a_lease_does_not_delay_other_events(ledger: DynamoLedger, table: Any) -> None:
    begin(ledger)

    again = JOIN.model_copy(update={"event_id": "event-3"})
    elsewhere = JOIN.model_copy(update={"account_id": "333333333333"})

    assert [begin(ledger, event).number for event in (again, elsewhere, OTHER)] == [1, 1, 1]
    assert len(table.scan()["Items"]) == 4


def test_an_interrupted_attempt_leaves_its_intent(ledger: DynamoLedger) -> None:
    begin(ledger)
    ledger.intend(JOIN, 1, POLICIES, ambiguous=[POLICIES[1]])

    begun = begin(ledger, now=NOON + 2 * LEASE)

    assert begun == Attempt(2, {1: POLICIES}, frozenset({POLICIES[1]}), NOON, NOON)


def test_an_interrupted_attempt_leaves_the_digests_of_its_evidence(ledger: DynamoLedger) -> None:
    begin(ledger)
    ledger.intend(JOIN, 1, POLICIES, ambiguous=())
    ledger.announce(JOIN, 1, 1, DIGEST, ambiguous=POLICIES)
    begin(ledger, now=NOON + 2 * LEASE)
    ledger.announce(JOIN, 2, 1, OTHER_DIGEST, ambiguous=[POLICIES[1]])

    begun = begin(ledger, now=NOON + 4 * LEASE)

    assert begun.announced == {1: (DIGEST, OTHER_DIGEST)}
    assert begun.interrupted == {1: POLICIES}
    assert begun.ambiguous == {POLICIES[1]}


def test_the_events_time_stays_that_of_the_first_attempt(ledger: DynamoLedger) -> None:
    """It is part of the evidence's key, and a redriven message can have another time."""
    begin(ledger)
    later = JOIN.model_copy(update={"event_time": NOON + timedelta(days=9)})

    assert begin(ledger, later, now=NOON + 2 * LEASE).event_time == NOON


def test_an_attempt_can_correct_its_intent(ledger: DynamoLedger) -> None:
    begin(ledger)
    ledger.intend(JOIN, 1, POLICIES, ambiguous=POLICIES)
    ledger.intend(JOIN, 1, POLICIES[:1], ambiguous=())

    assert begin(ledger, now=NOON + 2 * LEASE) == Attempt(2, {1: POLICIES[:1]}, frozenset(), NOON, NOON)


def test_settling_keeps_only_the_intents_without_evidence(ledger: DynamoLedger, table: Any) -> None:
    begin(ledger)
    ledger.intend(JOIN, 1, POLICIES, ambiguous=())
    ledger.announce(JOIN, 1, 1, DIGEST, ambiguous=())
    begin(ledger, now=NOON + 2 * LEASE)
    ledger.intend(JOIN, 2, POLICIES[:1], ambiguous=())
    ledger.announce(JOIN, 2, 2, OTHER_DIGEST, ambiguous=())
    settlement = replace(
        settled(OutcomeStatus.RETRYING, 1, ambiguous=frozenset({POLICIES[1]})), policies=HALF_DONE, evidence_key="key"
    )

    assert ledger.settle(JOIN, 2, settlement, now=NOON + 3 * LEASE) is True

    known = outcome(row(table))
    assert known.intents == {2: POLICIES[:1]}
    assert known.unclear == (POLICIES[1],)
    assert known.lease_until is None
    assert (known.policies, known.fault, known.evidence_key, known.evidence_sha256) == (HALF_DONE, WHY, "key", DIGEST)
    assert begin(ledger, now=NOON + 3 * LEASE) == Attempt(
        3, {2: POLICIES[:1]}, frozenset({POLICIES[1]}), NOON, NOON, {2: (OTHER_DIGEST,)}
    )


def test_settling_after_many_attempts_without_evidence_stays_within_the_limit_of_an_expression(
    ledger: DynamoLedger, table: Any
) -> None:
    """As many attempts as four redrives of 24 receives; moto does not check the limit of 4 KB, DynamoDB does."""
    attempts = 96
    expressions: list[str] = []
    for number in range(attempts):
        begun = begin(ledger, now=NOON + number * (LEASE + SECOND))
        ledger.intend(JOIN, begun.number, POLICIES, ambiguous=())
        ledger.announce(JOIN, begun.number, begun.number, DIGEST, ambiguous=())
    assert set(begun.interrupted) == set(range(1, attempts)), "every intent is kept until its evidence exists"
    sdk = client("dynamodb")
    sdk.meta.events.register(
        "provide-client-params.dynamodb.UpdateItem", lambda params, **_: expressions.append(params["UpdateExpression"])
    )

    assert DynamoLedger(sdk, TABLE).settle(
        JOIN, begun.number, settled(OutcomeStatus.RETRYING, *range(1, attempts + 1)), now=NOON
    )

    assert max(map(len, expressions)) < 4096
    left = begin(ledger, now=NOON + (attempts + 1) * (LEASE + SECOND))
    assert begun.number not in left.interrupted, "the latest attempts are removed first"
    assert len(left.interrupted) < attempts
    assert outcome(row(table)).status is OutcomeStatus.RETRYING


def test_an_attempt_without_evidence_keeps_the_last_evidence_key(ledger: DynamoLedger, table: Any) -> None:
    begin(ledger)
    ledger.settle(JOIN, 1, settled(OutcomeStatus.RETRYING, 1, ambiguous=frozenset(POLICIES)), now=NOON)
    begin(ledger)
    ledger.settle(JOIN, 2, Settlement(OutcomeStatus.RETRYING, fault=WHY), now=NOON)

    known = outcome(row(table))
    assert (known.evidence_key, known.evidence_sha256) == ("evidence/1", DIGEST)
    assert (known.policies, known.unclear) == ((), ())


def test_the_row_has_the_times_of_receipt_update_and_completion(ledger: DynamoLedger, table: Any) -> None:
    def times() -> tuple[float, float, float | None]:
        known = outcome(row(table))
        done = (known.done_at - NOON).total_seconds() if known.done_at else None
        return (known.received_at - NOON).total_seconds(), (known.updated_at - NOON).total_seconds(), done

    seen = []
    statuses = (OutcomeStatus.RETRYING, OutcomeStatus.FAILED, OutcomeStatus.RETRYING, OutcomeStatus.ENFORCED)
    for number, status in enumerate(statuses, start=1):
        begin(ledger, now=NOON + 10 * number * SECOND)
        ledger.settle(JOIN, number, settled(status), now=NOON + (10 * number + 1) * SECOND)
        seen.append(times())

    assert seen == [(10, 11, None), (10, 21, 21), (10, 31, None), (10, 41, 41)]


@pytest.mark.parametrize(
    ("event", "account_id", "status"),
    [(JOIN, ACCOUNT, OutcomeStatus.ENFORCED), (OTHER, NO_ACCOUNT, OutcomeStatus.IGNORED)],
)
def test_a_final_outcome_is_returned_and_no_attempt_begins(
    ledger: DynamoLedger,
    table: Any,
    event: Join | NoJoin,
    account_id: str,
    status: OutcomeStatus,
) -> None:
    begin(ledger, event)
    ledger.settle(event, 1, settled(status, 1), now=NOON)
    before = row(table, event.event_id, account_id)

    again = ledger.begin(event, now=NOON + 9 * LEASE, lease_until=NOON + 10 * LEASE)

    assert again == outcome(before)
    assert (outcome(before).status, outcome(before).policies) == (status, ATTACHED)
    assert row(table, event.event_id, account_id) == before


BY_OPERATOR = JOIN.model_copy(update={"source": "joinguard.operator"})


@pytest.mark.parametrize(
    ("first", "status", "then"),
    [
        (JOIN, OutcomeStatus.IGNORED, JOIN),
        (BY_OPERATOR, OutcomeStatus.ENFORCED, JOIN),
        (BY_OPERATOR, OutcomeStatus.IGNORED, JOIN),
        (JOIN, OutcomeStatus.ENFORCED, BY_OPERATOR),
    ],
)
def test_a_final_row_of_another_kind_does_not_block_a_join(
    ledger: DynamoLedger,
    table: Any,
    first: Join,
    status: OutcomeStatus,
    then: Join,
) -> None:
    begin(ledger, first)
    ledger.settle(first, 1, settled(status, 1, ambiguous=frozenset({POLICIES[0]})), now=NOON)

    begun = begin(ledger, then, now=NOON + SECOND)

    assert begun == Attempt(2, {}, frozenset({POLICIES[0]}), NOON, NOON)
    known = outcome(row(table))
    assert (known.status, known.source, known.policies) == (OutcomeStatus.RETRYING, then.source, ())
    assert row(table)["failing"] == OutcomeStatus.RETRYING.value
    assert ledger.settle(then, 2, settled(OutcomeStatus.ENFORCED, 2), now=NOON) is True


def test_a_lease_longer_than_an_invocation_is_ignored(ledger: DynamoLedger) -> None:
    """Its worker's clock was two hours ahead, or somebody else wrote the row."""
    ledger.begin(JOIN, now=NOON, lease_until=NOON + timedelta(hours=2))

    assert begin(ledger, now=NOON + SECOND).number == 2
    with pytest.raises(AttemptInProgressError):
        begin(ledger, now=NOON + 2 * SECOND)


MALFORMED: dict[str, dict[str, Any]] = {
    "an unknown status": {"status": "DONE"},
    "a final status without the other fields": {"status": "ENFORCED", "event_name": None, "received_at": None},
    "too many attempts": {"attempts": 10**20},
    "a fraction of an attempt": {"attempts": Decimal("1.5")},
    "a lease without a time zone": {"lease_until": "2026-11-24T12:05"},
    "malformed policies": {"policies": [{"policy_id": "p-1"}]},
    "a fault without a code": {"fault": {"message": "no"}},
    "intents without an attempt number": {"intents": {"first": ["p-aaaaaaaa"]}},
    "intents of attempt 0": {"intents": {"0": ["p-aaaaaaaa"]}},
    "announcements of attempt -1": {"announced": {"-1": ["a" * 64]}},
    "too many policies in an intent": {"intents": {"1": [f"p-{number:08d}" for number in range(130)]}},
    "too many intents": {"intents": {str(number): ["p-aaaaaaaa"] for number in range(1, 500)}},
    "malformed announcements": {"announced": {"1": "not a list"}},
    "a malformed time": {"received_at": "yesterday"},
}


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED)
def test_an_unreadable_row_is_replaced_and_its_readable_fields_are_kept(
    ledger: DynamoLedger,
    table: Any,
    malformed: dict[str, Any],
) -> None:
    begin(ledger)
    ledger.intend(JOIN, 1, POLICIES, ambiguous=[POLICIES[1]])
    valid = row(table)
    table.put_item(Item={name: value for name, value in (valid | malformed).items() if value is not None})

    begun = begin(ledger, now=NOON + 2 * LEASE)

    assert begun.replaced
    assert begun.interrupted == ({} if "intents" in malformed else {1: POLICIES})
    assert begun.ambiguous == {POLICIES[1]}
    assert outcome(row(table)).attempts == begun.number
    assert ledger.settle(JOIN, begun.number, settled(OutcomeStatus.ENFORCED, 1), now=NOON) is True
    assert outcome(row(table)).status is OutcomeStatus.ENFORCED


def test_only_one_of_two_workers_replaces_a_row(ledger: DynamoLedger, table: Any) -> None:
    begin(ledger)
    table.put_item(Item=row(table) | {"status": "DONE"})
    real = client("dynamodb")
    other = DynamoLedger(client("dynamodb"), TABLE)
    won: list[Attempt] = []
    real.meta.events.register(
        "before-call.dynamodb.PutItem", lambda **_: won.append(begin(other, now=NOON + 2 * LEASE)) if not won else None
    )

    with pytest.raises(AttemptInProgressError):
        begin(DynamoLedger(real, TABLE), now=NOON + 2 * LEASE)

    assert won[0].replaced
    assert outcome(row(table)).attempts == won[0].number


def test_a_row_with_values_of_wrong_types_is_replaced() -> None:
    """Use Stubber, because moto and the stand-in evaluate expressions over such values differently from DynamoDB."""
    dynamodb = client("dynamodb")
    item = {
        "account_id": {"S": ACCOUNT},
        "event_id": {"S": "event-1"},
        "attempts": {"S": "two"},
        "lease_until": {"N": "7"},
        "unclear": {"L": [{"S": POLICIES[0]}]},
    }
    with Stubber(dynamodb) as stub:
        stub.add_client_error("update_item", "ValidationException", "An operand has an incorrect data type")
        stub.add_client_error("put_item", "ConditionalCheckFailedException", modeled_fields={"Item": item})
        stub.add_response("put_item", {})

        begun = begin(DynamoLedger(dynamodb, TABLE))

        stub.assert_no_pending_responses()
    assert begun == Attempt(1, {}, frozenset({POLICIES[0]}), NOON, NOON, replaced=True)


@pytest.mark.parametrize("final", sorted(FINAL))
@pytest.mark.parametrize("late", sorted(FINAL | FAILING))
def test_a_final_outcome_does_not_change_even_for_its_own_attempt(
    ledger: DynamoLedger,
    table: Any,
    final: OutcomeStatus,
    late: OutcomeStatus,
) -> None:
    """Writing the same outcome again is not a conflict: the SDK sends it again if the answer was lost."""
    begin(ledger)
    ledger.settle(JOIN, 1, settled(final, 1), now=NOON)
    before = row(table)

    assert ledger.settle(JOIN, 1, settled(late, 1), now=NOON) is (late is final)

    assert row(table) == before


def test_an_attempt_begins_again_after_a_failure_because_operators_redrive(ledger: DynamoLedger, table: Any) -> None:
    begin(ledger)
    ledger.settle(JOIN, 1, settled(OutcomeStatus.FAILED, 1), now=NOON)

    assert begin(ledger).number == 2
    meanwhile = outcome(row(table))
    assert (meanwhile.status, meanwhile.fault) == (OutcomeStatus.FAILED, WHY)
    ledger.settle(JOIN, 2, settled(OutcomeStatus.ENFORCED, 2), now=NOON)

    known = outcome(row(table))
    assert (known.status, known.fault) == (OutcomeStatus.ENFORCED, None)


@pytest.mark.parametrize("other", sorted(FINAL | FAILING))
def test_a_worker_with_an_expired_lease_changes_nothing(
    ledger: DynamoLedger,
    table: Any,
    other: OutcomeStatus,
) -> None:
    begin(ledger)
    begin(ledger, now=NOON + 2 * LEASE)
    ledger.settle(JOIN, 2, settled(other, 1, 2), now=NOON)
    before = row(table)

    with pytest.raises(AttemptInProgressError):
        ledger.intend(JOIN, 1, POLICIES, ambiguous=())
    with pytest.raises(AttemptInProgressError):
        ledger.announce(JOIN, 1, 1, DIGEST, ambiguous=())
    for status in OutcomeStatus:
        assert ledger.settle(JOIN, 1, settled(status, 1), now=NOON) is False

    assert row(table) == before


def test_the_index_lists_failed_and_retried_events_least_recently_updated_first(
    ledger: DynamoLedger, table: Any
) -> None:
    statuses = [each for each in OutcomeStatus if each is not OutcomeStatus.CLOSED]
    for number, status in enumerate([*statuses, *statuses]):
        event = JOIN.model_copy(update={"event_id": f"event-{number}"})
        begin(ledger, event)
        ledger.settle(event, 1, settled(status, 1), now=NOON - number * timedelta(milliseconds=250))

    def failing(status: OutcomeStatus) -> list[str]:
        found = table.query(IndexName="failing", KeyConditionExpression=Key("failing").eq(status.value))["Items"]
        return [outcome(item).event_id for item in found]

    # The later event of each status was updated earlier.
    for index, status in enumerate(statuses):
        both = [f"event-{index + len(statuses)}", f"event-{index}"]
        assert failing(status) == (both if status in FAILING else [])
    assert table.scan(IndexName="failing")["Count"] == 4


def test_an_event_without_an_account_has_a_row_too(ledger: DynamoLedger, table: Any) -> None:
    begin(ledger, OTHER)
    ledger.settle(OTHER, 1, Settlement(OutcomeStatus.IGNORED, fault=fault("NOT_A_JOIN", "no")), now=NOON)

    known = outcome(row(table, "event-2", "none"))
    assert (known.status, known.event_name) == (OutcomeStatus.IGNORED, "MoveAccount")


MOMENTS = st.datetimes(timezones=st.just(UTC))


@example(datetime(999, 1, 1, tzinfo=UTC), NOON)
@example(NOON, NOON + timedelta(microseconds=1))
@given(MOMENTS, MOMENTS)
def test_timestamps_sort_as_text_in_the_order_of_time(one: datetime, two: datetime) -> None:
    assert datetime.fromisoformat(stamp(one)) == one
    assert (stamp(one) < stamp(two)) is (one < two)


def test_a_row_with_a_time_long_ago_is_readable(ledger: DynamoLedger, table: Any) -> None:
    event = JOIN.model_copy(update={"event_time": datetime(1, 1, 1, tzinfo=UTC)})

    assert begin(ledger, event).number == 1
    assert outcome(row(table)).event_time == event.event_time


CALLS: dict[str, Callable[[DynamoLedger], object]] = {
    "begin": lambda ledger: ledger.begin(JOIN, now=NOON, lease_until=NOON),
    "intend": lambda ledger: ledger.intend(JOIN, 1, POLICIES, ambiguous=()),
    "announce": lambda ledger: ledger.announce(JOIN, 1, 1, DIGEST, ambiguous=()),
    "settle": lambda ledger: ledger.settle(JOIN, 1, settled(OutcomeStatus.ENFORCED), now=NOON),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("hook", FAILURES.values(), ids=FAILURES)
def test_every_failure_of_dynamodb_is_transient(hook: Hook, call: Callable[[DynamoLedger], object]) -> None:
    dynamodb, sent = intercepted("dynamodb", hook)

    with pytest.raises(RetryableError, match=r"^DynamoDB\.") as raised:
        call(DynamoLedger(dynamodb, TABLE))

    assert not isinstance(raised.value, AttemptInProgressError)
    assert not any(secret in str(raised.value) for secret in SECRETS)
    assert sent == ["UpdateItem"]


@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceededException", "ResourceNotFoundException", "TransactionConflictException"]
)
def test_every_other_error_of_the_table_is_transient(code: str) -> None:
    dynamodb = client("dynamodb")
    with Stubber(dynamodb) as stub:
        stub.add_client_error("update_item", code, "no")
        with pytest.raises(RetryableError) as raised:
            begin(DynamoLedger(dynamodb, TABLE))

    assert raised.value.fault.code == f"DynamoDB.{code}"


KEY = (ACCOUNT, "event-1")
ACTOR = Pseudonym(value="prin-" + "0" * 32, key_version="k")


def closed(*, at: datetime = NOON + LEASE + SECOND, action: str = "act-1") -> Closed:
    return Closed(actor=ACTOR, actor_id="AIDAEXAMPLE", act_id=action, closed_at=at)


@pytest.fixture
def outcomes(table: Any) -> DynamoOutcomes:  # noqa: ARG001 - used for its effect
    return DynamoOutcomes(client("dynamodb"), TABLE)


@pytest.mark.parametrize("status", sorted(FAILING))
def test_an_operator_closes_an_outcome_that_then_leaves_the_index(
    ledger: DynamoLedger, outcomes: DynamoOutcomes, table: Any, status: OutcomeStatus
) -> None:
    begin(ledger)
    ledger.settle(JOIN, 1, settled(status, 1), now=NOON)
    before = outcome(row(table))

    assert outcomes.close([KEY], closed()) == [KEY]

    change = {"status": OutcomeStatus.CLOSED, "closed": closed(), "updated_at": closed().closed_at}
    assert outcome(row(table)) == before.model_copy(update=change)
    assert list(outcomes.failing(status)) == []
    assert outcomes.close([KEY], closed(action="another")) == []
    assert outcomes.close([KEY], closed()) == [KEY], "the answer of the first call can be lost"


@pytest.mark.parametrize("status", sorted(FINAL))
def test_a_final_outcome_is_not_closed(
    ledger: DynamoLedger, outcomes: DynamoOutcomes, table: Any, status: OutcomeStatus
) -> None:
    begin(ledger)
    ledger.settle(JOIN, 1, settled(status, 1), now=NOON)
    before = row(table)

    assert outcomes.close([KEY], closed()) == []
    assert row(table) == before


def test_an_outcome_is_not_closed_while_an_attempt_runs(
    ledger: DynamoLedger, outcomes: DynamoOutcomes, table: Any
) -> None:
    begin(ledger)
    before = row(table)

    assert outcomes.close([KEY], closed(at=NOON + LEASE)) == []
    assert row(table) == before
    assert outcomes.close([KEY], closed(at=NOON + LEASE + SECOND)) == [KEY]


def test_closing_creates_no_row(outcomes: DynamoOutcomes, table: Any) -> None:
    assert outcomes.close([KEY], closed()) == []
    assert table.scan()["Items"] == []


@pytest.mark.parametrize("last", sorted(FINAL | FAILING))
def test_a_closed_outcome_is_new_work_when_its_event_comes_again(
    ledger: DynamoLedger, outcomes: DynamoOutcomes, table: Any, last: OutcomeStatus
) -> None:
    begin(ledger)
    ledger.intend(JOIN, 1, POLICIES, ambiguous=())
    ledger.settle(JOIN, 1, settled(OutcomeStatus.FAILED), now=NOON)
    outcomes.close([KEY], closed())

    begun = begin(ledger, now=NOON + 2 * LEASE)

    assert begun == Attempt(2, {1: POLICIES}, frozenset(), NOON, NOON)
    reopened = outcome(row(table))
    assert (reopened.status, reopened.closed) == (OutcomeStatus.RETRYING, None)
    assert [each.event_id for each in outcomes.failing(OutcomeStatus.RETRYING)] == ["event-1"]
    assert ledger.settle(JOIN, 2, settled(last, 2), now=NOON)
    assert outcome(row(table)).status is last


def test_an_operator_reopens_only_what_the_action_closed(
    ledger: DynamoLedger, outcomes: DynamoOutcomes, table: Any
) -> None:
    begin(ledger)
    ledger.settle(JOIN, 1, settled(OutcomeStatus.FAILED, 1), now=NOON)
    before = outcome(row(table))
    later = NOON + 3 * LEASE
    assert outcomes.reopen([KEY], "act-1", later) == []
    outcomes.close([KEY], closed())

    assert outcomes.reopen([KEY, (ACCOUNT, "no-such-event")], "act-2", later) == []
    assert outcomes.reopen([KEY], "act-1", later) == [KEY]

    assert outcome(row(table)) == before.model_copy(update={"updated_at": later})
    assert [each.event_id for each in outcomes.failing(OutcomeStatus.FAILED)] == ["event-1"]
    assert table.scan()["Count"] == 1


def test_the_result_of_an_attempt_counts_although_its_outcome_was_closed_meanwhile(
    ledger: DynamoLedger, outcomes: DynamoOutcomes, table: Any
) -> None:
    """It ran longer than its lease."""
    begin(ledger)
    outcomes.close([KEY], closed())

    assert ledger.settle(JOIN, 1, settled(OutcomeStatus.ENFORCED, 1), now=NOON + 2 * LEASE)

    known = outcome(row(table))
    assert (known.status, known.closed) == (OutcomeStatus.ENFORCED, None)


def test_rehearsals_share_one_row_whatever_it_held(ledger: DynamoLedger, table: Any) -> None:
    """The last write wins, also over a row that nobody can read."""
    table.put_item(Item={"account_id": "none", "event_id": "rehearsal", "status": 7, "failing": "RETRYING"})
    begun = Outcome(
        account_id="none",
        event_id="rehearsal",
        event_name="Rehearsal",
        source="joinguard.rehearsal",
        status=OutcomeStatus.RETRYING,
        attempts=1,
        event_time=NOON,
        received_at=NOON,
        updated_at=NOON,
        rehearsal=RehearsalHops(event_id="rehearsal-1", queued_at=NOON),
    )
    done = begun.model_copy(update={"status": OutcomeStatus.IGNORED, "done_at": NOON, "evidence_key": "a key"})

    ledger.record_rehearsal(begun)
    assert outcome(table.scan()["Items"][0]) == begun
    ledger.record_rehearsal(done)

    [row] = table.scan()["Items"]
    assert outcome(row) == done
    assert "failing" not in row
