"""Rows of the outcomes table: write an outcome as a row, and read it back, even if it was edited by hand."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from pydantic import ValidationError

from handlers.core.timing import MAX_LEASE
from schemas.outcome import FAILING, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The condition that no attempt is running; it needs the values of `lease_limits`.
NOT_LEASED: Final = "attribute_not_exists(lease_until) OR lease_until < :now OR lease_until > :horizon"
serialize: Final = TypeSerializer().serialize
_deserialize: Final = TypeDeserializer().deserialize
#: The fields of an unreadable row that are worth keeping: the history, and what the next attempt needs for missing
#: evidence.
WORTH_KEEPING: Final = ("attempts", "event_time", "received_at", "intents", "announced", "unclear", "claims")


def plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """Convert an item from DynamoDB's attribute values to Python's values."""
    return {name: _deserialize(value) for name, value in item.items()}


def outcome(row: Mapping[str, Any]) -> Outcome:
    """Read a row; raise ValidationError if its values do not fit the contract."""
    return Outcome.model_validate({name: value for name, value in row.items() if name in Outcome.model_fields})


def readable(row: Mapping[str, Any]) -> Outcome | None:
    """Read a row; return None if its values do not fit the contract."""
    try:
        return outcome(row)
    except ValidationError:
        return None


def replacement(row: Mapping[str, Any], fresh: Outcome) -> Outcome:
    """Return a fresh outcome with those fields of a row that are worth keeping and readable."""
    fields = fresh.model_dump()
    for name in WORTH_KEEPING:
        if name in row and readable(fields | {name: row[name]}):
            fields[name] = row[name]
    return outcome(fields)


def row_of(known: Outcome) -> dict[str, Any]:
    """Return an outcome as a row; a row that is RETRYING or FAILED also has `failing`, the index's key."""
    row = {name: value_of(value) for name, value in known.model_dump(exclude_none=True).items()}
    return row | {"failing": known.status.value} if known.status in FAILING else row


def lease_limits(now: datetime) -> dict[str, str]:
    """Return the values of NOT_LEASED."""
    return {":now": stamp(now), ":horizon": stamp(now + MAX_LEASE)}


def stamp(moment: datetime) -> str:
    """Return a time as a string; the strings sort in the order of time."""
    # strftime would write years before 1000 with fewer than four digits.
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def value_of(value: Any) -> Any:
    """Return a value of an outcome as a row holds it."""
    match value:
        case datetime():
            return stamp(value)
        case dict():
            return {str(name): value_of(each) for name, each in value.items()}
        case tuple():
            return [value_of(each) for each in value]
        case str():
            return str(value)
        case _:
            return value
