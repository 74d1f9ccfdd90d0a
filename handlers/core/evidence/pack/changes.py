"""What was taken from accounts or changed in a period, by whom, and why: removals, and what others detached."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from handlers.core.evidence.pack.members import ATTACHED
from handlers.core.redaction import redact_words
from schemas.events import REMOVAL
from schemas.evidence import Evidence, RecordedPolicy
from schemas.outcome import AttachmentResult, OutcomeStatus
from schemas.pack import Change, ChangeKind

_DETACH: Final = "DetachPolicy"
_CHANGED: Final = "GUARDRAILS_CHANGED"
_REMOVALS: Final = {
    AttachmentResult.REMOVED: ChangeKind.REMOVED,
    AttachmentResult.ALREADY_REMOVED: ChangeKind.REMOVED,
    AttachmentResult.KEPT: ChangeKind.KEPT,
    AttachmentResult.FAILED: ChangeKind.KEPT,
    AttachmentResult.UNKNOWN: ChangeKind.KEPT,
}


def changes(evidence: Iterable[tuple[str, Evidence]], shown: Callable[[str], str]) -> list[Change]:
    """Return the changes that the evidence of a period tells of, by time."""
    detachments: dict[tuple[str, str], list[tuple[str, Evidence]]] = defaultdict(list)
    found: list[Change] = []
    for key, each in evidence:
        if each.source == REMOVAL:
            found += _removals(key, each, shown)
        elif each.event_name == _DETACH and each.account and each.called and each.called.policy_id:
            detachments[each.account.value, each.event_id].append((key, each))
        elif each.fault and each.fault.code == _CHANGED and each.called:
            found.append(_of_organization(key, each))
    found += (
        _detachment(sorted(attempts, key=lambda each: each[1].attempt), shown) for attempts in detachments.values()
    )
    return sorted(found, key=lambda each: (each.at, each.evidence_key, each.policy_id or ""))


def _removals(key: str, evidence: Evidence, shown: Callable[[str], str]) -> Iterator[Change]:
    for each in evidence.policies:
        if kind := _REMOVALS.get(each.result):
            yield Change(
                kind=kind,
                at=evidence.recorded_at,
                account=shown(evidence.account.value) if evidence.account else None,
                policy_id=each.policy_id,
                event_name=redact_words(evidence.event_name),
                event_id=evidence.event_id,
                why=_why_removed(evidence, each) if kind is ChangeKind.REMOVED else _why_not(each),
                evidence_key=key,
            )


def _why_removed(evidence: Evidence, policy: RecordedPolicy) -> str:
    names = ", ".join(map(redact_words, policy.exceptions or ()))
    why = f"exception {names} takes it from the account" if names else "the guardrails no longer require it"
    return f"{why}; approved plan {evidence.approved_plan}" if evidence.approved_plan else why


def _why_not(policy: RecordedPolicy) -> str:
    fault = policy.fault
    return redact_words(fault.message or fault.code) if fault else policy.result.value


def _detachment(attempts: Sequence[tuple[str, Evidence]], shown: Callable[[str], str]) -> Change:
    key, last = attempts[-1]
    assert last.account and last.called  # noqa: S101, PT018 - `changes` selects these
    policy_id = last.called.policy_id
    results = [one for _, each in attempts for one in each.policies if one.policy_id == policy_id]
    is_back = any(each.result in ATTACHED for each in results)
    return Change(
        kind=ChangeKind.RESTORED if is_back else ChangeKind.DETACHED,
        at=last.event_time,
        account=shown(last.account.value),
        policy_id=policy_id,
        event_name=redact_words(last.event_name),
        event_id=last.event_id,
        who=last.called.principal.value if last.called.principal else None,
        why=_what_followed(last, results, is_back=is_back),
        evidence_key=key,
    )


def _what_followed(last: Evidence, results: Sequence[RecordedPolicy], *, is_back: bool) -> str:
    if is_back:
        ours = any(each.result is AttachmentResult.ATTACHED for each in results)
        return "attached again by Joinguard" if ours else "attached again by others"
    if results:
        return _why_not(results[-1])
    if last.fault:
        return redact_words(last.fault.message or last.fault.code)
    return "the account did not have to carry it" if last.status is OutcomeStatus.ENFORCED else last.status.value


def _of_organization(key: str, evidence: Evidence) -> Change:
    called, fault = evidence.called, evidence.fault
    return Change(
        kind=ChangeKind.POLICY_CHANGED,
        at=evidence.event_time,
        policy_id=called.policy_id if called else None,
        event_name=redact_words(evidence.event_name),
        event_id=evidence.event_id,
        who=called.principal.value if called and called.principal else None,
        why=redact_words((fault.message or fault.code) if fault else ""),
        evidence_key=key,
    )
