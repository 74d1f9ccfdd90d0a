"""The sweep on fakes: its state, its queue, the outcomes, and an organization in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from handlers.aws.organizations_in_bulk import OrganizationInBulk
from handlers.core.errors import RetryableError, fault
from handlers.core.guardrails.evaluate import Guardrails, Requirements
from handlers.core.guardrails.scope import Scope
from handlers.core.reconcile.sweep import Step, SweepDependencies, Sweeper, Swept
from schemas.events import DEPARTURE, SWEEP
from schemas.sweep import SweepEvidence, SweepMode, SweepReport, SweepState
from tests.bulk_organization import BulkOrganization
from tests.fakes import MANAGEMENT, ORGANIZATION, POLICIES, FakeArchive, FakeClock, FakePauses, FakePseudonyms, Steps

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from handlers.core.guardrails.facts import Fact
    from handlers.core.guardrails.ports import Journal
    from handlers.core.reconcile.coverage import Rows
    from handlers.core.reconcile.ports import Request
    from schemas.compiled_guardrails import CompiledGuardrails
    from schemas.outcome import Outcome


@dataclass
class FakeSweepStore:
    """The state and the pieces; each invocation that takes hold gets a number."""

    steps: Steps
    state: str | None = None
    held_until: datetime | None = None
    holds: int = 0
    pieces: dict[tuple[str, str, int], bytes] = field(default_factory=dict)

    def known(self) -> SweepState | None:
        return SweepState.model_validate_json(self.state) if self.state else None


class _Invocation:
    """One invocation's view of a store."""

    def __init__(self, store: FakeSweepStore) -> None:
        self._store = store
        self._mine = 0

    def acquire(self, now: datetime, until: datetime) -> SweepState | None:
        def acquire() -> SweepState | None:
            store = self._store
            if store.held_until and store.held_until >= now:
                return None
            store.held_until, store.holds = until, store.holds + 1
            self._mine = store.holds
            return store.known() or SweepState(since=now)

        return self._store.steps.take("acquire", acquire)

    def save(self, state: SweepState) -> None:
        def save() -> None:
            if self._store.holds != self._mine:
                raise RetryableError(fault("SWEEP_LEASE", "another invocation has taken hold"))
            self._store.state = state.model_dump_json(exclude_none=True)

        self._store.steps.take("save", save)

    def release(self) -> None:
        def release() -> None:
            if self._store.holds == self._mine:
                self._store.held_until = None

        self._store.steps.take("release", release)

    def put(self, sweep_id: str, kind: str, number: int, piece: bytes) -> None:
        self._store.steps.take("put", lambda: self._store.pieces.__setitem__((sweep_id, kind, number), piece))

    def get(self, sweep_id: str, kind: str, count: int) -> Sequence[bytes] | None:
        def get() -> Sequence[bytes] | None:
            found = [self._store.pieces.get((sweep_id, kind, number)) for number in range(count)]
            return None if None in found else [each for each in found if each is not None]

        return self._store.steps.take("get", get)

    def delete(self, sweep_id: str, kind: str, count: int) -> None:
        def delete() -> None:
            for number in range(count):
                self._store.pieces.pop((sweep_id, kind, number), None)

        self._store.steps.take("delete", delete)


@dataclass
class FakeRepairs:
    """The queue of the requests: all that were sent, and those that no worker has handled."""

    steps: Steps
    sent: list[Request] = field(default_factory=list)
    waiting: list[Request] = field(default_factory=list)

    def send(self, requests: Sequence[Request]) -> None:
        def send() -> None:
            self.sent += requests
            self.waiting += requests

        self.steps.take("send", send)

    def is_empty(self) -> bool:
        return self.steps.take("is_empty", lambda: not self.waiting)


