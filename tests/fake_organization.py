"""A whole organization in memory, which answers as the adapter that reads in bulk does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from handlers.core.errors import AccountNotFoundError, PermanentError, RetryableError, fault
from handlers.core.guardrails.places import AttachedPolicy
from handlers.core.guardrails.ports import Identity, ReadAccount, ReadOu, ReadPolicy, ReadRoot
from handlers.core.redrive.ports import Account
from schemas.compiled_guardrails import SCP, JoinMethod, PolicyType
from tests.fakes import MANAGEMENT, ORGANIZATION

if TYPE_CHECKING:
    from handlers.core.guardrails.facts import Facts
    from schemas.ids import AccountId, OuId, PolicyId

ROOT_OU = "r-root"
FULL_ACCESS = "p-FullAWSAccess"


@dataclass(repr=False)
class FakeOrganizationReader:
    """Everything can be changed between two readings."""

    ou_names: dict[OuId, tuple[OuId, str]] = field(default_factory=dict)
    named: dict[PolicyId, ReadPolicy] = field(default_factory=dict)
    contents: dict[PolicyId, str] = field(default_factory=dict)
    #: The targets of each policy.
    attachments: dict[PolicyId, set[str]] = field(default_factory=dict)
    members: dict[AccountId, ReadAccount] = field(default_factory=dict)
    tags: dict[AccountId, Mapping[str, str]] = field(default_factory=dict)
    enabled: set[PolicyType] = field(default_factory=lambda: {SCP})
    #: The accounts that a second page of ListAccounts repeats.
    repeated: list[AccountId] = field(default_factory=list)
    #: Accounts that leave after they were listed.
    leaving: set[AccountId] = field(default_factory=set)
    #: Whether ListAccounts answers with `Paths`.
    has_paths: bool = True
    #: The methods that fail, with AWS's code.
    refused: dict[str, str] = field(default_factory=dict)
    #: The methods whose retries are used up.
    unavailable: Collection[str] = ()
    calls: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.named[FULL_ACCESS] = ReadPolicy(FULL_ACCESS, "FullAWSAccess", SCP, aws_managed=True)
        self.contents[FULL_ACCESS] = "{}"
        self.member(MANAGEMENT, name="management")

    def ou(self, id_: OuId, name: str, parent: OuId = ROOT_OU) -> OuId:
        self.ou_names[id_] = (parent, name)
        return id_

    def policy(self, id_: PolicyId, name: str, kind: PolicyType = SCP, content: str = "{}") -> PolicyId:
        self.named[id_] = ReadPolicy(id_, name, kind)
        self.contents[id_] = content
        return id_

    def member(  # noqa: PLR0913 - the facts of an account
        self,
        id_: AccountId,
        ou: OuId = ROOT_OU,
        *,
        name: str = "a name",
        email: str = "root@example.com",
        state: str = "ACTIVE",
        joined: JoinMethod = "CREATED",
        tags: Mapping[str, str] | None = None,
    ) -> AccountId:
        path = [ou]
        while path[0] != ROOT_OU:
            path.insert(0, self.ou_names[path[0]][0])
        self.members[id_] = ReadAccount(id_, name, email, state, joined, tuple(path))
        self.attach(FULL_ACCESS, id_)
        if tags:
            self.tags[id_] = tags
        return id_

    def attach(self, policy_id: PolicyId, *targets: str) -> None:
        self.attachments.setdefault(policy_id, set()).update(targets)

    def _call(self, name: str) -> None:
        self.calls[name] += 1
        if name in self.refused:
            raise PermanentError(fault(self.refused[name], "not allowed"))
        if name in self.unavailable:
            raise RetryableError(fault("TooManyRequestsException", "slow down"))

    # The port.

    def identity(self) -> Identity:
        self._call("identity")
        return Identity(ORGANIZATION, MANAGEMENT)

    def root(self) -> ReadRoot:
        self._call("root")
        return ReadRoot(ROOT_OU, frozenset(self.enabled))

    def ous(self, root: OuId) -> Iterator[ReadOu]:
        self._call("ous")
        parents = [root]
        for above in parents:
            for id_, (parent, name) in self.ou_names.items():
                if parent == above:
                    parents.append(id_)
                    yield ReadOu(id_, parent, name)

    def policies(self, policy_type: PolicyType) -> Iterator[ReadPolicy]:
        self._call("policies")
        yield from (each for each in self.named.values() if each.type == policy_type)

    def content(self, policy_id: PolicyId) -> str:
        self._call("content")
        return self.contents[policy_id]

    def targets(self, policy_id: PolicyId) -> Iterator[str]:
        self._call("targets")
        yield from sorted(self.attachments.get(policy_id, ()))

    def accounts(self) -> Iterator[ReadAccount]:
        self._call("accounts")
        for each in (*self.members.values(), *(self.members[again] for again in self.repeated)):
            yield each if self.has_paths else replace(each, ous=None)

    def accounts_in(self, parent: OuId) -> Iterator[AccountId]:
        self._call("accounts_in")
        yield from (each.id for each in self.members.values() if each.ous and each.ous[-1] == parent)

    def tagged(self) -> Iterator[tuple[AccountId, Mapping[str, str]]]:
        self._call("tagged")
        yield from self.tags.items()

    def tags_of(self, account_id: AccountId) -> Mapping[str, str]:
        self._call("tags_of")
        return self.tags.get(account_id, {})

    def attached(self, account_id: AccountId, policy_type: PolicyType) -> Iterator[PolicyId]:
        self._call("attached")
        if account_id in self.leaving:
            raise AccountNotFoundError(fault("TargetNotFoundException", "no such target"))
        for id_, targets in self.attachments.items():
            if account_id in targets and self.named[id_].type == policy_type:
                yield id_


@dataclass(frozen=True)
class FakeAccounts:
    """The same organization, as commands ask it about one account."""

    organization: FakeOrganizationReader

    def enabled_types(self) -> frozenset[str]:
        return frozenset(self.organization.enabled)

    def policy_arn(self, policy_id: str) -> str | None:
        return f"arn:policy/{policy_id}" if policy_id in self.organization.named else None

    def account(self, account_id: AccountId) -> Account | None:
        found = self.organization.members.get(account_id)
        return Account(f"arn:account/{account_id}", found.state) if found else None

    def attached_policies(self, account_id: AccountId, types: Collection[PolicyType]) -> tuple[AttachedPolicy, ...]:
        return tuple(
            AttachedPolicy(each, kind) for kind in types for each in self.organization.attached(account_id, kind)
        )

    def described(self, facts: Facts) -> Facts:
        found = self.organization.members[facts.account_id]
        assert found.name
        assert found.email
        assert found.joined
        assert found.ous
        return replace(facts, name=found.name, email=found.email, joined=found.joined, ous=found.ous)

    def tagged(self, facts: Facts) -> Facts:
        return replace(facts, tags=self.organization.tags_of(facts.account_id))
