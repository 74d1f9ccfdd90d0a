"""`outcomes`."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import click

from handlers.core.ports import UnreadableRow
from handlers.operate.codes import check_codes
from handlers.operate.completion import complete_code
from handlers.operate.context import Context
from handlers.operate.options import DurationType, as_json, with_context
from handlers.operate.outcome_tables import outcome_fields, print_csv, print_groups, print_outcomes
from handlers.operate.output import Command, hint, print_json, stderr
from handlers.operate.retrying import print_retrying
from schemas.outcome import FAILING, Outcome, OutcomeStatus

_ANY: Final = "any"
#: The number of events that are shown one by one to people.
_SHOWN: Final = 20


@click.command(
    cls=Command,
    examples=(
        "joinguard outcomes",
        "joinguard outcomes --status any --since 1d --csv > outcomes.csv",
    ),
)
@click.option(
    "--status",
    type=click.Choice([*OutcomeStatus, _ANY]),
    default=OutcomeStatus.FAILED.value,
    show_default=True,
    help="Which outcomes. Other than FAILED and RETRYING, this reads the whole table.",
)
@click.option("--code", "codes", multiple=True, shell_complete=complete_code, help="Only this code. Can be repeated.")
@click.option("--since", type=DurationType(), help="Only outcomes that changed in the last 15m, 6h, 3d, …")
@click.option(
    "--limit",
    type=click.IntRange(1),
    help=f"At most this number of events. Default: {_SHOWN} in the table, all with --csv and --json.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV to stdout.")
@as_json
@with_context
def outcomes(  # noqa: PLR0913 - the options of the command
    context: Context,
    *,
    status: str,
    codes: Sequence[str],
    since: timedelta | None,
    limit: int | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show outcomes, by default those of all events that failed: in groups, then the least recently updated events."""
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other. Remove one")
    begin = context.clock.now() - since if since else None
    read = list(_read(context, status))
    _check_codes(context, status, codes, read)
    found = sorted(_wanted(read, codes, begin), key=_updated_at)
    shown = found[: limit if limit or as_json or as_csv else _SHOWN]
    context.seen.add("events", [each.event_id for each in shown])
    if as_json:
        print_json(outcome_fields(shown))
    elif as_csv:
        print_csv(shown)
    else:
        title = "Events" if status == _ANY else f"Events that are {status}"
        print_groups(found, title)
        if shown:
            print_outcomes(context, shown, "One by one, the least recently updated first", {})
        if left := len(found) - len(shown):
            stderr.print(f"{left:,} more; --limit {len(found)} shows all, --csv and --json print all")
        if status in {OutcomeStatus.FAILED, _ANY}:
            hint("messages with an unreadable body have no outcome: `list --code INVALID_EVENT`")
        if status == OutcomeStatus.FAILED:
            print_retrying(context)


def _read(context: Context, status: str) -> Iterable[Outcome | UnreadableRow]:
    if status == _ANY:
        return context.outcomes.scan(None)
    wanted = OutcomeStatus(status)
    return context.outcomes.failing(wanted) if wanted in FAILING else context.outcomes.scan(wanted)


def _check_codes(context: Context, status: str, codes: Sequence[str], read: Iterable[Outcome | UnreadableRow]) -> None:
    """Raise UsageError for a code that nothing has; say so if only outcomes of another status have it."""
    seen = _statuses_by_code(read)
    if status == _ANY or seen.keys() >= set(codes):
        check_codes(codes, seen.keys())
        return
    elsewhere = _statuses_by_code(context.outcomes.scan(None))
    check_codes(codes, {*seen, *elsewhere})
    for code in codes:
        if code not in seen and (others := elsewhere.get(code)):
            hint(f"no event that is {status} has the code {code}; others do: {', '.join(others)}. Add `--status any`")


def _statuses_by_code(read: Iterable[Outcome | UnreadableRow]) -> dict[str, list[str]]:
    """Return the statuses of the outcomes that have a code, by the code, in order."""
    found: dict[str, set[str]] = {}
    for each in read:
        if isinstance(each, Outcome) and each.fault:
            found.setdefault(each.fault.code, set()).add(each.status.value)
    return {code: sorted(statuses) for code, statuses in found.items()}


def _wanted(
    found: Iterable[Outcome | UnreadableRow], codes: Sequence[str], begin: datetime | None
) -> Iterator[Outcome | UnreadableRow]:
    """Yield the outcomes that the filters select; an unreadable row has neither code nor time."""
    for each in found:
        if isinstance(each, UnreadableRow):
            if not codes and not begin:
                yield each
        elif (not codes or (each.fault and each.fault.code in codes)) and (not begin or each.updated_at >= begin):
            yield each


def _updated_at(each: Outcome | UnreadableRow) -> tuple[bool, datetime | str]:
    return (True, each.event_id) if isinstance(each, UnreadableRow) else (False, each.updated_at)
