"""The outcomes table: the attempt number is the fence, and nothing good turns back."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from moto import mock_aws

from handlers.aws.ledger import DynamoLedger, outcome
from handlers.core.errors import AttemptInProgressError, RetryableError, fault
from handlers.core.ports import Attempt, Settlement
from schemas.events import Join, NoJoin
from schemas.outcome import FINAL, AttachmentResult, Outcome, OutcomeStatus, PolicyOutcome
from tests.fakes import ACCOUNT, NOON, POLICIES
from tests.integration.conftest import RESOURCES, TABLE, client

if TYPE_CHECKING:
    from datetime import datetime

JOIN = Join(
    event_id="event-1", event_name="AcceptHandshake", event_time=NOON, source="aws.organizations", account_id=ACCOUNT
)
OTHER = NoJoin(event_id="event-2", event_name="MoveAccount", event_time=NOON, source="aws.organizations", reason="no")
LEASE = timedelta(seconds=70)
ATTACHED = tuple(PolicyOutcome(policy_id=policy_id, result=AttachmentResult.ATTACHED) for policy_id in POLICIES)


def settled(status: OutcomeStatus, *proven: int, unclear: frozenset[str] = frozenset()) -> Settlement:
    why = None if status is OutcomeStatus.ENFORCED else fault("CODE", "a message")
    return Settlement(status, ATTACHED, why, "evidence/1", frozenset(proven), unclear)


def begin(ledger: DynamoLedger, event: Join | NoJoin = JOIN, *, now: datetime = NOON) -> Attempt:
    begun = ledger.begin(event, now=now, lease_until=now + LEASE)
    assert isinstance(begun, Attempt)
    return begun


def row(table: Any, event_id: str = "event-1", account_id: str = ACCOUNT) -> dict[str, Any]:  # noqa: ANN401 - boto3's own type
    item: dict[str, Any] = table.get_item(Key={"account_id": account_id, "event_id": event_id})["Item"]
    return item


@pytest.fixture
def ledger(table: Any) -> DynamoLedger:  # noqa: ANN401, ARG001 - boto3's own type; needed for its effect
    return DynamoLedger(client("dynamodb"), TABLE)


def test_the_first_attempt_owes_nothing(ledger: DynamoLedger, table: Any) -> None:  # noqa: ANN401 - boto3's own type
    begun = begin(ledger)

    assert begun == Attempt(number=1, interrupted={}, unclear=frozenset())
    assert outcome(row(table)).status is OutcomeStatus.RETRYING
    assert outcome(row(table)).lease_until == NOON + LEASE


def test_nobody_else_begins_while_a_lease_runs(ledger: DynamoLedger) -> None:
    begin(ledger)

    with pytest.raises(AttemptInProgressError):
        ledger.begin(JOIN, now=NOON + LEASE, lease_until=NOON + 2 * LEASE)
    assert begin(ledger, now=NOON + LEASE + timedelta(microseconds=1)).number == 2


def test_an_attempt_that_died_leaves_what_it_was_about_to_do(ledger: DynamoLedger) -> None:
    begin(ledger)
    ledger.intend(JOIN, 1, POLICIES, unclear=[POLICIES[1]])

    begun = begin(ledger, now=NOON + 2 * LEASE)

    assert begun == Attempt(number=2, interrupted={1: POLICIES}, unclear=frozenset({POLICIES[1]}))


def test_a_settled_event_owes_only_what_is_not_proven(ledger: DynamoLedger, table: Any) -> None:  # noqa: ANN401 - boto3's own type
    begin(ledger)
    ledger.intend(JOIN, 1, POLICIES)
    begin(ledger, now=NOON + 2 * LEASE)
    ledger.intend(JOIN, 2, POLICIES[:1])

    assert ledger.settle(JOIN, 2, settled(OutcomeStatus.RETRYING, 1), now=NOON)

    known = outcome(row(table))
    assert known.intents == {2: POLICIES[:1]}
    assert known.lease_until is None
    assert known.policies == ATTACHED
    assert known.evidence_key == "evidence/1"


@pytest.mark.parametrize("status", sorted(FINAL))
def test_a_final_outcome_is_returned_and_not_begun_again(ledger: DynamoLedger, status: OutcomeStatus) -> None:
    begin(ledger)
    ledger.settle(JOIN, 1, settled(status, 1), now=NOON)

    again = ledger.begin(JOIN, now=NOON + 9 * LEASE, lease_until=NOON + 10 * LEASE)

    assert isinstance(again, Outcome)
    assert (again.status, again.attempts, again.policies) == (status, 1, ATTACHED)


def test_a_failure_can_be_begun_again_because_operators_redrive(ledger: DynamoLedger, table: Any) -> None:  # noqa: ANN401 - boto3's own type
    begin(ledger)
    ledger.settle(JOIN, 1, settled(OutcomeStatus.FAILED, 1), now=NOON)
    assert row(table)["done_at"]

    assert begin(ledger).number == 2
    ledger.settle(JOIN, 2, settled(OutcomeStatus.ENFORCED, 2), now=NOON)

    known = outcome(row(table))
    assert known.status is OutcomeStatus.ENFORCED
    assert known.fault is None


def test_a_worker_that_outlived_its_lease_changes_nothing(ledger: DynamoLedger, table: Any) -> None:  # noqa: ANN401 - boto3's own type
    begin(ledger)
    begin(ledger, now=NOON + 2 * LEASE)
    ledger.settle(JOIN, 2, settled(OutcomeStatus.ENFORCED, 1, 2), now=NOON)
    before = row(table)

    with pytest.raises(AttemptInProgressError):
        ledger.intend(JOIN, 1, POLICIES)
    assert ledger.settle(JOIN, 1, settled(OutcomeStatus.FAILED, 1), now=NOON) is False

    assert row(table) == before


def test_only_what_is_not_well_is_in_the_index(ledger: DynamoLedger, table: Any) -> None:  # noqa: ANN401 - boto3's own type
    for number, status in enumerate(OutcomeStatus):
        event = JOIN.model_copy(update={"event_id": f"event-{status}"})
        begin(ledger, event)
        ledger.settle(event, 1, settled(status, 1), now=NOON + timedelta(seconds=number))

    found = table.scan(IndexName="failing")["Items"]

    assert {(item["failing"], item["event_id"]) for item in found} == {
        ("RETRYING", "event-RETRYING"),
        ("FAILED", "event-FAILED"),
    }


def test_an_event_without_account_has_a_row_too(ledger: DynamoLedger, table: Any) -> None:  # noqa: ANN401 - boto3's own type
    begin(ledger, OTHER)
    ledger.settle(OTHER, 1, Settlement(OutcomeStatus.IGNORED, fault=fault("NOT_A_JOIN", "no")), now=NOON)

    known = outcome(row(table, "event-2", "none"))
    assert (known.status, known.event_name) == (OutcomeStatus.IGNORED, "MoveAccount")


@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceededException", "AccessDeniedException", "InternalServerError"]
)
@pytest.mark.usefixtures("credentials")
def test_a_failure_of_the_table_is_passing(code: str) -> None:
    failing = client("dynamodb")
    with Stubber(failing) as stub:
        stub.add_client_error("update_item", code, f"about {ACCOUNT}")
        with pytest.raises(RetryableError) as raised:
            DynamoLedger(failing, TABLE).begin(JOIN, now=NOON, lease_until=NOON)

    assert raised.value.fault.code == f"DynamoDB.{code}"
    assert ACCOUNT not in raised.value.fault.message


class Workers(RuleBasedStateMachine):
    """Workers that begin, intend and settle in any order, dead or alive, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.mock = mock_aws()
        self.mock.start()
        told = RESOURCES["Outcomes"]["Properties"]
        names = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
        self.client = client("dynamodb")
        self.client.create_table(TableName=TABLE, **{name: told[name] for name in names})
        self.table = boto3.resource("dynamodb").Table(TABLE)
        self.ledger = DynamoLedger(self.client, TABLE)
        self.now = NOON
        self.attempts = 0
        self.final: OutcomeStatus | None = None

    def teardown(self) -> None:
        self.mock.stop()

    def known(self) -> Outcome | None:
        found = self.table.scan()["Items"]
        return outcome(found[0]) if found else None

    @rule(seconds=st.integers(0, 100))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def begins(self) -> None:
        before = self.known()
        try:
            begun = self.ledger.begin(JOIN, now=self.now, lease_until=self.now + LEASE)
        except AttemptInProgressError:
            assert before is not None
            assert before.lease_until is not None
            assert before.lease_until >= self.now
            return
        if isinstance(begun, Outcome):
            assert begun.status is self.final
            return
        assert self.final is None
        self.attempts += 1
        assert begun.number == self.attempts
        assert begun.interrupted == (before.intents if before else {})

    @precondition(lambda self: self.attempts)
    @rule(back=st.integers(0, 2))
    def intends(self, back: int) -> None:
        number = max(1, self.attempts - back)
        before = self.known()
        try:
            self.ledger.intend(JOIN, number, POLICIES)
        except AttemptInProgressError:
            assert number < self.attempts
            assert self.known() == before

    @precondition(lambda self: self.attempts and self.final is None)
    @rule(back=st.integers(0, 2), status=st.sampled_from(OutcomeStatus))
    def settles(self, back: int, status: OutcomeStatus) -> None:
        number = max(1, self.attempts - back)
        before = self.known()
        written = self.ledger.settle(JOIN, number, settled(status, number), now=self.now)
        assert written is (number == self.attempts)
        if not written:
            assert self.known() == before
        elif status in FINAL:
            self.final = status

    @invariant()
    def the_row_is_sound(self) -> None:
        known = self.known()
        if known is None:
            assert self.attempts == 0
            return
        assert known.attempts == self.attempts
        if self.final:
            assert known.status is self.final


@pytest.mark.usefixtures("credentials")
def test_no_order_of_workers_breaks_a_promise() -> None:
    run_state_machine_as_test(Workers, settings=settings(max_examples=15, stateful_step_count=15, deadline=None))
