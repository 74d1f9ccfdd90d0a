"""The function's real code in its own process, with the real boto3, while calls to AWS fail and processes are killed.

After every history: an event has exactly one correct outcome, or is in the dead letters with its reason; the row claims
no policy that is not attached; every change has evidence, once; and no healthy join is in the dead letters.
"""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.joins.run import FIRST_RECEIVES
from infra.local.events import handshake_accepted
from infra.local.installation import build_local, install
from infra.local.organizations import FULL_ACCESS, Organizations, Rules, serving
from infra.local.standin import running
from infra.local.watch import Watch
from schemas.outcome import AttachmentResult, OutcomeStatus
from tests.chaos import Break, Chaos, Driver, running_chaos
from tests.e2e.conftest import UNPACED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.local.installation import Installation

POLICIES: Final = ("p-aaaaaaaa", "p-bbbbbbbb")
#: Longer than any lease.
LATER: Final = 200
#: The minimum number of calls of a join that attaches two policies.
MIN_CALLS: Final = 11


@dataclass(repr=False)
class Function:
    """The function, with faults in its calls to AWS and to the double of Organizations."""

    chaos: Chaos
    organizations: Organizations
    at: Installation
    watch: Watch
    drivers: list[Driver]
    clock: float = 0.0
    receives: Counter[str] = field(default_factory=Counter)

    def join(self) -> tuple[str, dict[str, Any]]:
        """Add an account; return its id and the event of its join."""
        account_id = str(uuid.uuid4().int)[:12]
        self.organizations.join(account_id)
        return account_id, self.event(account_id)

    def event(self, account_id: str) -> dict[str, Any]:
        return handshake_accepted(account_id, self.at.organization_id, self.at.management_account_id)

    def deliver(self, event: dict[str, Any], *, worker: int = 0, skew: float = 0, milliseconds: int = 60_000) -> int:
        """Deliver an event to a worker; return 0 if it is done, 1 if it must be retried, less than 0 if killed."""
        event_id = event["detail"]["eventID"]
        self.receives[event_id] += 1
        driver = self.drivers[worker]
        self.chaos.kill = driver.kill
        return driver.deliver(
            message(event, self.receives[event_id]), ahead=self.clock + skew, milliseconds=milliseconds
        )

    def break_calls(self, *plan: tuple[int, Break]) -> None:
        """Break the calls with these numbers, counted from now."""
        breaks = dict(plan)
        self.chaos.calls.clear()
        self.chaos.plan = lambda number, _name: breaks.get(number)

    def break_service(self, service: str, what: Break) -> None:
        """Break every call to a service or to one of its operations."""
        self.chaos.plan = lambda _number, name: what if name.startswith(service) else None

    def stop_faults(self) -> None:
        self.chaos.plan = lambda _number, _name: None

    def until_done(self, event: dict[str, Any], *, deliveries: int = 6) -> None:
        """Deliver an event until it is done, each time after the lease has expired."""
        for _ in range(deliveries):
            self.clock += LATER
            if self.deliver(event) == 0:
                return
        raise AssertionError(f"the event is not done after {deliveries} deliveries")

    def assert_enforced(self, account_id: str, event: dict[str, Any]) -> None:
        outcome = self.watch.outcome(event["detail"]["eventID"])
        assert outcome is not None
        assert outcome.status is OutcomeStatus.ENFORCED
        assert outcome.intents == {}
        carried = [policy for policy in self.organizations.attached[account_id] if policy != FULL_ACCESS]
        assert sorted(carried) == sorted(POLICIES)
        evidence = self.watch.evidence(event["detail"]["eventID"])
        ours = Counter(
            policy.policy_id
            for each in evidence
            for policy in each.policies
            if policy.result is AttachmentResult.ATTACHED
        )
        made = Counter(policy for _, policy, account in self.organizations.history if account == account_id)
        assert ours == made, "each change has evidence, once"
        assert outcome.evidence_key


def message(event: dict[str, Any], receives: int = 1) -> dict[str, Any]:
    """Return an event as a record that Lambda passes to the function."""
    return {
        "messageId": event["detail"]["eventID"],
        "receiptHandle": "none",
        "body": json.dumps(event),
        "attributes": {"ApproximateReceiveCount": str(receives), "SentTimestamp": "1795521600000"},
        "messageAttributes": {},
    }


