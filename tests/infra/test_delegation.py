"""The organization has one resource policy, so ours is merged into it.

The embedded AWS has no resource policy of the organization, so Organizations' answers are stubbed.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.deploy.build import ROOT
from infra.deploy.delegation import MAX_LENGTH, difference, merge, read_policy, statements, text_of
from infra.deploy.stack import DeployError
from infra.deploy.stages import Stage
from infra.deploy.template import load
from schemas.compiled_guardrails import CompiledGuardrails, CompiledPolicy
from tests.prepared import ACCOUNT, ACCOUNT_ID, ORGANIZATION_ID, stub

MEMBER = "333333333333"
OTHERS: dict[str, Any] = {"Sid": "Backups", "Effect": "Allow", "Principal": "*", "Action": "x:Y", "Resource": "*"}
NAMELESS: dict[str, Any] = {key: value for key, value in OTHERS.items() if key != "Sid"}


def ours(name: str = "prod", policies: str = "p-12345678") -> list[dict[str, Any]]:
    return statements(ACCOUNT, Stage(name=name, region="us-east-1", parameters={"PolicyIds": policies}), MEMBER)


def test_our_statements_name_only_the_stages_policies_and_the_administrator() -> None:
    reads, attaches = ours(policies="p-12345678,p-87654321")

    prefix = f"arn:aws:organizations::{ACCOUNT_ID}"
    assert attaches["Resource"] == [
        f"{prefix}:account/{ORGANIZATION_ID}/*",
        f"{prefix}:policy/{ORGANIZATION_ID}/service_control_policy/p-12345678",
        f"{prefix}:policy/{ORGANIZATION_ID}/service_control_policy/p-87654321",
    ]
    assert attaches["Action"] == "organizations:AttachPolicy"
    assert {each["Principal"]["AWS"] for each in (reads, attaches)} == {f"arn:aws:iam::{MEMBER}:root"}


@pytest.mark.parametrize("role", ["AttachPoliciesRole", "SweepRole"])
def test_a_member_account_may_read_what_the_worker_and_the_sweep_read(role: str) -> None:
    template = load((ROOT / "infra" / "template.yaml").read_text())
    [policy] = template["Resources"][role]["Properties"]["Policies"]
    listed = [each["Action"] for each in policy["PolicyDocument"]["Statement"]]
    actions = {action for each in listed for action in ([each] if isinstance(each, str) else each)}

    reads = {each for each in actions if each.startswith("organizations:")} - {"organizations:AttachPolicy"}

    assert reads
    assert reads <= set(ours()[0]["Action"])


def test_the_statements_follow_a_guardrails_document() -> None:
    document = CompiledGuardrails(
        policies=(
            CompiledPolicy(id="p-12345678", type="SERVICE_CONTROL_POLICY"),
            CompiledPolicy(id="p-87654321", type="RESOURCE_CONTROL_POLICY"),
        ),
        rules=(),
    )

    reads, attaches = statements(ACCOUNT, Stage(name="prod", region="us-east-1"), MEMBER, document)

    prefix = f"arn:aws:organizations::{ACCOUNT_ID}:policy/{ORGANIZATION_ID}"
    assert attaches["Resource"][1:] == [
        f"{prefix}/service_control_policy/p-12345678",
        f"{prefix}/resource_control_policy/p-87654321",
    ]
    types = attaches["Condition"]["StringLikeIfExists"]["organizations:PolicyType"]
    assert types == ["RESOURCE_CONTROL_POLICY", "SERVICE_CONTROL_POLICY"]
    assert {"organizations:ListParents", "organizations:ListTagsForResource"} <= set(reads["Action"])


def test_a_stage_that_removes_policies_may_detach_them_as_long_as_it_does() -> None:
    parameters = {"PolicyIds": "p-12345678", "RemovePolicies": "true"}

    removing = statements(ACCOUNT, Stage(name="prod", region="us-east-1", parameters=parameters), MEMBER)

    attaches = ours()[1]
    assert removing[1]["Action"] == ["organizations:AttachPolicy", "organizations:DetachPolicy"]
    assert removing == [ours()[0], attaches | {"Action": removing[1]["Action"]}]
    present = {"Version": "2012-10-17", "Statement": [OTHERS, *removing]}
    assert merge(present, ours())["Statement"] == [OTHERS, *ours()]


def test_what_others_delegate_stays_and_is_in_the_same_place() -> None:
    present = {"Version": "2012-10-17", "Id": "x", "Statement": [OTHERS, NAMELESS]}

    merged = merge(present, ours())

    assert merged == {"Version": "2012-10-17", "Id": "x", "Statement": [OTHERS, NAMELESS, *ours()]}
    changes = difference(present, merged)
    assert [line for line in changes if line.startswith("-") and line != "--- present"] in ([], ["-    }"])
    assert any("JoinguardAttaches" in line for line in changes if line.startswith("+"))


def test_our_earlier_statements_are_replaced_and_those_of_another_stage_stay() -> None:
    earlier, others = ours(policies="p-00000000"), ours("far-away")
    present = {"Version": "2012-10-17", "Statement": [earlier[1], *others, earlier[0]]}

    merged = merge(present, ours())

    assert merged["Statement"] == [ours()[1], *others, ours()[0]]
    assert others[0]["Sid"] == "JoinguardReadsFarAway"
    assert difference(merged, merge(merged, ours())) == []


def test_a_policy_with_a_single_statement_is_merged_too() -> None:
    assert merge({"Version": "2012-10-17", "Statement": OTHERS}, ours())["Statement"] == [OTHERS, *ours()]


def test_without_a_present_policy_ours_is_the_whole() -> None:
    with stub("organizations") as organizations:
        organizations.add_client_error("describe_resource_policy", "ResourcePolicyNotFoundException")
        present = read_policy(organizations.client)

    assert present is None
    assert merge(present, ours()) == {"Version": "2012-10-17", "Statement": ours()}


def test_the_present_policy_is_read_from_organizations() -> None:
    content = json.dumps({"Version": "2012-10-17", "Statement": [OTHERS]})
    with stub("organizations") as organizations:
        organizations.add_response("describe_resource_policy", {"ResourcePolicy": {"Content": content}})

        assert read_policy(organizations.client) == json.loads(content)


@pytest.mark.parametrize("code", ["AccessDeniedException", "TooManyRequestsException"])
def test_a_policy_that_cannot_be_read_is_not_taken_for_none(code: str) -> None:
    with stub("organizations") as organizations:
        organizations.add_client_error("describe_resource_policy", code)
        with pytest.raises(DeployError, match="cannot read the organization's resource policy"):
            read_policy(organizations.client)


@pytest.mark.parametrize(("length", "lines"), [(10, True), (MAX_LENGTH - 500, False)])
def test_a_policy_is_indented_if_it_fits(length: int, *, lines: bool) -> None:
    statements = [{**OTHERS, "Resource": "x" * (length // 40)} for _ in range(40)] if not lines else [OTHERS]
    policy = {"Version": "2012-10-17", "Statement": statements}
    while not lines and len(json.dumps(policy, separators=(",", ":"))) >= MAX_LENGTH:
        statements.pop()

    text = text_of(policy)

    assert len(text) < MAX_LENGTH
    assert ("\n" in text) == lines
    assert json.loads(text) == policy


def test_a_policy_that_is_too_long_is_refused_with_its_length() -> None:
    with pytest.raises(DeployError, match=r"would have 40,\d\d\d characters, and AWS allows 40,000"):
        text_of(merge({"Version": "2012-10-17", "Statement": [{**OTHERS, "Resource": "x" * 39_500}]}, ours()))
