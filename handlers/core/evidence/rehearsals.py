"""Follow a rehearsal from the event bus to its records: the records say when it passed each hop."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Final, Protocol

from pydantic import ValidationError

from handlers.core.evidence.ports import EvidenceReader
from handlers.core.evidence.references import Keyed, event_reference
from handlers.core.ports import UnreadableRow
from schemas.evidence import RehearsalEvidence
from schemas.ids import EventId
from schemas.keys import REHEARSAL_ROW, rehearsal_prefix
from schemas.outcome import Fault, Outcome, OutcomeStatus

#: The clocks of the operator and of the event bus may show different days.
_AROUND: Final = timedelta(minutes=5)
_MAX_BYTES: Final = 65_536


class Hop(StrEnum):
    """The parts of the path that a rehearsal passes, in order."""

    BUS = "bus"
    QUEUE = "queue"
    WORKER = "worker"
    EVIDENCE = "evidence"
    OUTCOME = "outcome"


@dataclass(frozen=True)
class Passed:
    """When a rehearsal passed each hop, as far as its records show it."""

    at: Mapping[Hop, datetime] = field(default_factory=dict)
    #: Why the worker gave it up.
    fault: Fault | None = None

    @classmethod
    def of(cls, outcome: Outcome) -> "Passed":
        """Return what the row of the last rehearsal says."""
        if outcome.rehearsal is None:
            return cls()
        times = {
            Hop.BUS: outcome.event_time,
            Hop.QUEUE: outcome.rehearsal.queued_at,
            Hop.WORKER: outcome.received_at,
            Hop.EVIDENCE: outcome.rehearsal.evidence_at,
            Hop.OUTCOME: outcome.done_at,
        }
        gave_up = outcome.status is OutcomeStatus.IGNORED and outcome.done_at is None
        return cls({hop: at for hop, at in times.items() if at}, outcome.fault if gave_up else None)

    @property
    def lost_at(self) -> Hop | None:
        """The first hop that it has not passed; None if it came through."""
        return next((hop for hop in Hop if hop not in self.at), None)

    def seconds(self) -> dict[Hop, float]:
        """Return how long it took to each hop from the one before. Clocks differ, so a negative time counts as none."""
        hops = [hop for hop in Hop if hop in self.at]
        return {hop: max(0.0, (self.at[hop] - self.at[before]).total_seconds()) for before, hop in pairwise(hops)}


class Rows(Protocol):
    """The outcomes table."""

    def of_events(self, keys: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], Outcome | UnreadableRow]:
        """Return the outcomes of events, by account id and event id; events without one are left out."""


@dataclass(frozen=True)
class RehearsalRecords:
    """The records of rehearsals."""

    rows: Rows
    archive: EvidenceReader
    keyed: Keyed

    def last(self) -> Passed | None:
        """Return when the last rehearsal that reached the worker passed each hop; None if there is none."""
        row = self._row()
        return Passed.of(row) if row else None

    def passed(self, event_id: EventId, put_at: datetime) -> Passed:
        """Return when a rehearsal passed each hop. A later one may have replaced its row; its evidence stays."""
        reference = event_reference(event_id, self.keyed)
        row = self._row()
        is_its_row = row is not None and row.rehearsal is not None and row.rehearsal.event_id == reference
        passed = Passed.of(row) if row and is_its_row else Passed()
        if Hop.EVIDENCE in passed.at or (evidence := self._evidence(reference, put_at)) is None:
            return passed
        times = {
            Hop.BUS: evidence.event_time,
            Hop.QUEUE: evidence.queued_at,
            Hop.WORKER: evidence.received_at,
            Hop.EVIDENCE: evidence.recorded_at,
        }
        # The row was this one's before it became that of a later rehearsal.
        if row and not is_its_row and row.updated_at >= evidence.recorded_at:
            times[Hop.OUTCOME] = row.updated_at
        return replace(passed, at=times)

    def _evidence(self, reference: EventId, put_at: datetime) -> RehearsalEvidence | None:
        for day in sorted({put_at - _AROUND, put_at + _AROUND}, key=datetime.date):
            for key in self.archive.under(rehearsal_prefix(day, reference), limit=1):
                with suppress(ValidationError):
                    return RehearsalEvidence.model_validate_json(self.archive.read(key, limit=_MAX_BYTES))
        return None

    def _row(self) -> Outcome | None:
        found = self.rows.of_events([REHEARSAL_ROW]).get(REHEARSAL_ROW)
        return found if isinstance(found, Outcome) else None
