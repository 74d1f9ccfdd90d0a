"""A new stack adopts what has its fixed names or was kept, and preflight names every clash.

The embedded AWS's CloudFormation has no SCPs and no trails and imports no bucket policies, so AWS's answers
are stubbed.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from infra.deploy.adopt import (
    CREATED_AGAIN,
    IDENTIFIERS,
    NAMES,
    REPLACED,
    Adoptions,
    clashes,
    find_adoptions,
    fixed_names,
    is_kept,
    references,
)
from infra.deploy.build import ROOT
from infra.deploy.template import load
from tests.prepared import ACCOUNT, ACCOUNT_ID, stub, target

if TYPE_CHECKING:
    from tests.prepared import Stub

TEMPLATE = load((ROOT / "infra" / "template.yaml").read_text())
FORWARDER = load((ROOT / "infra" / "forwarder.yaml").read_text())
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]
STACK_ID = "arn:aws:cloudformation:us-east-1:111111111111:stack/joinguard/1"
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
#: The template with only the resources that a test is about.
POLICIES = {**TEMPLATE, "Resources": {name: RESOURCES[name] for name in ("DenyCdnPurchase", "DenyLeave")}}
TRAIL_NAMES = ("Trail", "TrailLogs", "TrailLogsPolicy")
TRAIL = {**TEMPLATE, "Resources": {name: RESOURCES[name] for name in TRAIL_NAMES}}


def no_stack(cloudformation: Stub) -> None:
    cloudformation.add_client_error("describe_stacks", "ValidationError", "Stack with id joinguard does not exist")


def stack_exists(cloudformation: Stub, *names: str) -> None:
    stack = {"StackName": "joinguard", "StackId": STACK_ID, "CreationTime": NOON, "StackStatus": "UPDATE_COMPLETE"}
    cloudformation.add_response("describe_stacks", {"Stacks": [stack]})
    summaries = [
        {
            "LogicalResourceId": name,
            "ResourceType": RESOURCES[name]["Type"],
            "ResourceStatus": "CREATE_COMPLETE",
            "LastUpdatedTimestamp": NOON,
        }
        for name in names
    ]
    cloudformation.add_response("list_stack_resources", {"StackResourceSummaries": summaries})


def policy_exists(organizations: Stub, policy_id: str, name: str, content: str | None) -> None:
    """Prepare a list of policies on two pages, and the policy's content if it is read."""
    other = {"Id": "p-other0001", "Name": f"{name}-of-others", "Type": "SERVICE_CONTROL_POLICY"}
    organizations.add_response("list_policies", {"Policies": [other], "NextToken": "more"})
    summary = {"Id": policy_id, "Name": name, "Type": "SERVICE_CONTROL_POLICY"}
    organizations.add_response("list_policies", {"Policies": [summary]})
    if content is not None:
        organizations.add_response("describe_policy", {"Policy": {"PolicySummary": summary, "Content": content}})


def content_of(name: str) -> str:
    """Return a policy's content in another form than ours."""
    return json.dumps(RESOURCES[name]["Properties"]["Content"], indent=4)


def test_an_existing_policy_of_our_name_and_content_is_imported_by_id() -> None:
    stubs = {"cloudformation": stub("cloudformation"), "organizations": stub("organizations")}
    at = target(stubs, CreatePolicies="true")
    no_stack(stubs["cloudformation"])
    policy_exists(stubs["organizations"], "p-leave0001", "deny-leave", content_of("DenyLeave"))
    assert list(clashes(at, ACCOUNT, POLICIES)) == []

    stubs["cloudformation"].add_response("list_stacks", {"StackSummaries": []})
    policy_exists(stubs["organizations"], "p-leave0001", "deny-leave", content_of("DenyLeave"))
    found = find_adoptions(at, ACCOUNT, POLICIES, fresh=False)

    assert found.imports(POLICIES) == (
        {
            "LogicalResourceId": "DenyLeave",
            "ResourceType": "AWS::Organizations::Policy",
            "ResourceIdentifier": {"Id": "p-leave0001"},
        },
    )
    imported = json.loads(found.template(TEMPLATE))
    assert list(imported["Resources"]) == ["DenyLeave"]
    # The policy on which it depends is not imported.
    assert "DependsOn" not in imported["Resources"]["DenyLeave"]
    assert imported["Resources"]["DenyLeave"]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert "Outputs" not in imported


