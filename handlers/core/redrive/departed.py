"""Dead letters of accounts that have left: the message in the queue cannot be changed, so its outcome says it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.ports import CallPatiently, EventOutcomes
from schemas.outcome import Outcome

#: The number of outcomes that are read at once.
_BATCH: Final = 100


def with_departures(
    dead_letters: Iterable[DeadLetter], outcomes: EventOutcomes, patiently: CallPatiently
) -> Iterator[DeadLetter]:
    """Yield messages, with the time when the account left if their outcome is closed by its departure."""
    rest = iter(dead_letters)
    while batch := list(islice(rest, _BATCH)):
        yield from _with_departures(batch, outcomes, patiently)


def _with_departures(
    batch: Sequence[DeadLetter], outcomes: EventOutcomes, patiently: CallPatiently
) -> Iterator[DeadLetter]:
    # Only an event about an account can be closed by its departure.
    keys = list({each.outcome_key for each in batch if each.outcome_key and each.account_id})
    found = patiently(lambda: outcomes.of_events(keys)) if keys else {}
    for each in batch:
        row = found.get(each.outcome_key) if each.outcome_key else None
        yield replace(each, left_at=row.departed.left_at) if isinstance(row, Outcome) and row.departed else each
