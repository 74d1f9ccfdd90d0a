"""Fakes of the worker's ports, in memory: each behaves like its adapter, and one log holds all calls."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from handlers.aws.dynamodb_rows import WORTH_KEEPING
from handlers.core.errors import (
    AccountNotFoundError,
    AttemptInProgressError,
    Cause,
    PermanentError,
    fault,
)
from handlers.core.guardrails.evaluate import Guardrails, Requirements
from handlers.core.guardrails.facts import Facts
from handlers.core.guardrails.limits import at_once
from handlers.core.guardrails.pauses import KnownPauses
from handlers.core.guardrails.places import AttachedPolicy
from handlers.core.guardrails.scope import Scope
from handlers.core.joins.attach import AttachDependencies, Enforcer
from handlers.core.joins.ports import Attempt, Closing, EventChanges, Membership, Message, Pace, Settlement
from handlers.core.joins.worker import Handled
from handlers.core.timing import MAX_LEASE, Budget
from infra.local.events import handshake_accepted
from schemas.compiled_guardrails import SCP, PolicyType
from schemas.events import DEPARTURES, AccountEvent, Departure, Event, Join
from schemas.evidence import Evidence
from schemas.outcome import FAILING, FINAL, AttachmentResult, Departed, Fault, Outcome, OutcomeStatus
from schemas.pseudonym import Pseudonym

T = TypeVar("T")

ORGANIZATION = "o-exampleorgid"
MANAGEMENT = "111111111111"
ACCOUNT = "222222222222"
POLICIES = ("p-aaaaaaaa", "p-bbbbbbbb")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Killed(BaseException):
    """Stands for the end of the process: no handler of `Exception` catches it."""


class Steps:
    """Log every call to a port by its name, and raise the errors that a test has set for it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._faults: dict[str, list[Exception | None]] = {}
        #: Called around each call with its name and "before" or "after"; it may raise an error.
        self.on_call: Callable[[str, str], None] = lambda _name, _when: None

    def fail(self, name: str, *errors: Exception | None) -> None:
        """Set the errors of the next calls of this name; a call with None succeeds."""
        self._faults.setdefault(name, []).extend(errors)

    def forget(self) -> None:
        """Let all further calls succeed."""
        self._faults.clear()

    def take(self, name: str, effect: Callable[[], T]) -> T:
        self.log.append(name)
        self.on_call(name, "before")
        errors = self._faults.get(name)
        error = errors.pop(0) if errors else None
        if error is not None:
            # An ambiguous error is raised after the effect.
            if getattr(error, "ambiguous", False):
                effect()
            raise error
        result = effect()
        self.on_call(name, "after")
        return result

    def count(self, name: str) -> int:
        return self.log.count(name)


