"""Which policies the accounts of a recorded organization carry."""

from handlers.core.guardrails.examples import AWS_MANAGED
from handlers.core.guardrails.places import AttachedPolicy
from schemas.ids import AccountId
from schemas.snapshot import Snapshot


class Attached:
    """Which policies accounts carry, as far as the snapshot knows."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Take a recorded organization."""
        self._full = {each.id: each.attached for each in snapshot.accounts if each.attached is not None}
        self.targets = {each.id: each.targets for each in snapshot.policies if each.targets is not None}
        in_part = {each.type for each in snapshot.policies if each.targets is None}
        self.types_in_full = frozenset(snapshot.read_types) - in_part
        self._by_account: dict[str, list[AttachedPolicy]] = {}
        for policy in snapshot.policies:
            attached = AttachedPolicy(policy.id, policy.type)
            for target in policy.targets or ():
                self._by_account.setdefault(target, []).append(attached)
        # AWS's own policies, where it is not known which of them are attached.
        known = {each.type for each in snapshot.policies if each.aws_managed and each.targets is not None}
        self._assumed = tuple(
            AttachedPolicy(f"p-{kind}{number}", kind)
            for kind, count in AWS_MANAGED.items()
            if kind not in self.types_in_full | known
            for number in range(count)
        )

    def to(self, account_id: AccountId) -> tuple[AttachedPolicy, ...]:
        """Return the policies that an account carries."""
        if account_id in self._full:
            full = self._full[account_id] or {}
            return tuple(AttachedPolicy(each, kind) for kind, policies in full.items() for each in policies)
        return (*self._by_account.get(account_id, ()), *self._assumed)
