"""Commands that look and change nothing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click
from rich.text import Text

from handlers.core.evidence.audit import next_step
from handlers.core.evidence.comparison import Proof
from handlers.core.ports import UnreadableRow
from handlers.core.redrive.selection import Filter
from handlers.core.redrive.summary import KEYS, Group, Reason, summarize
from handlers.operate.options import as_json, filtered, on_workbench
from handlers.operate.records import proof_told, told_outcomes, told_proof
from handlers.operate.screens import Cell, age, browsed, grid, lines, sheet
from handlers.operate.terminal import Command, as_line, plain, talk
from handlers.operate.workbench import Workbench
from schemas.audit import Act
from schemas.outcome import Outcome


@click.command("list", cls=Command)
@click.option("--by", type=click.Choice(list(KEYS)), default="reason", show_default=True, help="What to group by.")
@filtered
@as_json
@on_workbench
def list_letters(bench: Workbench, by: str, wanted: Filter, *, machine: bool) -> None:
    """Show what waits in both queues, and why.

    Consumes nothing. SQS shows a message only by handing it out: each look counts as a receive, which leads nowhere
    here, and hides the letters from others while it lasts.
    """
    now = bench.clock.now()
    with bench.hand() as hand:
        found = browsed(hand, "looking into both queues")
        groups = summarize((letter for letter in found if wanted.matches(letter, now)), by)
    if machine:
        as_line([_told(by, group) for group in groups])
    elif groups:
        total = sum(group.letters for group in groups)
        _show_groups(groups, by, f"{total:,} {'letter waits' if total == 1 else 'letters wait'}, by {by}", now)
        talk.print(f"`show {groups[0].ids[0][:8]}` shows a letter whole; `redrive` plans to put letters back")
    else:
        talk.print("no letter waits" if wanted == Filter() else "no letter matches")


def _show_groups(groups: Sequence[Group], by: str, title: str, now: datetime) -> None:
    # The reason stands in the last column in any case.
    named = [by] if by not in {"reason", "code"} else []
    rows: list[list[Cell]] = []
    for group in groups:
        span = dict.fromkeys([age(now - group.newest), age(now - group.oldest)])
        left = f"gone in {age(group.deleted_at - now)}" if group.deleted_at else ""
        redriven = f"redriven: {group.redrives}" if group.redrives else ""
        ids = f"{', '.join(each[:8] for each in group.ids[:3])}{', …' if group.letters > 3 else ''}"  # noqa: PLR2004 - as many as fit
        why = [text for reason in group.reasons.most_common(3) for text in _reason(group, *reason)]
        rows.append(
            [
                *([group.key] if named else []),
                f"{group.letters:,}",
                lines(" to ".join(span), left),
                lines(*_counts(group.queues), *_counts(group.origins), redriven),
                lines(*why, plain(ids, "dim")),
            ]
        )
    grid(title, [*named, "letters", "age", "where and what", "why, and what to do"], rows)


def _counts(counter: Counter[str]) -> list[str]:
    return [name if len(counter) == 1 else f"{number:,} {name}" for name, number in counter.most_common(4)]


def _reason(group: Group, reason: Reason, letters: int) -> list[Text]:
    return [
        plain(reason.code if letters == group.letters else f"{reason.code} ({letters:,})", "bold"),
        plain(reason.why),
        plain(f"→ {reason.next_step}", "green"),
    ]


def _told(by: str, group: Group) -> dict[str, Any]:
    return {
        by: group.key,
        "letters": group.letters,
        "oldest": group.oldest.isoformat(),
        "newest": group.newest.isoformat(),
        "first_deleted_at": group.deleted_at.isoformat() if group.deleted_at else None,
        "redrives": group.redrives,
        "reasons": [asdict(reason) | {"letters": number} for reason, number in group.reasons.most_common()],
        "queues": dict(group.queues),
        "origins": dict(group.origins),
        "ids": group.ids,
    }


@click.command("show", cls=Command)
@click.argument("letter_id", metavar="ID")
@as_json
@on_workbench
def show_letter(bench: Workbench, letter_id: str, *, machine: bool) -> None:
    """Show one letter whole.

    ID is its message id or its event's id; eight characters will do. Shown are body, attributes, outcome, evidence,
    what operators did to it, whether it would fail again, and the next step.
    """
    with bench.hand() as hand:
        letter = bench.pick(browsed(hand, "looking for it"), letter_id)
    now = bench.clock.now()
    row = bench.outcomes.of_events([letter.outcome_key]).get(letter.outcome_key) if letter.outcome_key else None
    outcome = row if isinstance(row, Outcome) else None
    proofs = bench.proofs.of(outcome) if outcome else []
    verdict = bench.preflight.would_fail(letter)
    attributes = {
        name: letter.says(name) or f"{len(each.get('BinaryValue', b''))} bytes"
        for name, each in letter.attributes.items()
    }
    told = {
        "message id": letter.message_id,
        "event": f"{letter.origin} {letter.event_id}".strip(),
        "account": letter.account_id,
        "queue": letter.queue,
        "code": letter.code,
        "why": letter.why,
        "next step": next_step(letter),
        "would fail again": verdict or "nothing speaks against a redrive",
        "not found out": bench.preflight.unknown,
        "first seen": f"{letter.first_seen:%Y-%m-%d %H:%M:%S}Z, {age(now - letter.first_seen)} ago",
        "sent here": f"{letter.sent_at:%Y-%m-%d %H:%M:%S}Z, {age(now - letter.sent_at)} ago",
        "deleted by SQS": f"in {age(letter.deleted_at - now)}" if letter.deleted_at else None,
        "received here": letter.receives,
        "redriven": letter.redrives,
        "history": [_deed(*acts) for acts in bench.trail.history(letter)],
        "attributes": attributes,
        "outcome": told_outcomes([row])[0] if row else None,
        "evidence": [proof_told(each).plain for each in proofs],
        "body": letter.body,
    }
    if machine:
        as_line({name.replace(" ", "_"): value for name, value in told.items()} | {"verdicts": _verdicts(proofs)})
    else:
        shorter = {
            "attributes": [f"{name} {value}" for name, value in attributes.items()],
            "outcome": _stand(row) if row else None,
            "evidence": Text("\n").join(map(proof_told, proofs)) if proofs else None,
        }
        sheet(f"Letter {letter.message_id}", told | shorter)


def _stand(outcome: Outcome | UnreadableRow) -> list[str]:
    if isinstance(outcome, UnreadableRow):
        return ["its row cannot be read: somebody wrote it by hand"]
    tries = f"{outcome.attempts} {'try' if outcome.attempts == 1 else 'tries'}"
    policies = [
        f"{policy.policy_id} {policy.result}" + (f": {policy.fault.message}" if policy.fault else "")
        for policy in outcome.policies
    ]
    return [f"{outcome.status} after {tries}, {outcome.updated_at:%Y-%m-%d %H:%M:%S}Z", *policies]


def _deed(intended: Act, done: Act | None) -> str:
    who = f"{intended.actor_id} ({intended.actor.value})"
    results = ", ".join(f"{number} {name}" for name, number in done.results.items() if number) if done else ""
    course = f"{done.ended}: {results}" if done else "cut off"
    return f"{intended.recorded_at:%Y-%m-%d %H:%M}Z {intended.action} by {who}: {intended.reason} ({course})"


def _verdicts(proofs: Sequence[Proof]) -> list[dict[str, Any]]:
    return [told_proof(each) for each in proofs]
