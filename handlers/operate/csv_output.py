"""CSV on stdout."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import click

from handlers.operate.output import clean


def print_csv_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a header and rows."""
    output = io.StringIO()
    writer = csv.writer(output)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(map(_cell, row))
    click.echo(output.getvalue(), nl=False)


def _cell(value: Any) -> str:
    """Return a value for CSV; a text that a spreadsheet would take for a formula gets an apostrophe."""
    text = clean(str(value)).replace("\n", " ")
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text
