"""`list`."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import click
from rich.text import Text

from handlers.core.plurals import count
from handlers.core.redrive.selection import Filter
from handlers.core.redrive.summary import KEYS, Failure, Group, summarize
from handlers.operate.advice import next_step, why
from handlers.operate.codes import check_codes, noting_codes
from handlers.operate.context import Context
from handlers.operate.options import as_json, filtered, with_context
from handlers.operate.output import Command, hint, plain, print_json, stdout
from handlers.operate.progress import elsewhere, receive_marked
from handlers.operate.retrying import number_retrying, print_retrying
from handlers.operate.tables import Cell, duration, lines, print_table

_NAMED: Final = 3


@click.command(
    "list",
    cls=Command,
    examples=(
        "joinguard list",
        "joinguard list --by account --newer-than 6h --json",
    ),
)
@click.option("--by", type=click.Choice(list(KEYS)), default="reason", show_default=True, help="What to group by.")
@filtered
@as_json
@with_context
def list_messages(context: Context, by: str, wanted: Filter, *, as_json: bool) -> None:
    """Show the messages in both queues in groups, and why they failed.

    Changes nothing. SQS shows a message only by delivering it: each `list` adds a receive, which has no effect in
    these queues, and hides the messages from others until it ends.
    """
    now = context.clock.now()
    with context.in_flight() as in_flight:
        received = receive_marked(context, in_flight)
        codes = set[str]()
        groups = summarize((each for each in noting_codes(received, codes) if wanted.matches(each, now)), by)
    check_codes(wanted.codes, codes)
    context.seen.add("messages", [id_ for group in groups for id_ in group.ids], only=wanted == Filter())
    if as_json:
        print_json(
            {
                "messages": sum(group.messages for group in groups),
                "in_flight_elsewhere": in_flight.elsewhere,
                "retrying": number_retrying(context),
                "groups": [_fields(by, group) for group in groups],
            }
        )
        return
    if groups:
        _print_groups(groups, by, now)
        hint(f"`show {groups[0].ids[0][:8]}` shows one message; `redrive` plans to send messages back")
    else:
        stdout.print(plain(_none(wanted, in_flight.elsewhere)))
    print_retrying(context)


def _none(wanted: Filter, in_flight_elsewhere: int) -> str:
    """Return that there is no message, and how sure that is."""
    if in_flight_elsewhere:
        what = "no visible messages" if wanted == Filter() else "no visible message matches"
        return f"{what}; {elsewhere(in_flight_elsewhere)}"
    return "no messages" if wanted == Filter() else "no message matches"


def _print_groups(groups: Sequence[Group], by: str, now: datetime) -> None:
    # The last column holds the reason in any case.
    named = [by] if by not in {"reason", "code"} else []
    rows: list[list[Cell]] = []
    for group in groups:
        ages = dict.fromkeys([duration(now - group.newest), duration(now - group.oldest)])
        left = f"deleted in {duration(group.deleted_at - now)}" if group.deleted_at else ""
        departed = f"account left: {group.departed:,}" if group.departed else ""
        redriven = f"redriven: {group.redrives}" if group.redrives else ""
        ids = f"{', '.join(each[:8] for each in group.ids[:_NAMED])}{', …' if group.messages > _NAMED else ''}"
        failures = [text for each in group.failures.most_common(3) for text in _failure(group, *each)]
        rows.append(
            [
                *([group.key] if named else []),
                f"{group.messages:,}",
                lines(" to ".join(ages), left),
                lines(*_counts(group.queues), *_counts(group.origins), redriven, departed),
                lines(*failures, plain(ids, "dim")),
            ]
        )
    title = f"{count(sum(group.messages for group in groups), 'message')}, by {by}"
    print_table(title, [*named, "messages", "age", "queue, event", "why, next step"], rows)


def _counts(counter: Counter[str]) -> list[str]:
    return [name if len(counter) == 1 else f"{number:,} {name}" for name, number in counter.most_common(4)]


def _failure(group: Group, failure: Failure, messages: int) -> list[Text]:
    return [
        plain(failure.code if messages == group.messages else f"{failure.code} ({messages:,})", "bold"),
        plain(why(failure.why if messages > 1 else failure.example)),
        plain(f"→ {next_step(failure.cause, failure.queue)}", "green"),
    ]


def _fields(by: str, group: Group) -> dict[str, Any]:
    return {
        by: group.key,
        "messages": group.messages,
        "oldest": group.oldest.isoformat(),
        "newest": group.newest.isoformat(),
        "first_deleted_at": group.deleted_at.isoformat() if group.deleted_at else None,
        "redrives": group.redrives,
        "departed": group.departed,
        "reasons": [
            {
                "code": each.code,
                "why": why(each.why),
                "policies": each.policies,
                "next_step": next_step(each.cause, each.queue),
                "messages": number,
            }
            for each, number in group.failures.most_common()
        ],
        "queues": dict(group.queues),
        "origins": dict(group.origins),
        "ids": group.ids,
    }
