"""Deploy the main stack and the forwarder from a stage file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from handlers.core.guardrails.evaluate import Guardrails
from handlers.core.guardrails.facts import Fact
from handlers.operate.guardrails_files import lock_path
from infra.deploy import approving, created_policies, pseudonym_keys, stage_parameters
from infra.deploy.adopt import clashes
from infra.deploy.approving import Approval
from infra.deploy.build import ROOT, Architecture, Package, build
from infra.deploy.code import bucket_name, ensure_bucket, upload, upload_template
from infra.deploy.guardrails import compile_for, policy_arns, upload_guardrails
from infra.deploy.preflight import EVENT_REGIONS, Account, problems, read_account
from infra.deploy.stack import DeployError, Kind, Plan, Request, execute, find, listed, plan, prepare
from infra.deploy.template import load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from infra.deploy.adopt import Adoptions
    from infra.deploy.stages import Stage, Target
    from schemas.compiled_guardrails import CompiledGuardrails

_NO_APPROVAL: Final = Approval()
TEMPLATE: Final = ROOT / "infra" / "template.yaml"
#: What the description of a change set says: the digest of the plan, and the commit that the deployment was made of.
PLAN: Final = "guardrails plan "
COMMIT: Final = "commit "
AND: Final = "; "
FORWARDER: Final = ROOT / "infra" / "forwarder.yaml"
#: The facts that a call can change, by the parameter of both templates that makes their rules match the call.
_WATCHED: Final = {"WatchMoves": Fact.OUS, "WatchTags": Fact.TAGS}


def check(target: Target, template: Path = TEMPLATE) -> Account:
    """Run all checks before a deployment; raise DeployError listing every problem.

    Problems of the stage file are listed alone: AWS rejects a call with such a value, and the others would be lost.
    """
    loaded = load(template.read_text())
    stage_parameters.refuse(target.stage, loaded)
    account = read_account(target)
    found = [*problems(target, account)]
    # Otherwise CloudFormation finds them one after the other, each by a failed deployment.
    try:
        found += clashes(target, account, loaded)
        found += created_policies.problems(target.stage, loaded)
        found += pseudonym_keys.problems(target, account)
    except ClientError as error:
        found.append(
            f"cannot find out whether our names are taken and our keys exist: {error}; use credentials with this "
            "permission"
        )
    if found:
        raise DeployError(listed("the installation would not work yet:", found))
    return account


def files_of(stage: Stage, template: Path = TEMPLATE) -> list[Path]:
    """Return the files that decide what is deployed, besides the code."""
    document = [stage.document, lock_path(stage.document)] if stage.document else []
    return [each for each in (template, stage.file, *document) if each]


def build_for(stage: Stage, *, allow_dirty: bool) -> Package:
    """Build the zip for the stage's architecture, by default arm64."""
    architecture: Architecture = "x86_64" if stage.parameters.get("Architecture") == "x86_64" else "arm64"
    return build(architecture=architecture, allow_dirty=allow_dirty)


def parameters_for(
    target: Target,
    account: Account,
    package: Path,
    guardrails: CompiledGuardrails | None = None,
    approval: Approval = _NO_APPROVAL,
) -> dict[str, str | None]:
    """Upload the zip, the guardrails and the approved plan, and return the parameters of the main stack."""
    stage, s3 = target.stage, target.client("s3")
    bucket = stage.parameters.get("CodeBucket") or bucket_name(account.account_id, stage.region)
    ensure_bucket(s3, bucket, owner=account.account_id, region=stage.region)
    code = upload(s3, bucket, package.read_bytes(), "joinguard/{}.zip", owner=account.account_id)
    key = upload_guardrails(target, bucket, guardrails, owner=account.account_id) if guardrails else ""
    return {
        "OrganizationId": account.organization_id,
        "ManagementAccountId": account.management_account_id,
        "NameSuffix": stage.suffix,
        **stage.parameters,
        **watch_parameters(guardrails),
        "PolicyArns": ",".join(policy_arns(account, stage, guardrails)),
        "GuardrailsKey": key,
        **approving.parameters(target, bucket, approval, owner=account.account_id),
        "CodeBucket": code.bucket,
        "CodeKey": code.key,
        "CodeVersion": code.version,
    }


def plan_adoption(
    target: Target, account: Account, adoptions: Adoptions, parameters: Mapping[str, str | None], template: Path
) -> Plan | None:
    """Create a new stack's first change set, which imports existing resources and changes nothing."""
    whole = load(template.read_text())
    return plan(
        target.client("cloudformation"),
        Request(
            stack=target.stage.stack,
            kind="IMPORT",
            template_url=_uploaded(target, account, parameters, adoptions.template(whole)),
            parameters=parameters,
            imports=adoptions.imports(whole),
            tags=target.stage.tags,
            role_arn=target.stage.role_arn,
        ),
        poll_seconds=target.poll_seconds,
    )


