"""Carry out an action after confirmation, with an audit record before and after it: the same way for every command."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from handlers.core.evidence.audit import AuditedAction
from handlers.operate.context import Context
from handlers.operate.errors import OperateError
from handlers.operate.options import Approval
from handlers.operate.output import hint, print_json
from schemas.audit import Action, MessageDigest

NOTHING_TO_DO: Final = "Nothing to do"
_NOT_CONFIRMED: Final = 'Nothing was done. Add --confirm --reason "…" to carry it out'


@dataclass(frozen=True)
class Intention:
    """What a command is about to do."""

    action: Action
    #: Returns what the audit record holds of the messages.
    digests: Callable[[], Sequence[MessageDigest]]
    #: For --json.
    fields: Mapping[str, Any]
    #: Why it cannot be carried out; None if it can.
    obstacle: str | None = None
    #: Whether it covers everything that the operator asked for.
    complete: bool = True


@dataclass(frozen=True)
class Done:
    """What a command has done."""

    summary: str
    #: Whether everything that the operator asked for is done.
    complete: bool
    #: For --json.
    fields: Mapping[str, Any] = field(default_factory=dict)
    #: Why it was stopped.
    stopped: str | None = None


def carry_out(
    context: Context, intention: Intention, approval: Approval, effect: Callable[[AuditedAction], Done]
) -> int:
    """Carry an action out, with an audit record before and after it, if it is possible and approved.

    Returns the exit status; raises OperateError if the action was stopped.
    """
    if intention.obstacle or not approval.reason:
        if approval.json:
            print_json({**intention.fields, "done": False})
        hint(intention.obstacle or _NOT_CONFIRMED)
        return 1 if (intention.obstacle or approval.reason) and not intention.complete else 0
    with context.begin(intention.action, approval.reason, intention.digests()) as audited:
        done = effect(audited)
    if approval.json:
        recorded = {"done": True, "action_id": audited.action_id, "results": audited.results}
        print_json({**intention.fields, **recorded, **done.fields})
    hint(done.summary)
    if done.stopped:
        raise OperateError(done.stopped)
    return 0 if done.complete else 1
