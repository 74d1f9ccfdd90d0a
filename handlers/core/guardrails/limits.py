"""How much may change in an organization at once before a person has to look."""

from typing import Final

#: So many accounts are few in any organization.
FEW: Final = 5
SHARE: Final = 0.05


def at_once(members: int) -> int:
    """Return how many accounts may lose policies, or leave, at once: 5 % of the members, and 5 in any case."""
    return max(FEW, int(SHARE * members))
