"""Reading a whole organization: empty pages, throttles, answers without Paths, tags in bulk."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from handlers.aws.organizations_in_bulk import RATES, SHARE, OrganizationInBulk
from handlers.core.errors import JoinguardError
from handlers.core.guardrails.names import paths
from handlers.core.guardrails.ports import Identity, ReadAccount, ReadOu, ReadPolicy, ReadRoot
from handlers.core.guardrails.snapshot import Wanted, organization_of, take_snapshot
from tests.fakes import ACCOUNT, MANAGEMENT, NOON, ORGANIZATION
from tests.integration.conftest import URL, client

OU, BELOW = "ou-root-prod0000", "ou-root-web00000"
FIRST: dict[str, Any] = {
    "Id": ACCOUNT,
    "Name": "first",
    "Email": "first@example.com",
    "State": "ACTIVE",
    "JoinedTimestamp": NOON.timestamp(),
    "JoinedMethod": "INVITED",
    "Paths": [f"{ORGANIZATION}/r-root/{OU}/{BELOW}/{ACCOUNT}/"],
}
OLDER = {
    "Id": "333333333333",
    "Name": "older",
    "Email": "o@example.com",
    "Status": "SUSPENDED",
    "JoinedMethod": "BY_MAGIC",
}


@dataclass
class Clock:
    """Time passes only while the code waits."""

    at: float = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.at)

    def sleep(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class Service:
    """Answers with given pages, one after the other; with faults before each, and an empty page before each."""

    pages: dict[str, list[dict[str, Any]]]
    empty: bool = True
    #: AWS's codes of the first answers to every page.
    faults: tuple[str, ...] = ()
    clock: Clock = field(default_factory=Clock)
    calls: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    at: dict[str, list[float]] = field(default_factory=dict)
    _failed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __call__(self, request: Any, **_: Any) -> AWSResponse:
        operation = request.headers["X-Amz-Target"].decode().rpartition(".")[2]
        asked = json.loads(request.body)
        self.calls[operation] += 1
        self.requests.append((operation, asked))
        self.at.setdefault(operation, []).append(self.clock.at)
        if (done := self._failed[operation, request.body.decode()]) < len(self.faults):
            self._failed[operation, request.body.decode()] += 1
            return _response(400, {"__type": self.faults[done], "message": "no"})
        return self._page(operation, asked)

    def _page(self, operation: str, asked: dict[str, Any]) -> AWSResponse:
        token = "PaginationToken" if operation == "GetResources" else "NextToken"
        parent = asked.get("ParentId") or asked.get("PolicyId") or asked.get("ChildId") or ""
        pages = self.pages.get(f"{operation} {parent}".strip(), self.pages.get(operation, [{}]))
        place = str(asked.get(token) or "0")
        if self.empty and len(pages) > 1 and not place.endswith("!"):
            listed = next(iter(pages[0]))
            return _response(200, {listed: [], token: f"{place}!"})
        number = int(place.rstrip("!"))
        more = {token: str(number + 1)} if number + 1 < len(pages) else {}
        return _response(200, pages[number] | more)


def _response(status: int, body: object) -> AWSResponse:
    class Raw:
        def stream(self) -> Any:
            yield json.dumps(body).encode()

    return AWSResponse(URL, status, HTTPHeaders(), Raw())


def reading(service: Service) -> OrganizationInBulk:
    clients = [client("organizations"), client("resourcegroupstaggingapi")]
    for each in clients:
        each.meta.events.register_first("before-send", service)
    return OrganizationInBulk(clients[0], clients[1], service.clock, Random(1))  # noqa: S311 - no secret


@pytest.fixture(autouse=True)
def _no_network(credentials: None) -> None:
    pass


def test_accounts_of_all_pages_are_read_with_state_and_path_where_the_answer_has_them() -> None:
    service = Service({"ListAccounts": [{"Accounts": [FIRST]}, {"Accounts": [OLDER]}]})

    assert list(reading(service).accounts()) == [
        ReadAccount(ACCOUNT, "first", "first@example.com", "ACTIVE", "INVITED", ("r-root", OU, BELOW), NOON),
        ReadAccount("333333333333", "older", "o@example.com", "SUSPENDED", None, None),
    ]
    assert service.calls == {"ListAccounts": 4}, "an empty page before each page"


@pytest.mark.parametrize("path", [[], ["x/"], [f"{ORGANIZATION}/r-root/", f"{ORGANIZATION}/r-root/{OU}/"]])
def test_an_account_without_exactly_one_path_has_none(path: list[str]) -> None:
    service = Service({"ListAccounts": [{"Accounts": [FIRST | {"Paths": path}]}]})

    [account] = reading(service).accounts()

    assert account.ous is None


def test_every_ou_comes_after_the_one_that_it_is_in() -> None:
    service = Service(
        {
            "ListRoots": [
                {
                    "Roots": [
                        {
                            "Id": "r-root",
                            "PolicyTypes": [
                                {"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"},
                                {"Type": "NEW_POLICY", "Status": "ENABLED"},
                                {"Type": "TAG_POLICY", "Status": "PENDING_ENABLE"},
                            ],
                        }
                    ]
                }
            ],
            "ListOrganizationalUnitsForParent r-root": [{"OrganizationalUnits": [{"Id": OU, "Name": "Prod"}]}],
            f"ListOrganizationalUnitsForParent {OU}": [{"OrganizationalUnits": [{"Id": BELOW, "Name": "Web"}]}],
            f"ListOrganizationalUnitsForParent {BELOW}": [{"OrganizationalUnits": []}],
        }
    )
    reader = reading(service)

    assert reader.root() == ReadRoot("r-root", frozenset({"SERVICE_CONTROL_POLICY"}))
    ous = list(reader.ous("r-root"))
    assert ous == [ReadOu(OU, "r-root", "Prod"), ReadOu(BELOW, OU, "Web")]
    assert paths("r-root", ous)[0] == {"/": "r-root", "/Prod": OU, "/Prod/Web": BELOW}


def test_the_hash_of_a_policy_is_that_of_its_text_byte_for_byte() -> None:
    content = '{"Version": "2012-10-17", "ü": 1}\n'
    service = Service({"DescribePolicy": [{"Policy": {"Content": content}}]})

    assert reading(service).content("p-aaaaaaaa") == content


def test_policies_targets_and_members_of_an_ou_are_listed() -> None:
    policy = {"Id": "p-aaaaaaaa", "Name": "one", "Type": "TAG_POLICY", "AwsManaged": False}
    service = Service(
        {
            "ListPolicies": [{"Policies": [policy]}],
            "ListTargetsForPolicy": [{"Targets": [{"TargetId": ACCOUNT}]}, {"Targets": [{"TargetId": "r-root"}]}],
            "ListAccountsForParent": [{"Accounts": [FIRST]}],
            "DescribeOrganization": [{"Organization": {"Id": ORGANIZATION, "MasterAccountId": MANAGEMENT}}],
        }
    )
    reader = reading(service)

    assert list(reader.policies("TAG_POLICY")) == [ReadPolicy("p-aaaaaaaa", "one", "TAG_POLICY")]
    assert list(reader.targets("p-aaaaaaaa")) == [ACCOUNT, "r-root"]
    assert list(reader.accounts_in(OU)) == [ACCOUNT]
    assert reader.identity() == Identity(ORGANIZATION, MANAGEMENT)
    assert ("ListPolicies", {"Filter": "TAG_POLICY", "MaxResults": 20}) in service.requests


def test_tags_are_read_in_bulk_or_of_one_account() -> None:
    arn = f"arn:aws:organizations::{MANAGEMENT}:account/{ORGANIZATION}/{ACCOUNT}"
    tags = [{"Key": "environment", "Value": "prod"}]
    service = Service(
        {
            "GetResources": [
                {"ResourceTagMappingList": [{"ResourceARN": arn, "Tags": tags}]},
                {"ResourceTagMappingList": [{"ResourceARN": arn.replace(ACCOUNT, "333333333333"), "Tags": []}]},
            ],
            "ListTagsForResource": [{"Tags": tags}, {"Tags": [{"Key": "b", "Value": ""}]}],
        }
    )
    reader = reading(service)

    assert dict(reader.tagged()) == {ACCOUNT: {"environment": "prod"}, "333333333333": {}}
    assert reader.tags_of(ACCOUNT) == {"environment": "prod", "b": ""}
    first = next(asked for name, asked in service.requests if name == "GetResources")
    assert first == {"ResourceTypeFilters": ["organizations:account"], "ResourcesPerPage": 100}


def test_throttles_and_conflicts_lose_nothing() -> None:
    service = Service(
        {"ListAccounts": [{"Accounts": [FIRST]}, {"Accounts": [OLDER]}]},
        faults=("TooManyRequestsException", "ConcurrentModificationException", "ServiceException"),
    )

    assert [each.id for each in reading(service).accounts()] == [ACCOUNT, "333333333333"]


def test_a_service_that_only_throttles_is_given_up_after_minutes() -> None:
    service = Service({}, faults=("TooManyRequestsException",) * 10_000)

    with pytest.raises(JoinguardError, match="TooManyRequestsException"):
        list(reading(service).accounts())

    assert 280 < service.clock.at < 300


def test_a_denied_call_is_an_error_at_once() -> None:
    service = Service({}, faults=("AccessDeniedException",) * 9)

    with pytest.raises(JoinguardError, match="AccessDeniedException"):
        list(reading(service).targets("p-aaaaaaaa"))

    assert service.calls.total() == 1


def test_the_same_page_again_is_an_error_and_not_endless() -> None:
    class Same(Service):
        def _page(self, *_: Any) -> AWSResponse:
            return _response(200, {"Accounts": [FIRST], "NextToken": "again"})

    with pytest.raises(JoinguardError, match="the same page again"):
        list(reading(Same({})).accounts())


def test_calls_of_an_operation_keep_below_its_documented_rate() -> None:
    service = Service({"ListAccounts": [{"Accounts": [FIRST]}] * 81}, empty=False)

    list(reading(service).accounts())

    assert service.clock.at == pytest.approx(80 / (RATES["ListAccounts"] * SHARE))


def test_an_organization_of_moto_is_read_as_a_whole(aws: None) -> None:  # noqa: ARG001 - used for its effect
    organizations = client("organizations")
    organizations.create_organization(FeatureSet="ALL")
    root = organizations.list_roots()["Roots"][0]["Id"]
    ou = organizations.create_organizational_unit(ParentId=root, Name="Prod")["OrganizationalUnit"]["Id"]
    created = organizations.create_account(AccountName="web", Email="web@example.com")["CreateAccountStatus"]
    account_id = created["AccountId"]
    organizations.move_account(AccountId=account_id, SourceParentId=root, DestinationParentId=ou)
    policy = organizations.create_policy(
        Content='{"Version": "2012-10-17"}', Description="x", Name="one", Type="SERVICE_CONTROL_POLICY"
    )["Policy"]["PolicySummary"]["Id"]
    organizations.attach_policy(PolicyId=policy, TargetId=account_id)
    reader = OrganizationInBulk(organizations, None, Clock(), Random(1))  # noqa: S311 - no secret

    snapshot = take_snapshot(reader, Wanted(["SERVICE_CONTROL_POLICY"], ["one"]), Clock(), lambda _part, _number: None)

    assert {each.id: (each.name, each.state, each.ous) for each in snapshot.accounts}[account_id] == (
        "web",
        "ACTIVE",
        (root, ou),
    )
    [one] = [each for each in snapshot.policies if each.name == "one"]
    assert one.targets == (account_id,)
    assert one.sha256 == sha256(b'{"Version": "2012-10-17"}').hexdigest()
    assert [each.targets for each in snapshot.policies if each.aws_managed] == [None]
    assert organization_of(snapshot).ous == {"/": root, "/Prod": ou}
