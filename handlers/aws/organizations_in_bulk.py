"""AWS Organizations as a whole: its tree, policies, accounts and tags, read at the rates that AWS documents."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from handlers.aws.errors import organizations_errors
from handlers.aws.organizations_facts import ous_in_path
from handlers.core.errors import OutOfTimeError, PermanentError, fault
from handlers.core.guardrails.facts import Fact
from handlers.core.guardrails.ports import Identity, Listed, ReadAccount, ReadOu, ReadPolicy, ReadRoot
from handlers.core.timing import retry
from schemas.compiled_guardrails import JoinMethod, PolicyType

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from random import Random

    from mypy_boto3_organizations import OrganizationsClient

    from handlers.core.guardrails.ports import Journal
    from handlers.core.ports import Clock
    from schemas.ids import AccountId, OuId, PolicyId

T = TypeVar("T")

#: The Region of each partition that has Organizations, and with it the tags of accounts. Others have one Region.
ORGANIZATIONS_REGIONS: Final = {
    "aws": "us-east-1",
    "aws-cn": "cn-northwest-1",
    "aws-eusc": "eusc-de-east-1",
    "aws-us-gov": "us-gov-west-1",
}
#: Calls a second that AWS allows an account
#: (https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html).
RATES: Final[dict[str, float]] = {
    "DescribeOrganization": 1,
    "DescribePolicy": 2,
    "ListAccounts": 8,
    "ListAccountsForParent": 5,
    "ListPolicies": 5,
    "ListPoliciesForTarget": 5,
    "ListRoots": 1,
    "ListTargetsForPolicy": 5,
    # AWS documents no rates for these; the first is taken to be that of ListAccountsForParent.
    "ListOrganizationalUnitsForParent": 5,
    "ListTagsForResource": 5,
    "GetResources": 10,
}
#: The share of a rate that is used, so that clocks and answers that differ cause no throttles.
SHARE: Final = 0.95
#: Pages a single listing can have: ten times what 50,000 accounts need.
_MAX_PAGES: Final = 25_000
#: How long one call is tried again.
_PATIENCE: Final = timedelta(minutes=5)
_PAGE: Final = 20
_PAGE_OF_TAGS: Final = 100


class _Pace:
    """Keeps the calls of each operation apart."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next: dict[str, float] = {}

    def wait(self, operation: str) -> None:
        """Wait until an operation may be called."""
        now = self._clock.now().timestamp()
        at = self._next.get(operation, now)
        if at > now:
            self._clock.sleep(at - now)
        self._next[operation] = max(at, now) + 1 / (RATES[operation] * SHARE)


@dataclass(frozen=True)
class _Listing:
    """A call whose answer has pages."""

    operation: str
    call: Callable[..., Any]
    #: The key of what a page lists.
    key: str
    #: Returns what is kept of each item, as a JSON value.
    fields: Callable[[Any], Any]
    request: Mapping[str, Any]
    #: Distinguishes listings of the same operation.
    about: str = ""
    #: The name of what AWS needs to continue.
    token: str = "NextToken"  # noqa: S105 - a name

    @property
    def name(self) -> str:
        """The name in the journal."""
        return f"{self.operation} {self.about}".strip()


class _NoJournal:
    """Remembers nothing: a reading that one process makes as a whole."""

    def listed(self, listing: str) -> Listed:  # noqa: ARG002 - as in Journal
        return Listed()

    def add(self, listing: str, items: Sequence[Any], token: str | None) -> None:
        pass


