"""The protocol under all that can befall it: 2,000 histories, in CI 10,000 (--scenarios).

Two workers with clocks of their own handle events of two accounts, call by call, in any order. Calls fail before and
after their effect, workers are killed, leases run out, settings change, accounts leave and come back, others attach
and detach, objects are put where evidence belongs, one event id stands in events of two accounts. In the end all is
delivered again until it is decided; then the records must tell what happened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any, Final, TypeVar

import pytest
from greenlet import greenlet

from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.joins.enforce import Enforcer, Handled
from handlers.core.timing import Budget
from schemas.evidence import Evidence
from schemas.outcome import FINAL, AttachmentResult, OutcomeStatus
from tests.fakes import ACCOUNT, FakeClock, Killed, Steps, World, joined, message, with_policies

T = TypeVar("T")

BLOCKS: Final = 20
OTHER: Final = "333333333333"
POLICIES: Final = ("p-aaaaaaaa", "p-bbbbbbbb", "p-cccccccc")
#: More than any lease, less than an account is young.
LATER: Final = 100
ATTACHED: Final = AttachmentResult.ATTACHED
CLAIMED: Final = {ATTACHED, AttachmentResult.UNKNOWN}


class Paused(Steps):
    """Every call waits until the schedule says what befalls it."""

    def take(self, name: str, effect: Callable[[], T]) -> T:
        schedule = greenlet.getcurrent().parent
        # Outside a worker nothing befalls anybody.
        order = schedule.switch(name) if schedule else "go on"
        if order == "killed before":
            raise Killed
        if order == "fails":
            raise RetryableError(fault("Cut", "no connection"), soon=True)
        if order == "is denied" and name in {"read", "attach"}:
            raise PermanentError(fault("AccessDeniedException", "not allowed"))
        result = effect()
        if order == "killed after":
            raise Killed
        if order == "loses its answer":
            raise RetryableError(fault("Cut", "no answer"), soon=True, ambiguous=name == "attach")
        return result


ORDERS: Final = ("go on", "killed before", "killed after", "fails", "is denied", "loses its answer")
WEIGHTS: Final = (40, 2, 2, 2, 1, 3)


@dataclass
class SkewedClock:
    """A worker's own clock."""

    base: FakeClock
    skew: timedelta

    def now(self) -> datetime:
        return self.base.now() + self.skew

    def sleep(self, seconds: float) -> None:
        self.base.sleep(seconds)


@dataclass
class Worker:
    """One function's process; busy while a greenlet is at work on a message."""

    enforcer: Enforcer
    at_work: greenlet | None = None
    delivery: str = ""

    def start(self, event: dict[str, Any], receives: int, delivery: str) -> None:
        self.delivery = delivery

        def work() -> Handled | None:
            budget = Budget(self.enforcer.dependencies.clock, milliseconds=60_000, records=1)
            try:
                return self.enforcer.handle(message(event, receives=receives), budget)
            except Killed:
                return None

        self.at_work = greenlet(work)
        self.at_work.switch()

    def step(self, order: str) -> Handled | None:
        """Let the next call happen; return what became of the message where this was the last."""
        assert self.at_work
        result = self.at_work.switch(order)
        if not self.at_work.dead:
            return None
        self.at_work = None
        return result if isinstance(result, Handled) else None


