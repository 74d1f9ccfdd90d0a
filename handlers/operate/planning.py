"""What every command that changes something does before it does: say what would be done, and ask whether it may."""

import sys

from handlers.core.redrive.selection import Plan
from handlers.operate.screens import say_unknown, tell_plan, told_plan
from handlers.operate.terminal import as_line, talk


def tell(plan: Plan, what: str, *, machine: bool) -> None:
    """Print a plan, and what could not be found out; machines get it together with what came of it."""
    if not machine:
        tell_plan(plan, what)
    say_unknown(plan.unknown)


def may(plan: Plan, reason: str | None, *, machine: bool) -> bool:
    """Tell whether a plan is to be carried out; say so where it is not.

    Exits with 1 where it was to be carried out and something is left.
    """
    if plan.chosen and reason:
        return True
    if machine:
        as_line(told_plan(plan) | {"done": False})
    talk.print("nothing to do" if not plan.chosen else 'Nothing was done; say --confirm --reason "…" to do it')
    if reason and plan.leaves:
        sys.exit(1)
    return False


def end(plan: Plan, act_id: str, results: dict[str, int], text: str, *, machine: bool) -> None:
    """Print what came of it."""
    if machine:
        as_line(told_plan(plan) | {"done": True, "act": act_id, "results": results})
    talk.print(text)
