"""Check what the last complete sweep found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from handlers.aws.dynamodb_sweep import STATE_KEY, state_of
from handlers.core.plurals import count
from handlers.operate.hints import as_typed
from handlers.operate.tables import duration
from infra.deploy.health.check import Check
from schemas.sweep import SweepMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.deploy.health.deployed import Deployed
    from schemas.sweep import SweepReport

#: As the alarm SweepTooOld.
_INTERVALS: Final = 3
_TOO_OLD: Final = "handlers/operate/RUNBOOK.md#sweep-too-old"
_HALTED: Final = "handlers/operate/RUNBOOK.md#sweep-halted"
_AT_FAULT: Final = "handlers/operate/RUNBOOK.md#organization-at-fault"
_GAPS: Final = "handlers/operate/RUNBOOK.md#gaps-remain"
_DECIDE: Final = "run `coverage`, then `enforce --gaps`, or set Sweep to enforce in the stage and run `make deploy`"
_UNCLEAR: Final = "run `coverage`, which says what could not be read"


def last(dynamodb: Any, stack: Deployed, name: str, stage: str, now: datetime | None = None) -> Iterator[Check]:
    """Say what the last complete sweep found, and how long ago; `name` is the table with the sweep's state."""
    now = now or datetime.now(UTC)
    state = state_of(dynamodb.get_item(TableName=stack.id(name), Key=STATE_KEY, ConsistentRead=True).get("Item", {}))
    too_old = _INTERVALS * timedelta(minutes=float(stack.parameters["SweepMinutes"]))
    if state is None or state.last is None:
        since = f", and runs since {duration(now - state.since)}" if state else " or begun"
        found = f"none was completed yet{since}; the first begins within five minutes after a deployment"
        is_new = state is not None and now - state.since <= too_old
        yield Check("sweep", found, "ok" if is_new else "wrong", _TOO_OLD, always_shown=True)
        return
    report, age = state.last, now - state.last.decided_at
    found = f"{report.mode}, at {report.decided_at:%Y-%m-%d %H:%M}Z: {_words(report)}"
    step = _TOO_OLD if age > too_old else as_typed(_next_step(report), stage)
    yield Check("sweep", found, "wrong" if step else "ok", step, always_shown=True)


def _words(report: SweepReport) -> str:
    parts = [f"{report.covered:,} of {count(report.members, 'member')} covered"]
    numbers = {
        "with gaps": report.with_gaps,
        "unclear": report.unclear,
        "drifted": report.drifted,
        "missed events": report.missed_events,
    }
    parts += [f"{number:,} {name}" for name, number in numbers.items() if number]
    parts += [f"{each.kind} {each.what}" for each in report.faults]
    return ", ".join([*parts, f"halted: {report.halted}"] if report.halted else parts)


def _next_step(report: SweepReport) -> str:
    """Return what to do about what a sweep found; empty if nothing is."""
    if report.halted:
        return _HALTED
    if report.faults:
        return _AT_FAULT
    if report.requested_again:
        return _GAPS
    if report.with_gaps and report.mode is SweepMode.REPORT:
        return _DECIDE
    return _UNCLEAR if report.unclear else ""
