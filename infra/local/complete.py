"""Complete a stack in the AWS stand-in, and compare it with the template.

The stand-in (ministack 1.5.33) reports CREATE_COMPLETE although it ignores some properties. This module sets the
ignored properties by API, then reads back the properties that matter. `NOT_CHECKED` lists the rest.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from infra.deploy.health.deployed import read_contents, read_stack
from infra.deploy.template import dump, load
from infra.local.comparison import Comparison, default_retention
from infra.local.stand_in_policies import adapt_resource_policy, adapt_role_policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from infra.local.standin import StandIn

#: What a local run cannot show. Tests of the template cover what the template declares about it.
NOT_CHECKED: Final = (
    (
        "delivery of AWS's own events: only AWS can send aws.* events, so they are sent to the queue in the form that "
        "EventBridge would send, and EventBridge's test call checks that the rule's pattern matches them; a rehearsal "
        "passes the bus, the rule and its target"
    ),
    "retries and the dead-letter queue of the rule's target, and that the rule itself may send to the queues",
    (
        "the denial of other senders and writers of records, for the root user: its keys, printed here, are excepted "
        "so that you can send events to the queues; for users and roles it is enforced"
    ),
    (
        "exceptions by role ARN: the stand-in compares aws:PrincipalArn with a session's ARN, where AWS compares it "
        "with the role's, so each role's sessions are excepted too"
    ),
    "TLS only: the stand-in serves plain HTTP, so these statements are removed from its policies",
    "that the evidence bucket refuses writes without If-None-Match: the stand-in ignores that condition key",
    "encryption at rest, point-in-time recovery of the table, log retention: accepted and ignored",
    "the function's memory, architecture and Python version: it runs on this machine's interpreter",
    "the composite alarm and alarms with metric math: removed, the stand-in's CloudFormation rejects them",
    (
        "which accounts and policies the worker's role may use: the stand-in checks every Organizations call against "
        "one invented ARN, which is added to the role's statements; the actions are enforced"
    ),
    "which event source mapping and rules an operator may read: the stand-in checks other actions and ARNs",
    "whose permissions an operator may simulate in IAM: the stand-in does not check the resource",
    (
        "the schedules: disabled, because the stand-in runs them at any moment, and puts events of another source than "
        "the template says"
    ),
    "which events a role may put on the bus: the stand-in knows neither their source nor their detail type",
    "SQS batch calls: the stand-in checks actions of its own, which are added to the roles",
    "throttling, conflicting changes and the limit of ten policies in Organizations, and the effect of an SCP",
    "that disabling service control policies detaches them from all accounts",
    "drift: the stand-in's CloudFormation cannot compare resources with the template, so `make revert-drift` fails",
    (
        "`make status` of a local run finds what was adapted for the stand-in: policies of queues, the bucket, keys "
        "and roles"
    ),
)


class IncompleteError(Exception):
    """A completed stack still differs from the template in a property that matters."""


#: What makes the stand-in's CloudFormation reject a template, as metric math does.
_UNKNOWN_TYPES: Final = frozenset({"AWS::CloudWatch::CompositeAlarm"})


def for_stand_in(template: str) -> str:
    """Return the template without what the stand-in's CloudFormation rejects, and with its schedules disabled.

    The stand-in would run them at any moment of a test or of an example.
    """
    loaded = load(template)
    for each in loaded["Resources"].values():
        if each["Type"] == "AWS::Scheduler::Schedule":
            each["Properties"]["State"] = "DISABLED"
    loaded["Resources"] = {
        name: each
        for name, each in loaded["Resources"].items()
        # Alarms with metric math.
        if each["Type"] not in _UNKNOWN_TYPES and "Metrics" not in each.get("Properties", {})
    }
    return dump(loaded)


def complete(aws: StandIn, stack: str) -> None:
    """Complete and verify a deployed stack; raise IncompleteError naming each difference."""
    cloudformation = aws.client("cloudformation")
    deployed = read_contents(cloudformation, read_stack(cloudformation, stack))
    ids_by_type: dict[str, list[str]] = {}
    for name, physical_id in deployed.ids.items():
        ids_by_type.setdefault(deployed.declaration(name)["Type"], []).append(physical_id)
    _adapt_resource_policies(aws, ids_by_type["AWS::SQS::Queue"], ids_by_type["AWS::S3::Bucket"])
    _adapt_key_policies(aws, ids_by_type["AWS::KMS::Key"])
    _set_retention(aws, deployed.id("Evidence"), deployed.parameters)
    for role in ids_by_type["AWS::IAM::Role"]:
        _adapt_role_policies(aws, role)
    differences = [
        f"{what} is {actual!r}, not {expected!r}"
        for what, expected, actual in Comparison(aws, deployed).results()
        if expected != actual
    ]
    if differences:
        raise IncompleteError(f"the embedded AWS differs from the template: {'; '.join(differences)}")


def _adapt_resource_policies(aws: StandIn, queues: Iterable[str], buckets: Iterable[str]) -> None:
    """Adapt queue and bucket policies, through clients that claim TLS because the policies still require it."""
    sqs, s3 = (_claiming_tls(aws.client(service)) for service in ("sqs", "s3"))
    for queue in queues:
        policy = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])["Attributes"]["Policy"]
        adapted = json.dumps(adapt_resource_policy(json.loads(policy), aws.access_key_id))
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": adapted})
    for bucket in buckets:
        policy = s3.get_bucket_policy(Bucket=bucket)["Policy"]
        adapted = json.dumps(adapt_resource_policy(json.loads(policy), aws.access_key_id))
        s3.put_bucket_policy(Bucket=bucket, Policy=adapted)


def _adapt_key_policies(aws: StandIn, keys: Iterable[str]) -> None:
    kms = aws.client("kms")
    for key in keys:
        policy = kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]
        adapted = json.dumps(adapt_resource_policy(json.loads(policy), aws.access_key_id))
        kms.put_key_policy(KeyId=key, PolicyName="default", Policy=adapted)


def _claiming_tls(client: Any) -> Any:
    def add_header(request: Any, **_: object) -> None:
        request.headers.add_header("X-Forwarded-Proto", "https")

    client.meta.events.register("before-sign", add_header)
    return client


def _adapt_role_policies(aws: StandIn, role: str) -> None:
    """Adapt a role's inline and attached policies."""
    iam = aws.client("iam")
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        adapted = json.dumps(adapt_role_policy(document, aws.access_key_id))
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=adapted)
    for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = attached["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        adapted = json.dumps(adapt_role_policy(document, aws.access_key_id))
        if adapted != json.dumps(document):
            iam.create_policy_version(PolicyArn=arn, PolicyDocument=adapted, SetAsDefault=True)
            # A policy can have five versions, and each deployment makes one.
            for each in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
                if not each["IsDefaultVersion"]:
                    iam.delete_policy_version(PolicyArn=arn, VersionId=each["VersionId"])


def _set_retention(aws: StandIn, bucket: str, parameters: Mapping[str, str]) -> None:
    """Set the bucket's default retention, which the stand-in's CloudFormation ignores."""
    aws.client("s3").put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": default_retention(parameters)},
        },
    )
