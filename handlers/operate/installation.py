"""Find an installation by the name of its stack, and connect a context to it."""

from __future__ import annotations

from datetime import timedelta
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from handlers.aws.access_analyzer import AccessAnalyzer
from handlers.aws.dynamodb_outcomes import DynamoOutcomes
from handlers.aws.dynamodb_pauses import DynamoPauses
from handlers.aws.dynamodb_sweep import DynamoSweepStore
from handlers.aws.errors import error_code
from handlers.aws.eventbridge import EventBridgeBus
from handlers.aws.iam_permissions import IamPermissions
from handlers.aws.kms_pseudonyms import KmsPseudonyms
from handlers.aws.kms_signer import KmsSigner
from handlers.aws.lambda_sweep import LambdaSweep
from handlers.aws.organizations_in_bulk import ORGANIZATIONS_REGIONS, OrganizationInBulk
from handlers.aws.organizations_reader import OrganizationsReaderApi
from handlers.aws.s3_artifacts import S3Artifacts
from handlers.aws.s3_evidence import S3Archive
from handlers.aws.s3_verify import AT_ONCE, S3SealedBucket
from handlers.aws.sqs_moves import SqsMoves
from handlers.aws.sqs_operator import SqsDeadLetterQueues
from handlers.clock import SystemClock
from handlers.core.guardrails.approval import read_approved_plan
from handlers.core.guardrails.evaluate import Guardrails, Requirements
from handlers.core.guardrails.reading import read_or_unreadable
from handlers.core.guardrails.scope import Scope
from handlers.core.redrive.preflight import Preflight
from handlers.operate.completion import Seen
from handlers.operate.context import Caller, Context, InstalledLog, OrganizationContext
from handlers.operate.errors import NAME_YOUR_SESSION, NotInstalledError, OperateError
from handlers.operate.sweeping import InstalledSweep
from schemas.sweep import SweepMode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_sts.type_defs import GetCallerIdentityResponseTypeDef

    from schemas.plan import ApprovedPlan


def open_context(stack: str, profile: str | None, region: str | None, poll: int) -> Context:
    """Find the resources of a stack with the operator's credentials.

    Raises OperateError if credentials, Region or stack are wrong.
    """
    session, caller = _session(profile, region)
    try:
        found = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except (BotoCoreError, ClientError) as error:
        raise (NotInstalledError if _is_missing(error) else OperateError)(
            f"cannot read stack {stack} in {session.region_name} of account {caller['Account']}: {_stripped(error)}. "
            f"{_advice(error)}"
        ) from error
    outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
    try:
        who = Caller(caller["Arn"], caller["UserId"])
        return _context(_Clients(session), who, outputs, parameters, poll, Seen.of(stack))
    except KeyError as missing:
        # A change set that nobody executed makes a stack without anything in it.
        raise (NotInstalledError if found["StackStatus"] == "REVIEW_IN_PROGRESS" else OperateError)(
            f"stack {stack} ({found['StackStatus']}) has no {missing.args[0]}: it is not an installation of "
            "Joinguard, or not deployed yet. Add --stack or --region, or run `make deploy`"
        ) from missing


def open_organization(profile: str | None, region: str | None) -> OrganizationContext:
    """Reach the organization with the operator's credentials; raise OperateError if they or the Region are wrong."""
    session, caller = _session(profile, region)
    clock = SystemClock()
    accounts = OrganizationsReaderApi(_Clients(session).organizations())
    validator = AccessAnalyzer(_Clients(session)("accessanalyzer"))
    return OrganizationContext(organization_reader(session, clock), accounts, clock, caller["Account"], validator)


def organization_reader(session: boto3.Session, clock: SystemClock) -> OrganizationInBulk:
    """Return what reads the organization of a session's credentials in bulk."""
    # The reader makes the retries, so that it knows how fast it calls.
    once = Config(retries={"mode": "standard", "total_max_attempts": 1}, user_agent_extra="joinguard-operate")
    organizations = session.client("organizations", config=once)
    region = ORGANIZATIONS_REGIONS.get(organizations.meta.partition, session.region_name)
    tagging = session.client("resourcegroupstaggingapi", region_name=region, config=once)
    return OrganizationInBulk(organizations, tagging, clock, SystemRandom())


def _session(profile: str | None, region: str | None) -> tuple[boto3.Session, GetCallerIdentityResponseTypeDef]:
    try:
        session = boto3.Session(profile_name=profile, region_name=region)
        return session, session.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError, ValueError) as error:
        raise OperateError(f"cannot call AWS: {_stripped(error)}. {_advice(error)}") from error


