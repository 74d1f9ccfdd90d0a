"""`show`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.text import Text

from handlers.core.evidence.checks import CheckedEvidence
from handlers.core.evidence.history import Recorded
from handlers.core.ports import UnreadableRow
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.operate.advice import next_step, sentence, why
from handlers.operate.context import Context
from handlers.operate.options import as_json, with_context
from handlers.operate.outcome_tables import evidence_fields, evidence_text, outcome_fields, outcome_lines
from handlers.operate.output import Command, print_json
from handlers.operate.progress import receive_all
from handlers.operate.tables import duration, print_fields
from schemas.outcome import Outcome


@click.command(cls=Command)
@click.argument("id_", metavar="ID")
@as_json
@with_context
def show(context: Context, id_: str, *, as_json: bool) -> None:
    """Show one message: body, attributes, outcome, evidence, history, whether it would fail again, the next step.

    ID is the message id or its event's id; eight characters are enough.
    """
    with context.in_flight() as in_flight:
        dead_letter = context.pick(receive_all(in_flight, "receiving both queues"), id_)
    details = _details(context, dead_letter)
    if as_json:
        fields = {name.replace(" ", "_"): value for name, value in details.fields.items()}
        print_json(fields | {"verdicts": [evidence_fields(each) for each in details.evidence]})
    else:
        evidence = Text("\n").join(map(evidence_text, details.evidence)) if details.evidence else None
        attributes = [f"{name} {value}" for name, value in details.fields["attributes"].items()]
        shorter = {"attributes": attributes, "evidence": evidence}
        shorter["outcome"] = outcome_lines(details.row) if details.row else None
        print_fields(f"Message {dead_letter.message_id}", details.fields | shorter)


@dataclass(frozen=True)
class _Details:
    fields: dict[str, Any]
    row: Outcome | UnreadableRow | None
    evidence: Sequence[CheckedEvidence]


def _details(context: Context, dead_letter: DeadLetter) -> _Details:
    now, key = context.clock.now(), dead_letter.outcome_key
    row = context.outcomes.of_events([key]).get(key) if key else None
    evidence = context.evidence_checker.of(row) if isinstance(row, Outcome) else []
    problem = context.preflight.would_fail(dead_letter)
    names = dead_letter.names(context.pseudonyms.digest)
    history = context.history.of(names, dead_letter.first_seen.date())
    fields = {
        "message id": dead_letter.message_id,
        "event": f"{dead_letter.origin} {dead_letter.event_id}".strip(),
        "account": dead_letter.account_id,
        "queue": dead_letter.queue,
        "code": dead_letter.code,
        "why": why(dead_letter.why),
        "next step": next_step(dead_letter.cause, dead_letter.queue),
        "ready to redrive": f"no: {sentence(problem)}" if problem else "yes",
        "unknown": [sentence(each) for each in context.preflight.unknown],
        "first seen": f"{dead_letter.first_seen:%Y-%m-%d %H:%M:%S}Z, {duration(now - dead_letter.first_seen)} ago",
        "sent here": f"{dead_letter.sent_at:%Y-%m-%d %H:%M:%S}Z, {duration(now - dead_letter.sent_at)} ago",
        "deleted by SQS": f"in {duration(dead_letter.deleted_at - now)}" if dead_letter.deleted_at else None,
        "receive count": f"{dead_letter.receives} (each look adds one)",
        "redriven": dead_letter.redrives,
        "history": [_history(each) for each in history],
        "attributes": {
            name: dead_letter.attribute(name) or f"{len(value.get('BinaryValue', b''))} bytes"
            for name, value in dead_letter.attributes.items()
        },
        "outcome": outcome_fields([row])[0] if row else None,
        "evidence": [evidence_text(each).plain for each in evidence],
        "body": dead_letter.body,
    }
    return _Details(fields, row, evidence)


def _history(recorded: Recorded) -> str:
    intended, done = recorded
    who = f"{intended.actor_id} ({intended.actor.value})"
    results = ", ".join(f"{number} {name}" for name, number in done.results.items() if number) if done else ""
    end = f"{done.ended}: {results}" if done else "cut off"
    return f"{intended.recorded_at:%Y-%m-%d %H:%M}Z {intended.action} by {who}: {intended.reason} ({end})"
