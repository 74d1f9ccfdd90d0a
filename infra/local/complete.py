"""Bring the embedded AWS to what the template says, and say what it cannot show.

The stand-in (ministack 1.5.33) reports CREATE_COMPLETE although it drops some properties. Here, in one
place: what it dropped is set by API, what matters is read back, and `NOT_CHECKED` names the rest.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final

from infra.deploy.template import dump, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from infra.local.standin import StandIn

#: What no run in the embedded AWS can show; the template's own tests hold what the template says of it.
NOT_CHECKED: Final = (
    (
        "EventBridge's own delivery: it takes no aws.* event from anybody but AWS, so events are put on the queue "
        "as EventBridge would put them, and the rule's pattern is asked whether it matches"
    ),
    "the retries and the dead-letter queue of the rule's target, and that only the rule may send to the queue",
    "TLS only: the stand-in speaks plain HTTP, so these statements are taken out of its policies",
    "that the evidence bucket refuses to write without If-None-Match: the stand-in does not know that condition",
    "encryption at rest, point-in-time recovery of the table, retention of the log: accepted and not kept",
    "the function's memory, its architecture and its Python version: it runs on the interpreter that runs this",
    "the composite alarm and the alarm on missing evidence: left out, the stand-in's CloudFormation refuses them",
    (
        "which accounts and policies the role may name: the stand-in checks every call to Organizations against one "
        "made-up ARN, so that ARN is added to the resources in the role's statements; the actions are enforced"
    ),
    "about whose permissions an operator may ask IAM: the stand-in checks that against no role",
    "batch calls to SQS: the stand-in asks for actions of their own, which are added to the roles",
    "throttles, conflicting changes and the limit of ten policies in Organizations, and the effect of an SCP",
)


class IncompleteError(Exception):
    """Something that matters is not as the template says, even after completing it."""


#: What the stand-in's CloudFormation refuses a template for.
_UNKNOWN_TYPES: Final = frozenset({"AWS::CloudWatch::CompositeAlarm"})
_BATCHED: Final = frozenset({"sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:SendMessage"})
_NO_METRIC_MATH: Final = frozenset({"NoEvidence"})


def understood(template: str) -> str:
    """Return the template without what the stand-in's CloudFormation cannot read."""
    loaded = load(template)
    loaded["Resources"] = {
        name: each
        for name, each in loaded["Resources"].items()
        if each["Type"] not in _UNKNOWN_TYPES and name not in _NO_METRIC_MATH
    }
    return dump(loaded)


def complete(aws: StandIn, stack: str) -> None:
    """Complete and verify a deployed stack; raise IncompleteError naming each difference."""
    cloudformation = aws.client("cloudformation")
    resources = {
        each["LogicalResourceId"]: each["PhysicalResourceId"]
        for each in cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
    }
    parameters = {
        each["ParameterKey"]: each["ParameterValue"]
        for each in cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Parameters"]
    }
    template = load(cloudformation.get_template(StackName=stack)["TemplateBody"])
    told = {name: resource.get("Properties", {}) for name, resource in template["Resources"].items()}
    made: dict[str, list[str]] = {}
    for name, physical_id in resources.items():
        made.setdefault(template["Resources"][name]["Type"], []).append(physical_id)
    _speak_plainly(aws, made["AWS::SQS::Queue"], made["AWS::S3::Bucket"])
    _lock(aws, resources["Evidence"], parameters)
    for role in made["AWS::IAM::Role"]:
        _allow_in_its_words(aws, role)
    differences = [
        f"{what} is {found!r}, not {wanted!r}"
        for what, wanted, found in _read_back(aws, resources, parameters, told)
        if wanted != found
    ]
    if differences:
        message = f"the embedded AWS differs from the template: {'; '.join(differences)}"
        raise IncompleteError(message)


def _speak_plainly(aws: StandIn, queues: Iterable[str], buckets: Iterable[str]) -> None:
    """Take the TLS-only statements out, as one who comes over TLS (the header says so)."""
    sqs, s3 = (_over_tls(aws.client(service)) for service in ("sqs", "s3"))
    for queue in queues:
        policy = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])["Attributes"]["Policy"]
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": _fulfillable(policy)})
    for bucket in buckets:
        s3.put_bucket_policy(Bucket=bucket, Policy=_fulfillable(s3.get_bucket_policy(Bucket=bucket)["Policy"]))


def _over_tls(client: Any) -> Any:  # noqa: ANN401 - any client
    def say_so(request: Any, **_: object) -> None:  # noqa: ANN401 - botocore's own
        request.headers.add_header("X-Forwarded-Proto", "https")

    client.meta.events.register("before-sign", say_so)
    return client


