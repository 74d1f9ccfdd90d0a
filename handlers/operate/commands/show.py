"""`show`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import click
from rich.text import Text

from handlers.core.evidence.checks import CheckedEvidence
from handlers.core.evidence.history import PastAction
from handlers.core.ports import UnreadableRow
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.legible import Legible
from handlers.operate.advice import next_step, sentence, why
from handlers.operate.completion import complete_id
from handlers.operate.context import Context
from handlers.operate.differences import indented
from handlers.operate.options import as_json, with_context
from handlers.operate.outcome_tables import evidence_fields, evidence_text, outcome_fields, outcome_lines
from handlers.operate.output import Command, print_json
from handlers.operate.picking import pick
from handlers.operate.tables import duration, print_fields
from handlers.operate.who import who, who_fields
from schemas.outcome import Outcome


@click.command(
    cls=Command,
    examples=(
        "joinguard show 8f14e45f",
        "joinguard show 8f14e45f --json",
    ),
)
@click.argument("id_", metavar="ID", shell_complete=complete_id)
@as_json
@with_context
def show(context: Context, id_: str, *, as_json: bool) -> None:
    """Show one message: body, attributes, outcome, evidence, history, whether it would fail again, the next step.

    ID is the message id or its event's id; the beginning is enough if no other id has it.
    """
    with context.in_flight() as in_flight:
        dead_letter = pick(context, in_flight, id_)
    details = _details(context, dead_letter)
    context.seen.add("messages", [dead_letter.message_id])
    context.seen.add("events", [dead_letter.event_id])
    if as_json:
        print_json(_fields(context, details))
    else:
        print_fields(f"Message {dead_letter.message_id}", _lines(context, details))


@dataclass(frozen=True)
class _Details:
    """A message and what is known about it."""

    dead_letter: DeadLetter
    row: Outcome | UnreadableRow | None
    evidence: Sequence[CheckedEvidence]
    #: Every reason why it would fail again.
    problems: Sequence[str]
    unknown: Sequence[str]
    history: Sequence[PastAction]
    #: The names of the message in audit records.
    names: set[str]

    @property
    def next_step(self) -> str:
        return next_step(self.dead_letter.cause, self.dead_letter.queue)

    @property
    def attributes(self) -> dict[str, str]:
        return {
            name: self.dead_letter.attribute(name) or f"{len(value.get('BinaryValue', b''))} bytes"
            for name, value in self.dead_letter.attributes.items()
        }


def _details(context: Context, dead_letter: DeadLetter) -> _Details:
    key = dead_letter.outcome_key
    row = context.outcomes.of_events([key]).get(key) if key else None
    problems = context.preflight.would_fail(dead_letter)
    names = {name for each in context.pseudonyms.under_each_key() for name in dead_letter.names(each.digest)}
    return _Details(
        dead_letter,
        row,
        context.evidence_checker.of(row) if isinstance(row, Outcome) else [],
        [sentence(each) for each in problems],
        [sentence(each) for each in context.preflight.unknown],
        context.history.of(names, dead_letter.first_seen.date()),
        names,
    )


def _fields(context: Context, details: _Details) -> dict[str, Any]:
    shown = details.dead_letter
    return {
        "message_id": shown.message_id,
        "event": shown.origin,
        "event_id": shown.event_id or None,
        "account": shown.account_id or None,
        "account_left_at": shown.left_at.isoformat() if shown.left_at else None,
        "looks_like": None if shown.event else asdict(shown.legible),
        "queue": shown.queue,
        "code": shown.code,
        "why": why(shown.why),
        "next_step": details.next_step,
        "ready_to_redrive": not details.problems,
        "problem": "; ".join(details.problems) or None,
        "problems": details.problems,
        "unknown": details.unknown,
        "first_seen": shown.first_seen.isoformat(),
        "sent_at": shown.sent_at.isoformat(),
        "deleted_at": shown.deleted_at.isoformat() if shown.deleted_at else None,
        "receive_count": shown.receives,
        "redrives": shown.redrives,
        "history": [
            {
                "recorded_at": each.intended.recorded_at.isoformat(),
                "action": each.intended.action,
                **who_fields(context, each.intended),
                "reason": each.intended.reason,
                "ended": each.done.ended if each.done else None,
                "result": each.result(details.names),
            }
            for each in details.history
        ],
        "attributes": details.attributes,
        "outcome": outcome_fields([details.row])[0] if details.row else None,
        "evidence": [evidence_fields(each) for each in details.evidence],
        "body": shown.body,
    }


def _lines(context: Context, details: _Details) -> dict[str, Any]:
    shown, now = details.dead_letter, context.clock.now()
    return {
        "message id": shown.message_id,
        "event": f"{shown.origin} {shown.event_id}".strip(),
        "account": shown.account_id,
        "account left": _ago(shown.left_at, now) if shown.left_at else None,
        "looks like": None if shown.event else _legible(shown.legible),
        "queue": shown.queue,
        "code": shown.code,
        "why": why(shown.why),
        "next step": details.next_step,
        "ready to redrive": f"no: {'; '.join(details.problems)}" if details.problems else "yes",
        "unknown": details.unknown,
        "first seen": _ago(shown.first_seen, now),
        "sent here": _ago(shown.sent_at, now),
        "deleted by SQS": f"in {duration(shown.deleted_at - now)}" if shown.deleted_at else None,
        "receive count": f"{shown.receives} (each look adds one)",
        "redriven": f"{shown.redrives} times" if shown.redrives != 1 else "once",
        "history": [_past_action(context, each, details.names) for each in details.history],
        "attributes": [f"{name} {value}" for name, value in details.attributes.items()],
        "outcome": outcome_lines(context, details.row) if details.row else None,
        "evidence": Text("\n").join(map(evidence_text, details.evidence)) if details.evidence else None,
        "body": indented(shown.body),
    }


def _legible(found: Legible) -> str | None:
    """Return what an unreadable body names, in words; None if it names nothing."""
    parts = [
        " or ".join(found.event_names),
        f"event {' or '.join(found.event_ids)}" if found.event_ids else "",
        f"account {' or '.join(found.account_ids)}" if found.account_ids else "",
    ]
    named = ", ".join(filter(None, parts))
    return f"{named} (read from a body that is not an event)" if named else None


def _ago(moment: datetime, now: datetime) -> str:
    span: timedelta = now - moment
    return f"{moment:%Y-%m-%d %H:%M:%S}Z, {duration(span)} ago"


def _past_action(context: Context, each: PastAction, names: set[str]) -> str:
    intended = each.intended
    end = f"{each.done.ended}: {each.result(names)}" if each.done else "cut off"
    did = f"{intended.recorded_at:%Y-%m-%d %H:%M}Z {intended.action} by {who(context, intended)}"
    return f"{did}: {intended.reason} ({end})"
