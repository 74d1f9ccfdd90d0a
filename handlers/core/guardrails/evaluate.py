"""Which policies an account must carry, and which of them it lacks. Used by worker and operators' tool."""

from collections.abc import Collection
from dataclasses import dataclass, field

from handlers.core.guardrails.scope import Scope
from schemas.ids import AccountId, OrganizationId, PolicyId


@dataclass(frozen=True)
class Guardrails:
    """One rule for every account: the same list of policies."""

    #: In order of attachment.
    policy_ids: tuple[PolicyId, ...]

    def required_policies(self, account_id: AccountId) -> tuple[PolicyId, ...]:  # noqa: ARG002 - one rule for everyone
        """Return the policies that an account must carry, in order of attachment."""
        return self.policy_ids

    def missing_policies(self, account_id: AccountId, attached: Collection[PolicyId]) -> tuple[PolicyId, ...]:
        """Return the required policies that are not attached, in order of attachment."""
        return tuple(each for each in self.required_policies(account_id) if each not in attached)


@dataclass(frozen=True)
class Requirements:
    """What must be true of the accounts of an organization."""

    guardrails: Guardrails
    organization_id: OrganizationId
    #: The account that SCPs do not affect.
    management_account_id: AccountId
    scope: Scope = field(default_factory=Scope)
