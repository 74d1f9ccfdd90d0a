"""Deploy and operate a Joinguard installation. Each command has a Make target."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import boto3
import click
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError, ProfileNotFound
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from handlers.operate.errors import INTERRUPTED
from handlers.operate.plan_output import summary
from infra.deploy import approving, created_policies, delegation, destroying, following, installing, keys
from infra.deploy.adopt import find_adoptions
from infra.deploy.build import ROOT, RUNTIME, Architecture, build
from infra.deploy.drift import NOTHING_DIFFERS, plan_restore
from infra.deploy.guardrails import compile_for, guardrails_key, refuse_to_drop, report_for
from infra.deploy.health import Check, check_subscribers, checks
from infra.deploy.health.table import print_checks
from infra.deploy.preflight import read_account, warnings
from infra.deploy.recording import record_configuration
from infra.deploy.removing import stop_before
from infra.deploy.sources import BuildError, commit_of
from infra.deploy.stack import DeployError, Plan, discard, execute, find, outputs, prepare, read_plan
from infra.deploy.stages import Stage, Target, load_stage
from infra.deploy.template import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from handlers.operate.plan_output import Report
    from infra.deploy.adopt import Adoptions
    from infra.deploy.preflight import Account

stderr = Console(stderr=True, soft_wrap=True)
# A pipe has no width of its own.
stdout = Console(width=None if sys.stdout.isatty() else 120)

_COLOURS = {"Add": "green", "Import": "green", "Modify": "yellow", "Remove": "red"}


#: Parts of the codes of AWS's errors, and what to do about them.
_NEXT_STEPS = {
    "AccessDenied": "Use credentials with this permission",
    "UnauthorizedOperation": "Use credentials with this permission",
    "ExpiredToken": "Log in again (aws sso login)",
    "UnrecognizedClient": "Log in (aws sso login) or set AWS_PROFILE",
    "InvalidClientToken": "Log in (aws sso login) or set AWS_PROFILE",
    "SignatureDoesNotMatch": "Log in (aws sso login) or set AWS_PROFILE",
    "Throttling": "Wait a minute, then try again",
    "TooManyRequests": "Wait a minute, then try again",
    "RequestLimitExceeded": "Wait a minute, then try again",
}


def next_step(error: BotoCoreError | ClientError) -> str:
    """Return what to do about an error of AWS, as far as its kind decides it."""
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        step = next((step for part, step in _NEXT_STEPS.items() if part in code), None)
        return step or f"AWS does not accept the call {error.operation_name}; correct what its message names"
    if isinstance(error, (NoCredentialsError, ProfileNotFound)):
        return "Log in (aws sso login) or set AWS_PROFILE"
    if isinstance(error, HTTPClientError):
        return "Check the network, the proxy and the Region, then try again"
    return "Correct the AWS settings that the message names"


class Commands(click.Group):
    """Commands that report a failure in one line and exit with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; print an error of AWS or the build without a traceback."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            stderr.print("interrupted")
            raise click.exceptions.Exit(INTERRUPTED) from None
        except (DeployError, BuildError) as error:
            raise click.ClickException(str(error)) from error
        except (BotoCoreError, ClientError) as error:
            raise click.ClickException(f"{str(error).rstrip('.')}. {next_step(error)}") from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Deploy and operate a Joinguard installation.

    Credentials and endpoints come from AWS's standard settings (AWS_PROFILE, AWS_ENDPOINT_URL, …). The Region
    and the parameters come from the stage, a file in infra/stages.
    """


def staged(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option --stage to a command and pass it the target: the stage and a session."""

    @click.option("--stage", default="prod", show_default=True, metavar="NAME", help="A file in infra/stages.")
    # Tests poll more often.
    @click.option("--pause", "poll_seconds", default=5, hidden=True, type=click.IntRange(1, 60))
    @wraps(command)
    def targeted(stage: str, poll_seconds: int, **options: Any) -> None:
        command(Target(boto3.Session(), load_stage(stage), poll_seconds), **options)

    return targeted


without_asking = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
from_working_tree = click.option(
    "--allow-dirty", is_flag=True, help="Build from the working tree instead of the commit."
)