class FakeClock:
    """A clock that stands still until something sleeps or a test advances it."""

    def __init__(self) -> None:
        self.time = NOON
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class FakeOrganizations:
    steps: Steps
    attached: dict[str, list[str]] = field(default_factory=dict)
    #: The account, the policy and the delivery of each attachment.
    changes: list[tuple[str, str, str]] = field(default_factory=list)
    #: The types of the policies that are no SCPs.
    types: dict[str, PolicyType] = field(default_factory=dict)
    #: The facts of accounts.
    facts: dict[str, Facts] = field(default_factory=dict)
    #: AWS's own policies.
    managed: set[str] = field(default_factory=lambda: {"p-FullAWSAccess"})
    #: When accounts joined; other accounts joined a day before noon.
    joined_at: dict[str, datetime] = field(default_factory=dict)
    #: The states of accounts; other accounts are active.
    states: dict[str, str] = field(default_factory=dict)
    #: The account, the policy and the delivery of each removal.
    removals: list[tuple[str, str, str]] = field(default_factory=list)
    #: Identifies the delivery that a worker handles now.
    delivery: str = ""

    def attached_policies(self, account_id: str, types: Collection[PolicyType]) -> tuple[AttachedPolicy, ...]:
        def attached() -> tuple[AttachedPolicy, ...]:
            known = ((each, self.types.get(each, SCP)) for each in self._account(account_id))
            return tuple(
                AttachedPolicy(each, policy_type, aws_managed=each in self.managed)
                for each, policy_type in known
                if policy_type in types
            )

        return self.steps.take("read", attached)

    def described(self, facts: Facts) -> Facts:
        known = self.facts.get(facts.account_id, facts)
        return self.steps.take("describe", lambda: dataclasses.replace(known, tags=facts.tags))

    def tagged(self, facts: Facts) -> Facts:
        known = self.facts.get(facts.account_id, facts)
        return self.steps.take("tags", lambda: dataclasses.replace(facts, tags=known.tags))

    def attach(self, policy_id: str, account_id: str) -> AttachmentResult:
        return self.steps.take("attach", lambda: self._attach(policy_id, account_id))

    def _attach(self, policy_id: str, account_id: str) -> AttachmentResult:
        attached = self._account(account_id)
        if policy_id in attached:
            return AttachmentResult.ALREADY_ATTACHED
        attached.append(policy_id)
        self.changes.append((account_id, policy_id, self.delivery))
        return AttachmentResult.ATTACHED

    def membership(self, account_id: str) -> Membership:
        def member() -> Membership:
            assert self._account(account_id) is not None
            since = self.joined_at.get(account_id, NOON - timedelta(days=1))
            return Membership(since, self.states.get(account_id, "ACTIVE"))

        return self.steps.take("member", member)

    def detach(self, policy_id: str, account_id: str) -> AttachmentResult:
        return self.steps.take("detach", lambda: self._detach(policy_id, account_id))

    def _detach(self, policy_id: str, account_id: str) -> AttachmentResult:
        attached = self._account(account_id)
        if policy_id not in attached:
            return AttachmentResult.ALREADY_REMOVED
        if [each for each in attached if self.types.get(each, SCP) == SCP] == [policy_id]:
            raise PermanentError(fault("ConstraintViolationException", "the last one"), cause=Cause.LAST_POLICY)
        attached.remove(policy_id)
        self.removals.append((account_id, policy_id, self.delivery))
        return AttachmentResult.REMOVED

    def _account(self, account_id: str) -> list[str]:
        if account_id not in self.attached:
            raise AccountNotFoundError(fault("TargetNotFoundException", f"We can't find {account_id}"))
        return self.attached[account_id]


