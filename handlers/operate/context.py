"""The context of a command: everything that it works with, given the name of a stack."""

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
from handlers.aws.organizations_reader import OrganizationsReaderApi
from handlers.aws.s3_evidence import S3Archive
from handlers.aws.sqs_moves import SqsMoves
from handlers.aws.sqs_operator import SqsDeadLetterQueues
from handlers.clock import SystemClock
from handlers.core.evidence.audit import Actor, AuditedAction
from handlers.core.evidence.checks import EvidenceChecker
from handlers.core.evidence.history import History
from handlers.core.evidence.ports import Archive, PrincipalPseudonyms
from handlers.core.guardrails.evaluate import Guardrails
from handlers.core.ports import Clock
from handlers.core.redaction import redact
from handlers.core.redrive.backup import backup_line
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.in_flight import InFlight
from handlers.core.redrive.ports import DeadLetterQueues, MoveTasks, OrganizationsReader, Outcomes
from handlers.core.redrive.preflight import Preflight
from handlers.core.redrive.reasons import Explanation
from handlers.core.redrive.redrive import Redrive
from handlers.core.redrive.selection import has_id
from handlers.core.redrive.tracker import OutcomeTracker
from handlers.core.timing import patiently
from handlers.operate.errors import OperateError
from schemas.audit import Action, MessageDigest

T = TypeVar("T")


@dataclass(frozen=True)
class Caller:
    """The principal of the operator's credentials, as STS identifies it."""

    arn: str
    user_id: str


@dataclass
class Context:
    """An installation, as an operator works with it."""

    queues: DeadLetterQueues
    moves: MoveTasks
    archive: Archive
    outcomes: Outcomes
    organizations: OrganizationsReader
    preflight: Preflight
    pseudonyms: PrincipalPseudonyms
    clock: Clock
    caller: Caller
    attachments_per_second: float
    #: GOVERNANCE or COMPLIANCE.
    lock_mode: str
    backup_retention: timedelta
    rng: Random = field(default_factory=SystemRandom)

    @property
    def guardrails(self) -> Guardrails:
        """Which policies an account must carry."""
        return self.preflight.guardrails

    @property
    def pace(self) -> float:
        """The number of messages a second that the workers handle."""
        return self.attachments_per_second / max(1, len(self.guardrails.policy_ids))

    @property
    def history(self) -> History:
        """What operators did."""
        return History(self.archive, self.clock)

    @property
    def evidence_checker(self) -> EvidenceChecker:
        """Compares evidence with outcomes."""
        return EvidenceChecker(self.archive, self.pseudonyms)

    def in_flight(self) -> InFlight:
        """Return messages in flight, none so far; use it as a context."""
        return InFlight(self.queues, self.clock, self.patiently)

    def redriver(
        self, in_flight: InFlight, *, rate: float | None, breaker: int, notify: Callable[[Explanation], None]
    ) -> Redrive:
        """Return a redrive of messages in flight."""
        tracker = OutcomeTracker(self.outcomes)
        return Redrive(in_flight, tracker, self.clock, self.patiently, rate=rate, breaker=breaker, notify=notify)

    def patiently(self, call: Callable[[], T]) -> T:
        """Make a call, and retry it while the connection is lost."""
        return patiently(call, clock=self.clock, rng=self.rng)

    def pick(self, dead_letters: Iterable[DeadLetter], id_: str) -> DeadLetter:
        """Return the one message with a message or event id; raise OperateError if there is none or more than one."""
        found = [each for each in dead_letters if has_id(each, id_)]
        if len(found) == 1:
            return found[0]
        if found:
            few = ", ".join(each.message_id for each in found[:4])
            raise OperateError(f"{len(found)} messages have the id {id_} ({few}). Use a whole message id")
        raise OperateError(f"no message has the id {id_}. `list` shows some ids of each group, `list --json` more")

    def digest(self, dead_letter: DeadLetter) -> MessageDigest:
        """Return what an audit record may hold of a message."""
        return dead_letter.digest(self.pseudonyms.digest)

    def begin(self, action: Action, reason: str, messages: Sequence[MessageDigest]) -> AuditedAction:
        """Write the record of an intended action."""
        return AuditedAction.begin(self.archive, self.clock, self._actor, action, reason, messages)

    def back_up(self, audited: AuditedAction, dead_letters: Sequence[DeadLetter]) -> str:
        """Keep messages complete, account ids included, for as long as the stack sets; return the key."""
        until = self.clock.now() + self.backup_retention
        body = "\n".join(map(backup_line, dead_letters)).encode()
        self.archive.keep(audited.backup_key, body, mode=self.lock_mode, until=until)
        return audited.backup_key

    @cached_property
    def _actor(self) -> Actor:
        # For a session, IAM's id is the part before the colon; for the root user, it is the account id.
        unique_id = redact(self.caller.user_id.partition(":")[0])
        return Actor(self.pseudonyms.principal(self.caller.arn), unique_id)


