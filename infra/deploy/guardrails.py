"""Deploy a stage's guardrails: compile its document, or take the short form, and say which policies they name."""

from __future__ import annotations

from datetime import UTC, datetime
from random import SystemRandom
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from handlers.aws.organizations_in_bulk import OrganizationInBulk
from handlers.clock import SystemClock
from handlers.core.errors import JoinguardError
from handlers.core.guardrails.compile import compiled
from handlers.core.guardrails.names import read_names
from handlers.operate.errors import OperateError
from handlers.operate.guardrails_document import load
from handlers.operate.guardrails_files import confirmed_lock, lock_path
from infra.deploy.code import upload
from infra.deploy.stack import DeployError
from schemas.compiled_guardrails import for_everyone

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.deploy.preflight import Account
    from infra.deploy.stages import Stage, Target
    from schemas.compiled_guardrails import CompiledGuardrails

#: The length of a parameter's value that CloudFormation allows.
_MAX_PARAMETER: Final = 4096


def compile_for(target: Target, event_region: str, warn: Callable[[str], None]) -> CompiledGuardrails | None:
    """Return the compiled document of a stage, or None if the stage has none.

    Raises DeployError naming every mistake, and everything that changed since its lock file was made.
    """
    path = target.stage.document
    if path is None:
        return None
    reader = OrganizationInBulk(
        target.client("organizations"),
        target.client("resourcegroupstaggingapi", region=event_region),
        SystemClock(),
        SystemRandom(),
    )
    try:
        loaded = load(path, datetime.now(UTC))
        root = reader.root()
        lock = confirmed_lock(loaded, lock_path(path), read_names(reader, loaded.document))
    except (OperateError, JoinguardError, BotoCoreError, ClientError) as error:
        raise DeployError(str(error)) from error
    for each in loaded.notes:
        warn(str(each))
    if disabled := sorted({each.type for each in lock.policies} - root.policy_types):
        raise DeployError(
            f"the policy type {', '.join(disabled)} is not enabled in the organization; enable it (aws organizations "
            f"enable-policy-type --root-id {root.id} --policy-type {disabled[0]})"
        )
    return compiled(loaded.document, lock)


def upload_guardrails(target: Target, bucket: str, guardrails: CompiledGuardrails, *, owner: str) -> str:
    """Upload compiled guardrails and return their key, which has their SHA-256."""
    content = guardrails.canonical()
    return upload(target.client("s3"), bucket, content, "joinguard/guardrails/{}.json", owner=owner).key


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