@dataclass
class FakeLedger:
    steps: Steps
    rows: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    #: Whether `begin` reports that it replaced an unreadable row.
    replaced: bool = False

    def begin(self, event: Event, *, now: datetime, lease_until: datetime) -> Attempt | Outcome:
        return self.steps.take("begin", lambda: self._begin(event, now, lease_until))

    def intend(self, event: Event, attempt: int, policies: Sequence[str], *, ambiguous: Collection[str]) -> None:
        self.steps.take("intend", lambda: self._intend(event, attempt, policies, ambiguous))

    def announce(self, event: Event, attempt: int, number: int, evidence: str, *, ambiguous: Collection[str]) -> None:
        self.steps.take("announce", lambda: self._announce(event, attempt, number, evidence, ambiguous))

    def settle(self, event: Event, attempt: int, settlement: Settlement, *, now: datetime) -> bool:
        return self.steps.take("settle", lambda: self._settle(event, attempt, settlement, now))

    def record_rehearsal(self, outcome: Outcome) -> None:
        row = outcome.model_dump(exclude_none=True)
        self.steps.take("rehearsal row", lambda: self.rows.update({(outcome.account_id, outcome.event_id): row}))

    def of(self, account_id: str) -> list[EventChanges]:
        """Return what the row of each event of an account says."""
        return self.steps.take(
            "claims", lambda: [_changes(row) for key, row in self.rows.items() if key[0] == account_id]
        )

    def outcome(self, event_id: str, account_id: str | None = None) -> Outcome:
        [row] = [
            row for key, row in self.rows.items() if key[1] == event_id and (account_id is None or key[0] == account_id)
        ]
        return Outcome.model_validate(row)

    def _begin(self, event: Event, now: datetime, lease_until: datetime) -> Attempt | Outcome:
        row = self.rows.setdefault(_key(event), _fresh(event, now))
        if _is_final(row, event):
            return Outcome.model_validate(row)
        if _is_leased(row, now):
            raise AttemptInProgressError(fault("ATTEMPT_IN_PROGRESS", "another worker holds the lease"))
        if row["status"] not in FAILING:
            kept = {name: row[name] for name in WORTH_KEEPING if name in row}
            row = self.rows[_key(event)] = _fresh(event, now) | kept
        row |= {"attempts": row["attempts"] + 1, "updated_at": now, "lease_until": lease_until, "source": event.source}
        return Attempt(
            row["attempts"],
            dict(row["intents"]),
            frozenset(row.get("unclear", ())),
            row["event_time"],
            row["received_at"],
            dict(row["announced"]),
            row.get("claims", {}),
            replaced=self.replaced,
        )

    def _intend(self, event: Event, attempt: int, policies: Sequence[str], ambiguous: Collection[str]) -> None:
        row = self._current_row(event, attempt)
        row["intents"][attempt] = tuple(policies)
        row["unclear"] = tuple(ambiguous)

    def _announce(self, event: Event, attempt: int, number: int, evidence: str, ambiguous: Collection[str]) -> None:
        row = self._current_row(event, attempt)
        row["announced"][number] = (*row["announced"].get(number, ()), evidence)
        row["unclear"] = tuple(ambiguous)

    def _current_row(self, event: Event, attempt: int) -> dict[str, Any]:
        row = self.rows[_key(event)]
        if row["attempts"] != attempt:
            raise AttemptInProgressError(fault("SUPERSEDED", "a later attempt has begun"))
        return row

    def _settle(self, event: Event, attempt: int, settlement: Settlement, now: datetime) -> bool:
        row = self.rows[_key(event)]
        if row["attempts"] != attempt or (row["status"] in FINAL and row["status"] is not settlement.status):
            return False
        row.pop("lease_until", None)
        row.pop("departed", None)
        row |= {
            "status": settlement.status,
            "policies": settlement.policies,
            "fault": settlement.fault,
            "guardrails": settlement.guardrails,
            "unclear": tuple(settlement.ambiguous),
            "claims": settlement.claims,
            "called": settlement.called,
            "updated_at": now,
            "done_at": None if settlement.status is OutcomeStatus.RETRYING else now,
            "intents": {n: intent for n, intent in row["intents"].items() if n not in settlement.proven},
            "announced": {n: digest for n, digest in row["announced"].items() if n not in settlement.proven},
        }
        if settlement.evidence_key:
            row |= {"evidence_key": settlement.evidence_key, "evidence_sha256": settlement.evidence_sha256}
        if settlement.departed:
            row["departed"] = settlement.departed
        return True

    def close(self, account_id: str, departed: Departed, now: datetime) -> Closing:
        """Close what an account that has left leaves open, one row after the other."""
        done = [
            self.steps.take("close", partial(self._close, row, departed, now))
            for row in self._rows_of(account_id)
            if row["status"] in FAILING and row["event_time"] < departed.left_at and row["event_name"] not in DEPARTURES
        ]
        return Closing(done.count(True), done.count(False))

    def _close(self, row: dict[str, Any], departed: Departed, now: datetime) -> bool:
        if _is_leased(row, now):
            return False
        row.pop("lease_until", None)
        row |= {"status": OutcomeStatus.CLOSED, "departed": departed, "updated_at": now}
        return True

    def outcomes(self, account_id: str) -> list[Outcome]:
        """Return the outcomes of all events of an account."""
        return self.steps.take("outcomes", lambda: [Outcome.model_validate(row) for row in self._rows_of(account_id)])

    def _rows_of(self, account_id: str) -> list[dict[str, Any]]:
        return [row for key, row in self.rows.items() if key[0] == account_id]


def _is_leased(row: Mapping[str, Any], now: datetime) -> bool:
    return "lease_until" in row and now <= row["lease_until"] <= now + MAX_LEASE


def _changes(row: Mapping[str, Any]) -> EventChanges:
    open_ = frozenset(row.get("unclear", ())).union(*row["intents"].values())
    return EventChanges(row.get("claims", {}), open_ if row["status"] in FAILING else frozenset())


def _fresh(event: Event, now: datetime) -> dict[str, Any]:
    return {
        "account_id": _key(event)[0],
        "event_id": event.event_id,
        "event_name": event.event_name,
        "event_time": event.event_time,
        "source": event.source,
        "status": OutcomeStatus.RETRYING,
        "attempts": 0,
        "received_at": now,
        "updated_at": now,
        "intents": {},
        "announced": {},
    }