def _fulfillable(policy: str) -> str:
    """Take out what the stand-in cannot fulfil: it has no TLS, and does not know the condition on If-None-Match."""
    document = json.loads(policy)
    foreign = {"OnlyOverTls", "EachKeyIsWrittenOnce"}
    document["Statement"] = [each for each in document["Statement"] if each.get("Sid") not in foreign]
    return json.dumps(document)


def _allow_in_its_words(aws: StandIn, role: str) -> None:
    """Say a role's permissions as the stand-in asks for them.

    It checks every call to Organizations against one made-up ARN, the policy simulator against none, and asks for
    batch actions of SQS by names that AWS does not have. What AWS asks for stays.
    """
    iam = aws.client("iam")
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        words = json.dumps(_in_its_words(document, aws.access_key_id))
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=words)
    for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = attached["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        words = json.dumps(_in_its_words(document, aws.access_key_id))
        if words != json.dumps(document):
            iam.create_policy_version(PolicyArn=arn, PolicyDocument=words, SetAsDefault=True)


def _in_its_words(document: Any, account_id: str) -> Any:  # noqa: ANN401 - a policy document
    made_up = f"arn:aws:organizations::{account_id}:organization/*"
    changed = copy.deepcopy(document)
    for statement in changed["Statement"]:
        actions, resources = _listed(statement["Action"]), _listed(statement["Resource"])
        if all(action.startswith("organizations:") for action in actions) and made_up not in resources:
            statement["Resource"] = [*resources, made_up]
        if actions == ["iam:SimulatePrincipalPolicy"]:
            statement["Resource"] = "*"
        if batches := [f"{action}Batch" for action in actions if action in _BATCHED]:
            statement["Action"] = [*actions, *(each for each in batches if each not in actions)]
    return changed


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _lock(aws: StandIn, bucket: str, parameters: Mapping[str, str]) -> None:
    """Set the default retention, which the stand-in's CloudFormation drops."""
    aws.client("s3").put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": _retention(parameters)}},
    )


def _retention(parameters: Mapping[str, str]) -> dict[str, Any]:
    return {"Mode": parameters["RetentionMode"], "Days": int(parameters["RetentionDays"])}


def _read_back(
    aws: StandIn, resources: Mapping[str, str], parameters: Mapping[str, str], told: Mapping[str, Any]
) -> Iterator[tuple[str, object, object]]:
    """Yield what matters, as the template says it and as it is."""
    for queue in ("Joins", "DeadLetters", "Undelivered"):
        is_ = aws.client("sqs").get_queue_attributes(QueueUrl=resources[queue], AttributeNames=["All"])["Attributes"]
        for name in ("VisibilityTimeout", "MessageRetentionPeriod"):
            if name in told[queue]:
                yield f"{queue}.{name}", told[queue][name], int(is_[name])
        if "RedrivePolicy" in told[queue]:
            wanted = told[queue]["RedrivePolicy"]["maxReceiveCount"]
            yield f"{queue}.maxReceiveCount", wanted, int(json.loads(is_["RedrivePolicy"])["maxReceiveCount"])

    mapping = aws.client("lambda").get_event_source_mapping(UUID=resources["AttachPoliciesMapping"])
    for name in ("BatchSize", "FunctionResponseTypes", "ScalingConfig"):
        yield f"AttachPoliciesMapping.{name}", told["AttachPoliciesMapping"][name], mapping.get(name)

    function = aws.client("lambda").get_function_configuration(FunctionName=resources["AttachPolicies"])
    for name in ("Handler", "Timeout"):
        yield f"AttachPolicies.{name}", told["AttachPolicies"][name], function[name]
    variables = told["AttachPolicies"]["Environment"]["Variables"]
    yield "AttachPolicies.Environment", sorted(variables), sorted(function["Environment"]["Variables"])

    events = aws.client("events")
    rule = resources["MemberAccountInitialization"].rpartition("/")[2]
    wanted, target = told["MemberAccountInitialization"], events.list_targets_by_rule(Rule=rule)["Targets"][0]
    yield "the rule's pattern", wanted["EventPattern"], json.loads(events.describe_rule(Name=rule)["EventPattern"])
    yield "the rule's retries", wanted["Targets"][0]["RetryPolicy"], target.get("RetryPolicy")

    s3, bucket = aws.client("s3"), resources["Evidence"]
    lock = s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    yield "Evidence's retention", _retention(parameters), lock["Rule"]["DefaultRetention"]
    yield "Evidence's versioning", "Enabled", s3.get_bucket_versioning(Bucket=bucket).get("Status")

    table = aws.client("dynamodb").describe_table(TableName=resources["Outcomes"])["Table"]
    yield "Outcomes.KeySchema", told["Outcomes"]["KeySchema"], table["KeySchema"]
    indexes = [each["IndexName"] for each in table.get("GlobalSecondaryIndexes", [])]
    yield "Outcomes' indexes", [each["IndexName"] for each in told["Outcomes"]["GlobalSecondaryIndexes"]], indexes