@pytest.fixture(scope="module")
def shared_function() -> Iterator[Function]:
    organizations = Organizations(Rules(write_seconds=0.0, read_seconds=0.0, attach_rate=1e6, read_rate=1e6))
    organizations.policies.update(POLICIES)
    with running() as aws, serving(organizations) as endpoint, running_chaos(endpoint, aws.endpoint) as chaos:
        at = install(aws, package=build_local(), log=lambda _: None, changes=UNPACED)
        deployed = aws.client("lambda").get_function_configuration(FunctionName="MemberAccountInitialization")
        environment = deployed["Environment"]["Variables"] | {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ".",
            "POLICY_IDS": ",".join(POLICIES),
            "AWS_ENDPOINT_URL": chaos.endpoint,
            "AWS_DEFAULT_REGION": aws.region,
            "AWS_ACCESS_KEY_ID": aws.access_key_id,
            "AWS_SECRET_ACCESS_KEY": aws.secret_access_key,
        }
        made = Function(chaos, organizations, at, Watch(aws, at), [])
        made.drivers += [Driver(environment, first=message(made.join()[1])) for _ in range(2)]
        yield made
        for driver in made.drivers:
            driver.stop()


@pytest.fixture
def function(shared_function: Function) -> Iterator[Function]:
    """Yield the function without faults."""
    shared_function.stop_faults()
    shared_function.chaos.calls.clear()
    yield shared_function
    shared_function.stop_faults()
    shared_function.watch.clear()


def calls_of_a_join(function: Function) -> list[str]:
    """Return the calls of a first join, in order."""
    function.stop_faults()
    account_id, event = function.join()
    function.clock += LATER
    function.chaos.calls.clear()
    assert function.deliver(event) == 0
    function.assert_enforced(account_id, event)
    return list(function.chaos.calls)


def test_a_join_makes_the_calls_that_these_tests_break(function: Function) -> None:
    calls = calls_of_a_join(function)

    assert calls[:3] == ["KMS.GenerateMac", "DynamoDB.UpdateItem", "Organizations.ListPoliciesForTarget"]
    assert calls.count("Organizations.AttachPolicy") == 2
    assert calls[-2:] == ["S3.PUT", "DynamoDB.UpdateItem"]


def each_call_broken(function: Function, what: Break) -> Iterator[tuple[str, dict[str, Any], int, str]]:
    """Deliver one new join per call, with that call broken; yield account, event, result of the delivery, and call.

    The number of calls varies, because a turn takes one or two calls to the pace's row.
    """
    for number in count(1):
        account_id, event = function.join()
        function.clock += LATER
        function.break_calls((number, what))
        result = function.deliver(event)
        calls = list(function.chaos.calls)
        function.stop_faults()
        if len(calls) < number:
            assert number > MIN_CALLS
            return
        yield account_id, event, result, calls[number - 1]


@pytest.mark.parametrize("what", [Break.KILL_BEFORE, Break.KILL_AFTER])
def test_the_next_delivery_repairs_a_kill_before_or_after_any_call(function: Function, what: Break) -> None:
    for account_id, event, result, call in each_call_broken(function, what):
        assert result < 0, f"not killed at {call}"

        function.until_done(event)

        function.assert_enforced(account_id, event)
    assert function.watch.dead_letter_count() == 0


FAULTS: Final = [what for what in Break if what not in {Break.KILL_BEFORE, Break.KILL_AFTER}]


@pytest.mark.parametrize("what", FAULTS)
def test_a_single_failure_of_any_call_loses_nothing(function: Function, what: Break) -> None:
    for account_id, event, _, broken in each_call_broken(function, what):
        # Also for a denial by Organizations, which may come from a permission that is not effective yet.
        assert function.watch.dead_letter_count() == 0, broken

        function.until_done(event)

        function.assert_enforced(account_id, event)


@pytest.mark.parametrize("what", FAULTS)
def test_a_service_that_keeps_failing_loses_nothing(function: Function, what: Break) -> None:
    for service in ("KMS", "DynamoDB", "Organizations", "S3"):
        account_id, event = function.join()
        function.break_service(service, what)
        results = []
        for _ in range(FIRST_RECEIVES + 1):
            function.clock += LATER
            results.append(function.deliver(event))
        dead_letters = function.watch.dead_letters()
        # After the first receives, a denial by Organizations is permanent.
        denied = what is Break.DENIED and service == "Organizations"
        assert results == [1] * FIRST_RECEIVES + [int(not denied)], service
        codes = [each["MessageAttributes"]["ERROR_CODE"]["StringValue"] for each in dead_letters]
        assert codes == ["AccessDeniedException"] * denied, service
        for dead_letter in dead_letters:
            function.watch.delete(dead_letter)
        function.stop_faults()

        function.until_done(event)

        function.assert_enforced(account_id, event)