def test_a_policy_of_our_name_with_other_content_is_a_clash_with_a_next_step() -> None:
    stubs = {"cloudformation": stub("cloudformation"), "organizations": stub("organizations")}
    no_stack(stubs["cloudformation"])
    policy_exists(stubs["organizations"], "p-leave0001", "deny-leave", '{"Version": "2012-10-17", "Statement": []}')

    [clash] = clashes(target(stubs, CreatePolicies="true"), ACCOUNT, POLICIES)

    assert "a policy deny-leave (p-leave0001) with other content" in clash
    assert "aws organizations update-policy --policy-id p-leave0001" in clash


def test_each_stage_has_policies_of_its_own() -> None:
    stubs = {"cloudformation": stub("cloudformation"), "organizations": stub("organizations")}
    no_stack(stubs["cloudformation"])
    policy_exists(stubs["organizations"], "p-leave0001", "deny-leave", None)

    assert list(clashes(target(stubs, name="test", CreatePolicies="true"), ACCOUNT, POLICIES)) == []


def test_without_policies_of_the_stack_organizations_is_not_asked() -> None:
    stubs = {"cloudformation": stub("cloudformation")}
    no_stack(stubs["cloudformation"])

    assert list(clashes(target(stubs, PolicyIds="p-12345678"), ACCOUNT, POLICIES)) == []


def test_an_existing_stack_cannot_import_a_policy_so_its_id_is_named() -> None:
    stubs = {"cloudformation": stub("cloudformation"), "organizations": stub("organizations")}
    stack_exists(stubs["cloudformation"], "DenyCdnPurchase")
    policy_exists(stubs["organizations"], "p-leave0001", "deny-leave", content_of("DenyLeave"))

    [clash] = clashes(target(stubs, CreatePolicies="true"), ACCOUNT, POLICIES)

    assert 'Set CreatePolicies to "false" and add p-leave0001 to PolicyIds' in clash


def test_a_stacks_own_resources_are_no_clash() -> None:
    stubs = {"cloudformation": stub("cloudformation")}
    stack_exists(stubs["cloudformation"], "DenyCdnPurchase", "DenyLeave")

    assert list(clashes(target(stubs, CreatePolicies="true"), ACCOUNT, POLICIES)) == []


def test_the_trails_bucket_and_its_policy_are_imported_and_keep_their_protection() -> None:
    stubs = {"cloudformation": stub("cloudformation"), "cloudtrail": stub("cloudtrail"), "s3": stub("s3")}
    at = target(stubs, CreateTrail="true", PolicyIds="p-12345678")
    bucket = f"aws-cloudtrail-logs-{ACCOUNT_ID}-us-east-1"
    document = {"Version": "2012-10-17", "Statement": [{"Sid": "OnlyOverTls"}]}
    stubs["cloudformation"].add_response("list_stacks", {"StackSummaries": []})
    stubs["cloudtrail"].add_response("describe_trails", {"trailList": []})
    owner = {"Bucket": bucket, "ExpectedBucketOwner": ACCOUNT_ID}
    stubs["s3"].add_response("head_bucket", {}, owner)
    stubs["s3"].add_response("get_bucket_policy", {"Policy": json.dumps(document)}, owner)

    found = find_adoptions(at, ACCOUNT, TRAIL, fresh=False)

    assert [(each["LogicalResourceId"], each["ResourceIdentifier"]) for each in found.imports(TRAIL)] == [
        ("TrailLogs", {"BucketName": bucket}),
        ("TrailLogsPolicy", {"Bucket": bucket}),
    ]
    imported = json.loads(found.template(TEMPLATE))["Resources"]
    assert imported["TrailLogsPolicy"]["Properties"]["PolicyDocument"] == document
    # Its key and the bucket of its access logs are created later.
    assert {"BucketEncryption", "LoggingConfiguration"}.isdisjoint(imported["TrailLogs"]["Properties"])
    assert imported["TrailLogs"]["Properties"]["ObjectLockEnabled"] is True


