"""Outcomes and their evidence, for people and for other programs."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from rich.text import Text

from handlers.core.evidence.checks import CheckedEvidence, Verdict
from handlers.core.plurals import count
from handlers.core.ports import UnreadableRow
from handlers.operate.context import Context
from handlers.operate.csv_output import print_csv_rows
from handlers.operate.output import plain, stderr
from handlers.operate.tables import Cell, lines, print_table
from handlers.operate.who import who
from schemas.outcome import AttachmentResult, Outcome, OutcomeStatus, PolicyOutcome

_COLOURS: Final = {
    OutcomeStatus.ENFORCED: "green",
    OutcomeStatus.FAILED: "red",
    OutcomeStatus.RETRYING: "yellow",
    OutcomeStatus.IGNORED: "dim",
    OutcomeStatus.OBSERVED: "cyan",
    OutcomeStatus.CLOSED: "dim",
}
_VERDICTS: Final = {
    Verdict.VALID: "valid",
    Verdict.MISSING: "MISSING: the outcome names it, and the bucket does not hold it",
    Verdict.DIFFERS: "DIFFERS from the evidence that was written: somebody put another object in its place",
    Verdict.ANOTHER_ACCOUNT: "about another account",
    Verdict.ANOTHER_EVENT: "ABOUT ANOTHER EVENT",
    Verdict.UNREADABLE: "UNREADABLE: not evidence, or larger than evidence can be",
    Verdict.ARCHIVED: "archived: restore it in S3 to compare it",
    Verdict.NOT_COMPARED: "not compared: the outcome holds the SHA-256 of its last evidence only",
}
#: The number of messages that a group shows.
_MESSAGES: Final = 3
#: The columns of CSV.
_COLUMNS: Final = (
    *("account_id", "event_id", "event_name", "source", "status", "attempts", "code", "message", "policies"),
    *("event_time", "received_at", "updated_at", "done_at", "evidence_key"),
    *("closed_at", "actor_id", "act_id", "left_at"),
)
_UNREADABLE: Final = "the row is unreadable: no worker wrote it"


def print_outcomes(
    context: Context, found: Sequence[Outcome | UnreadableRow], title: str, evidence: Mapping[str, Sequence[Text]]
) -> None:
    """Print one row for each outcome, with the texts about its evidence, by event id."""
    if not found:
        stderr.print(f"{title}: none")
        return
    rows = [
        _unreadable(each) if isinstance(each, UnreadableRow) else _row(context, each, evidence.get(each.event_id))
        for each in found
    ]
    print_table(title, ["status", "time, decided", "event"], rows)
    if unreadable := sum(isinstance(each, UnreadableRow) for each in found):
        stderr.print(f"{unreadable:,} of {len(found):,} rows are unreadable: no worker wrote them", style="red")


def print_groups(found: Sequence[Outcome | UnreadableRow], title: str) -> None:
    """Print the number of events for each status and code, the largest group first."""
    if not found:
        stderr.print(f"{title}: none")
        return
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for each in found:
        if isinstance(each, Outcome):
            groups.setdefault((each.status, each.fault.code if each.fault else ""), []).append(each)
    rows: list[Sequence[Cell]] = []
    for (status, code), events in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        times = dict.fromkeys(_minute(each.updated_at) for each in (events[0], events[-1]))
        messages = Counter(each.fault.message for each in events if each.fault)
        texts = [f"{message} ({number:,})" for message, number in messages.most_common(_MESSAGES)]
        more = f"and {len(messages) - _MESSAGES:,} other messages" if len(messages) > _MESSAGES else ""
        colour = _COLOURS[OutcomeStatus(status)]
        named = plain(code, colour)
        rows.append([f"{len(events):,}", plain(status, colour), lines(*times), lines(named, *texts, more)])
    if unreadable := len(found) - sum(map(len, groups.values())):
        rows.append([f"{unreadable:,}", plain("unreadable", "red"), "", _UNREADABLE])
    print_table(f"{title}: {len(found):,}", ["events", "status", "updated", "code, message"], rows)


def print_csv(found: Sequence[Outcome | UnreadableRow]) -> None:
    """Print one line of CSV for each outcome."""
    rows = [
        asdict(each) | {"status": "unreadable"} if isinstance(each, UnreadableRow) else _csv_fields(each)
        for each in found
    ]
    print_csv_rows(_COLUMNS, ([fields.get(name, "") for name in _COLUMNS] for fields in rows))


def _csv_fields(each: Outcome) -> dict[str, Any]:
    fields = each.model_dump(mode="json", exclude_none=True)
    fields |= fields.get("fault", {}) | fields.get("closed", {})
    fields["left_at"] = fields.get("departed", {}).get("left_at", "")
    return fields | {"policies": " ".join(f"{policy.policy_id}={policy.result}" for policy in each.policies)}


def _row(context: Context, each: Outcome, evidence: Sequence[Text] | None) -> list[Cell]:
    policies = [_result(policy) for policy in each.policies]
    times = [_minute(each.event_time), _minute(each.done_at) if each.done_at else "not yet"]
    details = lines(
        f"{each.account_id}  {each.event_name} {each.event_id}",
        ", ".join(policies),
        plain(f"{each.fault.code}: {each.fault.message}", _faults(each.status)) if each.fault else "",
        _closed(context, each),
        *(evidence if evidence is not None else [plain(each.evidence_key or "", "dim")]),
    )
    return [
        lines(plain(each.status.value, _COLOURS[each.status]), count(each.attempts, "attempt")),
        lines(*times),
        details,
    ]


def _faults(status: OutcomeStatus) -> str:
    return "dim" if status is OutcomeStatus.CLOSED else "red"


def _result(policy: PolicyOutcome) -> str:
    """Return the result of a policy, and why it is so in codes and names: people look at many of them."""
    kept = [policy.fault.code] if policy.fault and policy.result is AttachmentResult.KEPT else []
    because = ", ".join((*kept, *policy.exceptions))
    return f"{policy.policy_id} {policy.result}{f' ({because})' if because else ''}"


def _closed(context: Context, each: Outcome) -> str:
    """Return who closed an outcome, when, and why; an empty string if it is not closed, or says so itself."""
    if each.departed and each.departed.event_id != each.event_id:
        return f"closed because the account left {_minute(each.departed.left_at)}, by event {each.departed.event_id}"
    if not each.closed:
        return ""
    by = who(context, each.closed)
    return f"closed {_minute(each.closed.closed_at)} by {by}; the reason is in the action {each.closed.act_id}"


def _unreadable(row: UnreadableRow) -> list[Cell]:
    return [plain("unreadable", "red"), "", f"{row.account_id}  {row.event_id}"]


def outcome_lines(context: Context, outcome: Outcome | UnreadableRow) -> list[str]:
    """Return one outcome in lines."""
    if isinstance(outcome, UnreadableRow):
        return [_UNREADABLE]
    policies = [_result(policy) + (f": {policy.fault.message}" if policy.fault else "") for policy in outcome.policies]
    attempts = count(outcome.attempts, "attempt")
    closed = filter(None, [_closed(context, outcome)])
    return [f"{outcome.status} after {attempts}, {outcome.updated_at:%Y-%m-%d %H:%M:%S}Z", *closed, *policies]


def outcome_fields(found: Iterable[Outcome | UnreadableRow]) -> list[dict[str, Any]]:
    """Return outcomes for --json; of an unreadable row only its key."""
    return [
        asdict(each) | {"unreadable": True}
        if isinstance(each, UnreadableRow)
        else json.loads(each.model_dump_json(exclude_none=True))
        for each in found
    ]


def evidence_text(checked: CheckedEvidence) -> Text:
    """Return the verdict about an evidence object in words."""
    evidence = checked.evidence
    results = ", ".join(f"{policy.policy_id} {policy.result}" for policy in evidence.policies) if evidence else ""
    about = f"{_minute(evidence.recorded_at)} {evidence.status}{f': {results}' if results else ''} " if evidence else ""
    beside = ", beside the object that its own key holds" if checked.beside else ""
    verdict = f"{_VERDICTS[checked.verdict]}{beside}"
    if checked.verdict is Verdict.NOT_COMPARED and checked.named:
        verdict = f"not compared{beside}: the outcome is of an older version and holds no SHA-256"
    style = "red" if checked.wrong else "green" if checked.verdict is Verdict.VALID else ""
    return plain(f"{about}({checked.key or 'no key'}): {verdict}", style)


def evidence_fields(checked: CheckedEvidence) -> dict[str, Any]:
    """Return the verdict about an evidence object for --json."""
    fields = {name: getattr(checked, name) for name in ("key", "verdict", "wrong", "named", "beside", "sha256")}
    evidence = checked.evidence
    return fields | {
        "status": evidence.status if evidence else None,
        "recorded_at": evidence.recorded_at.isoformat() if evidence else None,
        "policies": {policy.policy_id: policy.result for policy in evidence.policies} if evidence else {},
    }


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z"
