"""`edit`."""

import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import click

from handlers.core.evidence.audit import AuditedAction
from handlers.core.redrive.dead_letter import DeadLetter, edited
from handlers.core.redrive.explanations import Problems
from handlers.core.redrive.in_flight import InFlight
from handlers.core.redrive.selection import Plan
from handlers.operate.advice import sentences
from handlers.operate.completion import complete_id
from handlers.operate.confirmation import Done, carry_out
from handlers.operate.context import Context
from handlers.operate.errors import OperateError
from handlers.operate.options import Approval, DurationType, confirmed, with_context
from handlers.operate.output import Command, stderr
from handlers.operate.plans import intention, print_unknown
from handlers.operate.progress import receive_all
from handlers.operate.send_back import send_back
from handlers.operate.tables import print_difference
from schemas.intake import MAX_BODY_BYTES, InvalidEventError


@click.command(
    cls=Command,
    examples=(
        "joinguard edit 8f14e45f",
        'joinguard edit 8f14e45f --body event.json --confirm --reason "completed from CloudTrail, INC-123"',
    ),
)
@click.argument("id_", metavar="ID", shell_complete=complete_id)
@click.option("--body", type=click.File("rb"), help="Read the new body from this file (- for stdin), not from $EDITOR.")
@confirmed
@click.option(
    "--wait", type=DurationType(), default="30s", show_default=True, help="How long to wait until it is decided."
)
@click.option("--force", is_flag=True, help="Send the message although it would fail again.")
@with_context
def edit(  # noqa: PLR0913 - the options of the command
    context: Context, id_: str, body: BinaryIO | None, approval: Approval, *, wait: timedelta, force: bool
) -> int:
    """Open a message's body in $EDITOR, check it, show the difference, send the message back.

    A body that is not sent, because it is unreadable or without --confirm, stays in a file for --body.
    """
    with context.in_flight() as in_flight:
        original = context.pick(receive_all(in_flight, "receiving both queues"), id_)
        in_flight.release_all_but([original])
        kept = _KeptBody(id_, body)
        kept.prepare()
        changed = _changed(original, kept)
        print_difference(original.body, changed.body)
        plan = _plan(context, original, changed, force=force)
        print_unknown(plan.unknown)
        for _, problems in plan.left_out:
            stderr.print(f"it would fail again: {sentences(problems)}", style="yellow")
        if changed.body != original.body and not (plan.chosen and approval.reason):
            stderr.print(f"`{kept.command(changed.body)}` continues from here")
        if plan.chosen and approval.reason:
            _check_in_flight(in_flight, original, changed, kept)

        def send(audited: AuditedAction) -> Done:
            stderr.print(f"`restore {context.back_up(audited, [original])}` restores the old body")
            ended = send_back(context, in_flight, [changed], audited, rate=None, breaker=1, wait=wait)
            if ended.deleted:
                kept.forget()
            results = ", ".join(ended.final_results.values()) or "left in its queue"
            return Done(results, complete=bool(ended.deleted) and not ended.failed)

        wants = intention(context, "edit", plan, on_record=[original, changed])
        return carry_out(context, wants, approval, send)


def _plan(context: Context, original: DeadLetter, changed: DeadLetter, *, force: bool) -> Plan:
    problems: Problems = (changed.cannot_redrive,) if changed.cannot_redrive else ()
    problems += () if force else context.preflight.would_fail(changed)
    return Plan(
        (changed,) if changed.body != original.body and not problems else (),
        ((changed, problems),) if problems else (),
        unknown=tuple(context.preflight.unknown),
    )


def _check_in_flight(in_flight: InFlight, original: DeadLetter, changed: DeadLetter, kept: "_KeptBody") -> None:
    in_flight.extend_visibility()
    if not in_flight.has(original):
        raise OperateError(
            "the message is no longer in flight, because editing took too long. Run the command again: "
            f"`{kept.command(changed.body)}`"
        )


def _changed(original: DeadLetter, kept: "_KeptBody") -> DeadLetter:
    """Return the message with the operator's body; keep an unreadable body in a file."""
    body = kept.source
    try:
        given = (
            body.read(MAX_BODY_BYTES + 1).decode()
            if body
            else click.edit(original.body, extension=".json", require_save=False)
        )
    except UnicodeDecodeError as error:
        raise OperateError(f"the new body is not UTF-8: {error}") from error
    text = given or original.body
    # Editors add a line break at the end.
    text = text if original.body.endswith("\n") else text.removesuffix("\n")
    try:
        return edited(original, text)
    except InvalidEventError as error:
        raise OperateError(
            f"the new body is unreadable: {error}. Correct it in its file, then run `{kept.command(text)}`"
        ) from error


@dataclass
class _KeptBody:
    """A new body that is not sent yet: in the operator's own file, or in one that is kept until the body is sent."""

    id_: str
    #: The operator's file; None for $EDITOR.
    source: BinaryIO | None

    def prepare(self) -> None:
        """Make the folder before the editor opens, so that no edited body is lost; raise OperateError if it cannot."""
        try:
            self._folder().mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder()):
                pass
        except OSError as error:
            if self.source is None:
                raise OperateError(
                    f"cannot keep the edited body in {self._folder()}: {error.strerror}. Set XDG_CONFIG_HOME to a "
                    "folder that you can write to, or use --body FILE"
                ) from error

    def command(self, text: str) -> str:
        """Return the command that continues with the body, and keep the body."""
        return f"edit {self.id_} --body {self._keep(text)}"

    def forget(self) -> None:
        """Delete the file, unless it is the operator's own."""
        if self.source and Path(self.source.name).parent == self._folder():
            Path(self.source.name).unlink(missing_ok=True)

    def _keep(self, text: str) -> str:
        if self.source and Path(self.source.name).exists():
            return self.source.name
        with tempfile.NamedTemporaryFile(
            "w", dir=self._folder(), suffix=".json", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        return file.name

    @staticmethod
    def _folder() -> Path:
        return Path(click.get_app_dir("joinguard")) / "edits"
