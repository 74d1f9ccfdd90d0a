"""Read an organization into a snapshot, at as few calls as a document allows, and ask the snapshot.

What a plan cannot do without (tree, policies, accounts) raises JoinguardError if it cannot be read. Other parts stay
None if the caller may not read them, and the snapshot says why. A transient failure that lasts ends the reading: half
a snapshot would look like a whole one.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, TypeVar

from handlers.core.errors import AccountNotFoundError, PermanentError
from handlers.core.guardrails.compile import Organization, OrganizationPolicy
from handlers.core.guardrails.facts import Facts, Unknown
from handlers.core.guardrails.names import content_sha256, paths
from handlers.core.guardrails.ports import OrganizationReader, ReadAccount, ReadOu
from handlers.core.ports import Clock
from schemas.compiled_guardrails import PolicyType
from schemas.ids import AccountId, OuId, PolicyId
from schemas.snapshot import Snapshot, SnapshotAccount, SnapshotOu, SnapshotPolicy, Unread

T = TypeVar("T")

#: Is told what is being read, and how much of it is read.
Progress: TypeAlias = Callable[[str, int], None]
#: The state of accounts that policies are attached to.
ACTIVE: Final = "ACTIVE"
_UPDATE_EVERY: Final = 100


@dataclass(frozen=True)
class Wanted:
    """What has to be read."""

    types: Collection[PolicyType]
    #: The names and ids of the policies whose content and targets are read; None for all policies of the types.
    policies: Collection[str] | None = None
    #: Whether any rule depends on where an account is.
    ous: bool = True
    #: Whether the content of policies is read; AWS allows two such calls a second.
    content: bool = True

    def names(self, policy: SnapshotPolicy) -> bool:
        """Return whether the targets of a policy are read, and its content if any is."""
        return self.policies is None or not {policy.id, policy.name}.isdisjoint(self.policies)


def take_snapshot(
    reader: OrganizationReader,
    wanted: Wanted,
    clock: Clock,
    progress: Progress,
    check: Callable[[Organization], None] = lambda _organization: None,
) -> Snapshot:
    """Read an organization, without the tags of its accounts.

    `check` is called with the names as soon as they are known; what it raises ends the reading, which takes minutes.
    """
    reading = _Reading(reader, wanted, progress)
    begun_at = clock.now()
    identity, root = reader.identity(), reader.root()
    # Listings that start anew repeat what they list.
    tree = reading.counted("organizational units", reader.ous(root.id)) if wanted.ous else ()
    ous = tuple({each.id: each for each in tree}.values())
    policies = tuple(reading.policies())
    snapshot = Snapshot(
        organization_id=identity.organization_id,
        management_account_id=identity.management_account_id,
        begun_at=begun_at,
        done_at=begun_at,
        root=root.id,
        enabled_types=tuple(sorted(root.policy_types)),
        read_types=tuple(sorted(wanted.types)),
        ous=tuple(SnapshotOu(id=each.id, parent=each.parent, name=each.name) for each in ous),
        policies=policies,
        accounts=(),
    )
    check(organization_of(snapshot))
    # Pages of a list that changes while it is read can repeat an account.
    listed = {each.id: each for each in reading.counted("accounts", reader.accounts())}
    accounts = reading.with_paths(list(listed.values()), root.id, ous)
    parts = {
        "accounts": tuple(_account(each) for each in sorted(accounts, key=lambda each: each.id)),
        "policies": tuple(map(reading.with_targets, policies)),
        "unread": tuple(reading.unread),
        "done_at": clock.now(),
    }
    return snapshot.model_copy(update=parts)


def with_tags(
    snapshot: Snapshot,
    reader: OrganizationReader,
    needs_tags: Callable[[SnapshotAccount], bool],
    progress: Progress,
    *,
    in_bulk: bool,
) -> Snapshot:
    """Return the snapshot with the tags of its accounts.

    Only the management account can read them in bulk: to others, AWS answers with the tags of none. Where that is not
    possible, the tags of the accounts that need them are read by a call for each.
    """
    tags, unread = _tags_in_bulk(snapshot, reader, progress) if in_bulk else None, snapshot.unread
    if tags is None:
        tags = {}
        try:
            needed = [each.id for each in snapshot.accounts if each.state == ACTIVE and needs_tags(each)]
            for each in counted(progress, f"tags of {len(needed):,} accounts", needed):
                tags[each] = reader.tags_of(each)
        except PermanentError as error:
            unread = (*unread, Unread(part="tags", code=error.fault.code))
    accounts = tuple(
        each.model_copy(update={"tags": dict(tags[each.id])}) if each.id in tags else each for each in snapshot.accounts
    )
    return snapshot.model_copy(update={"accounts": accounts, "unread": unread})


def _tags_in_bulk(
    snapshot: Snapshot, reader: OrganizationReader, progress: Progress
) -> dict[AccountId, Mapping[str, str]] | None:
    try:
        tagged = dict(counted(progress, "tagged accounts", reader.tagged()))
    except PermanentError:
        # Permission for one way is no permission for the other.
        return None
    # The answer leaves out accounts without tags.
    return {each.id: tagged.get(each.id, {}) for each in snapshot.accounts}


def with_attached(
    snapshot: Snapshot, reader: OrganizationReader, accounts: Collection[AccountId], progress: Progress
) -> Snapshot:
    """Return the snapshot with every policy, others' too, that is attached to some of its accounts; a call for each."""
    found: dict[AccountId, dict[PolicyType, tuple[PolicyId, ...]]] = {}
    unread = snapshot.unread
    try:
        for each in counted(progress, f"policies of {len(accounts):,} accounts", sorted(accounts)):
            # An account may leave while the organization is read.
            with suppress(AccountNotFoundError):
                found[each] = {kind: tuple(reader.attached(each, kind)) for kind in snapshot.read_types}
    except PermanentError as error:
        unread = (*unread, Unread(part="attached", code=error.fault.code))
    told = tuple(
        each.model_copy(update={"attached": found[each.id]}) if each.id in found else each for each in snapshot.accounts
    )
    return snapshot.model_copy(update={"accounts": told, "unread": unread})


