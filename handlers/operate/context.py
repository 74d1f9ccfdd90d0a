"""The context of a command: everything that it works with."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from random import Random, SystemRandom
from typing import Protocol, TypeVar

from handlers.core.errors import JoinguardError
from handlers.core.evidence.actor import Actor, is_generated, name_in
from handlers.core.evidence.audit import AuditedAction
from handlers.core.evidence.checks import EvidenceChecker
from handlers.core.evidence.history import History
from handlers.core.evidence.ports import Archive, PrincipalPseudonyms
from handlers.core.evidence.verifying import SealedBucket
from handlers.core.guardrails.evaluate import Requirements
from handlers.core.guardrails.pauses import KnownPauses
from handlers.core.guardrails.ports import OrganizationReader, PolicyValidator
from handlers.core.guardrails.reading import Artifacts
from handlers.core.ports import Clock
from handlers.core.reconcile.ports import OperatorsPauses
from handlers.core.redaction import redact
from handlers.core.redrive.backup import backup_line
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.in_flight import InFlight
from handlers.core.redrive.ports import DeadLetterQueues, MoveTasks, OrganizationsReader, OutcomeKey, Outcomes
from handlers.core.redrive.preflight import Preflight
from handlers.core.timing import patiently
from handlers.operate.completion import Seen
from handlers.operate.errors import NAME_YOUR_SESSION, OperateError
from handlers.operate.sweeping import InstalledSweep
from schemas.audit import Action, MessageDigest
from schemas.ids import EventId
from schemas.keys import backup_action
from schemas.outcome import Closed

T = TypeVar("T")


@dataclass(frozen=True)
class Caller:
    """The principal of the operator's credentials, as STS identifies it."""

    arn: str
    user_id: str

    @property
    def name(self) -> str:
        """The name of the session or user."""
        return name_in(self.arn)


@dataclass(frozen=True)
class OrganizationContext:
    """The organization of the operator's credentials."""

    reader: OrganizationReader
    accounts: OrganizationsReader
    clock: Clock
    #: The account of the credentials.
    account_id: str
    #: Says what is wrong with policies that AWS accepts; None where nobody asks.
    validator: PolicyValidator | None = None


class EventBus(Protocol):
    """The event bus on which the events of joins arrive."""

    def put_rehearsal(self, region: str | None = None) -> EventId:
        """Put a rehearsal on the bus of a Region, or of the stack's; return the id of the event."""


class Connection(Protocol):
    """How a command reaches an installation, or only the organization; nothing is called before a command needs it."""

    def __call__(self) -> "Context":
        """Find the installation; raise OperateError if credentials, Region or stack are wrong."""

    def organization(self) -> OrganizationContext:
        """Reach the organization, for commands that need no installation; raise OperateError as above."""

    def now(self) -> datetime:
        """Return the time in UTC."""


@dataclass(frozen=True)
class InstalledLog:
    """The sealed log of an installation."""

    #: Its name.
    name: str
    bucket: SealedBucket
    #: Returns the public key that signs it.
    public_key: Callable[[], bytes]


