"""Commands that move letters: dry without --confirm and --reason, on record before and after."""

import sys
from dataclasses import replace
from datetime import timedelta

import click

from handlers.core.redrive.redrive import Redrive
from handlers.core.redrive.selection import Filter, Plan, make_plan
from handlers.operate.moving import move
from handlers.operate.options import Age, Rate, acting, filtered, limited, on_workbench
from handlers.operate.planning import end, may, tell
from handlers.operate.screens import advancing, browsed, pace_told
from handlers.operate.terminal import Command, talk
from handlers.operate.workbench import OperateError, Workbench


@click.command(cls=Command)
@click.option("--all", "everything", is_flag=True, help="Every letter; needed where there is no filter.")
@limited
@filtered
@acting
@click.option("--max-redrives", default=3, show_default=True, help="Leave out what was put back so often.")
@click.option(
    "--rate",
    type=Rate(),
    help="Letters a second. Default: what the workers absorb. 0: as fast as SQS, before live joins.",
)
@click.option(
    "--breaker",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Stop when so many came back dead; the first so many go alone.",
)
@click.option("--wait", type=Age(), default="30s", show_default=True, help="How long to see what becomes of them.")
@click.option("--force", is_flag=True, help="Also what would only come back.")
@click.option("--native", is_flag=True, help="With --all: let SQS move all dead letters by itself.")
@click.option("--cancel", is_flag=True, help="Cancel the move by SQS that is running.")
@on_workbench
def redrive(  # noqa: PLR0913, PLR0917 - the options of a command
    bench: Workbench,
    wanted: Filter,
    reason: str | None,
    max_redrives: int,
    rate: float | None,
    breaker: int,
    wait: timedelta,
    *,
    everything: bool,
    force: bool,
    native: bool,
    cancel: bool,
    machine: bool,
) -> None:
    """Put letters back on the queue: send first, delete after.

    Shows the plan, with what would only come back left out; does it with --confirm --reason. Interrupt it and run it
    again as you like: no letter is lost, and one that is sent twice is handled once.
    """
    pace = bench.pace if rate is None else rate or None
    if native or cancel:
        move(bench, wanted, reason, pace, everything=everything, force=force, cancel=cancel, machine=machine)
        return
    if reason and wanted == Filter() and not everything:
        raise click.UsageError("no filter and no --limit: say --all to put every letter back")
    with bench.hand() as hand:
        plan = make_plan(
            browsed(hand, "looking into both queues"),
            wanted,
            now=bench.clock.now(),
            max_redrives=max_redrives,
            would_fail=lambda letter: bench.would_fail(letter, hand),
            force=force,
        )
        hand.release_all_but(plan.chosen)
        plan = replace(plan, elsewhere=hand.elsewhere, unknown=tuple(bench.preflight.unknown))
        tell(plan, "redriven", machine=machine)
        if plan.chosen:
            talk.print(pace_told(len(plan.chosen), pace, bench.pace))
        if not may(plan, reason, machine=machine):
            return
        engine = bench.redriver(hand, rate=pace, breaker=breaker, tell=talk.print)
        act_id = _put_back(bench, engine, plan, reason or "", wait)
    end(plan, act_id, engine.results, _summary(plan, engine), machine=machine)
    if engine.stopped:
        raise OperateError(engine.stopped)
    well = engine.deleted == len(plan.chosen) and not engine.dead and not engine.unfollowed
    sys.exit(0 if well and not plan.leaves else 1)


def _put_back(bench: Workbench, engine: Redrive, plan: Plan, reason: str, wait: timedelta) -> str:
    """Do what is planned, on record; return the act's id."""
    with bench.begin("redrive", reason, plan.chosen) as deed:
        try:
            with advancing("redriving", len(plan.chosen)) as advance:
                engine.run(plan.chosen, advance)
            engine.hand.release_all_but(())
            if not engine.stopped:
                see_what_becomes(engine, wait)
        except KeyboardInterrupt:
            talk.print(f"interrupted: {engine.sent:,} sent; what was not sent is where it was, so run it again")
            raise
        finally:
            deed.results, deed.became = engine.results, engine.fates
            deed.ended = "stopped" if engine.stopped else "completed"
    return deed.act.act_id


def see_what_becomes(engine: Redrive, wait: timedelta) -> None:
    """Wait for what becomes of letters that were sent; an interrupt ends the waiting and nothing else."""
    if not wait or not engine.following.undecided:
        return
    try:
        with advancing("deciding", engine.following.undecided) as advance:
            engine.await_all(wait, advance)
    except KeyboardInterrupt:
        talk.print("no longer waiting")


def _summary(plan: Plan, engine: Redrive) -> str:
    results = engine.results
    parts = [f"{results['sent']:,} sent and deleted"]
    if kept := results["sent"] - results["deleted"]:
        parts = [f"{results['sent']:,} sent, {kept:,} of them not deleted (twice does no harm; `list` shows them)"]
    if left := len(plan.chosen) - results["sent"]:
        parts.append(f"{left:,} left where they are")
    parts += [f"{results[status]:,} {status}" for status in ("enforced", "ignored", "failed") if status in results]
    if engine.following.undecided:
        parts.append(f"{engine.following.undecided:,} not decided yet (`outcome ACCOUNT` and `make logs` tell more)")
    if engine.unfollowed:
        parts.append(
            f"of {engine.unfollowed:,} nobody can tell, for their bodies cannot be read; `list` shows them again"
        )
    refused = sorted({each for each in engine.became.values() if each.startswith("refused")})
    return "; ".join([*parts, *refused])
