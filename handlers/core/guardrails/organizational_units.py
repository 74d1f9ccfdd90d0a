"""Where attaching a policy to an OU would do the same as attaching it to each of its accounts."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from schemas.compiled_guardrails import SCP, PolicyType
from schemas.ids import AccountId, OuId
from schemas.snapshot import SnapshotAccount

#: The policy types that do not affect the management account, so that the root can carry them for all others.
_SPARE_MANAGEMENT: Final[frozenset[PolicyType]] = frozenset({SCP, "RESOURCE_CONTROL_POLICY"})


class Hint(NamedTuple):
    """An OU or the root, all of whose accounts must carry a policy."""

    ou: OuId
    #: How many accounts are in it and below it.
    accounts: int


class Units:
    """Which accounts are below which OUs."""

    def __init__(self, accounts: Iterable[SnapshotAccount]) -> None:
        """Take the accounts that are evaluated."""
        self._ous: dict[AccountId, tuple[OuId, ...]] = {}
        self._all = True
        for each in accounts:
            self._ous[each.id] = each.ous or ()
            self._all = self._all and each.ous is not None
        self._below = Counter(ou for ous in self._ous.values() for ou in ous)
        self._above = {ou: ous[:level] for ous in set(self._ous.values()) for level, ou in enumerate(ous)}

    def is_below(self, account_id: AccountId, targets: Collection[str]) -> bool:
        """Return whether an account inherits from one of the targets."""
        return bool(targets) and any(ou in targets for ou in self._ous[account_id])

    def hints(self, required: Iterable[AccountId], targets: Collection[str], kind: PolicyType) -> tuple[Hint, ...]:
        """Return the outermost OUs with two or more accounts, all of which must carry a policy.

        OUs that inherit it already are left out. Without every account's OUs, there are none.
        """
        if not self._all:
            return ()
        needed = Counter(ou for account in required for ou in self._ous[account])
        full = {
            ou
            for ou, accounts in needed.items()
            if accounts == self._below[ou] > 1 and (self._above[ou] or kind in _SPARE_MANAGEMENT)
        }
        outermost = (
            ou for ou in full if full.isdisjoint(self._above[ou]) and not {ou, *self._above[ou]}.intersection(targets)
        )
        return tuple(Hint(ou, needed[ou]) for ou in sorted(outermost))
