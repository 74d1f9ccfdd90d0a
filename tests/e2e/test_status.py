"""`make status` against the embedded AWS: each part of the path is broken once, and status says which.

The template is the real one, without the two alarms that the stand-in's CloudFormation rejects. The stand-in ignores
three properties, which `installed` sets by API. The function's code is empty, because nothing runs it.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import boto3
import pytest
from botocore.exceptions import WaiterError
from botocore.session import get_session
from click.testing import CliRunner

from handlers.aws.dynamodb_rows import row_of, serialize
from handlers.aws.dynamodb_sweep import STATE_KEY
from infra.deploy.__main__ import cli
from infra.deploy.build import ROOT
from infra.deploy.code import upload_template
from infra.deploy.health import checks
from infra.deploy.stages import Stage, Target
from infra.deploy.template import load
from infra.local.complete import for_stand_in
from infra.local.installation import create_policy
from infra.local.stand_in_policies import adapt_role_policy
from infra.local.standin import StandIn, running
from schemas.keys import REHEARSAL_ROW, checkpoint_key
from schemas.outcome import Outcome, OutcomeStatus, RehearsalHops
from schemas.sweep import SweepReport, SweepState

if TYPE_CHECKING:
    from pathlib import Path

    from infra.deploy.health import Check

DENY: Final = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "x:Y", "Resource": "*"}]}
STAGE: Final = Stage(name="truth", region="us-east-1")
FAR: Final = Stage(name="far", region="eu-central-1")
#: A template that is valid and small.
TOPIC: Final = json.dumps({"Resources": {"Pages": {"Type": "AWS::SNS::Topic"}}})
ANY_POLICY: Final = "arn:aws:iam::aws:policy/ReadOnlyAccess"
RULE: Final = "MemberAccountInitialization-truth"


@dataclass(repr=False)
class Installed:
    """An installed stage and clients of the management account."""

    aws: StandIn
    policy_id: str
    policy_arn: str
    organization: dict[str, str]
    ids: dict[str, str] = field(default_factory=dict)
    clients: dict[str, Any] = field(default_factory=dict)
    #: What faults changed, as it was before.
    kept: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        if service not in self.clients:
            self.clients[service] = self.session().client(service)  # type: ignore[call-overload]
        return self.clients[service]

    def session(self, **keys: str) -> boto3.Session:
        """Return a session whose requests claim TLS, since the stand-in has none and its queues require it."""
        core = get_session()
        core.register("before-sign", claim_tls)
        core.set_config_variable("region", "us-east-1")
        own = {"aws_access_key_id": self.aws.access_key_id, "aws_secret_access_key": self.aws.secret_access_key}
        return boto3.Session(botocore_session=core, **(keys or own))

    def deploy(self, stage: Stage, *, code_region: str = "") -> None:
        """Create a stage's stack from the working tree's template; it fails if its code is in another Region."""
        parameters = {
            "OrganizationId": self.organization["Id"],
            "ManagementAccountId": self.organization["MasterAccountId"],
            "PolicyIds": self.policy_id,
            # Several, as CloudFormation passes a list on.
            "PolicyArns": f"{self.policy_arn},{self.policy_arn}x",
            "CodeBucket": f"code-{code_region or stage.region}",
            "CodeKey": CODE_KEY,
            "NameSuffix": stage.suffix,
        }
        cloudformation = self.session().client("cloudformation", region_name=stage.region)
        template = for_stand_in((ROOT / "infra" / "template.yaml").read_text())
        owner = self.organization["MasterAccountId"]
        cloudformation.create_stack(
            StackName=stage.stack,
            TemplateURL=upload_template(self.client("s3"), "code-us-east-1", template, owner=owner),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        cloudformation.get_waiter("stack_create_complete").wait(StackName=stage.stack, WaiterConfig={"Delay": 1})

    def checks(self, stage: Stage = STAGE, keys: dict[str, str] | None = None) -> dict[str, Check]:
        return {check.what: check for check in checks(Target(self.session(**keys or {}), stage, 1))}

    def troubles(self) -> dict[str, str]:
        """Return what is not well, with what was found."""
        return {name: check.found for name, check in self.checks().items() if not check.well}


def claim_tls(**event: Any) -> None:
    event["request"].headers.add_header("X-Forwarded-Proto", "https")


def zipped(source: str) -> bytes:
    """Return a zip with one module, whose bytes depend on its source alone."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo("module.py"), source)
    return content.getvalue()


#: As `make deploy` names a zip.
CODE_KEY: Final = f"joinguard/{hashlib.sha256(zipped('')).hexdigest()}.zip"


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    with running() as aws, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", aws.endpoint)
        organization = aws.client("organizations").describe_organization()["Organization"]
        policy_id = create_policy(aws, "deny-x", DENY)
        policy = aws.client("organizations").describe_policy(PolicyId=policy_id)["Policy"]["PolicySummary"]
        found = Installed(aws, policy_id, policy["Arn"], organization)
        for region in (STAGE.region, FAR.region):
            s3 = found.session().client("s3", region_name=region)
            where = {} if region == STAGE.region else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            s3.create_bucket(Bucket=f"code-{region}", **where)  # type: ignore[arg-type]
            s3.put_object(Bucket=f"code-{region}", Key=CODE_KEY, Body=zipped(""))
        found.deploy(STAGE)
        resources = found.client("cloudformation").describe_stack_resources(StackName=STAGE.stack)["StackResources"]
        found.ids |= {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources}
        complete(found)
        yield found


def rehearsed(at: Installed, *, ago: timedelta = timedelta(), half: bool = False) -> None:
    """Write the row of the last rehearsal as the worker does; with `half`, as it is before its evidence is written."""
    moment = datetime.now(UTC) - ago
    account_id, event_id = REHEARSAL_ROW
    row = Outcome(
        account_id=account_id,
        event_id=event_id,
        event_name="Rehearsal",
        source="joinguard.rehearsal",
        status=OutcomeStatus.RETRYING if half else OutcomeStatus.IGNORED,
        attempts=1,
        event_time=moment - timedelta(seconds=2),
        received_at=moment,
        updated_at=moment,
        done_at=None if half else moment,
        rehearsal=RehearsalHops(
            event_id="x", queued_at=moment - timedelta(seconds=1), evidence_at=None if half else moment
        ),
    )
    item = {name: serialize(value) for name, value in row_of(row).items()}
    at.client("dynamodb").put_item(TableName=at.ids["Outcomes"], Item=item)


def forget_rehearsals(at: Installed) -> None:
    account_id, event_id = REHEARSAL_ROW
    key = {"account_id": {"S": account_id}, "event_id": {"S": event_id}}
    at.client("dynamodb").delete_item(TableName=at.ids["Outcomes"], Key=key)


