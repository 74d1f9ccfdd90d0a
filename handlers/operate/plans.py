"""Plans: what an action would do with which messages, for people, for other programs and for the audit record."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final

from rich.text import Text

from handlers.core.plurals import count
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.explanations import Explanation
from handlers.core.redrive.selection import Plan
from handlers.core.redrive.summary import kind_of
from handlers.operate.advice import sentence, sentences, why
from handlers.operate.confirmation import NOTHING_TO_DO, Intention
from handlers.operate.context import Context
from handlers.operate.options import Approval
from handlers.operate.output import plain, stderr, stdout
from handlers.operate.progress import elsewhere
from handlers.operate.tables import Cell, duration, first, lines, print_table
from schemas.audit import Action

_NAMED: Final = 4


def intention(context: Context, action: Action, plan: Plan, on_record: Sequence[DeadLetter] | None = None) -> Intention:
    """Return the intention to carry out a plan; the audit record names the chosen messages, or other ones."""
    nothing = "Nothing to do: every message is left out" if plan.left_out else NOTHING_TO_DO
    return Intention(
        action,
        lambda: [context.digest(each) for each in on_record or plan.chosen],
        plan_fields(plan),
        obstacle=None if plan.chosen else nothing,
        complete=not plan.is_partial,
    )


def print_plan(plan: Plan, done: str, approval: Approval) -> None:
    """Print what would be done (`redriven`, `dropped`, …), and what is unknown; with --json only the latter."""
    if not approval.json:
        _print_table(plan, done)
    print_unknown(plan.unknown)


def _print_table(plan: Plan, done: str) -> None:
    rows: list[list[Cell]] = []
    groups: dict[tuple[str, str, str], list[DeadLetter]] = {}
    for each in plan.chosen:
        groups.setdefault(("", each.code, kind_of(each)), []).append(each)
    for each, problems in plan.left_out:
        groups.setdefault((sentences(problems), each.code, kind_of(each)), []).append(each)
    largest_first = sorted(groups.items(), key=lambda item: (bool(item[0][0]), -len(item[1])))
    for (problem_text, code, reason), found in largest_first:
        verdict = Text("left out", "yellow") if problem_text else Text(done, "green")
        note = plain(f"left out: {problem_text}", "yellow") if problem_text else ""
        own = reason if len(found) > 1 else found[0].why
        details = lines(plain(code, "bold"), why(own), note, plain(_ids(found), "dim"))
        rows.append([str(len(found)), verdict, details])
    if rows:
        print_table(f"{count(len(plan.chosen), 'message')} to be {done}", ["messages", "plan", "why"], rows)
    elif plan.elsewhere:
        stdout.print(plain(f"no visible message to be {done}; {elsewhere(plan.elsewhere)}"))
    if plan.missing:
        stderr.print(f"not found: {', '.join(plan.missing)}", style="yellow")


def plan_fields(plan: Plan) -> dict[str, Any]:
    """Return a plan for --json."""
    return {
        "chosen": [each.message_id for each in plan.chosen],
        "left_out": [
            {
                "id": each.message_id,
                "code": each.code,
                "why": sentences(problems),
                "problems": list(map(sentence, problems)),
            }
            for each, problems in plan.left_out
        ],
        "missing": plan.missing,
        "elsewhere": plan.elsewhere,
        "unknown": [sentence(each) for each in plan.unknown],
    }


def print_unknown(unknown: Iterable[Explanation]) -> None:
    """Print what pre-flight could not find out."""
    for each in unknown:
        stderr.print(f"unknown: {sentence(each)}", style="yellow")


def time_estimate(messages: int, rate: float | None, pace: float) -> str:
    """Return how long it takes to send messages at a rate, None for no limit, and to handle them at a pace."""
    handling = f"{duration(timedelta(seconds=messages / pace))} at the organization's pace, {pace:g} a second"
    if rate == pace:
        return f"this takes about {handling}"
    sending = (
        f"sending takes about {duration(timedelta(seconds=messages / rate))}" if rate else "sending is not limited"
    )
    return f"{sending}; handling takes about {handling}"


def _ids(found: Sequence[DeadLetter]) -> str:
    return first(found, _NAMED, lambda each: each.message_id[:8])
