"""`export`."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from handlers.core.plurals import count
from handlers.operate.context import Connection
from handlers.operate.errors import OperateError
from handlers.operate.files import whole_file
from handlers.operate.options import DayType, as_json, check_days, with_connection
from handlers.operate.output import Command, print_json, stderr

if TYPE_CHECKING:
    from handlers.operate.exporting import Exported

#: The next step, by the code of the reason why objects could not be read.
_STEPS: Final = {
    "NOT_A_RECORD": "no worker wrote them; find out who did, in the access logs",
    "S3.InvalidObjectState": "they are in the archive; restore them in S3, or use a later --from",
}


@click.command(
    cls=Command,
    examples=(
        "joinguard export --from 2026-11-01 --to 2026-11-30 november.ndjson",
        "joinguard export --format ocsf --from 2026-11-26 > today.ndjson",
    ),
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["ocsf"]), default="ocsf", show_default=True, help="OCSF 1.8.0.")
@click.option("--from", "first", type=DayType(), required=True, help="The first day, in UTC.")
@click.option("--to", "last", type=DayType(), help="The last day, which is included; by default today.")
@click.option("--force", is_flag=True, help="Replace the file if it is already there.")
@as_json
@with_connection
def export(  # noqa: PLR0913 - one parameter for each option
    connection: Connection,
    *,
    file: Path | None,
    form: str,
    first: datetime,
    last: datetime | None,
    force: bool,
    as_json: bool,
) -> int:
    """Write the records of a period as events that other tools take, one JSON object a line, to a FILE or to stdout.

    The records are evidence, audit records, configurations and reports of sweeps. They hold pseudonyms and no account
    ids. The day of evidence is that of its event. Each event has a metadata.uid that stays, so what is exported twice
    can be told apart. --json prints the numbers of what was exported, if there is a FILE.
    """
    # The models of all records take a while to import, and no other command needs them.
    from handlers.operate import exporting  # noqa: PLC0415 - see above

    now = connection.now()
    check_days(first, last, now)
    if file and file.exists() and not force:
        raise OperateError(f"{file} is already there. Choose another name, or add --force")
    context = connection()
    days = exporting.days_between(first.date(), (last or now).date())
    if file is None:
        # A progress bar on a terminal replaces sys.stdout meanwhile.
        exported = exporting.export(context, days, sys.stdout.write)
    else:
        with whole_file(file) as written:
            exported = exporting.export(context, days, written.write)
    _report(exported, form, file)
    if as_json and file:
        print_json(_fields(exported, form, file))
    return 0 if exported.is_complete else 1


def _report(exported: Exported, form: str, file: Path | None) -> None:
    where = f" in {file}" if file else ""
    stderr.print(f"{count(exported.events, f'{form} event')} of {count(exported.records, 'record')}{where}")
    for code, keys in exported.unread.items():
        step = _STEPS.get(code, "find out who may read them")
        stderr.print(f"left out: {count(len(keys), 'object')} ({code}), the first is {keys[0]}; {step}", style="yellow")
    if exported.foreign:
        stderr.print(
            f"left out: {count(exported.foreign, 'object')} under keys that no part of Joinguard writes", style="yellow"
        )


def _fields(exported: Exported, form: str, file: Path) -> dict[str, Any]:
    return {
        "file": str(file),
        "format": form,
        "records": exported.records,
        "events": exported.events,
        "unread": exported.unread,
        "foreign": exported.foreign,
    }
