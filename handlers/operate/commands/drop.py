"""`drop`."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

import click

from handlers.core.evidence.audit import AuditedAction
from handlers.core.plurals import count
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.ports import OutcomeKey
from handlers.core.redrive.selection import Filter, Plan, select
from handlers.operate.codes import check_codes, noting_codes
from handlers.operate.confirmation import Done, carry_out
from handlers.operate.context import Context
from handlers.operate.options import Approval, confirmed, filtered, limited, with_context
from handlers.operate.output import Command, hint
from handlers.operate.plans import intention, print_plan
from handlers.operate.progress import progress, receive_marked
from handlers.operate.tables import first
from schemas.attribute import MAX_BATCH
from schemas.events import Join
from schemas.ids import AccountId

#: The number of accounts that a plan names.
_NAMED: Final = 10


@click.command(
    cls=Command,
    examples=(
        "joinguard drop --code WRONG_ORGANIZATION",
        "joinguard drop --departed",
        'joinguard drop --id 8f14e45f --confirm --reason "sent by hand as a test, INC-123"',
    ),
)
@limited
@filtered
@confirmed
@with_context
def drop(context: Context, wanted: Filter, approval: Approval) -> int:
    """Delete messages, after a backup of their bodies and attributes, and close their outcomes. Needs a filter.

    An outcome stays open if another message of its event is in the queues, or if an attempt is running. If the event
    comes again, or its message is restored and redriven, the closed outcome is handled as new work.
    """
    if wanted.is_empty:
        raise click.UsageError("drop needs a filter. Add --id or another one")
    with context.in_flight() as in_flight:
        events = Counter[OutcomeKey]()
        codes = set[str]()
        received = _counted(noting_codes(receive_marked(context, in_flight), codes), events)
        selected, missing = select(received, wanted, context.clock.now())
        chosen = selected[: wanted.limit]
        in_flight.release_all_but(chosen)
        plan = Plan(tuple(chosen), missing=missing, elsewhere=in_flight.elsewhere)
        check_codes(wanted.codes, codes)
        print_plan(plan, "dropped", approval)
        _print_accounts(chosen)

        def delete(audited: AuditedAction) -> Done:
            hint(f"`restore {context.back_up(audited, chosen)}` restores the messages")
            with progress("dropping", len(chosen)) as advance:
                for begin in range(0, len(chosen), MAX_BATCH):
                    in_flight.extend_visibility()
                    batch = [each for each in chosen[begin : begin + MAX_BATCH] if in_flight.has(each)]
                    # First, so that running the command again repairs what an interrupt left.
                    closed = context.close(audited, _last_of_their_events(batch, events))
                    deleted = in_flight.delete(batch)
                    audited.add("dropped", deleted)
                    audited.results["closed"] = audited.results.get("closed", 0) + len(closed)
                    advance(len(deleted))
            number = audited.results.get("dropped", 0)
            return Done(
                f"{number:,} dropped; {count(audited.results.get('closed', 0), 'outcome')} closed",
                complete=number == len(chosen) and not plan.is_partial,
            )

        return carry_out(context, intention(context, "drop", plan), approval, delete)


def _print_accounts(chosen: Sequence[DeadLetter]) -> None:
    """Print the accounts to which nobody will attach policies after this, and those from which nobody removes any."""
    removals = {each.account_id for each in chosen if not each.left_at and _is_removal(each)}
    others = {each.account_id for each in chosen if each.account_id and not each.left_at and not _is_removal(each)}
    _print_named(others, ("stays", "stay"), "without the policies that these messages ask for")
    _print_named(removals, ("keeps", "keep"), "the policies that these messages would remove")


def _is_removal(dead_letter: DeadLetter) -> bool:
    return isinstance(dead_letter.event, Join) and dead_letter.event.cause == "removal"


def _print_named(accounts: Collection[AccountId], verbs: tuple[str, str], what: str) -> None:
    if not accounts:
        return
    subject = f"{count(len(accounts), 'account')} {verbs[0] if len(accounts) == 1 else verbs[1]}"
    few = first(sorted(accounts), _NAMED)
    hint(f"{subject} {what}: {few}; `outcome ACCOUNT` shows what one carries", "yellow")


def _counted(dead_letters: Iterable[DeadLetter], events: Counter[OutcomeKey]) -> Iterator[DeadLetter]:
    """Yield messages, and count the messages of each event."""
    for each in dead_letters:
        if each.outcome_key:
            events[each.outcome_key] += 1
        yield each


def _last_of_their_events(batch: Sequence[DeadLetter], events: Counter[OutcomeKey]) -> list[OutcomeKey]:
    """Return the events that have no other message once these are deleted."""
    keys = [each.outcome_key for each in batch if each.outcome_key]
    events.subtract(keys)
    return [key for key in dict.fromkeys(keys) if not events[key]]
