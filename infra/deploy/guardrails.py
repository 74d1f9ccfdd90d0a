"""Deploy a stage's guardrails: compile its document, or take the short form, and say which policies they name."""

from __future__ import annotations

from datetime import UTC, datetime
from random import SystemRandom
from typing import TYPE_CHECKING, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from handlers.aws.organizations_in_bulk import OrganizationInBulk
from handlers.aws.organizations_reader import OrganizationsReaderApi
from handlers.aws.s3_artifacts import S3Artifacts
from handlers.clock import SystemClock
from handlers.core.errors import Cause, JoinguardError, PermanentError
from handlers.core.guardrails.compile import compiled
from handlers.core.guardrails.evaluate import Guardrails
from handlers.core.guardrails.names import read_names
from handlers.core.guardrails.reading import GUARDRAILS_KEY, read_guardrails
from handlers.core.guardrails.scope import Scope
from handlers.operate.context import OrganizationContext
from handlers.operate.errors import OperateError
from handlers.operate.guardrails_document import load
from handlers.operate.guardrails_files import confirmed_lock, lock_path
from handlers.operate.hints import as_typed
from handlers.operate.planning import InForce, live_report
from infra.deploy.code import upload
from infra.deploy.stack import DeployError, find, outputs
from schemas.compiled_guardrails import for_everyone

if TYPE_CHECKING:
    from collections.abc import Callable

    from handlers.operate.plan_output import Report
    from infra.deploy.preflight import Account
    from infra.deploy.stages import Stage, Target
    from schemas.compiled_guardrails import CompiledGuardrails

#: The length of a parameter's value that CloudFormation allows.
_MAX_PARAMETER: Final = 4096
#: The template's default of AttachmentsPerSecond.
_RATE: Final = "2"


def compile_for(target: Target, event_region: str, warn: Callable[[str], None]) -> CompiledGuardrails | None:
    """Return the compiled document of a stage, or None if the stage has none.

    Raises DeployError naming every mistake, and everything that changed since its lock file was made.
    """
    path = target.stage.document
    if path is None:
        return None
    reader = _reader(target, event_region)
    try:
        loaded = load(path, datetime.now(UTC))
        root = reader.root()
        lock = confirmed_lock(loaded, lock_path(path), read_names(reader, loaded.document))
    except (OperateError, JoinguardError, BotoCoreError, ClientError) as error:
        raise DeployError(as_typed(str(error), target.stage.name)) from error
    for each in loaded.notes:
        warn(str(each))
    removing = [each.id for each in loaded.document.rules if each.when_no_longer == "remove"]
    if removing and not target.stage.removes:
        warn(
            f"rules with when_no_longer: remove ({', '.join(removing)}) remove nothing, because RemovePolicies is not "
            f'"true" in stage {target.stage.name}'
        )
    if disabled := sorted({each.type for each in lock.policies} - root.policy_types):
        raise DeployError(
            f"the policy type {', '.join(disabled)} is not enabled in the organization; enable it (aws organizations "
            f"enable-policy-type --root-id {root.id} --policy-type {disabled[0]})"
        )
    return compiled(loaded.document, lock)


def refuse_to_drop(target: Target) -> None:
    """Raise DeployError if the stack has the guardrails of a document, and the stage has no document any more."""
    stage = target.stage
    stack = find(target.client("cloudformation"), stage.stack)
    if stage.document is None and stack and stack.parameters.get("GuardrailsKey"):
        raise DeployError(
            f"stack {stage.stack} has the guardrails of a document, and stage {stage.name} has no document: its worker "
            f"would attach the policies of PolicyIds or CreatePolicies to every account instead. Restore the document "
            f"(guardrails/{stage.name}.yaml beside the folder of the stage's file), or add --without-guardrails"
        )