@pytest.mark.parametrize("code", ["403", "AccessDenied"])
def test_a_bucket_or_a_trail_of_others_under_our_name_is_a_clash(code: str) -> None:
    stubs = {"cloudformation": stub("cloudformation"), "cloudtrail": stub("cloudtrail"), "s3": stub("s3")}
    no_stack(stubs["cloudformation"])
    stubs["cloudtrail"].add_response("describe_trails", {"trailList": [{"Name": "eventsTrail"}]})
    stubs["s3"].add_client_error("head_bucket", code)

    found = list(clashes(target(stubs, CreateTrail="true", PolicyIds="p-12345678"), ACCOUNT, TRAIL))

    assert len(found) == 2
    assert "already a resource eventsTrail (AWS::CloudTrail::Trail)" in found[0]
    assert "is another account's" in found[1]


def test_only_what_the_last_stack_kept_and_still_works_is_adopted() -> None:
    """One kept key is about to be deleted, and an older stack kept another table."""
    template = {**TEMPLATE, "Resources": {name: RESOURCES[name] for name in ("DataKey", "Outcomes", "PseudonymKey")}}
    stubs = {each: stub(each) for each in ("cloudformation", "dynamodb", "kms")}
    summaries = [
        {"StackName": name, "StackId": f"{STACK_ID}{day}", "CreationTime": NOON, "StackStatus": "DELETE_COMPLETE"}
        | {"DeletionTime": datetime(2026, 11, day, tzinfo=UTC)}
        for name, day in (("joinguard", 1), ("joinguard-test", 3), ("joinguard", 2))
    ]
    stubs["cloudformation"].add_response("list_stacks", {"StackSummaries": summaries})
    for day, kept in ((2, {"Outcomes": "new", "DataKey": "key-1"}), (1, {"Outcomes": "old", "PseudonymKey": "key-2"})):
        skipped = [
            {
                "StackId": f"{STACK_ID}{day}",
                "EventId": name,
                "StackName": "joinguard",
                "Timestamp": NOON,
                "LogicalResourceId": name,
                "PhysicalResourceId": kept_id,
                "ResourceType": RESOURCES[name]["Type"],
                "ResourceStatus": "DELETE_SKIPPED",
            }
            for name, kept_id in kept.items()
        ]
        stubs["cloudformation"].add_response(
            "describe_stack_events", {"StackEvents": skipped}, {"StackName": f"{STACK_ID}{day}"}
        )
    stubs["dynamodb"].add_response("describe_table", {"Table": {"TableStatus": "ACTIVE"}}, {"TableName": "new"})
    stubs["kms"].add_response("describe_key", {"KeyMetadata": {"KeyId": "key-1", "KeyState": "PendingDeletion"}})
    stubs["kms"].add_client_error("describe_key", "NotFoundException")

    found = find_adoptions(target(stubs, PolicyIds="p-12345678"), ACCOUNT, template, fresh=False)

    assert found.ids == {"Outcomes": "new"}
    assert set(found.unusable) == {"DataKey", "PseudonymKey"}


KEY = "arn:aws:kms:us-east-1:111111111111:key/1"
HELD = ("Outcomes", "Evidence", "AttachPoliciesLogs", "DeadLetters")


def kept_under_a_key(state: str) -> dict[str, Stub]:
    """Prepare a table, a bucket and a log group that an earlier stack kept, whose key is in a state, and a queue."""
    stubs = {each: stub(each) for each in ("cloudformation", "dynamodb", "kms", "logs", "s3", "sqs")}
    last = {"StackName": "joinguard", "StackId": STACK_ID, "CreationTime": NOON, "StackStatus": "DELETE_COMPLETE"}
    stubs["cloudformation"].add_response("list_stacks", {"StackSummaries": [last]})
    skipped = [
        {
            "StackId": STACK_ID,
            "EventId": name,
            "StackName": "joinguard",
            "Timestamp": NOON,
            "LogicalResourceId": name,
            "PhysicalResourceId": name.lower(),
            "ResourceType": RESOURCES[name]["Type"],
            "ResourceStatus": "DELETE_SKIPPED",
        }
        for name in HELD
    ]
    stubs["cloudformation"].add_response("describe_stack_events", {"StackEvents": skipped})
    # DynamoDB has not noticed the key's state yet.
    table = {"TableStatus": "ACTIVE", "SSEDescription": {"KMSMasterKeyArn": KEY}}
    stubs["dynamodb"].add_response("describe_table", {"Table": table})
    stubs["s3"].add_response("head_bucket", {})
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}}
    stubs["s3"].add_response("get_bucket_encryption", {"ServerSideEncryptionConfiguration": {"Rules": [rule]}})
    stubs["logs"].add_response(
        "describe_log_groups", {"logGroups": [{"logGroupName": "attachpolicieslogs", "kmsKeyId": KEY}]}
    )
    stubs["sqs"].add_response("get_queue_attributes", {"Attributes": {"QueueArn": "arn"}})
    for _ in range(3):
        stubs["kms"].add_response("describe_key", {"KeyMetadata": {"KeyId": KEY, "KeyState": state}}, {"KeyId": KEY})
    return stubs