class OrganizationInBulk:
    """Read an organization. Throttles and other transient failures are tried again for minutes, page by page."""

    def __init__(  # noqa: PLR0913 - what a reading depends on
        self,
        client: OrganizationsClient,
        tagging: Any,
        clock: Clock,
        rng: Random,
        *,
        journal: Journal | None = None,
        until: datetime | None = None,
        facts: Collection[Fact] = frozenset(Fact),
    ) -> None:
        """Take clients that do not retry by themselves.

        `tagging` is a client of the Resource Groups Tagging API in the Region of Organizations: it answers with an
        empty list in others. A reading goes on where its `journal` says that it stopped. No call begins after `until`:
        OutOfTimeError ends the reading. Of names and e-mail addresses, those are kept that are among the `facts`.
        """
        self._client = client
        self._tagging = tagging
        self._clock = clock
        self._rng = rng
        self._journal = journal or _NoJournal()
        self._until = until
        self._facts = facts
        self._pace = _Pace(clock)

    def identity(self) -> Identity:
        """Return which organization it is."""

        def read() -> list[str]:
            found = self._client.describe_organization()["Organization"]
            return [found["Id"], found["MasterAccountId"]]

        return Identity(*self._once("DescribeOrganization", "", read))

    def root(self) -> ReadRoot:
        """Return the root."""

        def fields(found: Any) -> list[Any]:
            return [found["Id"], [each["Type"] for each in found["PolicyTypes"] if each["Status"] == "ENABLED"]]

        [(root, enabled)] = self._listed("ListRoots", self._client.list_roots, "Roots", fields)
        # AWS may have types that no document can name.
        return ReadRoot(root, frozenset(each for each in get_args(PolicyType) if each in enabled))

    def ous(self, root: OuId) -> Iterator[ReadOu]:
        """Yield every OU, each after the one that it is in."""
        parents = [root]
        for parent in parents:
            listed = self._listed(
                "ListOrganizationalUnitsForParent",
                self._client.list_organizational_units_for_parent,
                "OrganizationalUnits",
                itemgetter("Id", "Name"),
                ParentId=parent,
            )
            for ou, name in listed:
                parents.append(ou)
                yield ReadOu(ou, parent, name)

    def policies(self, policy_type: PolicyType) -> Iterator[ReadPolicy]:
        """Yield the policies of a type."""
        fields = itemgetter("Id", "Name", "Type", "AwsManaged")
        for each in self._listed("ListPolicies", self._client.list_policies, "Policies", fields, Filter=policy_type):
            yield ReadPolicy(*each)

    def content(self, policy_id: PolicyId) -> str:
        """Return a policy's content as DescribePolicy returns it."""

        def read() -> list[str]:
            return [self._client.describe_policy(PolicyId=policy_id)["Policy"]["Content"]]

        [content] = self._once("DescribePolicy", policy_id, read)
        return content

    def targets(self, policy_id: PolicyId) -> Iterator[str]:
        """Yield the ids of the accounts, OUs and roots that a policy is attached to."""
        list_targets = self._client.list_targets_for_policy
        # An account can be the target of many policies: each id is kept once.
        yield from map(
            sys.intern,
            self._listed("ListTargetsForPolicy", list_targets, "Targets", itemgetter("TargetId"), PolicyId=policy_id),
        )

    def accounts(self) -> Iterator[ReadAccount]:
        """Yield every account, the management account included."""
        for each in self._listed("ListAccounts", self._client.list_accounts, "Accounts", self._account_fields):
            yield _account(each)

    def accounts_in(self, parent: OuId) -> Iterator[AccountId]:
        """Yield the accounts in a root or OU, without those below it."""
        list_accounts = self._client.list_accounts_for_parent
        yield from self._listed("ListAccountsForParent", list_accounts, "Accounts", itemgetter("Id"), ParentId=parent)

    def tagged(self) -> Iterator[tuple[AccountId, Mapping[str, str]]]:
        """Yield every account that has tags, with them, in bulk; only for the management account's credentials."""
        filters = {"ResourceTypeFilters": ["organizations:account"], "ResourcesPerPage": _PAGE_OF_TAGS}

        def fields(found: Any) -> tuple[str, dict[str, str]]:
            return found["ResourceARN"].rpartition("/")[2], _tags(found["Tags"])

        call, key = self._tagging.get_resources, "ResourceTagMappingList"
        yield from self._pages(_Listing("GetResources", call, key, fields, filters, token="PaginationToken"))  # noqa: S106 - a name

    def tags_of(self, account_id: AccountId) -> Mapping[str, str]:
        """Return the tags of one account."""
        list_tags, fields = self._client.list_tags_for_resource, itemgetter("Key", "Value")
        # This call has no page size.
        request = {"ResourceId": account_id}
        return dict(self._pages(_Listing("ListTagsForResource", list_tags, "Tags", fields, request, account_id)))

    def attached(self, account_id: AccountId, policy_type: PolicyType) -> Iterator[PolicyId]:
        """Yield the policies of a type that are attached to the account itself."""
        list_policies = self._client.list_policies_for_target
        yield from self._listed(
            "ListPoliciesForTarget",
            list_policies,
            "Policies",
            itemgetter("Id"),
            TargetId=account_id,
            Filter=policy_type,
        )

    def _listed(
        self, operation: str, call: Callable[..., Any], key: str, fields: Callable[[Any], Any], **request: Any
    ) -> Iterator[Any]:
        about = " ".join(request.values())
        return self._pages(_Listing(operation, call, key, fields, request | {"MaxResults": _PAGE}, about))

    def _once(self, operation: str, about: str, read: Callable[[], list[str]]) -> list[str]:
        """Return the answer of a call that has no pages."""
        name = f"{operation} {about}".strip()
        known = self._journal.listed(name)
        if known.is_complete:
            return list(known.items)
        found = self._call(operation, read)
        self._journal.add(name, found, None)
        return found

    def _pages(self, listing: _Listing) -> Iterator[Any]:
        """Yield what is kept of each item of all pages; an empty page can be followed by others.

        A listing that starts anew, because AWS refuses an old token, repeats items.
        """
        name, known = listing.name, self._journal.listed(listing.name)
        yield from known.items
        if known.is_complete:
            return
        token, is_old = known.token, known.token is not None

        def read() -> tuple[list[Any], str | None]:
            page = listing.call(**listing.request, **({listing.token: token} if token else {}))
            return [listing.fields(each) for each in page[listing.key]], page.get(listing.token) or None

        for _ in range(_MAX_PAGES):
            try:
                items, following = self._call(listing.operation, read)
            except PermanentError:
                if not is_old:
                    raise
                token, is_old = None, False
                continue
            if following and following == token:
                raise PermanentError(fault("REPEATED_PAGE", f"{listing.operation} answered with the same page again"))
            token, is_old = following, False
            self._journal.add(name, items, token)
            yield from items
            if not token:
                return
        raise PermanentError(fault("ENDLESS_PAGES", f"{listing.operation} has more than {_MAX_PAGES:,} pages"))

    def _call(self, operation: str, call: Callable[[], T]) -> T:
        """Make a call at its pace, and again after throttles and lost connections."""

        def paced() -> T:
            self._pace.wait(operation)
            with organizations_errors():
                return call()

        deadline = self._clock.now() + _PATIENCE
        if self._until is not None:
            if self._clock.now() >= self._until:
                raise OutOfTimeError(fault("OUT_OF_TIME", "the time left is too short for another call"))
            deadline = min(deadline, self._until)
        return retry(paced, deadline=deadline, clock=self._clock, rng=self._rng)

    def _account_fields(self, found: Any) -> list[Any]:
        """Return the fields of an account as AWS answers with it.

        `Status` was retired in September 2026; older answers have nothing else.
        """
        joined_at = found.get("JoinedTimestamp")
        return [
            found["Id"],
            found.get("Name") if Fact.NAME in self._facts else None,
            found.get("Email") if Fact.EMAIL in self._facts else None,
            str(found.get("State") or found.get("Status")),
            found.get("JoinedMethod"),
            ous_in_path(found.get("Paths", ())),
            joined_at.isoformat() if joined_at else None,
        ]


def _account(fields: Sequence[Any]) -> ReadAccount:
    """Return an account of its fields, which may have been JSON."""
    account_id, name, email, state, joined, ous, joined_at = fields
    return ReadAccount(
        sys.intern(account_id),
        name,
        email,
        sys.intern(state),
        joined if joined in get_args(JoinMethod) else None,
        tuple(map(sys.intern, ous)) or None,
        datetime.fromisoformat(joined_at) if joined_at else None,
    )


def _tags(tags: Any) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in tags}
