"""What every package of `core` needs from outside, as protocols; `handlers.aws` and the tests' fakes implement them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, Self

from schemas.ids import AccountId, Sha256
from schemas.pseudonym import Pseudonym


class Clock(Protocol):
    """Time."""

    def now(self) -> datetime:
        """Return the time in UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class Pseudonyms(Protocol):
    """Replace account ids, and texts that may hold one, by keyed digests; always in the same way under one key."""

    @property
    def key_version(self) -> str:
        """The id of the key, as in the pseudonyms."""

    @property
    def lost_keys(self) -> tuple[str, ...]:
        """The ids of the former keys that do not exist any more: nothing can be compared with what they made."""

    def under_each_key(self) -> Iterator[Self]:
        """Yield these pseudonyms, and then the same under each former key that still exists.

        New records are made with these; what was made earlier is compared with all of them.
        """

    def of(self, account_id: AccountId) -> Pseudonym:
        """Return the pseudonym of an account."""

    def digest(self, kind: str, text: str) -> Sha256:
        """Return the keyed digest of a text; the kind is part of the input."""


@dataclass(frozen=True)
class UnreadableRow:
    """A row of the outcomes table that no worker wrote: its values do not fit the contract."""

    account_id: str
    event_id: str