def organization_of(snapshot: Snapshot) -> Organization:
    """Return what the names of a document are looked up in."""
    named, unnamed = paths(snapshot.root, (ReadOu(each.id, each.parent, each.name) for each in snapshot.ous))
    policies = tuple(OrganizationPolicy(each.id, each.name, each.type, each.sha256) for each in snapshot.policies)
    return Organization(policies, named, unnamed)


def facts_of(account: SnapshotAccount) -> Facts:
    """Return the facts of an account; what the snapshot does not have is unreadable."""
    return Facts(
        account.id,
        name=Unknown.UNREADABLE if account.name is None else account.name,
        email=Unknown.UNREADABLE if account.email is None else account.email,
        joined=account.joined or Unknown.UNREADABLE,
        ous=account.ous or Unknown.UNREADABLE,
        tags=Unknown.UNREADABLE if account.tags is None else account.tags,
    )


class _Reading:
    """One reading, and what it could not read."""

    def __init__(self, reader: OrganizationReader, wanted: Wanted, progress: Progress) -> None:
        self._reader = reader
        self._wanted = wanted
        self._progress = progress
        self.unread: list[Unread] = []

    def counted(self, what: str, items: Iterable[T]) -> Iterator[T]:
        return counted(self._progress, what, items)

    def policies(self) -> Iterator[SnapshotPolicy]:
        listed = [each for kind in sorted(self._wanted.types) for each in self._reader.policies(kind)]
        known = {each.id: each for each in listed}
        for _, each in self.counted("policies", sorted(known.items())):
            policy = SnapshotPolicy(id=each.id, name=each.name, type=each.type, aws_managed=each.aws_managed)
            yield self._with_content(policy) if self._wanted.content and self._wanted.names(policy) else policy

    def _with_content(self, policy: SnapshotPolicy) -> SnapshotPolicy:
        try:
            return policy.model_copy(update={"sha256": content_sha256(self._reader.content(policy.id))})
        except PermanentError as error:
            self.unread.append(Unread(part="content", policy=policy.id, code=error.fault.code))
            return policy

    def with_targets(self, policy: SnapshotPolicy) -> SnapshotPolicy:
        """Return a policy with its targets, if they are wanted."""
        if not self._wanted.names(policy):
            return policy
        try:
            targets = sorted(set(self.counted(f"targets of {policy.name}", self._reader.targets(policy.id))))
        except PermanentError as error:
            self.unread.append(Unread(part="targets", policy=policy.id, code=error.fault.code))
            return policy
        return policy.model_copy(update={"targets": tuple(targets)})

    def with_paths(self, accounts: list[ReadAccount], root: OuId, ous: Collection[ReadOu]) -> list[ReadAccount]:
        """Return the accounts with their OUs, read from the OUs if AWS's answer did not have them."""
        if not self._wanted.ous or all(each.ous for each in accounts):
            return accounts
        above: dict[OuId, tuple[OuId, ...]] = {root: (root,)}
        for each in ous:
            above[each.id] = (*above[each.parent], each.id)
        found: dict[AccountId, tuple[OuId, ...]] = {}
        try:
            for ou in self.counted("accounts of organizational units", above):
                found.update(dict.fromkeys(self._reader.accounts_in(ou), above[ou]))
        except PermanentError as error:
            self.unread.append(Unread(part="ous", code=error.fault.code))
        return [replace(each, ous=each.ous or found.get(each.id)) for each in accounts]


def counted(progress: Progress, what: str, items: Iterable[T]) -> Iterator[T]:
    """Yield items, and report how many there are so far."""
    progress(what, 0)
    for number, each in enumerate(items, 1):
        if number % _UPDATE_EVERY == 0:
            progress(what, number)
        yield each


def _account(account: ReadAccount) -> SnapshotAccount:
    return SnapshotAccount(
        id=account.id,
        name=account.name,
        email=account.email,
        state=account.state,
        joined=account.joined,
        joined_at=account.joined_at,
        ous=account.ous,
    )
