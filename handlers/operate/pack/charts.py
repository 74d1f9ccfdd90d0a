"""The charts of a report, drawn once with ReportLab: as SVG for the page, and as they are for the PDF.

In the SVG, colors are classes, so that the page's style sheet chooses them for light, dark and print.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from reportlab.graphics import renderSVG
from reportlab.graphics.charts.barcharts import VerticalBarChart
from reportlab.graphics.charts.lineplots import LinePlot
from reportlab.graphics.shapes import Drawing, Rect, String
from reportlab.lib.colors import HexColor

from handlers.core.plurals import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.pack import CoverageDay

#: The colors on paper, which are those of the page in light.
COLORS: Final = {"accent": "#0b5a6f", "bad": "#a61b1b", "muted": "#565b63", "rule": "#d9d9d2", "look": "#c9c4b4"}
WIDTH: Final = 720
_LEFT, _RIGHT, _BOTTOM, _TOP = 44, 22, 30, 14
_FONT: Final = "Helvetica"
_SIZE: Final = 10
_MOST_LABELS: Final = 14
#: The heights of both parts of the chart about coverage.
_GAPS, _SHARE = 170, 80


@dataclass(frozen=True)
class Chart:
    """A drawing, and what it says in words."""

    id: str
    title: str
    description: str
    drawing: Drawing


def latency_chart(ranges: Sequence[tuple[str, int]]) -> Chart:
    """Return the distribution of the time from join to guardrail."""
    drawing = Drawing(WIDTH, 220)
    bars = _bars(drawing, 220, [[joins for _, joins in ranges]])
    bars.categoryAxis.categoryNames = [name for name, _ in ranges]
    bars.bars[0].fillColor = HexColor(COLORS["accent"])
    bars.barLabelFormat = lambda joins: f"{joins:,}"
    bars.barLabels.fontName, bars.barLabels.fontSize = _FONT, _SIZE
    bars.barLabels.fillColor, bars.barLabels.nudge = HexColor(COLORS["muted"]), 8
    bars.valueAxis.valueMax = _rounded(max(4, *(joins * 1.12 for _, joins in ranges)))
    most, joins = max(ranges, key=lambda each: each[1])
    return Chart(
        "latency",
        "Joins by the time from join to guardrail",
        f"A bar for each range of time. The highest one, {joins:,}, is of those that took {most}.",
        drawing,
    )


def coverage_chart(days: Sequence[CoverageDay]) -> Chart:
    """Return the share of members covered and the most accounts with gaps on each day, and the days without a sweep."""
    drawing = Drawing(WIDTH, _GAPS + _SHARE + 2 * _TOP + 16)
    least = _share_line(drawing, days, _GAPS + 16, _SHARE)
    most = max((each.most_gaps or 0 for each in days), default=0)
    bars = _bars(drawing, _GAPS - 6, [[each.most_gaps or 0 for each in days]])
    drawing.add(_label(bars.y + bars.height + 8, "Accounts with gaps, the most in one sweep of the day"))
    bars.bars[0].fillColor = HexColor(COLORS["bad"])
    bars.valueAxis.valueMax = _rounded(max(most, 4))
    bars.groupSpacing = 2 if len(days) < 200 else 0  # noqa: PLR2004 - days that have room between them
    step = max(1, -(-len(days) // _MOST_LABELS))
    bars.categoryAxis.categoryNames = [
        f"{each.day.day} {each.day:%b}" if number % step == 0 else "" for number, each in enumerate(days)
    ]
    each_width = bars.width / max(1, len(days))
    for number, each in enumerate(days):
        if not each.sweeps:
            left = bars.x + number * each_width
            silent_day = Rect(left, bars.y, each_width, _GAPS + 16 + _SHARE - bars.y)
            silent_day.fillColor, silent_day.strokeColor = HexColor(COLORS["look"]), None
            drawing.insert(0, silent_day)
    silent = sum(not each.sweeps for each in days)
    worst = next((each for each in days if most and each.most_gaps == most), None)
    said = f"At most {count(most, 'account')} had gaps, on {worst.day}." if worst else "No sweep found a gap."
    without = f" On {count(silent, 'day')}, drawn in grey, no sweep ran." if silent else ""
    return Chart(
        "coverage-by-day",
        "Coverage and gaps by day",
        f"At the end of each day, at least {least:.4g}% of the members were covered. {said}{without}",
        drawing,
    )


def _share_line(drawing: Drawing, days: Sequence[CoverageDay], bottom: int, height: int) -> float:
    """Draw the share of members covered, by the last sweep of each day; return the smallest share, in percent."""
    points = [
        (number, 100 * each.covered / each.members)
        for number, each in enumerate(days)
        if each.covered is not None and each.members
    ]
    least = min((share for _, share in points), default=100.0)
    plot = LinePlot()
    plot.x, plot.y, plot.width, plot.height = _LEFT, bottom, WIDTH - _LEFT - _RIGHT, height
    plot.data = [points or [(0, 100)]]
    plot.lines[0].strokeColor, plot.lines[0].strokeWidth = HexColor(COLORS["accent"]), 1.75
    across, up = plot.xValueAxis, plot.yValueAxis
    across.valueMin, across.valueMax, across.visible = -0.5, len(days) - 0.5, 0
    floor = min(99.0, float(int(least)))
    up.valueMin, up.valueMax, up.valueSteps = floor, 100, [floor, (floor + 100) / 2, 100]
    up.labelTextFormat = lambda value: f"{value:g}%"
    _quiet(up, plot.x, plot.x + plot.width)
    drawing.add(plot)
    drawing.add(_label(bottom + height + 8, "Members covered, at the last sweep of the day"))
    return least


def _label(y: float, text: str) -> String:
    label = String(_LEFT, y, text)
    label.fontName, label.fontSize, label.fillColor = _FONT, _SIZE, HexColor(COLORS["muted"])
    return label


def _quiet(up: Any, begin: float, until: float) -> None:
    """Give a vertical axis grid lines instead of a line and ticks."""
    up.visibleAxis = up.visibleTicks = 0
    up.visibleGrid, up.gridStrokeColor, up.gridStrokeWidth = 1, HexColor(COLORS["rule"]), 0.75
    up.gridStart, up.gridEnd = begin, until
    up.labels.fontName, up.labels.fontSize = _FONT, _SIZE
    up.labels.fillColor = HexColor(COLORS["muted"])


def _bars(drawing: Drawing, height: int, data: list[list[int]]) -> VerticalBarChart:
    """Return a bar chart in a drawing, with quiet axes."""
    bars = VerticalBarChart()
    bars.x, bars.y = _LEFT, _BOTTOM
    bars.width, bars.height = WIDTH - _LEFT - _RIGHT, height - _BOTTOM - _TOP
    bars.data = data
    bars.strokeColor = bars.fillColor = None
    bars.bars[0].strokeColor = None
    bars.groupSpacing = 10
    across: Any = bars.categoryAxis
    across.strokeColor, across.visibleTicks = HexColor(COLORS["muted"]), 0
    up: Any = bars.valueAxis
    up.valueMin, up.maximumTicks = 0, 5
    _quiet(up, bars.x, bars.x + bars.width)
    up.labelTextFormat = lambda value: f"{value:,.0f}"
    across.labels.fontName, across.labels.fontSize = _FONT, _SIZE
    across.labels.fillColor = HexColor(COLORS["muted"])
    across.labels.dy = -4
    drawing.add(bars)
    return bars


def _rounded(value: float) -> int:
    """Return the next number that divides well into steps."""
    size: int = 10 ** max(0, len(str(int(value))) - 1)
    return next(
        (round(size * part) for part in (1, 2, 4, 5, 8, 10) if size * part >= value and size * part % 1 == 0), 10 * size
    )


# ---------------------------------------------------------------- SVG

_SVG: Final = "{http://www.w3.org/2000/svg}"
_KEPT: Final = {"stroke-width", "stroke-dasharray", "stroke-linecap", "font-size"}
#: A number with more places than anybody can see.
_LONG: Final = re.compile(r"-?[0-9]+\.[0-9]{3,}(?:e-?[0-9]+)?")
_PERCENT: Final = re.compile(r"rgb\((\d+)%,(\d+)%,(\d+)%\)")


def svg(chart: Chart) -> str:
    """Return a chart as an SVG element for a page with a strict policy: no inline styles, and colors as classes."""
    root = ET.fromstring(renderSVG.drawToString(chart.drawing))  # noqa: S314 - our own drawing
    for parent in root.iter():
        for child in list(parent):
            if child.tag in {f"{_SVG}title", f"{_SVG}desc", f"{_SVG}clipPath"}:
                parent.remove(child)
    for each in root.iter():
        each.tag = each.tag.removeprefix(_SVG)
        _restyle(each)
    names = f"{chart.id}-title {chart.id}-desc"
    drawn = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-labelledby": names, "class": "chart"}
    root.attrib.clear()
    root.attrib.update(drawn)
    for name, text in (("desc", chart.description), ("title", chart.title)):
        element = ET.Element(name, {"id": f"{chart.id}-{name}"})
        element.text = text
        root.insert(0, element)
    _prune(root)
    return ET.tostring(root, encoding="unicode")


def _restyle(element: ET.Element) -> None:
    style = element.attrib.pop("style", "")
    element.attrib.pop("id", None)
    if not element.attrib.get("transform", "x").strip():
        del element.attrib["transform"]
    for name, value in element.attrib.items():
        element.attrib[name] = _LONG.sub(lambda found: f"{float(found[0]):.2f}", value)
    classes = []
    for part in filter(None, map(str.strip, style.split(";"))):
        name, _, value = (text.strip() for text in part.partition(":"))
        if name in {"fill", "stroke"}:
            color = _color(value)
            classes += [f"{name}-{color}"] if color else []
            if not color:
                element.attrib[name] = "none"
        elif name in _KEPT:
            element.attrib[name] = value.removesuffix("px")
    if classes:
        element.attrib["class"] = " ".join(classes)


def _color(value: str) -> str | None:
    """Return the name of a color; None for no color."""
    found = _PERCENT.match(value)
    if not found:
        return None
    wanted = tuple(int(each) for each in found.groups())
    return min(COLORS, key=lambda name: _distance(wanted, COLORS[name]))


def _distance(percents: tuple[int, ...], color: str) -> float:
    parts = (int(color[place : place + 2], 16) / 2.55 for place in (1, 3, 5))
    return sum((one - other) ** 2 for one, other in zip(percents, parts, strict=True))


def _prune(element: ET.Element) -> None:
    """Remove groups that hold nothing, and white space."""
    element.tail = None
    if element.tag not in {"text", "title", "desc"}:
        element.text = None
    for child in list(element):
        _prune(child)
        if child.tag == "g" and not len(child):
            element.remove(child)
