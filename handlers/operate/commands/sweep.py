"""`sweep`."""

from datetime import timedelta

import click

from handlers.core.evidence.audit import AuditedAction
from handlers.operate.confirmation import Done, Intention, carry_out
from handlers.operate.context import Context
from handlers.operate.errors import OperateError
from handlers.operate.options import Approval, DurationType, confirmed, with_context
from handlers.operate.output import Command
from handlers.operate.progress import sweeping
from handlers.operate.sweep_output import fields, is_clean, print_state, summary
from handlers.operate.sweeping import complete_sweep
from handlers.operate.tables import duration


@click.command(
    cls=Command,
    examples=(
        "joinguard sweep",
        'joinguard sweep --confirm --reason "the trail was off, INC-123"',
    ),
)
@confirmed
@click.option(
    "--wait", type=DurationType(), default="1h", show_default=True, help="How long to wait until the sweep is complete."
)
@with_context
def sweep(context: Context, *, approval: Approval, wait: timedelta) -> int:
    """Show what the last sweep of the organization found. With --confirm --reason, sweep it now.

    A sweep compares all accounts with the guardrails. In a stage that enforces, it requests the policies that are
    missing. If one is running already, this command follows it. If policies are missing, the exit status is 1.
    """
    installed, now = context.sweep, context.clock.now
    if installed is None:
        raise OperateError("this installation is of an earlier version, which has no sweep. Run `make deploy`")
    state = context.patiently(installed.states.read)
    if not (approval.json or approval.reason):
        print_state(installed, state, now())

    def effect(audited: AuditedAction) -> Done:
        with sweeping() as show:
            found = complete_sweep(context, installed, show, until=now() + wait)
        if found is None or found.last is None:
            why = (
                f"the sweep is not complete after {duration(wait)}, and goes on by itself: `sweep` shows how far it is"
            )
            return Done(why, complete=False)
        audited.results |= {"requested": found.last.requested, "accounts with gaps": found.last.with_gaps}
        if not approval.json:
            print_state(installed, found, now())
        return Done(summary(found.last), complete=is_clean(found.last), fields=fields(installed, found, now()))

    intention = Intention("sweep", list, fields(installed, state, now()))
    status = carry_out(context, intention, approval, effect)
    return status or int(not approval.reason and not is_clean(state.last if state else None))
