"""`evidence`."""

from datetime import datetime
from pathlib import Path

import click

from handlers.operate.context import Connection
from handlers.operate.options import DayType, as_json, check_days, default_document, with_connection
from handlers.operate.output import Command


@click.command(
    cls=Command,
    examples=(
        "joinguard evidence q3 --from 2026-07-01 --to 2026-09-30",
        "joinguard evidence q3 --from 2026-07-01 --to 2026-09-30 --quick",
        "joinguard evidence q3-with-ids --from 2026-07-01 --to 2026-09-30 --reveal",
    ),
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--from", "first", type=DayType(), required=True, metavar="DAY", help="The first day (YYYY-MM-DD, UTC).")
@click.option("--to", "last", type=DayType(), required=True, metavar="DAY", help="The last day, which is included.")
@click.option("--reveal", is_flag=True, help="Name accounts by their ids; needs credentials that list the accounts.")
@click.option("--quick", is_flag=True, help="Verify as `joinguard verify --quick`: no bytes, retention and outcomes.")
@click.option("--no-verification", "unverified", is_flag=True, help="Do not verify; the pack says so.")
@as_json
@with_connection
def evidence(  # noqa: PLR0913 - the options of the command
    connection: Connection,
    *,
    folder: Path,
    first: datetime,
    last: datetime,
    reveal: bool,
    quick: bool,
    unverified: bool,
    as_json: bool,
) -> int:
    """Write a folder for an auditor: a report, and the data of a period, from the records.

    The report (HTML, PDF) and the data (XLSX, CSV, JSON) show which accounts joined and left, when they got their
    policies, what failed, who did what, and what is not proven. It verifies the sealed log as `joinguard verify` does,
    and takes along the result and a proof for each object. It changes nothing. Exit status 1 if something was found,
    or could not be read or verified: the pack says what.
    """
    check_days(first, last, connection.now())
    if quick and unverified:
        raise click.UsageError("--quick and --no-verification exclude each other. Keep one")
    # The models of the records take a while to import, and few commands need them.
    from handlers.operate import packing  # noqa: PLC0415 - see above
    from handlers.operate.pack.gather import Request  # noqa: PLC0415 - see above
    from handlers.operate.pack.sealed import Verify  # noqa: PLC0415 - see above
    from schemas.pack import Period  # noqa: PLC0415 - see above

    how = Verify.NOT if unverified else Verify.QUICKLY if quick else Verify.FULLY
    request = Request(
        folder=folder,
        period=Period(first=first.date(), last=last.date()),
        reveals=reveal,
        verify=how,
        document=default_document(),
    )
    return packing.evidence(request, connection, as_json=as_json)
