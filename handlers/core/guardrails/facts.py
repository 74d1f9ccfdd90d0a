"""What is known about an account."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TypeAlias, TypeVar

from schemas.compiled_guardrails import JoinMethod
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
