"""Compare the outcomes table with a model: workers begin, intend, announce and settle, and operators close."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from handlers.aws.dynamodb_ledger import DynamoLedger
from handlers.aws.dynamodb_outcomes import DynamoOutcomes
from handlers.aws.dynamodb_rows import outcome
from handlers.core.errors import AttemptInProgressError, fault
from handlers.core.joins.ports import Attempt, Settlement
from schemas.events import Join
from schemas.outcome import FAILING, FINAL, AttachmentResult, Closed, Outcome, OutcomeStatus, PolicyOutcome
from schemas.pseudonym import Pseudonym
from tests.fakes import ACCOUNT, NOON, POLICIES
from tests.integration.conftest import TABLE, client

JOIN = Join(
    event_id="event-1", event_name="AcceptHandshake", event_time=NOON, source="aws.organizations", account_id=ACCOUNT
)
ACTOR = Pseudonym(value="prin-" + "0" * 32, key_version="k")
LEASE = timedelta(seconds=70)
#: How many attempts a worker is behind the latest one; usually none.
BACK = st.sampled_from([0, 0, 0, 1, 2])
SOME = st.sets(st.sampled_from(POLICIES)).map(lambda chosen: tuple(sorted(chosen)))
WHY = fault("CODE", "why")
SETTLEMENTS = st.builds(
    Settlement,
    # Weighted, so that most runs do not reach a final status at once.
    status=st.sampled_from([*FINAL, *FAILING, OutcomeStatus.RETRYING, OutcomeStatus.RETRYING, OutcomeStatus.FAILED]),
    policies=st.sampled_from(
        [
            (),
            (PolicyOutcome(policy_id=POLICIES[0], result=AttachmentResult.ATTACHED),),
            (PolicyOutcome(policy_id=POLICIES[1], result=AttachmentResult.FAILED, fault=WHY),),
        ]
    ),
    fault=st.sampled_from([None, WHY]),
    evidence_key=st.sampled_from([None, "evidence/1", "evidence/2"]),
    evidence_sha256=st.just("a" * 64),
    proven=st.frozensets(st.integers(1, 6)),
    ambiguous=st.frozensets(st.sampled_from(POLICIES)),
)


class Workers(RuleBasedStateMachine):
    """`row` is the expected row after each step."""

    def __init__(self, table: Any, ledger: DynamoLedger) -> None:
        super().__init__()
        self.table, self.ledger = table, ledger
        # The run before left its row.
        table.delete_item(Key={"account_id": JOIN.account_id, "event_id": JOIN.event_id})
        self.now = NOON
        self.row: Outcome | None = None

    @property
    def known(self) -> Outcome:
        assert self.row is not None
        return self.row

    def attempt(self, back: int) -> int:
        return max(1, self.known.attempts - back)

    @rule(seconds=st.integers(0, 100))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def begins(self) -> None:
        until = self.now + LEASE
        if self.row and self.row.status is OutcomeStatus.ENFORCED:
            assert self.ledger.begin(JOIN, now=self.now, lease_until=until) == self.row
            return
        if self.row and self.row.lease_until and self.row.lease_until >= self.now:
            with pytest.raises(AttemptInProgressError):
                self.ledger.begin(JOIN, now=self.now, lease_until=until)
            return
        before = self.row or Outcome(
            account_id=ACCOUNT,
            event_id=JOIN.event_id,
            event_name=JOIN.event_name,
            source=JOIN.source,
            status=OutcomeStatus.RETRYING,
            attempts=0,
            event_time=NOON,
            received_at=self.now,
            updated_at=self.now,
        )
        begun = self.ledger.begin(JOIN, now=self.now, lease_until=until)

        assert begun == Attempt(
            before.attempts + 1, before.intents, frozenset(before.unclear), NOON, before.received_at, before.announced
        )
        change: dict[str, Any] = {"attempts": before.attempts + 1, "updated_at": self.now, "lease_until": until}
        if before.status not in FAILING:
            # An IGNORED event says nothing about this join, and a CLOSED one is new work. Unsettled intents remain.
            change |= {"status": OutcomeStatus.RETRYING, "policies": (), "fault": None, "done_at": None, "closed": None}
            change |= {"evidence_key": None, "evidence_sha256": None}
        self.row = before.model_copy(update=change)

    @precondition(lambda self: self.row)
    @rule(back=BACK, policies=SOME, ambiguous=SOME)
    def intends(self, back: int, policies: tuple[str, ...], ambiguous: tuple[str, ...]) -> None:
        number = self.attempt(back)
        if number < self.known.attempts:
            with pytest.raises(AttemptInProgressError):
                self.ledger.intend(JOIN, number, policies, ambiguous=ambiguous)
            return
        self.ledger.intend(JOIN, number, policies, ambiguous=ambiguous)
        intents = self.known.intents | {number: policies}
        self.row = self.known.model_copy(update={"intents": intents, "unclear": ambiguous})

    @precondition(lambda self: self.row)
    @rule(back=BACK, about=st.integers(1, 4), digest=st.sampled_from(["a" * 64, "b" * 64]), ambiguous=SOME)
    def announces(self, back: int, about: int, digest: str, ambiguous: tuple[str, ...]) -> None:
        number = self.attempt(back)
        if number < self.known.attempts:
            with pytest.raises(AttemptInProgressError):
                self.ledger.announce(JOIN, number, about, digest, ambiguous=ambiguous)
            return
        self.ledger.announce(JOIN, number, about, digest, ambiguous=ambiguous)
        announced = self.known.announced | {about: (*self.known.announced.get(about, ()), digest)}
        self.row = self.known.model_copy(update={"announced": announced, "unclear": ambiguous})

    @precondition(lambda self: self.row)
    @rule(back=BACK, settlement=SETTLEMENTS)
    def settles(self, back: int, settlement: Settlement) -> None:
        number = self.attempt(back)

        written = self.ledger.settle(JOIN, number, settlement, now=self.now)

        other_final = self.known.status in FINAL and self.known.status is not settlement.status
        assert written is (number == self.known.attempts and not other_final)
        if written:
            change = {
                "status": settlement.status,
                "policies": settlement.policies,
                "fault": settlement.fault,
                "unclear": tuple(sorted(settlement.ambiguous)),
                "updated_at": self.now,
                "done_at": None if settlement.status is OutcomeStatus.RETRYING else self.now,
                "evidence_key": settlement.evidence_key or self.known.evidence_key,
                "evidence_sha256": settlement.evidence_sha256
                if settlement.evidence_key
                else self.known.evidence_sha256,
                "intents": {n: each for n, each in self.known.intents.items() if n not in settlement.proven},
                "announced": {n: each for n, each in self.known.announced.items() if n not in settlement.proven},
                "lease_until": None,
                "closed": None,
            }
            self.row = self.known.model_copy(update=change)

    @rule(action=st.sampled_from(["act-1", "act-2"]))
    def an_operator_closes(self, action: str) -> None:
        closed = Closed(actor=ACTOR, actor_id="AIDAEXAMPLE", act_id=action, closed_at=self.now)
        key = (JOIN.account_id, JOIN.event_id)

        done = DynamoOutcomes(client("dynamodb"), TABLE).close([key], closed)

        leased = self.row and self.row.lease_until and self.row.lease_until >= self.now
        failing = self.row and self.row.status in FAILING and not leased
        again = self.row and self.row.closed and self.row.closed.act_id == action
        assert done == ([key] if failing or again else [])
        if done:
            change = {"status": OutcomeStatus.CLOSED, "closed": closed, "lease_until": None, "updated_at": self.now}
            self.row = self.known.model_copy(update=change)

    @invariant()
    def the_table_holds_the_expected_row(self) -> None:
        items = self.table.scan()["Items"]
        assert [outcome(item) for item in items] == ([self.row] if self.row else [])
        if self.row:
            assert items[0].get("failing") == (self.row.status.value if self.row.status in FAILING else None)


def test_the_table_matches_the_model_in_every_order_of_calls(table: Any) -> None:
    ledger = DynamoLedger(client("dynamodb"), TABLE)

    run_state_machine_as_test(
        lambda: Workers(table, ledger),  # type: ignore[arg-type]  # a factory works too
        settings=settings(max_examples=20, stateful_step_count=25),
    )
