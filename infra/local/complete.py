"""Bring the embedded AWS to what the template says, and say what it cannot show.

The stand-in (ministack 1.5.33) reports CREATE_COMPLETE although it drops some properties. Here, in one
place: what it dropped is set by API, what matters is read back, and `NOT_CHECKED` names the rest.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from infra.deploy.template import dump, load
from infra.local.words import of_a_resource, of_a_role

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from infra.local.standin import StandIn

#: What no run in the embedded AWS can show; the template's own tests hold what the template says of it.
NOT_CHECKED: Final = (
    (
        "EventBridge's own delivery: it takes no aws.* event from anybody but AWS, so events are put on the queue "
        "as EventBridge would put them, and the rule's pattern is asked whether it matches"
    ),
    "the retries and the dead-letter queue of the rule's target, and that the rule itself may send to the queues",
    (
        "that nobody else may send to the queues or write records holds here for users and roles; the keys that are "
        "printed here, which are the root user's, are excepted, so that events can be put on the queues by hand"
    ),
    (
        "whose session may do so is compared by the name of the session's role, which AWS compares by the role's ARN; "
        "so each session is excepted beside its role"
    ),
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
    # botocore reads a template that is JSON, as `understood` writes it.
    template = cloudformation.get_template(StackName=stack)["TemplateBody"]
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
        raise IncompleteError(f"the embedded AWS differs from the template: {'; '.join(differences)}")


def _speak_plainly(aws: StandIn, queues: Iterable[str], buckets: Iterable[str]) -> None:
    """Take what cannot be fulfilled out of the policies, as one who comes over TLS (the header says so)."""
    sqs, s3 = (_over_tls(aws.client(service)) for service in ("sqs", "s3"))
    for queue in queues:
        policy = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])["Attributes"]["Policy"]
        words = json.dumps(of_a_resource(json.loads(policy), aws.access_key_id))
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": words})
    for bucket in buckets:
        policy = s3.get_bucket_policy(Bucket=bucket)["Policy"]
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(of_a_resource(json.loads(policy), aws.access_key_id)))


def _over_tls(client: Any) -> Any:
    def say_so(request: Any, **_: object) -> None:
        request.headers.add_header("X-Forwarded-Proto", "https")

    client.meta.events.register("before-sign", say_so)
    return client


def _allow_in_its_words(aws: StandIn, role: str) -> None:
    """Say a role's permissions as the stand-in asks for them."""
    iam = aws.client("iam")
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        words = json.dumps(of_a_role(document, aws.access_key_id))
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=words)
    for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = attached["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        words = json.dumps(of_a_role(document, aws.access_key_id))
        if words != json.dumps(document):
            iam.create_policy_version(PolicyArn=arn, PolicyDocument=words, SetAsDefault=True)


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

    yield from _queue_policies(aws, resources, told)

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


def _queue_policies(
    aws: StandIn, resources: Mapping[str, str], told: Mapping[str, Any]
) -> Iterator[tuple[str, object, object]]:
    """Yield whom each queue's policy refuses, as the template says it in the stand-in's words, and as it is."""
    arns = _arns(aws, resources)
    for policy in ("JoinsPolicy", "DeadLettersPolicy"):
        document = of_a_resource(_resolved(told[policy]["PolicyDocument"], arns), aws.access_key_id)
        for queue in told[policy]["Queues"]:
            url = resources[queue["Ref"]]
            is_ = aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
            yield f"{queue['Ref']}'s policy", _refused(document), _refused(json.loads(is_["Policy"]))


def _arns(aws: StandIn, resources: Mapping[str, str]) -> dict[str, str]:
    """Return the ARNs of what the queues' policies name, by logical id."""
    sqs, iam, events = (aws.client(service) for service in ("sqs", "iam", "events"))
    found = {
        queue: sqs.get_queue_attributes(QueueUrl=resources[queue], AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        for queue in ("Joins", "DeadLetters", "Undelivered")
    }
    found |= {
        role: iam.get_role(RoleName=resources[role])["Role"]["Arn"] for role in ("AttachPoliciesRole", "OperatorActs")
    }
    rule = resources["MemberAccountInitialization"].rpartition("/")[2]
    return found | {"MemberAccountInitialization": events.describe_rule(Name=rule)["Arn"]}


def _resolved(value: Any, arns: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_resolved(each, arns) for each in value]
    if not isinstance(value, dict):
        return value
    if "Fn::GetAtt" in value:
        return arns[value["Fn::GetAtt"][0]]
    return {name: _resolved(each, arns) for name, each in value.items()}


def _refused(document: Mapping[str, Any]) -> list[Any]:
    return [each for each in document["Statement"] if each["Effect"] == "Deny"]