def swept(at: Installed, *, ago: timedelta = timedelta(), **changes: Any) -> None:
    """Write the state of the sweep as it is after one that found everything covered."""
    moment = datetime.now(UTC) - ago
    values: dict[str, Any] = {
        "sweep_id": "0" * 32,
        "organization_id": at.organization["Id"],
        "guardrails": "0" * 64,
        "mode": "report",
        "begun_at": moment,
        "decided_at": moment,
        "members": 4,
        "covered": 4,
        "with_gaps": 0,
        "unclear": 0,
        "requested": 0,
    }
    state = SweepState(last=SweepReport(**values | changes), since=moment)
    item = {**STATE_KEY, "kept": {"S": state.model_dump_json(exclude_none=True)}}
    at.client("dynamodb").put_item(TableName=at.ids["Reconciliation"], Item=item)


def put_schedule(at: Installed, name: str = "Rehearsal", **changes: Any) -> None:
    client = at.client("scheduler")
    kept = keep(at, f"schedule {name}", lambda: client.get_schedule(Name=at.ids[name]))
    values = {name: kept[name] for name in ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target", "State")}
    client.update_schedule(**values | changes)


def complete(at: Installed) -> None:
    """Set what the stand-in's CloudFormation ignores, subscribe, rehearse, sweep, and create a trail that logs."""
    rehearsed(at)
    swept(at)
    at.client("s3").put_object(Bucket=at.ids["Evidence"], Key=checkpoint_key(0), Body=b"a checkpoint")
    key = at.client("kms").describe_key(KeyId=at.ids["DataKey"])["KeyMetadata"]
    for name in ("AttachPolicies", "Sweeper", "Sealer"):
        at.client("lambda").update_function_configuration(FunctionName=at.ids[name], KMSKeyArn=key["Arn"])
    lock(at)
    encrypt(at)
    expire(at)
    log_reads(at)
    announce(at)
    subscribe(at)
    for name in OPERATORS_POLICIES:
        put_operators_policy(at, name, adapt_role_policy(operators_policy(at, name), at.aws.access_key_id))
    at.client("s3").create_bucket(Bucket="trail")
    at.client("cloudtrail").create_trail(Name="all", S3BucketName="trail", IsMultiRegionTrail=True)
    at.client("cloudtrail").start_logging(Name="all")


#: The managed policies of the operators' roles.
OPERATORS_POLICIES: Final = ("OperatorsSee", "OperatorsRead", "OperatorsVerify")


def operators_policy(at: Installed, name: str) -> Any:
    iam, arn = at.client("iam"), at.ids[name]
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]


def put_operators_policy(at: Installed, name: str, document: Any) -> None:
    """Make a document the policy's default version, and delete the one before, since there may be five."""
    iam, arn = at.client("iam"), at.ids[name]
    before = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(document), SetAsDefault=True)
    iam.delete_policy_version(PolicyArn=arn, VersionId=before)


def lock(at: Installed, days: int = 2557) -> None:
    retention = {"Mode": "GOVERNANCE", "Days": days}
    at.client("s3").put_object_lock_configuration(
        Bucket=at.ids["Evidence"],
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}},
    )


def encrypt(at: Installed, key: str = "DataKey") -> None:
    arn = at.client("kms").describe_key(KeyId=at.ids[key])["KeyMetadata"]["Arn"]
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": arn}}
    at.client("s3").put_bucket_encryption(
        Bucket=at.ids["Evidence"], ServerSideEncryptionConfiguration={"Rules": [rule | {"BucketKeyEnabled": True}]}
    )


