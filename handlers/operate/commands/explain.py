"""`explain`."""

from pathlib import Path

import click

from handlers.operate.context import Connection
from handlers.operate.options import AccountIdType, as_json, with_connection
from handlers.operate.output import Command
from schemas.ids import AccountId


@click.command(
    cls=Command,
    examples=(
        "joinguard explain 111122223333",
        "joinguard explain 111122223333 --as-if ou=/Workloads/Prod --as-if tags.environment=prod",
    ),
)
@click.argument("account_id", metavar="ACCOUNT", type=AccountIdType())
@click.option(
    "--as-if",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a fact: ou, tags.KEY, name, email or joined. tags.KEY without = takes a tag away. Can be repeated.",
)
@click.option(
    "--document",
    type=click.Path(path_type=Path),
    help="A document with its lock file, or compiled JSON, instead of the guardrails in force.",
)
@as_json
@with_connection
def explain(
    connection: Connection, account_id: AccountId, *, changes: tuple[str, ...], document: Path | None, as_json: bool
) -> int:
    """Show for each policy whether an account must carry it, which rules and exceptions decide, and what it carries.

    Reads the account as it is now. Exit status 1 if it lacks a policy, or a policy cannot be decided.
    """
    # The models of the document take a while to import, and no other command needs them.
    from handlers.operate import explaining  # noqa: PLC0415 - see above

    return explaining.explain(connection, account_id, changes, document, as_json=as_json)
