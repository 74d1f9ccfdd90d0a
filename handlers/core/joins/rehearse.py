"""A rehearsal: an event that travels the path of a join, so that silence can be told from quiet.

It gets nothing with which Organizations could be called, and reads nothing of the event's detail. As of a join, the row
says first that the attempt runs; then the evidence is written, then the outcome. All rehearsals share one row.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from handlers.core.errors import RetryableError, fault
from handlers.core.evidence.ports import EvidenceWriter
from handlers.core.evidence.references import event_reference
from handlers.core.joins.ports import Message, RehearsalRow
from handlers.core.ports import Clock, Pseudonyms
from schemas.events import Rehearsal
from schemas.evidence import RehearsalEvidence
from schemas.ids import EventId, OrganizationId, Sha256
from schemas.keys import REHEARSAL_ROW, rehearsal_key
from schemas.outcome import Fault, Outcome, OutcomeStatus, RehearsalHops


@dataclass(frozen=True)
class RehearsalRun:
    """Write the records of a rehearsal."""

    row: RehearsalRow
    archive: EvidenceWriter
    pseudonyms: Pseudonyms
    clock: Clock
    organization_id: OrganizationId

    def run(self, rehearsal: Rehearsal, message: Message, *, last: bool) -> Outcome:
        """Write evidence and outcome; return the outcome.

        Raises RetryableError if one of them cannot be written. With `last`, SQS does not deliver the message again, and
        the row says why.
        """
        reference = event_reference(rehearsal.event_id, self.pseudonyms.digest)
        begun = self._begun(rehearsal, reference, message)
        try:
            self.row.record_rehearsal(begun)
            key, digest = self._record(rehearsal, reference, message, begun.received_at)
            now, why = self.clock.now(), fault("REHEARSAL", "a rehearsal came through; it is about no account")
            hops = RehearsalHops(event_id=reference, queued_at=message.sent_at, evidence_at=now)
            done = _ended(now, why) | {"rehearsal": hops, "evidence_key": key, "evidence_sha256": digest}
            outcome = begun.model_copy(update=done | {"done_at": now})
            self.row.record_rehearsal(outcome)
        except RetryableError as error:
            if last:
                with suppress(RetryableError):
                    self.row.record_rehearsal(begun.model_copy(update=_ended(self.clock.now(), error.fault)))
            raise
        return outcome

    def _begun(self, rehearsal: Rehearsal, reference: EventId, message: Message) -> Outcome:
        account_id, event_id = REHEARSAL_ROW
        now = self.clock.now()
        return Outcome(
            account_id=account_id,
            event_id=event_id,
            event_name=rehearsal.event_name,
            source=rehearsal.source,
            status=OutcomeStatus.RETRYING,
            attempts=message.receives,
            event_time=rehearsal.event_time,
            received_at=now,
            updated_at=now,
            rehearsal=RehearsalHops(event_id=reference, queued_at=message.sent_at),
        )

    def _record(
        self, rehearsal: Rehearsal, reference: EventId, message: Message, received_at: datetime
    ) -> tuple[str, Sha256]:
        """Write evidence; return its key and SHA-256."""
        evidence = RehearsalEvidence(
            event_id=reference,
            event_time=rehearsal.event_time,
            event_time_from=rehearsal.event_time_from,
            body_digest=self.pseudonyms.digest("body", message.body),
            organization_id=self.organization_id,
            receives=message.receives,
            queued_at=message.sent_at,
            received_at=received_at,
            recorded_at=self.clock.now(),
        )
        body = evidence.model_dump_json().encode()
        digest = sha256(body).hexdigest()
        key = rehearsal_key(evidence, digest)
        if self.archive.record(key, body) != digest:
            raise RetryableError(fault("EVIDENCE_CONFLICT", "the key of the rehearsal's evidence holds another object"))
        return key, digest


def _ended(now: datetime, why: Fault) -> dict[str, Any]:
    return {"status": OutcomeStatus.IGNORED, "updated_at": now, "fault": why}
