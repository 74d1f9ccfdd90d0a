"""`coverage`."""

from datetime import datetime
from pathlib import Path

import click

from handlers.operate.context import Connection
from handlers.operate.options import DayType, as_json, check_days, default_document, with_connection
from handlers.operate.output import Command


@click.command(
    cls=Command,
    examples=(
        "joinguard coverage",
        "joinguard coverage --since 2026-11-01 --csv > coverage.csv",
        "joinguard coverage --snapshot organization.json --guardrails infra/guardrails/prod.yaml",
    ),
)
@click.option(
    "--since",
    type=DayType(),
    metavar="DAY",
    help="Only accounts that joined on or after this day (YYYY-MM-DD, UTC).",
)
@click.option("--places", is_flag=True, help="Read all policies of the accounts that lack one, by a call for each.")
@click.option("--reveal", is_flag=True, help="Show account ids instead of pseudonyms.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV to stdout: a line for each account and required policy.")
@click.option(
    "--snapshot",
    type=click.Path(path_type=Path),
    help="A recorded organization, without credentials; needs --guardrails. The causes of gaps are not known then.",
)
@click.option("--guardrails", type=click.Path(path_type=Path), help="A document with its lock file, or compiled JSON.")
@as_json
@with_connection
def coverage(  # noqa: PLR0913 - the options of the command
    connection: Connection,
    *,
    since: datetime | None,
    places: bool,
    reveal: bool,
    as_csv: bool,
    as_json: bool,
    snapshot: Path | None,
    guardrails: Path | None,
) -> int:
    """Show which accounts of the organization carry their policies, and why the others do not.

    It reads the organization in bulk and changes nothing. Exit status 1 if a policy is missing or something could not
    be read.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other. Remove one")
    if (snapshot is None) != (guardrails is None):
        raise click.UsageError("--snapshot and --guardrails need each other. Give both or none")
    if places and snapshot:
        raise click.UsageError("--places reads the organization, but --snapshot does not. Remove one")
    check_days(since, None, connection.now(), "--since")
    # The models of the document take a while to import, and few commands need them.
    from handlers.operate import covering  # noqa: PLC0415 - see above

    request = covering.Request.of(
        since=since,
        places=places,
        reveal=reveal,
        as_csv=as_csv,
        as_json=as_json,
        snapshot=snapshot,
        guardrails=guardrails,
        document=default_document(),
    )
    return covering.coverage(request, connection)