@pytest.mark.parametrize(
    ("state", "adopted"), [("Enabled", HELD), ("PendingDeletion", ("DeadLetters",)), ("Disabled", ("DeadLetters",))]
)
def test_what_a_key_encrypts_that_cannot_be_used_is_made_anew(state: str, adopted: tuple[str, ...]) -> None:
    """A new key in the template does not encrypt anew what exists."""
    template = {**TEMPLATE, "Resources": {name: RESOURCES[name] for name in HELD}}

    found = find_adoptions(target(kept_under_a_key(state), PolicyIds="p-12345678"), ACCOUNT, template, fresh=False)

    assert set(found.ids) == set(adopted)
    assert set(found.unusable) == set(HELD) - set(adopted)


def test_a_bucket_without_a_key_of_ours_needs_none() -> None:
    template = {**TEMPLATE, "Resources": {"AccessLogs": RESOURCES["AccessLogs"]}}
    for answer in ("AES256", "ServerSideEncryptionConfigurationNotFoundError"):
        stubs = {each: stub(each) for each in ("cloudformation", "s3")}
        last = {"StackName": "joinguard", "StackId": STACK_ID, "CreationTime": NOON, "StackStatus": "DELETE_COMPLETE"}
        stubs["cloudformation"].add_response("list_stacks", {"StackSummaries": [last]})
        skipped = {
            "StackId": STACK_ID,
            "EventId": "1",
            "StackName": "joinguard",
            "Timestamp": NOON,
            "LogicalResourceId": "AccessLogs",
            "PhysicalResourceId": "logs",
            "ResourceType": "AWS::S3::Bucket",
            "ResourceStatus": "DELETE_SKIPPED",
        }
        stubs["cloudformation"].add_response("describe_stack_events", {"StackEvents": [skipped]})
        stubs["s3"].add_response("head_bucket", {})
        if answer == "AES256":
            rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": answer}}
            stubs["s3"].add_response("get_bucket_encryption", {"ServerSideEncryptionConfiguration": {"Rules": [rule]}})
        else:
            stubs["s3"].add_client_error("get_bucket_encryption", answer)

        found = find_adoptions(target(stubs, PolicyIds="p-12345678"), ACCOUNT, template, fresh=False)

        assert found.ids == {"AccessLogs": "logs"}


def test_a_fresh_stack_adopts_nothing_that_it_can_make_itself() -> None:
    template = {**TEMPLATE, "Resources": {"Outcomes": RESOURCES["Outcomes"]}}

    assert find_adoptions(target({}, PolicyIds="p-12345678"), ACCOUNT, template, fresh=True) == Adoptions()