@cli.command("build")
@click.option("--architecture", type=click.Choice(get_args(Architecture)), default="arm64", show_default=True)
@click.option("--python-version", default=RUNTIME, show_default=True, help="The runtime's Python version.")
@from_working_tree
def build_zip(architecture: Architecture, python_version: str, *, allow_dirty: bool) -> None:
    """Build the function's zip reproducibly from the commit and the lock file, without Docker."""
    package = build(python_version=python_version, architecture=architecture, allow_dirty=allow_dirty)
    digest = hashlib.sha256(package.path.read_bytes()).hexdigest()
    click.echo(f"{package.path.relative_to(ROOT)}  {package.path.stat().st_size:,} bytes  sha256 {digest}")
    if not package.compiled_by:
        stderr.print(
            f"Python {python_version} was not found, so the zip has no .pyc files and the function starts more "
            f"slowly. To include them, put python{python_version} on PATH and build again."
        )


@cli.command()
@staged
@without_asking
@from_working_tree
@click.option("--without-guardrails", "drop", is_flag=True, help="Replace a document by the stage's policies.")
@click.option("--fresh", is_flag=True, help="Make new resources, instead of adopting what an earlier stack kept.")
@click.option("--plan-only", is_flag=True, help="Print the id of the change set, and do not execute it.")
@click.option("--reason", default="", help="Why; in the record of the configuration in force.")
@click.option("--record", is_flag=True, help="Record the configuration in force, although nothing changes.")
@click.option(
    "--approve",
    type=approving.Digest(),
    help="Approve the plan with this digest, which removes more than limits.removals.",
)
@click.option("--apply", "change_set", metavar="PLAN", help="Execute a change set that --plan-only has made.")
@click.option(
    "--template", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=installing.TEMPLATE, hidden=True
)
def deploy(  # noqa: PLR0913 - its options
    target: Target, change_set: str | None, *, yes: bool, plan_only: bool, record: bool, reason: str, **options: Any
) -> None:
    """Check the account, show the changes, ask for confirmation, deploy, and print the stack's outputs.

    If an earlier stack of this name was deleted, the new one adopts what it kept.
    """
    stage = target.stage
    if plan_only and change_set:
        raise click.UsageError("--plan-only and --apply exclude each other; use one of them")
    if change_set and options["approve"]:
        raise click.UsageError("--apply executes a change set as it was approved; use --approve with --plan-only")
    # Adopting resources takes a change set of its own.
    remaining = True
    while remaining:
        made = _Made(_checked_plan(target, change_set)) if change_set else _plan(target, **options)
        planned = made.planned
        if plan_only:
            _show(made)
            click.echo(planned.change_set if planned else "", nl=planned is not None)
            return
        _say_approval(made)
        _confirm_and_execute(target, stage.region, planned, yes=yes)
        remaining = planned is not None and planned.kind == "IMPORT" and not change_set
    if planned and planned.kind == "IMPORT":
        stderr.print("the stack has adopted what exists; next: --plan-only again, for the rest of the template")
        return
    with stderr.status("protecting the stack and the outcomes table"):
        installing.protect(target)
    if planned or record:
        key = record_configuration(target, reason, planned)
        stderr.print(f"the configuration in force is on record: {key}")
    _report_installed(target, made)


def _report_installed(target: Target, made: _Made) -> None:
    """Print what is approved, the stack's outputs, and the next step."""
    stage = target.stage
    if made.approved:
        stderr.print(made.approved)
    table = Table("output", "value", title=f"Stack {stage.stack}")
    for name, value in sorted(_outputs(target).items()):
        table.add_row(name, value)
    stdout.print(table)
    _warn_if_not_well(check_subscribers(target))
    stderr.print(
        f"next: {following.next_step(stage, made.report)}; check the installation with `make status STAGE={stage.name}`"
    )


@cli.command()
@staged
@without_asking
@click.option("--target-bus", metavar="ARN", help="The default event bus of a delegated administrator's account.")
def forwarder(target: Target, target_bus: str | None, *, yes: bool) -> None:
    """Forward join events to a stage in another Region or account."""
    with stderr.status("creating the change set"):
        region, planned = installing.plan_forwarder(target, target_bus, stderr.print)
    _confirm_and_execute(target, region, planned, yes=yes)
    _warn_if_not_well(check_subscribers(target, forwarder_in=region))
    stderr.print(f"next: `make deploy STAGE={target.stage.name}`")


