"""What the template must always say, whatever else changes in it."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest

from handlers.settings import Settings
from infra.deploy.build import ROOT
from infra.deploy.template import dump, load, without_comments
from schemas.events import JoinRequest

TEXT = (ROOT / "infra" / "template.yaml").read_text()
TEMPLATE = load(TEXT)
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    found = {name: each.get("Properties", {}) for name, each in RESOURCES.items() if each["Type"] == kind}
    assert found, f"the template has no {kind}"
    return found


def statements() -> list[tuple[str, dict[str, Any]]]:
    """Return every statement of every role, its own and those of the policies attached to it, with the role's name."""
    found = []
    for role, properties in of_type("AWS::IAM::Role").items():
        attached = [RESOURCES[arn["Ref"]]["Properties"] for arn in properties.get("ManagedPolicyArns", [])]
        documents = [policy["PolicyDocument"] for policy in [*properties.get("Policies", []), *attached]]
        found += [(role, statement) for document in documents for statement in document["Statement"]]
    return found


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


def test_no_key_of_the_evidence_is_written_twice() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html"""
    policy = RESOURCES["EvidencePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    [once] = [each for each in policy if each["Sid"] == "EachKeyIsWrittenOnce"]

    assert (once["Effect"], once["Principal"], once["Action"]) == ("Deny", "*", "s3:PutObject")
    assert once["Condition"] == {"Null": {"s3:if-none-match": "true"}}


def test_what_is_read_from_and_written_to_s3_is_in_our_own_account() -> None:
    for role, statement in statements():
        actions = _listed(statement["Action"])
        if any(action.startswith(("s3:Get", "s3:Put")) for action in actions):
            ours = {"StringEquals": {"s3:ResourceAccount": {"Ref": "AWS::AccountId"}}}
            assert statement["Condition"] == ours, (role, statement["Sid"])


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
        # ListRoots knows no resource (AWS's service authorization reference).
        assert statement["Resource"] != "*" or actions == ["organizations:ListRoots"], (role, statement["Sid"])


def test_the_worker_may_attach_only_the_named_policies() -> None:
    """Nine places for policies, padded with names that no policy can have."""
    [attach] = [s for _, s in statements() if s["Action"] == "organizations:AttachPolicy"]
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


ALARMS = {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == "AWS::CloudWatch::Alarm"}
BUCKETS = of_type("AWS::S3::Bucket")


@pytest.mark.parametrize("queue", ["DeadLetters", "Undelivered"])
def test_every_queue_of_failures_has_an_alarm_on_its_first_message(queue: str) -> None:
    watching = [
        alarm
        for alarm in ALARMS.values()
        if alarm.get("MetricName") == "ApproximateNumberOfMessagesVisible"
        and alarm["Dimensions"][0]["Value"] == {"Fn::GetAtt": [queue, "QueueName"]}
    ]

    [alarm] = watching
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)
    assert (alarm["Statistic"], alarm["EvaluationPeriods"]) == ("Maximum", 1)


def test_every_alarm_pages_and_says_what_to_do_and_where_to_read_on() -> None:
    """The composite alarm alone sends, so each of the others has to be in its rule."""
    page = RESOURCES["Page"]["Properties"]

    assert set(re.findall(r'ALARM\("\${(\w+)}"\)', page["AlarmRule"]["Fn::Sub"])) == set(ALARMS)
    assert page["AlarmActions"] == [{"Ref": "Pages"}]
    for name, alarm in ALARMS.items():
        text = alarm["AlarmDescription"]["Fn::Sub"]
        assert text.count(". ") >= 1, f"{name} says nothing to do"
        assert re.search(r"\${RunbookUrl}#[a-z-]+$", text), f"{name} leads to no section of the runbook"
        assert alarm["TreatMissingData"] == "notBreaching"


def test_alarms_link_to_the_runbook_of_the_public_repository_unless_told_otherwise() -> None:
    default = TEMPLATE["Parameters"]["RunbookUrl"]["Default"]

    assert default == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Runbook"]
    assert (ROOT / default.partition("/blob/main/")[2]).is_file()


def test_what_alarms_and_dashboard_look_at_is_what_the_function_counts() -> None:
    code = (ROOT / "handlers" / "attach_policies.py").read_text()
    looked_at = set(
        re.findall(r'"Joinguard", ?"(\w+)"', RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    )
    looked_at |= {
        each["MetricStat"]["Metric"]["MetricName"]
        for alarm in ALARMS.values()
        for each in alarm.get("Metrics", [])
        if "MetricStat" in each
    }
    looked_at |= {alarm["MetricName"] for alarm in ALARMS.values() if alarm.get("Namespace") == "Joinguard"}

    statuses = {"Enforced", "Ignored", "Retrying", "Failed"}
    assert not {name for name in looked_at - statuses if f'"{name}"' not in code}


@pytest.mark.parametrize("name", ["EvidenceDiffers", "RowsReplaced"])
def test_one_record_that_somebody_else_may_have_written_is_enough_for_a_page(name: str) -> None:
    alarm = ALARMS[name]

    assert (alarm["Namespace"], alarm["MetricName"]) == ("Joinguard", name)
    assert alarm["Dimensions"] == [{"Name": "service", "Value": {"Ref": "AttachPolicies"}}]
    assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == ("Sum", "GreaterThanThreshold", 0)
    assert (alarm["Period"], alarm["EvaluationPeriods"]) == (300, 1)
    body = json.loads(RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    [widget] = [each for each in body["widgets"] if each["properties"]["title"] == "Evidence written"]
    assert name in [metric[1] for metric in widget["properties"]["metrics"]]


def test_the_worker_reads_evidence_alone_and_replaces_rows_of_outcomes_alone() -> None:
    worker = [statement for role, statement in statements() if role == "AttachPoliciesRole"]
    [reads] = [each for each in worker if "s3:GetObject" in _listed(each["Action"])]
    [puts] = [each for each in worker if "dynamodb:PutItem" in _listed(each["Action"])]

    assert reads["Resource"] == {"Fn::Sub": "${Evidence.Arn}/evidence/*"}
    assert puts["Resource"] == {"Fn::GetAtt": ["Outcomes", "Arn"]}


def test_the_dashboard_is_valid_json() -> None:
    body = json.loads(RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])

    titles = [widget["properties"]["title"] for widget in body["widgets"]]
    assert len(titles) == len(set(titles)) >= 6


@pytest.mark.parametrize("bucket", BUCKETS)
def test_every_bucket_is_private_versioned_encrypted_and_reached_over_tls_only(bucket: str) -> None:
    told = BUCKETS[bucket]
    policies = [
        each["PolicyDocument"]["Statement"]
        for each in of_type("AWS::S3::BucketPolicy").values()
        if each["Bucket"] == {"Ref": bucket}
    ]

    assert set(told["PublicAccessBlockConfiguration"].values()) == {True}
    assert told["VersioningConfiguration"] == {"Status": "Enabled"}
    assert told["BucketEncryption"]
    [statements] = policies
    assert {
        "Sid": "OnlyOverTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [{"Fn::GetAtt": [bucket, "Arn"]}, {"Fn::Sub": f"${{{bucket}.Arn}}/*"}],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    } in statements


def test_every_queue_is_encrypted_and_reached_over_tls_only() -> None:
    guarded = [
        queue["Ref"]
        for policy in of_type("AWS::SQS::QueuePolicy").values()
        for queue in policy["Queues"]
        if any(each["Sid"] == "OnlyOverTls" for each in policy["PolicyDocument"]["Statement"])
    ]

    assert sorted(guarded) == sorted(of_type("AWS::SQS::Queue"))
    assert all(queue["SqsManagedSseEnabled"] is True for queue in of_type("AWS::SQS::Queue").values())


def test_only_the_joins_queue_may_leave_dead_letters() -> None:
    allowed = RESOURCES["DeadLetters"]["Properties"]["RedriveAllowPolicy"]

    assert allowed["redrivePermission"] == "byQueue"
    [source] = allowed["sourceQueueArns"]
    assert source["Fn::Sub"].endswith(f":{RESOURCES['Joins']['Properties']['QueueName']['Fn::Sub']}")


def test_records_environment_and_log_are_under_a_customer_key_that_rotates() -> None:
    key = {"Fn::GetAtt": ["DataKey", "Arn"]}

    assert RESOURCES["DataKey"]["Properties"]["EnableKeyRotation"] is True
    assert RESOURCES["Outcomes"]["Properties"]["SSESpecification"]["KMSMasterKeyId"] == key
    assert RESOURCES["AttachPolicies"]["Properties"]["KmsKeyArn"] == key
    assert RESOURCES["AttachPoliciesLogs"]["Properties"]["KmsKeyId"] == key
    [rule] = RESOURCES["Evidence"]["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {
        "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key},
        "BucketKeyEnabled": True,
    }


def test_the_table_can_be_brought_back_and_is_not_deleted_by_accident() -> None:
    table = RESOURCES["Outcomes"]["Properties"]

    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["DeletionProtectionEnabled"] == {"Ref": "DeletionProtection"}
    assert TEMPLATE["Parameters"]["DeletionProtection"]["Default"] == "true"
    assert table["BillingMode"] == "PAY_PER_REQUEST"


def test_small_evidence_moves_to_the_archive_too() -> None:
    lifecycle = RESOURCES["Evidence"]["Properties"]["LifecycleConfiguration"]

    assert lifecycle["TransitionDefaultMinimumObjectSize"] == "varies_by_storage_class"
    [move] = [rule["Transitions"] for rule in lifecycle["Rules"] if "Transitions" in rule]
    # Of the archives, only these two take objects below 128 KB by default.
    assert move[0]["StorageClass"] in {"GLACIER", "DEEP_ARCHIVE"}


def test_backups_which_hold_account_ids_go_when_their_lock_is_over() -> None:
    """A lock for as long is set by the tool; the default retention would be that of evidence, seven years."""
    [rule] = [
        rule
        for rule in RESOURCES["Evidence"]["Properties"]["LifecycleConfiguration"]["Rules"]
        if "ExpirationInDays" in rule
    ]

    assert (rule["Prefix"], rule["ExpirationInDays"]) == ("backups/", {"Ref": "BackupDays"})
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert TEMPLATE["Outputs"]["BackupDays"]["Value"] == {"Ref": "BackupDays"}
    assert TEMPLATE["Parameters"]["BackupDays"]["Default"] == 90


def test_the_trail_logs_management_events_everywhere_and_is_made_only_when_asked_for() -> None:
    trail = RESOURCES["Trail"]

    assert trail["Condition"] == "CreatesTrail"
    assert TEMPLATE["Parameters"]["CreateTrail"]["Default"] == "false"
    told = trail["Properties"]
    assert told["TrailName"] == {"Fn::Sub": "eventsTrail${NameSuffix}"}
    assert told["IsMultiRegionTrail"] is told["EnableLogFileValidation"] is told["IsLogging"] is True
    assert told["EventSelectors"] == [{"ReadWriteType": "All", "IncludeManagementEvents": True}]
    assert BUCKETS["TrailLogs"]["BucketName"]["Fn::Sub"].startswith("aws-cloudtrail-logs-")
    assert BUCKETS["TrailLogs"]["ObjectLockEnabled"] is True


@pytest.mark.parametrize(("resource", "name"), [("DenyCdnPurchase", "deny-cdn-purchase"), ("DenyLeave", "deny-leave")])
def test_policies_that_the_stack_makes_say_what_the_files_say_and_have_no_targets(resource: str, name: str) -> None:
    told = RESOURCES[resource]

    assert told["Condition"] == "CreatesPolicies"
    assert told["Properties"]["Content"] == json.loads((ROOT / "infra" / "policies" / f"{name}.json").read_text())
    assert "TargetIds" not in told["Properties"]


def test_names_that_others_rely_on() -> None:
    assert RESOURCES["MemberAccountInitialization"]["Properties"]["Name"]["Fn::Sub"] == (
        "MemberAccountInitialization${NameSuffix}"
    )
    function = RESOURCES["AttachPolicies"]["Properties"]
    assert function["FunctionName"]["Fn::Sub"] == "MemberAccountInitialization${NameSuffix}"
    assert function["Handler"] == "handlers.attach_policies.lambda_handler"
    assert (function["Runtime"], function["MemorySize"]) == ("python3.13", 512)
    assert TEMPLATE["Parameters"]["Architecture"]["Default"] == "arm64"


def test_the_forwarder_forwards_what_the_rule_matches() -> None:
    forwarder = load((ROOT / "infra" / "forwarder.yaml").read_text())["Resources"]["Forwarder"]["Properties"]
    rule = RESOURCES["MemberAccountInitialization"]["Properties"]

    assert forwarder["EventPattern"] == rule["EventPattern"]
    assert forwarder["Targets"][0]["DeadLetterConfig"]


def test_the_template_fits_into_one_request() -> None:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""
    assert len(without_comments(TEXT).encode()) <= 51_200
    assert len(dump(TEMPLATE).encode()) < 51_200
    assert load(without_comments(TEXT)) == TEMPLATE


@pytest.mark.parametrize("name", ["template.yaml", "forwarder.yaml"])
def test_every_resource_says_why_it_is_there(name: str) -> None:
    """Also what `make destroy` says of what it keeps."""
    text = (ROOT / "infra" / name).read_text()
    lines = text.splitlines()
    bare = [each for each in load(text)["Resources"] if not lines[lines.index(f"  {each}:") - 1].startswith("  #")]

    # One comment may stand above two resources that belong together.
    assert set(bare) <= {"DenyLeave"}


def test_who_looks_changes_nothing_and_who_acts_leaves_a_trace() -> None:
    reads, acts = (
        {action for name, each in statements() if name == role for action in _listed(each["Action"])}
        for role in ("OperatorReads", "OperatorActs")
    )

    assert not {each for each in reads if re.search("Send|Delete|Put|Start|Update|Attach|Detach", each)}
    assert reads < acts
    assert "s3:PutObject" in acts
    assert not {each for each in acts if each.startswith("organizations:") and "Attach" in each}
    # Browsing is what nearly each command begins with.
    assert {"sqs:ReceiveMessage", "cloudformation:DescribeStacks"} <= reads


def test_who_looks_does_not_see_backups_which_hold_account_ids() -> None:
    readable = {
        resource["Fn::Sub"]
        for role, each in statements()
        if role == "OperatorReads" and "s3:GetObject" in _listed(each["Action"])
        for resource in each["Resource"]
    }

    assert readable == {"${Evidence.Arn}/evidence/*", "${Evidence.Arn}/acts/*"}


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
