"""What a sweep found, as fields for people and as JSON. A sweep's report holds numbers and no accounts."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from handlers.core.plurals import count
from handlers.operate.output import hint, plain
from handlers.operate.sweeping import InstalledSweep
from handlers.operate.tables import duration, print_fields
from schemas.keys import sweep_key
from schemas.sweep import NotRequested, SweepInProgress, SweepMode, SweepReport, SweepState

_MODES: Final[Mapping[SweepMode, str]] = {
    SweepMode.REPORT: "report: requests nothing",
    SweepMode.ENFORCE: "enforce: requests the policies of accounts that lack some",
}
_WHY: Final[Mapping[NotRequested, str]] = {
    NotRequested.REPORT_ONLY: "the stage only reports",
    NotRequested.HALTED: "too much changed at once",
    NotRequested.WAITING: "a message of the account waits in a queue",
    NotRequested.DEAD_LETTER: "a message of the account is in the dead letters",
    NotRequested.JOINED_JUST_NOW: "the account joined minutes ago, and its event may be on its way",
    NotRequested.PAUSED: "reconciling is paused for the account",
    NotRequested.LASTING: "what it lacks cannot be attached",
}
_FAULTS: Final[Mapping[str, str]] = {
    "POLICY_CHANGED": "policy {} has another content than the lock file pins",
    "POLICY_UNREAD": "the content of policy {} could not be read, so nobody knows whether it was changed",
    "UNREAD": "a part of the organization could not be read ({}), so nobody knows who lacks what",
    "NO_POLICY": "the organization has no policy {}",
    "TYPE_DISABLED": "the policy type {} is not enabled",
}
_REPORTS: Final = "`coverage` shows the accounts. "
_REQUESTS: Final = "`enforce --gaps` requests their policies; with Sweep set to enforce in the stage, each sweep does"
_NOTHING_HELPS: Final = "No request helps them now; correct the causes first"
_HALTED: Final = "Find out who did this (runbook #sweep-halted)"
_HALTED_REQUESTS: Final = "; then `enforce --gaps` requests the policies"


def is_clean(report: SweepReport | None) -> bool:
    """Return whether a sweep was completed and found that every member carries its policies."""
    return report is not None and not (report.with_gaps or report.unclear or report.faults or report.halted)


def fields(installed: InstalledSweep, state: SweepState | None, now: datetime) -> dict[str, Any]:
    """Return the fields for --json."""
    last, current = (state.last, state.current) if state else (None, None)
    return {
        "mode": installed.mode,
        "every_minutes": installed.every / timedelta(minutes=1),
        "next_due_at": _due(installed, state, now).isoformat(),
        "current": _progress_fields(current) if current else None,
        "last": _report_fields(last) if last else None,
        "evidence_key": sweep_key(last) if last else None,
        "is_clean": is_clean(last),
    }


def _report_fields(report: SweepReport) -> dict[str, Any]:
    found = report.model_dump(mode="json", exclude_none=True)
    # The first sweep cannot know who joined since the one before.
    return found | {"missed_events": None} if report.is_first else found


def print_state(installed: InstalledSweep, state: SweepState | None, now: datetime) -> None:
    """Print what the last complete sweep found, and whether one is running."""
    last, current = (state.last, state.current) if state else (None, None)
    due = _due(installed, state, now)
    print_fields(
        "Sweep",
        {
            "mode": _MODES[installed.mode],
            "every": duration(installed.every),
            "next": "due now" if due <= now else f"due in {duration(due - now)}",
            "running": f"since {_moment(current.begun_at, now)}: {progress_of(current)}" if current else "",
            **(_found(last, now) if last else {"last complete sweep": plain("none yet", "yellow")}),
        },
    )
    if last and last.halted:
        helps = NotRequested.HALTED in last.not_requested
        hint(f"the sweep halted: {last.halted}. {_HALTED}{_HALTED_REQUESTS if helps else ''}", "yellow")
    elif last and last.with_gaps and installed.mode is SweepMode.REPORT:
        helps = NotRequested.REPORT_ONLY in last.not_requested
        hint(f"{_REPORTS}{_REQUESTS if helps else _NOTHING_HELPS}", "yellow")


def progress_of(current: SweepInProgress) -> str:
    """Return how far a sweep is."""
    if current.report is None:
        parts = f", {count(current.parts, 'part')} stored" if current.parts else ""
        return f"reading the organization{parts}"
    return f"requesting: {current.sent:,} of {current.report.requested:,}"


def summary(report: SweepReport) -> str:
    """Return a report in one sentence."""
    parts = [f"{report.covered:,} covered"]
    if report.with_gaps:
        parts.append(f"{report.with_gaps:,} with gaps ({count(report.requested, 'request')} sent)")
    if report.unclear:
        parts.append(f"{report.unclear:,} unclear")
    return f"{count(report.members, 'member')}: {', '.join(parts)}"


def _found(report: SweepReport, now: datetime) -> dict[str, Any]:
    took = duration(report.decided_at - report.begun_at)
    again = f", {report.requested_again:,} of them in the sweep before, too" if report.requested_again else ""
    return {
        "last complete sweep": f"{_moment(report.begun_at, now)}, took {took} to read and decide",
        "members": _members(report),
        "covered": f"{report.covered:,}",
        "with gaps": plain(f"{report.with_gaps:,}", "red" if report.with_gaps else ""),
        "missing policies": [f"{number:,} {cause}" for cause, number in report.gaps.items() if number],
        "unclear": plain(f"{report.unclear:,}", "yellow") if report.unclear else "",
        "requested": f"{count(report.requested, 'account')}{again}",
        "not requested": [f"{number:,}: {_WHY[why]}" for why, number in report.not_requested.items()],
        "drifted": f"{report.drifted:,} lost what Joinguard attached" if report.drifted else "",
        "not needed": f"{report.with_excess:,} carry what they no longer need" if report.with_excess else "",
        "missed events": "not known in the first sweep" if report.is_first else f"{report.missed_events:,}",
        "departed": f"{report.departed:,}" if report.departed else "",
        "organization": list(_faults(report)),
        "halted": plain(report.halted, "red") if report.halted else "",
        "evidence": sweep_key(report),
    }


def _members(report: SweepReport) -> str:
    others = [f"without {number:,} {state}" for state, number in report.left_out.items() if number]
    if report.observed:
        others.insert(0, f"{report.observed:,} only observed")
    return f"{report.members:,} ({'; '.join(others)})" if others else f"{report.members:,}"


def _faults(report: SweepReport) -> Iterator[str]:
    yield from (f"{_FAULTS[each.kind].format(each.what)} ({each.kind})" for each in report.faults)


def _progress_fields(current: SweepInProgress) -> dict[str, Any]:
    return {
        "sweep_id": current.sweep_id,
        "begun_at": current.begun_at.isoformat(),
        "progress": progress_of(current),
        "requested": current.report.requested if current.report else None,
        "sent": current.sent,
    }


def _due(installed: InstalledSweep, state: SweepState | None, now: datetime) -> datetime:
    """Return when the next sweep is due; a schedule begins it within five minutes."""
    return state.last.begun_at + installed.every if state and state.last else now


def _moment(moment: datetime, now: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z, {duration(now - moment)} ago"
