"""Both Lambda handlers, created from their environments: one requests a removal, and the other carries it out.

moto answers no error for a policy that is detached twice, and lets an account carry no SCP.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from handlers.attach_policies import lambda_handler as attach
from handlers.bootstrap import enforcer, remover
from handlers.detach_policies import lambda_handler as detach
from handlers.settings import SettingsError
from infra.local.events import event_id
from schemas.compiled_guardrails import CompiledGuardrails, CompiledPolicy, CompiledRule, CompiledSelector
from schemas.evidence import Evidence
from schemas.plan import ApprovedPlan
from tests.integration.conftest import BUCKET, client
from tests.integration.test_lambda_handler import CONTEXT, Function, record

if TYPE_CHECKING:
    from collections.abc import Iterator


class Both(Function):
    """The two functions, with a policy for accounts with a tag, which others lose."""

    def __init__(self, *, removals: int = 25) -> None:
        super().__init__()
        self.removals_queue_url = client("sqs").create_queue(QueueName="removals")["QueueUrl"]
        client("s3").create_bucket(Bucket="artifacts")
        prod = CompiledSelector(tags={"environment": ("prod",)})
        rule = CompiledRule(id="prod", attach=(self.policy_id,), match=(prod,), when_no_longer="remove")
        self.guardrails = CompiledGuardrails(
            policies=(CompiledPolicy(id=self.policy_id, type="SERVICE_CONTROL_POLICY"),),
            rules=(rule,),
            max_removals=removals,
        )
        self.key = self.put("guardrails", self.guardrails.canonical())
        self.approved = ""

    def put(self, folder: str, content: bytes) -> str:
        key = f"joinguard/{folder}/{sha256(content).hexdigest()}.json"
        client("s3").put_object(Bucket="artifacts", Key=key, Body=content)
        return key

    def environment(self) -> dict[str, str]:
        ours = {"POLICY_IDS": "", "GUARDRAILS_KEY": self.key, "ARTIFACTS_BUCKET": "artifacts"}
        return super().environment() | ours

    def of_attaching(self) -> dict[str, str]:
        return self.environment() | {"REMOVALS_QUEUE_URL": self.removals_queue_url}

    def of_removing(self) -> dict[str, str]:
        ours = {"QUEUE_URL": self.removals_queue_url, "JOINS_QUEUE_URL": self.queue_url}
        return self.environment() | ours | {"APPROVED_PLAN_KEY": self.approved}

    def attached(self) -> set[str]:
        found = client("organizations").list_policies_for_target(TargetId=self.account, Filter="SERVICE_CONTROL_POLICY")
        return {each["Id"] for each in found["Policies"]} - {"p-FullAWSAccess"}

    def tag(self, environment: str) -> None:
        tags = [{"Key": "environment", "Value": environment}]
        client("organizations").tag_resource(ResourceId=self.account, Tags=tags)


@pytest.fixture(autouse=True)
def new_processes() -> Iterator[None]:
    yield
    enforcer.cache_clear()
    remover.cache_clear()


@pytest.fixture
def both(table: Any, bucket: str) -> Both:
    assert (table.name, bucket) == ("outcomes", BUCKET)
    return Both()


def handle(monkeypatch: pytest.MonkeyPatch, made: Both, body: str) -> list[str]:
    """Deliver a message to the worker that attaches policies; return the requests that it sends to the other."""
    for name, value in made.of_attaching().items():
        monkeypatch.setenv(name, value)
    enforcer.cache_clear()
    assert attach({"Records": [record(1, body, receives=1)]}, CONTEXT)["batchItemFailures"] == []
    return bodies(made.removals_queue_url)


def carry_out(monkeypatch: pytest.MonkeyPatch, made: Both, request: str) -> None:
    """Deliver a request to the worker that removes policies."""
    for name, value in made.of_removing().items():
        monkeypatch.setenv(name, value)
    remover.cache_clear()
    assert detach({"Records": [record(1, request, receives=1)]}, CONTEXT)["batchItemFailures"] == []


def bodies(queue_url: str) -> list[str]:
    found = client("sqs").receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10)
    return [each["Body"] for each in found.get("Messages", [])]


def retired(monkeypatch: pytest.MonkeyPatch, made: Both) -> str:
    """Let the account get its policy and lose the tag; return the request to remove it."""
    made.tag("prod")
    assert handle(monkeypatch, made, json.dumps(made.join(made.account))) == []
    assert made.attached() == {made.policy_id}
    made.tag("test")
    request = {
        "source": "joinguard.operator",
        "event_id": event_id(),
        "requested_at": "2026-11-24T12:00:00Z",
        "account_id": made.account,
        "organization_id": made.organization_id,
        "reason": "x",
    }
    [found] = handle(monkeypatch, made, json.dumps(request))
    return found


def evidence_of(request: str) -> list[Evidence]:
    event_id = json.loads(request)["event_id"]
    keys = [each["Key"] for each in client("s3").list_objects_v2(Bucket=BUCKET)["Contents"] if event_id in each["Key"]]
    found = [client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys]
    return [Evidence.model_validate_json(each) for each in found]


def test_what_an_account_no_longer_needs_is_removed(monkeypatch: pytest.MonkeyPatch, both: Both) -> None:
    request = retired(monkeypatch, both)

    carry_out(monkeypatch, both, request)

    assert both.attached() == set()
    [evidence] = evidence_of(request)
    assert [each.result for each in evidence.policies] == ["REMOVED"]
    attributes = client("sqs").get_queue_attributes(QueueUrl=both.queue_url, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessagesDelayed"] == "1", "the account is evaluated again"


def test_what_others_attached_is_kept(monkeypatch: pytest.MonkeyPatch, both: Both) -> None:
    request = retired(monkeypatch, both)
    organizations = client("organizations")
    carry_out(monkeypatch, both, request)
    organizations.attach_policy(PolicyId=both.policy_id, TargetId=both.account)
    [again] = handle(monkeypatch, both, json.dumps(both.join(both.account)))

    carry_out(monkeypatch, both, again)

    assert both.attached() == {both.policy_id}
    assert [each.fault and each.fault.code for [evidence] in [evidence_of(again)] for each in evidence.policies] == [
        "NOT_OURS"
    ]


@pytest.mark.parametrize("approved", [False, True])
def test_above_the_limit_only_what_was_approved_is_removed(
    monkeypatch: pytest.MonkeyPatch, table: Any, bucket: str, *, approved: bool
) -> None:
    assert (table.name, bucket) == ("outcomes", BUCKET)
    made = Both(removals=0)
    if approved:
        plan = ApprovedPlan.of(made.organization_id, made.guardrails.sha256(), {}, {made.policy_id: [made.account]})
        made.approved = made.put("plans", plan.canonical())
    request = retired(monkeypatch, made)

    carry_out(monkeypatch, made, request)

    assert made.attached() == (set() if approved else {made.policy_id})
    assert len(bodies(made.dead_letter_queue_url)) == (0 if approved else 1)


def test_an_approved_plan_that_was_replaced_stops_the_worker(monkeypatch: pytest.MonkeyPatch, both: Both) -> None:
    both.approved = both.put("plans", b"{}")
    client("s3").put_object(Bucket="artifacts", Key=both.approved, Body=b"[]")
    for name, value in both.of_removing().items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match="APPROVED_PLAN_KEY: cannot read the approved plan"):
        remover()


def test_an_object_that_is_no_plan_stops_the_worker(monkeypatch: pytest.MonkeyPatch, both: Both) -> None:
    both.approved = both.put("plans", b"{}")
    for name, value in both.of_removing().items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match="does not hold a plan"):
        remover()
