"""The documents of policies: what AWS would refuse, and what Access Analyzer finds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from handlers.core.errors import RetryableError, fault
from handlers.core.guardrails.policy_documents import MAX_CHARACTERS, Review, mistakes, review
from handlers.core.guardrails.ports import Finding
from infra.deploy.build import ROOT
from schemas.compiled_guardrails import SCP, PolicyType
from tests.operator_cli import FakeValidator

RCP: PolicyType = "RESOURCE_CONTROL_POLICY"
DENY = {"Sid": "X", "Effect": "Deny", "Action": "s3:*", "Resource": "*"}
OF_RCP = DENY | {"Principal": "*"}


def policy(*statements: dict[str, Any], **changes: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)} | changes)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (SCP, policy(DENY)),
        (SCP, policy(DENY, {"Effect": "Allow", "NotAction": ["a:b"], "NotResource": "x", "Condition": {}})),
        (SCP, json.dumps({"Version": "2012-10-17", "Id": "x", "Statement": DENY})),
        (RCP, policy(OF_RCP)),
        ("TAG_POLICY", '{"tags": {}}'),
        ("BACKUP_POLICY", json.dumps({"plans": "x" * 20_000})),
    ],
)
def test_a_policy_that_aws_accepts_has_no_mistake(kind: PolicyType, content: str) -> None:
    assert list(mistakes(kind, content)) == []


@pytest.mark.parametrize(
    ("kind", "content", "mistake"),
    [
        (SCP, policy(DENY)[:-1], "is not JSON"),
        (SCP, "", "is not JSON"),
        (SCP, "[]", "must be a JSON object"),
        ("TAG_POLICY", "1", "must be a JSON object"),
        (SCP, policy(DENY, Version="2008-10-17"), 'must have "Version": "2012-10-17"'),
        (SCP, json.dumps({"Version": "2012-10-17"}), "must have a Statement"),
        (SCP, policy(), "must have a Statement"),
        (SCP, json.dumps({"Version": "2012-10-17", "Statement": ["x"]}), "must have a Statement"),
        (SCP, policy(DENY, Statements=[]), "has unknown elements: Statements"),
        (SCP, policy(DENY, DENY | {"Effect": "deny"}), "statement 2: Effect must be Allow or Deny"),
        (SCP, policy(DENY | {"NotAction": "x"}), "statement 1: must have either Action or NotAction"),
        (SCP, policy({"Effect": "Deny", "Action": "x"}), "statement 1: must have either Resource or NotResource"),
        (SCP, policy(OF_RCP), "statement 1: must have no Principal"),
        (RCP, policy(DENY), 'statement 1: must have "Principal": "*"'),
        (SCP, policy(DENY | {"Conditions": {}}), "statement 1: has unknown elements: Conditions"),
        (SCP, policy(DENY | {"Sid": "x" * 10_240}), "characters, and AWS allows 10,240; shorten it"),
        (RCP, policy(OF_RCP | {"Sid": "x" * 5_120}), "characters, and AWS allows 5,120; shorten it"),
    ],
)
def test_what_aws_would_refuse_is_named_with_its_statement(kind: PolicyType, content: str, mistake: str) -> None:
    found = list(mistakes(kind, content))

    assert len(found) == 1
    assert mistake in found[0]


@pytest.mark.parametrize("kind", MAX_CHARACTERS)
def test_a_policy_may_be_as_long_as_aws_allows(kind: PolicyType) -> None:
    statement = (OF_RCP if kind == RCP else DENY) | {"Sid": ""}
    room = MAX_CHARACTERS[kind] - len(policy(statement))

    assert list(mistakes(kind, policy(statement | {"Sid": "x" * room}))) == []
    assert list(mistakes(kind, policy(statement | {"Sid": "x" * (room + 1)})))


@pytest.mark.parametrize("path", sorted((ROOT / "infra" / "policies").glob("*.json")), ids=lambda path: path.stem)
def test_the_predefined_policies_have_no_mistake(path: Any) -> None:
    assert list(mistakes(SCP, path.read_text())) == []


def test_access_analyzer_is_asked_about_the_types_that_it_knows() -> None:
    wrong = Finding("ERROR", "INVALID_ACTION", "The action s3:Xyz does not exist.")
    validator = FakeValidator({"a": (wrong,)})

    found = review([("one", SCP, "a"), ("two", "TAG_POLICY", "b"), ("three", RCP, "c")], validator)

    assert found == Review((("one", "ERROR INVALID_ACTION: The action s3:Xyz does not exist."),))
    assert validator.asked == [SCP, RCP]


def test_access_analyzer_that_cannot_be_asked_is_no_clean_result() -> None:
    validator = FakeValidator(error=RetryableError(fault("AccessAnalyzer.AccessDeniedException", "not allowed")))

    assert review([("one", SCP, "a"), ("two", SCP, "b")], validator).unchecked == "AccessAnalyzer.AccessDeniedException"
    assert validator.asked == [SCP], "the answer would be the same"
