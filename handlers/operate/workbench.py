"""The wiring of the operator's tool: from a stack's name to everything that it works with."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from random import Random, SystemRandom
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from handlers.aws.dynamodb_outcomes import OutcomesReader
from handlers.aws.iam_permissions import IamPermissions
from handlers.aws.kms_pseudonyms import KmsPseudonyms
from handlers.aws.organizations_reader import OrganizationsReader
from handlers.aws.s3_evidence import S3Archive
from handlers.aws.sqs_moves import Move, SqsMoves
from handlers.aws.sqs_operator import SqsPost
from handlers.clock import SystemClock
from handlers.core.evidence.audit import Actor, Deed
from handlers.core.evidence.comparison import Proofs
from handlers.core.evidence.history import Trail
from handlers.core.redaction import redact
from handlers.core.redrive.backups import backup
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.in_flight import Hand
from handlers.core.redrive.preflight import Preflight
from handlers.core.redrive.redrive import Redrive
from handlers.core.redrive.selection import is_meant
from handlers.core.redrive.tracker import Following
from handlers.core.timing import patiently
from schemas.audit import Action, LetterDigest

T = TypeVar("T")

__all__ = ["Move", "OperateError", "Workbench", "open_workbench"]


class OperateError(Exception):
    """It cannot be done; the message says why and what to do."""


@dataclass(frozen=True)
class Caller:
    """Whose credentials these are, as STS tells it."""

    arn: str
    user_id: str


@dataclass
class Workbench:
    """An installation in an operator's hands."""

    post: SqsPost
    moves: SqsMoves
    archive: S3Archive
    outcomes: OutcomesReader
    organization: OrganizationsReader
    preflight: Preflight
    pseudonyms: KmsPseudonyms
    clock: SystemClock
    caller: Caller
    policy_ids: tuple[str, ...]
    organization_id: str
    attachments_per_second: float
    #: GOVERNANCE or COMPLIANCE.
    lock_mode: str
    backups_kept_for: timedelta
    rng: Random = field(default_factory=SystemRandom)

    def hand(self) -> Hand:
        """Return an empty hand; use it as a context."""
        return Hand(self.post, self.clock, self.patiently)

    @property
    def pace(self) -> float:
        """How many letters a second the workers absorb."""
        return self.attachments_per_second / max(1, len(self.policy_ids))

    def redriver(self, hand: Hand, *, rate: float | None, breaker: int, tell: Callable[[str], None]) -> Redrive:
        """Return what puts letters back."""
        following = Following(self.outcomes)
        return Redrive(hand, following, self.clock, self.rng, rate=rate, breaker=breaker, tell=tell)

    def patiently(self, call: Callable[[], T]) -> T:
        """Call, and again while the connection is lost."""
        return patiently(call, clock=self.clock, rng=self.rng)

    def would_fail(self, letter: DeadLetter, hand: Hand) -> str | None:
        """Return why a letter would fail again; keeps letters in hand meanwhile, for asking may take long."""
        hand.keep()
        return self.preflight.would_fail(letter)

    def pick(self, letters: Iterable[DeadLetter], name: str) -> DeadLetter:
        """Return the one letter that a message or event id means; raise OperateError where it is none or several."""
        found = [letter for letter in letters if is_meant(letter, name)]
        if len(found) == 1:
            return found[0]
        if found:
            few = ", ".join(letter.message_id for letter in found[:4])
            message = f"{name} means {len(found)} letters ({few}); say which by its message id"
        else:
            message = f"no letter {name} waits; `list` names some of each group, `list --json` more"
        raise OperateError(message)

    @property
    def trail(self) -> Trail:
        """What is on record of what operators did."""
        return Trail(self.archive, self.clock, self.pseudonyms.digest)

    @property
    def proofs(self) -> Proofs:
        """What compares evidence with outcomes."""
        return Proofs(self.archive, self.pseudonyms)

    def begin(self, action: Action, reason: str, letters: Sequence[DeadLetter]) -> Deed:
        """Put an act on record before it is done."""
        return self.begin_new(action, reason, [letter.digest(self.pseudonyms.digest) for letter in letters])

    def begin_new(self, action: Action, reason: str, letters: Sequence[LetterDigest]) -> Deed:
        """Put an act that makes a message on record before it is done."""
        return Deed.begin(self.archive, self.clock, self._actor, action, reason, letters)

    def back_up(self, deed: Deed, letters: Sequence[DeadLetter]) -> str:
        """Keep an act's letters whole, account ids and all, for as long as the stack says; return the key."""
        until = self.clock.now() + self.backups_kept_for
        self.archive.keep(deed.backup_key, "\n".join(map(backup, letters)).encode(), mode=self.lock_mode, until=until)
        return deed.backup_key

    @cached_property
    def _actor(self) -> Actor:
        # Of a session, the part before the colon is IAM's; of the root user all of it is the account's id.
        unique_id = redact(self.caller.user_id.partition(":")[0])
        return Actor(self.pseudonyms.principal(self.caller.arn), unique_id)


