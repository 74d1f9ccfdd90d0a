"""Rows of the outcomes table: how an outcome is written, and read back, also where somebody has spoilt it by hand."""

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
#: What of a row that cannot be read as a whole is worth keeping: what earlier attempts did and still owe.
_WORTH_KEEPING: Final = ("attempts", "event_time", "received_at", "intents", "announced", "unclear")


def plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """Turn an item from DynamoDB's spelling into Python's."""
    return {name: _deserialize(value) for name, value in item.items()}


def outcome(row: Mapping[str, Any]) -> Outcome:
    """Read a row; raise ValidationError where it is not what a worker writes."""
    return Outcome.model_validate({name: value for name, value in row.items() if name in Outcome.model_fields})


def readable(row: Mapping[str, Any]) -> Outcome | None:
    """Read a row; None where it is not what a worker writes."""
    try:
        return outcome(row)
    except ValidationError:
        return None


def salvaged(row: Mapping[str, Any], fresh: Outcome) -> Outcome:
    """Return a fresh outcome with all that can be read of a row that cannot be read as a whole."""
    told = fresh.model_dump()
    for name in _WORTH_KEEPING:
        if name in row and readable(told | {name: row[name]}):
            told[name] = row[name]
    return outcome(told)


def row_of(known: Outcome) -> dict[str, Any]:
    """Write an outcome as a row, with the key of the sparse index where it is not final."""
    row = {name: _told(value) for name, value in known.model_dump(exclude_none=True).items()}
    return row if known.status in FINAL else row | {"failing": known.status.value}


def stamp(moment: datetime) -> str:
    """Write a moment so that the order of texts is the order of time."""
    # Not by strftime, which writes the years before 1000 with less than four digits.
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _told(value: Any) -> Any:
    match value:
        case datetime():
            return stamp(value)
        case dict():
            return {str(name): _told(each) for name, each in value.items()}
        case tuple():
            return [_told(each) for each in value]
        case str():
            return str(value)
        case _:
            return value