def open_context(stack: str, profile: str | None, region: str | None, poll: int) -> Context:
    """Find the resources of a stack with the operator's credentials.

    Raises OperateError if credentials, Region or stack are wrong.
    """
    try:
        session = boto3.Session(profile_name=profile, region_name=region)
        caller = session.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError, ValueError) as error:
        raise OperateError(f"cannot call AWS: {error}. Log in (aws sso login), or add --profile, --region") from error
    try:
        found = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except (BotoCoreError, ClientError) as error:
        raise OperateError(
            f"cannot read stack {stack} in {session.region_name} of account {caller['Account']}: {error}. "
            "Check account and Region, or add --profile, --region, --stack"
        ) from error
    outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
    try:
        return _context(_Clients(session), Caller(caller["Arn"], caller["UserId"]), outputs, parameters, poll)
    except KeyError as missing:
        raise OperateError(
            f"stack {stack} ({found['StackStatus']}) has no {missing.args[0]}: it is not an installation of "
            "Joinguard, or not deployed yet. Add --stack or --region, or run `make deploy`"
        ) from missing


class _Clients:
    """boto3 clients with the retries that people need."""

    def __init__(self, session: boto3.Session) -> None:
        self._session = session
        self._config = Config(
            retries={"mode": "standard", "total_max_attempts": 5}, user_agent_extra="joinguard-operate"
        )

    def __call__(self, service: str) -> Any:
        """Return a client of a service."""
        return self._session.client(service, config=self._config)  # type: ignore[call-overload]

    def organizations(self) -> Any:
        """Return a client that stays below the rate of Organizations, which the worker needs too."""
        adaptive = Config(retries={"mode": "adaptive", "total_max_attempts": 5})
        return self._session.client("organizations", config=self._config.merge(adaptive))


def _context(
    client: _Clients, caller: Caller, outputs: dict[str, str], parameters: dict[str, str], poll: int
) -> Context:
    sqs = client("sqs")
    organization_id = parameters["OrganizationId"]
    organizations = OrganizationsReaderApi(client.organizations())
    role = outputs.get("FunctionRole")
    return Context(
        queues=SqsDeadLetterQueues(
            sqs,
            {"dead letters": outputs["DeadLetterQueueUrl"], "undelivered": outputs["UndeliveredQueueUrl"]},
            outputs["QueueUrl"],
            poll=poll,
        ),
        moves=SqsMoves(sqs, outputs["DeadLetterQueueUrl"], outputs["QueueUrl"]),
        archive=S3Archive(client("s3"), outputs["EvidenceBucket"]),
        outcomes=OutcomesReader(client("dynamodb"), outputs["OutcomesTable"]),
        organizations=organizations,
        preflight=Preflight(
            organizations,
            IamPermissions(client("iam"), role) if role else None,
            Guardrails(tuple(each for each in outputs["PolicyIds"].split(",") if each)),
            organization_id,
            parameters["ManagementAccountId"],
            int(outputs["PoliciesPerAccount"]),
        ),
        pseudonyms=KmsPseudonyms(client("kms"), outputs["PseudonymKeyId"], organization_id),
        clock=SystemClock(),
        caller=caller,
        attachments_per_second=float(parameters["AttachmentsPerSecond"]),
        lock_mode=parameters["RetentionMode"],
        backup_retention=timedelta(days=int(outputs["BackupDays"])),
    )
