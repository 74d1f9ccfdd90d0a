"""The outcomes, as far as a pack needs them: without account ids, and small, because all of them are read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeAlias

from handlers.core.errors import JoinguardError
from handlers.core.evidence.pack.ports import Progress, Rows
from handlers.core.evidence.references import event_reference, keyed_reference
from handlers.core.ports import Pseudonyms, UnreadableRow
from schemas.events import KNOWN_EVENT_NAMES
from schemas.ids import AccountId, EventId
from schemas.keys import NO_ACCOUNT, REHEARSAL_ROW
from schemas.outcome import Outcome, OutcomeStatus
from schemas.pack import SourceRead, WrongEvidence

_OUTCOMES = "outcomes"
_UPDATE_EVERY = 1000


class WrongObject(NamedTuple):
    """An object of an outcome's evidence that is missing or wrong; the key is empty if the outcome names none."""

    key: str
    what: WrongEvidence


#: Returns what is missing or wrong of the evidence of an outcome.
Check: TypeAlias = Callable[[Outcome], tuple[WrongObject, ...]]


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome of an event."""

    #: The account's pseudonym; None if the event names none.
    account: str | None
    #: A keyed digest if the event's own id holds an account id, as in evidence; likewise its name.
    event_id: EventId
    event_name: str
    event_time: datetime
    source: str
    status: OutcomeStatus
    code: str | None
    updated_at: datetime
    done_at: datetime | None
    #: When the account left, if that is why it is closed.
    left_at: datetime | None
    closed_at: datetime | None
    wrong: tuple[WrongObject, ...]


@dataclass
class RowRecords:
    """All outcomes, and how many could not be read."""

    rows: list[Row] = field(default_factory=list)
    #: The ids of the accounts by their pseudonyms.
    ids: dict[str, AccountId] = field(default_factory=dict)
    unread: int = 0
    problem: str | None = None

    @property
    def source(self) -> SourceRead:
        """How much was read."""
        return SourceRead(source=_OUTCOMES, read=len(self.rows), unread=self.unread, problem=self.problem)


def read_rows(rows: Rows, pseudonyms: Pseudonyms, check: Check, progress: Progress) -> RowRecords:
    """Read all outcomes; a table that cannot be read, or not to its end, is a problem of the source."""
    found = RowRecords()
    try:
        for each in rows:
            if isinstance(each, UnreadableRow):
                found.unread += 1
                found.problem = found.problem or "a row is not an outcome"
            elif (each.account_id, each.event_id) != REHEARSAL_ROW:
                found.rows.append(_row(each, pseudonyms, check, found.ids))
                if len(found.rows) % _UPDATE_EVERY == 0:
                    progress(_OUTCOMES, len(found.rows))
    except JoinguardError as error:
        found.unread += 1
        found.problem = f"the table could not be read to its end: {error.fault.code}"
    return found


def _row(outcome: Outcome, pseudonyms: Pseudonyms, check: Check, ids: dict[str, AccountId]) -> Row:
    account = None
    if outcome.account_id != NO_ACCOUNT:
        account = pseudonyms.of(outcome.account_id).value
        ids[account] = outcome.account_id
    name = outcome.event_name
    return Row(
        account=account,
        event_id=event_reference(outcome.event_id, pseudonyms.digest),
        event_name=name if name in KNOWN_EVENT_NAMES else keyed_reference("event-name", name, pseudonyms.digest),
        event_time=outcome.event_time,
        source=outcome.source,
        status=outcome.status,
        code=outcome.fault.code if outcome.fault else None,
        updated_at=outcome.updated_at,
        done_at=outcome.done_at,
        left_at=outcome.departed.left_at if outcome.departed else None,
        closed_at=outcome.closed.closed_at if outcome.closed else None,
        wrong=check(outcome),
    )
