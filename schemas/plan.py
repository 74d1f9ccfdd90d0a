"""What deploying guardrails would do, as its digest covers it: the approval of a plan is that of these bytes.

The worker that removes policies imports this module, so pydantic builds the validators only when they are first used.
"""

from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Literal

from pydantic import BaseModel, ConfigDict

from schemas.ids import AccountId, OrganizationId, PolicyId, Sha256
from schemas.values import canonical_json


class ApprovedPlan(BaseModel):
    """The changes of a plan. It lies in the artifacts bucket under its SHA-256, which is the plan's digest."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    schema_version: Literal["joinguard/plan/1"] = "joinguard/plan/1"
    organization_id: OrganizationId
    #: SHA-256 of the compiled guardrails that the plan would put in force.
    guardrails: Sha256
    #: SHA-256 of the attachments, in the form of `remove`: they need no approval, so the worker does not read them.
    attach: Sha256
    #: The accounts that lose each policy, in order.
    remove: dict[PolicyId, tuple[AccountId, ...]]

    @classmethod
    def of(
        cls,
        organization_id: OrganizationId,
        guardrails: Sha256,
        attach: Mapping[PolicyId, Collection[AccountId]],
        remove: Mapping[PolicyId, Collection[AccountId]],
    ) -> "ApprovedPlan":
        """Return the changes that a plan makes of policies, by policy."""
        attached = canonical_json({each: sorted(accounts) for each, accounts in attach.items() if accounts})
        return cls(
            organization_id=organization_id,
            guardrails=guardrails,
            attach=sha256(attached).hexdigest(),
            remove={each: tuple(sorted(accounts)) for each, accounts in remove.items() if accounts},
        )

    def names(self, policy_id: PolicyId, account_id: AccountId, guardrails: Sha256) -> bool:
        """Return whether the plan removes a policy from an account, and was made of these guardrails."""
        return self.guardrails == guardrails and account_id in self.remove.get(policy_id, ())

    def canonical(self) -> bytes:
        """Return the canonical JSON, with every field."""
        return canonical_json(self.model_dump(mode="json"))

    def sha256(self) -> Sha256:
        """Return the SHA-256 of the canonical JSON."""
        return sha256(self.canonical()).hexdigest()
