"""`drop`."""

import click

from handlers.core.evidence.audit import AuditedAction
from handlers.core.redrive.selection import Filter, Plan, select
from handlers.operate.confirmation import Done, carry_out
from handlers.operate.context import Context
from handlers.operate.options import Approval, confirmed, filtered, limited, with_context
from handlers.operate.output import Command, stderr
from handlers.operate.plans import intention, print_plan
from handlers.operate.progress import progress, receive_all

_BATCH = 10


@click.command(cls=Command)
@limited
@filtered
@confirmed
@with_context
def drop(context: Context, wanted: Filter, approval: Approval) -> int:
    """Delete messages, after a backup of their bodies and attributes. Needs a filter."""
    if wanted.is_empty:
        raise click.UsageError("drop needs a filter. Add --id or another one")
    with context.in_flight() as in_flight:
        selected, missing = select(receive_all(in_flight, "receiving both queues"), wanted, context.clock.now())
        chosen = selected[: wanted.limit]
        in_flight.release_all_but(chosen)
        plan = Plan(tuple(chosen), missing=missing, elsewhere=in_flight.elsewhere)
        print_plan(plan, "dropped", approval)

        def delete(audited: AuditedAction) -> Done:
            stderr.print(f"`restore {context.back_up(audited, chosen)}` restores the messages")
            with progress("dropping", len(chosen)) as advance:
                for begin in range(0, len(chosen), _BATCH):
                    in_flight.extend_visibility()
                    deleted = in_flight.delete(chosen[begin : begin + _BATCH])
                    audited.add("dropped", deleted)
                    advance(len(deleted))
            number = len(audited.result_of)
            return Done(f"{number:,} dropped", complete=number == len(chosen) and not plan.is_partial)

        return carry_out(context, intention(context, "drop", plan), approval, delete)
