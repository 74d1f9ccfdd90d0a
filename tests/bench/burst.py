"""A burst of joins in virtual time: the worker's real decisions, with a simulated queue, mapping and Organizations."""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ConnectionClosedError

from handlers.aws.errors import organizations_errors
from handlers.core.errors import JoinguardError
from handlers.core.guardrails.evaluate import Guardrails, Requirements
from handlers.core.guardrails.places import AttachedPolicy
from handlers.core.joins.attach import AttachDependencies, Enforcer
from handlers.core.joins.ports import Membership, Message, Pace
from handlers.core.timing import Budget
from infra.local.organizations import ATTACH, READ, Organizations, Rules, policies_of
from schemas.outcome import AttachmentResult, OutcomeStatus
from tests.bench.paces import Aimd
from tests.bench.virtual import VirtualTime
from tests.fakes import (
    MANAGEMENT,
    NOON,
    ORGANIZATION,
    FakeArchive,
    FakeDeadLetters,
    FakeLedger,
    FakePauses,
    FakePseudonyms,
    FakeRestoreLimit,
    Steps,
    joined,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from handlers.core.guardrails.facts import Facts
    from schemas.compiled_guardrails import PolicyType

OK = 200
#: Seconds that a call of each other service takes.
RECORD_SECONDS = {"begin": 0.008, "intend": 0.008, "announce": 0.008, "settle": 0.008, "record": 0.03, "send": 0.02}


@dataclass(frozen=True)
class Mapping:
    """The event source mapping and the function, as the template configures them."""

    batch: int = 5
    workers: int = 2
    timeout: float = 60
    visibility: float = 360
    receives: int = 24
    #: Seconds from polling to the handler, and of a cold start.
    invoke_seconds: float = 0.02
    cold_seconds: float = 0.8


@dataclass
class InProcess:
    """The double of Organizations, with the adapter's interface."""

    organizations: Organizations
    pace: Pace

    def attached_policies(self, account_id: str, types: Collection[PolicyType]) -> tuple[AttachedPolicy, ...]:
        [policy_type] = types
        answer = self._call(READ, {"TargetId": account_id})
        return tuple(AttachedPolicy(policy["Id"], policy_type) for policy in answer["Policies"])

    def described(self, facts: Facts) -> Facts:
        raise NotImplementedError("the burst has one rule for every account")

    def tagged(self, facts: Facts) -> Facts:
        raise NotImplementedError("the burst has one rule for every account")

    def membership(self, account_id: str) -> Membership:
        raise NotImplementedError("nobody leaves in the burst")

    def attach(self, policy_id: str, account_id: str) -> AttachmentResult:
        try:
            self._call(ATTACH, {"TargetId": account_id, "PolicyId": policy_id})
        except JoinguardError as error:
            self._report(throttled=error.fault.code == "TooManyRequestsException")
            if error.fault.code == "DuplicatePolicyAttachmentException":
                return AttachmentResult.ALREADY_ATTACHED
            raise
        self._report(throttled=False)
        return AttachmentResult.ATTACHED

    def _report(self, *, throttled: bool) -> None:
        """Report the result of an attachment to a pace that adapts."""
        if isinstance(self.pace, Aimd):
            self.pace.adapt(throttled=throttled)

    def _call(self, operation: str, request: dict[str, str]) -> dict[str, Any]:
        answer = self.organizations.answer(operation, request)
        with organizations_errors():
            if answer.body is None:
                raise ConnectionClosedError(endpoint_url="http://double")
            body = _parsed(answer.body)
            if answer.status != OK:
                error = {"Code": body.get("__type", str(answer.status)), "Message": body.get("Message", "")}
                response = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": answer.status}}
                raise ClientError(response, operation)  # type: ignore[arg-type]
        return body


def _parsed(body: bytes) -> dict[str, Any]:
    """Parse a body as botocore does: without JSON there is no error code."""
    try:
        found: dict[str, Any] = json.loads(body or b"{}")
    except ValueError:
        return {}
    return found


@dataclass
class Queue:
    """A standard queue: at-least-once delivery, no order, a visibility timeout."""

    clock: VirtualTime
    mapping: Mapping
    rng: Random
    #: When the message becomes visible, a random number for the order, the message.
    waiting: list[tuple[float, float, Message]] = field(default_factory=list)
    #: When a message in flight becomes visible again, by message id.
    in_flight: dict[str, float] = field(default_factory=dict)
    most_receives: int = 0
    dead_letters: int = 0

    def put(self, message: Message, at: float) -> None:
        heapq.heappush(self.waiting, (at, self.rng.random(), message))

    def receive(self) -> list[Message]:
        batch: list[Message] = []
        while len(batch) < self.mapping.batch and self.waiting and self.waiting[0][0] <= self.clock.seconds():
            message = heapq.heappop(self.waiting)[2]
            message = replace(message, receives=message.receives + 1)
            self.most_receives = max(self.most_receives, message.receives)
            if message.receives > self.mapping.receives:
                self.dead_letters += 1
                continue
            self.in_flight[message.message_id] = self.clock.seconds() + self.mapping.visibility
            batch.append(message)
        return batch

    def postpone(self, message: Message, seconds: int) -> None:
        self.in_flight[message.message_id] = self.clock.seconds() + seconds

    def make_visible_again(self, message: Message) -> None:
        """Make a failed message visible again after its visibility timeout."""
        self.put(message, self.in_flight[message.message_id])

    def next_at(self) -> float | None:
        return self.waiting[0][0] if self.waiting else None


@dataclass(frozen=True)
class Burst:
    """The results of a burst."""

    seconds: float
    over_limit: float
    throttled: float
    conflicts: float
    receives: int
    dead_letters: int
    failed: int
    #: The number of accounts that lack a policy at the end.
    without_policies: int
    #: Seconds from join to last attachment for each account, in ascending order.
    guardrail: list[float]


class Experiment:
    """Let accounts join within a minute, and measure the time until all carry their policies."""

    def __init__(  # noqa: PLR0913 - the parameters of an experiment
        self,
        joins: int,
        make_pace: Callable[[VirtualTime], Pace],
        *,
        policies: int = 2,
        mapping: Mapping | None = None,
        rules: Rules | None = None,
        within: float = 60,
        seed: int = 1,
    ) -> None:
        self.joins, self.seed = joins, seed
        self.mapping, self.rules = mapping or Mapping(), rules or Rules()
        self.clock, rng = VirtualTime(), Random(seed)  # noqa: S311 - an experiment
        self.policy_ids = tuple(f"p-{number:08d}" for number in range(policies))
        self.organizations = Organizations(self.rules, self.clock, set(self.policy_ids))
        self.queue = Queue(self.clock, self.mapping, rng)
        self.steps = Steps()
        self.steps.on_call = self._take_time
        self.ledger, self.archive = FakeLedger(self.steps), FakeArchive(self.steps)
        self.pace = make_pace(self.clock)
        self.joined_at = {f"{number + 1:012d}": rng.uniform(0, within) for number in range(joins)}
        self.settled = 0
        self.failed = 0

    def run(self) -> Burst:
        """Run the burst until no message is left."""
        self.organizations.join(*self.joined_at)
        for number, (account_id, at) in enumerate(self.joined_at.items()):
            event = joined(account_id, event_id=f"event-{number}")
            event["detail"]["eventTime"] = (NOON + timedelta(seconds=at)).isoformat()
            self.queue.put(Message(json.dumps(event), f"m-{number}", "r", 0, NOON), at)
        self.clock.run(*[partial(self.work, number, self.queue, self.pace) for number in range(self.mapping.workers)])
        return self._burst()

    def _take_time(self, name: str, when: str) -> None:
        if when == "before":
            self.clock.wait(RECORD_SECONDS.get(name, 0))

    def is_done(self) -> bool:
        """Return whether no message is left."""
        return self.settled + self.queue.dead_letters >= self.joins

    def work(self, number: int, queue: Queue, pace: Pace) -> None:
        """Handle the messages of a queue until no message is left; each worker has a number."""
        enforcer, mapping = self._enforcer(number, queue, pace), queue.mapping
        self.clock.wait(mapping.cold_seconds)
        while not self.is_done():
            batch = queue.receive()
            if not batch:
                self.clock.wait(max(0.05, min(1.0, (queue.next_at() or 0) - self.clock.seconds())))
                continue
            self.clock.wait(mapping.invoke_seconds)
            budget = Budget(self.clock, milliseconds=round(mapping.timeout * 1000), records=len(batch))
            failed = [message for message in batch if not self._is_finished(enforcer, message, budget)]
            for message in failed:
                queue.make_visible_again(message)

    def _is_finished(self, enforcer: Enforcer, message: Message, budget: Budget) -> bool:
        status = enforcer.handle(message, budget).status
        self.failed += status is OutcomeStatus.FAILED
        self.settled += status is not OutcomeStatus.RETRYING
        return status is not OutcomeStatus.RETRYING

    def _enforcer(self, number: int, queue: Queue, pace: Pace) -> Enforcer:
        dependencies = AttachDependencies(
            organizations=InProcess(self.organizations, pace),
            ledger=self.ledger,
            archive=self.archive,
            pseudonyms=FakePseudonyms(Steps()),
            pace=pace,
            clock=self.clock,
            outcomes=self.ledger,
            pauses=FakePauses(Steps()),
            restore_limit=FakeRestoreLimit(Steps()),
            rng=Random(self.seed * 100 + number),  # noqa: S311 - jitter
        )
        return Enforcer(
            Requirements(Guardrails.for_everyone(self.policy_ids), ORGANIZATION, MANAGEMENT),
            dependencies,
            queue,
            FakeDeadLetters(self.steps),
            rng=Random(self.seed * 200 + number),  # noqa: S311 - jitter
        )

    def _burst(self) -> Burst:
        history, refused = self.organizations.history, self.organizations.refused
        last_attached = {account_id: at for at, _, account_id in history}
        calls = self.organizations.calls[ATTACH]
        carried = policies_of(self.organizations, self.joined_at)
        return Burst(
            seconds=history[-1][0],
            over_limit=history[-1][0] / (self.joins * len(self.policy_ids) / self.rules.attach_rate),
            throttled=refused[ATTACH, "TooManyRequestsException"] / calls,
            conflicts=refused[ATTACH, "ConcurrentModificationException"] / calls,
            receives=self.queue.most_receives,
            dead_letters=self.queue.dead_letters,
            failed=self.failed,
            without_policies=sum(each != set(self.policy_ids) for each in carried.values()),
            guardrail=sorted(
                last_attached[account] - at for account, at in self.joined_at.items() if account in last_attached
            ),
        )