def _is_missing(error: Exception) -> bool:
    # Invalid input has the same code.
    return isinstance(error, ClientError) and error_code(error) == "ValidationError" and "does not exist" in str(error)


def _stripped(error: Exception) -> str:
    return str(error).rstrip(".")


def _advice(error: Exception) -> str:
    """Return the next step after a call failed before the installation was found."""
    code = error_code(error)
    if isinstance(error, ClientError) and error.operation_name == "AssumeRole" and code in _ADVICE_TO_ASSUME:
        return _ADVICE_TO_ASSUME[code]
    return next((step for part, step in _ADVICE.items() if part in code), _DEFAULT_ADVICE)


#: The next step, by a part of AWS's code or of the name of botocore's error.
_ADVICE: Final[Mapping[str, str]] = {
    "ProfileNotFound": "Add --profile with a profile of your AWS configuration (`aws configure list-profiles`)",
    "ConfigParse": "Correct the file",
    "PartialCredentials": "Set both the access key ID and the secret access key, or use --profile",
    "NoCredentials": "Log in (aws sso login), or add --profile",
    "SSO": "Log in again (aws sso login)",
    "TokenRetrieval": "Log in again (aws sso login)",
    "Expired": "Log in again (aws sso login)",
    "InvalidClientTokenId": "The credentials are not valid. Log in again, or add --profile",
    "SignatureDoesNotMatch": "The secret access key is not valid. Log in again, or add --profile",
    "NoRegion": "Add --region",
    "InvalidRegion": "Correct --region",
    "Connect": "Check the network, the Region, and AWS_ENDPOINT_URL",
    "Proxy": "Check the proxy in HTTPS_PROXY",
    "SSLError": "Check the certificates in AWS_CA_BUNDLE",
    "AccessDenied": "Use the stack's role OperatorReads to read and OperatorActs to act, or add --profile",
    # CloudFormation's code for a stack that does not exist.
    "ValidationError": "Add --stack, --region or --profile, or run `make deploy`",
    "ValueError": "Correct AWS_ENDPOINT_URL",
}
#: The next step, by the code of AWS, if a profile cannot assume its role.
_ADVICE_TO_ASSUME: Final[Mapping[str, str]] = {
    "AccessDenied": (
        "The stack's roles refuse generated names of sessions, and those whom neither OperatorPrincipalArn nor IAM "
        f"allows. {NAME_YOUR_SESSION}, or add --profile with another profile"
    ),
    # The duration exceeds the role's.
    "ValidationError": "Remove duration_seconds from the profile: sessions of the stack's roles last an hour",
}
_DEFAULT_ADVICE: Final = "Run the command again; if it fails again, look up this error"


#: The outputs of the stack with the roles that people assume.
_ROLES: Final = ("OperatorReads", "OperatorActs", "Resolver")
#: Seconds: Lambda ends an invocation after at most 15 minutes.
_LONGEST_CALL: Final = 930


class _Clients:
    """boto3 clients with the retries that people need."""

    def __init__(self, session: boto3.Session) -> None:
        self._session = session
        self._config = Config(
            retries={"mode": "standard", "total_max_attempts": 5}, user_agent_extra="joinguard-operate"
        )

    def __call__(self, service: str, region: str | None = None) -> Any:
        """Return a client of a service in a Region, or in the session's."""
        return self._session.client(service, region_name=region, config=self._config)  # type: ignore[call-overload]

    def patient(self, service: str) -> Any:
        """Return a client for a call that takes as long as an invocation of a function can, and is made once."""
        once = Config(read_timeout=_LONGEST_CALL, tcp_keepalive=True, retries={"total_max_attempts": 1})
        return self._session.client(service, config=self._config.merge(once))  # type: ignore[call-overload]

    def parallel(self, service: str, calls: int) -> Any:
        """Return a client that makes several calls at the same time."""
        pool = Config(max_pool_connections=calls)
        return self._session.client(service, config=self._config.merge(pool))  # type: ignore[call-overload]

    def organizations(self) -> Any:
        """Return a client that stays below the rate of Organizations, which the worker needs too."""
        adaptive = Config(retries={"mode": "adaptive", "total_max_attempts": 5})
        return self._session.client("organizations", config=self._config.merge(adaptive))


