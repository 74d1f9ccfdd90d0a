"""The policies that the stack creates are checked before it creates them."""

from __future__ import annotations

from typing import Any

import pytest

from infra.deploy.build import ROOT
from infra.deploy.created_policies import findings, problems
from infra.deploy.stages import Stage, Target
from infra.deploy.template import load
from tests.stubs import StubbedSession

TEMPLATE = load((ROOT / "infra" / "template.yaml").read_text())
STAGE = Stage(name="prod", region="us-east-1", parameters={"CreatePolicies": "true"})


def with_content(content: Any) -> dict[str, Any]:
    """Return a template that creates one policy."""
    properties = {"Name": "x", "Type": "SERVICE_CONTROL_POLICY", "Content": content}
    return {"Resources": {"DenyX": {"Type": "AWS::Organizations::Policy", "Properties": properties}}}


def target(session: StubbedSession, stage: Stage = STAGE) -> Target:
    any_session: Any = session
    return Target(any_session, stage, poll_seconds=1)


def test_the_templates_own_policies_have_no_problems() -> None:
    assert list(problems(STAGE, TEMPLATE)) == []


@pytest.mark.parametrize("content", [{"Version": "2012-10-17"}, '{"Version": "2012-10-17"}'])
def test_a_policy_that_aws_would_refuse_is_named(content: Any) -> None:
    assert list(problems(STAGE, with_content(content))) == [
        "policy DenyX must have a Statement: an object, or a list of objects"
    ]


def test_a_stage_that_creates_no_policies_is_not_checked() -> None:
    stage = Stage(name="prod", region="us-east-1", parameters={"PolicyIds": "p-aaaaaaaa"})

    assert list(problems(stage, with_content({}))) == []
    assert list(findings(target(StubbedSession(), stage), with_content({}))) == []


def test_what_access_analyzer_finds_is_said() -> None:
    session = StubbedSession()
    found = {
        "findingType": "ERROR",
        "issueCode": "INVALID_ACTION",
        "findingDetails": "The action a:b does not exist.",
        "learnMoreLink": "https://docs.aws.amazon.com",
        "locations": [],
    }
    for _ in ("DenyCdnPurchase", "DenyLeave"):
        session.answer("accessanalyzer", "validate_policy", {"findings": [found]})

    said = list(findings(target(session), TEMPLATE))

    assert said[0] == "policy DenyCdnPurchase: ERROR INVALID_ACTION: The action a:b does not exist."
    assert len(said) == 2
    session.assert_used()


def test_it_is_said_that_access_analyzer_could_not_be_asked() -> None:
    session = StubbedSession()
    session.fail("accessanalyzer", "validate_policy", "AccessDeniedException")

    [said] = findings(target(session), TEMPLATE)

    assert "could not be asked about the policies (AccessAnalyzer.AccessDeniedException)" in said
    assert "access-analyzer:ValidatePolicy" in said
