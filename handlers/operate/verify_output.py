"""A verification for people, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from handlers.core.plurals import count
from handlers.operate.hints import as_typed
from handlers.operate.output import hint, print_json, stderr, stdout
from handlers.operate.tables import print_table

if TYPE_CHECKING:
    from schemas.verification import Verification

#: The number of findings that people see.
_SHOWN: Final = 50


def print_verification(found: Verification, *, as_json: bool) -> None:
    """Print the result of a verification."""
    if as_json:
        print_json(found.model_dump(mode="json", exclude_none=True))
        return
    number = sum(found.found.values())
    verdict = f"{count(number, 'finding')}" if number else "as it was sealed"
    stdout.print(Text.assemble(f"{found.origin} ", (verdict, "red" if number else "green")))
    leaves = count(found.size, "leaf").replace("leafs", "leaves")
    stdout.print(f"log      {leaves}, root {found.root}")
    until = f"{found.sealed_until:%Y-%m-%d %H:%M:%S}Z" if found.sealed_until else "never: the log is empty"
    stdout.print(f"until    {until}")
    for key in found.keys:
        stdout.print(f"key      {key}", soft_wrap=True)
    how = "listed as they were sealed" if found.is_quick else "as they were sealed"
    stdout.print(
        f"valid    {count(found.valid, 'object')} {how}, {count(found.checkpoints, 'checkpoint')}, "
        f"{count(found.tiles, 'other object')} of the log"
    )
    if found.pending:
        stdout.print(f"pending  {count(found.pending, 'object')} not sealed yet, written in the last 75 minutes")
    for part, why in found.left_out.items():
        stderr.print(f"left out: {part} ({why})", style="yellow")
    if not found.findings:
        return
    rows = [(each.kind.value, each.what, each.meaning) for each in found.findings[:_SHOWN]]
    print_table("Findings", ["kind", "object or record", "meaning"], rows)
    if number > len(rows):
        stdout.print(f"and {number - len(rows):,} more; --json prints the first {len(found.findings):,}")
    for step in dict.fromkeys(each.next_step for each in found.findings):
        hint(as_typed(f"→ {step}"))