def _context(  # noqa: PLR0913, PLR0917 - the parts of an installation
    client: _Clients, caller: Caller, outputs: dict[str, str], parameters: dict[str, str], poll: int, seen: Seen
) -> Context:
    sqs, clock = client("sqs"), SystemClock()
    requirements = Requirements(
        _guardrails(client, outputs, parameters),
        parameters["OrganizationId"],
        parameters["ManagementAccountId"],
        # Stacks of earlier versions have no such parameter, and attach to every account.
        Scope.parse(parameters.get("AttachTo", "all")),
        removes=parameters.get("RemovePolicies") == "true",
    )
    organizations = OrganizationsReaderApi(client.organizations())
    dynamodb = client("dynamodb")
    role, reconciliation = outputs.get("FunctionRole"), outputs.get("ReconciliationTable")
    return Context(
        queues=SqsDeadLetterQueues(
            sqs,
            {"dead letters": outputs["DeadLetterQueueUrl"], "undelivered": outputs["UndeliveredQueueUrl"]},
            outputs["QueueUrl"],
            repairs_url=outputs.get("RepairsQueueUrl", ""),
            poll=poll,
        ),
        bus=EventBridgeBus(lambda region: client("events", region)),
        moves=SqsMoves(sqs, outputs["DeadLetterQueueUrl"], outputs["QueueUrl"]),
        archive=S3Archive(client("s3"), outputs["EvidenceBucket"]),
        outcomes=DynamoOutcomes(dynamodb, outputs["OutcomesTable"]),
        organizations=organizations,
        preflight=Preflight(
            organizations,
            IamPermissions(client("iam"), role) if role else None,
            requirements,
            int(outputs["PoliciesPerAccount"]),
            clock,
            lambda: _approved_plan(client, parameters, clock),
        ),
        pseudonyms=KmsPseudonyms(
            client("kms"), outputs["PseudonymKeyId"], requirements.organization_id, former_keys(parameters)
        ),
        requirements=requirements,
        clock=clock,
        caller=caller,
        attachments_per_second=float(parameters["AttachmentsPerSecond"]),
        lock_mode=parameters["RetentionMode"],
        backup_retention=timedelta(days=int(outputs["BackupDays"])),
        seen=seen,
        sweep=InstalledSweep(
            DynamoSweepStore(dynamodb, outputs["ReconciliationTable"]),
            LambdaSweep(client.patient("lambda"), outputs["SweepFunction"]),
            SweepMode(parameters["Sweep"]),
            timedelta(minutes=float(parameters["SweepMinutes"])),
        )
        if "SweepFunction" in outputs
        else None,
        has_repairs="RepairsQueueUrl" in outputs,
        pauses=DynamoPauses(dynamodb, reconciliation) if reconciliation else None,
        roles=[outputs[each] for each in _ROLES if each in outputs],
        log=InstalledLog(
            outputs["LogName"],
            S3SealedBucket(client.parallel("s3", AT_ONCE), outputs["EvidenceBucket"], outputs.get("DataKeyArn")),
            KmsSigner(client("kms"), outputs["SealKeyId"]).public_key,
        )
        if "SealKeyId" in outputs
        else None,
        artifacts=S3Artifacts(client("s3"), parameters["CodeBucket"]) if "CodeBucket" in parameters else None,
    )


def former_keys(parameters: Mapping[str, str]) -> list[str]:
    """Return the ARNs of the keys that pseudonyms were derived from before, by the parameters of a stack or stage."""
    return [each for each in parameters.get("FormerPseudonymKeyArns", "").split(",") if each]


def _approved_plan(client: _Clients, parameters: Mapping[str, str], clock: SystemClock) -> ApprovedPlan | None:
    """Return the plan that is approved today; raise JoinguardError if it cannot be read."""
    key, until = parameters.get("ApprovedPlanKey"), parameters.get("ApprovedPlanUntil", "")
    if not key or clock.now().date().isoformat() > until:
        return None
    return read_approved_plan(S3Artifacts(client("s3"), parameters["CodeBucket"]), key)


def _guardrails(client: _Clients, outputs: Mapping[str, str], parameters: Mapping[str, str]) -> Guardrails:
    """Return the guardrails in force. Stacks of earlier versions have only the short form."""
    if not (key := parameters.get("GuardrailsKey")):
        return Guardrails.for_everyone(each for each in outputs["PolicyIds"].split(",") if each)
    return read_or_unreadable(S3Artifacts(client("s3"), parameters["CodeBucket"]), key)