@dataclass
class FakeOutcomes:
    """The outcomes by account."""

    steps: Steps
    rows: dict[str, list[Outcome]] = field(default_factory=dict)

    def of_accounts(self, account_ids: Sequence[str]) -> Iterable[tuple[str, Rows]]:
        for each in account_ids:
            yield each, self.steps.take("of_account", lambda each=each: tuple(self.rows.get(each, ())))  # type: ignore[misc]


class SweepWorld:
    """A sweep and what it works with; a new invocation is a new process with the same state."""

    def __init__(
        self,
        *,
        guardrails: CompiledGuardrails | None = None,
        mode: str = "enforce",
        attach_to: str = "all",
        removes: bool = False,
    ) -> None:
        self.steps = Steps()
        self.clock = FakeClock()
        self.organization = BulkOrganization(on_call=self._on_call)
        self.store = FakeSweepStore(self.steps)
        self.repairs = FakeRepairs(self.steps)
        self.outcomes = FakeOutcomes(self.steps)
        self.pauses = FakePauses(self.steps)
        self.archive = FakeArchive(self.steps)
        self.pseudonyms = FakePseudonyms(self.steps)
        self.guardrails = Guardrails(guardrails) if guardrails else Guardrails.for_everyone(POLICIES)
        self.mode, self.scope, self.removes = SweepMode(mode), Scope.parse(attach_to), removes
        for each in self.guardrails.policy_ids:
            self.organization.attach(each)
        self.result: Swept | None = None

    def _on_call(self, name: str, when: str) -> None:
        # A test may set the steps' own function later.
        self.steps.on_call(name, when)

    def invoke(self, *, seconds: float = 880, at_once: bool = False) -> Swept:
        """Run one invocation with this many seconds for calls."""
        deadline = self.clock.now() + timedelta(seconds=seconds)
        self.result = self._sweeper().run(deadline, at_once=at_once)
        return self.result

    def sweep(self, *, seconds: float = 880) -> SweepReport:
        """Run invocations until a sweep is complete, five minutes after the one before it."""
        for _ in range(1000):
            swept = self.invoke(seconds=seconds, at_once=True)
            if swept.step is Step.COMPLETE:
                assert swept.last
                return swept.last
            self.clock.advance(300)
        raise AssertionError(f"no sweep was completed: {self.result}")

    def requested(self) -> list[str]:
        """Return the accounts of all requests to evaluate one, in the order in which they were sent."""
        return [each.account_id for each in self.repairs.sent if each.source == SWEEP]

    def told_of(self) -> list[str]:
        """Return the accounts of which the worker was told that they left."""
        return [each.account_id for each in self.repairs.sent if each.source == DEPARTURE]

    def evidence(self) -> list[SweepEvidence]:
        return [
            SweepEvidence.model_validate_json(body)
            for key, body in self.archive.bodies.items()
            if key.startswith("sweeps/")
        ]

    def account_ids(self, number: int) -> list[str]:
        return [f"{200000000000 + each}" for each in range(number)]

    def _sweeper(self) -> Sweeper:
        client: Any = self.organization

        def open_reader(journal: Journal, until: datetime, facts: Collection[Fact]) -> OrganizationInBulk:
            rng = Random(1)  # noqa: S311 - jitter
            return OrganizationInBulk(client, client, self.clock, rng, journal=journal, until=until, facts=facts)

        return Sweeper(
            Requirements(self.guardrails, ORGANIZATION, MANAGEMENT, self.scope, self.removes),
            self.mode,
            timedelta(minutes=30),
            SweepDependencies(
                store=_Invocation(self.store),
                open_reader=open_reader,
                outcomes=self.outcomes,
                repairs=self.repairs,
                pauses=self.pauses,
                archive=self.archive,
                pseudonyms=self.pseudonyms,
                clock=self.clock,
            ),
        )


def texts(world: SweepWorld) -> str:
    """Return everything that the sweep wrote outside of its own state and its queue."""
    return json.dumps({key: body.decode() for key, body in world.archive.bodies.items()})
