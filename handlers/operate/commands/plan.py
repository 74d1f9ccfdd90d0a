"""`plan`."""

from pathlib import Path
from typing import Any

import click

from handlers.operate.context import Connection
from handlers.operate.options import ScopeType, as_json, document_argument, with_connection
from handlers.operate.output import Command


@click.command(
    cls=Command,
    examples=(
        "joinguard plan",
        "joinguard plan --before none --markdown",
        "joinguard plan infra/guardrails/prod.yaml --snapshot organization.json --detailed-exitcode",
    ),
)
@document_argument
@click.option(
    "--snapshot", type=click.Path(path_type=Path), help="Plan against a recorded organization, without credentials."
)
@click.option(
    "--before",
    metavar="FILE|none",
    help="The guardrails in force: none, a document (.yaml), or compiled JSON. Default: the installation's; with "
    "--snapshot, and before the first deployment, none.",
)
@click.option(
    "--attach-to",
    type=ScopeType(),
    help="The accounts to attach to: all, none, or account ids with commas. Default: the installation's AttachTo; "
    "with --snapshot or --before, all.",
)
@click.option(
    "--removes/--keeps",
    default=None,
    help="Whether the stage removes policies (RemovePolicies). Default: as the installation; with --snapshot or "
    "--before, not known. `make plan` takes both from the stage file.",
)
@click.option(
    "--places",
    is_flag=True,
    help="Read all policies of the accounts that get one, by a call for each. The digest can then be another one than "
    "that of a deployment, which plans without it.",
)
@click.option("--markdown", is_flag=True, help="Print Markdown for a pull request to stdout.")
@click.option("--reveal", is_flag=True, help="Show account ids, not only how many there are.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit status 0: nothing to do; 2: something to do; 1: error.")
@as_json
@with_connection
def plan(
    connection: Connection,
    *,
    markdown: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Show what deploying a guardrails DOCUMENT would do: which accounts get and lose which policies.

    It reads the organization in bulk, changes nothing, and exits with status 1 if a rule selects no account, a name is
    not found, or an example fails.
    """
    if markdown and as_json:
        raise click.UsageError("--markdown and --json exclude each other. Remove one")
    if options["places"] and options["snapshot"]:
        raise click.UsageError("--places reads the organization, but --snapshot does not. Remove one")
    # The models of the document take a while to import, and no other command needs them.
    from handlers.operate import planning  # noqa: PLC0415 - see above

    request = planning.Request.of(markdown=markdown, as_json=as_json, **options)
    return planning.plan(request, connection)