@dataclass
class Context:
    """An installation, as an operator works with it."""

    queues: DeadLetterQueues
    bus: EventBus
    moves: MoveTasks
    archive: Archive
    outcomes: Outcomes
    organizations: OrganizationsReader
    preflight: Preflight
    requirements: Requirements
    pseudonyms: PrincipalPseudonyms
    clock: Clock
    caller: Caller
    attachments_per_second: float
    #: GOVERNANCE or COMPLIANCE.
    lock_mode: str
    backup_retention: timedelta
    #: For completion in the shell.
    seen: Seen
    #: None in an installation of an earlier version, which has none.
    sweep: InstalledSweep | None = None
    #: Whether there is a queue of requests that let live joins go first; stacks of earlier versions have none.
    has_repairs: bool = True
    #: None in stacks of earlier versions.
    pauses: OperatorsPauses | None = None
    #: The ARNs of the roles that people assume.
    roles: Sequence[str] = ()
    #: None in stacks of earlier versions.
    log: InstalledLog | None = None
    #: What deployments wrote, guardrails of earlier times too. None in stacks of earlier versions.
    artifacts: Artifacts | None = None
    rng: Random = field(default_factory=SystemRandom)

    @property
    def pace(self) -> float:
        """The number of messages a second that the workers handle."""
        return self.attachments_per_second / max(1, len(self.requirements.guardrails.policy_ids))

    @property
    def history(self) -> History:
        """What operators did."""
        return History(self.archive, self.clock)

    @property
    def evidence_checker(self) -> EvidenceChecker:
        """Compares evidence with outcomes."""
        return EvidenceChecker(self.archive, self.pseudonyms)

    def known_pauses(self) -> KnownPauses:
        """Return all pauses; raise JoinguardError if they cannot be read."""
        return self.patiently(self.pauses.read) if self.pauses else KnownPauses()

    def change_pauses(self, pauses: KnownPauses, before: KnownPauses) -> None:
        """Replace all pauses; raise OperateError if the stack has no table for them, JoinguardError if it fails."""
        store = self.pauses
        if store is None:
            raise OperateError("this installation is of an earlier version, which has no pauses. Run `make deploy`")
        self.patiently(lambda: store.write(pauses, before))

    def in_flight(self) -> InFlight:
        """Return messages in flight, none so far; use it as a context."""
        return InFlight(self.queues, self.clock, self.patiently)

    def patiently(self, call: Callable[[], T]) -> T:
        """Make a call, and retry it while the connection is lost."""
        return patiently(call, clock=self.clock, rng=self.rng)

    def digest(self, dead_letter: DeadLetter) -> MessageDigest:
        """Return what an audit record may hold of a message."""
        return dead_letter.digest(self.pseudonyms.digest)

    def begin(self, action: Action, reason: str, messages: Sequence[MessageDigest]) -> AuditedAction:
        """Write the record of an intended action; raise OperateError if it would name nobody."""
        if is_generated(self.caller.name):
            raise OperateError(
                f"the name of your session, {self.caller.name}, is generated, and the audit record would name nobody. "
                f"{NAME_YOUR_SESSION}"
            )
        actor = self._actor_under(self.pseudonyms)
        return AuditedAction.begin(self.archive, self.clock, actor, action, reason, messages)

    def close(self, audited: AuditedAction, keys: Collection[OutcomeKey]) -> Collection[OutcomeKey]:
        """Close the outcomes of events whose messages an action drops; return those that were closed."""
        closed = Closed(
            actor=audited.intended.actor,
            actor_name=audited.intended.actor_name,
            actor_id=audited.intended.actor_id,
            act_id=audited.action_id,
            closed_at=self.clock.now(),
        )
        return self.patiently(lambda: self.outcomes.close(keys, closed))

    def reopen(self, backup_key: str, keys: Collection[OutcomeKey]) -> Collection[OutcomeKey]:
        """Reopen the outcomes that the action with this backup closed; return those that were reopened."""
        action = backup_action(backup_key)
        return self.patiently(lambda: self.outcomes.reopen(keys, action, self.clock.now()))

    def back_up(self, audited: AuditedAction, dead_letters: Sequence[DeadLetter]) -> str:
        """Keep messages complete, account ids included, for as long as the stack sets; return the key."""
        until = self.clock.now() + self.backup_retention
        body = "\n".join(map(backup_line, dead_letters)).encode()
        self.archive.keep(audited.backup_key, body, mode=self.lock_mode, until=until)
        self.seen.add("backups", [audited.backup_key])
        return audited.backup_key

    @cached_property
    def known_as(self) -> Sequence[Actor]:
        """The caller under each key, to be compared with records.

        Empty if KMS does not answer, so that records can be read then.
        """
        try:
            return [self._actor_under(each) for each in self.pseudonyms.under_each_key()]
        except JoinguardError:
            return []

    def _actor_under(self, pseudonyms: PrincipalPseudonyms) -> Actor:
        # For a session, IAM's id is the part before the colon; for the root user, it is the account id.
        unique_id = redact(self.caller.user_id.partition(":")[0])
        return Actor(pseudonyms.principal(self.caller.arn), pseudonyms.name(self.caller.name), unique_id)
