"""Deploy Joinguard and look after the installation. `make` has a target for each command."""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import boto3
import click
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.table import Table

from infra.deploy import installing
from infra.deploy.build import ROOT, RUNTIME, Architecture, build
from infra.deploy.health import signs
from infra.deploy.preflight import look_around
from infra.deploy.sources import BuildError
from infra.deploy.stack import DeployError, Plan, discard, execute, outputs
from infra.deploy.stages import Target, load_stage

if TYPE_CHECKING:
    from collections.abc import Callable

talk = Console(stderr=True, soft_wrap=True)
_width = None if sys.stdout.isatty() else 120
show = Console(width=_width)

_COLOURS = {"Add": "green", "Modify": "yellow", "Remove": "red"}


class Commands(click.Group):
    """Commands whose failures are one clear line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; say what AWS or the build refused, and no traceback."""
        try:
            return super().invoke(ctx)
        except (DeployError, BuildError) as error:
            raise click.ClickException(str(error)) from error
        except (BotoCoreError, ClientError) as error:
            raise click.ClickException(
                f"AWS refused: {error}. Check credentials, Region and permissions, then try again"
            ) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Deploy Joinguard and look after the installation.

    Credentials and endpoints come from AWS's standard settings (AWS_PROFILE, AWS_ENDPOINT_URL, …). The Region
    and the parameters come from the stage, a file in infra/stages.
    """


def staged(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its target: the stage that is named, reached with the credentials that there are."""

    @click.option("--stage", default="prod", show_default=True, metavar="NAME", help="A file in infra/stages.")
    # Tests look more often.
    @click.option("--pause", default=5, hidden=True, type=click.IntRange(1, 60))
    @wraps(command)
    def targeted(stage: str, pause: int, **options: Any) -> None:
        command(Target(boto3.Session(), load_stage(stage), pause), **options)

    return targeted


without_asking = click.option("--yes", is_flag=True, help="Do not ask before changing anything.")
as_files_are = click.option(
    "--allow-dirty", is_flag=True, help="Build from the files as they are here, committed or not."
)


@cli.command("build")
@click.option("--architecture", type=click.Choice(get_args(Architecture)), default="arm64", show_default=True)
@click.option("--python-version", default=RUNTIME, show_default=True, help="The function's runtime.")
@as_files_are
def build_zip(architecture: Architecture, python_version: str, *, allow_dirty: bool) -> None:
    """Build the function's zip: from the commit and the lock, without Docker, the same bytes every time."""
    package = build(python_version=python_version, architecture=architecture, allow_dirty=allow_dirty)
    digest = hashlib.sha256(package.path.read_bytes()).hexdigest()
    click.echo(f"{package.path.relative_to(ROOT)}  {package.path.stat().st_size:,} bytes  sha256 {digest}")
    if not package.compiled_by:
        talk.print(
            f"Python {python_version} was not found, so the zip holds no compiled files. It works, and starts more "
            f"slowly; put python{python_version} on PATH and build again to have them."
        )


@cli.command()
@staged
@without_asking
@as_files_are
@click.option(
    "--template", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=installing.TEMPLATE, hidden=True
)
def deploy(target: Target, template: Path, *, yes: bool, allow_dirty: bool) -> None:
    """Check, show what would change, ask, deploy, and say where everything is."""
    stage = target.stage
    with talk.status("looking at the account and the organization"):
        here = installing.check(target)
    talk.print(f"stage {stage.name}: organization {here.organization_id}, {stage.region}, stack {stage.stack}")
    with talk.status("building the zip"):
        package = installing.build_for(stage, allow_dirty=allow_dirty)
    talk.print(f"built {package.path.relative_to(ROOT)}, {package.path.stat().st_size / 1e6:.1f} MB")
    with talk.status("asking CloudFormation what would change"):
        planned = installing.plan_main(target, here, package.path, template)
    _carry_out(target, stage.region, planned, yes=yes)
    table = Table("output", "value", title=f"Stack {stage.stack}")
    for name, value in sorted(_outputs(target).items()):
        table.add_row(name, value)
    show.print(table)
    talk.print(f"next: invite or create an account; `make status STAGE={stage.name}` says how all stands")


@cli.command()
@staged
@without_asking
@click.option("--target-bus", metavar="ARN", help="The default bus of a delegated administrator's account.")
def forwarder(target: Target, target_bus: str | None, *, yes: bool) -> None:
    """Forward join events to a stage that lives in another Region or account."""
    with talk.status("asking CloudFormation what would change"):
        region, planned = installing.plan_forwarder(target, target_bus)
    _carry_out(target, region, planned, yes=yes)
    talk.print(f"next: `make deploy STAGE={target.stage.name}`")


