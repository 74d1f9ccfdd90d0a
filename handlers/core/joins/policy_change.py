"""A policy of the guardrails was changed or deleted, or a policy type in use was switched off.

This is one fault of the organization and not one for each account, so nothing is done for any account. The message
waits in the dead letters until a person has decided whether the change was meant.
"""

from dataclasses import dataclass
from typing import Final

from handlers.core.errors import fault
from handlers.core.joins.ports import Settlement
from handlers.core.joins.run import Run
from schemas.events import PolicyChange
from schemas.outcome import OutcomeStatus

_DONE: Final = {
    "DeletePolicy": "was deleted",
    "DisablePolicyType": "was switched off",
    "UpdatePolicy": "was changed",
}


@dataclass
class PolicyChangeRun(Run):
    """Report a change of the guardrails, and ignore one of anything else."""

    event: PolicyChange

    def _handle(self) -> Settlement:
        event, guardrails = self.event, self.requirements.guardrails
        if event.policy_id:
            what, is_ours = f"policy {event.policy_id}", event.policy_id in guardrails.policy_ids
        else:
            what, is_ours = f"policy type {event.policy_type}", event.policy_type in guardrails.policy_types
        if not is_ours:
            why = f"the {what} is not in the guardrails"
            return Settlement(OutcomeStatus.IGNORED, fault=fault("NOT_GUARDED", why))
        called = self._called()
        by = f"by {called.principal.value}" if called and called.principal else "and the event does not say by whom"
        why = f"the {what}, which the guardrails need, {_DONE[event.event_name]} {by}"
        return Settlement(OutcomeStatus.FAILED, fault=fault("GUARDRAILS_CHANGED", why))
