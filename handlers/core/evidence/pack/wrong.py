"""Compare each outcome of a period with its evidence as `outcome` does, in what the pack has read of it anyway."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from handlers.core.errors import Cause, JoinguardError, RetryableError, fault
from handlers.core.evidence.checks import EvidenceChecker
from handlers.core.evidence.leaves import shown_key
from handlers.core.evidence.pack.reading import Reader, within
from handlers.core.evidence.pack.rows import Row, WrongObject
from handlers.core.ports import Pseudonyms
from schemas.evidence import Evidence
from schemas.outcome import Outcome
from schemas.pack import Disagreement, ObjectRead, Period, ProofState, WrongEvidence

#: The parts of a key before those that tell attempts of an event apart: `evidence/YYYY/MM/DD/EVENT`.
_OF_EVENT: Final = 5


class OutcomeChecks:
    """Compares outcomes with the evidence that a reader has read."""

    def __init__(self, reader: Reader, pseudonyms: Pseudonyms, period: Period) -> None:
        self._checker = EvidenceChecker(_AlreadyRead(reader), pseudonyms)
        self._period = period

    def __call__(self, outcome: Outcome) -> tuple[WrongObject, ...]:
        """Return what is missing or wrong of the evidence of an outcome of the period."""
        if not within(self._period, outcome.event_time):
            return ()
        try:
            checked = self._checker.of(outcome)
        except JoinguardError:
            # The source says that its day could not be listed, or an object not be read.
            return ()
        return tuple(WrongObject(each.key, WrongEvidence[each.verdict.name]) for each in checked if each.wrong)


class _AlreadyRead:
    """The evidence of a period as it was read, so that S3 is not asked again for each outcome."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._of_event: dict[str, list[str]] = defaultdict(list)
        for key in sorted(reader.evidence_bodies):
            self._of_event["/".join(key.split("/")[:_OF_EVENT]) + "/"].append(key)

    def under(self, prefix: str, *, limit: int | None = None) -> list[str]:
        if not self._reader.is_listed(prefix):
            raise RetryableError(fault("NOT_LISTED", "the day could not be listed"))
        return self._of_event.get(prefix, [])[:limit]

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        body = self._reader.evidence_bodies.get(key)
        if body is None:
            raise RetryableError(fault("NOT_LISTED", "there is no such object"), cause=Cause.NOT_FOUND)
        if isinstance(body, JoinguardError):
            raise body
        return body if limit is None else body[: limit + 1]


def disagreements(rows: Iterable[Row], shown: Callable[[str], str]) -> Iterator[Disagreement]:
    """Yield each object that is missing or wrong once, by the time of its event."""
    seen: set[str] = set()
    for row in sorted(rows, key=lambda each: (each.event_time, each.event_id)):
        for key, what in row.wrong:
            if key and key in seen:
                continue
            seen.add(key)
            yield Disagreement(
                account=shown(row.account) if row.account else None,
                event_id=row.event_id,
                event_name=row.event_name,
                event_time=row.event_time,
                what=what,
                evidence_key=shown_key(key),
            )


def wrong_keys(rows: Iterable[Row], objects: Iterable[ObjectRead]) -> frozenset[str]:
    """Return the keys of objects that prove nothing: they are not what the outcome says, or not what was sealed."""
    differ = (each.key for each in objects if each.proof is ProofState.DIFFERS)
    return frozenset((*(key for row in rows for key, _ in row.wrong), *differ))


def doubted(
    rows: Iterable[Row], evidence: Sequence[tuple[str, Evidence]], wrong: frozenset[str]
) -> Mapping[str, Sequence[datetime]]:
    """Return the times of the events of each account of whose evidence something is missing or wrong."""
    found: dict[str, list[datetime]] = defaultdict(list)
    for row in rows:
        if row.account and row.wrong:
            found[row.account].append(row.event_time)
    for key, each in evidence:
        if each.account and key in wrong:
            found[each.account.value].append(each.event_time)
    return found
