"""The report as a PDF, laid out by ReportLab, so that it needs no browser.

Its font is Helvetica, which every reader has, and which has the characters of Western European languages. Others are
shown as question marks, and the PDF says so: the page, the spreadsheet, CSV and JSON have them.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import escape

from reportlab import rl_config
from reportlab.graphics import renderPDF
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4, landscape
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    KeepTogether,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
)
from reportlab.platypus import (
    Table as Grid,
)

from handlers.core.plurals import count
from handlers.operate.output import clean
from handlers.operate.pack import words
from handlers.operate.pack.charts import COLORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reportlab.graphics.shapes import Drawing
    from reportlab.pdfgen.canvas import Canvas

    from handlers.operate.pack.report import Column, Section, Table
    from schemas.pack import Pack

# ReportLab's default is to encode streams as ASCII, which makes the file a quarter larger.
rl_config.useA85 = 0

_PAGE: Final = landscape(A4)
_MARGIN: Final = 14 * mm
_WIDTH: Final = _PAGE[0] - 2 * _MARGIN
_SMALL: Final = 7
_LEADING: Final = 9
_PADDING: Final = 4
#: The height of a row of a long table.
_LINE: Final = 11.5
#: Rows above which cells are cut to one line, so that nothing has to be measured.
_MANY: Final = 250
#: Rows above which a table that the page folds is left out.
_FOLDED: Final = 15
#: The size of charts on paper.
_SCALE: Final = 0.7
_TONES: Final = {"good": HexColor("#1a6340"), "look": HexColor("#7a5200"), "bad": HexColor("#a61b1b")}
_INK: Final = HexColor("#1b1d21")
_MUTED: Final = HexColor(COLORS["muted"])
_RULE: Final = HexColor(COLORS["rule"])
_ACCENT: Final = HexColor(COLORS["accent"])

_BODY: Final = ParagraphStyle("body", fontName="Helvetica", fontSize=9.5, leading=13.5, textColor=_INK, spaceAfter=5)
_KIND: Final = ParagraphStyle("kind", parent=_BODY, fontName="Helvetica-Bold", textColor=_ACCENT, spaceAfter=2)
_TITLE: Final = ParagraphStyle("title", parent=_BODY, fontName="Helvetica-Bold", fontSize=24, leading=29, spaceAfter=4)
_ABOUT: Final = ParagraphStyle("about", parent=_BODY, textColor=_MUTED, spaceAfter=12)
_HEADING: Final = ParagraphStyle(
    "heading", parent=_BODY, fontName="Helvetica-Bold", fontSize=14, leading=18, spaceBefore=16, spaceAfter=6
)
_ANSWER: Final = ParagraphStyle("answer", parent=_BODY, fontSize=12, leading=15.5, spaceAfter=3)
_CAPTION: Final = ParagraphStyle(
    "caption", parent=_BODY, fontSize=8.5, leading=11, textColor=_MUTED, spaceBefore=6, spaceAfter=3
)
_POINT: Final = ParagraphStyle("point", parent=_BODY, leftIndent=10, bulletIndent=0)
_CELL: Final = ParagraphStyle(
    "cell", fontName="Helvetica", fontSize=_SMALL, leading=_LEADING - 0.5, textColor=_INK, splitLongWords=True
)
_ID: Final = ParagraphStyle("id", parent=_CELL, fontName="Courier", fontSize=_SMALL - 0.7)
_NUMBER: Final = ParagraphStyle("number", parent=_CELL, alignment=TA_RIGHT)
_HEAD: Final = ParagraphStyle("head", parent=_CELL, fontName="Helvetica-Bold")
_HEAD_NUMBER: Final = ParagraphStyle("head-number", parent=_HEAD, alignment=TA_RIGHT)
_STYLES: Final = {"text": _CELL, "id": _ID, "path": _ID, "number": _NUMBER}


def paper(pack: Pack, sections: Sequence[Section]) -> bytes:
    """Return the report as a PDF."""
    return _Paper(pack).made(sections)


class _Drawn(Flowable):
    """A drawing, made smaller."""

    def __init__(self, drawing: Drawing) -> None:
        super().__init__()
        self._drawing = drawing

    def wrap(self, aW: float, aH: float) -> tuple[float, float]:  # noqa: ARG002, N803 - the names that ReportLab uses
        return self._drawing.width * _SCALE, self._drawing.height * _SCALE

    def draw(self) -> None:
        self.canv.scale(_SCALE, _SCALE)
        renderPDF.draw(self._drawing, self.canv, 0, 0)


class _Lines(Flowable):
    """Rows of one line each. ReportLab's own tables take several times as long for thousands of rows."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], widths: Sequence[float]) -> None:
        super().__init__()
        self._columns, self._rows, self._widths = columns, rows, widths

    def wrap(self, aW: float, aH: float) -> tuple[float, float]:  # noqa: ARG002, N803 - the names that ReportLab uses
        return sum(self._widths), _LINE * (len(self._rows) + 1)

    def split(self, aW: float, aH: float) -> list[Flowable]:  # noqa: ARG002, N803 - the names that ReportLab uses
        fitting = int(aH / _LINE) - 1
        if fitting < 1:
            return []
        parts = (self._rows[:fitting], self._rows[fitting:])
        return [_Lines(self._columns, rows, self._widths) for rows in parts if rows]

    def draw(self) -> None:
        canvas, top = self.canv, _LINE * len(self._rows)
        left = 0.0
        for place, (column, width) in enumerate(zip(self._columns, self._widths, strict=True)):
            room = width - 2 * _PADDING
            self._write(left, room, top, column, [column.title], _HEAD)
            self._write(left, room, top - _LINE, column, [each[place] for each in self._rows], _STYLES[column.kind])
            left += width
        canvas.setStrokeColor(_MUTED)
        canvas.setLineWidth(0.9)
        canvas.line(0, top - 2.5, left, top - 2.5)
        canvas.setStrokeColor(_RULE)
        canvas.setLineWidth(0.4)
        canvas.lines([(0, top - n * _LINE - 2.5, left, top - n * _LINE - 2.5) for n in range(1, len(self._rows) + 1)])

    def _write(  # noqa: PLR0913, PLR0917 - what a column is
        self, left: float, room: float, top: float, column: Column, texts: Sequence[str], style: ParagraphStyle
    ) -> None:
        """Write texts one below the other, in as few operations as a PDF allows."""
        lines = self.canv.beginText(left, top)
        lines.setFont(style.fontName, style.fontSize, _LINE)
        lines.setFillColor(_INK)
        color = _INK
        for number, text in enumerate(texts):
            shown, width = _fitting(text, style.fontName, style.fontSize, room)
            if column.kind == "number":
                lines.setTextOrigin(left + room - width, top - number * _LINE)
            if (wanted := _TONES.get(column.tones.get(text, ""), _INK)) is not color:
                color = wanted
                lines.setFillColor(color)
            lines.textLine(shown)
        self.canv.drawText(lines)


