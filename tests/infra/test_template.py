"""What the template must always say, whatever else changes in it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from handlers.settings import Settings
from infra.deploy.build import ROOT
from infra.deploy.template import load
from schemas.events import JoinRequest

TEXT = (ROOT / "infra" / "template.yaml").read_text()
TEMPLATE = load(TEXT)
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    found = {name: each.get("Properties", {}) for name, each in RESOURCES.items() if each["Type"] == kind}
    assert found, f"the template has no {kind}"
    return found


def statements() -> list[tuple[str, dict[str, Any]]]:
    """Return every statement of every role, with the role's name."""
    return [
        (role, statement)
        for role, properties in of_type("AWS::IAM::Role").items()
        for policy in properties.get("Policies", [])
        for statement in policy["PolicyDocument"]["Statement"]
    ]


def test_a_message_in_work_stays_hidden_six_times_the_functions_time_out() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html"""
    for mapping in of_type("AWS::Lambda::EventSourceMapping").values():
        queue = RESOURCES[mapping["EventSourceArn"]["Fn::GetAtt"][0]]["Properties"]
        function = RESOURCES[mapping["FunctionName"]["Ref"]]["Properties"]
        assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]


def test_dead_letters_outlive_their_source() -> None:
    """A message's age goes on counting in the dead letters."""
    for queue in of_type("AWS::SQS::Queue").values():
        if "RedrivePolicy" in queue:
            dead = RESOURCES[queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]]["Properties"]
            assert dead["MessageRetentionPeriod"] == 14 * 24 * 3600 > queue["MessageRetentionPeriod"]
            assert queue["RedrivePolicy"]["maxReceiveCount"] >= 5


def test_records_fail_alone_and_two_workers_at_most_run() -> None:
    for mapping in of_type("AWS::Lambda::EventSourceMapping").values():
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["ScalingConfig"]["MaximumConcurrency"] == 2


def test_the_rule_matches_the_events_name_and_never_its_detail_type() -> None:
    [rule] = of_type("AWS::Events::Rule").values()
    pattern = rule["EventPattern"]

    assert pattern["source"] == ["aws.organizations"]
    assert "detail-type" not in pattern
    assert set(pattern["detail"]["eventName"]) == {
        "AcceptHandshake",
        "AccountJoinedOrganization",
        "CreateAccountResult",
    }
    assert pattern["detail"]["errorCode"] == [{"exists": False}]


def test_what_the_rule_cannot_deliver_is_tried_for_a_day_and_kept() -> None:
    [rule] = of_type("AWS::Events::Rule").values()
    [target] = rule["Targets"]

    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}
    assert target["DeadLetterConfig"]["Arn"] == {"Fn::GetAtt": ["Undelivered", "Arn"]}


def test_only_the_rule_may_send_and_only_over_tls() -> None:
    [policy] = [p for p in of_type("AWS::SQS::QueuePolicy").values() if {"Ref": "Joins"} in p["Queues"]]
    allow, deny = policy["PolicyDocument"]["Statement"]

    assert policy["Queues"] == [{"Ref": "Joins"}, {"Ref": "Undelivered"}]
    assert (allow["Effect"], allow["Action"]) == ("Allow", "sqs:SendMessage")
    assert allow["Condition"] == {
        "ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["MemberAccountInitialization", "Arn"]}}
    }
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_evidence_is_locked_versioned_private_and_never_deleted() -> None:
    bucket = RESOURCES["Evidence"]["Properties"]

    assert bucket["ObjectLockEnabled"] is True
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert TEMPLATE["Parameters"]["RetentionDays"]["Default"] >= 7 * 365.25
    policy = RESOURCES["EvidencePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    denied = [action for each in policy if each["Effect"] == "Deny" for action in each["Action"]]
    assert {"s3:DeleteObject", "s3:DeleteObjectVersion"} <= set(denied)


def test_what_holds_records_or_messages_survives_the_stack() -> None:
    for name in (
        "DeadLetters",
        "DataKey",
        "AccessLogs",
        "TrailLogs",
        "Undelivered",
        "Outcomes",
        "Evidence",
        "PseudonymKey",
        "AttachPoliciesLogs",
    ):
        assert RESOURCES[name]["DeletionPolicy"] == RESOURCES[name]["UpdateReplacePolicy"] == "Retain", name


def test_no_role_may_do_everything_or_touch_everything() -> None:
    for role, statement in statements():
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if "*" in action], (role, statement["Sid"])
        assert statement["Resource"] != "*", (role, statement["Sid"])


def test_the_worker_may_attach_only_the_named_policies() -> None:
    """Nine places for policies, padded with names that no policy can have."""
    [attach] = [s for _, s in statements() if "organizations:AttachPolicy" in s["Action"]]
    policies = [each for each in attach["Resource"] if isinstance(each["Fn::Sub"], list)]

    assert len(policies) == 9
    for place, each in enumerate(policies):
        text, variables = each["Fn::Sub"]
        assert text.endswith("service_control_policy/${Id}")
        index, split = variables["Id"]["Fn::Select"]
        condition, created, named = split["Fn::Split"][1]["Fn::If"]
        assert index == place
        assert condition == "CreatesPolicies"
        for known, listed in ((2, created["Fn::Sub"]), (1, named["Fn::Sub"])):
            places = listed.split(",")
            assert len(places) >= 9
            assert all(name.startswith("${") for name in places[:known])
            assert set(places[known:]) == {"-"}


def test_no_partition_region_or_account_is_written_down() -> None:
    text = "\n".join(line for line in TEXT.splitlines() if not line.lstrip().startswith("#"))

    assert not re.findall(r"arn:aws[:-]", text)
    assert not re.findall(r"\b(us|eu|ap|cn)-[a-z]+-[0-9]\b", text)
    assert not re.findall(r"\b[0-9]{12}\b", text)


def test_the_function_is_told_exactly_what_its_settings_want() -> None:
    for function in of_type("AWS::Lambda::Function").values():
        ours = {name for name in function["Environment"]["Variables"] if not name.startswith("POWERTOOLS_")}
        assert ours == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize(
    ("name", "action"),
    [("deny-cdn-purchase", "cloudfront:CreateDistribution"), ("deny-leave", "organizations:LeaveOrganization")],
)
def test_the_pre_defined_policies_deny_what_they_are_named_for(name: str, action: str) -> None:
    text = (ROOT / "infra" / "policies" / f"{name}.json").read_text()
    [statement] = json.loads(text)["Statement"]

    assert (statement["Effect"], statement["Action"], statement["Resource"]) == ("Deny", action, "*")
    assert len(json.dumps(json.loads(text), separators=(",", ":"))) <= 10_240


def test_no_join_request_can_be_taken_for_an_event_of_aws() -> None:
    """Sweep and operators have source names of their own, which the rule does not match."""
    [rule] = of_type("AWS::Events::Rule").values()

    assert not set(JoinRequest.model_json_schema()["properties"]["source"]["enum"]) & set(
        rule["EventPattern"]["source"]
    )
