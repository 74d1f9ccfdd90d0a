"""The parts of a report: sections with sentences, tables and charts. The page and the PDF show the same ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from handlers.operate.pack import words
from handlers.operate.pack.words import Tone
from schemas.pack import MemberState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from handlers.operate.pack.charts import Chart

#: How many rows a table of the report has at most; the spreadsheet and CSV have all of them.
MAX_ROWS: Final = 1_000
#: The same of the table of members, which is the population.
MAX_MEMBERS: Final = 10_000
_FEW: Final = 3
#: `path` is an ID whose parts underscores and colons separate.
Kind = Literal["text", "number", "id", "path"]


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    #: The share of the width on paper.
    weight: float
    kind: Kind = "text"
    tones: Mapping[str, Tone] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of the report."""

    id: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    #: What is said if there are no rows.
    empty: str = "None."
    #: The number of rows before the table was cut.
    total: int = 0
    #: Whether it only repeats a chart, or is long and rarely read, so that it is folded on the screen.
    is_folded: bool = False

    @property
    def is_narrow(self) -> bool:
        """Whether it has so few columns, and short values, that it needs half of the width."""
        return len(self.columns) <= _FEW and all(each.kind != "id" for each in self.columns)

    @property
    def left_out(self) -> int:
        """How many rows the table does not show."""
        return max(0, self.total - len(self.rows))


@dataclass(frozen=True)
class Section:
    """A section of the report."""

    id: str
    title: str
    lead: Sequence[str]
    tables: Sequence[Table] = ()
    chart: Chart | None = None
    #: Points in a list.
    points: Sequence[str] = ()


#: What the states of members mean.
STATES: Final[Mapping[str, Tone]] = {
    words.STATES[MemberState.COVERED]: "good",
    words.STATES[MemberState.GAP]: "bad",
    words.STATES[MemberState.OBSERVED]: "look",
    words.STATES[MemberState.UNCLEAR]: "look",
}


def table(  # noqa: PLR0913 - the parts of a table
    name: str,
    caption: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    *,
    empty: str = "None.",
    limit: int = MAX_ROWS,
    is_folded: bool = False,
) -> Table:
    """Return a table with at most a number of rows."""
    every = list(rows)
    return Table(name, caption, columns, every[:limit], empty, len(every), is_folded)