def expire(at: Installed, *more: Any, days: int = 2557) -> None:
    """Set the lifecycle rules of the template with the default parameters, and more of them."""

    def expiring(name: str, prefix: str, days: int) -> Any:
        noncurrent = {"NoncurrentVersionExpiration": {"NoncurrentDays": 1}}
        return {"ID": name, "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}, **noncurrent}

    rules = [
        expiring("rehearsals", "evidence/rehearsal/", days),
        expiring("backups", "backups/", 90),
        {
            "ID": "unfinished-uploads",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        },
        *more,
    ]
    at.client("s3").put_bucket_lifecycle_configuration(
        Bucket=at.ids["Evidence"],
        LifecycleConfiguration={"Rules": [each | {"Status": "Enabled"} for each in rules]},
    )


def log_reads(at: Installed, prefix: str = "evidence/") -> None:
    enabled = {"TargetBucket": at.ids["AccessLogs"], "TargetPrefix": prefix}
    at.client("s3").put_bucket_logging(Bucket=at.ids["Evidence"], BucketLoggingStatus={"LoggingEnabled": enabled})


def announce(at: Installed, **configuration: Any) -> None:
    """Let the bucket announce new objects to EventBridge, or whatever else is given."""
    at.client("s3").put_bucket_notification_configuration(
        Bucket=at.ids["Evidence"], NotificationConfiguration=configuration or {"EventBridgeConfiguration": {}}
    )


def replicate(at: Installed) -> None:
    rule = {"Status": "Enabled", "Prefix": "", "Destination": {"Bucket": f"arn:aws:s3:::{at.ids['AccessLogs']}"}}
    at.client("s3").put_bucket_replication(
        Bucket=at.ids["Evidence"],
        ReplicationConfiguration={"Role": "arn:aws:iam::111111111111:role/x", "Rules": [rule]},
    )


def subscribe(at: Installed) -> None:
    queue = at.client("sqs").get_queue_attributes(QueueUrl=at.ids["Undelivered"], AttributeNames=["QueueArn"])
    at.client("sns").subscribe(TopicArn=at.ids["Pages"], Protocol="sqs", Endpoint=queue["Attributes"]["QueueArn"])


def unsubscribe(at: Installed) -> None:
    for each in at.client("sns").list_subscriptions_by_topic(TopicArn=at.ids["Pages"])["Subscriptions"]:
        at.client("sns").unsubscribe(SubscriptionArn=each["SubscriptionArn"])


def test_an_untouched_installation_is_well_in_every_check(installed: Installed) -> None:
    assert installed.troubles() == {}
    assert set(installed.checks()) >= {
        "stack",
        "trail",
        "rule",
        "target",
        "schedule Rehearsal",
        "rehearsal",
        "rehearsals' role",
        "joins waiting",
        "repairs waiting",
        "policy of queue Repairs",
        "mapping of repairs",
        "dead letters",
        "undelivered",
        "policy of queue Joins",
        "policy of queue DeadLetters",
        "policy of queue Undelivered",
        "mapping",
        "function",
        "worker's role",
        "role OperatorReads",
        "role OperatorActs",
        "permissions boundary",
        "table Outcomes",
        "table Pace",
        "table Reconciliation",
        "bucket Evidence",
        "policy of bucket Evidence",
        "key PseudonymKey",
        "key DataKey",
        "policy of key PseudonymKey",
        "policy of key DataKey",
        "topic",
        "rule KeysAtRisk",
        "target of KeysAtRisk",
        "rule EvidenceAtRisk",
        "target of EvidenceAtRisk",
        "trail of KeysAtRisk",
        "trail of EvidenceAtRisk",
        "subscribers",
        "alarms",
        "pauses",
    }


@dataclass(frozen=True)
class Fault:
    """What somebody changed, what status reports, and how the test undoes it."""

    change: Callable[[Installed], object]
    undo: Callable[[Installed], object]
    what: str
    found: str
    step: str = "RUNBOOK.md#differs-from-the-template"


def keep(at: Installed, name: str, read: Callable[[], Any]) -> Any:
    """Return what the first call read, before any change."""
    if name not in at.kept:
        at.kept[name] = read()
    return at.kept[name]


def change_target(at: Installed, **changes: Any) -> None:
    [target] = keep(at, "targets", lambda: at.client("events").list_targets_by_rule(Rule=RULE)["Targets"])
    at.client("events").put_targets(Rule=RULE, Targets=[target | changes])


def remove_target(at: Installed) -> None:
    change_target(at)
    at.client("events").remove_targets(Rule=RULE, Ids=["joins"])


def put_rule(at: Installed, **changes: Any) -> None:
    rule = keep(at, "rule", lambda: at.client("events").describe_rule(Name=RULE))
    kept = {name: rule[name] for name in ("Name", "EventPattern", "State", "Description")}
    at.client("events").put_rule(**kept | changes)


def changed_pattern(at: Installed) -> None:
    rule = keep(at, "rule", lambda: at.client("events").describe_rule(Name=RULE))
    pattern = json.loads(rule["EventPattern"])
    pattern["detail"]["eventName"].remove("AcceptHandshake")
    put_rule(at, EventPattern=json.dumps(pattern))


def delete_rule(at: Installed) -> None:
    put_rule(at)
    remove_target(at)
    at.client("events").delete_rule(Name=RULE)


def restore_rule(at: Installed) -> None:
    put_rule(at)
    change_target(at)


def put_role_policy(at: Installed, removed_sid: str | None) -> None:
    """Put the worker's policy again, without one of its statements."""
    role, iam = {"RoleName": at.ids["AttachPoliciesRole"], "PolicyName": "attach-policies"}, at.client("iam")
    kept = keep(at, "role", lambda: iam.get_role_policy(**role)["PolicyDocument"])
    statements = [each for each in kept["Statement"] if each["Sid"] != removed_sid]
    iam.put_role_policy(**role, PolicyDocument=json.dumps(kept | {"Statement": statements}))


def delete_role_policy(at: Installed) -> None:
    put_role_policy(at, None)
    at.client("iam").delete_role_policy(RoleName=at.ids["AttachPoliciesRole"], PolicyName="attach-policies")


def attach_policy(at: Installed, role: str) -> None:
    at.client("iam").attach_role_policy(RoleName=at.ids[role], PolicyArn=ANY_POLICY)


def detach_policy(at: Installed, role: str) -> None:
    at.client("iam").detach_role_policy(RoleName=at.ids[role], PolicyArn=ANY_POLICY)


def queue_policy(at: Installed, queue: str, policy: str | None) -> None:
    url, sqs = at.ids[queue], at.client("sqs")
    kept = keep(at, queue, lambda: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]))
    value = kept["Attributes"]["Policy"] if policy is None else policy
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": value})


def opened_policy(at: Installed) -> None:
    queue_policy(at, "DeadLetters", None)
    document = json.loads(at.kept["DeadLetters"]["Attributes"]["Policy"])
    document["Statement"] = [each for each in document["Statement"] if each["Sid"] != "NobodyElseSends"]
    queue_policy(at, "DeadLetters", json.dumps(document))


def set_mapping(at: Installed, name: str = "AttachPoliciesMapping", **changes: Any) -> None:
    at.client("lambda").update_event_source_mapping(UUID=at.ids[name], **changes)


def configure(at: Installed, **changes: Any) -> None:
    at.client("lambda").update_function_configuration(FunctionName=at.ids["AttachPolicies"], **changes)


def replace_code(at: Installed, source: str) -> None:
    at.client("lambda").update_function_code(FunctionName=at.ids["AttachPolicies"], ZipFile=zipped(source))


def environment(at: Installed, **changes: str | None) -> None:
    name, client = at.ids["AttachPolicies"], at.client("lambda")
    kept = keep(at, "environment", lambda: client.get_function_configuration(FunctionName=name))
    variables = {**kept["Environment"]["Variables"], **changes}
    configure(at, Environment={"Variables": {key: value for key, value in variables.items() if value is not None}})


def alarm_ids(at: Installed) -> list[str]:
    cloudformation = at.client("cloudformation")
    resources = cloudformation.describe_stack_resources(StackName=STAGE.stack)["StackResources"]
    return [each["PhysicalResourceId"] for each in resources if each["ResourceType"] == "AWS::CloudWatch::Alarm"]


def kept_alarms(at: Installed) -> list[dict[str, Any]]:
    names = alarm_ids(at)
    found = keep(at, "alarms", lambda: at.client("cloudwatch").describe_alarms(AlarmNames=names)["MetricAlarms"])
    return list(found)


def put_alarms(at: Installed, **changes: Any) -> None:
    accepted = at.client("cloudwatch").meta.service_model.operation_model("PutMetricAlarm").input_shape.members
    for alarm in kept_alarms(at):
        values = {name: value for name, value in alarm.items() if name in accepted and value not in ("", [], None)}
        at.client("cloudwatch").put_metric_alarm(**values | changes)


def delete_alarms(at: Installed, number: int | None = None) -> None:
    kept_alarms(at)
    at.client("cloudwatch").delete_alarms(AlarmNames=alarm_ids(at)[:number])


def alarm_state(at: Installed, state: str) -> None:
    at.client("cloudwatch").set_alarm_state(AlarmName=at.ids["WorkerFails"], StateValue=state, StateReason="test")


def bucket_policy(at: Installed, sid: str | None) -> None:
    s3, bucket = at.client("s3"), at.ids["Evidence"]
    kept = keep(at, "bucket policy", lambda: s3.get_bucket_policy(Bucket=bucket)["Policy"])
    document = json.loads(kept)
    document["Statement"] = [each for each in document["Statement"] if each["Sid"] != sid]
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(document))


