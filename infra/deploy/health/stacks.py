"""What each state of a stack means, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from infra.deploy.health.check import Check

if TYPE_CHECKING:
    from infra.deploy.health.check import State
    from infra.deploy.health.deployed import Deployed

_READ_EVENTS: Final = (
    "find the first FAILED event (aws cloudformation describe-stack-events --stack-name {stack} --region {region})"
)
_DEPLOY: Final = "run `make deploy STAGE={stage}`"
_WAIT: Final = "wait until CloudFormation has finished, then run `make status STAGE={stage}` again"
_DELETE: Final = "delete it (aws cloudformation delete-stack --stack-name {stack} --region {region})"
_CONTINUE: Final = (
    f"{_READ_EVENTS}, then run aws cloudformation continue-update-rollback --stack-name {{stack}} --region {{region}}"
)

#: State, meaning, next step.
STATES: Final[dict[str, tuple[State, str, str]]] = {
    "CREATE_COMPLETE": ("ok", "", ""),
    "UPDATE_COMPLETE": ("ok", "", ""),
    "IMPORT_COMPLETE": ("ok", "", ""),
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": ("ok", "updated; old resources are being deleted", ""),
    "REVIEW_IN_PROGRESS": ("wrong", "a first deployment was planned and never executed", _DEPLOY),
    "CREATE_IN_PROGRESS": ("wrong", "it is being created", _WAIT),
    "UPDATE_IN_PROGRESS": ("wrong", "it is being updated", _WAIT),
    "IMPORT_IN_PROGRESS": ("wrong", "resources are being imported", _WAIT),
    "DELETE_IN_PROGRESS": ("wrong", "it is being deleted", _WAIT),
    "CREATE_FAILED": ("wrong", "the creation failed", f"{_READ_EVENTS}, {_DELETE}, and deploy again"),
    "ROLLBACK_IN_PROGRESS": ("wrong", "the creation failed and is being undone", _WAIT),
    "ROLLBACK_COMPLETE": (
        "wrong",
        "the creation failed and was undone; such a stack accepts no update",
        f"{_READ_EVENTS}, {_DELETE}, and deploy again",
    ),
    "ROLLBACK_FAILED": (
        "wrong",
        "the creation failed and could not be undone completely",
        f"{_READ_EVENTS}, {_DELETE}, and deploy again",
    ),
    "UPDATE_FAILED": ("wrong", "the update failed half-way", f"{_READ_EVENTS}, then {_DEPLOY}"),
    "UPDATE_ROLLBACK_IN_PROGRESS": ("wrong", "the update failed and is being undone", _WAIT),
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": ("wrong", "the update failed and is being undone", _WAIT),
    "UPDATE_ROLLBACK_COMPLETE": (
        "wrong",
        "the last update failed and was undone; the version before it is deployed",
        f"{_READ_EVENTS}, then {_DEPLOY}",
    ),
    "UPDATE_ROLLBACK_FAILED": (
        "wrong",
        "the last update failed and could not be undone",
        _CONTINUE,
    ),
    "IMPORT_ROLLBACK_IN_PROGRESS": ("wrong", "the import failed and is being undone", _WAIT),
    "IMPORT_ROLLBACK_COMPLETE": ("wrong", "the last import failed and was undone", f"{_READ_EVENTS}, then {_DEPLOY}"),
    "IMPORT_ROLLBACK_FAILED": (
        "wrong",
        "the last import failed and could not be undone",
        _CONTINUE,
    ),
    "DELETE_FAILED": ("wrong", "the deletion failed", f"{_READ_EVENTS}, then {_DELETE}"),
    "DELETE_COMPLETE": ("wrong", "it was deleted", _DEPLOY),
}
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
    state, meaning, step = STATES.get(stack.status, ("unknown", "the state is not known", "read it in CloudFormation"))
    found = ": ".join(filter(None, [stack.status, meaning]))
    if stack.reason and state != "ok":
        found += f" ({stack.reason})"
    return Check(what, found, state, step.format(stack=stack.name, region=stack.region, stage=stage))


def is_whole(stack: Deployed) -> bool:
    """Whether every resource of the template should exist in the stack's state."""
    return stack.status in _WHOLE


def resources(stack: Deployed) -> Check:
    """Count the resources of a stack that is not complete."""
    declared = stack.declared()
    existing = [name for name in declared if name in stack.ids]
    found = f"{len(existing)} of {len(declared)} exist; the others are not checked"
    return Check("resources", found, "wrong", "see the stack's next step")