def _is_final(row: Mapping[str, Any], event: Event) -> bool:
    if isinstance(event, Join):
        return row["status"] is OutcomeStatus.ENFORCED and row["source"] == event.source
    if isinstance(event, Departure):
        decided = row["status"] is OutcomeStatus.IGNORED or "departed" in row
        return decided and row["source"] == event.source
    return row["status"] is OutcomeStatus.IGNORED


@dataclass
class FakeArchive:
    steps: Steps
    bodies: dict[str, bytes] = field(default_factory=dict)

    def record(self, key: str, body: bytes) -> str:
        return self.steps.take("record", lambda: sha256(self.bodies.setdefault(key, body)).hexdigest())

    @property
    def objects(self) -> dict[str, Evidence]:
        """All evidence by key, without the objects that are not evidence."""
        found = {}
        for key, body in self.bodies.items():
            with suppress(ValidationError):
                found[key] = Evidence.model_validate_json(body)
        return found


@dataclass
class FakeDeadLetters:
    steps: Steps
    dead_letters: list[tuple[Message, Fault]] = field(default_factory=list)

    def send(self, message: Message, fault: Fault) -> None:
        self.steps.take("send", lambda: self.dead_letters.append((message, fault)))


@dataclass
class FakeInbox:
    steps: Steps
    postponed: list[int] = field(default_factory=list)

    def postpone(self, message: Message, seconds: int) -> None:  # noqa: ARG002 - the port's signature
        self.steps.take("postpone", lambda: self.postponed.append(seconds))


@dataclass
class FakeRestoreLimit:
    steps: Steps
    members: int = 0
    counted: dict[date, set[str]] = field(default_factory=dict)

    def take(self, account: str, now: datetime) -> bool:
        return self.steps.take("restore limit", lambda: self._take(account, now))

    def _take(self, account: str, now: datetime) -> bool:
        counted = self.counted.setdefault(now.date(), set())
        if account not in counted and len(counted) >= at_once(self.members):
            return False
        counted.add(account)
        return True


@dataclass
class FakePauses:
    """The pauses."""

    steps: Steps
    known: KnownPauses = field(default_factory=KnownPauses)

    def read(self) -> KnownPauses:
        return self.steps.take("pauses", lambda: self.known)


@dataclass
class FakeRequests:
    """A queue to which the other worker sends requests."""

    steps: Steps
    #: How its calls are logged.
    name: str
    bodies: list[str] = field(default_factory=list)

    def request(self, request: BaseModel) -> None:
        self.steps.take(self.name, lambda: self.bodies.append(request.model_dump_json()))

    def pass_on(self, message: Message) -> None:
        self.steps.take(self.name, lambda: self.bodies.append(message.body))


@dataclass
class FakeLimit:
    steps: Steps
    counted: dict[date, set[str]] = field(default_factory=dict)

    def take(self, removal: str, limit: int, now: datetime) -> bool:
        return self.steps.take("limit", lambda: self._take(removal, limit, now))

    def _take(self, removal: str, limit: int, now: datetime) -> bool:
        counted = self.counted.setdefault(now.date(), set())
        if removal not in counted and len(counted) >= limit:
            return False
        counted.add(removal)
        return True


@dataclass
class FakePseudonyms:
    steps: Steps
    key_version: str = "key-1"
    #: The former keys, and those of them that do not exist any more.
    former: tuple[str, ...] = ()
    lost_keys: tuple[str, ...] = ()

    def under_each_key(self) -> Iterator[Self]:
        yield self
        for each in self.former:
            if each not in self.lost_keys:
                yield dataclasses.replace(self, key_version=each, former=(), lost_keys=())

    def of(self, account_id: str) -> Pseudonym:
        return self.steps.take("pseudonym", lambda: self._pseudonym("acct", account_id))

    def principal(self, arn: str) -> Pseudonym:
        return self._pseudonym("prin", arn)

    def name(self, name: str) -> Pseudonym:
        return self._pseudonym("name", name.casefold())

    def digest(self, kind: str, text: str) -> str:
        return sha256(f"the secret of {self.key_version} {kind} {text}".encode()).hexdigest()

    def _pseudonym(self, kind: str, text: str) -> Pseudonym:
        return Pseudonym(value=f"{kind}-{self.digest(kind, text)[:32]}", key_version=self.key_version)


