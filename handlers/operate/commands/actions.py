"""`actions`."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click

from handlers.core.evidence.history import PastAction
from handlers.operate.context import Context
from handlers.operate.options import DurationType, as_json, with_context
from handlers.operate.output import Command, plain, print_json, stderr
from handlers.operate.tables import Cell, count, lines, print_table


@click.command(
    cls=Command,
    examples=("joinguard actions --since 1d",),
)
@click.option(
    "--since", type=DurationType(), default="7d", show_default=True, help="Only actions of the last 6h, 3d, …"
)
@as_json
@with_context
def actions(context: Context, *, since: timedelta, as_json: bool) -> None:
    """Show what operators did: who, why, with how many messages, and how it ended. The latest is first."""
    begin = context.clock.now() - since
    found = [each for each in context.history.all_since(begin.date()) if each.intended.recorded_at >= begin][::-1]
    if as_json:
        print_json([_fields(each) for each in found])
    elif found:
        print_table(
            f"{count(len(found), 'action')}, the latest first",
            ["when, action", "messages, end", "why, who"],
            [_row(each) for each in found],
        )
    else:
        stderr.print("no actions")


def _row(each: PastAction) -> Sequence[Cell]:
    intended, done = each.intended, each.done
    results = [f"{number:,} {name}" for name, number in done.results.items()] if done else []
    end = (
        plain(done.ended or "", "green" if done.ended == "completed" else "yellow")
        if done
        else plain("running, or cut off", "red")
    )
    return [
        lines(f"{intended.recorded_at:%Y-%m-%d %H:%M}Z", plain(intended.action, "bold")),
        lines(count(len(intended.letters), "message"), end, *results),
        lines(
            intended.reason, f"{intended.actor_id} ({intended.actor.value})", plain(f"action {intended.act_id}", "dim")
        ),
    ]


def _fields(each: PastAction) -> dict[str, Any]:
    intended, done = each.intended, each.done
    return {
        "action_id": intended.act_id,
        "action": intended.action,
        "recorded_at": intended.recorded_at.isoformat(),
        "actor": intended.actor.value,
        "actor_id": intended.actor_id,
        "reason": intended.reason,
        "messages": len(intended.letters),
        "ended": done.ended if done else None,
        "ended_at": done.recorded_at.isoformat() if done else None,
        "results": done.results if done else {},
    }
