"""`actions`."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import click

from handlers.core.evidence.history import PastAction
from handlers.core.plurals import count
from handlers.operate.context import Context
from handlers.operate.options import DurationType, as_json, with_context
from handlers.operate.output import Command, plain, print_json, stderr
from handlers.operate.tables import Cell, lines, print_table
from handlers.operate.who import who, who_fields

#: What the records of actions name that are not about messages.
_NAMED: Final = {"pause": "pause", "resume": "pause", "pseudonym": "pseudonym", "resolve": "pseudonym"}


@click.command(
    cls=Command,
    examples=(
        "joinguard actions --since 1d",
        "joinguard actions --by jane@example.com",
    ),
)
@click.option(
    "--since", type=DurationType(), default="7d", show_default=True, help="Only actions of the last 6h, 3d, …"
)
@click.option(
    "--by", "name", metavar="NAME", help="Only actions of the person with this name of a session or user, as a whole."
)
@as_json
@with_context
def actions(context: Context, *, since: timedelta, name: str | None, as_json: bool) -> None:
    """Show what operators did: who, why, with how many messages, and how it ended. The latest is first.

    Records hold pseudonyms of names, so a name can be compared, but not read. The case of NAME is ignored.
    """
    begin = context.clock.now() - since
    found = [each for each in context.history.all_since(begin.date()) if each.intended.recorded_at >= begin][::-1]
    if name is not None:
        found = _by(context, found, name)
    if as_json:
        print_json([_fields(context, each) for each in found])
    elif found:
        print_table(
            f"{count(len(found), 'action')}, the latest first",
            ["when, action", "messages, end", "why, who"],
            [_row(context, each) for each in found],
        )
    else:
        stderr.print("no actions" if name is None else f"no actions by {name}")


def _by(context: Context, found: Sequence[PastAction], name: str) -> list[PastAction]:
    """Return the actions of the person with this name, and say how many records hold no name to compare."""
    if not name:
        raise click.UsageError("--by needs a name. Use that of a session or user, such as jane@example.com")
    wanted = [each.name(name) for each in context.pseudonyms.under_each_key()]
    names = [each.intended.actor_name for each in found]
    if unnamed := names.count(None):
        stderr.print(f"{unnamed:,} left out: their records are of an older version and hold no name", style="yellow")
    known = {each.key_version for each in wanted}
    if lost := sum(each is not None and each.key_version not in known for each in names):
        stderr.print(
            f"{lost:,} left out: their names were made with a key that does not exist any more", style="yellow"
        )
    return [each for each, actor_name in zip(found, names, strict=True) if actor_name in wanted]


def _row(context: Context, each: PastAction) -> Sequence[Cell]:
    intended, done = each.intended, each.done
    results = [f"{number:,} {name}" for name, number in done.results.items()] if done else []
    end = (
        plain(done.ended or "", "green" if done.ended == "completed" else "yellow")
        if done
        else plain("running, or cut off", "red")
    )
    return [
        lines(f"{intended.recorded_at:%Y-%m-%d %H:%M}Z", plain(intended.action, "bold")),
        lines(count(intended.messages, _NAMED.get(intended.action, "message")), end, *results),
        lines(intended.reason, who(context, intended), plain(f"action {intended.act_id}", "dim")),
    ]


def _fields(context: Context, each: PastAction) -> dict[str, Any]:
    intended, done = each.intended, each.done
    return {
        "action_id": intended.act_id,
        "action": intended.action,
        "recorded_at": intended.recorded_at.isoformat(),
        **who_fields(context, intended),
        "reason": intended.reason,
        "messages": intended.messages,
        "ended": done.ended if done else None,
        "ended_at": done.recorded_at.isoformat() if done else None,
        "results": done.results if done else {},
    }