@cli.command("revert-drift")
@staged
@without_asking
@click.option("--forwarder", "of_forwarder", is_flag=True, help="Restore the forwarder's resources, not the stage's.")
def revert_drift(target: Target, *, yes: bool, of_forwarder: bool) -> None:
    """Restore resources that were changed or deleted by hand, as the deployed template has them."""
    stage = target.stage
    name, region = stage.stack, stage.region
    if of_forwarder:
        name, region = stage.forwarder, installing.event_region(read_account(target))
    with stderr.status("comparing the resources with the template"):
        cloudformation = target.client("cloudformation", region=region)
        planned = plan_restore(cloudformation, name, poll_seconds=target.poll_seconds)
    if planned is None:
        stderr.print(NOTHING_DIFFERS)
        return
    _confirm_and_execute(target, region, planned, yes=yes)
    stderr.print(f"next: `make status STAGE={stage.name}`")


@cli.command("delegation-policy")
@staged
@click.option("--administrator", required=True, metavar="ACCOUNT", help="The member account to run Joinguard in.")
def delegation_policy(target: Target, administrator: str) -> None:
    """Print the organization's resource policy with statements that let a member account attach the stage's policies.

    The organization has only one resource policy, so the statements are merged into the present one.
    """
    stage = target.stage
    if not stage.policy_ids and not stage.document:
        raise DeployError(f"stage {stage.name} names no policies; set PolicyIds, which limits the resource policy")
    account = read_account(target)
    present = delegation.read_policy(target.client("organizations"))
    guardrails = compile_for(target, installing.event_region(account), _note)
    merged = delegation.merge(present, delegation.statements(account, stage, administrator, guardrails))
    text = delegation.text_of(merged)
    changes = delegation.difference(present, merged)
    click.echo("\n".join(changes) if changes else "the organization's resource policy has these statements", err=True)
    click.echo(text)
    if changes:
        stderr.print(
            "next: write the output to a file, compare, and set it in the management account, before somebody else "
            "changes the present policy: aws organizations put-resource-policy --content file://FILE",
            highlight=False,
        )


@cli.command()
@staged
@click.option("--all", "everything", is_flag=True, help="Show the checks that are well, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all checks.")
def status(target: Target, *, everything: bool, as_json: bool) -> None:
    """Check the installation, and show what is not well; exit with status 1 if something needs an operator."""
    with stderr.status("checking the installation"):
        found = checks(target)
    if as_json:
        click.echo(json.dumps([check.fields() for check in found]))
    else:
        print_checks(f"Joinguard, stage {target.stage.name}", found, everything=everything)
    sys.exit(max(check.exit_status for check in found))


@cli.command()
@staged
@click.option("--since", default=60, show_default=True, type=click.IntRange(1), metavar="MINUTES")
@click.option("--find", default="", metavar="TEXT", help="Only lines that contain this text, such as an event id.")
def logs(target: Target, since: int, find: str) -> None:
    """Print the worker's log: one JSON line per record."""
    group = _outputs(target)["LogGroup"]
    begin = int((datetime.now(UTC) - timedelta(minutes=since)).timestamp() * 1000)
    for page in target.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group, startTime=begin):
        for event in page["events"]:
            for line in event["message"].splitlines():
                if find in line:
                    click.echo(line)


@cli.command()
@staged
@click.option("--confirm", is_flag=True, help="Delete the stack; without it, the command changes nothing.")
@click.option("--reason", metavar="TEXT", help="Why the installation is deleted; needed with --confirm.")
@click.option("--discard-joins", is_flag=True, help="Delete joins, repairs and removals that wait, too.")
@click.option("--delete-keys", is_flag=True, help="Delete the keys of a temporary stage after 30 days, too.")
@click.option("--drain", "drain_seconds", default=300, hidden=True, type=click.IntRange(0))
def destroy(target: Target, reason: str | None, *, confirm: bool, delete_keys: bool, **options: Any) -> None:
    """Show what deleting the stack deletes and keeps, and why. Delete it with --confirm and --reason.

    Stops the intake first, and refuses while joins wait.
    """
    installed = destroying.read_installed(target)
    ending = keys.keys_to_delete(target.stage, installed) if delete_keys else {}
    order = destroying.Order((reason or "").strip(), keys=ending, **options)
    fates = destroying.fates(installed, installing.TEMPLATE, order.keys)
    _show_fates(target, fates)
    counts = destroying.listed(destroying.waiting(target, installed))
    stderr.print(f"messages: {counts}. Policies stay attached to the accounts that have them")
    if not (confirm and order.reason):
        if not ending and keys.is_temporary(target.stage, installed) and keys.kept_keys(installed):
            stderr.print("each kept key costs money; --delete-keys deletes the keys after 30 days")
        deleted = len([fate for fate in fates if not fate.kept])
        stderr.print(
            f'{deleted} resources would be deleted. Nothing was changed; to delete, add --confirm --reason "…"'
        )
        return
    group = destroying.carry_out(target, installed, fates, order, stderr.print)
    _report_destroyed(target.stage, order, group)


