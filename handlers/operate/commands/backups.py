"""`backups`."""

from collections.abc import Sequence
from typing import Any, Final

import click

from handlers.core.evidence.history import Backup
from handlers.core.plurals import count
from handlers.operate.context import Context
from handlers.operate.options import as_json, with_context
from handlers.operate.output import Command, hint, plain, print_json, stderr
from handlers.operate.tables import Cell, lines, print_table
from handlers.operate.who import who, who_fields

_SHOWN: Final = 20


@click.command(
    cls=Command,
    examples=("joinguard backups --limit 5",),
)
@click.option("--limit", type=click.IntRange(1), default=_SHOWN, show_default=True, help="At most this number.")
@as_json
@with_context
def backups(context: Context, *, limit: int, as_json: bool) -> None:
    """Show the keys of the backups that `drop` and `edit` made, the latest first, for `restore`."""
    keys = context.history.backup_keys()
    found = context.history.latest_backups(keys, limit)
    context.seen.add("backups", [each.key for each in found], only=True)
    if as_json:
        print_json([_fields(context, each) for each in found])
        return
    if not found:
        stderr.print("no backups")
        return
    title = f"{count(len(keys), 'backup')}, the latest first"
    print_table(title, ["action, messages", "key, why, who"], [_row(context, each) for each in found])
    if left := len(keys) - len(found):
        stderr.print(f"{left:,} more; --limit {len(keys)} shows all")
    if found[0].made_by:
        hint(f"`restore {found[0].key}` restores the latest, of {found[0].made_by.recorded_at:%Y-%m-%d %H:%M:%S}Z")


def _row(context: Context, backup: Backup) -> Sequence[Cell]:
    made = backup.made_by
    if made is None:
        return ["unknown", lines(backup.key, plain("its audit record cannot be read", "red"))]
    when = f"{made.recorded_at:%Y-%m-%d %H:%M:%S}Z"
    return [
        lines(when, plain(made.action, "bold"), count(made.messages, "message")),
        lines(backup.key, made.reason, who(context, made)),
    ]


def _fields(context: Context, backup: Backup) -> dict[str, Any]:
    made = backup.made_by
    return {
        "key": backup.key,
        "action": made.action if made else None,
        "made_at": made.recorded_at.isoformat() if made else None,
        **who_fields(context, made),
        "reason": made.reason if made else None,
        "messages": made.messages if made else None,
    }
