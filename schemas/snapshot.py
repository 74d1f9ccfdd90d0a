"""A recorded organization: everything that a plan needs, so that plans can be made without credentials.

What is None could not be read, or was not read; it is never the same as empty. `unread` says why. The file holds names,
e-mail addresses and account ids, so it is as confidential as the organization's own console.
"""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from schemas.compiled_guardrails import JoinMethod, PolicyType
from schemas.ids import AccountId, OrganizationId, OuId, PolicyId, Sha256
from schemas.values import Moment


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SnapshotOu(_Recorded):
    """An organizational unit."""

    id: OuId
    #: The root or OU that it is in.
    parent: OuId
    name: str


class SnapshotPolicy(_Recorded):
    """A policy of the organization."""

    id: PolicyId
    name: str
    type: PolicyType
    aws_managed: bool = False
    #: SHA-256 of its content: of the UTF-8 text that DescribePolicy returns, byte for byte.
    sha256: Sha256 | None = None
    #: The ids of the accounts, OUs and roots that it is attached to, in order.
    targets: tuple[str, ...] | None = None


class SnapshotAccount(_Recorded):
    """An account of the organization."""

    id: AccountId
    name: str | None = None
    email: str | None = None
    #: AWS's `State`, or `Status` where its answer had no `State`.
    state: str
    joined: JoinMethod | None = None
    #: When it joined the organization; earlier versions did not record it.
    joined_at: Moment | None = None
    #: The root's id, then the OUs down to the one that the account is in.
    ous: tuple[OuId, ...] | None = None
    tags: dict[str, str] | None = None
    #: Every policy that is attached to the account itself, AWS's own included, of the types that were read.
    attached: dict[PolicyType, tuple[PolicyId, ...]] | None = None


class Unread(_Recorded):
    """A part of the organization that could not be read."""

    part: Literal["tags", "ous", "content", "targets", "attached"]
    #: The policy, for a content or targets.
    policy: PolicyId | None = None
    #: AWS's code.
    code: str


class Snapshot(_Recorded):
    """An organization as it was while it was read, which takes minutes."""

    schema_version: Literal["joinguard/snapshot/1"] = "joinguard/snapshot/1"
    organization_id: OrganizationId
    management_account_id: AccountId
    begun_at: datetime
    done_at: datetime
    root: OuId
    #: The policy types that are enabled in the root.
    enabled_types: tuple[PolicyType, ...]
    #: The policy types whose policies are listed.
    read_types: tuple[PolicyType, ...]
    ous: tuple[SnapshotOu, ...]
    policies: tuple[SnapshotPolicy, ...]
    accounts: tuple[SnapshotAccount, ...]
    unread: tuple[Unread, ...] = ()

    @model_validator(mode="after")
    def _is_a_tree(self) -> Self:
        """Refuse OUs without the one that they are in, and accounts that are listed twice."""
        known = {self.root}
        for each in self.ous:
            if each.parent not in known:
                raise ValueError(f"the OU {each.id} comes before the one that it is in")
            known.add(each.id)
        if len({each.id for each in self.accounts}) != len(self.accounts):
            raise ValueError("an account is listed twice")
        return self
