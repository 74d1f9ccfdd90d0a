"""The operators' tool with fakes of all its ports: its commands run in this process."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from click.testing import CliRunner, Result

from handlers.core.errors import Cause, JoinguardError, RetryableError, fault
from handlers.core.guardrails.evaluate import Guardrails, Requirements
from handlers.core.guardrails.facts import Facts
from handlers.core.guardrails.places import AttachedPolicy
from handlers.core.guardrails.ports import Finding
from handlers.core.guardrails.reading import Artifacts
from handlers.core.guardrails.scope import Scope
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.ports import Account, MoveTask
from handlers.core.redrive.preflight import Preflight
from handlers.operate.__main__ import cli
from handlers.operate.completion import Seen
from handlers.operate.context import Caller, Context, InstalledLog, OrganizationContext
from handlers.operate.errors import NotInstalledError
from handlers.operate.sweeping import InstalledSweep
from schemas.audit import AuditRecord
from schemas.compiled_guardrails import SCP, CompiledGuardrails, PolicyType
from schemas.plan import ApprovedPlan
from tests.fake_organization import FakeAccounts, FakeOrganizationReader
from tests.fake_queues import FakeQueues
from tests.fakes import MANAGEMENT, ORGANIZATION, POLICIES, FakeClock, FakePseudonyms, Steps
from tests.pauses import FakePauses


@dataclass
class FakeOrganization:
    enabled: bool = True
    policies: Collection[str] = POLICIES
    state: str | None = "ACTIVE"
    attached: Collection[str] = ("p-FullAWSAccess",)
    tags: Mapping[str, str] | None = None
    error: JoinguardError | None = None
    calls: Counter[str] = field(default_factory=Counter)

    def _call(self, name: str) -> None:
        self.calls[name] += 1
        if self.error:
            raise self.error

    def enabled_types(self) -> frozenset[str]:
        self._call("enabled")
        return frozenset({SCP} if self.enabled else ())

    def policy_arn(self, policy_id: str) -> str | None:
        self._call("policy")
        return f"arn:policy/{policy_id}" if policy_id in self.policies else None

    def account(self, account_id: str) -> Account | None:
        self._call("account")
        return Account(f"arn:account/{account_id}", self.state) if self.state else None

    def attached_policies(self, account_id: str, types: Collection[PolicyType]) -> tuple[AttachedPolicy, ...]:
        self._call("attached")
        assert account_id
        assert types == (SCP,)
        return tuple(AttachedPolicy(each, SCP) for each in self.attached)

    def described(self, facts: Facts) -> Facts:
        self._call("described")
        return facts

    def tagged(self, facts: Facts) -> Facts:
        self._call("tagged")
        return facts if self.tags is None else replace(facts, tags=self.tags)


@dataclass
class FakePermissions:
    #: ARNs on which no action is allowed.
    refused: Collection[str] = ()
    error: JoinguardError | None = None
    #: The action and the resources of each call.
    calls: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def denied(self, action: str, resources: Sequence[str]) -> Collection[str]:
        self.calls.append((action, tuple(resources)))
        if self.error:
            raise self.error
        return [each for each in resources if each in self.refused]


REQUIREMENTS: Final = Requirements(Guardrails.for_everyone(POLICIES), ORGANIZATION, MANAGEMENT)


def preflight(
    organization: FakeOrganization | None = None,
    permissions: FakePermissions | None = None,
    *,
    max_policies: int = 10,
    requirements: Requirements = REQUIREMENTS,
    approved_plan: Callable[[], ApprovedPlan | None] = lambda: None,
) -> Preflight:
    return Preflight(
        organization or FakeOrganization(),
        permissions or FakePermissions(),
        requirements,
        max_policies,
        FakeClock(),
        approved_plan,
    )


class Lock(NamedTuple):
    """An Object Lock retention."""

    mode: str
    until: datetime


@dataclass
class FakeBucket:
    """The evidence bucket."""

    #: Whether every write is denied.
    read_only: bool = False
    #: Whether every list is denied.
    is_unreadable: bool = False
    objects: dict[str, bytes] = field(default_factory=dict)
    locks: dict[str, Lock] = field(default_factory=dict)

    def record(self, key: str, body: bytes) -> str:
        if self.read_only:
            raise RetryableError(fault("S3.AccessDenied", "no"))
        return sha256(self.objects.setdefault(key, body)).hexdigest()

    def keep(self, key: str, body: bytes, *, mode: str, until: datetime) -> bool:
        self.locks[key] = Lock(mode, until)
        return self.record(key, body) == sha256(body).hexdigest()

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        if key not in self.objects:
            raise RetryableError(fault("S3.NoSuchKey", "no such key"), cause=Cause.NOT_FOUND)
        return self.objects[key] if limit is None else self.objects[key][: limit + 1]

    def under(self, prefix: str, *, limit: int | None = None) -> list[str]:
        if self.is_unreadable:
            raise RetryableError(fault("S3.AccessDenied", "no"))
        return sorted(key for key in self.objects if key.startswith(prefix))[:limit]

    @property
    def audit_records(self) -> list[AuditRecord]:
        return [AuditRecord.model_validate_json(body) for key, body in self.objects.items() if key.startswith("acts/")]


@dataclass
class FakeValidator:
    """IAM Access Analyzer, which the embedded AWS lacks."""

    #: By the content of a policy.
    found: dict[str, tuple[Finding, ...]] = field(default_factory=dict)
    error: JoinguardError | None = None
    #: The types of the policies that it was asked about.
    asked: list[str] = field(default_factory=list)

    def findings(self, kind: PolicyType, content: str) -> tuple[Finding, ...]:
        self.asked.append(kind)
        if self.error:
            raise self.error
        return self.found.get(content, ())


@dataclass
class FakeMoveTasks:
    """SQS's own move task, which neither moto nor the embedded AWS has."""

    #: The results of the next calls of `latest`; an exception is raised.
    states: list[MoveTask | BaseException | None] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def start(self, *, per_second: int) -> None:
        self.started.append(per_second)

    def latest(self) -> MoveTask | None:
        state = self.states.pop(0)
        if isinstance(state, BaseException):
            raise state
        return state

    def cancel(self, handle: str) -> None:
        self.cancelled.append(handle)


