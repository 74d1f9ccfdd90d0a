"""The wiring of the operator's tool: from a stack's name to everything that it works with."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from random import SystemRandom
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from handlers.aws.archive import S3Archive
from handlers.aws.moves import Move, SqsMoves
from handlers.aws.organizations import OrganizationsReader
from handlers.aws.outcomes import OutcomesReader
from handlers.aws.permissions import IamPermissions
from handlers.aws.post import SqsPost
from handlers.aws.pseudonyms import KmsPseudonyms
from handlers.bootstrap import SystemClock
from handlers.core.acts import Actor, Deed
from handlers.core.errors import redact
from handlers.core.following import Following
from handlers.core.hand import Hand
from handlers.core.letters import DeadLetter, backup
from handlers.core.preflight import Preflight
from handlers.core.redrive import Redrive, is_meant
from schemas.act import Act, Action, LetterDigest
from schemas.evidence import Evidence
from schemas.outcome import Outcome

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

    def hand(self) -> Hand:
        """Return an empty hand; use it as a context."""
        return Hand(self.post, self.clock)

    @property
    def pace(self) -> float:
        """How many letters a second the workers absorb."""
        return self.attachments_per_second / max(1, len(self.policy_ids))

    def redriver(self, hand: Hand, *, rate: float | None, breaker: int) -> Redrive:
        """Return what puts letters back."""
        return Redrive(hand, Following(self.outcomes), self.clock, SystemRandom(), rate=rate, breaker=breaker)

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

    def begin(self, action: Action, reason: str, letters: Sequence[LetterDigest]) -> Deed:
        """Put an act on record before it is done."""
        return Deed.begin(self.archive, self.clock, self._actor, action, reason, letters)

    def back_up(self, deed: Deed, letters: Sequence[DeadLetter]) -> str:
        """Keep an act's letters whole, account ids and all, for as long as the stack says; return the key."""
        until = self.clock.now() + self.backups_kept_for
        self.archive.keep(deed.backup_key, "\n".join(map(backup, letters)).encode(), mode=self.lock_mode, until=until)
        return deed.backup_key

    def evidence(self, outcome: Outcome) -> dict[str, Evidence]:
        """Return the evidence of an event by key, the first attempt's first."""
        keys = self.archive.under(f"evidence/{outcome.event_time:%Y/%m/%d}/{outcome.event_id}/")
        return {key: Evidence.model_validate_json(self.archive.read(key)) for key in keys}

    def history(self, letter: DeadLetter) -> Iterator[Act]:
        """Yield what operators did to a letter of this body or event since it was first seen, oldest first."""
        digest = letter.digest()
        names = {digest.body_sha256, digest.event_id} - {None}
        day, acts = letter.first_seen.date(), []
        while day <= self.clock.now().date():
            keys = [each for each in self.archive.under(f"acts/{day:%Y/%m/%d}/") if each.endswith("/intended.json")]
            acts += [Act.model_validate_json(self.archive.read(key)) for key in keys]
            day += timedelta(days=1)
        for act in sorted(acts, key=lambda act: act.recorded_at):
            if any({each.body_sha256, each.event_id} & names for each in act.letters):
                yield act

    @cached_property
    def _actor(self) -> Actor:
        # Of a session, the part before the colon is IAM's; of the root user all of it is the account's id.
        unique_id = redact(self.caller.user_id.partition(":")[0])
        return Actor(self.pseudonyms.of(self.caller.arn), unique_id)


def open_workbench(stack: str, profile: str | None, region: str | None) -> Workbench:
    """Find a stack's resources with the credentials at hand.

    Raises OperateError where credentials, Region or stack are not right.
    """
    try:
        session = boto3.Session(profile_name=profile, region_name=region)
        caller = session.client("sts").get_caller_identity()
        found = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except (BotoCoreError, ClientError) as error:
        message = (
            f"stack {stack} cannot be reached: {error}. Log in (aws sso login), or say --profile, --region, --stack"
        )
        raise OperateError(message) from error
    at = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
    told = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
    try:
        return _workbench(session, Caller(caller["Arn"], caller["UserId"]), at, told)
    except KeyError as missing:
        message = (
            f"stack {stack} ({found['StackStatus']}) names no {missing.args[0]}, so it is no installation of "
            "Joinguard, or not deployed yet. Say --stack or --region, or `make deploy`"
        )
        raise OperateError(message) from missing


def _workbench(session: boto3.Session, caller: Caller, at: dict[str, str], told: dict[str, str]) -> Workbench:
    config = Config(retries={"mode": "standard", "total_max_attempts": 5}, user_agent_extra="joinguard-operate")
    # Keeps below what Organizations allows, which the worker needs too.
    patient = config.merge(Config(retries={"mode": "adaptive", "total_max_attempts": 5}))

    def client(service: str, config: Config = config) -> Any:  # noqa: ANN401 - the adapters name the type
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
