"""A verification for people, and as JSON."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rich.text import Text

from handlers.core.evidence.verifying import shown_time
from handlers.core.plurals import count
from handlers.operate.hints import as_typed
from handlers.operate.output import hint, print_json, stderr, stdout
from handlers.operate.tables import print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    for name, text in _facts(found):
        stdout.print(f"{name:9}{text}", soft_wrap=True)
    for part, why in found.left_out.items():
        stderr.print(f"left out: {part} ({why})", style="yellow")
    if found.findings:
        _print_findings(found, number)


def _facts(found: Verification) -> Iterator[tuple[str, str]]:
    """Yield what was verified, and how much of it."""
    leaves = count(found.size, "leaf").replace("leafs", "leaves")
    yield "log", f"{leaves}, root {found.root}"
    yield "until", shown_time(found.sealed_until) if found.sealed_until else "never: the log is empty"
    if found.agreed is not None:
        yield "kept", f"the log agrees with what was kept elsewhere, up to leaf {found.agreed:,} of {found.size:,}"
    if found.since or found.until:
        yield "period", _period(found)
    yield from (("key", each) for each in found.keys)
    how = "listed as they were sealed" if found.is_quick else "as they were sealed"
    checkpoints, others = count(found.checkpoints, "checkpoint"), count(found.tiles, "other object")
    yield "valid", f"{count(found.valid, 'object')} {how}, {checkpoints}, {others} of the log"
    if found.pending:
        yield "pending", f"{count(found.pending, 'object')} not sealed yet, written in the last 75 minutes"


def _print_findings(found: Verification, number: int) -> None:
    rows = [(each.kind.value, each.what, each.meaning) for each in found.findings[:_SHOWN]]
    print_table("Findings", ["kind", "object or record", "meaning"], rows)
    if number > len(rows):
        stdout.print(f"and {number - len(rows):,} more; --json prints the first {len(found.findings):,}")
    for kind, step in dict.fromkeys((each.kind, each.next_step) for each in found.findings):
        hint(as_typed(f"→ {kind.value}: {step}"))


def _period(found: Verification) -> str:
    """Return the days of a verification: only objects that S3 stored then were compared."""
    first = f"from {found.since:%Y-%m-%d}" if found.since else ""
    last = f"until {found.until - timedelta(days=1):%Y-%m-%d}" if found.until else ""
    stored = "" if found.valid + found.pending + sum(found.found.values()) else "; none"
    return f"objects that S3 stored {' '.join(filter(None, (first, last)))} (UTC){stored}"
