"""What an evidence pack is made of, as protocols and values; commands and the tests' fakes bring them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol, TypeAlias

from handlers.core.errors import JoinguardError
from handlers.core.ports import UnreadableRow
from schemas.ids import AccountId, PolicyId, Sha256
from schemas.outcome import Outcome

#: Is told what is being read, and how much of it is read.
Progress: TypeAlias = Callable[[str, int], None]


class Objects(Protocol):
    """The evidence bucket."""

    def under(self, prefix: str) -> Sequence[str]:
        """Return the keys under a prefix, in order; raise JoinguardError if they cannot be listed."""

    def read_all(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes | JoinguardError]]:
        """Yield objects in the order of their keys, each with its bytes or why it cannot be read."""


#: The outcomes table, read as a whole; iterating raises JoinguardError if it cannot be read.
Rows: TypeAlias = Iterable[Outcome | UnreadableRow]


@dataclass(frozen=True)
class KnownMember:
    """An account of the organization as Organizations lists it, and what it carries, when the pack is made."""

    account_id: AccountId
    joined_at: datetime | None
    #: Whether it is ACTIVE.
    is_active: bool
    required: tuple[PolicyId, ...]
    carried: tuple[PolicyId, ...]
    #: Whether everything that decides that could be read.
    is_clear: bool


@dataclass(frozen=True)
class OrganizationNow:
    """The accounts of the organization, without the management account."""

    members: Sequence[KnownMember]
    policy_names: Mapping[PolicyId, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KnownException:
    """An exception of compiled guardrails, and what the document says about it, if that is at hand."""

    id: str
    policies: tuple[PolicyId, ...]
    account_ids: tuple[AccountId, ...]
    starts: date | None
    expires: date
    owner: str | None = None
    approved_by: str | None = None
    reason: str | None = None


#: Returns the exceptions of the guardrails with a SHA-256; raises JoinguardError if they cannot be read.
ReadExceptions: TypeAlias = Callable[[Sha256], Sequence[KnownException]]
