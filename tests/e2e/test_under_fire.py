"""The real function's code, in a process of its own, with the real boto3, while AWS fails and processes die.

Whatever the history: an event ends as exactly one true outcome or stands in the dead letters with its reason; the row
never says more than is attached; every change has its evidence, once; nothing healthy is dead.
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
#: The calls of a join that attaches two policies, each with a turn from the pace's row.
SHORTEST: Final = 11


@dataclass(repr=False)
class Fire:
    """The function between a chaotic AWS and a double of Organizations."""

    chaos: Chaos
    organizations: Organizations
    at: Installation
    watch: Watch
    drivers: list[Driver]
    clock: float = 0.0
    receives: Counter[str] = field(default_factory=Counter)

    def join(self) -> tuple[str, dict[str, Any]]:
        """Let a new account join; return it and its event."""
        account_id = str(uuid.uuid4().int)[:12]
        self.organizations.join(account_id)
        return account_id, self.event(account_id)

    def event(self, account_id: str) -> dict[str, Any]:
        return handshake_accepted(account_id, self.at.organization_id, self.at.management_account_id)

    def deliver(self, event: dict[str, Any], *, worker: int = 0, skew: float = 0, milliseconds: int = 60_000) -> int:
        """Deliver an event to a worker; return 0 done, 1 again, less than 0 killed."""
        event_id = event["detail"]["eventID"]
        self.receives[event_id] += 1
        driver = self.drivers[worker]
        self.chaos.kill = driver.kill
        return driver.deliver(
            message(event, self.receives[event_id]), ahead=self.clock + skew, milliseconds=milliseconds
        )

    def break_(self, *plan: tuple[int, Break]) -> None:
        """Break the calls of these numbers, counted from now."""
        told = dict(plan)
        self.chaos.calls.clear()
        self.chaos.plan = lambda number, _name: told.get(number)

    def break_service(self, service: str, what: Break) -> None:
        """Break every call to a service, or to one operation of it."""
        self.chaos.plan = lambda _number, name: what if name.startswith(service) else None

    def heal(self) -> None:
        self.chaos.plan = lambda _number, _name: None

    def until_done(self, event: dict[str, Any], *, deliveries: int = 6) -> None:
        """Deliver an event again and again, each time after the lease, until it is done."""
        for _ in range(deliveries):
            self.clock += LATER
            if self.deliver(event) == 0:
                return
        raise AssertionError("the event never ended")

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
        assert ours == made, "each change is on record, once"
        assert outcome.evidence_key


def message(event: dict[str, Any], receives: int = 1) -> dict[str, Any]:
    """Return an event as SQS hands it to the function."""
    return {
        "messageId": event["detail"]["eventID"],
        "receiptHandle": "none",
        "body": json.dumps(event),
        "attributes": {"ApproximateReceiveCount": str(receives), "SentTimestamp": "1795521600000"},
        "messageAttributes": {},
    }


@pytest.fixture(scope="module")
def fire() -> Iterator[Fire]:
    organizations = Organizations(Rules(write_seconds=0.0, read_seconds=0.0, attach_rate=1e6, read_rate=1e6))
    organizations.policies.update(POLICIES)
    with running() as aws, serving(organizations) as endpoint, running_chaos(endpoint, aws.endpoint) as chaos:
        at = install(aws, package=build_local(), log=lambda _: None, changes=UNPACED)
        [function] = aws.client("lambda").list_functions()["Functions"]
        environment = function["Environment"]["Variables"] | {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ".",
            "POLICY_IDS": ",".join(POLICIES),
            "AWS_ENDPOINT_URL": chaos.endpoint,
            "AWS_DEFAULT_REGION": aws.region,
            "AWS_ACCESS_KEY_ID": aws.access_key_id,
            "AWS_SECRET_ACCESS_KEY": aws.secret_access_key,
        }
        fire = Fire(chaos, organizations, at, Watch(aws, at), [])
        fire.drivers += [Driver(environment, first=message(fire.join()[1])) for _ in range(2)]
        yield fire
        for driver in fire.drivers:
            driver.stop()


@pytest.fixture
def calm(fire: Fire) -> Iterator[Fire]:
    fire.heal()
    fire.chaos.calls.clear()
    yield fire
    fire.heal()
    fire.watch.clear()


def path_of_a_join(fire: Fire) -> list[str]:
    """Return the calls that a first join makes, in order."""
    fire.heal()
    account_id, event = fire.join()
    fire.clock += LATER
    fire.chaos.calls.clear()
    assert fire.deliver(event) == 0
    fire.assert_enforced(account_id, event)
    return list(fire.chaos.calls)


def test_the_path_is_the_one_that_is_broken_here(calm: Fire) -> None:
    path = path_of_a_join(calm)

    assert path[:3] == ["KMS.GenerateMac", "DynamoDB.UpdateItem", "Organizations.ListPoliciesForTarget"]
    assert path.count("Organizations.AttachPolicy") == 2
    assert path[-2:] == ["S3.PUT", "DynamoDB.UpdateItem"]


def each_call_broken(fire: Fire, what: Break) -> Iterator[tuple[str, dict[str, Any], int, str]]:
    """Deliver a new join for each call of its path, with that call broken; yield it, how it ended, and the call.

    How many calls there are depends on how long ago the last turn was taken: one or two to the pace's row.
    """
    for number in count(1):
        account_id, event = fire.join()
        fire.clock += LATER
        fire.break_((number, what))
        ended = fire.deliver(event)
        calls = list(fire.chaos.calls)
        fire.heal()
        if len(calls) < number:
            assert number > SHORTEST
            return
        yield account_id, event, ended, calls[number - 1]


@pytest.mark.parametrize("what", [Break.KILL_BEFORE, Break.KILL_AFTER])
def test_a_kill_around_any_call_is_repaired_by_the_next_delivery(calm: Fire, what: Break) -> None:
    """Exhaustively: before and after every call of the path."""
    for account_id, event, ended, call in each_call_broken(calm, what):
        assert ended < 0, f"not killed at {call}"

        calm.until_done(event)

        calm.assert_enforced(account_id, event)
    assert calm.watch.dead_letter_count() == 0


FAULTS: Final = [what for what in Break if what not in {Break.KILL_BEFORE, Break.KILL_AFTER}]


@pytest.mark.parametrize("what", FAULTS)
def test_any_call_that_fails_once_costs_nothing(calm: Fire, what: Break) -> None:
    for account_id, event, _, broken in each_call_broken(calm, what):
        refused = what is Break.DENIED and broken.startswith("Organizations")
        # What Organizations denies is for an operator: it is dead, with its reason, and is redriven.
        dead_letters = calm.watch.dead_letters()
        assert len(dead_letters) == int(refused), broken
        for dead_letter in dead_letters:
            calm.watch.delete(dead_letter)

        calm.until_done(event)

        calm.assert_enforced(account_id, event)


@pytest.mark.parametrize("what", FAULTS)
def test_a_service_that_fails_for_ever_loses_nothing(calm: Fire, what: Break) -> None:
    for service in ("KMS", "DynamoDB", "Organizations", "S3"):
        account_id, event = calm.join()
        calm.break_service(service, what)
        ends = []
        for _ in range(3):
            calm.clock += LATER
            ends.append(calm.deliver(event))
        dead_letters = calm.watch.dead_letters()
        if all(ends):
            assert dead_letters == [], service
        else:
            assert {each["MessageAttributes"]["ERROR_CODE"]["StringValue"] for each in dead_letters} == {
                "AccessDeniedException"
            }
        for dead_letter in dead_letters:
            calm.watch.delete(dead_letter)
        calm.heal()

        calm.until_done(event)

        calm.assert_enforced(account_id, event)


def test_dead_letters_that_cannot_be_sent_are_not_lost(calm: Fire) -> None:
    account_id, event = calm.join()
    calm.organizations.leave(account_id)
    calm.break_service("SQS.SendMessage", Break.SERVER_ERROR)
    calm.clock += 3600

    assert calm.deliver(event) == 1
    assert calm.watch.dead_letter_count() == 0
    calm.heal()
    calm.clock += LATER
    assert calm.deliver(event) == 0

    [dead_letter] = calm.watch.dead_letters()
    assert dead_letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "TargetNotFoundException"


def test_a_second_join_of_an_account_that_left_is_new_work(calm: Fire) -> None:
    account_id, first = calm.join()
    calm.until_done(first)
    calm.organizations.leave(account_id)
    calm.organizations.join(account_id)
    calm.organizations.history[:] = [each for each in calm.organizations.history if each[2] != account_id]

    second = calm.event(account_id)
    calm.until_done(second)
    calm.until_done(first)

    calm.assert_enforced(account_id, second)


def test_an_event_received_a_moment_before_the_deadline_is_not_begun(calm: Fire) -> None:
    _, event = calm.join()

    assert calm.deliver(event, milliseconds=9_000) == 1

    assert calm.chaos.calls == ["SQS.ChangeMessageVisibility"]


def test_two_workers_at_one_event_do_its_work_once(calm: Fire) -> None:
    for _ in range(10):
        account_id, event = calm.join()
        calm.clock += LATER
        at_once = [Thread(target=calm.deliver, args=(event,), kwargs={"worker": worker}) for worker in (0, 1)]
        for thread in at_once:
            thread.start()
        for thread in at_once:
            thread.join()

        calm.until_done(event)

        calm.assert_enforced(account_id, event)


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


# The model of the protocol runs ten thousand; these show that it is the real code that it models.
@settings(max_examples=20)
@given(histories)
def test_no_history_breaks_a_promise(
    calm: Fire, history: list[tuple[str, int, list[tuple[int, Break]], float, float]]
) -> None:
    """Two events of one join, delivered in any order, late, twice, to two workers with skewed clocks, amid faults."""
    account_id, first = calm.join()
    events = {"first": first, "second": calm.event(account_id)}
    calm.clock += LATER
    for name, worker, plan, pause, skew in history:
        calm.break_(*plan)
        calm.deliver(events[name], worker=worker, skew=skew)
        calm.clock += pause
        for event in events.values():
            assert_no_boast(calm, account_id, event)
    calm.heal()
    dead_letters = calm.watch.dead_letters()
    for dead_letter in dead_letters:
        calm.watch.delete(dead_letter)
    assert not dead_letters or any(what is Break.DENIED for _, _, plan, _, _ in history for _, what in plan)

    for event in events.values():
        calm.until_done(event)

    outcomes = [calm.watch.outcome(event["detail"]["eventID"]) for event in events.values()]
    assert [outcome and outcome.status for outcome in outcomes] == [OutcomeStatus.ENFORCED] * 2
    claimed = Counter(
        policy.policy_id
        for event in events.values()
        for evidence in calm.watch.evidence(event["detail"]["eventID"])
        for policy in evidence.policies
        if policy.result is AttachmentResult.ATTACHED
    )
    assert set(claimed) == set(POLICIES), "a change without evidence"


def assert_no_boast(fire: Fire, account_id: str, event: dict[str, Any]) -> None:
    """Check that the row says no more than what is attached."""
    outcome = fire.watch.outcome(event["detail"]["eventID"])
    if outcome is None:
        return
    said = {each.policy_id for each in outcome.policies if each.result is not AttachmentResult.FAILED}
    assert said <= set(fire.organizations.attached[account_id])
    if outcome.status is OutcomeStatus.ENFORCED:
        assert said == set(POLICIES)
