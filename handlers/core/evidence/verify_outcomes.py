"""Compare the outcomes with the evidence in the log, both ways."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final, Protocol

from handlers.core.evidence.checks import CheckedEvidence, EvidenceChecker, Verdict
from handlers.core.evidence.closings import ClosingChecker
from handlers.core.evidence.contradictions import RowComparison
from handlers.core.evidence.leaves import object_leaf, shown_key
from handlers.core.evidence.ports import EvidenceReader
from handlers.core.evidence.references import event_reference
from handlers.core.evidence.verify_objects import Period
from handlers.core.evidence.verifying import Findings, Show, Sorted
from handlers.core.ports import Clock, Pseudonyms, UnreadableRow
from schemas.keys import REHEARSAL_ROW
from schemas.outcome import FAILING, Outcome, OutcomeStatus
from schemas.sealed import ObjectKind
from schemas.verification import FindingKind

#: More than an attempt takes.
_BEFORE_EVIDENCE: Final = timedelta(hours=1)
_MEANINGS: Final = {
    Verdict.MISSING: "the outcome's row names evidence that the bucket does not have",
    Verdict.DIFFERS: "it is not the evidence that the outcome's row names or a worker announced",
    Verdict.ANOTHER_ACCOUNT: "it is about another account than its key and the outcome's row say",
    Verdict.ANOTHER_EVENT: "it is about another event than its key and the outcome's row say",
    Verdict.UNREADABLE: "it is not evidence, or S3 does not return it",
}


class OutcomeRows(Protocol):
    """The outcomes table."""

    def scan(self, status: OutcomeStatus | None) -> Iterable[Outcome | UnreadableRow]:
        """Yield all outcomes with a status, or with any; this reads the whole table."""


@dataclass(frozen=True)
class LoggedEvidence:
    """The evidence that the log names: what was verified already is not read from the bucket again."""

    bucket: EvidenceReader
    leaves: Sorted
    #: The bytes of evidence that is as it was sealed, by key.
    verified: Sorted

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        """Return an object's bytes, at most one more than the limit."""
        for _, body in self.verified.of(key):
            return body if limit is None else body[: limit + 1]
        return self.bucket.read(key, limit=limit)

    def under(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """Return the keys under a prefix, in order, at most as many as the limit."""
        return self.leaves.under(prefix, limit=limit)


@dataclass
class OutcomeVerifier:
    """Compare outcomes with evidence."""

    rows: OutcomeRows
    pseudonyms: Pseudonyms
    evidence: LoggedEvidence
    findings: Findings
    clock: Clock
    show: Show
    #: When the last batch of the log was sealed; None if the log is empty.
    sealed_until: datetime | None
    period: Period = field(default_factory=Period)
    #: The keys of the evidence of all rows.
    seen: Sorted = field(kw_only=True)
    #: The number of rows that are RETRYING or FAILED, and whose last attempt no evidence is about.
    unproven: int = field(default=0, init=False)
    _checker: EvidenceChecker = field(init=False)
    _closings: ClosingChecker = field(init=False)

    def __post_init__(self) -> None:
        """Read the evidence that the log names."""
        self._checker = EvidenceChecker(self.evidence, self.pseudonyms)
        self._closings = ClosingChecker(self.evidence, self._checker, self.pseudonyms)

    @property
    def left_out(self) -> dict[str, str]:
        """What was not compared, and why."""
        reasons = {
            "outcomes that are tried again": (
                self.unproven,
                "attempts changed nothing, so no evidence says that they failed",
            ),
            "outcomes that an operator closed": (
                self._closings.archived,
                "have audit records that must be restored in S3 before they can be read",
            ),
        }
        return {part: f"{number:,} {why}" for part, (number, why) in reasons.items() if number}

    def run(self) -> None:
        """Compare all rows, and all evidence."""
        for number, row in enumerate(self.rows.scan(None), 1):
            if number % 500 == 0:
                self.show("outcomes", number)
            if isinstance(row, UnreadableRow):
                meaning = "no worker wrote this row: its values do not fit the contract"
                self.findings.add(FindingKind.DISAGREES, self._name(row.event_id), meaning)
            elif not _is_of_rehearsals(row) and self._concerns(row):
                comparison = RowComparison(row, self._checker.of(row), self.clock.now(), self.sealed_until)
                self._check_objects(row, comparison.checked)
                self._check_row(comparison)
        self._without_rows()

    def _check_row(self, comparison: RowComparison) -> None:
        """Compare what the row says with what the records say."""
        row = comparison.row
        next_step = _REDRIVE if comparison.is_given_up else None
        for says in filter(None, (*comparison.contradictions(), self._closings.contradiction(comparison))):
            named = f" ({shown_key(row.evidence_key)})" if comparison.named and row.evidence_key else ""
            self.findings.add(FindingKind.DISAGREES, self._name(row.event_id), f"{says}{named}", next_step)
        self.unproven += row.status in FAILING and comparison.is_unproven

    def _check_objects(self, row: Outcome, checked: Iterable[CheckedEvidence]) -> None:
        """Compare the objects of the event's evidence with the row."""
        event = self._name(row.event_id)
        for each in checked:
            if each.key and each.verdict is not Verdict.ANOTHER_ACCOUNT:
                self.seen.add(each.key, 0, b"")
            if each.verdict is Verdict.MISSING and not each.key:
                meaning = f"the row says {row.status.value}, and no evidence of the event says so"
                self.findings.add(FindingKind.DISAGREES, event, meaning)
            elif each.wrong:
                kind = FindingKind.MISSING if each.verdict is Verdict.MISSING else FindingKind.DISAGREES
                self.findings.add(kind, shown_key(each.key), f"{_MEANINGS[each.verdict]} (event {event})")

    def _concerns(self, row: Outcome) -> bool:
        """Return whether a row can have evidence of the period: it is written before and after its evidence."""
        return self.period.since is None or self.period.since - row.updated_at <= _BEFORE_EVIDENCE

    def _without_rows(self) -> None:
        """Find evidence of events that have no row."""
        seen = (key for key, _, _ in self.seen)
        at = next(seen, None)
        for key, _ in groupby(self._evidence()):
            while at is not None and at.encode() < key.encode():
                at = next(seen, None)
            if at != key:
                meaning = "the outcomes table has no row of its event and account: somebody deleted it"
                self.findings.add(FindingKind.MISSING, key, meaning, _RESTORE_ROW)

    def _evidence(self) -> Iterator[str]:
        """Yield the keys of the evidence that the log names."""
        for key, _, record in self.evidence.leaves:
            leaf = object_leaf(record)
            if leaf.kind is ObjectKind.EVIDENCE and self.period.has(leaf.modified_at):
                yield key

    def _name(self, event_id: str) -> str:
        return event_reference(event_id, self.pseudonyms.digest)


def _is_of_rehearsals(row: Outcome) -> bool:
    """Return whether it is the row of the last rehearsal, whose evidence has keys of its own."""
    return row.rehearsal is not None and (row.account_id, row.event_id) == REHEARSAL_ROW


_REDRIVE: Final = (
    "look for its message in the dead letters (`make dlq`), and redrive it; if there is none, rely on the evidence, "
    "and find out in CloudTrail who wrote the row; see handlers/operate/RUNBOOK.md#retries_exhausted"
)
_RESTORE_ROW: Final = (
    "find out in CloudTrail who deleted it; the table can be restored to an earlier moment; see "
    "handlers/operate/RUNBOOK.md#a-verification-found-something"
)
