"""The report as one HTML page that loads nothing: style and charts are in it, and no script is."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from handlers.operate.output import clean
from handlers.operate.pack import words
from handlers.operate.pack.charts import svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handlers.operate.pack.report import Section
    from schemas.pack import Pack

_HERE: Final = files("handlers.operate.pack")


def page(pack: Pack, sections: Sequence[Section]) -> bytes:
    """Return the report as HTML."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # The last thing that happens to each text of others before it is escaped.
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.filters["breakable"] = _breakable
    style = (_HERE / "page.css").read_text("utf-8")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    text = environment.from_string((_HERE / "page.html").read_text("utf-8")).render(
        pack=pack,
        sections=sections,
        charts={each.chart.id: Markup(svg(each.chart)) for each in sections if each.chart},  # noqa: S704 - our own drawing
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=digest,
        words=words,
    )
    return text.encode()


def _breakable(path: str) -> Markup:
    """Return a path that a browser may break after its separators."""
    return Markup(re.sub("(::|[_/])", r"\1<wbr>", str(escape(clean(path)))))  # noqa: S704 - it is escaped
