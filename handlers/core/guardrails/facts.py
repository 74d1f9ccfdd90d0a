"""What is known about an account."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TypeAlias, TypeVar

from schemas.compiled_guardrails import JoinMethod
from schemas.events import Change
from schemas.ids import AccountId, OuId

T = TypeVar("T")


class Unknown(Enum):
    """A fact that is not known. To the evaluator both are the same; to its caller, one of them is worth a call."""

    NOT_READ = "not read"
    UNREADABLE = "unreadable"


Known: TypeAlias = T | Unknown


class Fact(StrEnum):
    """A fact that may have to be read: a field of Facts."""

    NAME = "name"
    EMAIL = "email"
    JOINED = "joined"
    OUS = "ous"
    TAGS = "tags"


@dataclass(frozen=True)
class Facts:
    """The facts of an account."""

    account_id: AccountId
    name: Known[str] = Unknown.NOT_READ
    email: Known[str] = Unknown.NOT_READ
    joined: Known[JoinMethod] = Unknown.NOT_READ
    #: The root's id, then the OUs down to the one that the account is in.
    ous: Known[tuple[OuId, ...]] = Unknown.NOT_READ
    #: Empty if the account has none.
    tags: Known[Mapping[str, str]] = Unknown.NOT_READ

    def contradict(self, change: Change) -> bool:
        """Return whether facts that were read do not show a change: they are stale, or were changed again since."""
        moved = bool(change.parent_id and isinstance(self.ous, tuple) and change.parent_id not in self.ous[-1:])
        tags = None if isinstance(self.tags, Unknown) else self.tags
        return moved or (tags is not None and any(tags.get(key) != value for key, value in change.tags.items()))
