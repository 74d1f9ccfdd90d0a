"""What the operator sees: tables, plans, progress. Data on stdout, talk on stderr."""

import difflib
import json
import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from handlers.core.redrive import Plan, group
from schemas.outcome import Outcome

talk: Final = Console(stderr=True, soft_wrap=True)
show: Final = Console(width=None if sys.stdout.isatty() else 120)


def tell_plan(plan: Plan, what: str, seconds: float | None) -> None:
    """Print what would be done."""
    table = Table("letters", "code", "why", "", title=f"{len(plan.chosen)} letters are to be {what}")
    for code, letters in group(plan.chosen, "code").items():
        table.add_row(str(len(letters)), code, escape(letters[0].why), "")
    for reason in dict.fromkeys(reason for _, reason in plan.left_out):
        letters = [letter for letter, why in plan.left_out if why == reason]
        table.add_row(str(len(letters)), letters[0].code, escape(letters[0].why), f"[yellow]left out: {escape(reason)}")
    show.print(table)
    if seconds:
        talk.print(f"at the organization's pace this takes about {age(timedelta(seconds=seconds))}")


def progress() -> Progress:
    """Return a progress bar on stderr."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=talk
    )


def difference(old: str, new: str) -> None:
    """Print what changed between two bodies."""
    for line in difflib.unified_diff(old.splitlines(), new.splitlines(), "before", "after", lineterm=""):
        talk.print(escape(line), style={"+": "green", "-": "red"}.get(line[0]))


def outcomes_table(found: Iterable[Outcome], title: str, *, machine: bool) -> None:
    """Print outcomes, a row each."""
    events = [
        {
            "account": each.account_id,
            "event": f"{each.event_name} {each.event_id}",
            "status": each.status.value,
            "policies": ", ".join(f"{policy.policy_id} {policy.result}" for policy in each.policies),
            "attempts": each.attempts,
            "joined": each.event_time.isoformat(timespec="seconds"),
            "done": each.done_at.isoformat(timespec="seconds") if each.done_at else "",
            "why": f"{each.fault.code}: {each.fault.message}" if each.fault else "",
            "evidence": each.evidence_key or "",
        }
        for each in found
    ]
    rows(title, events, machine=machine)


def rows(title: str, told: list[dict[str, Any]], *, machine: bool) -> None:
    """Print rows as a table, or as JSON; a table leaves lists out."""
    if machine:
        click.echo(json.dumps(told))
        return
    if not told:
        talk.print(f"{title}: none")
        return
    names = [name for name, value in told[0].items() if not isinstance(value, list)]
    table = Table(title=title)
    for number, name in enumerate(names):
        table.add_column(name, overflow="fold", no_wrap=number == 0)
    for row in told:
        table.add_row(*(escape(str(row[name])) for name in names))
    show.print(table)


def age(span: timedelta) -> str:
    """Write a length of time in its two largest units."""
    seconds = max(0, round(span.total_seconds()))
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    shown = [f"{number}{unit}" for number, unit in parts if number][:2]
    return " ".join(shown) or "0s"
