"""Which accounts the worker attaches policies to, and which it only observes."""

import re
from dataclasses import dataclass
from typing import Self

from schemas.ids import ATTACH_TO, AccountId


@dataclass(frozen=True)
class Scope:
    """The accounts that policies are attached to; every other account is only observed."""

    #: None stands for every account.
    accounts: frozenset[AccountId] | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `all`, `none`, or account ids with commas between them; raise ValueError for anything else."""
        if not re.fullmatch(ATTACH_TO, text):
            raise ValueError(f"{text!r} is not all, none, or account ids of 12 digits with commas between them")
        return cls(None if text == "all" else frozenset(text.split(",")) - {"none"})

    def attaches_to(self, account_id: AccountId) -> bool:
        """Return whether the worker attaches policies to an account."""
        return self.accounts is None or account_id in self.accounts
