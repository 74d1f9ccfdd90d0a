"""`edit`."""

import tempfile
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

import click

from handlers.core.evidence.audit import AuditedAction
from handlers.core.redrive.dead_letter import DeadLetter, about_another_event, edited
from handlers.core.redrive.explanations import Problems
from handlers.core.redrive.in_flight import InFlight
from handlers.core.redrive.redrive import Redrive
from handlers.core.redrive.selection import Plan
from handlers.operate.advice import sentences
from handlers.operate.completion import complete_id
from handlers.operate.confirmation import NOTHING_TO_DO, Done, carry_out
from handlers.operate.context import Context
from handlers.operate.errors import OperateError
from handlers.operate.files import TEXT
from handlers.operate.options import Approval, DurationType, InputFileType, confirmed, with_context
from handlers.operate.output import Command, hint, stderr
from handlers.operate.picking import pick
from handlers.operate.plans import intention, print_unknown
from handlers.operate.send_back import send_back
from handlers.operate.tables import print_difference
from schemas.intake import MAX_BODY_BYTES, InvalidEventError
from schemas.outcome import FINAL, Outcome

#: SQS keeps no message longer, so a body that is older belongs to none.
_LONGEST_RETENTION: Final = timedelta(days=14)


@click.command(
    cls=Command,
    examples=(
        "joinguard edit 8f14e45f",
        'joinguard edit 8f14e45f --body event.json --confirm --reason "completed from CloudTrail, INC-123"',
    ),
)
@click.argument("id_", metavar="ID", shell_complete=complete_id)
@click.option("--body", type=InputFileType(), help="Read the new body from this file (- for stdin), not from $EDITOR.")
@confirmed
@click.option(
    "--wait", type=DurationType(), default="30s", show_default=True, help="How long to wait until it is decided."
)
@click.option("--force", is_flag=True, help="Send the message although it would fail again, or is about another event.")
@with_context
def edit(  # noqa: PLR0913 - the options of the command
    context: Context, id_: str, body: BinaryIO | None, approval: Approval, *, wait: timedelta, force: bool
) -> int:
    """Open a message's body in $EDITOR, check it, show the difference, send the message back.

    A body that is not sent, because it is unreadable or without --confirm, stays in a file for --body.
    """
    with context.in_flight() as in_flight:
        original = pick(context, in_flight, id_)
        in_flight.release_all_but([original])
        kept = _KeptBody(id_, body)
        kept.prepare(context.clock.now())
        changed = _changed(original, kept)
        print_difference(original.body, changed.body)
        plan = _plan(context, original, changed, force=force)
        print_unknown(plan.unknown)
        _print_new_event(context, changed)
        for _, problems in plan.left_out:
            stderr.print(f"not to be sent: {sentences(problems)}", style="yellow")
        if changed.body == original.body:
            kept.forget()
        elif not (plan.chosen and approval.reason):
            hint(f"`{kept.command(changed.body)}` continues from here")
        if plan.chosen and approval.reason:
            _check_in_flight(in_flight, original, changed, kept)

        def send(audited: AuditedAction) -> Done:
            hint(f"`restore {context.back_up(audited, [original])}` restores the old body")
            ended = send_back(context, in_flight, [changed], audited, rate=None, breaker=1, wait=wait, what="editing")
            if ended.deleted:
                kept.forget()
            return Done(_summary(original, changed, ended), complete=bool(ended.deleted) and not ended.failed)

        wants = intention(context, "edit", plan, on_record=[original, changed])
        if changed.body == original.body:
            wants = replace(wants, obstacle=f"{NOTHING_TO_DO}: the body is not changed")
        return carry_out(context, replace(wants, fields={**wants.fields, "event": _event(changed)}), approval, send)


def _plan(context: Context, original: DeadLetter, changed: DeadLetter, *, force: bool) -> Plan:
    problems: Problems = (changed.cannot_redrive,) if changed.cannot_redrive else ()
    if not force:
        another = about_another_event(original, changed)
        problems += ((another,) if another else ()) + context.preflight.would_fail(changed)
    return Plan(
        (changed,) if changed.body != original.body and not problems else (),
        ((changed, problems),) if problems else (),
        unknown=tuple(context.preflight.unknown),
    )


def _event(changed: DeadLetter) -> dict[str, str | None]:
    """Return the event of the new body, for --json."""
    return {"name": changed.origin, "event_id": changed.event_id, "account": changed.account_id or None}


def _named(dead_letter: DeadLetter) -> str:
    account = f", account {dead_letter.account_id}" if dead_letter.account_id else ""
    return f"{dead_letter.origin} {dead_letter.event_id}{account}"


def _print_new_event(context: Context, changed: DeadLetter) -> None:
    """Print which event the new body is about, and whether it is handled already."""
    stderr.print(f"the new body is about {_named(changed)}")
    key = changed.outcome_key
    outcome = context.outcomes.of_events([key]).get(key) if key else None
    if isinstance(outcome, Outcome) and outcome.status in FINAL:
        stderr.print(f"this event is {outcome.status} already, so sending it changes nothing", style="yellow")


def _summary(original: DeadLetter, changed: DeadLetter, ended: Redrive) -> str:
    """Return what became of the message, and of the event of the new body."""
    results = ended.final_results.get(changed.message_id, "left in its queue")
    result, _, status = results.partition(", ")
    decided = status or ("not decided yet" if ended.sent else "not sent")
    return f"message {original.message_id}: {result}; {_named(changed)}: {decided}"


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
            body.read(MAX_BODY_BYTES + 1).decode(TEXT)
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

    def prepare(self, now: datetime) -> None:
        """Make the folder before the editor opens, so that no edited body is lost; raise OperateError if it cannot.

        Bodies that are older than any message are deleted.
        """
        try:
            self._folder().mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder()):
                pass
            for each in self._folder().glob("*.json"):
                if now.timestamp() - each.stat().st_mtime > _LONGEST_RETENTION.total_seconds():
                    each.unlink(missing_ok=True)
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
