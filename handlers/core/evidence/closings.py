"""Who closed an outcome: an operator, in an action with audit records, or a departure, which has evidence."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

from pydantic import ValidationError

from handlers.core.errors import Cause, RetryableError
from handlers.core.evidence.checks import EvidenceChecker, Verdict
from handlers.core.evidence.contradictions import RowComparison, ours
from handlers.core.evidence.ports import EvidenceReader
from handlers.core.evidence.references import event_reference, is_digest
from handlers.core.ports import Pseudonyms
from handlers.core.redaction import holds_account_id
from handlers.core.timing import MAX_LEASE
from schemas.audit import AuditRecord
from schemas.evidence import RecordedDeparture
from schemas.ids import EventId
from schemas.keys import audit_key
from schemas.outcome import MAX_ATTEMPTS, Closed, Departed, OutcomeStatus

#: The actions that close outcomes.
_CLOSING: Final = frozenset({"close", "drop"})
#: An action begins at most this long before it closes an outcome: SQS keeps no message in flight for longer.
_LONGEST: Final = timedelta(hours=12)
#: The size limit of an audit record: SQS allows about 120,000 messages in flight, and a record can name them all.
_MAX_BYTES: Final = 64 * 1024 * 1024
_FIRST_MOMENT: Final = datetime.min.replace(tzinfo=UTC)
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


class _Asked(NamedTuple):
    """What a row says of an action: two rows can say different things of the same one, and one of them be made up."""

    action_id: str
    #: The days on which it can have begun, the last one first.
    days: tuple[date, ...]
    #: Whether its records must be in the log.
    is_sealed: bool


@dataclass
class ClosingChecker:
    """Compare what rows say of their closing with audit records and evidence."""

    #: Reads what the log names.
    evidence: EvidenceReader
    checker: EvidenceChecker
    pseudonyms: Pseudonyms
    #: The number of rows that were not compared, because an audit record must be restored before it can be read.
    archived: int = field(default=0, init=False)
    _kept: dict[_Asked, _Action | None] = field(default_factory=dict, init=False)

    def contradiction(self, comparison: RowComparison) -> str | None:
        """Return what a row says of its closing and no record says; None if they agree."""
        row = comparison.row
        if row.closed:
            try:
                return self._by_operator(comparison, row.closed)
            except RetryableError as error:
                if error.cause is not Cause.ARCHIVED:
                    raise
                self.archived += 1
                return None
        return self._by_departure(comparison, row.departed) if row.departed else None

    def _by_operator(self, comparison: RowComparison, closed: Closed) -> str | None:
        if abs(comparison.row.updated_at - closed.closed_at) > MAX_LEASE:
            return "the row says that an operator closed it at another time than it was written"
        action = self._action(closed, is_sealed=comparison.is_sealed)
        if action is None:
            return "the row says that an operator closed it, and no audit record in the log is of that action"
        intended, done = action.intended, action.done
        event_id = comparison.row.event_id
        if not self._is_named(event_id, action.events) or not action.left.isdisjoint(self._references(event_id)):
            return "the row says that an operator closed it, and the audit records of that action do not name its event"
        same_name = closed.actor_name in {None, intended.actor_name}
        if (closed.actor, closed.actor_id) != (intended.actor, intended.actor_id) or not same_name:
            return "the row says that an operator closed it, and the audit records of that action name somebody else"
        longest = done.recorded_at - intended.recorded_at if done else _LONGEST
        is_within = -MAX_LEASE <= closed.closed_at - intended.recorded_at <= longest + MAX_LEASE
        return None if is_within else "the row was closed at another time than the audit records of that action say"

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
        is_excused = not comparison.is_sealed or any(each.verdict is Verdict.ARCHIVED for each in checked)
        return None if is_excused else "the row says that the account left, and no evidence of that departure says so"

    def _is_same(self, departed: Departed, recorded: RecordedDeparture | None) -> bool:
        if recorded is None:
            return False
        same = (recorded.cause, recorded.left_at) == (departed.cause, departed.left_at)
        return same and self._is_named(departed.event_id, {recorded.event_id})

    def _is_named(self, event_id: EventId, names: AbstractSet[EventId]) -> bool:
        """Return whether an event is among those that a record names, as far as the keys exist that made the names."""
        if not names.isdisjoint(self._references(event_id)):
            return True
        is_unknown = bool(self.pseudonyms.lost_keys) and holds_account_id(event_id)
        return is_unknown and any(map(is_digest, names))

    def _references(self, event_id: EventId) -> set[EventId]:
        """Return what records may call an event; those of version 1 use its own id."""
        return {event_id, *(event_reference(event_id, each.digest) for each in self.pseudonyms.under_each_key())}

    def _action(self, closed: Closed, *, is_sealed: bool) -> _Action | None:
        """Return the action that a row names; None if there is none."""
        asked = _Asked(closed.act_id, _days(closed.closed_at), is_sealed)
        if asked not in self._kept:
            if len(self._kept) >= _ACTIONS:
                del self._kept[next(iter(self._kept))]
            self._kept[asked] = self._read_action(asked)
        return self._kept[asked]

    def _read_action(self, asked: _Asked) -> _Action | None:
        for day in asked.days:
            key = audit_key(day, asked.action_id, "intended")
            if asked.is_sealed and key not in self.evidence.under(key, limit=1):
                continue
            if (intended := self._read(key, asked.action_id)) and intended.action in _CLOSING:
                return _action_of(intended, self._read_done(day, asked.action_id))
        return None

    def _read_done(self, day: date, action_id: str) -> AuditRecord | None:
        return self._read(audit_key(day, action_id, "done"), action_id)

    def _read(self, key: str, action_id: str) -> AuditRecord | None:
        """Return an audit record; None if there is none under the key. Raises RetryableError if it is archived."""
        try:
            body = self.evidence.read(key, limit=_MAX_BYTES)
            record = AuditRecord.model_validate_json(body) if len(body) <= _MAX_BYTES else None
        except ValidationError:
            return None
        except RetryableError as error:
            # S3 also refuses to return an object that is encrypted with another key.
            if error.soon or error.cause is Cause.ARCHIVED:
                raise
            return None
        return record if record and record.act_id == action_id else None


def _days(closed_at: datetime) -> tuple[date, ...]:
    """Return the days on which an action can have begun that closed an outcome, the last one first."""
    begun_at = max(closed_at, _FIRST_MOMENT + _LONGEST) - _LONGEST
    return tuple(sorted({closed_at.date(), begun_at.date()}, reverse=True))


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
