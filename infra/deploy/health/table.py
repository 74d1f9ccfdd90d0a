"""Show the results of checks to people: what is not well first, each with its next step, at any width of terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from handlers.core.plurals import count
from handlers.operate.output import plain, stdout
from handlers.operate.tables import Cell, lines, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.deploy.health.check import Check

_RUNBOOK: Final = "handlers/operate/RUNBOOK.md"
#: Words, because colours are not everywhere: in the order in which the states are shown.
_MARKS: Final = {"wrong": "WRONG", "unknown": "UNKNOWN", "ok": "ok"}
_COLOURS: Final = {"wrong": "red", "unknown": "yellow", "ok": "green"}


def print_checks(title: str, found: Sequence[Check], *, everything: bool) -> None:
    """Print what is not well, with its next step, and what is always shown; with `everything`, all checks."""
    order = list(_MARKS)
    chosen = (each for each in found if everything or each.always_shown or not each.well)
    shown = sorted(chosen, key=lambda each: order.index(each.state))
    well = sum(each.well for each in found)
    if shown:
        print_table(title, ["state", "check, result, next step"], [_row(each) for each in shown])
    if any(_RUNBOOK in each.next_step for each in shown if not each.well):
        stdout.print(plain(f"The runbook is {_RUNBOOK}"))
    if not everything:
        stdout.print(plain(f"{count(well, 'check')} of {len(found):,} well; --all shows them"))


def _row(check: Check) -> list[Cell]:
    mark = plain(_MARKS[check.state], _COLOURS[check.state])
    if check.well:
        return [mark, plain(f"{check.what}: {check.found}")]
    # The anchor alone, so that it is not broken at the end of a line.
    step = check.next_step.replace(f"{_RUNBOOK}#", "runbook #")
    return [mark, lines(plain(check.what, "bold"), check.found, plain(f"→ {step}", "green") if step else "")]
