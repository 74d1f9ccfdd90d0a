"""The data of a pack as tables, for spreadsheets and CSV: every field of every record, without any limit of rows."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from functools import cache, cached_property
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, get_args, get_origin

import xlsxwriter
from pydantic import BaseModel

from handlers.operate.csv_output import csv_text, is_formula
from handlers.operate.output import clean
from handlers.operate.pack import words
from schemas.pack import Pack
from schemas.pseudonym import Pseudonym

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xlsxwriter.format import Format
    from xlsxwriter.worksheet import Worksheet

#: What a cell holds.
Value: TypeAlias = "str | int | float | bool | datetime | None"
_LISTS: Final = (
    "members",
    "days",
    "sweeps",
    "gaps",
    "exceptions",
    "failures",
    "actions",
    "changes",
    "rehearsals",
    "deployments",
    "disagreements",
    "unproven",
    "controls",
    "sources",
    "objects",
)
#: What Excel allows: characters in a cell, and rows in a sheet, one of which is the header.
_MAX_CELL: Final = 32_767
_MAX_ROWS: Final = 1_048_575
#: The width of columns, in characters.
_WIDEST: Final = 60
_NARROWEST: Final = 10


@dataclass(frozen=True)
class Sheet:
    """One table of data."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]

    @cached_property
    def texts(self) -> Sequence[Sequence[str]]:
        """The rows as text."""
        return [[_text(each) for each in row] for row in self.rows]


def sheets(pack: Pack) -> Iterator[Sheet]:
    """Yield the summary, and then each list of the pack."""
    summary = pack.summary.model_dump() | pack.latency.model_dump(exclude={"ranges"})
    about = {
        "organization": pack.organization_id,
        "first_day": pack.period.first,
        "last_day": pack.period.last,
        "made_at": pack.made_at,
        "made_by": f"Joinguard {pack.made_by}",
        "accounts": "by their ids" if pack.reveals else "by pseudonyms",
        "answer": words.verdict(pack)[0],
        "verification": words.integrity(pack).sentence,
    }
    yield Sheet("summary", ("what", "value"), [(name, _value(each)) for name, each in (about | summary).items()])
    yield Sheet("latency", ("range", "joins"), words.ranges(pack.latency))
    for name in _LISTS:
        (model, _) = get_args(Pack.model_fields[name].annotation)
        columns = tuple(_columns(model))
        yield Sheet(name, columns, [tuple(_values(each)) for each in getattr(pack, name)])


def csv_files(found: Sequence[Sheet]) -> Iterator[tuple[str, bytes]]:
    """Yield a CSV file for each sheet, with its name."""
    for sheet in found:
        yield f"{sheet.name}.csv", csv_text(sheet.columns, sheet.texts).encode()


def workbook(found: Sequence[Sheet], made_at: datetime, title: str, *, max_rows: int = _MAX_ROWS) -> bytes:
    """Return a workbook with all sheets. Texts are never formulas, links or numbers.

    A sheet with more rows than the limit, by default Excel's, is cut, and its last row says so.
    """
    output = io.BytesIO()
    with xlsxwriter.Workbook(output, {"in_memory": True, "default_date_format": "yyyy-mm-dd hh:mm:ss"}) as book:
        # The time of making is that of the pack, so that the same data makes the same bytes.
        book.set_properties({"title": title, "created": made_at.replace(tzinfo=None)})
        head = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        quoted = book.add_format({"quote_prefix": True})
        for sheet in found:
            page = book.add_worksheet(sheet.name)
            page.freeze_panes(1, 0)
            rows = _fitting(sheet, max_rows)
            for column, name in enumerate(sheet.columns):
                page.write_string(0, column, name.replace("_", " "), head)
            for number, row in enumerate(rows, 1):
                for column, value in enumerate(row):
                    _write(page, number, column, value, quoted)
            page.autofilter(0, 0, max(1, len(rows)), len(sheet.columns) - 1)
            lengths = [max(map(len, texts)) for texts in zip(*sheet.texts, strict=True)] or [0] * len(sheet.columns)
            for column, (name, longest) in enumerate(zip(sheet.columns, lengths, strict=True)):
                page.set_column(column, column, min(_WIDEST, max(_NARROWEST, len(name) + 3, longest + 1)))
    return output.getvalue()


def _fitting(sheet: Sheet, most: int) -> Sequence[Sequence[Value]]:
    """Return the rows that fit in a sheet; if not all do, the last one says how many are left out."""
    every = len(sheet.rows)
    if every <= most:
        return sheet.rows
    kept = most - 1
    says = f"The first {kept:,} of {every:,} rows: no more fit in a sheet. csv/{sheet.name}.csv has all of them."
    return [*sheet.rows[:kept], (says, *[None] * (len(sheet.columns) - 1))]


def _write(page: Worksheet, row: int, column: int, value: Value, quoted: Format) -> None:
    match value:
        case None | "":
            pass
        case str():
            text = clean(value)[:_MAX_CELL]
            page.write_string(row, column, text, quoted if is_formula(text) else None)
        case bool():
            page.write_boolean(row, column, value)
        case int() | float():
            page.write_number(row, column, value)
        case datetime():
            page.write_datetime(row, column, value.replace(tzinfo=None))


class _Field(NamedTuple):
    name: str
    #: Not None if its own fields are columns.
    model: type[BaseModel] | None
    is_optional_list: bool


@cache
def _fields(model: type[BaseModel]) -> Sequence[_Field]:
    return [_field(name, each.annotation) for name, each in model.model_fields.items()]


def _field(name: str, kind: object) -> _Field:
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not Pseudonym:
        return _Field(name, kind, is_optional_list=False)
    has_list = any(get_origin(each) is tuple for each in get_args(kind))
    return _Field(name, None, is_optional_list=has_list and type(None) in get_args(kind))


def _columns(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, inner, _ in _fields(model):
        if inner:
            yield from _columns(inner, f"{prefix}{name}_")
        else:
            yield prefix + name


def _values(record: BaseModel) -> Iterator[Value]:
    for name, inner, is_optional_list in _fields(type(record)):
        value = getattr(record, name)
        if inner:
            yield from _values(value)
        elif value is None and is_optional_list:
            # An empty cell would look like an empty list.
            yield words.UNKNOWN
        else:
            yield _value(value)


def _value(value: object) -> Value:  # noqa: PLR0911 - a case for each kind of field
    """Return a field's value as a cell: lists become words, and days become text."""
    match value:
        case None | str() | bool() | int() | float() | datetime():
            return value
        case Enum():
            return str(value.value)
        case Pseudonym():
            return value.value
        case date():
            return value.isoformat()
        case tuple():
            return " ".join(_text(_value(each)) for each in value)
        case dict():
            return " ".join(f"{_text(_value(name))}={_text(_value(each))}" for name, each in value.items())
        case BaseModel():
            return " ".join(filter(None, (_text(_value(each)) for _, each in value)))
    return str(value)


def _text(value: Value) -> str:
    """Return a cell as text."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)
