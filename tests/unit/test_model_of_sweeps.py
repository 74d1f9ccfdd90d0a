"""A model of events, both workers and the sweep: 400 random histories, in CI 2,000 (a fifth of --scenarios).

Accounts join, leave, come back, and get other tags; others attach and detach policies, one of them always again;
exceptions begin and end. Events of all that are lost, late or repeated. Calls fail before and after their effect, and
processes are killed at any call. Sweeps run in between.

At any time, nothing that others attached is removed, and what somebody detaches again and again is put back a limited
number of times. In the end, after two sweeps and with empty queues, each member carries what the guardrails require, or
a dead letter and the sweep's report say what it lacks; each carries nothing that is to be removed; and nothing is left
open for an account that has left, if a sweep saw that it was a member.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

from handlers.core.errors import RetryableError, fault
from handlers.core.guardrails.pauses import KnownPauses
from handlers.core.guardrails.ports import Identity, ReadAccount, ReadOu, ReadPolicy, ReadRoot
from handlers.core.joins.ports import Message
from handlers.core.reconcile.sweep import Step, SweepDependencies, Sweeper
from handlers.core.timing import Budget
from infra.local.events import account_removed, handshake_accepted, policy_detached, resource_tagged
from schemas.compiled_guardrails import SCP, CompiledException
from schemas.outcome import FAILING, Outcome, OutcomeStatus
from schemas.sweep import SweepMode
from tests.bulk_organization import ROOT_OU
from tests.fakes import ACCOUNT, MANAGEMENT, NOON, ORGANIZATION, FakeArchive, FakePauses, FakePseudonyms, Killed, Steps
from tests.removals import BASE, EDGE, KEPT, REGIONS, TwoWorkers, document
from tests.sweeping import FakeRepairs, FakeSweepStore, _Invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from handlers.core.reconcile.coverage import Rows
    from schemas.compiled_guardrails import PolicyType
    from schemas.sweep import SweepReport

T = TypeVar("T")

BLOCKS: Final = 20
ACCOUNTS: Final = (ACCOUNT, "333333333333", "444444444444", "555555555555")
POLICIES: Final = (BASE, REGIONS, EDGE, KEPT)
#: The account and the policy that somebody always detaches again, in some histories.
FOUGHT: Final = (ACCOUNT, BASE)
#: The template's default.
MAX_RESTORES: Final = 3
#: Seconds: longer than a lease and than the sweep waits for events and for lost messages.
LATER: Final = 4000
ROUNDS: Final = 200
EXCEPTION: Final = CompiledException(
    id="EXC-1", accounts=ACCOUNTS[:2], policies=(KEPT, EDGE), expires=(NOON + timedelta(days=400)).date()
)
_CHANGES: Final = frozenset({"attach", "detach"})


class Faulty(Steps):
    """Calls that fail at random before or after their effect, and end their process."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self._rng = rng
        #: How many calls of a thousand go wrong.
        self.rate = 0

    def take(self, name: str, effect: Callable[[], T]) -> T:
        roll = self._rng.randrange(1000)
        if roll >= self.rate:
            return effect()
        match roll % 4:
            case 0:
                raise Killed
            case 1:
                raise RetryableError(fault("Cut", "no connection"), soon=True)
            case 2:
                effect()
                raise Killed
        effect()
        raise RetryableError(fault("Cut", "no answer"), soon=True, ambiguous=name in _CHANGES)


