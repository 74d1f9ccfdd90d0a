"""`redrive --native`: SQS's own move of all dead letters, without a filter, which goes on without this machine."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import click

from handlers.core.evidence.audit import AuditedAction
from handlers.core.redrive.ports import MoveTask
from handlers.operate.advice import sentences
from handlers.operate.confirmation import Done, Intention, carry_out
from handlers.operate.context import Context
from handlers.operate.errors import OperateError
from handlers.operate.options import MAX_RATE, Approval
from handlers.operate.output import hint, print_json, stderr
from handlers.operate.plans import print_unknown
from handlers.operate.progress import move_progress

_RUNNING: Final = frozenset({"RUNNING", "CANCELLING"})
#: How long SQS may take to list a new task.
_LISTING_TIMEOUT: Final = timedelta(minutes=1)
_POLL_INTERVAL: Final = 2


@dataclass(frozen=True)
class Move:
    """Start, follow or cancel a move task; each returns the exit status."""

    context: Context
    approval: Approval

    def start_or_follow(self, rate: float | None, *, force: bool) -> int:
        """Start a task, or follow the running one."""
        latest = self.context.moves.latest()
        if latest and latest.status in _RUNNING:
            stderr.print("a move is running, and SQS allows one at a time. Following it; Ctrl-C does not stop it")
            done = _done(self._follow(after=0))
            if self.approval.json:
                print_json({"done": True, **done.fields})
            stderr.print(done.summary)
            return 0 if done.complete else 1
        per_second = max(1, min(MAX_RATE, round(rate or MAX_RATE)))
        return self._start(per_second, after=latest.started if latest else 0, force=force)

    def _start(self, per_second: int, *, after: int, force: bool) -> int:
        queues = self.context.queues
        dead_letters, undelivered = queues.visible("dead letters"), queues.visible("undelivered")
        stderr.print(f"SQS would move about {dead_letters:,} dead letters, {per_second} a second, without a check")
        if undelivered:
            hint(
                f"{undelivered:,} undelivered messages stay: SQS moves only messages of a dead-letter queue of another "
                "queue. `redrive` without --native redrives them too"
            )
        problems = self.context.preflight.of_organization
        print_unknown(self.context.preflight.unknown)
        if problems and not force:
            raise OperateError(f"all of them would fail again: {sentences(problems)}. Add --force to move them anyway")

        def start(audited: AuditedAction) -> Done:
            self.context.moves.start(per_second=per_second)
            hint("SQS moves the messages. Ctrl-C stops following it; `redrive --cancel` cancels it")
            ended = self._follow(after=after, audited=audited)
            audited.ended = "completed" if ended.status == "COMPLETED" else "stopped"
            return _done(ended)

        fields = {"dead_letters": dead_letters, "undelivered": undelivered}
        return carry_out(self.context, Intention("move", list, fields), self.approval, start)

    def cancel(self) -> int:
        """Cancel the running task."""
        running = self.context.moves.latest()
        handle = running.handle if running and running.status in _RUNNING else None
        if running is None or handle is None:
            raise OperateError("there is no running move to cancel")
        stderr.print(f"{running.moved:,} messages are moved and stay moved")

        def cancel(audited: AuditedAction) -> Done:
            self.context.moves.cancel(handle)
            ended = self._follow(after=0, audited=audited)
            fields = {"status": ended.status, "moved": ended.moved}
            return Done(f"{ended.status}: {ended.moved:,} messages were moved", complete=True, fields=fields)

        fields = {"status": running.status, "moved": running.moved}
        return carry_out(self.context, Intention("cancel", list, fields), self.approval, cancel)

    def _follow(self, *, after: int, audited: AuditedAction | None = None) -> MoveTask:
        """Show the progress of the task that started after another one, until it ends."""
        clock = self.context.clock
        until = clock.now() + _LISTING_TIMEOUT
        with move_progress() as update:
            while True:
                task = self.context.patiently(self.context.moves.latest)
                if task and task.started > after:
                    update(task.moved, task.to_move)
                    if audited:
                        audited.results["moved"] = task.moved
                    if task.status not in _RUNNING:
                        return task
                elif clock.now() > until:
                    raise OperateError("SQS does not list the move. `redrive --all --native` follows it later")
                clock.sleep(_POLL_INTERVAL)


def check_arguments(*, filtered: bool, everything: bool, cancel: bool) -> None:
    """Raise UsageError for options that SQS's own move does not have."""
    if filtered:
        raise click.UsageError("SQS moves all messages or none. Remove the filter and --limit, or remove --native")
    if not (everything or cancel):
        raise click.UsageError("SQS moves every dead letter. Add --all, or remove --native")


def _done(ended: MoveTask) -> Done:
    fields = {"status": ended.status, "moved": ended.moved, "failure": ended.failure}
    failure = f"; {ended.failure}" if ended.failure else ""
    return Done(f"{ended.status}: {ended.moved:,} messages moved{failure}", ended.status == "COMPLETED", fields)
