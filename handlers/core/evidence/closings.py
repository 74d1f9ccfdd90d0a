"""Who closed an outcome: an operator, in an action with audit records, or a departure, which has evidence."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

from pydantic import ValidationError

from handlers.core.errors import Cause, RetryableError
from handlers.core.evidence.checks import EvidenceChecker, Verdict
from handlers.core.evidence.contradictions import RowComparison, is_recent, ours
from handlers.core.evidence.ports import EvidenceReader
from handlers.core.evidence.references import event_reference
from handlers.core.ports import Pseudonyms
from handlers.core.timing import MAX_LEASE, RECEIVED_AGAIN
from schemas.audit import AuditRecord
from schemas.evidence import RecordedDeparture
from schemas.ids import EventId
from schemas.keys import audit_key
from schemas.outcome import MAX_ATTEMPTS, Closed, Departed, OutcomeStatus

#: The actions that close outcomes.
_CLOSING: Final = frozenset({"close", "drop"})
#: An action begins at most this long before it closes an outcome: SQS keeps no message in flight for longer.
_LONGEST: Final = timedelta(hours=12)
#: The number of actions whose records are kept in memory.
_ACTIONS: Final = 16


class _Action(NamedTuple):
    """An action that may have closed outcomes; its records name all of its messages."""

    intended: AuditRecord
    #: None if the action was cut off, and as long as it is running.
    done: AuditRecord | None
    events: frozenset[EventId]
    #: The events that it did not close, as far as its record says so.
    left: frozenset[EventId]


@dataclass
class ClosingChecker:
    """Compare what rows say of their closing with audit records and evidence."""

    #: Reads what the log names.
    evidence: EvidenceReader
    checker: EvidenceChecker
    pseudonyms: Pseudonyms
    _kept: dict[str, _Action | None] = field(default_factory=dict, init=False)

    def contradiction(self, comparison: RowComparison) -> str | None:
        """Return what a row says of its closing and no record says; None if they agree."""
        row = comparison.row
        if row.closed:
            return self._by_operator(row.event_id, row.closed, row.updated_at, comparison.now)
        return self._by_departure(comparison, row.departed) if row.departed else None

    def _by_operator(self, event_id: EventId, closed: Closed, updated_at: datetime, now: datetime) -> str | None:
        action = self._action(closed, now)
        if action is None:
            return "the row says that an operator closed it, and no audit record in the log is of that action"
        intended, done = action.intended, action.done
        names = self._references(event_id)
        if names.isdisjoint(action.events) or not names.isdisjoint(action.left):
            return "the row says that an operator closed it, and the audit records of that action do not name its event"
        same_name = closed.actor_name in {None, intended.actor_name}
        if (closed.actor, closed.actor_id) != (intended.actor, intended.actor_id) or not same_name:
            return "the row says that an operator closed it, and the audit records of that action name somebody else"
        until = done.recorded_at if done else intended.recorded_at + _LONGEST
        is_within = intended.recorded_at - MAX_LEASE <= closed.closed_at <= until + MAX_LEASE
        if not is_within or abs(updated_at - closed.closed_at) > MAX_LEASE:
            return "the row was closed at another time than the audit records of that action say"
        return None

    def _by_departure(self, comparison: RowComparison, departed: Departed) -> str | None:
        row, named = comparison.row, comparison.named
        if row.event_time > departed.left_at:
            return "the row says that the account left, and its event is later than that"
        if named and named.status is OutcomeStatus.CLOSED:
            own = self._is_same(departed, named.departure)
            return None if own else "the row says something else about the departure than its evidence"
        # The departure's own row names the account, too; only its evidence counts.
        its_own = {"event_id": departed.event_id, "event_time": departed.left_at, "attempts": MAX_ATTEMPTS}
        checked = self.checker.of(row.model_copy(update={**its_own, "evidence_key": None, "announced": {}}))
        if any(
            each.status is OutcomeStatus.CLOSED and self._is_same(departed, each.departure) for each in ours(checked)
        ):
            return None
        # The departure closes the outcomes first, and writes its evidence then.
        is_excused = is_recent(row, comparison.now) or any(each.verdict is Verdict.ARCHIVED for each in checked)
        return None if is_excused else "the row says that the account left, and no evidence of that departure says so"

    def _is_same(self, departed: Departed, recorded: RecordedDeparture | None) -> bool:
        if recorded is None:
            return False
        same = (recorded.cause, recorded.left_at) == (departed.cause, departed.left_at)
        return same and recorded.event_id in self._references(departed.event_id)

    def _references(self, event_id: EventId) -> set[EventId]:
        """Return what records may call an event; those of version 1 use its own id."""
        return {event_id, *(event_reference(event_id, each.digest) for each in self.pseudonyms.under_each_key())}

    def _action(self, closed: Closed, now: datetime) -> _Action | None:
        """Return the action that a row names; None if there is none. That of the last hour may not be sealed."""
        if closed.act_id not in self._kept:
            if len(self._kept) >= _ACTIONS:
                del self._kept[next(iter(self._kept))]
            self._kept[closed.act_id] = self._read_action(closed, now)
        return self._kept[closed.act_id]

    def _read_action(self, closed: Closed, now: datetime) -> _Action | None:
        is_recent = now - RECEIVED_AGAIN <= closed.closed_at
        for day in sorted({closed.closed_at.date(), (closed.closed_at - _LONGEST).date()}, reverse=True):
            key = audit_key(day, closed.act_id, "intended")
            if not is_recent and key not in self.evidence.under(key, limit=1):
                continue
            if (intended := self._read(key, closed.act_id)) and intended.action in _CLOSING:
                return _action_of(intended, self._read_done(day, closed.act_id))
        return None

    def _read_done(self, day: date, action_id: str) -> AuditRecord | None:
        return self._read(audit_key(day, action_id, "done"), action_id)

    def _read(self, key: str, action_id: str) -> AuditRecord | None:
        """Return an audit record; None if there is none under the key."""
        try:
            record = AuditRecord.model_validate_json(self.evidence.read(key))
        except ValidationError:
            return None
        except RetryableError as error:
            if error.cause is not Cause.NOT_FOUND:
                raise
            return None
        return record if record.act_id == action_id else None


def _action_of(intended: AuditRecord, done: AuditRecord | None) -> _Action:
    events = frozenset(each.event_id for each in intended.letters if each.event_id)
    # `drop` closes an outcome first, so a message that it left in the queue does not say that the outcome stayed open.
    is_said = done is not None and done.action == "close" and done.ended != "interrupted"
    left = frozenset(
        each.event_id
        for each in (done.letters if done and is_said else ())
        if each.event_id and each.result != "closed"
    )
    # Thousands of messages would be kept in memory twice.
    short = {"letters": ()}
    return _Action(intended.model_copy(update=short), done and done.model_copy(update=short), events, left)