def plan_main(  # noqa: PLR0913, PLR0917 - the parts of a change set
    target: Target,
    account: Account,
    parameters: Mapping[str, str | None],
    kind: Kind,
    template: Path = TEMPLATE,
    digest: str | None = None,
    commit: str | None = None,
) -> Plan | None:
    """Create the main stack's change set; return None if nothing would change.

    A creation leaves the outcomes table and the keys unprotected, because a failed creation deletes what it has made.
    `protect` protects them afterwards.
    """
    changed = {"DeletionProtection": "false"} if kind == "CREATE" else {}
    return plan(
        target.client("cloudformation"),
        Request(
            stack=target.stage.stack,
            kind=kind,
            template_url=_uploaded(target, account, parameters, template.read_text()),
            parameters={**parameters, **changed},
            # A later job that applies the change set records them.
            description=AND.join(f"{what}{value}" for what, value in ((PLAN, digest), (COMMIT, commit)) if value),
            tags=target.stage.tags,
            role_arn=target.stage.role_arn,
        ),
        poll_seconds=target.poll_seconds,
    )


def _uploaded(target: Target, account: Account, parameters: Mapping[str, str | None], template: str) -> str:
    """Upload a template next to the zip and return its URL."""
    return upload_template(target.client("s3"), parameters["CodeBucket"] or "", template, owner=account.account_id)


def protect(target: Target) -> None:
    """Protect the stack if the stage says so, and the outcomes table and the keys unless the stage says otherwise."""
    _protect_stack(target)
    if target.stage.parameters.get("DeletionProtection") == "false":
        return
    cloudformation, stack = target.client("cloudformation"), target.stage.stack
    found = find(cloudformation, stack)
    kept: dict[str, str | None] = dict.fromkeys(found.parameters if found else ())
    if found and found.parameters.get("DeletionProtection") == "true":
        return
    planned = plan(
        cloudformation,
        Request(
            stack=stack,
            kind="UPDATE",
            parameters={**kept, "DeletionProtection": "true"},
            tags=target.stage.tags,
            role_arn=target.stage.role_arn,
        ),
        poll_seconds=target.poll_seconds,
    )
    if planned:
        execute(cloudformation, planned, poll_seconds=target.poll_seconds)


def _protect_stack(target: Target) -> None:
    """Turn on the stack's termination protection if the stage says so; turning it off is left to a person."""
    cloudformation, name = target.client("cloudformation"), target.stage.stack
    stack = find(cloudformation, name)
    if target.stage.termination_protection and stack and not stack.protected:
        cloudformation.update_termination_protection(StackName=name, EnableTerminationProtection=True)


def event_region(account: Account) -> str:
    """Return the Region of the events, in which the forwarder is; raise DeployError if it is not known."""
    if account.partition not in EVENT_REGIONS:
        raise DeployError(f"partition {account.partition} is not supported: the Region of its events is not known")
    return EVENT_REGIONS[account.partition]


def plan_forwarder(target: Target, target_bus: str | None, log: Callable[[str], None]) -> tuple[str, Plan | None]:
    """Create the forwarder's change set in the Region of the events; return that Region and the plan.

    Without a target bus, an existing forwarder keeps its own, and a new one gets the stage's.
    """
    stage, account = target.stage, read_account(target)
    if not account.is_management:
        raise DeployError("the forwarder works only in the management account; use that account's credentials")
    region = event_region(account)
    cloudformation = target.client("cloudformation", region=region)
    existing = find(cloudformation, stage.forwarder)
    bus = target_bus or (existing.parameters.get("TargetBusArn") if existing else None)
    if account.receives_events and not bus:
        raise DeployError(f"stage {stage.name} is in {region}, where the events are; it needs no forwarder")
    own_bus = f"arn:{account.partition}:events:{stage.region}:{account.account_id}:event-bus/default"
    parameters = {**_shared_parameters(stage), **watch_parameters(compile_for(target, region, log))}
    planned = plan(
        cloudformation,
        Request(
            stack=stage.forwarder,
            kind=prepare(cloudformation, stage.forwarder, log=log, poll_seconds=target.poll_seconds),
            template=FORWARDER.read_text(),
            parameters={**parameters, "TargetBusArn": bus or own_bus, "NameSuffix": stage.suffix},
            tags=target.stage.tags,
            role_arn=target.stage.role_arn,
        ),
        poll_seconds=target.poll_seconds,
    )
    return region, planned


def watch_parameters(guardrails: CompiledGuardrails | None) -> dict[str, str]:
    """Return the parameters of both templates that follow from a document; none without a document."""
    if guardrails is None:
        return {}
    needed = Guardrails(guardrails).facts_needed
    return {parameter: str(fact in needed).lower() for parameter, fact in _WATCHED.items()}


def _shared_parameters(stage: Stage) -> dict[str, str]:
    """Return the stage's parameters that the forwarder has too, such as who gets the alarms."""
    declared = load(FORWARDER.read_text())["Parameters"]
    return {name: value for name, value in stage.parameters.items() if name in declared}
