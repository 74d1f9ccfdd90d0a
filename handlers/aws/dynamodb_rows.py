"""Rows of the outcomes table: write an outcome as a row, and read it back, even if it was edited by hand."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from pydantic import ValidationError

from schemas.outcome import FINAL, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

serialize: Final = TypeSerializer().serialize
_deserialize: Final = TypeDeserializer().deserialize
#: The fields of an unreadable row that are worth keeping: the history, and what the next attempt needs for missing
#: evidence.
_WORTH_KEEPING: Final = ("attempts", "event_time", "received_at", "intents", "announced", "unclear")


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
    for name in _WORTH_KEEPING:
        if name in row and readable(fields | {name: row[name]}):
            fields[name] = row[name]
    return outcome(fields)


def row_of(known: Outcome) -> dict[str, Any]:
    """Return an outcome as a row; a row that is not final also has `failing`, the key of the sparse index."""
    row = {name: _value(value) for name, value in known.model_dump(exclude_none=True).items()}
    return row if known.status in FINAL else row | {"failing": known.status.value}


def stamp(moment: datetime) -> str:
    """Return a time as a string; the strings sort in the order of time."""
    # strftime would write years before 1000 with fewer than four digits.
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _value(value: Any) -> Any:
    match value:
        case datetime():
            return stamp(value)
        case dict():
            return {str(name): _value(each) for name, each in value.items()}
        case tuple():
            return [_value(each) for each in value]
        case str():
            return str(value)
        case _:
            return value
