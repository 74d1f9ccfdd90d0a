"""AWS Organizations as a whole: its tree, policies, accounts and tags, read at the rates that AWS documents."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from handlers.aws.errors import organizations_errors
from handlers.aws.organizations_facts import ous_in_path
from handlers.core.errors import PermanentError, fault
from handlers.core.guardrails.ports import Identity, ReadAccount, ReadOu, ReadPolicy, ReadRoot
from handlers.core.timing import retry
from schemas.compiled_guardrails import JoinMethod, PolicyType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from random import Random

    from mypy_boto3_organizations import OrganizationsClient

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


class OrganizationInBulk:
    """Read an organization. Throttles and other transient failures are tried again for minutes, page by page."""

    def __init__(self, client: OrganizationsClient, tagging: Any, clock: Clock, rng: Random) -> None:
        """Take clients that do not retry by themselves.

        `tagging` is a client of the Resource Groups Tagging API in the Region of Organizations: it answers with an
        empty list in others.
        """
        self._client = client
        self._tagging = tagging
        self._clock = clock
        self._rng = rng
        self._pace = _Pace(clock)

    def identity(self) -> Identity:
        """Return which organization it is."""
        found = self._call("DescribeOrganization", lambda: self._client.describe_organization()["Organization"])
        return Identity(found["Id"], found["MasterAccountId"])

    def root(self) -> ReadRoot:
        """Return the root."""
        [found] = self._listed("ListRoots", self._client.list_roots, "Roots")
        enabled = {each["Type"] for each in found["PolicyTypes"] if each["Status"] == "ENABLED"}
        # AWS may have types that no document can name.
        return ReadRoot(found["Id"], frozenset(each for each in get_args(PolicyType) if each in enabled))

    def ous(self, root: OuId) -> Iterator[ReadOu]:
        """Yield every OU, each after the one that it is in."""
        parents = [root]
        for parent in parents:
            listed = self._listed(
                "ListOrganizationalUnitsForParent",
                self._client.list_organizational_units_for_parent,
                "OrganizationalUnits",
                ParentId=parent,
            )
            for each in listed:
                parents.append(each["Id"])
                yield ReadOu(each["Id"], parent, each["Name"])

    def policies(self, policy_type: PolicyType) -> Iterator[ReadPolicy]:
        """Yield the policies of a type."""
        for each in self._listed("ListPolicies", self._client.list_policies, "Policies", Filter=policy_type):
            yield ReadPolicy(each["Id"], each["Name"], each["Type"], each["AwsManaged"])

    def content(self, policy_id: PolicyId) -> str:
        """Return a policy's content as DescribePolicy returns it."""
        found = self._call("DescribePolicy", lambda: self._client.describe_policy(PolicyId=policy_id)["Policy"])
        return found["Content"]

    def targets(self, policy_id: PolicyId) -> Iterator[str]:
        """Yield the ids of the accounts, OUs and roots that a policy is attached to."""
        list_targets = self._client.list_targets_for_policy
        for each in self._listed("ListTargetsForPolicy", list_targets, "Targets", PolicyId=policy_id):
            yield each["TargetId"]

    def accounts(self) -> Iterator[ReadAccount]:
        """Yield every account, the management account included."""
        for each in self._listed("ListAccounts", self._client.list_accounts, "Accounts"):
            yield _account(each)

    def accounts_in(self, parent: OuId) -> Iterator[AccountId]:
        """Yield the accounts in a root or OU, without those below it."""
        list_accounts = self._client.list_accounts_for_parent
        for each in self._listed("ListAccountsForParent", list_accounts, "Accounts", ParentId=parent):
            yield each["Id"]

    def tagged(self) -> Iterator[tuple[AccountId, Mapping[str, str]]]:
        """Yield every account that has tags, with them, in bulk; only for the management account's credentials."""
        filters = {"ResourceTypeFilters": ["organizations:account"], "ResourcesPerPage": _PAGE_OF_TAGS}
        call, key = self._tagging.get_resources, "ResourceTagMappingList"
        for each in self._pages("GetResources", call, key, filters, token="PaginationToken"):  # noqa: S106 - a name
            yield each["ResourceARN"].rpartition("/")[2], _tags(each["Tags"])

    def tags_of(self, account_id: AccountId) -> Mapping[str, str]:
        """Return the tags of one account."""
        list_tags = self._client.list_tags_for_resource
        # This call has no page size.
        return _tags(self._pages("ListTagsForResource", list_tags, "Tags", {"ResourceId": account_id}))

    def attached(self, account_id: AccountId, policy_type: PolicyType) -> Iterator[PolicyId]:
        """Yield the policies of a type that are attached to the account itself."""
        list_policies = self._client.list_policies_for_target
        listed = self._listed(
            "ListPoliciesForTarget", list_policies, "Policies", TargetId=account_id, Filter=policy_type
        )
        for each in listed:
            yield each["Id"]

    def _listed(self, operation: str, call: Callable[..., Any], key: str, **request: Any) -> Iterator[Any]:
        return self._pages(operation, call, key, request | {"MaxResults": _PAGE})

    def _pages(
        self,
        operation: str,
        call: Callable[..., Any],
        key: str,
        request: dict[str, Any],
        token: str = "NextToken",  # noqa: S107 - a name
    ) -> Iterator[Any]:
        """Yield what all pages list; an empty page can be followed by others."""

        def read() -> tuple[list[Any], str | None]:
            page = call(**request)
            return page[key], page.get(token)

        for _ in range(_MAX_PAGES):
            listed, following = self._call(operation, read)
            yield from listed
            if not following:
                return
            if following == request.get(token):
                raise PermanentError(fault("REPEATED_PAGE", f"{operation} answered with the same page again"))
            request = request | {token: following}
        raise PermanentError(fault("ENDLESS_PAGES", f"{operation} has more than {_MAX_PAGES:,} pages"))

    def _call(self, operation: str, call: Callable[[], T]) -> T:
        """Make a call at its pace, and again after throttles and lost connections."""

        def paced() -> T:
            self._pace.wait(operation)
            with organizations_errors():
                return call()

        return retry(paced, deadline=self._clock.now() + _PATIENCE, clock=self._clock, rng=self._rng)


def _account(found: Mapping[str, Any]) -> ReadAccount:
    """Return an account of an answer. `Status` was retired in September 2026; older answers have nothing else."""
    joined = found.get("JoinedMethod")
    return ReadAccount(
        found["Id"],
        found.get("Name"),
        found.get("Email"),
        str(found.get("State") or found.get("Status")),
        joined if joined in get_args(JoinMethod) else None,
        ous_in_path(found.get("Paths", ())) or None,
        found.get("JoinedTimestamp"),
    )


def _tags(tags: Any) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in tags}