@dataclass
class FakeBus:
    """The event bus, with what becomes of a rehearsal."""

    #: Called with the event's id when a rehearsal is put on the bus.
    on_put: Callable[[str], None] = lambda _event_id: None
    error: JoinguardError | None = None
    regions: list[str | None] = field(default_factory=list)

    def put_rehearsal(self, region: str | None = None) -> str:
        if self.error:
            raise self.error
        self.regions.append(region)
        event_id = f"rehearsal-{len(self.regions)}"
        self.on_put(event_id)
        return event_id


CALLER: Final = Caller("arn:aws:iam::111111111111:user/x", "AIDAEXAMPLE:session")
#: No file can be there.
NOTHING_SEEN: Final = Seen(Path(os.devnull) / "x")


@dataclass
class OperatorCli:
    """The operators' tool with fake queues, a fake bucket and a fake organization."""

    queues: FakeQueues
    bucket: FakeBucket = field(default_factory=FakeBucket)
    moves: FakeMoveTasks = field(default_factory=FakeMoveTasks)
    bus: FakeBus = field(default_factory=FakeBus)
    organizations: FakeOrganization = field(default_factory=FakeOrganization)
    reader: FakeOrganizationReader = field(default_factory=FakeOrganizationReader)
    caller: Caller = CALLER
    #: The account of the credentials.
    account_id: str = MANAGEMENT
    #: The guardrails in force, if they are not the short form.
    in_force: CompiledGuardrails | None = None
    #: The parameters of the stack.
    attach_to: str = "all"
    removes: bool = False
    #: Whether it has the queue Repairs.
    has_repairs: bool = True
    #: Whether there is no stack.
    is_missing: bool = False
    seen: Seen = NOTHING_SEEN
    validator: FakeValidator = field(default_factory=FakeValidator)
    #: None for a stack of an earlier version.
    pauses: FakePauses | None = field(default_factory=FakePauses)
    pseudonyms: FakePseudonyms = field(default_factory=lambda: FakePseudonyms(Steps()))
    sweep: InstalledSweep | None = None
    log: InstalledLog | None = None
    artifacts: Artifacts | None = None

    @property
    def requirements(self) -> Requirements:
        guardrails = Guardrails(self.in_force) if self.in_force else REQUIREMENTS.guardrails
        return replace(REQUIREMENTS, guardrails=guardrails, scope=Scope.parse(self.attach_to), removes=self.removes)

    def context(self) -> Context:
        return Context(
            queues=self.queues,
            moves=self.moves,
            bus=self.bus,
            archive=self.bucket,
            outcomes=self.queues,
            organizations=self.organizations,
            preflight=preflight(self.organizations, requirements=self.requirements),
            requirements=self.requirements,
            pseudonyms=self.pseudonyms,
            clock=self.queues.clock,
            caller=self.caller,
            attachments_per_second=2.0,
            lock_mode="COMPLIANCE",
            backup_retention=timedelta(days=90),
            seen=self.seen,
            sweep=self.sweep,
            has_repairs=self.has_repairs,
            pauses=self.pauses,
            log=self.log,
            artifacts=self.artifacts,
        )

    def run(self, *arguments: str, **environment: str) -> Result:
        command, *others = arguments
        return CliRunner().invoke(cli.commands[command], others, obj=self, env=environment, catch_exceptions=True)

    # As a connection.

    def __call__(self) -> Context:
        if self.is_missing:
            raise NotInstalledError("there is no stack")
        return self.context()

    def organization(self) -> OrganizationContext:
        return OrganizationContext(
            self.reader, FakeAccounts(self.reader), self.queues.clock, self.account_id, self.validator
        )

    def now(self) -> datetime:
        return self.queues.clock.now()


def operator_cli(*dead_letters: DeadLetter, **changes: Any) -> OperatorCli:
    return OperatorCli(FakeQueues(list(dead_letters), **changes))


CONFIRM = ("--confirm", "--reason", "x")
#: An editor that changes the body of message m-1, and not the event that it is about.
CHANGE_BODY = {"EDITOR": "sed -i s/envelope-1/envelope-9/"}


def backup_key(result: Result) -> str:
    """Return the backup's key from the `restore` command in an output."""
    return result.output.partition("`restore ")[2].partition("`")[0]


def running_move(moved: int = 3) -> MoveTask:
    return MoveTask("RUNNING", moved, 7, "handle", None, started=2)


def ended_move(status: str, *, started: int = 2, moved: int = 7) -> MoveTask:
    return MoveTask(status, moved, 7, None, "no room" if status == "FAILED" else None, started=started)