@cli.command("delegation-policy")
@staged
@click.option("--administrator", required=True, metavar="ACCOUNT", help="The account that Joinguard will live in.")
def delegation_policy(target: Target, administrator: str) -> None:
    """Print the resource policy that lets a member account attach the stage's policies, and no others."""
    policy_ids = target.stage.policy_ids
    if not policy_ids:
        raise DeployError(f"stage {target.stage.name} names no policies; set PolicyIds, the policy is limited to them")
    policy = installing.delegation_policy(look_around(target), administrator, policy_ids)
    click.echo(json.dumps(policy, indent=2))
    talk.print("next: in the management account, aws organizations put-resource-policy --content file://…")


@cli.command()
@staged
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def status(target: Target, *, as_json: bool) -> None:
    """Say how the installation stands; exit status 1 where something needs a person."""
    found = signs(target)
    if as_json:
        click.echo(json.dumps([vars(sign) for sign in found]))
    else:
        table = Table("", "is", "next step", title=f"Joinguard, stage {target.stage.name}")
        for sign in found:
            colour = "green" if sign.well else "red"
            table.add_row(sign.what, f"[{colour}]{sign.found}", "" if sign.well else sign.next_step)
        show.print(table)
    sys.exit(0 if all(sign.well for sign in found) else 1)


@cli.command()
@staged
@click.option("--since", default=60, show_default=True, type=click.IntRange(1), metavar="MINUTES")
@click.option("--find", default="", metavar="TEXT", help="Only lines with this text, such as an event id.")
def logs(target: Target, since: int, find: str) -> None:
    """Print the worker's log, a line of JSON a record."""
    group = _outputs(target)["LogGroup"]
    begin = int((datetime.now(UTC) - timedelta(minutes=since)).timestamp() * 1000)
    for page in target.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group, startTime=begin):
        for event in page["events"]:
            for line in filter(partial(_contains, find), event["message"].splitlines()):
                click.echo(line)


@cli.command()
@staged
@click.option("--confirm", is_flag=True, help="Really do it.")
@click.option("--reason", help="Why.")
def destroy(target: Target, reason: str | None, *, confirm: bool) -> None:
    """Take the installation down. Says what would be kept and why; does nothing without --confirm and --reason."""
    stage, client = target.stage, target.client("cloudformation")
    _outputs(target)
    resources = {
        each["LogicalResourceId"]: each.get("PhysicalResourceId", "")
        for each in client.describe_stack_resources(StackName=stage.stack)["StackResources"]
    }
    table = Table("kept", "is", "because", title=f"What outlives stack {stage.stack}")
    for name, _, why in installing.kept():
        if name in resources:
            table.add_row(name, resources[name], why)
    show.print(table)
    gone = len(resources) - table.row_count
    if not (confirm and reason):
        talk.print(f'{gone} resources would be deleted. Nothing was done; say --confirm --reason "…" to do it')
        return
    with talk.status(f"deleting {gone} resources"):
        client.delete_stack(StackName=stage.stack)
        client.get_waiter("stack_delete_complete").wait(
            StackName=stage.stack, WaiterConfig={"Delay": target.pause, "MaxAttempts": 3600 // target.pause}
        )
    talk.print(f"stack {stage.stack} is deleted ({reason}); accounts that join from now on get no policies")


def _contains(text: str, line: str) -> bool:
    return text in line


def _outputs(target: Target) -> dict[str, str]:
    stage = target.stage
    try:
        return outputs(target.client("cloudformation"), stage.stack)
    except ClientError as error:
        raise DeployError(
            f"there is no stack {stage.stack} in {stage.region}; run `make deploy STAGE={stage.name}`"
        ) from error


def _carry_out(target: Target, region: str, planned: Plan | None, *, yes: bool) -> None:
    """Show a plan, ask, and execute it."""
    client = target.client("cloudformation", region=region)
    if planned is None:
        talk.print("nothing to change")
        return
    table = Table("change", "resource", "type", "replaced", title=f"{planned.kind} of stack {planned.stack}")
    for action, name, kind, replaced in planned.changes:
        table.add_row(f"[{_COLOURS.get(action, 'white')}]{action}", name, kind, replaced)
    show.print(table)
    if not yes and not click.confirm("Carry this out?", err=True):
        discard(client, planned)
        raise DeployError("not carried out; the change set was discarded")
    with talk.status("CloudFormation is at work"):
        execute(client, planned, seconds_between_looks=target.pause)
    talk.print(f"{planned.kind.lower()} of stack {planned.stack} is complete")


if __name__ == "__main__":
    cli(prog_name="python -m infra.deploy")