def open_workbench(stack: str, profile: str | None, region: str | None, poll: int) -> Workbench:
    """Find a stack's resources with the credentials at hand.

    Raises OperateError where credentials, Region or stack are not right.
    """
    try:
        session = boto3.Session(profile_name=profile, region_name=region)
        caller = session.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError, ValueError) as error:
        raise OperateError(
            f"AWS cannot be reached: {error}. Log in (aws sso login), or say --profile, --region"
        ) from error
    try:
        found = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except (BotoCoreError, ClientError) as error:
        raise OperateError(
            f"stack {stack} cannot be reached in {session.region_name} of account {caller['Account']}: {error}. "
            "Is it the right account and Region? Say --profile, --region, --stack"
        ) from error
    at = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
    told = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
    try:
        return _workbench(session, Caller(caller["Arn"], caller["UserId"]), at, told, poll)
    except KeyError as missing:
        raise OperateError(
            f"stack {stack} ({found['StackStatus']}) names no {missing.args[0]}, so it is no installation of "
            "Joinguard, or not deployed yet. Say --stack or --region, or `make deploy`"
        ) from missing


def _workbench(
    session: boto3.Session, caller: Caller, at: dict[str, str], told: dict[str, str], poll: int
) -> Workbench:
    config = Config(retries={"mode": "standard", "total_max_attempts": 5}, user_agent_extra="joinguard-operate")
    # Keeps below what Organizations allows, which the worker needs too.
    patient = config.merge(Config(retries={"mode": "adaptive", "total_max_attempts": 5}))

    def client(service: str, config: Config = config) -> Any:
        return session.client(service, config=config)  # type: ignore[call-overload]

    sqs = client("sqs")
    policy_ids = tuple(each for each in at["PolicyIds"].split(",") if each)
    organization = OrganizationsReader(client("organizations", patient))
    role = at.get("FunctionRole")
    return Workbench(
        post=SqsPost(
            sqs,
            {"dead letters": at["DeadLetterQueueUrl"], "undelivered": at["UndeliveredQueueUrl"]},
            at["QueueUrl"],
            poll=poll,
        ),
        moves=SqsMoves(sqs, at["DeadLetterQueueUrl"], at["QueueUrl"]),
        archive=S3Archive(client("s3"), at["EvidenceBucket"]),
        outcomes=OutcomesReader(client("dynamodb"), at["OutcomesTable"]),
        organization=organization,
        preflight=Preflight(
            organization,
            IamPermissions(client("iam"), role) if role else None,
            policy_ids,
            told["OrganizationId"],
            told["ManagementAccountId"],
            int(at["PoliciesPerAccount"]),
        ),
        pseudonyms=KmsPseudonyms(client("kms"), at["PseudonymKeyId"], told["OrganizationId"]),
        clock=SystemClock(),
        caller=caller,
        policy_ids=policy_ids,
        organization_id=told["OrganizationId"],
        attachments_per_second=float(told["AttachmentsPerSecond"]),
        lock_mode=told["RetentionMode"],
        backups_kept_for=timedelta(days=int(at["BackupDays"])),
    )
