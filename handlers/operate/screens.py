"""What the operator sees: tables, plans, progress. Data on stdout, talk on stderr."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.in_flight import Hand
from handlers.core.redrive.selection import Plan
from handlers.operate.differences import differences
from handlers.operate.terminal import plain, show, talk

#: No column but the last is wider; and where less is left for that, cells stand under each other.
_WIDEST: Final = 24
_ENOUGH: Final = 40
#: So many characters and lines of a value are shown.
_LONGEST: Final = 16_384
_MOST_LINES: Final = 500
#: Between two columns.
_GAP: Final = 2


Cell = str | Text | Group


def grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table whose last column takes what width there is; where there is little, cells under each other."""
    widths = [
        min(_WIDEST, max(map(cell_len, [name, *(text for row in rows for text in _texts(row[place]))])))
        for place, name in enumerate(columns[:-1])
    ]
    narrow = show.width - sum(widths) - _GAP * len(widths) < _ENOUGH
    made = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, expand=True, show_header=not narrow
    )
    if narrow:
        made.add_column(overflow="fold")
        for row in rows:
            named = zip(columns[:-1], row[:-1], strict=True)
            made.add_row(Group(*(_labelled(name, cell) for name, cell in named), row[-1], ""))
    else:
        for name, width in zip(columns[:-1], widths, strict=True):
            made.add_column(name, overflow="fold", width=width)
        made.add_column(columns[-1], overflow="fold", ratio=1)
        for row in rows:
            made.add_row(*(plain(each) if isinstance(each, str) else each for each in row))
    show.print(made)


def _texts(cell: Cell) -> list[str]:
    return [str(each) for each in cell.renderables] if isinstance(cell, Group) else [str(cell)]


def _labelled(name: str, cell: Cell) -> RenderableType:
    return plain(f"{name}: {', '.join(_texts(cell))}")


def lines(*texts: str | Text) -> Group:
    """Put texts under each other in one cell; empty ones are left out."""
    return Group(*(each if isinstance(each, Text) else plain(each) for each in texts if each))


def sheet(title: str, told: dict[str, Any]) -> None:
    """Print names and values under each other; those without a value are left out."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in told.items():
        if value not in (None, "", [], {}):
            made.add_row(name, value if isinstance(value, Text) else plain(_shortened(_written(value))))
    show.print(made)


def _written(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return "\n".join(value)
    return value if isinstance(value, str) else json.dumps(value, indent=1)


def _shortened(text: str) -> str:
    """Return as much of a text as somebody may want to read on a screen."""
    shown = "\n".join(text[:_LONGEST].split("\n", _MOST_LINES)[:_MOST_LINES])
    left = len(text) - len(shown)
    return f"{shown}… ({left:,} more characters; --json tells all)" if left else text


def tell_plan(plan: Plan, what: str) -> None:
    """Print what would be done."""
    rows: list[list[Cell]] = []
    groups: dict[tuple[str, str, str], list[DeadLetter]] = {}
    for letter in plan.chosen:
        groups.setdefault(("", letter.code, letter.why), []).append(letter)
    for letter, problem in plan.left_out:
        groups.setdefault((problem, letter.code, letter.why), []).append(letter)
    for (problem, code, why), letters in sorted(groups.items(), key=lambda item: (bool(item[0][0]), -len(item[1]))):
        verdict = Text("left out", "yellow") if problem else Text(what.split(maxsplit=1)[0], "green")
        note = plain(f"left out: {problem}", "yellow") if problem else ""
        rows.append([str(len(letters)), verdict, lines(plain(code, "bold"), why, note, plain(_ids(letters), "dim"))])
    grid(f"{_letters(len(plan.chosen))} to be {what}", ["letters", "plan", "why"], rows)
    if plan.missing:
        talk.print(f"not there: {', '.join(plan.missing)}", style="yellow")


def told_plan(plan: Plan) -> dict[str, Any]:
    """Return what would be done, for machines."""
    return {
        "chosen": [letter.message_id for letter in plan.chosen],
        "left_out": [{"id": letter.message_id, "code": letter.code, "why": why} for letter, why in plan.left_out],
        "missing": plan.missing,
        "elsewhere": plan.elsewhere,
        "unknown": plan.unknown,
    }


def say_unknown(unknown: Iterable[str]) -> None:
    """Say what could not be found out."""
    for each in unknown:
        talk.print(f"not found out: {each}", style="yellow")


def pace_told(letters: int, rate: float | None, pace: float) -> str:
    """Say how long it takes to send so many letters at a rate, None for as fast as can be, and to handle them."""
    handling = f"{age(timedelta(seconds=letters / pace))} at the organization's pace, {pace:g} a second"
    if rate == pace:
        return f"this takes about {handling}"
    sending = f"sending takes about {age(timedelta(seconds=letters / rate))}" if rate else "as fast as SQS takes them"
    return f"{sending}; handling them about {handling}"


def _letters(number: int) -> str:
    return f"{number:,} letter is" if number == 1 else f"{number:,} letters are"


def _ids(letters: Sequence[DeadLetter]) -> str:
    few = ", ".join(letter.message_id[:8] for letter in letters[:4])
    return few + (f" and {len(letters) - 4:,} more" if len(letters) > 4 else "")  # noqa: PLR2004 - as many as fit a line


@contextmanager
def advancing(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr; what is yielded moves it on."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=talk) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)


@contextmanager
def moving_bar() -> Iterator[Callable[[int, int | None], None]]:
    """Show how far SQS has come; what is yielded takes what is moved and what there is to move."""
    with Progress(TextColumn("moving"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=talk) as bar:
        task = bar.add_task("moving", total=None)
        yield lambda moved, total: bar.update(task, completed=moved, total=total)


def browsed(hand: Hand, what: str) -> Iterator[DeadLetter]:
    """Take all letters in hand and yield them; say on stderr how many have come, and how many others have in hand."""
    with talk.status(what) as status:
        for number, letter in enumerate(hand.browse(), 1):
            if number % 500 == 0:
                status.update(f"{what}: {number:,} so far")
            yield letter
    if elsewhere := hand.elsewhere:
        talk.print(
            f"about {elsewhere:,} more in other hands (an operator at work, or a look that was cut off): "
            "there again within 15 minutes",
            style="yellow",
        )


def difference(old: str, new: str) -> None:
    """Print what changed between two bodies."""
    for line in differences(old, new):
        talk.print(plain(line, {"+": "green", "-": "red"}.get(line[0], "")))


def age(span: timedelta) -> str:
    """Write a length of time in its two largest units."""
    seconds = max(0, round(span.total_seconds()))
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    shown = [f"{number}{unit}" for number, unit in parts if number][:2]
    return " ".join(shown) or "0s"