def test_a_dead_letter_that_cannot_be_sent_is_not_lost(function: Function) -> None:
    account_id, event = function.join()
    function.organizations.leave(account_id)
    function.break_service("SQS.SendMessage", Break.SERVER_ERROR)
    function.clock += 3600

    assert function.deliver(event) == 1
    assert function.watch.dead_letter_count() == 0
    function.stop_faults()
    function.clock += LATER
    assert function.deliver(event) == 0

    [dead_letter] = function.watch.dead_letters()
    assert dead_letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "TargetNotFoundException"


def test_an_account_that_left_and_joins_again_gets_its_policies_again(function: Function) -> None:
    account_id, first = function.join()
    function.until_done(first)
    function.organizations.leave(account_id)
    function.organizations.join(account_id)
    function.organizations.history[:] = [each for each in function.organizations.history if each[2] != account_id]

    second = function.event(account_id)
    function.until_done(second)
    function.until_done(first)

    function.assert_enforced(account_id, second)


def test_an_event_received_shortly_before_the_deadline_is_not_begun(function: Function) -> None:
    _, event = function.join()

    assert function.deliver(event, milliseconds=9_000) == 1

    assert function.chaos.calls == ["SQS.ChangeMessageVisibility"]


def test_two_workers_with_one_event_make_each_change_once(function: Function) -> None:
    for _ in range(10):
        account_id, event = function.join()
        function.clock += LATER
        threads = [Thread(target=function.deliver, args=(event,), kwargs={"worker": worker}) for worker in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        function.until_done(event)

        function.assert_enforced(account_id, event)


histories = st.lists(
    st.tuples(
        st.sampled_from(["first", "second"]),
        st.integers(0, 1),
        st.lists(st.tuples(st.integers(1, 14), st.sampled_from(Break)), max_size=3),
        st.sampled_from([0.0, 5.0, LATER]),
        st.floats(-30, 30),
    ),
    max_size=6,
)


# The model of the protocol runs thousands of histories; these few show that it models the real code.
@settings(max_examples=20)
@given(histories)
def test_every_guarantee_holds_in_every_history(
    function: Function, history: list[tuple[str, int, list[tuple[int, Break]], float, float]]
) -> None:
    """Deliver two events of one join in any order, late, and twice, to two workers with skewed clocks, with faults."""
    account_id, first = function.join()
    events = {"first": first, "second": function.event(account_id)}
    function.clock += LATER
    for name, worker, plan, pause, skew in history:
        function.break_calls(*plan)
        function.deliver(events[name], worker=worker, skew=skew)
        function.clock += pause
        for event in events.values():
            assert_row_claims_only_attached(function, account_id, event)
    function.stop_faults()
    dead_letters = function.watch.dead_letters()
    for dead_letter in dead_letters:
        function.watch.delete(dead_letter)
    assert not dead_letters or any(what is Break.DENIED for _, _, plan, _, _ in history for _, what in plan)

    for event in events.values():
        function.until_done(event)

    outcomes = [function.watch.outcome(event["detail"]["eventID"]) for event in events.values()]
    assert [outcome and outcome.status for outcome in outcomes] == [OutcomeStatus.ENFORCED] * 2
    claimed = Counter(
        policy.policy_id
        for event in events.values()
        for evidence in function.watch.evidence(event["detail"]["eventID"])
        for policy in evidence.policies
        if policy.result is AttachmentResult.ATTACHED
    )
    assert set(claimed) == set(POLICIES), "a change without evidence"


def assert_row_claims_only_attached(function: Function, account_id: str, event: dict[str, Any]) -> None:
    """Check that the row claims no policy that is not attached."""
    outcome = function.watch.outcome(event["detail"]["eventID"])
    if outcome is None:
        return
    claimed = {each.policy_id for each in outcome.policies if each.result is not AttachmentResult.FAILED}
    assert claimed <= set(function.organizations.attached[account_id])
    if outcome.status is OutcomeStatus.ENFORCED:
        assert claimed == set(POLICIES)
