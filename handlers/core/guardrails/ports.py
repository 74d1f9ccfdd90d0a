"""What reading a whole organization needs from outside, as a protocol.

Each method raises JoinguardError if it cannot read everything: part of an answer is never returned as the whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from schemas.compiled_guardrails import JoinMethod, PolicyType
from schemas.ids import AccountId, OrganizationId, OuId, PolicyId

if TYPE_CHECKING:
    # The workers would start later with it.
    from handlers.core.guardrails.pauses import KnownPauses


@dataclass(frozen=True)
class Identity:
    """Which organization it is."""

    organization_id: OrganizationId
    management_account_id: AccountId


@dataclass(frozen=True)
class ReadRoot:
    """The organization's root."""

    id: OuId
    #: The policy types that are enabled.
    policy_types: frozenset[PolicyType]


@dataclass(frozen=True)
class ReadOu:
    """An organizational unit."""

    id: OuId
    #: The root or OU that it is in.
    parent: OuId
    name: str


@dataclass(frozen=True)
class ReadPolicy:
    """A policy, without its content."""

    id: PolicyId
    name: str
    type: PolicyType
    aws_managed: bool = False


@dataclass(frozen=True, slots=True)
class ReadAccount:
    """An account of the organization; None is what AWS's answer did not have."""

    id: AccountId
    name: str | None
    email: str | None
    #: AWS's `State`, or `Status` where there is no `State`.
    state: str
    joined: JoinMethod | None = None
    #: The root's id, then the OUs down to the one that the account is in.
    ous: tuple[OuId, ...] | None = None
    #: When it joined the organization.
    joined_at: datetime | None = None


@dataclass(frozen=True)
class Listed:
    """What has been read of a listing."""

    #: JSON values.
    items: Sequence[Any] = ()
    #: What AWS needs to continue. None at the beginning and at the end.
    token: str | None = None
    is_complete: bool = False


class Journal(Protocol):
    """Remembers what was read, so that a later process does not read it again."""

    def listed(self, listing: str) -> Listed:
        """Return what has been read of a listing."""

    def add(self, listing: str, items: Sequence[Any], token: str | None) -> None:
        """Remember the next page of a listing; without a token it was the last one."""


class OrganizationReader(Protocol):
    """AWS Organizations, read in bulk at the rates that AWS documents."""

    def identity(self) -> Identity:
        """Return which organization it is."""

    def root(self) -> ReadRoot:
        """Return the root."""

    def ous(self, root: OuId) -> Iterable[ReadOu]:
        """Yield every OU, each after the one that it is in."""

    def policies(self, policy_type: PolicyType) -> Iterable[ReadPolicy]:
        """Yield the policies of a type."""

    def content(self, policy_id: PolicyId) -> str:
        """Return a policy's content as DescribePolicy returns it."""

    def targets(self, policy_id: PolicyId) -> Iterable[str]:
        """Yield the ids of the accounts, OUs and roots that a policy is attached to."""

    def accounts(self) -> Iterable[ReadAccount]:
        """Yield every account, the management account included."""

    def accounts_in(self, parent: OuId) -> Iterable[AccountId]:
        """Yield the accounts in a root or OU, without those below it."""

    def tagged(self) -> Iterable[tuple[AccountId, Mapping[str, str]]]:
        """Yield every account that has tags, with them, in bulk; only for the management account's credentials."""

    def tags_of(self, account_id: AccountId) -> Mapping[str, str]:
        """Return the tags of one account."""

    def attached(self, account_id: AccountId, policy_type: PolicyType) -> Iterable[PolicyId]:
        """Yield the policies of a type that are attached to the account itself."""


@dataclass(frozen=True)
class Finding:
    """What IAM Access Analyzer says about a policy."""

    #: ERROR, SECURITY_WARNING or WARNING.
    severity: str
    code: str
    message: str


class PolicyValidator(Protocol):
    """IAM Access Analyzer."""

    def findings(self, kind: PolicyType, content: str) -> tuple[Finding, ...]:
        """Return what is wrong with a policy; raise JoinguardError if it is not known."""


class Pauses(Protocol):
    """The pauses, as they are read."""

    def read(self) -> "KnownPauses":
        """Return all pauses; raise RetryableError if they cannot be read."""