def _show_fates(target: Target, fates: list[destroying.Fate]) -> None:
    """Print what happens to each resource, and to what is not in the stack."""
    identity = target.client("sts").get_caller_identity()
    others = destroying.besides(target, identity["Account"], identity["Arn"].split(":")[1])
    table = Table("what happens", "id", "why", title=f"If stack {target.stage.stack} is deleted")
    for fate in [*fates, *others]:
        colour = "green" if fate.outcome == "kept" else "red"
        table.add_row(f"[{colour}]{fate.outcome}[/] {fate.name}", fate.resource_id, fate.why)
    # A narrow terminal cuts neither a name nor an id.
    table.columns[0].no_wrap, table.columns[1].overflow = True, "fold"
    stdout.print(table)


def _report_destroyed(stage: Stage, order: destroying.Order, group: str | None) -> None:
    """Print what was done, and how to undo what can be undone."""
    recorded = f" The record is in log group {group}." if group else ""
    stderr.print(
        f"stack {stage.stack} is deleted ({escape(order.reason)}); accounts that join from now on do not get the "
        f"policies.{recorded} A later `make deploy STAGE={stage.name}` adopts what is kept"
    )
    if order.keys:
        stderr.print(
            f"the keys are deleted after {keys.WAITING_DAYS} days. Until then, nobody can read what they encrypt, the "
            "record included. To undo it, run aws kms cancel-key-deletion and enable-key for each: "
            f"{', '.join(order.keys.values())}"
        )


def _warn_if_not_well(check: Check) -> None:
    if not check.well:
        stderr.print(f"[yellow]warning: {escape(check.found)}; {escape(check.next_step)}")


def _outputs(target: Target) -> dict[str, str]:
    stage, cloudformation = target.stage, target.client("cloudformation")
    if find(cloudformation, stage.stack) is None:
        raise DeployError(f"there is no stack {stage.stack} in {stage.region}; run `make deploy STAGE={stage.name}`")
    return outputs(cloudformation, stage.stack)


@dataclass(frozen=True)
class _Made:
    """What a deployment carries out: a change set, or None if nothing would change, and the plan behind it."""

    planned: Plan | None
    report: Report | None = None
    approval: approving.Approval = field(default_factory=approving.Approval)

    @property
    def approved(self) -> str:
        """What is approved, in words; of a change set that was made earlier, only its parameters say it."""
        return str(self.approval) or (approving.put_in_force(self.planned.parameters) if self.planned else "")


def _plan(  # noqa: PLR0913 - the options of deploy
    target: Target, *, template: Path, allow_dirty: bool, fresh: bool, drop: bool, approve: str | None
) -> _Made:
    """Check the account, plan the guardrails, build the zip, and create the stack's next change set."""
    stage, cloudformation = target.stage, target.client("cloudformation")
    approving.refuse_without_removals(stage, approve)
    with stderr.status("checking the account and the organization"):
        if not drop:
            refuse_to_drop(target)
        account = installing.check(target, template)
        found = [*warnings(target, account), *created_policies.findings(target, load(template.read_text()))]
    for each in found:
        stderr.print(f"[yellow]warning: {escape(each)}")
    stderr.print(f"stage {stage.name}: organization {account.organization_id}, {stage.region}, stack {stage.stack}")
    commit = None if allow_dirty else commit_of(ROOT, installing.files_of(stage, template))
    region = installing.event_region(account)
    with stderr.status("comparing the guardrails with their lock file"):
        compiled = compile_for(target, region, _note)
    if report := report_for(target, region, account.account_id, compiled, _note, anew=bool(approve)):
        _report_plan(target, account, report)
    approval = approving.approve(target, report, approve, _note)
    with stderr.status("building the zip"):
        package = installing.build_for(stage, allow_dirty=allow_dirty)
    stderr.print(f"built {package.path.relative_to(ROOT)}, {package.path.stat().st_size / 1e6:.1f} MB")
    kind = prepare(cloudformation, stage.stack, log=stderr.print, poll_seconds=target.poll_seconds)
    with stderr.status("creating the change set"):
        parameters = installing.parameters_for(target, account, package.path, compiled, approval)
        if kind == "CREATE":
            adoptions = find_adoptions(target, account, load(template.read_text()), fresh=fresh)
            _report_adoptions(adoptions)
            if adoptions.ids:
                planned = installing.plan_adoption(target, account, adoptions, parameters, template)
                return _Made(planned, report, approval)
        digest = report.plan.digest if report else None
        planned = installing.plan_main(target, account, parameters, kind, template, digest, commit)
        return _Made(planned, report, approval)


