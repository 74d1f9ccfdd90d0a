"""`make join` and `make local-env`: use the pipeline that `make local` keeps running."""

import json
import os
import re
import shlex
from collections.abc import Callable
from typing import Any, Final

import boto3
import click

from infra.local.environment import isolate_from_user
from infra.local.events import (
    account_created,
    account_joined,
    account_moved,
    handshake_accepted,
    resource_tagged,
    resource_untagged,
)
from infra.local.installation import RUNNING, Installation


def _invited(account_id: str, at: Installation) -> str:
    return json.dumps(handshake_accepted(account_id, at.organization_id, at.management_account_id))


def _created(account_id: str, at: Installation) -> str:
    return json.dumps(account_created(account_id, at.management_account_id))


def _announced(account_id: str, at: Installation) -> str:
    return json.dumps(account_joined(account_id, at.organization_id, at.management_account_id))


def _moved(account_id: str, at: Installation) -> str:
    return json.dumps(account_moved(account_id, at.management_account_id))


def _tagged(account_id: str, at: Installation) -> str:
    return json.dumps(resource_tagged(account_id, at.management_account_id))


def _untagged(account_id: str, at: Installation) -> str:
    return json.dumps(resource_untagged(account_id, at.management_account_id))


def _no_join(account_id: str, at: Installation) -> str:
    event = handshake_accepted(account_id, at.organization_id, at.management_account_id, action="APPROVE_ALL_FEATURES")
    return json.dumps(event)


def _truncated(account_id: str, at: Installation) -> str:
    return _invited(account_id, at)[:700]


def _of_another_organization(account_id: str, at: Installation) -> str:
    return json.dumps(handshake_accepted(account_id, "o-anotherorganization", at.management_account_id))


#: The sample messages by name.
SAMPLES: Final[dict[str, Callable[[str, Installation], str]]] = {
    "invited": _invited,
    "created": _created,
    "announced": _announced,
    "moved": _moved,
    "tagged": _tagged,
    "untagged": _untagged,
    "no-join": _no_join,
    "truncated": _truncated,
    "another-organization": _of_another_organization,
}


def running_installation(pid: int | None) -> Installation:
    """Return the installation of a running `make local`; raise ClickException if there is none, or more than one."""
    running = {int(file.stem): file for file in RUNNING.glob("*.json") if _is_alive(int(file.stem))}
    if pid is None and len(running) > 1:
        raise click.ClickException(f"make local runs more than once. Add --pid with one of {sorted(running)}")
    file = running.get(pid) if pid else next(iter(running.values()), None)
    if file is None:
        raise click.ClickException("make local is not running; start it in another terminal")
    return Installation(**json.loads(file.read_text()))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@click.group()
def cli() -> None:
    """Use the pipeline that `make local` keeps running."""
    isolate_from_user()


of_process = click.option("--pid", type=int, help="The process id of make local, if more than one is running.")


@cli.command()
@of_process
@click.option("--account", metavar="ID", default="", help="The event's account. Default: the first sample account.")
@click.option("--kind", type=click.Choice(list(SAMPLES)), default="invited", show_default=True, help="The event.")
def join(pid: int | None, account: str, kind: str) -> None:
    """Send a sample event to the joins queue."""
    if account and not re.fullmatch("[0-9]{12}", account):
        raise click.ClickException(f"{account!r} is not an account id. An account id has twelve digits")
    at = running_installation(pid)
    account = account or at.account_ids[0]
    client: Any = boto3.client("sqs", **_settings(at))  # type: ignore[call-overload]
    client.send_message(QueueUrl=at.queue_url, MessageBody=SAMPLES[kind](account, at))
    click.echo(f"sent: {kind}, account {account}. `make local-env` prints how to use joinguard and the AWS CLI here")


@cli.command()
@of_process
def env(pid: int | None) -> None:
    """Print export lines, for eval "$(make -s local-env)": joinguard and version 2 of the AWS CLI use this pipeline."""
    at = running_installation(pid)
    settings = _settings(at)
    # Version 1 replaces the endpoint of these services unless the option is given, whatever the environment says:
    # https://github.com/aws/aws-cli/issues/8737
    click.echo(
        "note: version 1 of the AWS CLI ignores AWS_ENDPOINT_URL for sqs, and would call AWS. Use version 2, or add "
        '--endpoint-url "$AWS_ENDPOINT_URL"',
        err=True,
    )
    names = {
        "AWS_ENDPOINT_URL": settings["endpoint_url"],
        "AWS_DEFAULT_REGION": settings["region_name"],
        "AWS_ACCESS_KEY_ID": settings["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": settings["aws_secret_access_key"],
        "AWS_ENDPOINT_URL_ORGANIZATIONS": at.organizations_endpoint,
    }
    for name, value in names.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _settings(at: Installation) -> dict[str, str]:
    return {
        "endpoint_url": at.endpoint,
        "region_name": at.region,
        "aws_access_key_id": at.access_key_id,
        "aws_secret_access_key": at.secret_access_key,
    }


if __name__ == "__main__":
    cli(prog_name="python -m infra.local.client")