@dataclass
class Reader:
    """The organization that the workers change, as the sweep reads it."""

    world: TwoWorkers

    def identity(self) -> Identity:
        return self._take("DescribeOrganization", lambda: Identity(ORGANIZATION, MANAGEMENT))

    def root(self) -> ReadRoot:
        return self._take("ListRoots", lambda: ReadRoot(ROOT_OU, frozenset({SCP})))

    def ous(self, root: str) -> Iterable[ReadOu]:  # noqa: ARG002 - as in the port
        return ()

    def policies(self, policy_type: PolicyType) -> Iterable[ReadPolicy]:
        return self._take("ListPolicies", lambda: [ReadPolicy(each, each, policy_type) for each in POLICIES])

    def content(self, policy_id: str) -> str:
        raise NotImplementedError("the guardrails pin no policy")

    def targets(self, policy_id: str) -> Iterable[str]:
        attached = self.world.organizations.attached
        return self._take("ListTargets", lambda: [each for each in attached if policy_id in attached[each]])

    def accounts(self) -> Iterator[ReadAccount]:
        organizations = self.world.organizations
        for each in list(organizations.attached):
            joined = organizations.joined_at.get(each, NOON - timedelta(days=1))
            yield self._take(
                "ListAccounts",
                lambda each=each, joined=joined: ReadAccount(each, None, None, "ACTIVE", "CREATED", (ROOT_OU,), joined),  # type: ignore[misc]
            )

    def accounts_in(self, parent: str) -> Iterable[str]:
        raise NotImplementedError("accounts have their paths")

    def tagged(self) -> Iterable[tuple[str, Mapping[str, str]]]:
        facts = self.world.organizations.facts
        return self._take("GetResources", lambda: [(each, known.tags) for each, known in facts.items()])  # type: ignore[misc]

    def tags_of(self, account_id: str) -> Mapping[str, str]:
        raise NotImplementedError("tags are read in bulk")

    def attached(self, account_id: str, policy_type: PolicyType) -> Iterable[str]:
        raise NotImplementedError("the sweep reads by policy")

    def _take(self, name: str, effect: Callable[[], T]) -> T:
        return self.world.steps.take(name, effect)


@dataclass
class SweepOutcomes:
    """The outcomes, as the sweep reads them."""

    world: TwoWorkers

    def of_accounts(self, account_ids: Sequence[str]) -> Iterable[tuple[str, Rows]]:
        for each in account_ids:
            yield each, self.world.steps.take("rows", lambda each=each: self._of(each))  # type: ignore[misc]

    def _of(self, account_id: str) -> Rows:
        rows = self.world.ledger.rows
        return tuple(Outcome.model_validate(row) for key, row in rows.items() if key[0] == account_id)