class NoPace:
    """A pace without a limit: every attachment may begin at once."""

    def reserve(self, now: datetime) -> datetime:
        return now


def with_policies(enforcer: Enforcer, policies: tuple[str, ...], attach_to: str = "all") -> Enforcer:
    """Return a copy of an Enforcer that requires other policies."""
    requirements = dataclasses.replace(
        enforcer.requirements, guardrails=Guardrails.for_everyone(policies), scope=Scope.parse(attach_to)
    )
    return dataclasses.replace(enforcer, requirements=requirements)


class World:
    """An Enforcer and the fakes that it works with."""

    def __init__(
        self,
        *,
        policies: tuple[str, ...] = POLICIES,
        attach_to: str = "all",
        pace: Pace | None = None,
        seed: int = 1,
        steps: Steps | None = None,
    ) -> None:
        self.steps = steps or Steps()
        self.clock = FakeClock()
        self.organizations = FakeOrganizations(self.steps, {ACCOUNT: ["p-FullAWSAccess"], MANAGEMENT: []})
        self.ledger = FakeLedger(self.steps)
        self.archive = FakeArchive(self.steps)
        self.dead_letters = FakeDeadLetters(self.steps)
        self.inbox = FakeInbox(self.steps)
        self.pauses = FakePauses(self.steps)
        self.restore_limit = FakeRestoreLimit(self.steps)
        dependencies = AttachDependencies(
            organizations=self.organizations,
            ledger=self.ledger,
            archive=self.archive,
            pseudonyms=FakePseudonyms(self.steps),
            pace=pace or NoPace(),
            clock=self.clock,
            outcomes=self.ledger,
            pauses=self.pauses,
            restore_limit=self.restore_limit,
            rng=Random(seed),  # noqa: S311 - jitter, not a secret
        )
        guardrails = Guardrails.for_everyone(policies)
        requirements = Requirements(guardrails, ORGANIZATION, MANAGEMENT, Scope.parse(attach_to))
        self.enforcer = Enforcer(requirements, dependencies, self.inbox, self.dead_letters, rng=Random(seed))  # noqa: S311 - as above

    def handle(self, event: Mapping[str, Any] | str, *, receives: int = 1, seconds: float = 60) -> Handled:
        """Deliver an event as the only record of an invocation with this many seconds left."""
        budget = Budget(self.clock, milliseconds=round(seconds * 1000), records=1)
        return self.enforcer.handle(message(event, receives=receives), budget)

    def deploy(self, *, policies: tuple[str, ...] = POLICIES, attach_to: str = "all") -> None:
        """Change the required policies and the accounts that policies are attached to."""
        self.enforcer = with_policies(self.enforcer, policies, attach_to)

    def attached(self, account_id: str = ACCOUNT) -> set[str]:
        """Return the policies of an account, except for AWS's default policy."""
        return set(self.organizations.attached[account_id]) - {"p-FullAWSAccess"}

    def evidence(self) -> list[Evidence]:
        """Return all evidence in the order of its keys."""
        return [self.archive.objects[key] for key in sorted(self.archive.objects)]


def joined(account_id: str = ACCOUNT, *, event_id: str = "event-1", age: float = 5, **changes: Any) -> dict[str, Any]:
    """Return the event of an invitation that was accepted `age` seconds before noon."""
    return of_age(age, handshake_accepted(account_id, ORGANIZATION, MANAGEMENT, **changes), event_id=event_id)


def of_age(seconds: float, event: dict[str, Any], *, event_id: str = "event-1") -> dict[str, Any]:
    """Return an event of AWS as one that happened some seconds before noon."""
    when = (NOON - timedelta(seconds=seconds)).isoformat()
    return event | {"detail": event["detail"] | {"eventID": event_id, "eventTime": when}}


def message(event: Mapping[str, Any] | str, *, receives: int = 1) -> Message:
    body = event if isinstance(event, str) else json.dumps(event)
    return Message(body, "message-1", "receipt-1", receives, NOON)


def _key(event: Event) -> tuple[str, str]:
    return (event.account_id if isinstance(event, AccountEvent) else "none", event.event_id)
