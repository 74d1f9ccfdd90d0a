"""What each state of a stack means, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from infra.deploy.health.check import Check
from infra.deploy.stack import EVENTS, MEANINGS

if TYPE_CHECKING:
    from infra.deploy.health.deployed import Deployed

_OK: Final = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"})
#: States in which every resource of the template should exist.
_WHOLE: Final = frozenset(
    {
        "CREATE_COMPLETE",
        "UPDATE_COMPLETE",
        "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE",
        "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_ROLLBACK_IN_PROGRESS",
        "IMPORT_COMPLETE",
        "IMPORT_ROLLBACK_COMPLETE",
    }
)


def state_of(stack: Deployed, stage: str, what: str) -> Check:
    """Return what a stack's state means."""
    if stack.status in _OK:
        return Check(what, stack.status, "ok")
    why = f" ({stack.reason})" if stack.reason else ""
    meaning = MEANINGS.get(stack.status)
    if meaning is None:
        return Check(what, f"{stack.status}: the state is not known{why}", "unknown", "read it in CloudFormation")
    command = "forwarder" if what == "forwarder" else "deploy"
    again = f"run `make {command} STAGE={stage}`"
    if "ROLLBACK" in stack.status:
        again = f"find the first FAILED event ({EVENTS}) and remove the cause; then {again}"
    # Every command names the stack; the forwarder's stack is in another Region.
    step = (meaning.next_step or again).replace("{stack}", f"{stack.name} --region {stack.region}")
    return Check(what, f"{stack.status}: {meaning.words}{why}", "wrong", step)


def is_whole(stack: Deployed) -> bool:
    """Whether every resource of the template should exist in the stack's state."""
    return stack.status in _WHOLE


def resources(stack: Deployed) -> Check:
    """Count the resources of a stack that is not complete."""
    declared = stack.declared()
    existing = [name for name in declared if name in stack.ids]
    found = f"{len(existing)} of {len(declared)} exist; the others are not checked"
    return Check("resources", found, "wrong", "see the stack's next step")
