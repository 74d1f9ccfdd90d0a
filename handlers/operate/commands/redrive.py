"""`redrive`."""

from dataclasses import replace
from datetime import timedelta

import click

from handlers.core.evidence.audit import AuditedAction
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.explanations import Problems
from handlers.core.redrive.in_flight import NOT_IN_FLIGHT, InFlight
from handlers.core.redrive.redrive import Redrive
from handlers.core.redrive.selection import Filter, Plan, make_plan
from handlers.operate.advice import sentence
from handlers.operate.codes import check_codes, noting_codes
from handlers.operate.confirmation import Done, carry_out
from handlers.operate.context import Context
from handlers.operate.move_task import Move, check_arguments
from handlers.operate.options import Approval, DurationType, RateType, confirmed, filtered, limited, with_context
from handlers.operate.output import Command, stderr
from handlers.operate.plans import intention, print_plan, time_estimate
from handlers.operate.progress import receive_marked
from handlers.operate.retrying import print_retrying
from handlers.operate.send_back import send_back


@click.command(
    cls=Command,
    examples=(
        "joinguard redrive",
        'joinguard redrive --code AccessDeniedException --confirm --reason "role restored, INC-123"',
    ),
)
@click.option("--all", "everything", is_flag=True, help="All messages; needed without a filter.")
@limited
@filtered
@confirmed
@click.option("--max-redrives", default=3, show_default=True, help="Leave out messages redriven this many times.")
@click.option(
    "--rate",
    type=RateType(),
    help="Messages a second. Default: the workers' pace. 0: no limit, even while live joins wait.",
)
@click.option(
    "--breaker",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Stop after this many messages failed again. The same number goes first, alone.",
)
@click.option(
    "--wait", type=DurationType(), default="30s", show_default=True, help="How long to wait until all are decided."
)
@click.option("--force", is_flag=True, help="Include messages that would fail again.")
@click.option("--native", is_flag=True, help="With --all: let SQS itself move all dead letters.")
@click.option("--cancel", is_flag=True, help="Cancel SQS's running move.")
@with_context
def redrive(  # noqa: PLR0913 - the options of the command
    context: Context,
    wanted: Filter,
    approval: Approval,
    *,
    max_redrives: int,
    rate: float | None,
    breaker: int,
    wait: timedelta,
    everything: bool,
    force: bool,
    native: bool,
    cancel: bool,
) -> int:
    """Send messages back to the joins queue, then delete them from theirs.

    Shows the plan, without the messages that would fail again. With --confirm --reason, carries it out. It can be
    interrupted and run again: no message is lost, and a message that is sent twice is handled once.
    """
    rate = context.pace if rate is None else rate or None
    if native or cancel:
        check_arguments(filtered=wanted != Filter(), everything=everything, cancel=cancel)
        move = Move(context, approval)
        return move.cancel() if cancel else move.start_or_follow(rate, force=force)
    if approval.reason and wanted == Filter() and not everything:
        raise click.UsageError("there is no filter and no --limit. Add --all to redrive every message")
    with context.in_flight() as in_flight:
        plan = _plan(context, in_flight, wanted, max_redrives=max_redrives, force=force)
        print_plan(plan, "redriven", approval)
        print_retrying(context)
        if plan.chosen:
            stderr.print(time_estimate(len(plan.chosen), rate, context.pace))

        def send(audited: AuditedAction) -> Done:
            return _done(
                plan, send_back(context, in_flight, plan.chosen, audited, rate=rate, breaker=breaker, wait=wait)
            )

        return carry_out(context, intention(context, "redrive", plan), approval, send)


def _plan(context: Context, in_flight: InFlight, wanted: Filter, *, max_redrives: int, force: bool) -> Plan:
    def would_fail(dead_letter: DeadLetter) -> Problems:
        # Pre-flight may take long.
        in_flight.extend_visibility()
        return context.preflight.would_fail(dead_letter)

    codes = set[str]()
    plan = make_plan(
        noting_codes(receive_marked(context, in_flight), codes),
        wanted,
        now=context.clock.now(),
        max_redrives=max_redrives,
        would_fail=would_fail,
        force=force,
    )
    check_codes(wanted.codes, codes)
    in_flight.release_all_but(plan.chosen)
    return replace(plan, elsewhere=in_flight.elsewhere, unknown=tuple(context.preflight.unknown))


def _done(plan: Plan, ended: Redrive) -> Done:
    complete = ended.deleted == len(plan.chosen) and not (ended.failed or ended.untracked or plan.is_partial)
    return Done(_summary(plan, ended), complete, stopped=sentence(ended.stopped) if ended.stopped else None)


def _summary(plan: Plan, ended: Redrive) -> str:
    results = ended.results
    parts = [f"{results['sent']:,} sent and deleted"]
    if kept := results["sent"] - results["deleted"]:
        parts = [f"{results['sent']:,} sent, {kept:,} of them not deleted, which is harmless; `list` shows them"]
    if left := len(plan.chosen) - results["sent"]:
        parts.append(f"{left:,} left in their queues")
    parts += [f"{results[status]:,} {status}" for status in ("enforced", "ignored", "failed") if status in results]
    if ended.tracker.undecided:
        parts.append(f"{ended.tracker.undecided:,} without an outcome yet (see `outcome ACCOUNT` and `make logs`)")
    if ended.untracked:
        parts.append(f"{ended.untracked:,} with unreadable bodies cannot be tracked; `list` shows them if they fail")
    refused = sorted({each for each in ended.result_of.values() if each.startswith("refused")})
    return "; ".join([*parts, *(each.replace(NOT_IN_FLIGHT, "no longer in flight") for each in refused)])
