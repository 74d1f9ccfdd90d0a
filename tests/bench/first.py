"""Live joins beside a backlog of requests, in virtual time: how long they wait, and how long the backlog takes."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from handlers.core.joins.ports import Message, Pace
from handlers.core.joins.yielding import YIELDS_FOR, YieldingPace
from infra.local.organizations import READ, policies_of
from schemas.events import JoinRequest
from tests.bench.burst import Experiment, Mapping, Queue
from tests.bench.paces import Shared
from tests.fakes import NOON, ORGANIZATION, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds between live joins, between bursts of live joins, and the number of joins of a burst.
STEADY: Final = 3.0
BURST_EVERY: Final = 600.0
BURST_OF: Final = 20


@dataclass(frozen=True)
class Design:
    """How requests are kept from delaying live joins. The product has the defaults."""

    joins: Mapping = field(default_factory=Mapping)
    #: The mapping of the queue of requests; None if there is one queue for both.
    repairs: Mapping | None = field(default_factory=lambda: Mapping(batch=1))
    #: How long the workers of requests let others go first; None if they reserve turns as other workers do.
    patience: timedelta | None = YIELDS_FOR


@dataclass(frozen=True)
class Result:
    """The results of a backlog beside live joins."""

    #: Seconds from a live join to its last attachment, in ascending order.
    live: list[float]
    #: Seconds until the last account of the backlog has its policies.
    backlog: float
    #: The time that the backlog took, over what the rate allows for all attachments until then.
    over_limit: float
    #: The longest time in seconds between two attachments of the backlog.
    longest_pause: float
    throttled_reads: int
    receives: int
    #: The number of messages that became dead letters, failed, or left an account without all policies.
    lost: int


class First(Experiment):
    """Let accounts join while requests for other accounts wait, and measure both."""

    def __init__(  # noqa: PLR0913 - the parameters of an experiment
        self, gaps: int, live: Sequence[float], design: Design, *, policies: int = 2, stale: bool = False, seed: int = 1
    ) -> None:
        """Take the number of requests and the seconds at which accounts join.

        With `stale`, the accounts of the requests lack nothing any more.
        """
        super().__init__(0, Shared, policies=policies, mapping=design.joins, seed=seed)
        self.design, self.shared = design, Shared(self.clock)
        self.gaps = [f"9{number:011d}" for number in range(gaps)]
        self.joined_at = {f"{number + 1:012d}": at for number, at in enumerate(live)}
        self.joins = len(self.gaps) + len(live)
        self.repairs = Queue(self.clock, design.repairs, self.queue.rng) if design.repairs else self.queue
        self.organizations.join(*self.gaps, *self.joined_at)
        for account_id in self.gaps if stale else ():
            self.organizations.attached[account_id] += self.policy_ids

    def is_done(self) -> bool:
        return self.settled + self._dead_letters() >= self.joins

    def measure(self) -> Result:
        """Run until no message is left."""
        for number, account_id in enumerate(self.gaps):
            request = JoinRequest(
                source="joinguard.sweep",
                event_id=f"gap-{number}",
                requested_at=NOON,
                account_id=account_id,
                organization_id=ORGANIZATION,
                reason="the account lacks a policy",
            )
            self.repairs.put(Message(request.model_dump_json(), f"g-{number}", "r", 0, NOON), 0)
        for number, (account_id, at) in enumerate(self.joined_at.items()):
            event, moment = joined(account_id, event_id=f"event-{number}"), NOON + timedelta(seconds=at)
            event["detail"]["eventTime"] = moment.isoformat()
            self.queue.put(Message(json.dumps(event), f"m-{number}", "r", 0, moment), at)
        workers = [partial(self.work, number, self.queue, self.shared) for number in range(self.mapping.workers)]
        if self.design.repairs:
            pace: Pace = self.shared
            if self.design.patience:
                pace = YieldingPace(self.shared, self.clock, self.design.patience)
            numbers = range(len(workers), len(workers) + self.design.repairs.workers)
            workers += [partial(self.work, number, self.repairs, pace) for number in numbers]
        self.clock.run(*workers)
        return self._result()

    def _dead_letters(self) -> int:
        return sum(queue.dead_letters for queue in {id(each): each for each in (self.queue, self.repairs)}.values())

    def _result(self) -> Result:
        history, wanted = self.organizations.history, set(self.policy_ids)
        last_attached = {account_id: at for at, _, account_id in history}
        repaired = [0.0, *(at for at, _, account_id in history if account_id not in self.joined_at)]
        by_then = sum(at <= repaired[-1] for at, *_ in history)
        carried = policies_of(self.organizations, [*self.gaps, *self.joined_at])
        return Result(
            live=sorted(last_attached[account_id] - at for account_id, at in self.joined_at.items()),
            backlog=repaired[-1],
            over_limit=repaired[-1] / (by_then / self.rules.attach_rate) if by_then else 0.0,
            longest_pause=max((later - earlier for earlier, later in itertools.pairwise(repaired)), default=0.0),
            throttled_reads=self.organizations.refused[READ, "TooManyRequestsException"],
            receives=max(self.queue.most_receives, self.repairs.most_receives),
            lost=self._dead_letters() + self.failed + sum(each != wanted for each in carried.values()),
        )


def steady_and_bursts(seconds: float, *, burst_every: float = BURST_EVERY) -> list[float]:
    """Return when accounts join: one every three seconds, and twenty at once from time to time."""
    steady = [number * STEADY for number in range(round(seconds / STEADY))]
    bursts = [(number + 0.5) * burst_every for number in range(round(seconds / burst_every)) for _ in range(BURST_OF)]
    return sorted([*steady, *bursts])
