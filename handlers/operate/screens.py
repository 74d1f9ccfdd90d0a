"""What the operator sees: tables, plans, progress. Data on stdout, talk on stderr."""

import difflib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import click
from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from handlers.core.hand import Hand
from handlers.core.letters import DeadLetter
from handlers.core.plan import Plan
from schemas.outcome import Outcome, OutcomeStatus

# Nothing that others wrote is taken for markup.
talk: Final = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
show: Final = Console(width=None if sys.stdout.isatty() else 110, highlight=False, markup=False, emoji=False)
#: No column but the last is wider; and where less is left for that, cells stand under each other.
_WIDEST: Final = 24
_ENOUGH: Final = 40
#: Lines of two bodies that are compared with each other.
_MOST_COMPARED: Final = 2_000
#: Between two columns.
_GAP: Final = 2
_COLOURS: Final = {
    OutcomeStatus.ENFORCED: "green",
    OutcomeStatus.FAILED: "red",
    OutcomeStatus.RETRYING: "yellow",
    OutcomeStatus.IGNORED: "dim",
}


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


def plain(text: str, style: str = "") -> Text:
    """Return a text that does nothing to the terminal: an event's name may hold control characters."""
    return Text("".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in text), style)


def lines(*texts: str | Text) -> Group:
    """Put texts under each other in one cell; empty ones are left out, and nothing in them is markup."""
    return Group(*(each if isinstance(each, Text) else plain(each) for each in texts if each))


def sheet(title: str, told: dict[str, Any]) -> None:
    """Print names and values under each other; those without a value are left out."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in told.items():
        if value not in (None, "", [], {}):
            made.add_row(name, value if isinstance(value, Text) else plain(_written(value)))
    show.print(made)


def _written(value: Any) -> str:  # noqa: ANN401 - anything that JSON knows
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return "\n".join(value)
    return value if isinstance(value, str) else json.dumps(value, indent=1)


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
        note = Text(f"left out: {problem}", "yellow") if problem else ""
        rows.append([str(len(letters)), verdict, lines(Text(code, "bold"), why, note, Text(_ids(letters), "dim"))])
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
    """Print what changed between two bodies; of JSON, by field."""
    try:
        before, after = (json.dumps(json.loads(body), indent=1, ensure_ascii=False) for body in (old, new))
    except (ValueError, RecursionError):
        before, after = old, new
    for line in _changes(before.splitlines(), after.splitlines()):
        talk.print(plain(line, {"+": "green", "-": "red"}.get(line[0], "")))


def _changes(before: Sequence[str], after: Sequence[str]) -> Iterable[str]:
    if len(before) + len(after) <= _MOST_COMPARED:
        return difflib.unified_diff(before, after, "before", "after", lineterm="", n=2)
    # The time that difflib takes grows with the square of the lines.
    begin = _alike(before, after)
    end = _alike(before[begin:][::-1], after[begin:][::-1])
    gone, new = (lines[begin : len(lines) - end] for lines in (before, after))
    few = _MOST_COMPARED // 2
    left = [f"  and {len(gone[few:]):,} lines less, {len(new[few:]):,} more"] if gone[few:] or new[few:] else []
    return [*(f"-{line}" for line in gone[:few]), *(f"+{line}" for line in new[:few]), *left]


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """Count the lines at the beginning that both have."""
    return next(
        (number for number, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def outcomes_table(found: Sequence[Outcome], title: str) -> None:
    """Print outcomes, a row each."""
    if not found:
        talk.print(f"{title}: none")
        return
    rows: list[list[Cell]] = []
    for each in found:
        policies = [f"{policy.policy_id} {policy.result}" for policy in each.policies]
        times = [_minute(each.event_time), _minute(each.done_at) if each.done_at else "not yet"]
        told = lines(
            f"{each.account_id}  {each.event_name} {each.event_id}",
            ", ".join(policies),
            Text(f"{each.fault.code}: {each.fault.message}", "red") if each.fault else "",
            Text(each.evidence_key or "", "dim"),
        )
        tries = f"{each.attempts} {'try' if each.attempts == 1 else 'tries'}"
        rows.append([lines(Text(each.status.value, _COLOURS[each.status]), tries), lines(*times), told])
    grid(title, ["status", "joined, decided", "event"], rows)


def told_outcomes(found: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Return outcomes for machines."""
    return [json.loads(each.model_dump_json(exclude_none=True)) for each in found]


def _minute(moment: Any) -> str:  # noqa: ANN401 - a datetime
    return f"{moment:%Y-%m-%d %H:%M}Z"


def as_line(told: Any) -> None:  # noqa: ANN401 - anything that JSON knows
    """Print one line of JSON."""
    click.echo(json.dumps(told))


def age(span: timedelta) -> str:
    """Write a length of time in its two largest units."""
    seconds = max(0, round(span.total_seconds()))
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    shown = [f"{number}{unit}" for number, unit in parts if number][:2]
    return " ".join(shown) or "0s"
