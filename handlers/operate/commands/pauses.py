"""`pauses`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from handlers.core.errors import JoinguardError
from handlers.core.guardrails.pauses import SHOWN
from handlers.core.reconcile.pause_records import PauseVerdict, compare
from handlers.operate.context import Context
from handlers.operate.hints import as_typed
from handlers.operate.options import as_json, with_context
from handlers.operate.output import Command, hint, plain, print_json, stderr
from handlers.operate.pausing import WARNINGS, moment, scope_of
from handlers.operate.tables import Cell, lines, print_table
from handlers.operate.who import who, who_fields
from schemas.pause import Pause

_UNREADABLE: Final = "this row is not readable, so every account counts as paused; delete it with `resume {0}`"


@click.command(
    cls=Command,
    examples=(
        "joinguard pauses",
        "joinguard pauses --json",
    ),
)
@click.option("--reveal", is_flag=True, help="Show account ids instead of pseudonyms.")
@as_json
@with_context
def pauses(context: Context, *, reveal: bool, as_json: bool) -> int:
    """Show which accounts are paused, by whom, why and until when, and the pauses that ended in the last 7 days.

    Exit status 1 if a row is not readable, or if the audit records do not confirm a pause in force.
    """
    known, now = context.known_pauses(), context.clock.now()
    in_force = known.in_force(now)
    over = [each for each in known.readable if not each.is_in_force(now) and each.is_over_at + SHOWN > now]
    verdicts, unread = _verdicts(context, in_force)
    shown: Callable[[str], str] = str if reveal else lambda account_id: context.pseudonyms.of(account_id).value
    over.sort(key=lambda each: each.is_over_at, reverse=True)
    if as_json:
        print_json(
            {
                "in_force": [_fields(context, each, shown, verdicts) for each in in_force],
                "ended": [_fields(context, each, shown, verdicts) for each in over],
                "unreadable": sorted(known.unreadable),
            }
        )
    else:
        _print(context, [*in_force, *over], sorted(known.unreadable), shown, verdicts)
    if unread:
        hint(f"not compared with the audit records: {unread}", "yellow")
    return int(bool(known.unreadable) or any(each is not PauseVerdict.VALID for each in verdicts.values()))


def _verdicts(context: Context, in_force: Sequence[Pause]) -> tuple[Mapping[str, PauseVerdict], str]:
    """Compare pauses with their audit records; return also why that was not possible."""
    try:
        return context.patiently(lambda: compare(in_force, context.history, context.pseudonyms)), ""
    except JoinguardError as error:
        return {}, str(error)


def _print(
    context: Context,
    listed: Sequence[Pause],
    unreadable: Sequence[str],
    shown: Callable[[str], str],
    verdicts: Mapping[str, PauseVerdict],
) -> None:
    rows = [_row(context, each, shown, verdicts) for each in listed]
    for each in unreadable:
        why = as_typed(_UNREADABLE.format(each))
        rows.append([lines(plain(each, "bold"), plain("not readable", "red")), "every account", plain(why, "red")])
    if rows:
        print_table("Pauses", ["pause, until", "accounts, owner", "why, who"], rows)
    else:
        stderr.print("no pauses")


def _row(
    context: Context, each: Pause, shown: Callable[[str], str], verdicts: Mapping[str, PauseVerdict]
) -> list[Cell]:
    if each.ended:
        state = plain(f"ended {moment(each.ended.at)}")
    elif each.is_in_force(context.clock.now()):
        state = plain(f"until {moment(each.until)}", "yellow")
    else:
        state = plain(f"over since {moment(each.until)}")
    warning = WARNINGS.get(verdicts.get(each.id, PauseVerdict.VALID), "")
    return [
        lines(plain(each.id, "bold"), state),
        lines(scope_of(each, shown), f"by {each.owner}"),
        lines(each.reason, f"begun {moment(each.begun_at)} by {who(context, each)}", plain(warning, "red")),
    ]


def _fields(
    context: Context, each: Pause, shown: Callable[[str], str], verdicts: Mapping[str, PauseVerdict]
) -> dict[str, Any]:
    return {
        "id": each.id,
        "scope": shown(each.scope) if each.scope.isdecimal() else each.scope,
        "owner": each.owner,
        "reason": each.reason,
        "begun_at": each.begun_at.isoformat(),
        "until": each.until.isoformat(),
        "ended_at": each.ended.at.isoformat() if each.ended else None,
        "ended_by": who_fields(context, each.ended),
        **who_fields(context, each),
        "action_id": each.act_id,
        "record": verdicts.get(each.id),
    }