@pytest.mark.parametrize("resources", [RESOURCES, FORWARDER["Resources"]], ids=["main", "forwarder"])
def test_everything_kept_is_deleted_with_a_failed_creation_and_can_come_back(resources: dict[str, Any]) -> None:
    retained = {name for name, each in resources.items() if is_kept(each) or "UpdateReplacePolicy" in each}

    assert retained
    for name in retained:
        each = resources[name]
        assert (each["DeletionPolicy"], each["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain"), name
        assert each["Type"] in IDENTIFIERS.keys() | CREATED_AGAIN, name


@pytest.mark.parametrize("resources", [RESOURCES, FORWARDER["Resources"]], ids=["main", "forwarder"])
def test_each_kept_queue_and_bucket_keeps_its_policy(resources: dict[str, Any]) -> None:
    for name, each in resources.items():
        if each["Type"] in {"AWS::SQS::Queue", "AWS::S3::Bucket"} and is_kept(each):
            covering = [
                other
                for other in resources.values()
                if other["Type"] in {"AWS::SQS::QueuePolicy", "AWS::S3::BucketPolicy"}
                and {"Ref": name} in other["Properties"].get("Queues", [other["Properties"].get("Bucket")])
            ]
            assert covering, name
            assert all(map(is_kept, covering)), name


def test_every_fixed_name_of_the_template_is_looked_up() -> None:
    named = {
        (each["Type"], key)
        for each in RESOURCES.values()
        for key in each.get("Properties", {})
        if key
        in {"Name", *(f"{word}Name" for word in ("Alarm", "Bucket", "Dashboard", "Function", "Group", "Key"))}
        | {
            f"{word}Name"
            for word in ("LogGroup", "Policy", "Queue", "Role", "Table", "Topic", "Trail", "ManagedPolicy")
        }
        # The name of an inline policy is one within its role.
        and each["Type"]
        not in {"AWS::Lambda::EventSourceMapping", "AWS::Lambda::EventInvokeConfig", "AWS::IAM::Policy"}
    }

    assert named <= {*NAMES.items(), *REPLACED.items()}
    at = target({}, name="test", CreatePolicies="true", CreateTrail="true")
    names = {name: text for name, _, text in fixed_names(TEMPLATE, at.stage, ACCOUNT)}
    assert names["DenyLeave"] == "deny-leave-test"
    assert names["TrailLogs"] == f"aws-cloudtrail-logs-{ACCOUNT_ID}-us-east-1-test"
    assert names["Joins"] == "joinguard-test-joins"
    assert not {"Removals", "DetachPolicies", "RecordsDatabase"} & names.keys()
    removing = target({}, name="test", RemovePolicies="true")
    names = {name: text for name, _, text in fixed_names(TEMPLATE, removing.stage, ACCOUNT)}
    assert names["Removals"] == "joinguard-test-removals"
    assert names["DetachPolicies"] == "MemberAccountRemovals-test"
    with_tables = target({}, name="test-2", CreateGlueTables="true")
    names = {name: text for name, _, text in fixed_names(TEMPLATE, with_tables.stage, ACCOUNT)}
    assert names["RecordsDatabase"] == "joinguard_test_2"


def test_a_database_of_our_name_is_a_clash_only_if_the_stage_creates_one() -> None:
    template = {**TEMPLATE, "Resources": {"RecordsDatabase": RESOURCES["RecordsDatabase"]}}
    stubs = {"cloudformation": stub("cloudformation"), "glue": stub("glue")}
    no_stack(stubs["cloudformation"])
    assert list(clashes(target(stubs), ACCOUNT, template)) == []

    no_stack(stubs["cloudformation"])
    stubs["glue"].add_response("get_database", {"Database": {"Name": "joinguard"}}, {"Name": "joinguard"})
    [clash] = clashes(target(stubs, CreateGlueTables="true"), ACCOUNT, template)
    assert "already a resource joinguard (AWS::Glue::Database)" in clash

    no_stack(stubs["cloudformation"])
    stubs["glue"].add_client_error("get_database", "EntityNotFoundException")
    assert list(clashes(target(stubs, CreateGlueTables="true"), ACCOUNT, template)) == []


def test_policies_are_created_one_after_the_other() -> None:
    """Organizations can refuse policies that are created at the same time as duplicates."""
    policies = [name for name, each in RESOURCES.items() if each["Type"] == "AWS::Organizations::Policy"]

    for earlier, later in pairwise(policies):
        assert RESOURCES[later]["DependsOn"] == earlier


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"Ref": "A"}, {"A"}),
        ([{"Fn::GetAtt": ["A", "Arn"]}, {"x": {"Ref": "B"}}], {"A", "B"}),
        ({"Fn::Sub": "${A.Arn}/*${!B}"}, {"A"}),
        ({"Fn::Sub": ["${A}${X}", {"X": {"Ref": "B"}}]}, {"A", "B"}),
        ("${A}", set()),
    ],
)
def test_references_are_found_in_every_form(value: Any, names: set[str]) -> None:
    assert references(value) == names
