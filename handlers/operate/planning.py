"""What every command that changes something does before it does: say what would be done, and ask whether it may."""

import sys

from handlers.core.redrive import Plan
from handlers.operate.screens import as_line, talk, tell_plan, told_plan


def tell(plan: Plan, what: str, seconds: float | None = None, *, machine: bool) -> None:
    """Print a plan; machines get it together with what came of it."""
    if not machine:
        tell_plan(plan, what, seconds)


def may(plan: Plan, reason: str | None, *, machine: bool) -> bool:
    """Tell whether a plan is to be carried out; say so where it is not, and exit where that leaves letters."""
    if plan.chosen and reason:
        return True
    if machine:
        as_line(told_plan(plan) | {"done": False})
    talk.print("nothing to do" if not plan.chosen else 'Nothing was done; say --confirm --reason "…" to do it')
    if reason and plan.left_out:
        sys.exit(1)
    return False


def end(plan: Plan, act_id: str, results: dict[str, int], text: str, *, machine: bool) -> None:
    """Print what came of it."""
    if machine:
        as_line(told_plan(plan) | {"done": True, "act": act_id, "results": results})
    talk.print(text)
