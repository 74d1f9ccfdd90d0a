"""A whole organization in memory, which answers as the clients of Organizations and of the tagging API do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from handlers.aws.organizations_in_bulk import RATES
from infra.local.organizations import Bucket
from schemas.compiled_guardrails import SCP
from tests.fakes import MANAGEMENT, NOON, ORGANIZATION

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT_OU: Final = "r-root"
FULL_ACCESS: Final = "p-FullAWSAccess"
#: AWS's bursts of calls, of the operations with another one than 8
#: (https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html).
_BURSTS: Final = {"ListAccounts": 12, "DescribePolicy": 2, "ListRoots": 2, "DescribeOrganization": 2}


@dataclass
class Member:
    """An account."""

    ou: str = ROOT_OU
    state: str = "ACTIVE"
    joined_at: datetime = NOON - timedelta(days=30)
    tags: dict[str, str] = field(default_factory=dict)
    name: str = "a name"


@dataclass(repr=False)
class BulkOrganization:
    """Both clients. Lists have pages, of which the first can be empty; a call can be refused because of its rate."""

    page_size: int = 20
    #: Whether an empty page with a token comes before each page.
    empty_pages: bool = False
    #: Seconds that each call takes; only on a clock that `wait` advances.
    latency: float = 0.0
    seconds: Callable[[], float] | None = None
    wait: Callable[[float], None] = lambda _: None
    #: Called before and after each call, with its name; what it raises replaces the answer.
    on_call: Callable[[str, str], None] = lambda _name, _when: None
    accounts: dict[str, Member] = field(default_factory=dict)
    #: The parent of each OU.
    ous: dict[str, str] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    #: The accounts, OUs and roots that each policy is attached to.
    targets: dict[str, list[str]] = field(default_factory=dict)
    enabled: tuple[str, ...] = (SCP,)
    calls: Counter[str] = field(default_factory=Counter)
    throttled: int = 0
    #: Part of each token; AWS does not know those with another one any more.
    generation: int = 0

    def __post_init__(self) -> None:
        self.contents.setdefault(FULL_ACCESS, "{}")
        self.accounts.setdefault(MANAGEMENT, Member())
        self._buckets = {name: Bucket(rate, _BURSTS.get(name, 8), 0.0) for name, rate in RATES.items()}

    def carried(self, account_id: str) -> set[str]:
        """Return the policies of an account."""
        return {policy for policy, targets in self.targets.items() if account_id in targets}

    def attach(self, policy_id: str, *targets: str) -> None:
        """Attach a policy, which exists from then on."""
        self.contents.setdefault(policy_id, "{}")
        known = self.targets.setdefault(policy_id, [])
        known += [each for each in targets if each not in known]

    # The clients.

    def describe_organization(self) -> dict[str, Any]:
        return self._call(
            "DescribeOrganization", lambda: {"Organization": {"Id": ORGANIZATION, "MasterAccountId": MANAGEMENT}}
        )

    def list_roots(self, **request: Any) -> dict[str, Any]:
        types = [{"Type": each, "Status": "ENABLED"} for each in self.enabled]
        return self._page("ListRoots", "Roots", lambda: [{"Id": ROOT_OU, "PolicyTypes": types}], request)

    def list_organizational_units_for_parent(self, **request: Any) -> dict[str, Any]:
        def listed() -> list[dict[str, Any]]:
            return [{"Id": ou, "Name": ou} for ou, parent in self.ous.items() if parent == request["ParentId"]]

        return self._page("ListOrganizationalUnitsForParent", "OrganizationalUnits", listed, request)

    def list_policies(self, **request: Any) -> dict[str, Any]:
        def listed() -> list[dict[str, Any]]:
            return [
                {"Id": each, "Name": each, "Type": SCP, "AwsManaged": each == FULL_ACCESS} for each in self.contents
            ]

        return self._page("ListPolicies", "Policies", listed if request["Filter"] == SCP else list, request)

    def describe_policy(self, PolicyId: str) -> dict[str, Any]:  # noqa: N803 - the name in AWS's API
        return self._call("DescribePolicy", lambda: {"Policy": {"Content": self.contents[PolicyId]}})

    def list_targets_for_policy(self, **request: Any) -> dict[str, Any]:
        targets = self.targets.get(request["PolicyId"], [])
        return self._page("ListTargetsForPolicy", "Targets", lambda: targets, request, lambda each: {"TargetId": each})

    def list_accounts(self, **request: Any) -> dict[str, Any]:
        return self._page("ListAccounts", "Accounts", lambda: list(self.accounts), request, self._account)

    def get_resources(self, **request: Any) -> dict[str, Any]:
        renamed = {"MaxResults": request["ResourcesPerPage"], "NextToken": request.get("PaginationToken")}

        def listed() -> list[str]:
            return [each for each, member in self.accounts.items() if member.tags]

        page = self._page("GetResources", "ResourceTagMappingList", listed, renamed, self._tags)
        return page | {"PaginationToken": page.get("NextToken", "")}

    def _account(self, account_id: str) -> dict[str, Any]:
        member = self.accounts[account_id]
        path = [member.ou]
        while path[0] != ROOT_OU:
            path.insert(0, self.ous[path[0]])
        return {
            "Id": account_id,
            "Name": member.name,
            "Email": f"root+{account_id}@example.com",
            "State": member.state,
            "JoinedMethod": "CREATED",
            "JoinedTimestamp": member.joined_at,
            "Paths": [f"{ORGANIZATION}/{'/'.join(path)}/{account_id}/"],
        }

    def _tags(self, account_id: str) -> dict[str, Any]:
        arn = f"arn:aws:organizations::{MANAGEMENT}:account/{ORGANIZATION}/{account_id}"
        tags = self.accounts[account_id].tags
        return {"ResourceARN": arn, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def _page(
        self,
        operation: str,
        key: str,
        listed: Callable[[], list[Any]],
        request: dict[str, Any],
        shown: Callable[[Any], Any] = lambda each: each,
    ) -> dict[str, Any]:
        def answer() -> dict[str, Any]:
            generation, _, token = (request.get("NextToken") or f"{self.generation}:").partition(":")
            if generation != str(self.generation):
                raise ClientError({"Error": {"Code": "InvalidInputException", "Message": "token"}}, operation)
            if self.empty_pages and not token.endswith("!"):
                return {key: [], "NextToken": f"{generation}:{token or 0}!"}
            begin = int(token.rstrip("!") or 0)
            end = begin + min(request["MaxResults"], self.page_size)
            items = listed()
            more = {"NextToken": f"{generation}:{end}"} if end < len(items) else {}
            return {key: [shown(each) for each in items[begin:end]]} | more

        return self._call(operation, answer)

    def _call(self, operation: str, answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        is_allowed = self.seconds is None or self._buckets[operation].take(self.seconds())
        self.wait(self.latency)
        if not is_allowed:
            self.throttled += 1
            raise ClientError({"Error": {"Code": "TooManyRequestsException", "Message": "slow down"}}, operation)
        self.calls[operation] += 1
        self.on_call(operation, "before")
        answered = answer()
        self.on_call(operation, "after")
        return answered

    def allowed_seconds(self) -> float:
        """Return how long the calls take at the sustained rates, one operation after the other."""
        return sum(calls / RATES[operation] for operation, calls in self.calls.items())
