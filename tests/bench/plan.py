"""`plan` over organizations of many accounts, in virtual time at the rates that AWS documents.

`python -m tests.bench.plan ACCOUNTS` measures one size in a process of its own, and prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

from botocore.exceptions import ClientError

from handlers.aws.organizations_in_bulk import RATES, OrganizationInBulk
from handlers.core.guardrails.plan import make_plan
from handlers.core.guardrails.scope import Scope
from handlers.core.guardrails.snapshot import Wanted, take_snapshot, with_tags
from infra.deploy.build import ROOT
from infra.local.organizations import Bucket
from schemas.compiled_guardrails import (
    SCP,
    CompiledGuardrails,
    CompiledPolicy,
    CompiledRule,
    CompiledSelector,
    OuRange,
)
from tests.bench.process import peak_megabytes
from tests.fakes import NOON, ORGANIZATION

_POLICIES: Final = [f"p-policy{number:04}" for number in range(20)]
_OUS: Final = [f"ou-root-{number:08}" for number in range(100)]
_RULES: Final = 50
#: Seconds of each call.
_LATENCY: Final = 0.05
_MANAGEMENT: Final = "999999999999"
#: AWS's bursts of calls, of the operations with another one than 8
#: (https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html).
_BURSTS: Final = {"ListAccounts": 12, "DescribePolicy": 2, "ListRoots": 2, "DescribeOrganization": 2}


class Organization:
    """A double of both services that refuses what exceeds a rate; only waiting and calls take time."""

    def __init__(self, accounts: int) -> None:
        rng = Random(1)  # noqa: S311 - an experiment
        self.seconds = 0.0
        self.calls: Counter[str] = Counter()
        self.throttled = 0
        self._buckets = {name: Bucket(rate, _BURSTS.get(name, 8), 0.0) for name, rate in RATES.items()}
        self._accounts = [f"{10**11 + number}" for number in range(accounts)]
        self._ou_of = {each: rng.choice(_OUS) for each in self._accounts}
        self._tagged = {each: rng.choice(["prod", "test"]) for each in self._accounts}

    # The clock.

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    # Both clients.

    def describe_organization(self) -> dict[str, Any]:
        self._call("DescribeOrganization")
        return {"Organization": {"Id": ORGANIZATION, "MasterAccountId": _MANAGEMENT}}

    def list_roots(self, **request: Any) -> dict[str, Any]:
        root = {"Id": "r-root", "PolicyTypes": [{"Type": SCP, "Status": "ENABLED"}]}
        return self._page("ListRoots", "Roots", [root], request)

    def list_organizational_units_for_parent(self, **request: Any) -> dict[str, Any]:
        below = _OUS if request["ParentId"] == "r-root" else []
        listed = [{"Id": each, "Name": each} for each in below]
        return self._page("ListOrganizationalUnitsForParent", "OrganizationalUnits", listed, request)

    def list_policies(self, **request: Any) -> dict[str, Any]:
        listed = [{"Id": each, "Name": each, "Type": SCP, "AwsManaged": False} for each in _POLICIES]
        return self._page("ListPolicies", "Policies", listed, request)

    def describe_policy(self, **_: Any) -> dict[str, Any]:
        self._call("DescribePolicy")
        return {"Policy": {"Content": "{}"}}

    def list_targets_for_policy(self, **request: Any) -> dict[str, Any]:
        """Every policy is attached to every account: the most pages that there can be."""
        return self._page("ListTargetsForPolicy", "Targets", self._accounts, request, lambda each: {"TargetId": each})

    def list_accounts(self, **request: Any) -> dict[str, Any]:
        return self._page("ListAccounts", "Accounts", self._accounts, request, self._account)

    def get_resources(self, **request: Any) -> dict[str, Any]:
        renamed = {"MaxResults": request["ResourcesPerPage"], "NextToken": request.get("PaginationToken")}
        page = self._page("GetResources", "ResourceTagMappingList", self._accounts, renamed, self._tags)
        return page | {"PaginationToken": page.get("NextToken", "")}

    def _account(self, account_id: str) -> dict[str, Any]:
        return {
            "Id": account_id,
            "Name": f"account {account_id}",
            "Email": f"root+{account_id}@example.com",
            "State": "ACTIVE",
            "JoinedMethod": "CREATED",
            "Paths": [f"{ORGANIZATION}/r-root/{self._ou_of[account_id]}/{account_id}/"],
        }

    def _tags(self, account_id: str) -> dict[str, Any]:
        arn = f"arn:aws:organizations::{_MANAGEMENT}:account/{ORGANIZATION}/{account_id}"
        return {"ResourceARN": arn, "Tags": [{"Key": "environment", "Value": self._tagged[account_id]}]}

    def _page(
        self, operation: str, key: str, items: list[Any], request: dict[str, Any], shown: Any = lambda each: each
    ) -> dict[str, Any]:
        self._call(operation)
        begin = int(request.get("NextToken") or 0)
        end = begin + request["MaxResults"]
        more = {"NextToken": str(end)} if end < len(items) else {}
        return {key: [shown(each) for each in items[begin:end]]} | more

    def _call(self, operation: str) -> None:
        is_allowed = self._buckets[operation].take(self.seconds)
        self.seconds += _LATENCY
        if not is_allowed:
            self.throttled += 1
            raise ClientError({"Error": {"Code": "TooManyRequestsException", "Message": "slow down"}}, operation)
        self.calls[operation] += 1

    def allowed_seconds(self) -> float:
        """Return how long the calls take at the sustained rates, one operation after the other."""
        return sum(calls / RATES[operation] for operation, calls in self.calls.items())


def _guardrails() -> CompiledGuardrails:
    rules = tuple(
        CompiledRule(
            id=f"rule-{number}",
            attach=(_POLICIES[number % len(_POLICIES)],),
            match=(
                CompiledSelector(ou=(OuRange(id=_OUS[number]),)),
                CompiledSelector(tags={"environment": ("prod",)}),
            ),
        )
        for number in range(_RULES)
    )
    policies = tuple(CompiledPolicy(id=each, type=SCP) for each in _POLICIES)
    return CompiledGuardrails(policies=policies, rules=rules, policies_per_account={SCP: 10})


def measure_one(accounts: int) -> dict[str, float]:
    """Read and plan one organization."""
    organization, guardrails = Organization(accounts), _guardrails()
    before = peak_megabytes()
    client: Any = organization
    reader = OrganizationInBulk(client, client, organization, Random(1))  # noqa: S311 - an experiment
    began = time.perf_counter()
    snapshot = take_snapshot(reader, Wanted([SCP], _POLICIES), organization, lambda _part, _number: None)
    snapshot = with_tags(snapshot, reader, lambda _: True, lambda _part, _number: None, in_bulk=True)
    read = time.perf_counter()
    plan = make_plan(guardrails, guardrails, snapshot, NOON, 2.0, scope=Scope())
    done = time.perf_counter()
    assert plan.accounts == accounts
    return {
        "calls": organization.calls.total(),
        "throttled": organization.throttled,
        "minutes": organization.seconds / 60,
        "time over the rates": organization.seconds / organization.allowed_seconds(),
        "CPU s, reading": read - began,
        "CPU s, planning": done - read,
        "MB": peak_megabytes() - before,
    }


def measure(*sizes: int) -> dict[str, dict[str, float]]:
    """Measure organizations of these sizes, each in a process of its own."""
    rows = {}
    for size in sizes:
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "tests.bench.plan", str(size)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        rows[f"{size:,} accounts, {len(_POLICIES)} policies"] = json.loads(done.stdout)
    return rows


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure_one(int(sys.argv[1]))) + "\n")
