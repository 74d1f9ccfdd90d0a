"""SQS's own move of all dead letters: no filter, no count of redrives, and it goes on when this machine does not."""

import sys
from datetime import timedelta
from typing import Final, NoReturn

import click

from handlers.core.redrive.selection import Filter
from handlers.operate.screens import moving_bar, say_unknown
from handlers.operate.terminal import as_line, talk
from handlers.operate.workbench import Move, OperateError, Workbench

_RUNNING: Final = frozenset({"RUNNING", "CANCELLING"})
#: For so long a move that was started may not be told of yet.
_UNSEEN: Final = timedelta(minutes=1)


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
        raise click.UsageError(
            "SQS moves all or nothing: --native takes no filter and no --limit; without --native a filter works"
        )
    latest = bench.moves.latest()
    running = latest if latest and latest.status in _RUNNING else None
    if cancel:
        _cancel(bench, running, reason, machine=machine)
        return
    if not everything:
        raise click.UsageError("SQS moves every dead letter: say --all --native, or leave --native away")
    if running:
        talk.print("a move is running already, and SQS allows one; this follows it. Ctrl-C leaves it running")
        _end(_follow(bench, after=0), machine=machine)
    per_second = max(1, min(500, round(pace or 500)))
    before = latest.started if latest else 0
    _start(bench, reason, per_second, before=before, force=force, machine=machine)


def _start(  # noqa: PLR0913 - the options of a command
    bench: Workbench, reason: str | None, per_second: int, *, before: int, force: bool, machine: bool
) -> None:
    letters, elsewhere = bench.post.count("dead letters"), bench.post.count("undelivered")
    talk.print(f"SQS would move about {letters:,} dead letters, {per_second} a second, whatever became of their cause")
    if elsewhere:
        talk.print(
            f"{elsewhere:,} undelivered stay: SQS moves only out of a queue that another queue leaves its letters in. "
            "`redrive` without --native takes them too"
        )
    problem = bench.preflight.cannot_attach
    say_unknown(bench.preflight.unknown)
    if problem and not force:
        raise OperateError(f"all of them would come back: {problem}. --force moves them all the same")
    if not reason:
        if machine:
            as_line({"done": False, "letters": letters, "undelivered": elsewhere})
        talk.print('Nothing was done; say --confirm --reason "…" to do it')
        return
    with bench.begin("move", reason, []) as deed:
        bench.moves.start(per_second=per_second)
        talk.print("SQS moves, also without this machine. Ctrl-C stops looking; `redrive --cancel` cancels it")
        ended = _follow(bench, after=before, seen=deed.results)
        deed.ended = "completed" if ended.status == "COMPLETED" else "stopped"
    _end(ended, machine=machine)


def _cancel(bench: Workbench, running: Move | None, reason: str | None, *, machine: bool) -> None:
    if running is None or running.handle is None:
        raise OperateError("SQS moves nothing that could be cancelled")
    if not reason:
        if machine:
            as_line({"done": False, "status": running.status, "moved": running.moved})
        talk.print(f'{running.moved:,} are moved and stay so. Nothing was done; say --confirm --reason "…" to cancel')
        return
    with bench.begin("cancel", reason, []) as deed:
        bench.moves.cancel(running.handle)
        ended = _follow(bench, after=0, seen=deed.results)
    if machine:
        as_line({"done": True, "status": ended.status, "moved": ended.moved})
    talk.print(f"{ended.status}: {ended.moved:,} had been moved")


def _follow(bench: Workbench, *, after: int, seen: dict[str, int] | None = None) -> Move:
    """Show how the move that was started after another goes until it ends; keep in `seen` how far it has come."""
    until = bench.clock.now() + _UNSEEN
    with moving_bar() as update:
        while True:
            task = bench.patiently(bench.moves.latest)
            if task and task.started > after:
                update(task.moved, task.to_move)
                if seen is not None:
                    seen["moved"] = task.moved
                if task.status not in _RUNNING:
                    return task
            elif bench.clock.now() > until:
                raise OperateError("SQS does not tell how the move goes; `redrive --all --native` follows it later")
            bench.clock.sleep(2)


def _end(ended: Move, *, machine: bool) -> NoReturn:
    if machine:
        as_line({"done": True, "status": ended.status, "moved": ended.moved, "failure": ended.failure})
    talk.print(f"{ended.status}: {ended.moved:,} moved{f'; {ended.failure}' if ended.failure else ''}")
    sys.exit(0 if ended.status == "COMPLETED" else 1)
