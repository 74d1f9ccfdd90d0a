"""The files of a pack, one after the other, so that not all of them are in memory at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.operate.pack import words
from handlers.operate.pack.page import page
from handlers.operate.pack.paper import paper
from handlers.operate.pack.proof_files import proof_files
from handlers.operate.pack.sections import sections
from handlers.operate.pack.sheets import csv_files, sheets, workbook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from handlers.core.evidence.pack.sealed import Proofs
    from schemas.pack import Pack


def files(pack: Pack, proofs: Proofs | None, show: Callable[[str], None]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each file but the manifest; `show` is told which one is being made."""
    said = sections(pack)
    show("report.html")
    yield "report.html", page(pack, said)
    show("report.pdf")
    yield "report.pdf", paper(pack, said)
    show("report.xlsx")
    data = list(sheets(pack))
    yield "report.xlsx", workbook(data, pack.made_at, f"Evidence pack, {words.period(pack.period)}")
    show("csv")
    for name, content in csv_files(data):
        yield f"csv/{name}", content
    show("pack.json")
    yield "pack.json", pack.model_dump_json(exclude_none=True).encode() + b"\n"
    if proofs:
        show("proofs")
        yield from proof_files(proofs)
