"""Tables for people."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from handlers.operate.differences import differences
from handlers.operate.output import plain, stderr, stdout

#: The maximum width of all columns but the last, and the minimum width of the last one.
_MAX_WIDTH: Final = 24
_MIN_LAST: Final = 40
#: The limits of a value on the screen.
_MAX_CHARACTERS: Final = 16_384
_MAX_LINES: Final = 500
#: Between two columns.
_GAP: Final = 2

T = TypeVar("T")
Cell = str | Text | Group


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table. The last column takes the remaining width; on a narrow terminal, cells are below each other."""
    widths = [
        min(_MAX_WIDTH, max(map(cell_len, [name, *(text for row in rows for text in _texts(row[place]))])))
        for place, name in enumerate(columns[:-1])
    ]
    narrow = stdout.width - sum(widths) - _GAP * len(widths) < _MIN_LAST
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, expand=True, show_header=not narrow
    )
    if narrow:
        table.add_column(overflow="fold")
        for row in rows:
            named = zip(columns[:-1], row[:-1], strict=True)
            table.add_row(Group(*(_labelled(name, cell) for name, cell in named), row[-1], ""))
    else:
        for name, width in zip(columns[:-1], widths, strict=True):
            table.add_column(name, overflow="fold", width=width)
        table.add_column(columns[-1], overflow="fold", ratio=1)
        for row in rows:
            table.add_row(*(plain(each) if isinstance(each, str) else each for each in row))
    stdout.print(table)


def _texts(cell: Cell) -> list[str]:
    return [str(each) for each in cell.renderables] if isinstance(cell, Group) else [str(cell)]


def _labelled(name: str, cell: Cell) -> RenderableType:
    return plain(f"{name}: {', '.join(_texts(cell))}")


def lines(*texts: str | Text) -> Group:
    """Return a cell with texts below each other; empty texts are left out."""
    return Group(*(each if isinstance(each, Text) else plain(each) for each in texts if each))


def print_fields(title: str, fields: dict[str, Any]) -> None:
    """Print names and values below each other; names without a value are left out."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value not in (None, "", [], {}):
            table.add_row(name, value if isinstance(value, Text) else plain(_shortened(_text(value))))
    stdout.print(table)


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return "\n".join(value)
    return value if isinstance(value, str) else json.dumps(value, indent=1)


def _shortened(text: str) -> str:
    shown = "\n".join(text[:_MAX_CHARACTERS].split("\n", _MAX_LINES)[:_MAX_LINES])
    left = len(text) - len(shown)
    return f"{shown}… ({left:,} more characters; --json prints all)" if left else text


def print_difference(old: str, new: str) -> None:
    """Print what changed between two bodies."""
    for line in differences(old, new):
        stderr.print(plain(line, {"+": "green", "-": "red"}.get(line[0], "")))


def first(values: Sequence[T], number: int, shown: Callable[[T], str] = str) -> str:
    """Return the first of some values as they are shown, and how many more there are, such as `a, b and 3 more`."""
    left = len(values) - number
    return ", ".join(map(shown, values[:number])) + (f" and {left:,} more" if left > 0 else "")


def duration(span: timedelta) -> str:
    """Return a duration in its two largest units."""
    seconds = max(0, round(span.total_seconds()))
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    shown = [f"{number}{unit}" for number, unit in parts if number][:2]
    return " ".join(shown) or "0s"