@dataclass
class Scenario:
    """One history."""

    seed: int
    told: list[str] = field(default_factory=list)
    conflicts: int = 0
    #: Keys under which somebody put something before any worker.
    planted: set[str] = field(default_factory=set)
    #: What others took off an account, or it lost when it left.
    taken_off: set[tuple[str, str]] = field(default_factory=set)
    #: Outcomes that were looked at; nothing about them may change, and nothing does until they are begun anew.
    checked: set[tuple[str, str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)  # noqa: S311 - a history, not a secret
        self.world = World(policies=POLICIES[:2], seed=self.seed, steps=Paused())
        self.world.organizations.attached[OTHER] = ["p-FullAWSAccess"]
        base = self.world.clock
        self.workers = [self._worker(base, skew) for skew in (0.0, self.rng.choice([0.0, -20.0, 8.0, 30.0, 7200.0]))]
        self.events = {
            "join": joined(event_id="event-1"),
            "announcement": joined(event_id="event-2"),
            "same id, other account": joined(OTHER, event_id="event-1"),
            "same id, no join": joined(event_id="event-1", action="ENABLE_ALL_FEATURES"),
            "request with the same id": {
                "source": "joinguard.operator",
                "event_id": "event-1",
                "requested_at": "2026-11-24T11:59:55Z",
                "account_id": ACCOUNT,
                "organization_id": "o-exampleorgid",
                "reason": "x",
            },
        }
        self.receives: Counter[str] = Counter()

    def _worker(self, base: FakeClock, seconds: float) -> Worker:
        enforcer = self.world.enforcer
        clock = SkewedClock(base, timedelta(seconds=seconds))
        return Worker(replace(enforcer, dependencies=replace(enforcer.dependencies, clock=clock)))

    def run(self) -> None:
        """Let things happen, then let everything come to its end."""
        for _ in range(self.rng.randint(8, 36)):
            self.happens()
        for worker in self.workers:
            self.finish(worker)
        self.settings(POLICIES[:2])
        for account_id in (ACCOUNT, OTHER):
            self.world.organizations.attached.setdefault(account_id, ["p-FullAWSAccess"])
        # Who left and came back is told of by an event of its own.
        self.events |= {"back": joined(event_id="event-3"), "other back": joined(OTHER, event_id="event-4")}
        for name in [*self.receives, "back", "other back"]:
            self.until_decided(name)

    def happens(self) -> None:
        """Let one thing happen."""
        idle = [worker for worker in self.workers if not worker.at_work]
        roll = self.rng.random()
        if idle and roll < 0.35:
            self.deliver(self.rng.choice(idle), self.rng.choice(list(self.events)))
        elif roll < 0.85:
            busy = [worker for worker in self.workers if worker.at_work]
            for _ in range(self.rng.randint(1, 6)):
                if busy and busy[0].at_work:
                    self.step(self.rng.choice(busy))
                busy = [worker for worker in self.workers if worker.at_work]
        else:
            self.rng.choice(
                [self.time_passes, self.others_act, self.operators_deploy, self.accounts_move, self.plant]
            )()

    def deliver(self, worker: Worker, name: str) -> None:
        self.receives[name] += 1
        self.told.append(f"{self.workers.index(worker)} gets {name}")
        worker.start(self.events[name], self.receives[name], f"delivery {self.receives.total()}")

    def step(self, worker: Worker, order: str | None = None) -> Handled | None:
        order = order or self.rng.choices(ORDERS, WEIGHTS)[0]
        number = self.workers.index(worker)
        self.told.append(f"{number} {order}")
        self.world.organizations.delivery = worker.delivery
        handled = worker.step(order)
        if handled:
            self.conflicts += len(handled.conflicts)
            self.told.append(f"{number} ends: {handled.status} {handled.fault or ''}")
            if handled.status is OutcomeStatus.FAILED and any(self.owed(handled)):
                self.fails("FAILED, and earlier attempts are not proven")
        self.assert_rows()
        return handled

    def owed(self, handled: Handled) -> Iterator[object]:
        """Yield what is not proven of the attempts before one."""
        pseudonyms = self.world.enforcer.dependencies.pseudonyms
        for (account_id, event_id), row in self.world.ledger.rows.items():
            this = event_id == handled.event_id and pseudonyms.of(account_id).value == handled.account
            if this and row["attempts"] == handled.attempt:
                yield from row["intents"]

    def finish(self, worker: Worker) -> Handled | None:
        handled = None
        while worker.at_work:
            handled = self.step(worker, "go on")
        return handled

    def until_decided(self, name: str) -> None:
        for _ in range(8):
            self.time_passes(LATER)
            self.deliver(self.workers[0], name)
            handled = self.finish(self.workers[0])
            if handled and handled.status is not OutcomeStatus.RETRYING:
                return
        self.fails(f"{name} never ends")

    def time_passes(self, seconds: int | None = None) -> None:
        passed = self.rng.choice([1, 20, LATER]) if seconds is None else seconds
        self.told.append(f"{passed} s pass")
        self.world.clock.advance(passed)

    def others_act(self) -> None:
        account_id, policy = self.rng.choice([ACCOUNT, OTHER]), self.rng.choice(POLICIES)
        carried = self.world.organizations.attached.get(account_id, [])
        self.told.append(f"others {'detach' if policy in carried else 'attach'} {policy}")
        if policy in carried:
            carried.remove(policy)
            self.taken_off.add((account_id, policy))
        else:
            carried.append(policy)

    def operators_deploy(self) -> None:
        self.settings(tuple(self.rng.sample(POLICIES, self.rng.randint(1, 3))))

    def settings(self, policies: tuple[str, ...]) -> None:
        self.told.append(f"settings {policies}")
        for worker in self.workers:
            worker.enforcer = with_policies(worker.enforcer, policies)

    def accounts_move(self) -> None:
        attached, account_id = self.world.organizations.attached, self.rng.choice([ACCOUNT, OTHER])
        self.told.append(f"{account_id} {'leaves' if account_id in attached else 'joins'}")
        if account_id in attached:
            self.taken_off |= {(account_id, policy) for policy in attached.pop(account_id)}
        else:
            attached[account_id] = ["p-FullAWSAccess"]

    def plant(self) -> None:
        """Put something where an attempt's evidence belongs."""
        pseudonym = self.world.enforcer.dependencies.pseudonyms.of(self.rng.choice([ACCOUNT, OTHER])).value
        key = f"evidence/2026/11/24/event-{self.rng.randint(1, 2)}/{pseudonym}/{self.rng.randint(1, 3):04d}.json"
        bodies = self.world.archive.bodies
        if key not in bodies:
            self.told.append(f"somebody puts {key}")
            self.planted.add(key)
            bodies[key] = self.rng.choice([b"{}", *bodies.values()])

    def assert_rows(self) -> None:
        """Check what must hold at any moment."""
        for (account_id, event_id), row in self.world.ledger.rows.items():
            this = (account_id, event_id, row["attempts"])
            if row["status"] is not OutcomeStatus.ENFORCED or this in self.checked:
                continue
            self.checked.add(this)
            results = [policy.result for policy in row["policies"]]
            if not results or not set(results) <= {AttachmentResult.ATTACHED, AttachmentResult.ALREADY_ATTACHED}:
                self.fails(f"ENFORCED with {results}")
            body = self.world.archive.bodies.get(row.get("evidence_key", ""))
            if body is None or sha256(body).hexdigest() != row["evidence_sha256"]:
                self.fails("ENFORCED without its evidence")
            account = Evidence.model_validate_json(body or b"").account
            if account is None or account != self.world.enforcer.dependencies.pseudonyms.of(account_id):
                self.fails("ENFORCED by the evidence of another account")

    def assert_all_is_told(self) -> None:
        """Check what must hold in the end."""
        for name, row in self.world.ledger.rows.items():
            if row["status"] not in FINAL:
                self.fails(f"{name} is {row['status']}")
        for account_id in (ACCOUNT, OTHER):
            if not set(POLICIES[:2]) <= set(self.world.organizations.attached[account_id]):
                self.fails(f"{account_id} lacks a policy")
        if self.conflicts and not self.planted:
            self.fails(f"{self.conflicts} conflicts, and nobody put anything there")
        self.assert_changes_are_claimed()

    def assert_changes_are_claimed(self) -> None:
        claimed = Counter((account_id, policy) for account_id, policy, _ in self.claims())
        certain = {(account_id, policy) for account_id, policy, result in self.claims() if result is ATTACHED}
        # An attempt says of a policy once that it was attached, however often others took it off meanwhile.
        made = Counter((account_id, policy) for account_id, policy, _ in set(self.world.organizations.changes))
        for change, times in made.items():
            if claimed[change] < times:
                self.fails(f"{change} was made by {times} attempts of ours and is claimed {claimed[change]} times")
            if change not in self.taken_off and change not in certain:
                self.fails(f"{change} is our change, has stayed, and nobody claims it")

    def claims(self) -> Iterator[tuple[str, str, AttachmentResult]]:
        """Yield account, policy and result of all that evidence calls ours, or unknown; planted objects are none."""
        pseudonyms = self.world.enforcer.dependencies.pseudonyms
        names = {pseudonyms.of(each): each for each in (ACCOUNT, OTHER)}
        for key, evidence in self.world.archive.objects.items():
            if key in self.planted or evidence.account is None:
                continue
            for policy in evidence.policies:
                if policy.result in CLAIMED:
                    yield names[evidence.account], policy.policy_id, policy.result

    def fails(self, why: str) -> None:
        pytest.fail("\n".join([f"seed {self.seed}: {why}", *self.told, *self.records()]))

    def records(self) -> Iterator[str]:
        for key, evidence in sorted(self.world.archive.objects.items()):
            results = {policy.policy_id: policy.result.value for policy in evidence.policies}
            yield f"{key}: {evidence.course} {evidence.status} {results}"


@pytest.mark.parametrize("block", range(BLOCKS))
def test_whatever_happens_the_records_tell_it(block: int, pytestconfig: pytest.Config) -> None:
    size = pytestconfig.getoption("--scenarios") // BLOCKS
    for seed in range(block * size, (block + 1) * size):
        scenario = Scenario(seed)
        scenario.run()
        scenario.assert_all_is_told()