@dataclass
class Scenario:
    """One random history."""

    seed: int
    log: list[str] = field(default_factory=list)
    #: The messages in the queues: the queue, the body, when it was sent, how often it was received.
    waiting: list[tuple[str, str, Any, int]] = field(default_factory=list)
    owner: dict[tuple[str, str], str] = field(default_factory=dict)
    #: What nobody can tell who attached: others did while an attempt of ours was open, or after ours was detached.
    unclear: set[tuple[str, str]] = field(default_factory=set)
    claimed: set[tuple[str, str]] = field(default_factory=set)
    seen: dict[str, int] = field(default_factory=dict)
    events: int = 0
    #: The memberships that a complete sweep has seen.
    swept: set[tuple[str, Any]] = field(default_factory=set)
    #: How often we put back what somebody always detaches.
    fought: int = 0
    fought_at: Any = None
    #: How often an attempt put it back and ended before it recorded that.
    unknown: int = 0
    #: The id of the event that is handled.
    handled_id: str = ""
    #: Whether the message that is handled puts back what was detached.
    restores: bool = False

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)  # noqa: S311 - a history, not a secret
        self.steps = Faulty(self.rng)
        self.world = TwoWorkers(steps=self.steps, seed=self.seed)
        self.fights = self.rng.random() < 0.4
        self.world.organizations.attached.clear()
        self.world.organizations.facts.clear()
        self.world.organizations.attached[MANAGEMENT] = []
        for each in ACCOUNTS[:3]:
            # Members from before there was any event.
            self.world.organizations.attached[each] = ["p-FullAWSAccess"]
            self.world.tag(each, environment=self.rng.choice(["prod", "test"]))
        self.store = FakeSweepStore(self.steps)
        self.repairs = FakeRepairs(self.steps)
        self.archive = FakeArchive(self.steps)

    def run(self) -> None:
        self.steps.rate = self.rng.choice([0, 5, 30])
        for _ in range(self.rng.randint(10, 60)):
            self.random_step()
        self.steps.rate = 0
        # Somebody who fights needs as many rounds as there are restores.
        for _ in range(2 + (MAX_RESTORES + 1 if self.fights else 0)):
            self.pass_time(LATER)
            self.drain()
            self.pass_time(LATER)
            report = self.complete_sweep()
            self.drain()
        self.pass_time(LATER)
        last = self.complete_sweep()
        self.assert_settled(report, last)

    # What happens

    def random_step(self) -> None:
        account_id = self.rng.choice(ACCOUNTS)
        steps: list[tuple[int, Callable[[], None]]] = [
            (30, self.deliver),
            (10, self.attempt_sweep),
            (8, lambda: self.join_or_leave(account_id)),
            (8, lambda: self.tag(account_id)),
            (10, lambda: self.others_change(account_id)),
            (3, self.deploy),
            (10, self.pass_time),
        ]
        self.rng.choices([each for _, each in steps], [weight for weight, _ in steps])[0]()

    def pass_time(self, seconds: int | None = None) -> None:
        self.world.clock.advance(seconds or self.rng.choice([1, 60, 600, LATER, 86_400, 3 * 86_400]))

    def happens(self, event: dict[str, Any]) -> None:
        """Let AWS tell of an event, which can be lost, late or repeated."""
        self.events += 1
        detail = event["detail"] | {
            "eventID": f"event-{self.events}",
            "eventTime": self.world.clock.now().isoformat(),
        }
        body = json.dumps(event | {"detail": detail})
        for _ in range(self.rng.choice([0, 0, 1, 1, 1, 2])):
            self.waiting.append(("joins", body, self.world.clock.now(), 0))

    def join_or_leave(self, account_id: str) -> None:
        organizations = self.world.organizations
        if account_id in organizations.attached:
            self.log.append(f"{account_id} leaves")
            del organizations.attached[account_id]
            organizations.facts.pop(account_id, None)
            self.owner = {key: who for key, who in self.owner.items() if key[0] != account_id}
            self.claimed = {key for key in self.claimed if key[0] != account_id}
            self.world.clock.advance(1)
            self.happens(account_removed(account_id, MANAGEMENT))
            return
        self.log.append(f"{account_id} joins")
        self.world.clock.advance(1)
        organizations.attached[account_id] = ["p-FullAWSAccess"]
        organizations.joined_at[account_id] = self.world.clock.now()
        self.world.tag(account_id, environment=self.rng.choice(["prod", "test"]))
        self.fought = 0 if account_id == FOUGHT[0] else self.fought
        self.world.clock.advance(1)
        self.happens(handshake_accepted(account_id, ORGANIZATION, MANAGEMENT))

    def tag(self, account_id: str) -> None:
        if account_id not in self.world.organizations.attached:
            return
        environment = self.rng.choice(["prod", "test"])
        self.log.append(f"{account_id} is {environment}")
        self.world.tag(account_id, environment=environment)
        self.happens(resource_tagged(account_id, MANAGEMENT, tags=[{"key": "environment", "value": environment}]))

    def others_change(self, account_id: str) -> None:
        attached = self.world.organizations.attached.get(account_id)
        policy = self.rng.choice(POLICIES)
        if attached is None:
            return
        if policy in attached:
            self.others_detach(account_id, policy)
            return
        self.log.append(f"others attach {policy} to {account_id}")
        attached.append(policy)
        self.owner[account_id, policy] = "others"
        if self.is_open(account_id, policy) or (account_id, policy) in self.claimed:
            self.unclear.add((account_id, policy))

    def others_detach(self, account_id: str, policy: str) -> None:
        self.log.append(f"others detach {policy} from {account_id}")
        self.world.organizations.attached[account_id].remove(policy)
        self.owner.pop((account_id, policy), None)
        self.happens(policy_detached(account_id, MANAGEMENT, policy))

    def is_open(self, account_id: str, policy: str) -> bool:
        rows = [row for key, row in self.world.ledger.rows.items() if key[0] == account_id]
        return any(
            policy in row.get("unclear", ()) or any(policy in intended for intended in row["intents"].values())
            for row in rows
        )

    def deploy(self) -> None:
        exceptions = (EXCEPTION,) if self.rng.random() < 0.5 else ()
        self.log.append(f"deploy with {len(exceptions)} exceptions")
        self.world.use(document(*exceptions, removals=1000))

    # The workers

    def deliver(self) -> None:
        if not self.waiting:
            return
        chosen = self.rng.choice(self.waiting)
        self.waiting.remove(chosen)
        queue, body, sent_at, receives = chosen
        self.restores = '"AcceptHandshake"' not in body
        event = json.loads(body)
        self.handled_id = event.get("event_id") or event["detail"]["eventID"]
        worker = self.world.enforcer if queue == "joins" else self.world.remover
        budget = Budget(self.world.clock, milliseconds=60_000, records=1)
        try:
            handled = worker.handle(Message(body, "m", "r", receives + 1, sent_at), budget)
        except Killed:
            handled = None
            # Until the lease is over, nobody else handles the event.
            self.world.clock.advance(100)
        self.log.append(f"{queue} {body[:70]}: {handled and (handled.status.value, handled.fault)}")
        if handled is None or handled.status is OutcomeStatus.RETRYING:
            self.waiting.append((queue, body, sent_at, receives + 1))
            made = self.world.organizations.changes[self.seen.get("changes", 0) :]
            self.unknown += sum((account_id, policy) == FOUGHT for account_id, policy, _ in made)
        self.note_changes()
        self.note_requests()

    def note_changes(self) -> None:
        """Note who attached what, let somebody fight; fail if something was removed that others attached."""
        organizations = self.world.organizations
        for account_id, policy, _ in organizations.changes[self.seen.get("changes", 0) :]:
            self.log.append(f"we attach {policy} to {account_id}")
            self.owner[account_id, policy] = "us"
            self.claimed.add((account_id, policy))
            if self.began_before(account_id):
                self.unclear.add((account_id, policy))
            if self.fights and (account_id, policy) == FOUGHT:
                # If nobody noticed the loss for a week, the policy counts as having stayed.
                now = self.world.clock.now()
                if self.fought_at and now - self.fought_at >= timedelta(days=7):
                    self.fought = self.unknown = 0
                self.fought_at = now
                # A join begins anew. A claim of an event from before it can be dated before it.
                self.fought += self.restores
                self.unknown += self.began_before(account_id, self.handled_id)
                # The first attachment is none of the restores, even if the sweep made it. Nor does it count what an
                # attempt attached that did not end: when the next one looks, it is detached already.
                if self.fought - self.unknown > MAX_RESTORES + 1:
                    self.fail(f"{policy} was put back {self.fought} times, and detached each time")
                self.others_detach(account_id, policy)
        for account_id, policy, _ in organizations.removals[self.seen.get("removed", 0) :]:
            self.log.append(f"we remove {policy} from {account_id}")
            self.claimed.discard((account_id, policy))
            if self.owner.pop((account_id, policy), None) != "us" and (account_id, policy) not in self.unclear:
                self.fail(f"{policy} was removed from {account_id}, and others attached it")
        self.seen |= {"changes": len(organizations.changes), "removed": len(organizations.removals)}

    def began_before(self, account_id: str, event_id: str = "") -> bool:
        """Return whether an event of the account, or this one, was first received before the account joined."""
        joined = self.world.organizations.joined_at.get(account_id, NOON - timedelta(days=1))
        rows = self.world.ledger.rows.items()
        return any(
            row["received_at"] < joined for key, row in rows if key[0] == account_id and event_id in {"", key[1]}
        )

    def note_requests(self) -> None:
        for queue, requests in (("removals", self.world.removals), ("joins", self.world.evaluations)):
            for body in requests.bodies[self.seen.get(queue, 0) :]:
                self.waiting.append((queue, body, self.world.clock.now(), 0))
            self.seen[queue] = len(requests.bodies)
        for request in self.repairs.sent[self.seen.get("repairs", 0) :]:
            self.waiting.append(("joins", request.model_dump_json(), self.world.clock.now(), 0))
        self.seen["repairs"] = len(self.repairs.sent)
        queued = {body for _, body, _, _ in self.waiting}
        self.repairs.waiting = [each for each in self.repairs.waiting if each.model_dump_json() in queued]

    def drain(self) -> None:
        """Handle every message."""
        for _ in range(ROUNDS):
            if not self.waiting:
                return
            self.pass_time(60)
            self.deliver()
            self.note_requests()
        self.fail("the messages multiply")

    # The sweep

    def attempt_sweep(self) -> None:
        self.sweep()

    def sweep(self) -> Step | None:
        # No two sweeps begin at the same moment.
        self.pass_time(1)
        guardrails = self.world.enforcer.requirements
        pauses = FakePauses(self.steps, KnownPauses())
        sweeper = Sweeper(
            replace(guardrails, removes=True),
            SweepMode.ENFORCE,
            timedelta(minutes=30),
            SweepDependencies(
                store=_Invocation(self.store),
                open_reader=lambda _journal, _until, _facts: Reader(self.world),
                outcomes=SweepOutcomes(self.world),
                repairs=self.repairs,
                pauses=pauses,
                archive=self.archive,
                pseudonyms=FakePseudonyms(Steps()),
                clock=self.world.clock,
            ),
        )
        before = self.store.known()
        # What is decided already was read before.
        is_old = bool(before and before.current and before.current.decision)
        try:
            step = sweeper.run(self.world.clock.now() + timedelta(minutes=14), at_once=True).step
        except (Killed, RetryableError):
            step = None
        self.log.append(f"the sweep: {step}")
        if step is Step.COMPLETE and not is_old:
            self.swept |= self.memberships()
        self.note_requests()
        return step

    def memberships(self) -> set[tuple[str, Any]]:
        """Return the present members, and since when they are."""
        organizations = self.world.organizations
        return {(each, organizations.joined_at.get(each)) for each in organizations.attached}

    def complete_sweep(self) -> SweepReport:
        for _ in range(5):
            if self.sweep() is Step.COMPLETE:
                state = self.store.known()
                assert state
                assert state.last
                return state.last
            self.pass_time(LATER)
        raise AssertionError(f"seed {self.seed}: a sweep without faults is not complete")

    # The end

    def assert_settled(self, report: SweepReport, last: SweepReport) -> None:
        members = set(ACCOUNTS) & self.world.organizations.attached.keys()
        lacking = [each for each in sorted(members) if self.assert_member_settled(each)]
        if last.with_gaps != len(lacking):
            self.fail(f"{lacking} lack something, and the sweep says {last.with_gaps}")
        if last.requested:
            self.fail(f"the sweep requests {last.requested} again, after {report.requested}")
        joined_at = self.world.organizations.joined_at
        for (account_id, event_id), row in self.world.ledger.rows.items():
            if row["status"] is OutcomeStatus.RETRYING:
                self.fail(f"{event_id} of {account_id} is RETRYING, and nothing handles it")
            has_left = account_id not in members and (account_id, joined_at.get(account_id)) in self.swept
            if has_left and row["status"] in FAILING:
                self.fail(f"{event_id} of {account_id}, which has left, is {row['status']}")

    def assert_member_settled(self, account_id: str) -> bool:
        """Return whether an account lacks a policy, which has to be known."""
        organizations = self.world.organizations
        decision = self.world.remover.requirements.guardrails.evaluate(
            organizations.facts[account_id], self.world.clock.now()
        )
        carried = set(organizations.attached[account_id])
        missing = set(decision.required) - carried
        if {(account_id, each) for each in missing} - ({FOUGHT} if self.fights else set()):
            self.fail(f"{account_id} lacks {missing}")
        letters = self.world.dead_letters.dead_letters
        if missing and not any(account_id in each.body and why.code == "RESTORES_STOPPED" for each, why in letters):
            self.fail(f"{account_id} lacks {missing}, and no dead letter says why")
        for policy in decision.removable(carried):
            if self.owner.get((account_id, policy)) == "us" and (account_id, policy) not in self.unclear:
                self.fail(f"{account_id} still carries {policy}, which we attached")
        return bool(missing)

    def fail(self, reason: str) -> Any:
        rows: list[Any] = [
            (key, row.get("claims"), row["status"], row.get("fault")) for key, row in self.world.ledger.rows.items()
        ]
        pytest.fail("\n".join([f"seed {self.seed}: {reason}", *self.log, *map(str, rows)]))


@pytest.mark.parametrize("block", range(BLOCKS))
def test_after_two_sweeps_every_member_carries_what_it_needs_or_it_is_known_why_not(
    block: int, pytestconfig: pytest.Config
) -> None:
    size = pytestconfig.getoption("--scenarios") // BLOCKS // 5
    for seed in range(block * size, (block + 1) * size):
        Scenario(seed).run()
