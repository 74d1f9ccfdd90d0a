"""Whatever points at the runbook points at a section that is there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from infra.deploy.build import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNBOOK = "handlers/operate/RUNBOOK.md"
#: Alarms, `make status`, the tool's messages, and the documents.
POINTING = [
    ROOT / "Makefile",
    *(path for folder in ("handlers", "infra", "schemas") for path in (ROOT / folder).rglob("*.py")),
    *(ROOT / "infra").glob("*.yaml"),
    *(path for path in ROOT.glob("*.md")),
]


def anchors() -> set[str]:
    """Return the anchors that GitHub gives the runbook's headings."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / RUNBOOK).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def pointers() -> Iterator[tuple[str, str, str]]:
    """Yield each mention: the file that it is in, the path, the anchor."""
    for path in POINTING:
        for where, anchor in re.findall(r"([\w/.:-]*RUNBOOK\.md|\${RunbookUrl})(?:#([\w-]+))?", path.read_text()):
            yield path.relative_to(ROOT).as_posix(), where.replace("${RunbookUrl}", RUNBOOK), anchor


@pytest.mark.parametrize("file", sorted({file for file, _, _ in pointers()}))
def test_each_link_leads_to_a_section_of_the_runbook(file: str) -> None:
    for source, where, anchor in pointers():
        if source == file:
            assert where.endswith(RUNBOOK)
            assert not anchor or anchor in anchors(), f"{file} points at #{anchor}"


def test_alarms_status_and_messages_do_point_at_it() -> None:
    pointing = {(file, anchor) for file, _, anchor in pointers()}

    assert {
        ("infra/template.yaml", "dead-letters"),
        ("infra/template.yaml", "rows-replaced"),
        ("infra/deploy/health.py", "dead-letters"),
        ("infra/deploy/health.py", "undelivered"),
    } <= pointing
    assert [file for file, anchor in pointing if file.startswith("handlers/") and anchor]