@lru_cache(4096)
def _fitting(text: str, font: str, size: float, room: float) -> tuple[str, float]:
    """Return a text that fits on a line, and its width."""
    width = stringWidth(text, font, size)
    if width <= room:
        return text, width
    while text and stringWidth(f"{text}…", font, size) > room:
        text = text[:-1]
    return f"{text}…", stringWidth(f"{text}…", font, size)


class _Document(BaseDocTemplate):
    """A document whose headings are in its outline."""

    def afterFlowable(self, flowable: Flowable) -> None:  # noqa: N802 - the name that ReportLab uses
        """Add a heading to the outline."""
        if isinstance(flowable, Paragraph) and flowable.style is _HEADING:
            text = flowable.getPlainText()
            self.canv.bookmarkPage(text)
            self.canv.addOutlineEntry(text, text)


class _Paper:
    """One PDF."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._lacks_characters = False

    def made(self, sections: Sequence[Section]) -> bytes:
        pack, output = self._pack, io.BytesIO()
        title = f"Evidence pack, {words.period(pack.period)}, organization {pack.organization_id}"
        # `invariant`: the same data makes the same bytes.
        document = _Document(output, pagesize=_PAGE, title=title, author="Joinguard", lang="en", invariant=1)
        frame = Frame(_MARGIN, 15 * mm, _WIDTH, _PAGE[1] - 15 * mm - _MARGIN, 0, 0, 0, 0)
        document.addPageTemplates(PageTemplate("page", [frame], onPageEnd=self._foot))
        story = [*self._first(), *(each for section in sections for each in self._section(section))]
        if self._lacks_characters:
            story.append(Spacer(1, 10))
            story.append(
                self._paragraph(
                    "The font of this PDF lacks some characters of the texts, which are shown as question marks. The "
                    "page, the spreadsheet, CSV and JSON have them.",
                    _CAPTION,
                )
            )
        document.build(story)
        return output.getvalue()

    def _foot(self, canvas: Canvas, _document: BaseDocTemplate) -> None:
        pack = self._pack
        canvas.saveState()
        canvas.setFont("Helvetica", 7.5)
        canvas.setFillColor(_MUTED)
        canvas.drawString(
            _MARGIN, 8 * mm, f"Joinguard evidence pack · {pack.organization_id} · {words.period(pack.period)} (UTC)"
        )
        canvas.drawRightString(_PAGE[0] - _MARGIN, 8 * mm, f"Page {canvas.getPageNumber()}")
        if pack.reveals:
            canvas.setFillColor(_TONES["bad"])
            canvas.drawCentredString(_PAGE[0] / 2, 8 * mm, "Names accounts by their IDs. Confidential.")
        canvas.restoreState()

    def _first(self) -> Iterator[Flowable]:
        pack = self._pack
        yield self._paragraph("Joinguard evidence pack", _KIND)
        yield self._paragraph(words.period(pack.period), _TITLE)
        shown = "by their IDs" if pack.reveals else "by pseudonyms"
        yield self._paragraph(
            f"Organization {pack.organization_id} · made {words.moment(pack.made_at)} UTC by Joinguard {pack.made_by} "
            f"· accounts {shown}",
            _ABOUT,
        )
        if pack.reveals:
            yield self._paragraph("This pack names accounts by their IDs. Handle it as confidential.", _toned("bad"))
        for each in words.answers(pack):
            command = f" Run: {each.command}" if each.command else ""
            section = f" See {words.TITLES[each.section]}." if each.section else ""
            yield self._paragraph(each.text + command + section, _toned(each.tone))
        if limits := words.limits(pack):
            yield self._paragraph(f"{limits}: see What is not proven.", _toned("look"))
        yield Spacer(1, 8)
        yield self._figures()

    def _figures(self) -> Flowable:
        found, across = words.figures(self._pack), 4
        cells = [
            [
                [
                    self._paragraph(each.name, _FIGURE_NAME),
                    self._paragraph(each.value, _figure(each.tone)),
                    self._paragraph(each.note, _FIGURE_NOTE),
                ]
                for each in found[begin : begin + across]
            ]
            for begin in range(0, len(found), across)
        ]
        style: list[Any] = [("GRID", (0, 0), (-1, -1), 0.75, _RULE), ("VALIGN", (0, 0), (-1, -1), "TOP")]
        style += [(f"{side}PADDING", (0, 0), (-1, -1), 8) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")]
        return Grid(cells, colWidths=[_WIDTH / across] * across, style=style)

    def _section(self, section: Section) -> Iterator[Flowable]:
        if section.id in {"members", "controls"}:
            yield PageBreak()
        else:
            yield CondPageBreak(40 * mm)
        yield self._paragraph(section.title, _HEADING)
        yield from (self._paragraph(each, _BODY) for each in section.lead)
        for point in section.points:
            yield Paragraph(self._markup(point), _POINT, bulletText="•")
        if section.chart:
            drawing = _Drawn(section.chart.drawing)
            caption = self._paragraph(f"{section.chart.title}. {section.chart.description}", _CAPTION)
            yield KeepTogether([Spacer(1, 4), drawing, caption])
        for table in section.tables:
            yield from self._table(table)

    def _table(self, table: Table) -> Iterator[Flowable]:
        if table.is_folded and len(table.rows) > _FOLDED:
            where = f"{table.caption}: {count(len(table.rows), 'row')}, in the page and in the spreadsheet."
            yield self._paragraph(where, _CAPTION)
            return
        if not table.rows:
            yield KeepTogether([self._paragraph(table.caption, _CAPTION), self._paragraph(table.empty, _CELL)])
            return
        cut = f" The first {len(table.rows):,} of {table.total:,}; the spreadsheet and the CSV have all of them."
        yield CondPageBreak(25 * mm)
        is_long = len(table.rows) > _MANY
        short = " Texts that do not fit on a line are cut; the page has them." if is_long else ""
        yield self._paragraph(table.caption + (cut if table.left_out else "") + short, _CAPTION)
        total = sum(each.weight for each in table.columns)
        width = _WIDTH / 2 if table.is_narrow else _WIDTH
        widths = [width * each.weight / total for each in table.columns]
        if not is_long:
            yield self._grid(table, widths)
        else:
            rows = [[self._encodable(cell.replace("\n", " ")) for cell in row] for row in table.rows]
            yield _Lines(table.columns, rows, widths)
        yield Spacer(1, 8)

    def _grid(self, table: Table, widths: Sequence[float]) -> Flowable:
        """Return a table whose cells take as many lines as they need."""
        head = [self._head(each) for each in table.columns]
        rows = [
            [self._cell(cell, column) for cell, column in zip(row, table.columns, strict=True)] for row in table.rows
        ]
        return Grid([head, *rows], colWidths=widths, repeatRows=1, style=_RULES, hAlign="LEFT")

    def _head(self, column: Column) -> Flowable:
        return self._paragraph(column.title, _HEAD_NUMBER if column.kind == "number" else _HEAD)

    def _cell(self, text: str, column: Column) -> Flowable:
        tone, markup = column.tones.get(text), self._markup(text)
        colored = f'<font color="{_TONES[tone].hexval().replace("0x", "#")}"><b>{markup}</b></font>' if tone else markup
        return Paragraph(colored, _STYLES[column.kind])

    def _paragraph(self, text: str, style: ParagraphStyle) -> Paragraph:
        return Paragraph(self._markup(text), style)

    def _markup(self, text: str) -> str:
        """Return a text for ReportLab, which reads markup in it."""
        return escape(self._encodable(text)).replace("\n", "<br/>")

    def _encodable(self, text: str) -> str:
        cleaned = clean(text)
        if cleaned.isascii():
            return cleaned
        shown = cleaned.encode("cp1252", "replace").decode("cp1252")
        self._lacks_characters = self._lacks_characters or "?" in shown.replace("?", "", text.count("?"))
        return shown


_RULES: Final[list[Any]] = [
    ("LINEBELOW", (0, 0), (-1, 0), 0.9, _MUTED),
    ("LINEBELOW", (0, 1), (-1, -1), 0.4, _RULE),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("TOPPADDING", (0, 0), (-1, -1), 2),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 2 * _PADDING),
    ("RIGHTPADDING", (-1, 0), (-1, -1), 0),
]
_FIGURE_NAME: Final = ParagraphStyle(
    "figure-name", parent=_BODY, fontSize=8.5, leading=11, textColor=_MUTED, spaceAfter=0
)
_FIGURE_NOTE: Final = ParagraphStyle("figure-note", parent=_FIGURE_NAME, fontSize=8)


def _figure(tone: str) -> ParagraphStyle:
    return ParagraphStyle(
        "figure",
        parent=_BODY,
        fontName="Helvetica-Bold",
        fontSize=18,
        leading=23,
        textColor=_TONES.get(tone, _INK),
        spaceAfter=0,
    )


def _toned(tone: str) -> ParagraphStyle:
    return ParagraphStyle("toned", parent=_ANSWER, textColor=_TONES[tone])
