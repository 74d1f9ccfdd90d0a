"""Check the sweep: its schedule, and what the last complete sweep found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from infra.deploy.health.check import Check, compared
from infra.deploy.health.difference import property_differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.deploy.health.deployed import Deployed

_SCHEDULE: Final = ("ScheduleExpression", "FlexibleTimeWindow")
_TARGET: Final = ("Arn", "RoleArn", "Input", "RetryPolicy")


def schedule(scheduler: Any, stack: Deployed, name: str, what: str = "sweep's schedule") -> Iterator[Check]:
    """Check that a schedule is enabled and as declared."""
    declared, actual = stack.properties(name), scheduler.get_schedule(Name=stack.short_id(name))
    differences = [*property_differences(declared, actual, _SCHEDULE)]
    differences += property_differences(declared["Target"], actual.get("Target", {}), _TARGET)
    if actual["State"] != "ENABLED":
        differences.insert(0, actual["State"])
    yield compared(what, f"{actual['State']}, {declared['ScheduleExpression']}", differences)
