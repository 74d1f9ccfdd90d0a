"""The sweep: it reads the whole organization, and requests what no event told of.

It takes hold of its state, so that only one invocation works at a time, and does one of these, whichever comes next:

    read      pages of listings go into a journal; without time left, the next invocation goes on from there
    decide    everything is read: which accounts lack what, and for which of them an evaluation is requested
    record    the decision is stored, then its evidence is written
    request   ten messages at a time; after each ten, the state says how many were sent
    complete  the report replaces that of the sweep before

After a crash, the next invocation repeats at most the step that was running. A request has the same event id then, so
that the worker takes a second one for a redelivery.

The sweep decides about a whole snapshot or not at all. What is read takes minutes, and what changes meanwhile is for
the next sweep: a request only makes the worker look again, and the worker reads the account before it changes anything.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from hashlib import sha256
from typing import Any, Final

from handlers.core.errors import JoinguardError, OutOfTimeError, PermanentError, fault
from handlers.core.evidence.ports import EvidenceWriter
from handlers.core.evidence.references import request_id
from handlers.core.guardrails.evaluate import Requirements
from handlers.core.guardrails.facts import Fact
from handlers.core.guardrails.ports import Pauses
from handlers.core.guardrails.snapshot import Wanted, facts_of, take_snapshot, with_tags
from handlers.core.ports import Clock, Pseudonyms
from handlers.core.reconcile.deciding import Decided, Deciding, departure_id, event_id
from handlers.core.reconcile.journal import SweepJournal
from handlers.core.reconcile.ports import OpenReader, OutcomesOfAccounts, Repairs, Request, SweepStore
from schemas.events import SWEEP, DepartureRequest, JoinRequest
from schemas.ids import AccountId
from schemas.keys import key_beside, sweep_key
from schemas.outcome import Fault
from schemas.snapshot import Snapshot, SnapshotAccount
from schemas.sweep import (
    SweepInProgress,
    SweepMode,
    SweepReport,
    SweepState,
)

#: A sweep that is not complete after this time begins anew: what it read first is too old.
TOO_OLD: Final = timedelta(hours=24)
#: The schedule's ticks come a little early or late.
_TOLERANCE: Final = timedelta(minutes=1)
#: How long after the last call an invocation certainly has ended.
_LEASE_MARGIN: Final = timedelta(seconds=90)
#: What a decision about 50,000 members takes at most.
_DECIDING: Final = timedelta(minutes=3)
#: SQS accepts ten messages in a call.
_BATCH: Final = 10
#: The kinds of pieces. Whoever changes what the pieces of a kind hold changes its name, too: older ones count as gone.
_JOURNAL: Final = "read"
_DECISION: Final = "decided"


class Step(StrEnum):
    """What an invocation came to."""

    #: No sweep is due.
    IDLE = "idle"
    #: Another invocation is at work.
    RUNNING = "running"
    #: The next invocation goes on.
    UNFINISHED = "unfinished"
    COMPLETE = "complete"


@dataclass(frozen=True)
class Swept:
    """The result of an invocation."""

    step: Step
    #: The last complete sweep.
    last: SweepReport | None = None
    #: When the sweep ran for the first time.
    since: datetime | None = None
    #: How long the last sweep took, or the first one takes so far: a large organization takes longer than an interval.
    takes: timedelta = timedelta()
    #: Why it did not get further.
    fault: Fault | None = None
    #: The evidence key that held another object.
    conflict: str | None = None


@dataclass(frozen=True)
class SweepDependencies:
    """What a sweep depends on."""

    store: SweepStore
    open_reader: OpenReader
    outcomes: OutcomesOfAccounts
    repairs: Repairs
    pauses: Pauses
    archive: EvidenceWriter
    pseudonyms: Pseudonyms
    clock: Clock


@dataclass(frozen=True)
class Sweeper:
    """Sweep the organization when that is due, and go on with a sweep that is not complete."""

    requirements: Requirements
    mode: SweepMode
    every: timedelta
    dependencies: SweepDependencies
    #: Whether these are the credentials of the management account: to others, AWS answers with the tags of none.
    reads_tags_in_bulk: bool = True

    def run(self, deadline: datetime, *, at_once: bool = False) -> Swept:
        """Do what is next until a deadline; with `at_once`, begin a sweep that is not due yet.

        Raises RetryableError if the state cannot be read or written.
        """
        store, now = self.dependencies.store, self.dependencies.clock.now()
        state = store.acquire(now, deadline + _LEASE_MARGIN)
        if state is None:
            return Swept(Step.RUNNING)
        try:
            return _Run(self, state, deadline).run(now, at_once=at_once)
        finally:
            store.release()


@dataclass
class _Run:
    """One invocation that has taken hold of the state."""

    sweeper: Sweeper
    state: SweepState
    deadline: datetime
    conflict: str | None = field(default=None, init=False)

    def run(self, now: datetime, *, at_once: bool) -> Swept:
        """Begin or go on, as far as the time allows."""
        current = self._current(now, at_once=at_once)
        if current is None:
            return self._swept(Step.IDLE)
        try:
            if not current.decision:
                current = self._read_and_decide(current)
            self._carry_out(current)
        except JoinguardError as error:
            ended = isinstance(error, OutOfTimeError)
            return self._swept(Step.UNFINISHED, None if ended else error.fault)
        return self._swept(Step.COMPLETE)

    def _swept(self, step: Step, why: Fault | None = None) -> Swept:
        last, current = self.state.last, self.state.current
        takes = timedelta()
        if last:
            takes = last.decided_at - last.begun_at
        elif current:
            takes = self.dependencies.clock.now() - current.begun_at
        return Swept(step, last, self.state.since, takes, why, self.conflict)

    def _save(self, **changes: Any) -> None:
        self.state = self.state.model_copy(update=changes)
        self.dependencies.store.save(self.state)

    @property
    def dependencies(self) -> SweepDependencies:
        return self.sweeper.dependencies

    def _current(self, now: datetime, *, at_once: bool) -> SweepInProgress | None:
        """Return the sweep to go on with, or a new one if one is due."""
        guardrails, mode = self.sweeper.requirements.guardrails.sha256, self.sweeper.mode
        current, last = self.state.current, self.state.last
        if current and (current.guardrails, current.mode) == (guardrails, mode) and now - current.begun_at < TOO_OLD:
            return current
        is_due = last is None or now - last.begun_at >= self.sweeper.every - _TOLERANCE
        # What an abandoned sweep was to repair still has to be found.
        if not (current or is_due or at_once):
            return None
        if current:
            self._forget(current)
        sweep_id = request_id(self.dependencies.pseudonyms, "sweep", now.isoformat())
        begun = SweepInProgress(sweep_id=sweep_id, begun_at=now, mode=mode, guardrails=guardrails)
        self._save(current=begun)
        return begun

    def _forget(self, sweep: SweepInProgress) -> None:
        store = self.dependencies.store
        store.delete(sweep.sweep_id, _JOURNAL, sweep.parts)
        store.delete(sweep.sweep_id, _DECISION, sweep.decision)

    # Read, and decide.

    def _read_and_decide(self, current: SweepInProgress) -> SweepInProgress:
        snapshot = self._snapshot(current)
        current = self.state.current or current
        now = self.dependencies.clock.now()
        deciding = Deciding(
            self.sweeper.requirements,
            self.dependencies,
            current,
            snapshot,
            last=self.state.last,
            remembered=self._remembered(),
            now=now,
        )
        decided, report = deciding.decide()
        pieces = decided.pieces()
        for number, piece in enumerate(pieces):
            self.dependencies.store.put(current.sweep_id, _DECISION, number, piece)
        current = current.model_copy(update={"decision": len(pieces), "report": report})
        self._save(current=current)
        return current

    def _snapshot(self, current: SweepInProgress) -> Snapshot:
        """Read the organization; raise OutOfTimeError if the next invocation has to go on."""
        store, clock = self.dependencies.store, self.dependencies.clock

        def keep(part: bytes) -> None:
            nonlocal current
            store.put(current.sweep_id, _JOURNAL, current.parts, part)
            current = current.model_copy(update={"parts": current.parts + 1})
            self._save(current=current)

        journal = self._journal(current, keep)
        if journal is None:
            # What was read is gone or unreadable, so it is read again.
            current = current.model_copy(update={"parts": 0})
            journal = SweepJournal((), keep)
        try:
            snapshot = self._read(journal)
            if clock.now() > self.deadline - _DECIDING:
                raise OutOfTimeError(fault("OUT_OF_TIME", "the time left is too short for the decision"))
        except JoinguardError:
            journal.flush()
            raise
        self.state = self.state.model_copy(update={"current": current})
        return snapshot

    def _journal(self, current: SweepInProgress, keep: Callable[[bytes], None]) -> SweepJournal | None:
        """Return what earlier invocations read; None if it is gone or unreadable."""
        parts = self.dependencies.store.get(current.sweep_id, _JOURNAL, current.parts)
        try:
            return None if parts is None else SweepJournal(parts, keep)
        except ValueError:
            return None

    def _read(self, journal: SweepJournal) -> Snapshot:
        requirements, clock = self.sweeper.requirements, self.dependencies.clock
        guardrails = requirements.guardrails
        reader = self.dependencies.open_reader(journal, self.deadline, guardrails.facts_needed)
        are_pinned = any(each.sha256 for each in guardrails.document.policies)
        # A pause of an OU needs no more than the paths that AWS lists; without them, the accounts count as paused.
        needs_ous = Fact.OUS in guardrails.facts_needed
        wanted = Wanted(guardrails.policy_types, guardrails.policy_ids, ous=needs_ous, content=are_pinned)
        snapshot = take_snapshot(reader, wanted, clock, _silent)
        found = (snapshot.organization_id, snapshot.management_account_id)
        if found != (requirements.organization_id, requirements.management_account_id):
            why = "these credentials are for another organization than the stack's; deploy it in its own organization"
            raise PermanentError(fault("WRONG_ORGANIZATION", why))
        if Fact.TAGS not in guardrails.facts_needed:
            return snapshot
        now = clock.now()

        def needs_tags(account: SnapshotAccount) -> bool:
            return Fact.TAGS in guardrails.evaluate(facts_of(account), now).needs

        return with_tags(snapshot, reader, needs_tags, _silent, in_bulk=self.sweeper.reads_tags_in_bulk)

    def _remembered(self) -> Decided | None:
        """Return what the last sweep decided; None if there was none, or if that is gone or unreadable."""
        last = self.state.last
        pieces = self.dependencies.store.get(last.sweep_id, _DECISION, self.state.remembered) if last else None
        return Decided.of(pieces) if pieces else None

    # Carry out what is decided.

    def _carry_out(self, current: SweepInProgress) -> None:
        pieces = self.dependencies.store.get(current.sweep_id, _DECISION, current.decision)
        decided = Decided.of(pieces) if pieces else None
        if decided is None or current.report is None:
            self._save(current=None)
            why = "what the sweep decided is gone or unreadable; the next one begins anew"
            raise PermanentError(fault("SWEEP_STATE", why))
        self._record(current.report, decided.evidence.encode())
        messages = self._messages(current, decided)
        while current.sent < len(messages):
            if self.dependencies.clock.now() >= self.deadline:
                raise OutOfTimeError(fault("OUT_OF_TIME", "the time left is too short for the other requests"))
            batch = messages[current.sent : current.sent + _BATCH]
            self.dependencies.repairs.send([each() for each in batch])
            current = current.model_copy(update={"sent": current.sent + len(batch)})
            self._save(current=current)
        last, remembered = self.state.last, self.state.remembered
        self._save(current=None, last=current.report, remembered=current.decision)
        self.dependencies.store.delete(current.sweep_id, _JOURNAL, current.parts)
        if last:
            self.dependencies.store.delete(last.sweep_id, _DECISION, remembered)

    def _record(self, report: SweepReport, evidence: bytes) -> None:
        """Write the evidence once; an object that the key already holds stays, and ours is written beside it."""
        key, wanted = sweep_key(report), sha256(evidence).hexdigest()
        archive = self.dependencies.archive
        if archive.record(key, evidence) == wanted:
            return
        self.conflict = key
        if archive.record(key_beside(key, wanted), evidence) != wanted:
            raise PermanentError(fault("EVIDENCE_CONFLICT", "the evidence's key and the one beside it are both taken"))

    def _messages(self, current: SweepInProgress, decided: Decided) -> list[Callable[[], Request]]:
        """Return what makes each message, in the order in which they are sent."""
        departures = [partial(self._departure, current, each) for each in decided.departures]
        return [*departures, *(partial(self._request, current, each) for each in decided.requests)]

    def _departure(self, current: SweepInProgress, account_id: AccountId) -> DepartureRequest:
        return DepartureRequest(
            source="joinguard.departure",
            event_id=departure_id(self.dependencies.pseudonyms, current.sweep_id, account_id),
            # What happened later may belong to a later membership.
            requested_at=current.report.decided_at if current.report else current.begun_at,
            account_id=account_id,
            organization_id=self.sweeper.requirements.organization_id,
            reason=f"sweep {current.sweep_id}",
        )

    def _request(self, current: SweepInProgress, account_id: AccountId) -> JoinRequest:
        return JoinRequest(
            source=SWEEP,
            event_id=event_id(self.dependencies.pseudonyms, current.sweep_id, account_id),
            # A later departure ends what the request is about.
            requested_at=current.begun_at,
            account_id=account_id,
            organization_id=self.sweeper.requirements.organization_id,
            reason=f"sweep {current.sweep_id}",
        )


def _silent(_part: str, _number: int) -> None:
    """Show no progress."""
