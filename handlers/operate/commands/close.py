"""`close`."""

from collections.abc import Sequence
from datetime import timedelta

import click

from handlers.core.evidence.audit import AuditedAction
from handlers.core.evidence.references import event_reference
from handlers.core.plurals import count
from handlers.operate.codes import check_codes
from handlers.operate.completion import complete_code
from handlers.operate.confirmation import NOTHING_TO_DO, Done, Intention, carry_out
from handlers.operate.context import Context
from handlers.operate.errors import OperateError
from handlers.operate.options import AccountIdType, Approval, DurationType, confirmed, with_context
from handlers.operate.outcome_tables import print_groups
from handlers.operate.output import Command, stderr
from handlers.operate.progress import progress, receive_all
from schemas.audit import MessageDigest
from schemas.outcome import FAILING, Outcome, OutcomeStatus

_BATCH = 100


@click.command(
    cls=Command,
    examples=(
        "joinguard close --older-than 1d",
        'joinguard close --account 111122223333 --confirm --reason "the queue was purged, INC-123"',
    ),
)
@click.option("--account", "accounts", multiple=True, type=AccountIdType(), help="Only this account. Can be repeated.")
@click.option("--code", "codes", multiple=True, shell_complete=complete_code, help="Only this code. Can be repeated.")
@click.option("--older-than", type=DurationType(), help="Only outcomes that did not change in the last 15m, 6h, 3d, …")
@click.option(
    "--status",
    type=click.Choice(sorted(FAILING)),
    default=OutcomeStatus.FAILED.value,
    show_default=True,
    help="Which outcomes. A message of an outcome that is RETRYING may be in the joins queue, and then reopens it.",
)
@confirmed
@with_context
def close(  # noqa: PLR0913 - the options of the command
    context: Context,
    *,
    accounts: Sequence[str],
    codes: Sequence[str],
    older_than: timedelta | None,
    status: str,
    approval: Approval,
) -> int:
    """Close outcomes whose messages are gone, as after a purge of the queue. `drop` closes those of its messages.

    An outcome stays open if a message of its event is in the queues of failed messages, or if an attempt is running.
    """
    if not (accounts or codes or older_than):
        raise click.UsageError("close needs a filter. Add --account, --code or --older-than")
    until = context.clock.now() - older_than if older_than else context.clock.now()
    with context.in_flight() as in_flight:
        present = {each.outcome_key for each in receive_all(in_flight, "receiving both queues")}
    failing = list(context.outcomes.failing(OutcomeStatus(status)))
    seen = {each.fault.code for each in failing if isinstance(each, Outcome) and each.fault}
    wanted = [
        each
        for each in failing
        if isinstance(each, Outcome)
        and each.updated_at <= until
        and (not accounts or each.account_id in accounts)
        and (not codes or (each.fault and each.fault.code in codes))
    ]
    chosen = [each for each in wanted if (each.account_id, each.event_id) not in present]
    kept = len(wanted) - len(chosen)
    if not approval.json:
        print_groups(chosen, "Outcomes to be closed")
    if kept:
        stderr.print(f"{kept:,} left out: their messages are in the queues; redrive or drop those", style="yellow")
    if in_flight.elsewhere:
        refusal = "messages of these events may be in flight elsewhere. Run the command again in 15 minutes"
        if approval.reason:
            raise OperateError(refusal)
        stderr.print(f"--confirm will be refused: {refusal}", style="yellow")
    check_codes(codes, seen)

    def effect(audited: AuditedAction) -> Done:
        with progress("closing", len(chosen)) as advance:
            for begin in range(0, len(chosen), _BATCH):
                keys = [(each.account_id, each.event_id) for each in chosen[begin : begin + _BATCH]]
                closed = context.close(audited, keys)
                audited.add("closed", [_reference(context, event_id) for _, event_id in closed])
                advance(len(keys))
        number = audited.results.get("closed", 0)
        return Done(f"{count(number, 'outcome')} closed", complete=number == len(chosen) and not kept)

    intention = Intention(
        "close",
        lambda: [_digest(context, each) for each in chosen],
        {"chosen": [{"account_id": each.account_id, "event_id": each.event_id} for each in chosen], "left_out": kept},
        obstacle=None if chosen else NOTHING_TO_DO,
        complete=not kept,
    )
    return carry_out(context, intention, approval, effect)


def _reference(context: Context, event_id: str) -> str:
    return event_reference(event_id, context.pseudonyms.digest)


def _digest(context: Context, each: Outcome) -> MessageDigest:
    return MessageDigest(
        event_id=_reference(context, each.event_id), error_code=each.fault.code if each.fault else None
    )
