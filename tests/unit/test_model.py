"""A model of the protocol: 2,000 random histories, in CI 10,000 (--scenarios).

Two workers with their own clocks handle events of two accounts, call by call, in any order. Calls fail before and
after their effect, workers are killed, leases expire, settings change, workers only observe, accounts leave and join
again, others attach and detach policies, other objects are written under evidence keys, and events of two accounts have
one event id. In the end, every event is delivered until it is decided. Then the records must agree with what happened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from random import Random
from typing import Any, Final

import pytest

from handlers.core.errors import NotYetEffectiveError, PermanentError
from handlers.core.joins.attach import Enforcer
from handlers.core.joins.worker import Handled
from handlers.core.timing import Budget
from schemas.evidence import Evidence
from schemas.outcome import FINAL, AttachmentResult, OutcomeStatus
from tests.fakes import ACCOUNT, FakeClock, World, joined, message, with_policies
from tests.paused import ENDINGS, WEIGHTS, Paused, Process, SkewedClock

BLOCKS: Final = 20
OTHER: Final = "333333333333"
POLICIES: Final = ("p-aaaaaaaa", "p-bbbbbbbb", "p-cccccccc")
#: Seconds: longer than any lease, shorter than an unknown account is retried.
LATER: Final = 100
ATTACHED: Final = AttachmentResult.ATTACHED
CLAIMED: Final = {ATTACHED, AttachmentResult.UNKNOWN}


@dataclass
class Worker(Process):
    """One process of the function."""

    enforcer: Enforcer

    def start(self, event: dict[str, Any], receives: int, delivery: str) -> None:
        budget = Budget(self.enforcer.dependencies.clock, milliseconds=60_000, records=1)
        self.begin(lambda: self.enforcer.handle(message(event, receives=receives), budget), delivery)


@dataclass
class Scenario:
    """One random history."""

    seed: int
    log: list[str] = field(default_factory=list)
    conflicts: int = 0
    #: Keys under which another object was written before any worker wrote evidence.
    planted: set[str] = field(default_factory=set)
    #: Policies that others detached from an account, or that it lost when it left.
    detached: set[tuple[str, str]] = field(default_factory=set)
    #: Outcomes that were checked already: account id, event id and attempt.
    checked: set[tuple[str, str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)  # noqa: S311 - a history, not a secret
        steps = Paused()
        steps.denial = self.rng.choice([PermanentError, NotYetEffectiveError])
        self.world = World(policies=POLICIES[:2], seed=self.seed, steps=steps)
        self.world.organizations.attached[OTHER] = ["p-FullAWSAccess"]
        base = self.world.clock
        self.workers = [self._worker(base, skew) for skew in (0.0, self.rng.choice([0.0, -20.0, 8.0, 30.0, 7200.0]))]
        self.events = {
            "join": joined(event_id="event-1"),
            "announcement": joined(event_id="event-2"),
            "same id, other account": joined(OTHER, event_id="event-1"),
            "same id, not a join": joined(event_id="event-1", action="ENABLE_ALL_FEATURES"),
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
        """Let random steps happen, then deliver every event until it is decided."""
        for _ in range(self.rng.randint(8, 36)):
            self.random_step()
        for worker in self.workers:
            self.finish(worker)
        self.change_settings(POLICIES[:2])
        for account_id in (ACCOUNT, OTHER):
            self.world.organizations.attached.setdefault(account_id, ["p-FullAWSAccess"])
        # An account that left and joined again has an event of its own.
        self.events |= {"joined again": joined(event_id="event-3"), "other again": joined(OTHER, event_id="event-4")}
        for name in [*self.receives, "joined again", "other again"]:
            self.deliver_until_decided(name)

    def random_step(self) -> None:
        """Let one random step happen."""
        idle = [worker for worker in self.workers if not worker.running]
        roll = self.rng.random()
        if idle and roll < 0.35:
            self.deliver(self.rng.choice(idle), self.rng.choice(list(self.events)))
        elif roll < 0.85:
            busy = [worker for worker in self.workers if worker.running]
            for _ in range(self.rng.randint(1, 6)):
                if busy and busy[0].running:
                    self.step(self.rng.choice(busy))
                busy = [worker for worker in self.workers if worker.running]
        else:
            self.rng.choice([self.pass_time, self.change_policies, self.deploy, self.move_account, self.plant])()

    def deliver(self, worker: Worker, name: str) -> None:
        self.receives[name] += 1
        self.log.append(f"worker {self.workers.index(worker)} receives {name}")
        worker.start(self.events[name], self.receives[name], f"delivery {self.receives.total()}")

    def step(self, worker: Worker, ending: str | None = None) -> Handled | None:
        ending = ending or self.rng.choices(ENDINGS, WEIGHTS)[0]
        number = self.workers.index(worker)
        self.log.append(f"worker {number}: {ending}")
        self.world.organizations.delivery = worker.delivery
        handled = worker.step(ending)
        if handled:
            self.conflicts += len(handled.conflicts)
            self.log.append(f"worker {number} ends: {handled.status} {handled.fault or ''}")
            if handled.status is OutcomeStatus.FAILED and any(self.unproven(handled)):
                self.fail("FAILED, and earlier attempts have no evidence")
        self.assert_rows()
        return handled

    def unproven(self, handled: Handled) -> Iterator[object]:
        """Yield the earlier attempts that have no evidence."""
        pseudonyms = self.world.enforcer.dependencies.pseudonyms
        for (account_id, event_id), row in self.world.ledger.rows.items():
            this = event_id == handled.event_id and pseudonyms.of(account_id).value == handled.account
            if this and row["attempts"] == handled.attempt:
                yield from row["intents"]

    def finish(self, worker: Worker) -> Handled | None:
        handled = None
        while worker.running:
            handled = self.step(worker, "succeeds")
        return handled

    def deliver_until_decided(self, name: str) -> None:
        for _ in range(8):
            self.pass_time(LATER)
            self.deliver(self.workers[0], name)
            handled = self.finish(self.workers[0])
            if handled and handled.status is not OutcomeStatus.RETRYING:
                return
        self.fail(f"{name} is never decided")

    def pass_time(self, seconds: int | None = None) -> None:
        elapsed = self.rng.choice([1, 20, LATER]) if seconds is None else seconds
        self.log.append(f"{elapsed} s pass")
        self.world.clock.advance(elapsed)

    def change_policies(self) -> None:
        account_id, policy = self.rng.choice([ACCOUNT, OTHER]), self.rng.choice(POLICIES)
        attached = self.world.organizations.attached.get(account_id, [])
        self.log.append(f"others {'detach' if policy in attached else 'attach'} {policy}")
        if policy in attached:
            attached.remove(policy)
            self.detached.add((account_id, policy))
        else:
            attached.append(policy)

    def deploy(self) -> None:
        policies = tuple(self.rng.sample(POLICIES, self.rng.randint(1, 3)))
        self.change_settings(policies, self.rng.choice(["all", "all", "none", ACCOUNT]))

    def change_settings(self, policies: tuple[str, ...], attach_to: str = "all") -> None:
        self.log.append(f"settings {policies}, attach to {attach_to}")
        for worker in self.workers:
            worker.enforcer = with_policies(worker.enforcer, policies, attach_to)

    def move_account(self) -> None:
        attached, account_id = self.world.organizations.attached, self.rng.choice([ACCOUNT, OTHER])
        self.log.append(f"{account_id} {'leaves' if account_id in attached else 'joins'}")
        if account_id in attached:
            self.detached |= {(account_id, policy) for policy in attached.pop(account_id)}
        else:
            attached[account_id] = ["p-FullAWSAccess"]

    def plant(self) -> None:
        """Write another object under the evidence key of an attempt."""
        pseudonym = self.world.enforcer.dependencies.pseudonyms.of(self.rng.choice([ACCOUNT, OTHER])).value
        key = f"evidence/2026/11/24/event-{self.rng.randint(1, 2)}/{pseudonym}/{self.rng.randint(1, 3):04d}.json"
        bodies = self.world.archive.bodies
        if key not in bodies:
            self.log.append(f"another object is written to {key}")
            self.planted.add(key)
            bodies[key] = self.rng.choice([b"{}", *bodies.values()])

    def assert_rows(self) -> None:
        """Check what must be true at any time."""
        for (account_id, event_id), row in self.world.ledger.rows.items():
            this = (account_id, event_id, row["attempts"])
            if row["status"] is not OutcomeStatus.ENFORCED or this in self.checked:
                continue
            self.checked.add(this)
            results = [policy.result for policy in row["policies"]]
            if not results or not set(results) <= {AttachmentResult.ATTACHED, AttachmentResult.ALREADY_ATTACHED}:
                self.fail(f"ENFORCED with {results}")
            body = self.world.archive.bodies.get(row.get("evidence_key", ""))
            if body is None or sha256(body).hexdigest() != row["evidence_sha256"]:
                self.fail("ENFORCED without its evidence")
            account = Evidence.model_validate_json(body or b"").account
            if account is None or account != self.world.enforcer.dependencies.pseudonyms.of(account_id):
                self.fail("ENFORCED with the evidence of another account")

    def assert_records_agree(self) -> None:
        """Check what must be true in the end."""
        for name, row in self.world.ledger.rows.items():
            if row["status"] not in FINAL:
                self.fail(f"{name} is {row['status']}")
        for account_id in (ACCOUNT, OTHER):
            if not set(POLICIES[:2]) <= set(self.world.organizations.attached[account_id]):
                self.fail(f"{account_id} lacks a policy")
        if self.conflicts and not self.planted:
            self.fail(f"{self.conflicts} conflicts, although no other object was written")
        self.assert_changes_are_claimed()

    def assert_changes_are_claimed(self) -> None:
        claimed = Counter((account_id, policy) for account_id, policy, _ in self.claims())
        certain = {(account_id, policy) for account_id, policy, result in self.claims() if result is ATTACHED}
        # An attempt claims a policy once, however often others detached it meanwhile.
        changes = Counter((account_id, policy) for account_id, policy, _ in set(self.world.organizations.changes))
        for change, times in changes.items():
            if claimed[change] < times:
                self.fail(f"{change} was made by {times} attempts and is claimed {claimed[change]} times")
            if change not in self.detached and change not in certain:
                self.fail(f"{change} was made, was not undone, and no evidence claims it")

    def claims(self) -> Iterator[tuple[str, str, AttachmentResult]]:
        """Yield account, policy and result of each change that our evidence claims, certainly or as unknown."""
        pseudonyms = self.world.enforcer.dependencies.pseudonyms
        account_ids = {pseudonyms.of(each): each for each in (ACCOUNT, OTHER)}
        for key, evidence in self.world.archive.objects.items():
            if key in self.planted or evidence.account is None:
                continue
            for policy in evidence.policies:
                if policy.result in CLAIMED:
                    yield account_ids[evidence.account], policy.policy_id, policy.result

    def fail(self, reason: str) -> None:
        pytest.fail("\n".join([f"seed {self.seed}: {reason}", *self.log, *self.records()]))

    def records(self) -> Iterator[str]:
        for key, evidence in sorted(self.world.archive.objects.items()):
            results = {policy.policy_id: policy.result.value for policy in evidence.policies}
            yield f"{key}: {evidence.course} {evidence.status} {results}"


@pytest.mark.parametrize("block", range(BLOCKS))
def test_the_records_agree_with_whatever_happens(block: int, pytestconfig: pytest.Config) -> None:
    size = pytestconfig.getoption("--scenarios") // BLOCKS
    for seed in range(block * size, (block + 1) * size):
        scenario = Scenario(seed)
        scenario.run()
        scenario.assert_records_agree()