def delete_bucket_policy(at: Installed) -> None:
    bucket_policy(at, None)
    at.client("s3").delete_bucket_policy(Bucket=at.ids["Evidence"])


def enable_key(at: Installed, name: str) -> None:
    at.client("kms").cancel_key_deletion(KeyId=at.ids[name])
    at.client("kms").enable_key(KeyId=at.ids[name])


def key_policy(at: Installed, sid: str | None) -> None:
    """Put the key's policy again, without one of its statements."""
    kms, key = at.client("kms"), at.ids["DataKey"]
    kept = keep(at, "key policy", lambda: kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    document = json.loads(kept)
    document["Statement"] = [each for each in document["Statement"] if each["Sid"] != sid]
    kms.put_key_policy(KeyId=key, Policy=json.dumps(document))


def create_trail(at: Installed) -> None:
    at.client("cloudtrail").create_trail(Name="all", S3BucketName="trail", IsMultiRegionTrail=True)
    at.client("cloudtrail").start_logging(Name="all")


def selectors(at: Installed, **changes: Any) -> None:
    selector = {"ReadWriteType": "All", "IncludeManagementEvents": True} | changes
    at.client("cloudtrail").put_event_selectors(TrailName="all", EventSelectors=[selector])


def send_and_receive(at: Installed) -> None:
    url = at.ids["Undelivered"]
    queue_policy(at, "Undelivered", json.dumps({"Version": "2012-10-17", "Statement": []}))
    at.client("sqs").send_message(QueueUrl=url, MessageBody="x")
    queue_policy(at, "Undelivered", None)
    assert at.client("sqs").receive_message(QueueUrl=url, VisibilityTimeout=600)["Messages"]


TRAIL: Final = "RUNBOOK.md#no-trail"
KEY: Final = "RUNBOOK.md#key-at-risk"
EVIDENCE: Final = "RUNBOOK.md#evidence-at-risk"
NO_REHEARSALS: Final = "RUNBOOK.md#no-rehearsals"
SWEEP_TOO_OLD: Final = "RUNBOOK.md#sweep-too-old"
NOT_SEALED: Final = "RUNBOOK.md#not-sealed"
EVERYTHING: Final = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
FAULTS: Final[dict[str, Fault]] = {
    "the rule's target is removed": Fault(remove_target, change_target, "target", "has no target joins"),
    "the rule's target has another queue": Fault(
        lambda at: change_target(at, Arn="arn:aws:sqs:us-east-1:111111111111:other"), change_target, "target", "Arn is"
    ),
    "the target has no dead-letter queue": Fault(
        lambda at: change_target(at, DeadLetterConfig={}), change_target, "target", "DeadLetterConfig is"
    ),
    "the rule's pattern is changed": Fault(changed_pattern, put_rule, "rule", "the pattern was changed"),
    "the rule is disabled": Fault(
        lambda at: at.client("events").disable_rule(Name=RULE),
        lambda at: at.client("events").enable_rule(Name=RULE),
        "rule",
        "DISABLED",
    ),
    "the rule is deleted": Fault(delete_rule, restore_rule, "rule", "does not exist (ResourceNotFoundException)"),
    "the joins queue's policy is removed": Fault(
        lambda at: queue_policy(at, "Joins", ""),
        lambda at: queue_policy(at, "Joins", None),
        "policy of queue Joins",
        "there is no policy",
    ),
    "the dead letters' policy denies less": Fault(
        opened_policy,
        lambda at: queue_policy(at, "DeadLetters", None),
        "policy of queue DeadLetters",
        "lacks the statement NobodyElseSends",
    ),
    "an undelivered event is in flight": Fault(
        send_and_receive,
        lambda at: at.client("sqs").purge_queue(QueueUrl=at.ids["Undelivered"]),
        "undelivered",
        "1 (1 of them in flight)",
        "RUNBOOK.md#undelivered",
    ),
    "the mapping is disabled": Fault(
        lambda at: set_mapping(at, Enabled=False), lambda at: set_mapping(at, Enabled=True), "mapping", "Disabled"
    ),
    "the mapping has another batch size": Fault(
        lambda at: set_mapping(at, BatchSize=1), lambda at: set_mapping(at, BatchSize=5), "mapping", "BatchSize is 1"
    ),
    "the mapping of repairs is disabled": Fault(
        lambda at: set_mapping(at, "RepairsMapping", Enabled=False),
        lambda at: set_mapping(at, "RepairsMapping", Enabled=True),
        "mapping of repairs",
        "Disabled",
    ),
    "an environment variable is changed": Fault(
        lambda at: environment(at, POLICY_IDS="p-other123"), environment, "function", "variable POLICY_IDS was changed"
    ),
    "an environment variable is removed": Fault(
        lambda at: environment(at, POLICY_IDS=None), environment, "function", "variable POLICY_IDS is missing"
    ),
    "an environment variable is added": Fault(
        lambda at: environment(at, AWS_ENDPOINT_URL="http://x"), environment, "function", "is not in the template"
    ),
    "the function's timeout is changed": Fault(
        lambda at: configure(at, Timeout=3), lambda at: configure(at, Timeout=60), "function", "Timeout is 3, not 60"
    ),
    "the function's runtime is changed": Fault(
        lambda at: configure(at, Runtime="python3.12"),
        lambda at: configure(at, Runtime="python3.13"),
        "function",
        "Runtime is python3.12",
    ),
    "the function's code is replaced": Fault(
        lambda at: replace_code(at, "print('somebody else')"),
        lambda at: replace_code(at, ""),
        "function",
        "its code is not that of the zip that was deployed",
    ),
    "the bucket's retention is changed": Fault(
        lambda at: lock(at, days=1),
        lock,
        "bucket Evidence",
        "mode GOVERNANCE, 1 days, not GOVERNANCE, 2557 days",
        EVIDENCE,
    ),
    "the bucket no longer locks new objects": Fault(
        lambda at: at.client("s3").put_object_lock_configuration(
            Bucket=at.ids["Evidence"], ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
        ),
        lock,
        "bucket Evidence",
        "it does not lock new objects",
        EVIDENCE,
    ),
    "the bucket is encrypted with another key": Fault(
        lambda at: encrypt(at, "PseudonymKey"), encrypt, "bucket Evidence", "with another key", EVIDENCE
    ),
    "the bucket is not encrypted with a key of ours": Fault(
        lambda at: at.client("s3").delete_bucket_encryption(Bucket=at.ids["Evidence"]),
        encrypt,
        "bucket Evidence",
        "with another key",
        EVIDENCE,
    ),
    "the bucket deletes what it must keep": Fault(
        lambda at: expire(at, {"ID": "cleanup", "Filter": {"Prefix": "acts/"}, "Expiration": {"Days": 1}}),
        expire,
        "bucket Evidence",
        "it has another lifecycle rule cleanup",
        EVIDENCE,
    ),
    "a lifecycle rule of the bucket is changed": Fault(
        lambda at: expire(at, days=1),
        expire,
        "bucket Evidence",
        "its lifecycle rule rehearsals was changed",
        EVIDENCE,
    ),
    "the bucket has no lifecycle rules": Fault(
        lambda at: at.client("s3").delete_bucket_lifecycle(Bucket=at.ids["Evidence"]),
        expire,
        "bucket Evidence",
        "it lacks the lifecycle rule backups",
        EVIDENCE,
    ),
    "the bucket logs its reads elsewhere": Fault(
        lambda at: log_reads(at, "x/"), log_reads, "bucket Evidence", "it does not log who reads it", EVIDENCE
    ),
    "the bucket announces nothing": Fault(
        lambda at: announce(at, QueueConfigurations=[]),
        announce,
        "bucket Evidence",
        "it does not announce new objects to EventBridge",
        EVIDENCE,
    ),
    "the bucket is replicated": Fault(
        replicate,
        lambda at: at.client("s3").delete_bucket_replication(Bucket=at.ids["Evidence"]),
        "bucket Evidence",
        "it is replicated to another bucket",
        EVIDENCE,
    ),
    "the bucket's policy lets anybody write": Fault(
        lambda at: bucket_policy(at, "OnlyTheWorkersWriteEvidence"),
        lambda at: bucket_policy(at, None),
        "policy of bucket Evidence",
        "lacks the statement OnlyTheWorkersWriteEvidence",
        EVIDENCE,
    ),
    "the bucket's policy is removed": Fault(
        delete_bucket_policy,
        lambda at: bucket_policy(at, None),
        "policy of bucket Evidence",
        "there is no policy",
        EVIDENCE,
    ),
    "a key is about to be deleted": Fault(
        lambda at: at.client("kms").schedule_key_deletion(KeyId=at.ids["PseudonymKey"], PendingWindowInDays=7),
        lambda at: enable_key(at, "PseudonymKey"),
        "key PseudonymKey",
        "PendingDeletion, on",
        KEY,
    ),
    "a key is disabled": Fault(
        lambda at: at.client("kms").disable_key(KeyId=at.ids["PseudonymKey"]),
        lambda at: at.client("kms").enable_key(KeyId=at.ids["PseudonymKey"]),
        "key PseudonymKey",
        "Disabled",
        KEY,
    ),
    "a key does not rotate": Fault(
        lambda at: at.client("kms").disable_key_rotation(KeyId=at.ids["DataKey"]),
        lambda at: at.client("kms").enable_key_rotation(KeyId=at.ids["DataKey"]),
        "key DataKey",
        "its rotation is off",
        KEY,
    ),
    "a key's policy lets it be deleted": Fault(
        lambda at: key_policy(at, "NobodyEndsTheKey"),
        lambda at: key_policy(at, None),
        "policy of key DataKey",
        "the policy lacks the statement NobodyEndsTheKey",
        KEY,
    ),
    "the worker's role lost a statement": Fault(
        lambda at: put_role_policy(at, "AttachToAccounts"),
        lambda at: put_role_policy(at, None),
        "worker's role",
        "the policy lacks the statement AttachToAccounts",
    ),
    "the worker's role lost its policy": Fault(
        delete_role_policy, lambda at: put_role_policy(at, None), "worker's role", "lacks the policy"
    ),
    "the worker's role has another policy": Fault(
        lambda at: attach_policy(at, "AttachPoliciesRole"),
        lambda at: detach_policy(at, "AttachPoliciesRole"),
        "worker's role",
        f"it has another policy, {ANY_POLICY}",
    ),
    "an operator's role has another policy": Fault(
        lambda at: attach_policy(at, "OperatorReads"),
        lambda at: detach_policy(at, "OperatorReads"),
        "role OperatorReads",
        f"it has another policy, {ANY_POLICY}",
    ),
    "there is no trail": Fault(
        lambda at: at.client("cloudtrail").delete_trail(Name="all"), create_trail, "trail", "there is no trail", TRAIL
    ),
    "the trail does not log": Fault(
        lambda at: at.client("cloudtrail").stop_logging(Name="all"),
        lambda at: at.client("cloudtrail").start_logging(Name="all"),
        "trail",
        "trail all is not logging",
        TRAIL,
    ),
    "the trail logs no management events": Fault(
        lambda at: selectors(at, IncludeManagementEvents=False),
        selectors,
        "trail",
        "trail all does not log write management events",
        TRAIL,
    ),
    "the trail leaves out the events of the keys": Fault(
        lambda at: selectors(at, ExcludeManagementEventSources=["kms.amazonaws.com"]),
        selectors,
        "trail of KeysAtRisk",
        "trail all does not log write management events of KMS",
        TRAIL,
    ),
    "the trail logs only read events": Fault(
        lambda at: selectors(at, ReadWriteType="ReadOnly"),
        selectors,
        "trail",
        "trail all does not log write management events",
        TRAIL,
    ),
    "the rule that watches the keys is disabled": Fault(
        lambda at: at.client("events").disable_rule(Name=at.ids["KeysAtRisk"].rpartition("/")[2]),
        lambda at: at.client("events").enable_rule(Name=at.ids["KeysAtRisk"].rpartition("/")[2]),
        "rule KeysAtRisk",
        "DISABLED",
    ),
    "the rule that watches the evidence is disabled": Fault(
        lambda at: at.client("events").disable_rule(Name=at.ids["EvidenceAtRisk"].rpartition("/")[2]),
        lambda at: at.client("events").enable_rule(Name=at.ids["EvidenceAtRisk"].rpartition("/")[2]),
        "rule EvidenceAtRisk",
        "DISABLED",
    ),
    "the schedule of the rehearsals is changed": Fault(
        lambda at: put_schedule(at, ScheduleExpression="rate(1 day)"),
        put_schedule,
        "schedule Rehearsal",
        "ScheduleExpression is rate(1 day), not rate(15 minutes)",
    ),
    "the schedule of the sweep is changed": Fault(
        lambda at: put_schedule(at, "SweepSchedule", ScheduleExpression="rate(1 day)"),
        lambda at: put_schedule(at, "SweepSchedule"),
        "schedule SweepSchedule",
        "ScheduleExpression is rate(1 day), not rate(5 minutes)",
    ),
    "the schedule of the sealer is changed": Fault(
        lambda at: put_schedule(at, "SealSchedule", ScheduleExpression="rate(1 day)"),
        lambda at: put_schedule(at, "SealSchedule"),
        "schedule SealSchedule",
        "ScheduleExpression is rate(1 day), not rate(30 minutes)",
    ),
    "the rule that announces evidence is disabled": Fault(
        lambda at: at.client("events").disable_rule(Name=at.ids["EvidenceWritten"].rpartition("/")[2]),
        lambda at: at.client("events").enable_rule(Name=at.ids["EvidenceWritten"].rpartition("/")[2]),
        "rule EvidenceWritten",
        "DISABLED",
    ),
    "the key that signs checkpoints is disabled": Fault(
        lambda at: at.client("kms").disable_key(KeyId=at.ids["SealKey"]),
        lambda at: at.client("kms").enable_key(KeyId=at.ids["SealKey"]),
        "key SealKey",
        "Disabled",
        KEY,
    ),
    "the role of the sealer got another policy": Fault(
        lambda at: at.client("iam").put_role_policy(
            RoleName=at.ids["SealRole"], PolicyName="more", PolicyDocument=json.dumps(EVERYTHING)
        ),
        lambda at: at.client("iam").delete_role_policy(RoleName=at.ids["SealRole"], PolicyName="more"),
        "sealer's role",
        "it has another policy, more",
    ),
    "no checkpoint was signed": Fault(
        lambda at: at.client("s3").delete_object(Bucket=at.ids["Evidence"], Key=checkpoint_key(0)),
        lambda at: at.client("s3").put_object(Bucket=at.ids["Evidence"], Key=checkpoint_key(0), Body=b"a checkpoint"),
        "sealed log",
        "no checkpoint was signed yet",
        NOT_SEALED,
    ),
    "the last sweep is too old": Fault(
        lambda at: swept(at, ago=timedelta(hours=2)), swept, "sweep", "4 of 4 members covered", SWEEP_TOO_OLD
    ),
    "accounts lack policies, and nobody requests them": Fault(
        lambda at: swept(at, covered=1, with_gaps=3), swept, "sweep", "1 of 4 members covered, 3 with gaps", "coverage"
    ),
    "no rehearsal has come through": Fault(
        forget_rehearsals, rehearsed, "rehearsal", "no row of one can be read; the first begins within 15 minutes"
    ),
    "the last rehearsal is too old": Fault(
        lambda at: rehearsed(at, ago=timedelta(hours=1)),
        rehearsed,
        "rehearsal",
        "60 min ago: lost at the schedule, which is DISABLED",
    ),
    "the evidence of the last rehearsal was not written": Fault(
        lambda at: rehearsed(at, half=True), rehearsed, "rehearsal", "its evidence was not written", NO_REHEARSALS
    ),
    "nobody is subscribed": Fault(
        unsubscribe, subscribe, "subscribers", "nobody gets the page: 0 confirmed", "set AlarmEmail"
    ),
    "an alarm is on": Fault(
        lambda at: alarm_state(at, "ALARM"), lambda at: alarm_state(at, "OK"), "alarms", "1 of", "follow the rows below"
    ),
    "an alarm is deleted": Fault(
        lambda at: delete_alarms(at, 1), put_alarms, "alarms", ", 1 missing", "follow the rows below"
    ),
    "all alarms are deleted": Fault(delete_alarms, put_alarms, "alarms", "missing", "follow the rows below"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_status_reports_each_fault_and_its_next_step(installed: Installed, fault: Fault) -> None:
    fault.change(installed)
    try:
        found = installed.checks()
    finally:
        fault.undo(installed)

    check = found[fault.what]
    assert fault.found in check.found
    assert fault.step in check.next_step
    assert (check.well, check.exit_status) == (False, 1)
    assert len(found) >= len(installed.checks()), "the other checks go on"
    assert installed.troubles() == {}, "the test has undone its change"


def test_a_deleted_or_active_alarm_is_named(installed: Installed) -> None:
    deleted, *_ = alarm_ids(installed)
    delete_alarms(installed, 1)
    alarm_state(installed, "ALARM")
    try:
        found = installed.troubles()
    finally:
        put_alarms(installed)
        alarm_state(installed, "OK")

    assert found.pop("alarms").endswith("1 missing")
    assert found == {deleted: "was deleted", installed.ids["WorkerFails"]: "ALARM"}


def test_an_alarm_of_another_stage_is_not_reported(installed: Installed) -> None:
    name = f"{STAGE.stack}-two-WorkerFails"
    put_alarm = installed.client("cloudwatch").put_metric_alarm
    put_alarm(
        AlarmName=name,
        Namespace="x",
        MetricName="x",
        EvaluationPeriods=1,
        Period=60,
        Statistic="Sum",
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
    )
    installed.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="test")
    try:
        assert installed.troubles() == {}
    finally:
        installed.client("cloudwatch").delete_alarms(AlarmNames=[name])


def test_a_changed_alarm_is_reported(installed: Installed) -> None:
    put_alarms(installed, Threshold=1000)
    try:
        found = installed.troubles()
    finally:
        put_alarms(installed)

    assert all(text.startswith("Threshold is 1000.0, not ") for name, text in found.items() if name != "alarms")
    assert set(alarm_ids(installed)) == found.keys() - {"alarms"}


def pages(installed: Installed, rule: str, name: str, invoked_by: str | None = None, **more: Any) -> bool:
    """Return whether EventBridge matches a call with one of the rules that page. Only AWS can send such events."""
    events = installed.client("events")
    pattern = events.describe_rule(Name=installed.ids[rule].rpartition("/")[2])["EventPattern"]
    source = "kms" if rule == "KeysAtRisk" else "s3"
    identity = {"type": "AssumedRole", "arn": "arn:aws:sts::111111111111:assumed-role/Administrator/jane"}
    event = {
        "id": "1",
        "account": "111111111111",
        "time": "2026-11-25T00:00:00Z",
        "region": "us-east-1",
        "source": f"aws.{source}",
        "detail-type": "AWS API Call via CloudTrail",
        "resources": [],
        "detail": {
            "eventSource": f"{source}.amazonaws.com",
            "eventName": name,
            "userIdentity": identity | ({"invokedBy": invoked_by} if invoked_by else {}),
            **more,
        },
    }
    return bool(events.test_event_pattern(EventPattern=pattern, Event=json.dumps(event))["Result"])


CLOUDFORMATION: Final = "cloudformation.amazonaws.com"


@pytest.mark.parametrize("key", ["DataKey", "PseudonymKey"])
@pytest.mark.parametrize("call", ["DisableKey", "ScheduleKeyDeletion"])
def test_ending_one_of_our_keys_pages_whoever_does_it(installed: Installed, key: str, call: str) -> None:
    on = of_key(installed, key)

    assert pages(installed, "KeysAtRisk", call, **on)
    assert pages(installed, "KeysAtRisk", call, CLOUDFORMATION, **on)
    assert not pages(installed, "KeysAtRisk", call, **on, errorCode="AccessDenied")
    assert not pages(installed, "KeysAtRisk", call, **of_key(installed, "another"))


@pytest.mark.parametrize("key", ["DataKey", "PseudonymKey"])
def test_changing_who_may_use_one_of_our_keys_pages_unless_a_deployment_or_a_service_does_it(
    installed: Installed, key: str
) -> None:
    on = of_key(installed, key)

    assert pages(installed, "KeysAtRisk", "PutKeyPolicy", **on)
    assert not pages(installed, "KeysAtRisk", "PutKeyPolicy", CLOUDFORMATION, **on)
    assert pages(installed, "KeysAtRisk", "PutKeyPolicy", "states.amazonaws.com", **on)
    for call in ("CreateGrant", "RetireGrant", "RevokeGrant"):
        assert pages(installed, "KeysAtRisk", call, **on)
        assert not pages(installed, "KeysAtRisk", call, "dynamodb.amazonaws.com", **on)
    for harmless in ("CancelKeyDeletion", "EnableKey", "UpdateKeyDescription"):
        assert not pages(installed, "KeysAtRisk", harmless, **on)


def of_key(installed: Installed, key: str) -> dict[str, Any]:
    """Return how CloudTrail names the key of a call, also of one whose parameters do not name it."""
    arn = f"arn:aws:kms:us-east-1:{installed.organization['MasterAccountId']}:key/{installed.ids.get(key, key)}"
    return {"requestParameters": None, "resources": [{"ARN": arn, "type": "AWS::KMS::Key"}]}


@pytest.mark.parametrize(
    "call",
    [
        "DeleteBucketEncryption",
        "DeleteBucketLifecycle",
        "DeleteBucketPolicy",
        "DeleteBucketPublicAccessBlock",
        "PutBucketEncryption",
        "PutBucketLifecycle",
        "PutBucketLogging",
        "PutBucketNotification",
        "PutBucketObjectLockConfiguration",
        "PutBucketPolicy",
        "PutBucketReplication",
        "PutBucketVersioning",
    ],
)
def test_changing_what_protects_the_evidence_pages_unless_a_deployment_does_it(installed: Installed, call: str) -> None:
    ours, others = (of_bucket(name) for name in (installed.ids["Evidence"], "another"))

    assert pages(installed, "EvidenceAtRisk", call, **ours)
    assert pages(installed, "EvidenceAtRisk", call, "states.amazonaws.com", **ours)
    assert not pages(installed, "EvidenceAtRisk", call, CLOUDFORMATION, **ours)
    assert not pages(installed, "EvidenceAtRisk", call, **ours, errorCode="AccessDenied")
    assert not pages(installed, "EvidenceAtRisk", call, **others)
    assert not pages(installed, "EvidenceAtRisk", "PutBucketTagging", **ours)


def of_bucket(name: str) -> dict[str, Any]:
    """Return how CloudTrail names the bucket of a call."""
    return {"requestParameters": {"bucketName": name}}


def operator(installed: Installed, session: str = "night-shift") -> dict[str, str]:
    """Return credentials of the role OperatorReads."""
    arn = installed.client("iam").get_role(RoleName=installed.ids["OperatorReads"])["Role"]["Arn"]
    found = installed.client("sts").assume_role(RoleArn=arn, RoleSessionName=session)["Credentials"]
    return {
        "aws_access_key_id": found["AccessKeyId"],
        "aws_secret_access_key": found["SecretAccessKey"],
        "aws_session_token": found["SessionToken"],
    }


def test_the_role_operator_reads_may_read_every_part(installed: Installed) -> None:
    found = installed.checks(keys=operator(installed))

    assert without_age(found) == without_age(installed.checks())
    assert {name for name, check in found.items() if not check.well} == set()


def without_age(found: dict[str, Check]) -> dict[str, Check]:
    """Return the checks without those whose text says how long ago something was."""
    return {name: check for name, check in found.items() if name not in {"rehearsal", "sealed log"}}


#: Statements of the role for `make status`. The others are for the operators' tool, which has its own tests.
FOR_STATUS: Final = {
    "FindTheStack",
    "CheckRules",
    "CheckSchedules",
    "ReadPausesAndTheSweep",
    "CheckTheSweep",
    "CheckRolesOfTheSweep",
    "CountJoins",
    "CheckTheWorker",
    "CheckTables",
    "CheckTheBucket",
    "CheckKeys",
    "CountSubscribers",
    "ListAlarmsAndTrails",
    "CheckTrails",
    "CheckWhatTheWorkersMayDo",
    "CheckRoles",
    "CheckTheSealer",
    "CheckTheScheduleOfTheSealer",
    "CheckTheSealKey",
    "CheckTheIndex",
    "CheckRolesOfTheSealer",
    "CountAnnouncements",
}


def for_status() -> list[tuple[str, str]]:
    """Return each action with the policy that allows it."""
    resources = load((ROOT / "infra" / "template.yaml").read_text())["Resources"]
    listed = [
        (policy, each)
        for policy in OPERATORS_POLICIES
        for each in resources[policy]["Properties"]["PolicyDocument"]["Statement"]
        if each["Sid"] in FOR_STATUS
    ]
    assert {each["Sid"] for _, each in listed} == FOR_STATUS
    allowed = (
        (policy, action)
        for policy, each in listed
        for action in ([each["Action"]] if isinstance(each["Action"], str) else each["Action"])
    )
    # Several statements of a policy can allow an action.
    return [*dict.fromkeys(allowed)]


@pytest.mark.parametrize(("policy", "action"), for_status())
def test_without_any_single_action_status_says_what_it_cannot_read_and_goes_on(
    installed: Installed, policy: str, action: str
) -> None:
    everything = installed.checks(keys=operator(installed))
    document = operators_policy(installed, policy)
    less = json.loads(json.dumps(document))
    removed = {action, "lambda:ListEventSourceMappings"} if action == "lambda:GetEventSourceMapping" else {action}
    for statement in less["Statement"]:
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        statement["Action"] = [each for each in actions if each not in removed]
    less["Statement"] = [each for each in less["Statement"] if each["Action"]]
    put_operators_policy(installed, policy, less)
    try:
        found = installed.checks(keys=operator(installed))
    finally:
        put_operators_policy(installed, policy, document)

    unread = {name: check for name, check in found.items() if check.state == "unknown"}
    assert unread
    for check in unread.values():
        assert "is denied" in check.found
        assert "OperatorReads" in check.next_step
        assert check.exit_status == 1
    if not action.startswith("cloudformation:"):
        well = {name: check for name, check in without_age(found).items() if name in everything and check.well}
        assert {name: everything[name] for name in well} == well
        assert len(found) > len(everything) // 2


def test_without_a_stack_the_trail_is_still_checked(installed: Installed) -> None:
    found = installed.checks(Stage(name="nowhere", region="us-east-1"))

    assert found["stack"].found == "there is no stack joinguard-nowhere in us-east-1"
    assert found["stack"].next_step == "run `make deploy STAGE=nowhere`"
    assert found["trail"].well


def test_a_planned_stack_is_reported_in_its_own_words(installed: Installed) -> None:
    stage = Stage(name="planned", region="us-east-1")
    cloudformation = installed.client("cloudformation")
    cloudformation.create_change_set(
        StackName=stage.stack, ChangeSetName="first", ChangeSetType="CREATE", TemplateBody=TOPIC
    )
    try:
        found = installed.checks(stage)
    finally:
        cloudformation.delete_stack(StackName=stage.stack)

    assert found["stack"].found.startswith("REVIEW_IN_PROGRESS: it has only a change set that nobody executed")
    assert found["stack"].next_step == "run `make deploy STAGE=planned`"
    assert found["stack"].exit_status == 1
    assert found["trail"].well


def test_a_stack_whose_creation_failed_is_reported_in_its_own_words(installed: Installed) -> None:
    stage = Stage(name="failed", region="us-east-1")
    with pytest.raises(WaiterError):
        installed.deploy(stage, code_region=FAR.region)

    found = installed.checks(stage)

    assert found["stack"].found.startswith("ROLLBACK_COMPLETE: its creation failed, and what it had made was deleted")
    # `make deploy` deletes the empty stack itself.
    assert "describe-stack-events --stack-name joinguard-failed --region us-east-1" in found["stack"].next_step
    assert found["stack"].next_step.endswith("run `make deploy STAGE=failed`")
    assert found["trail"].well


def run(installed: Installed, *arguments: str, keys: dict[str, str] | None = None) -> Any:
    own = {"aws_access_key_id": installed.aws.access_key_id, "aws_secret_access_key": installed.aws.secret_access_key}
    environment = {name.upper(): value for name, value in (keys or own).items()}
    environment |= {"AWS_ENDPOINT_URL": installed.aws.endpoint, "COLUMNS": "200"}
    return CliRunner().invoke(cli, arguments, env=environment, catch_exceptions=False)


def test_the_role_operator_reads_may_read_the_log(installed: Installed, tmp_path: Path) -> None:
    stage, group = tmp_path / f"{STAGE.name}.yaml", installed.ids["AttachPoliciesLogs"]
    stage.write_text("region: us-east-1")
    now = int(datetime.now(UTC).timestamp() * 1000)
    installed.client("logs").create_log_stream(logGroupName=group, logStreamName="x")
    installed.client("logs").put_log_events(
        logGroupName=group, logStreamName="x", logEvents=[{"timestamp": now, "message": "a line"}]
    )
    keys = operator(installed)

    found = run(installed, "logs", "--stage", str(stage), keys=keys)
    assert (found.stdout, found.stderr) == ("a line\n", "")


def test_the_command_prints_every_check_and_exits_with_1(installed: Installed, tmp_path: Path) -> None:
    """Over plain HTTP the queues' policies deny the reads, which is a fault like any other."""
    stage = tmp_path / f"{STAGE.name}.yaml"
    stage.write_text("region: us-east-1")

    table, listed = (run(installed, "status", "--stage", str(stage), *more) for more in (["--all"], ["--json"]))

    assert (table.exit_code, listed.exit_code) == (1, 1)
    rows = {row["what"]: row for row in json.loads(listed.stdout)}
    assert rows["rule"] == {
        "what": "rule",
        "found": "ENABLED",
        "well": True,
        "next_step": "",
        "state": "ok",
        "needs_operator": False,
    }
    assert rows["dead letters"]["found"] == "cannot be read: GetQueueAttributes is denied"
    assert (rows["dead letters"]["well"], rows["dead letters"]["state"]) == (False, "unknown")
    for name in rows:
        assert name in table.stdout


def test_a_stage_in_another_region_needs_a_healthy_forwarder(installed: Installed) -> None:
    installed.deploy(FAR)
    missing = installed.checks(FAR)
    assert missing["forwarder"].found == "there is no stack joinguard-far-forwarder in us-east-1"
    assert missing["forwarder"].next_step == "run `make forwarder STAGE=far`"
    assert "rule" in missing

    cloudformation = installed.client("cloudformation")
    cloudformation.create_stack(
        StackName="joinguard-far-forwarder",
        TemplateBody=(ROOT / "infra" / "forwarder.yaml").read_text(),
        Parameters=[
            {
                "ParameterKey": "TargetBusArn",
                "ParameterValue": "arn:aws:events:eu-central-1:111111111111:event-bus/default",
            },
            {"ParameterKey": "NameSuffix", "ParameterValue": "-far"},
        ],
        Capabilities=["CAPABILITY_IAM"],
    )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName="joinguard-far-forwarder", WaiterConfig={"Delay": 1}
    )
    names = {"forwarder", "forwarder's rule", "forwarder's target", "unforwarded", "policy of queue Unforwarded"}
    names |= {"forwarder's topic", "forwarder's alarms", "forwarder's pattern"}
    well = installed.checks(FAR)
    assert {name: well[name].found for name in names if not well[name].well} == {}
    assert well["forwarder's subscribers"].found == "nobody gets the page: 0 confirmed"
    assert well["forwarder's subscribers"].exit_status == 1
    assert "`make forwarder`" in well["forwarder's subscribers"].next_step
    quiet = installed.client("cloudwatch").describe_alarms(AlarmNamePrefix="joinguard-far-forwarder")["MetricAlarms"]
    installed.client("cloudwatch").disable_alarm_actions(AlarmNames=[quiet[0]["AlarmName"]])
    assert installed.checks(FAR)[quiet[0]["AlarmName"]].found == "its actions are disabled"

    events, rule = installed.client("events"), "MemberAccountInitializationForwarder-far"
    events.disable_rule(Name=rule)
    [target] = events.list_targets_by_rule(Rule=rule)["Targets"]
    events.remove_targets(Rule=rule, Ids=[target["Id"]])
    broken = installed.checks(FAR)
    assert broken["forwarder's rule"].found == "DISABLED"
    assert broken["forwarder's target"].found == "the rule has no target main-stack"
    assert broken["forwarder's rule"].exit_status == 1