def _note(text: str) -> None:
    stderr.print(f"note: {escape(text)}")


def _checked_plan(target: Target, change_set: str) -> Plan:
    """Return a change set that an earlier job made, after the checks, since the account may have changed."""
    stage = target.stage
    with stderr.status("checking the account and the organization"):
        account = installing.check(target)
    planned = read_plan(target.client("cloudformation"), stage.stack, change_set)
    with stderr.status("comparing the guardrails with their lock file"):
        compiled = compile_for(target, installing.event_region(account), _note)
    if planned.parameters.get("GuardrailsKey", "") != (guardrails_key(compiled) if compiled else ""):
        raise DeployError(
            f"change set {change_set} was made with other guardrails than the document of stage {stage.name} here; "
            "check out the commit that it was made from, or make a new one with --plan-only"
        )
    return planned


def _report_plan(target: Target, account: Account, report: Report) -> None:
    """Show what the guardrails would do, and whether the forwarder has to follow."""
    stage = target.stage
    shows = f"`make plan STAGE={stage.name}` shows more"
    stderr.print(f"guardrails plan {report.plan.digest}: {escape(summary(report.plan))} {shows}")
    for each in following.notes(stage, report):
        _note(each)
    if report.plan.only_observed:
        stderr.print(f"note: {report.plan.only_observed:,} accounts are only observed (AttachTo)")
    if account.is_management and not account.receives_events:
        stderr.print(
            f"next: `make forwarder STAGE={target.stage.name}` too, so that it forwards the events that they "
            f"depend on; `make status STAGE={target.stage.name}` says whether it does"
        )


def _report_adoptions(adoptions: Adoptions) -> None:
    if adoptions.unusable:
        stderr.print(
            f"[yellow]warning: {', '.join(adoptions.unusable)} of an earlier stack cannot be adopted, because each is "
            "gone or its key cannot be used, and are made anew. If you need what a key encrypts that is about to be "
            "deleted, stop here, and run aws kms cancel-key-deletion and aws kms enable-key first"
        )
    if adoptions.ids:
        stderr.print(f"adopting {len(adoptions.ids)} existing resources first, which changes none of them")


def _show(made: _Made) -> None:
    """Print a plan's changes to stderr, so that stdout has only the id."""
    if made.planned is None:
        stderr.print("nothing to change")
        return
    stderr.print(_table(made.planned))
    _say_approval(made)


def _say_approval(made: _Made) -> None:
    """Say which approval a change set puts in force, before anybody decides about it."""
    if made.planned and made.approved:
        stderr.print(f"with this change set, {made.approved}")


def _table(planned: Plan) -> Table:
    table = Table("change", "resource", "type", "replaced", title=f"{planned.kind} of stack {planned.stack}")
    for action, name, kind, replaced in planned.changes:
        table.add_row(f"[{_COLOURS.get(action, 'white')}]{action}", name, kind, replaced)
    return table


def _confirm_and_execute(target: Target, region: str, planned: Plan | None, *, yes: bool) -> None:
    """Show a plan, ask for confirmation, and execute it."""
    client = target.client("cloudformation", region=region)
    if planned is None:
        stderr.print("nothing to change")
        return
    stdout.print(_table(planned))
    if not yes and not click.confirm("Execute this change set?", err=True):
        discard(client, planned)
        raise DeployError("nothing was changed; the change set was deleted")
    with stderr.status("checking whether the worker that removes policies stays"):
        stop_before(target, planned, time.sleep, stderr.print)
    with stderr.status("waiting for CloudFormation"):
        execute(client, planned, poll_seconds=target.poll_seconds)
    stderr.print(f"{planned.kind.lower()} of stack {planned.stack} is complete")


if __name__ == "__main__":
    cli(prog_name="python -m infra.deploy")