def report_for(  # noqa: PLR0913 - what a plan depends on
    target: Target,
    event_region: str,
    account_id: str,
    guardrails: CompiledGuardrails | None,
    warn: Callable[[str], None],
    *,
    anew: bool = False,
) -> Report | None:
    """Plan a stage's document against the organization.

    Returns None if the guardrails are in force already, and the stage removes nothing or removes it as the stack does,
    unless the plan is to be made anew. Raises DeployError if the plan shows what has to be corrected first.
    """
    if guardrails is None or target.stage.document is None:
        return None
    before = to_be_replaced(target, warn)
    if before and before.sha256 == guardrails.sha256() and not anew and not _removes_otherwise(target):
        return None
    organizations = target.client("organizations")
    context = OrganizationContext(
        _reader(target, event_region), OrganizationsReaderApi(organizations), SystemClock(), account_id
    )
    rate = float(target.stage.parameters.get("AttachmentsPerSecond", _RATE))
    try:
        report = live_report(
            target.stage.document,
            InForce(before.document if before else None, rate, target.stage.scope, removes=target.stage.removes),
            context,
        )
    except (OperateError, JoinguardError, BotoCoreError, ClientError) as error:
        raise DeployError(as_typed(str(error), target.stage.name)) from error
    if report.problems:
        raise DeployError("\n".join(map(str, report.problems)))
    return report


def _removes_otherwise(target: Target) -> bool:
    """Return whether the stage removes policies, and its stack does not, or from other accounts."""
    if not target.stage.removes:
        return False
    stack = find(target.client("cloudformation"), target.stage.stack)
    deployed = stack.parameters if stack else {}
    scope = Scope.parse(deployed.get("AttachTo", "all"))
    return deployed.get("RemovePolicies") != "true" or scope != target.stage.scope


def to_be_replaced(target: Target, warn: Callable[[str], None]) -> Guardrails | None:
    """Return the guardrails in force, or None if there are none, or none that can be used any more.

    Raises DeployError if AWS does not answer. What is gone or was replaced is no error, because this deployment uploads
    it again: the worker's own error says to deploy.
    """
    try:
        return in_force(target)
    except JoinguardError as error:
        if not (isinstance(error, PermanentError) or error.cause is Cause.NOT_FOUND):
            raise DeployError(f"cannot read the guardrails in force: {error}; use credentials that may") from error
        warn(f"the guardrails in force cannot be read, so the plan compares with none: {error.fault.message}")
        return None


def in_force(target: Target) -> Guardrails | None:
    """Return the guardrails of the stage's stack, or of its short form.

    Returns None if there is no worker, or the stack is being changed. Raises JoinguardError if they cannot be read.
    """
    cloudformation = target.client("cloudformation")
    stack = find(cloudformation, target.stage.stack)
    if stack is None or stack.meaning.step != "update":
        return None
    made = outputs(cloudformation, target.stage.stack)
    # A stack that has only adopted resources has no worker yet.
    if "OutcomesTable" not in made:
        return None
    if key := stack.parameters.get("GuardrailsKey"):
        return read_guardrails(S3Artifacts(target.client("s3"), stack.parameters["CodeBucket"]), key)
    return Guardrails.for_everyone(filter(None, made.get("PolicyIds", "").split(",")))


def _reader(target: Target, event_region: str) -> OrganizationInBulk:
    # The reader makes the retries, so that it knows how fast it calls.
    once = Config(retries={"mode": "standard", "total_max_attempts": 1})
    return OrganizationInBulk(
        target.client("organizations", config=once),
        target.client("resourcegroupstaggingapi", region=event_region, config=once),
        SystemClock(),
        SystemRandom(),
    )


def upload_guardrails(target: Target, bucket: str, guardrails: CompiledGuardrails, *, owner: str) -> str:
    """Upload compiled guardrails and return their key, which has their SHA-256."""
    content = guardrails.canonical()
    return upload(target.client("s3"), bucket, content, GUARDRAILS_KEY, owner=owner).key


def guardrails_key(guardrails: CompiledGuardrails) -> str:
    """Return the key under which compiled guardrails are uploaded."""
    return GUARDRAILS_KEY.format(guardrails.sha256())


def policy_arns(account: Account, stage: Stage, guardrails: CompiledGuardrails | None) -> list[str]:
    """Return the ARNs of the policies that a stage's worker may attach; none if the stack creates them.

    Raises DeployError if they do not fit in a parameter.
    """
    named = (guardrails or for_everyone(tuple(stage.policy_ids))).policies
    prefix = f"arn:{account.partition}:organizations::{account.management_account_id}:policy/{account.organization_id}"
    arns = [f"{prefix}/{each.type.lower()}/{each.id}" for each in named]
    if len(",".join(arns)) > _MAX_PARAMETER:
        fitting = _MAX_PARAMETER // (len(arns[0]) + 1)
        raise DeployError(
            f"the guardrails name {len(arns)} policies, and their ARNs do not fit in a parameter of CloudFormation, "
            f"which takes about {fitting}; merge policies"
        )
    return arns
