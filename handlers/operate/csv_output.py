"""CSV that spreadsheets do not take for formulas."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

from handlers.operate.output import clean

#: How a spreadsheet's formulas begin.
_FORMULA: Final = ("=", "+", "-", "@")


def print_csv_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a header and rows."""
    click.echo(csv_text(columns, rows), nl=False)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a header and rows."""
    output = io.StringIO()
    writer = csv.writer(output)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(map(_cell, row))
    return output.getvalue()


def is_formula(text: str) -> bool:
    """Return whether a spreadsheet would take a text for a formula."""
    return text.lstrip().startswith(_FORMULA)


def _cell(value: Any) -> str:
    """Return a value for CSV; a text that a spreadsheet would take for a formula gets an apostrophe."""
    text = clean(str(value)).replace("\n", " ")
    return f"'{text}" if is_formula(text) else text
