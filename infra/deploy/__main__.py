"""Deploy and operate a Joinguard installation. Each command has a Make target."""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import boto3
import click
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from infra.deploy import installing
from infra.deploy.build import ROOT, RUNTIME, Architecture, build
from infra.deploy.drift import plan_restore
from infra.deploy.health import check_subscribers, checks
from infra.deploy.preflight import read_account, warnings
from infra.deploy.sources import BuildError
from infra.deploy.stack import DeployError, Plan, discard, execute, outputs, waiter_config
from infra.deploy.stages import Target, load_stage

if TYPE_CHECKING:
    from collections.abc import Callable

stderr = Console(stderr=True, soft_wrap=True)
# A pipe has no width of its own.
stdout = Console(width=None if sys.stdout.isatty() else 120)

_STATES = {"ok": "green", "unknown": "yellow", "wrong": "red"}
_COLOURS = {"Add": "green", "Modify": "yellow", "Remove": "red"}


class Commands(click.Group):
    """Commands that report a failure in one line and exit with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; print an error of AWS or the build without a traceback."""
        try:
            return super().invoke(ctx)
        except (DeployError, BuildError) as error:
            raise click.ClickException(str(error)) from error
        except (BotoCoreError, ClientError) as error:
            raise click.ClickException(
                f"AWS call failed: {error}. Check credentials, Region and permissions, then try again"
            ) from error


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
@click.option(
    "--template", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=installing.TEMPLATE, hidden=True
)
def deploy(target: Target, template: Path, *, yes: bool, allow_dirty: bool) -> None:
    """Check the account, show the changes, ask for confirmation, deploy, and print the stack's outputs."""
    stage = target.stage
    with stderr.status("checking the account and the organization"):
        account = installing.check(target)
    for each in warnings(target, account):
        stderr.print(f"[yellow]warning: {escape(each)}")
    stderr.print(f"stage {stage.name}: organization {account.organization_id}, {stage.region}, stack {stage.stack}")
    with stderr.status("building the zip"):
        package = installing.build_for(stage, allow_dirty=allow_dirty)
    stderr.print(f"built {package.path.relative_to(ROOT)}, {package.path.stat().st_size / 1e6:.1f} MB")
    with stderr.status("creating the change set"):
        planned = installing.plan_main(target, account, package.path, template)
    _confirm_and_execute(target, stage.region, planned, yes=yes)
    table = Table("output", "value", title=f"Stack {stage.stack}")
    for name, value in sorted(_outputs(target).items()):
        table.add_row(name, value)
    stdout.print(table)
    subscribers = check_subscribers(target)
    if not subscribers.well:
        stderr.print(f"[yellow]warning: {escape(subscribers.found)}; {escape(subscribers.next_step)}")
    stderr.print(f"next: invite or create an account; check the installation with `make status STAGE={stage.name}`")


@cli.command()
@staged
@without_asking
@click.option("--target-bus", metavar="ARN", help="The default event bus of a delegated administrator's account.")
def forwarder(target: Target, target_bus: str | None, *, yes: bool) -> None:
    """Forward join events to a stage in another Region or account."""
    with stderr.status("creating the change set"):
        region, planned = installing.plan_forwarder(target, target_bus)
    _confirm_and_execute(target, region, planned, yes=yes)
    stderr.print(f"next: `make deploy STAGE={target.stage.name}`")


@cli.command("revert-drift")
@staged
@without_asking
def revert_drift(target: Target, *, yes: bool) -> None:
    """Restore resources that were changed or deleted by hand, as the deployed template has them."""
    stage = target.stage
    with stderr.status("comparing the resources with the template"):
        planned = plan_restore(target.client("cloudformation"), stage.stack, poll_seconds=target.poll_seconds)
    _confirm_and_execute(target, stage.region, planned, yes=yes)
    stderr.print(f"next: `make status STAGE={stage.name}`")


@cli.command("delegation-policy")
@staged
@click.option("--administrator", required=True, metavar="ACCOUNT", help="The member account to run Joinguard in.")
def delegation_policy(target: Target, administrator: str) -> None:
    """Print the resource policy that lets a member account attach only the stage's policies."""
    policy_ids = target.stage.policy_ids
    if not policy_ids:
        raise DeployError(
            f"stage {target.stage.name} names no policies; set PolicyIds, which limits the resource policy"
        )
    policy = installing.delegation_policy(read_account(target), administrator, policy_ids)
    click.echo(json.dumps(policy, indent=2))
    stderr.print("next: in the management account, run aws organizations put-resource-policy --content file://…")


@cli.command()
@staged
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(target: Target, *, as_json: bool) -> None:
    """Check the installation; exit with status 1 if something needs an operator."""
    found = checks(target)
    if as_json:
        click.echo(json.dumps([check.fields() for check in found]))
    else:
        table = Table("check", "result", "next step", title=f"Joinguard, stage {target.stage.name}")
        for check in found:
            found_text = Text(check.found, style=_STATES[check.state])
            table.add_row(Text(check.what), found_text, Text("" if check.well else check.next_step))
        stdout.print(table)
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
def destroy(target: Target, reason: str | None, *, confirm: bool) -> None:
    """Show what deleting the stack would keep and why. Delete it with --confirm and --reason."""
    stage, client = target.stage, target.client("cloudformation")
    _outputs(target)
    resources = {
        each["LogicalResourceId"]: each.get("PhysicalResourceId", "")
        for each in client.describe_stack_resources(StackName=stage.stack)["StackResources"]
    }
    table = Table("resource", "id", "kept because", title=f"What remains after stack {stage.stack} is deleted")
    for name, _, why in installing.kept():
        if name in resources:
            table.add_row(name, resources[name], why)
    stdout.print(table)
    deleted = len(resources) - table.row_count
    if not (confirm and reason):
        stderr.print(
            f'{deleted} resources would be deleted. Nothing was changed; to delete, add --confirm --reason "…"'
        )
        return
    with stderr.status(f"deleting {deleted} resources"):
        client.delete_stack(StackName=stage.stack)
        client.get_waiter("stack_delete_complete").wait(
            StackName=stage.stack, WaiterConfig=waiter_config(target.poll_seconds)
        )
    stderr.print(f"stack {stage.stack} is deleted ({reason}); accounts that join from now on do not get the policies")


def _outputs(target: Target) -> dict[str, str]:
    stage = target.stage
    try:
        return outputs(target.client("cloudformation"), stage.stack)
    except ClientError as error:
        raise DeployError(
            f"there is no stack {stage.stack} in {stage.region}; run `make deploy STAGE={stage.name}`"
        ) from error


def _confirm_and_execute(target: Target, region: str, planned: Plan | None, *, yes: bool) -> None:
    """Show a plan, ask for confirmation, and execute it."""
    client = target.client("cloudformation", region=region)
    if planned is None:
        stderr.print("nothing to change")
        return
    table = Table("change", "resource", "type", "replaced", title=f"{planned.kind} of stack {planned.stack}")
    for action, name, kind, replaced in planned.changes:
        table.add_row(f"[{_COLOURS.get(action, 'white')}]{action}", name, kind, replaced)
    stdout.print(table)
    if not yes and not click.confirm("Execute this change set?", err=True):
        discard(client, planned)
        raise DeployError("nothing was changed; the change set was deleted")
    with stderr.status("waiting for CloudFormation"):
        execute(client, planned, poll_seconds=target.poll_seconds)
    stderr.print(f"{planned.kind.lower()} of stack {planned.stack} is complete")


if __name__ == "__main__":
    cli(prog_name="python -m infra.deploy")
