"""SQS's own move of all dead letters: no filter, no count of redrives, and it goes on when this machine does not."""

import sys

import click

from handlers.core.redrive import Filter
from handlers.operate.screens import as_line, moving_bar, talk
from handlers.operate.workbench import Move, OperateError, Workbench

_RUNNING = frozenset({"RUNNING", "CANCELLING"})


def move(  # noqa: PLR0913 - the options of a command
    bench: Workbench,
    wanted: Filter,
    reason: str | None,
    pace: float | None,
    *,
    everything: bool,
    force: bool,
    cancel: bool,
    machine: bool,
) -> None:
    """Start, follow or cancel SQS's own move of the dead letters."""
    if wanted != Filter():
        message = "SQS moves all or nothing: --native takes no filter and no --limit; without --native a filter works"
        raise click.UsageError(message)
    running = bench.moves.latest()
    if running and running.status not in _RUNNING:
        running = None
    if cancel:
        _cancel(bench, running, reason, machine=machine)
        return
    if not everything:
        message = "SQS moves every dead letter: say --all --native, or leave --native away"
        raise click.UsageError(message)
    if running:
        talk.print("a move is running already, and SQS allows one; this follows it. Ctrl-C leaves it running")
        _end(_follow(bench), machine=machine)
        return
    _start(bench, reason, max(1, min(500, round(pace or 500))), force=force, machine=machine)


def _start(bench: Workbench, reason: str | None, per_second: int, *, force: bool, machine: bool) -> None:
    letters, elsewhere = bench.post.count("dead letters"), bench.post.count("undelivered")
    talk.print(f"SQS would move about {letters:,} dead letters, {per_second} a second, whatever became of their cause")
    if elsewhere:
        talk.print(
            f"{elsewhere:,} undelivered stay: SQS moves only out of a queue that another queue leaves its letters in. "
            "`redrive` without --native takes them too"
        )
    problem = bench.preflight.cannot_attach
    if problem and not force:
        message = f"all of them would come back: {problem}. --force moves them all the same"
        raise OperateError(message)
    if not reason:
        if machine:
            as_line({"done": False, "letters": letters, "undelivered": elsewhere})
        talk.print('Nothing was done; say --confirm --reason "…" to do it')
        return
    with bench.begin("move", reason, []) as deed:
        bench.moves.start(per_second=per_second)
        talk.print("SQS moves, also without this machine. Ctrl-C stops looking; `redrive --cancel` cancels it")
        ended = _follow(bench)
        deed.results = {"moved": ended.moved}
        deed.ended = "completed" if ended.status == "COMPLETED" else "stopped"
    _end(ended, machine=machine)


def _cancel(bench: Workbench, running: Move | None, reason: str | None, *, machine: bool) -> None:
    if running is None or running.handle is None:
        message = "SQS moves nothing that could be cancelled"
        raise OperateError(message)
    if not reason:
        talk.print(f'{running.moved:,} are moved and stay so. Nothing was done; say --confirm --reason "…" to cancel')
        return
    with bench.begin("cancel", reason, []) as deed:
        bench.moves.cancel(running.handle)
        ended = _follow(bench)
        deed.results = {"moved": ended.moved}
    if machine:
        as_line({"done": True, "status": ended.status, "moved": ended.moved})
    talk.print(f"{ended.status}: {ended.moved:,} had been moved")


def _follow(bench: Workbench) -> Move:
    """Show how the move goes until it ends."""
    with moving_bar() as update:
        while True:
            task = bench.moves.latest()
            if task and task.status not in _RUNNING:
                return task
            if task:
                update(task.moved, task.to_move)
            bench.clock.sleep(2)


def _end(ended: Move, *, machine: bool) -> None:
    if machine:
        as_line({"done": True, "status": ended.status, "moved": ended.moved, "failure": ended.failure})
    talk.print(f"{ended.status}: {ended.moved:,} moved{f'; {ended.failure}' if ended.failure else ''}")
    sys.exit(0 if ended.status == "COMPLETED" else 1)
