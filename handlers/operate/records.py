"""What the operator sees of outcomes and their evidence."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.text import Text

from handlers.core.evidence.comparison import Proof, Verdict
from handlers.core.ports import UnreadableRow
from handlers.operate.screens import Cell, grid, lines
from handlers.operate.terminal import plain, talk
from schemas.outcome import Outcome, OutcomeStatus

_COLOURS: Final = {
    OutcomeStatus.ENFORCED: "green",
    OutcomeStatus.FAILED: "red",
    OutcomeStatus.RETRYING: "yellow",
    OutcomeStatus.IGNORED: "dim",
}
_VERDICTS: Final = {
    Verdict.VALID: "valid",
    Verdict.MISSING: "MISSING: the outcome rests on it, and the bucket has none",
    Verdict.DIFFERS: "DIFFERS from what was written there: somebody put another object in its place",
    Verdict.ANOTHER_ACCOUNT: "of another account",
    Verdict.ANOTHER_EVENT: "OF ANOTHER EVENT",
    Verdict.UNREADABLE: "UNREADABLE: no evidence of ours, or more than ours can be",
    Verdict.NOT_COMPARED: "not compared: the outcome has the SHA-256 of its last evidence only",
}


def outcomes_table(found: Sequence[Outcome | UnreadableRow], title: str, proofs: Mapping[str, Sequence[Text]]) -> None:
    """Print outcomes, a row each, with what is to be said of their evidence, by event id."""
    if not found:
        talk.print(f"{title}: none")
        return
    rows = [
        _unreadable(each) if isinstance(each, UnreadableRow) else _row(each, proofs.get(each.event_id))
        for each in found
    ]
    grid(title, ["status", "joined, decided", "event"], rows)
    if unreadable := sum(isinstance(each, UnreadableRow) for each in found):
        talk.print(f"{unreadable:,} of {len(found):,} rows cannot be read: somebody wrote them by hand", style="red")


def _row(each: Outcome, proofs: Sequence[Text] | None) -> list[Cell]:
    policies = [f"{policy.policy_id} {policy.result}" for policy in each.policies]
    times = [_minute(each.event_time), _minute(each.done_at) if each.done_at else "not yet"]
    told = lines(
        f"{each.account_id}  {each.event_name} {each.event_id}",
        ", ".join(policies),
        plain(f"{each.fault.code}: {each.fault.message}", "red") if each.fault else "",
        *(proofs if proofs is not None else [plain(each.evidence_key or "", "dim")]),
    )
    tries = f"{each.attempts} {'try' if each.attempts == 1 else 'tries'}"
    return [lines(plain(each.status.value, _COLOURS[each.status]), tries), lines(*times), told]


def _unreadable(row: UnreadableRow) -> list[Cell]:
    return [plain("unreadable", "red"), "", f"{row.account_id}  {row.event_id}"]


def told_outcomes(found: Iterable[Outcome | UnreadableRow]) -> list[dict[str, Any]]:
    """Return outcomes for machines; of a row that cannot be read its key, and that it cannot."""
    return [
        asdict(each) | {"unreadable": True}
        if isinstance(each, UnreadableRow)
        else json.loads(each.model_dump_json(exclude_none=True))
        for each in found
    ]


def proof_told(proof: Proof) -> Text:
    """Say what an object among the evidence is."""
    evidence = proof.evidence
    results = ", ".join(f"{policy.policy_id} {policy.result}" for policy in evidence.policies) if evidence else ""
    about = f"{_minute(evidence.recorded_at)} {evidence.status}{f': {results}' if results else ''} " if evidence else ""
    beside = ", beside what lay under its own key" if proof.beside else ""
    verdict = f"{_VERDICTS[proof.verdict]}{beside}"
    if proof.verdict is Verdict.NOT_COMPARED and proof.named:
        verdict = f"not compared{beside}: the outcome is of an older version, which has no SHA-256"
    style = "red" if proof.wrong else "green" if proof.verdict is Verdict.VALID else ""
    return plain(f"{about}({proof.key or 'no key'}): {verdict}", style)


def told_proof(proof: Proof) -> dict[str, Any]:
    """Return what an object among the evidence is, for machines."""
    told = {name: getattr(proof, name) for name in ("key", "verdict", "wrong", "named", "beside", "sha256")}
    return told | {"status": proof.evidence.status if proof.evidence else None}


def _minute(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z"
