"""The operator's tool on a desk without AWS: its commands, a bucket, and SQS's own move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any

from click.testing import CliRunner, Result

from handlers.aws.sqs_moves import Move
from handlers.core.errors import JoinguardError, RetryableError, fault
from handlers.core.redrive.preflight import Account, Preflight
from handlers.operate.__main__ import cli
from handlers.operate.workbench import Caller, Workbench
from schemas.audit import Act
from schemas.evidence import Pseudonym
from tests.desk import Desk
from tests.fakes import MANAGEMENT, ORGANIZATION, POLICIES


@dataclass
class FakeOrganization:
    enabled: bool = True
    policies: Collection[str] = POLICIES
    state: str | None = "ACTIVE"
    carried: Collection[str] = ("p-FullAWSAccess",)
    error: JoinguardError | None = None
    asked: Counter[str] = field(default_factory=Counter)

    def _ask(self, what: str) -> None:
        self.asked[what] += 1
        if self.error:
            raise self.error

    def scps_enabled(self) -> bool:
        self._ask("enabled")
        return self.enabled

    def policy_arn(self, policy_id: str) -> str | None:
        self._ask("policy")
        return f"arn:policy/{policy_id}" if policy_id in self.policies else None

    def account(self, account_id: str) -> Account | None:
        self._ask("account")
        return Account(f"arn:account/{account_id}", self.state) if self.state else None

    def attached_policies(self, account_id: str) -> frozenset[str]:
        self._ask("attached")
        assert account_id
        return frozenset(self.carried)


@dataclass
class FakePermissions:
    refused: Collection[str] = ()
    error: JoinguardError | None = None
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def denied(self, action: str, resources: Sequence[str]) -> Collection[str]:
        self.asked.append((action, tuple(resources)))
        if self.error:
            raise self.error
        return [each for each in resources if each in self.refused]


def preflight(
    organization: FakeOrganization | None = None, permissions: FakePermissions | None = None, *, places: int = 10
) -> Preflight:
    asked = permissions or FakePermissions()
    return Preflight(organization or FakeOrganization(), asked, POLICIES, ORGANIZATION, MANAGEMENT, places)


@dataclass
class Bucket:
    """Everything that was put into the bucket; or none of it, where it refuses."""

    refuses: bool = False
    objects: dict[str, bytes] = field(default_factory=dict)
    locks: dict[str, Any] = field(default_factory=dict)

    def record(self, key: str, body: bytes) -> str:
        if self.refuses:
            raise RetryableError(fault("S3.AccessDenied", "no"))
        return sha256(self.objects.setdefault(key, body)).hexdigest()

    def keep(self, key: str, body: bytes, **lock: Any) -> bool:
        self.locks[key] = lock
        return self.record(key, body) == sha256(body).hexdigest()

    def read(self, key: str, *, most: int | None = None) -> bytes:
        if key not in self.objects:
            raise RetryableError(fault("S3.NoSuchKey", "no such key"))
        return self.objects[key] if most is None else self.objects[key][: most + 1]

    def under(self, prefix: str, *, most: int | None = None) -> list[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))[:most]

    @property
    def acts(self) -> list[Act]:
        return [Act.model_validate_json(body) for key, body in self.objects.items() if key.startswith("acts/")]


class Names:
    def of(self, account_id: str) -> Pseudonym:
        return Pseudonym(value=f"acct-{sha256(account_id.encode()).hexdigest()[:32]}", key_version="key-1")

    def principal(self, _arn: str) -> Pseudonym:
        return Pseudonym(value="prin-" + "0" * 32, key_version="k")

    def digest(self, kind: str, text: str) -> str:
        return sha256(f"a secret {kind} {text}".encode()).hexdigest()


@dataclass
class Moves:
    """SQS's own move task, which neither moto nor the embedded AWS has."""

    states: list[Move | BaseException | None] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def start(self, *, per_second: int) -> None:
        self.started.append(per_second)

    def latest(self) -> Move | None:
        state = self.states.pop(0)
        if isinstance(state, BaseException):
            raise state
        return state

    def cancel(self, handle: str) -> None:
        self.cancelled.append(handle)


@dataclass
class Office:
    """A desk with the tool on it."""

    desk: Desk
    bucket: Bucket = field(default_factory=Bucket)
    moves: Moves = field(default_factory=Moves)
    organization: FakeOrganization = field(default_factory=FakeOrganization)

    def bench(self) -> Workbench:
        parts: dict[str, Any] = {
            "post": self.desk,
            "moves": self.moves,
            "archive": self.bucket,
            "outcomes": self.desk,
            "organization": self.organization,
            "pseudonyms": Names(),
            "clock": self.desk.clock,
        }
        return Workbench(
            **parts,
            preflight=preflight(self.organization),
            caller=Caller("arn:aws:iam::111111111111:user/x", "AIDAEXAMPLE:session"),
            policy_ids=POLICIES,
            organization_id=ORGANIZATION,
            attachments_per_second=2.0,
            lock_mode="COMPLIANCE",
            backups_kept_for=timedelta(days=90),
        )

    def run(self, *arguments: str, **environment: str) -> Result:
        command, *others = arguments
        return CliRunner().invoke(cli.commands[command], others, obj=self.bench, env=environment, catch_exceptions=True)


def office(*letters: Any, **told: Any) -> Office:
    return Office(Desk(list(letters), **told))


SEND_ELSEWHERE = {"EDITOR": "sed -i s/event-1/event-9/"}


def running(moved: int = 3) -> Move:
    return Move("RUNNING", moved, 7, "handle", None, started=2)


def ended(status: str, *, started: int = 2, moved: int = 7) -> Move:
    return Move(status, moved, 7, None, "no room" if status == "FAILED" else None, started=started)
