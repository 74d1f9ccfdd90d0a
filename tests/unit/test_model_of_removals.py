"""A model of both workers: 1,000 random histories, in CI 5,000 (half of --scenarios).

Four processes handle the messages of both queues, call by call, in any order. Accounts get other tags, often without an
event, leave and join again; exceptions begin and end; others attach and detach policies; calls fail before and after
their effect, for a while all of one name, and processes are killed. Now and then the queues are drained without faults,
and in the end. Then each account that changed without an event is evaluated, and no other.

At any time, nothing that others attached was removed, and the messages do not multiply. Whenever the queues are empty,
each account that was evaluated since its last change carries what it needs, what others attached, and nothing that
Joinguard attached and that is to be removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, Final

import pytest

from handlers.core.errors import NotYetEffectiveError, PermanentError
from handlers.core.joins.worker import Handled
from handlers.core.timing import Budget
from schemas.compiled_guardrails import CompiledException
from schemas.outcome import OutcomeStatus
from tests.fakes import ACCOUNT, NOON, ORGANIZATION, message
from tests.paused import ENDINGS, WEIGHTS, Paused, Process
from tests.removals import BASE, EDGE, KEPT, REGIONS, TwoWorkers, document

BLOCKS: Final = 20
OTHER: Final = "333333333333"
ACCOUNTS: Final = (ACCOUNT, OTHER)
#: Seconds: longer than any lease.
LATER: Final = 100
#: More rounds than any history takes to settle.
ROUNDS: Final = 60
#: In force on every day of a history.
EXCEPTION: Final = CompiledException(
    id="EXC-1", accounts=(ACCOUNT,), policies=(KEPT,), expires=(NOON + timedelta(days=60)).date()
)


@dataclass
class Waiting:
    """A message in a queue."""

    queue: str
    body: str
    receives: int = 0


@dataclass
class Scenario:
    """One random history."""

    seed: int
    log: list[str] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    #: The messages that processes are handling.
    handled: dict[int, Waiting] = field(default_factory=dict)
    #: Who attached the policies that accounts carry: "us" or "others".
    owner: dict[tuple[str, str], str] = field(default_factory=dict)
    #: What nobody can tell who attached: others attached it while a change of ours was not recorded yet, or after
    #: others had detached what we attached; or we did after an event from before the account joined again.
    unclear: set[tuple[str, str]] = field(default_factory=set)
    #: What we attached and did not remove ourselves.
    claimed: set[tuple[str, str]] = field(default_factory=set)
    #: The accounts that changed without an event, and those that we attached something to while another attempt ran.
    dirty: set[str] = field(default_factory=set)
    #: The call that fails now, whichever process makes it.
    outage: str = ""
    events: int = 0
    seen: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)  # noqa: S311 - a history, not a secret
        steps = Paused()
        steps.denial = self.rng.choice([PermanentError, NotYetEffectiveError])
        self.world = TwoWorkers(steps=steps, seed=self.seed, removals=self.rng.choice([0, 2, 25]))
        for account_id in ACCOUNTS:
            self.world.organizations.attached[account_id] = ["p-FullAWSAccess"]
            self.tag(account_id)
        self.processes = [Process() for _ in range(4)]

    def run(self) -> None:
        """Let random steps happen, and drain the queues in between and at the end."""
        for _ in range(self.rng.choice([1, 1, 2, 3])):
            for _ in range(self.rng.randint(15, 50)):
                self.random_step()
            self.drain()

    def drain(self) -> None:
        """Handle everything without faults, evaluate the accounts that changed without an event, and compare."""
        self.outage = ""
        for number in range(4):
            while self.processes[number].running:
                self.step(number, "succeeds")
        for account_id in ACCOUNTS:
            if account_id not in self.world.organizations.attached:
                self.join(account_id)
        self.settle()
        for account_id in sorted(self.dirty):
            self.evaluate(account_id)
        self.dirty.clear()
        self.settle()
        self.assert_settled()

    def random_step(self) -> None:
        """Let one random step happen."""
        idle = [number for number, each in enumerate(self.processes) if not each.running]
        busy = [number for number, each in enumerate(self.processes) if each.running]
        roll = self.rng.random()
        if idle and self.waiting and roll < 0.4:
            self.deliver(self.rng.choice(idle))
        elif busy and roll < 0.8:
            for _ in range(self.rng.randint(1, 8)):
                number = self.rng.choice(busy)
                if self.processes[number].running:
                    self.step(number)
        else:
            account_id = self.rng.choice(ACCOUNTS)
            others = [self.evaluate, self.others_change, self.move, self.deploy, self.fail_for_long]
            self.rng.choice([*[self.tag] * 3, *others])(account_id)
            self.pass_time()

    def pass_time(self, seconds: int | None = None) -> None:
        self.world.clock.advance(seconds or self.rng.choice([1, 20, LATER, 3600]))

    def tag(self, account_id: str) -> None:
        environment = self.rng.choice(["prod", "test"])
        self.log.append(f"{account_id} is {environment}")
        self.world.tag(account_id, environment=environment)
        if self.rng.random() < 0.8:
            self.evaluate(account_id)
        else:
            self.dirty.add(account_id)

    def fail_for_long(self, _account_id: str) -> None:
        """Let all calls of one name lose their answers, or end an outage."""
        self.outage = self.rng.choice(["", "", "detach", "attach", "settle", "request evaluation", "tags"])
        self.log.append(f"outage of {self.outage or 'nothing'}")

    def evaluate(self, account_id: str) -> None:
        self.events += 1
        request = {
            "source": "joinguard.operator",
            "event_id": f"event-{self.events}",
            "requested_at": self.world.clock.now().isoformat(),
            "account_id": account_id,
            "organization_id": ORGANIZATION,
            "reason": "x",
        }
        self.waiting.append(Waiting("joins", json.dumps(request)))

    def others_change(self, account_id: str) -> None:
        attached = self.world.organizations.attached.get(account_id)
        policy = self.rng.choice([BASE, REGIONS, EDGE, KEPT])
        if attached is None:
            return
        self.dirty.add(account_id)
        if policy in attached:
            self.log.append(f"others detach {policy} from {account_id}")
            attached.remove(policy)
            self.owner.pop((account_id, policy), None)
        else:
            self.log.append(f"others attach {policy} to {account_id}")
            attached.append(policy)
            self.owner[account_id, policy] = "others"
            if self.is_open(account_id, policy) or (account_id, policy) in self.claimed:
                self.unclear.add((account_id, policy))

    def is_open(self, account_id: str, policy: str) -> bool:
        """Return whether an attempt runs, or began to change the policy and the row does not say what became of it."""
        if any(account_id in each.body for each in self.handled.values()):
            return True
        rows = [row for key, row in self.world.ledger.rows.items() if key[0] == account_id]
        return any(
            policy in row.get("unclear", ()) or any(policy in intended for intended in row["intents"].values())
            for row in rows
        )

    def move(self, account_id: str) -> None:
        if account_id in self.world.organizations.attached:
            self.log.append(f"{account_id} leaves")
            del self.world.organizations.attached[account_id]
            self.owner = {key: who for key, who in self.owner.items() if key[0] != account_id}
            self.claimed = {key for key in self.claimed if key[0] != account_id}
        else:
            self.join(account_id)

    def join(self, account_id: str) -> None:
        self.log.append(f"{account_id} joins")
        self.world.clock.advance(1)
        self.world.organizations.attached[account_id] = ["p-FullAWSAccess"]
        self.world.organizations.joined_at[account_id] = self.world.clock.now()
        self.evaluate(account_id)

    def deploy(self, _account_id: str) -> None:
        self.dirty.update(ACCOUNTS)
        exceptions = (EXCEPTION,) if self.rng.random() < 0.5 else ()
        self.log.append(f"deploy with {len(exceptions)} exceptions")
        self.world.use(document(*exceptions, removals=self.world.remover.requirements.guardrails.document.max_removals))

    # ---------------------------------------------------------------- the workers

    def deliver(self, number: int) -> None:
        chosen = self.rng.choice(self.waiting)
        self.waiting.remove(chosen)
        chosen.receives += 1
        self.log.append(f"process {number} receives {chosen.queue} {chosen.body[:60]}")
        self.handled[number] = chosen
        self.processes[number].begin(self.work(chosen), f"delivery {number}")

    def work(self, chosen: Waiting) -> Callable[[], Handled]:
        worker = self.world.enforcer if chosen.queue == "joins" else self.world.remover
        budget = Budget(worker.dependencies.clock, milliseconds=60_000, records=1)
        return lambda: worker.handle(message(chosen.body, receives=chosen.receives), budget)

    def step(self, number: int, ending: str | None = None) -> None:
        process = self.processes[number]
        ending = ending or self.rng.choices(ENDINGS, WEIGHTS)[0]
        if self.outage and process.at == self.outage:
            ending = "loses its answer"
        self.log.append(f"process {number}: {ending}")
        handled = process.step(ending)
        self.note_changes()
        self.note_requests()
        if process.running:
            return
        chosen = self.handled.pop(number)
        if handled is None or handled.status is OutcomeStatus.RETRYING:
            self.waiting.append(chosen)
        self.log.append(f"process {number} ends: {handled and (handled.status.value, handled.fault)}")

    def note_changes(self) -> None:
        """Note who attached what; fail if something was removed that others attached."""
        organizations = self.world.organizations
        for account_id, policy, _ in organizations.changes[self.seen.get("changes", 0) :]:
            self.log.append(f"we attach {policy} to {account_id}")
            self.owner[account_id, policy] = "us"
            self.claimed.add((account_id, policy))
            if self.began_before(account_id):
                self.unclear.add((account_id, policy))
            if sum(account_id in each.body for each in self.handled.values()) > 1:
                self.dirty.add(account_id)
        for account_id, policy, _ in organizations.removals[self.seen.get("removed", 0) :]:
            self.log.append(f"we remove {policy} from {account_id}")
            self.claimed.discard((account_id, policy))
            if self.owner.pop((account_id, policy), None) != "us" and (account_id, policy) not in self.unclear:
                self.fail(f"{policy} was removed from {account_id}, and others attached it")
        self.seen |= {"changes": len(organizations.changes), "removed": len(organizations.removals)}

    def began_before(self, account_id: str) -> bool:
        """Return whether an event of the account was first received before the account joined."""
        joined = self.world.organizations.joined_at.get(account_id, NOON)
        return any(row["received_at"] < joined for key, row in self.world.ledger.rows.items() if key[0] == account_id)

    def note_requests(self) -> None:
        for queue, requests in (("removals", self.world.removals), ("joins", self.world.evaluations)):
            for body in requests.bodies[self.seen.get(queue, 0) :]:
                self.waiting.append(Waiting(queue, body))
            self.seen[queue] = len(requests.bodies)
        # A message is received 24 times at most, and each receive can request something once.
        if len(self.waiting) > 40 + 4 * self.events:
            self.fail("the messages multiply")

    # ---------------------------------------------------------------- the end

    def settle(self) -> None:
        """Handle every message without faults, and redrive the dead letters, until there is none."""
        limit = self.world.remover.requirements.guardrails.document.max_removals
        for _ in range(ROUNDS):
            while self.waiting:
                self.world.clock.advance(LATER)
                if max(each.receives for each in self.waiting) > ROUNDS:
                    self.fail("a message comes again for ever")
                self.deliver(0)
                while self.processes[0].running:
                    self.step(0, "succeeds")
            dead_letters = self.world.dead_letters.dead_letters
            # A limit that nobody raises refuses for ever.
            if not dead_letters or (limit == 0 and {why.code for _, why in dead_letters} == {"REMOVAL_LIMIT"}):
                return
            self.world.clock.advance(24 * 3600)
            self.waiting += [Waiting("joins", each.body) for each, _ in dead_letters]
            dead_letters.clear()
        self.fail("the dead letters never end")

    def assert_settled(self) -> None:
        guardrails = self.world.remover.requirements.guardrails
        for account_id in ACCOUNTS:
            facts = self.world.organizations.facts[account_id]
            decision = guardrails.evaluate(facts, self.world.clock.now())
            carried = set(self.world.organizations.attached[account_id])
            if not set(decision.required) <= carried:
                self.fail(f"{account_id} lacks {set(decision.required) - carried}")
            for policy in decision.removable(carried):
                ours = self.owner.get((account_id, policy)) == "us"
                if ours and (account_id, policy) not in self.unclear and guardrails.document.max_removals:
                    self.fail(f"{account_id} still carries {policy}, which we attached")
        for name, row in self.world.ledger.rows.items():
            if row["status"] is OutcomeStatus.RETRYING:
                self.fail(f"{name} is RETRYING, and nothing handles it")

    def fail(self, reason: str) -> None:
        rows: list[Any] = [(key, row.get("claims"), row["status"]) for key, row in self.world.ledger.rows.items()]
        pytest.fail("\n".join([f"seed {self.seed}: {reason}", *self.log, *map(str, rows)]))


@pytest.mark.parametrize("block", range(BLOCKS))
def test_accounts_carry_what_they_need_and_what_others_attached(block: int, pytestconfig: pytest.Config) -> None:
    size = pytestconfig.getoption("--scenarios") // BLOCKS // 2
    for seed in range(block * size, (block + 1) * size):
        Scenario(seed).run()
