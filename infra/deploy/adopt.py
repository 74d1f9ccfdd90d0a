"""Find what an earlier stack kept and what exists under our names, and adopt it by CloudFormation import.

A new stack is made in two steps then: an import of only these resources, which changes nothing, and an update to the
whole template. https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/import-resources.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from infra.deploy.stack import DeployError, events, find
from infra.deploy.template import dump

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping

    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import ResourceToImportTypeDef

    from infra.deploy.preflight import Account
    from infra.deploy.stages import Stage, Target

POLICY: Final = "AWS::Organizations::Policy"
_BUCKET: Final = "AWS::S3::Bucket"
_BUCKET_POLICY: Final = "AWS::S3::BucketPolicy"
#: The property by which CloudFormation imports a resource of each type that we keep.
IDENTIFIERS: Final[Mapping[str, str]] = {
    POLICY: "Id",
    _BUCKET: "BucketName",
    _BUCKET_POLICY: "Bucket",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::KMS::Key": "KeyId",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::SQS::Queue": "QueueUrl",
}
#: Kept, but not imported: creating a queue policy replaces the one that its queues have.
CREATED_AGAIN: Final = frozenset({"AWS::SQS::QueuePolicy"})
#: The property with the fixed name of each type of ours, and of what these names are unique in.
NAMES: Final[Mapping[str, str]] = {
    POLICY: "Name",
    _BUCKET: "BucketName",
    "AWS::CloudTrail::Trail": "TrailName",
    "AWS::Events::Rule": "Name",
    "AWS::Glue::Database": "DatabaseName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::SQS::Queue": "QueueName",
}
#: Creating these replaces what has the name, and the name contains the stack's.
REPLACED: Final[Mapping[str, str]] = {
    "AWS::CloudWatch::CompositeAlarm": "AlarmName",
    "AWS::CloudWatch::Dashboard": "DashboardName",
}
_MISSING: Final = frozenset(
    {
        "404",
        "AWS.SimpleQueueService.NonExistentQueue",
        "EntityNotFoundException",
        "NoSuchBucket",
        "NoSuchBucketPolicy",
        "NotFound",
        "NotFoundException",
        "PolicyNotFoundException",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
        "TrailNotFoundException",
    }
)


@dataclass(frozen=True)
class Adoptions:
    """Resources that a new stack takes over: logical ids with physical ids, and the bucket policies as they are."""

    ids: Mapping[str, str] = field(default_factory=dict)
    bucket_policies: Mapping[str, Any] = field(default_factory=dict)
    #: What an earlier stack kept and a new one makes anew, because it is gone or its key cannot be used.
    unusable: tuple[str, ...] = ()

    def imports(self, template: Mapping[str, Any]) -> tuple[ResourceToImportTypeDef, ...]:
        """Return what a change set of the type IMPORT names."""
        types = {name: template["Resources"][name]["Type"] for name in self.ids}
        return tuple(
            {
                "LogicalResourceId": name,
                "ResourceType": types[name],
                "ResourceIdentifier": {IDENTIFIERS[types[name]]: self.ids[name]},
            }
            for name in self.ids
        )

    def template(self, whole: Mapping[str, Any]) -> str:
        """Return a template of only these resources, without properties that refer to others.

        An import may create nothing, and its template may have no new outputs. It does not change the resources;
        the update after it sets the properties that are left out.
        """
        others = set(whole["Resources"]) - set(self.ids)
        resources = {}
        for name in self.ids:
            each = dict(whole["Resources"][name])
            properties = each.get("Properties", {})
            if name in self.bucket_policies:
                properties = {**properties, "PolicyDocument": self.bucket_policies[name]}
            each["Properties"] = {key: value for key, value in properties.items() if not references(value) & others}
            each.pop("DependsOn", None)
            resources[name] = each
        rest = {key: value for key, value in whole.items() if key not in {"Outputs", "Resources"}}
        return dump({**rest, "Resources": resources})


def references(value: Any) -> set[str]:
    """Return every name that a template's value refers to."""
    if isinstance(value, list):
        return set().union(*map(references, value))
    if not isinstance(value, dict):
        return set()
    if set(value) == {"Ref"}:
        return {value["Ref"]}
    if set(value) == {"Fn::GetAtt"}:
        return {value["Fn::GetAtt"][0]}
    if set(value) == {"Fn::Sub"}:
        sub = value["Fn::Sub"]
        text, variables = sub if isinstance(sub, list) else (sub, {})
        names = {each.partition(".")[0] for each in re.findall(r"\${([^!}]+)}", text)}
        return (names - set(variables)) | references(list(variables.values()))
    return set().union(*map(references, value.values()))


def is_kept(resource: Mapping[str, Any]) -> bool:
    """Return whether a template's resource remains when its stack is deleted."""
    return str(resource.get("DeletionPolicy", "")).startswith("Retain")


def is_created(resource: Mapping[str, Any], stage: Stage) -> bool:
    """Return whether a stage's parameters make the stack create a resource."""
    conditions = {
        "CreatesGlueTables": stage.parameters.get("CreateGlueTables") == "true",
        "CreatesPolicies": stage.creates_policies,
        "CreatesTrail": stage.parameters.get("CreateTrail") == "true",
        "Removes": stage.removes,
    }
    return conditions.get(resource.get("Condition", ""), True)


def find_adoptions(target: Target, account: Account, template: Mapping[str, Any], *, fresh: bool) -> Adoptions:
    """Return what a new stack adopts: what the last stack of this name kept, and what exists under fixed names of ours.

    With `fresh`, only the latter, without which the new stack could not be created.
    """
    resources = template["Resources"]
    kept = {} if fresh else dict(_kept(target, resources))
    ids = {
        name: kept_id
        for name, (resource_type, kept_id) in kept.items()
        if _usable(target, account, resource_type, kept_id)
    }
    unusable = tuple(name for name in resources if name in kept.keys() - ids.keys())
    ids |= {name: taken for name, _, taken in _taken(target, account, template) if isinstance(taken, str)}
    documents = {}
    for name, each in resources.items():
        # The id of a bucket's policy is the bucket's name.
        bucket = ids.get(each["Properties"]["Bucket"]["Ref"]) if each["Type"] == _BUCKET_POLICY else None
        document = _bucket_policy(target, account, bucket) if bucket else None
        if bucket and document:
            ids[name], documents[name] = bucket, document
    # In the template's order.
    return Adoptions({name: ids[name] for name in resources if name in ids}, documents, unusable)


def clashes(target: Target, account: Account, template: Mapping[str, Any]) -> Iterator[str]:
    """Yield each of our fixed names that something else has, with the next step."""
    stage, cloudformation = target.stage, target.client("cloudformation")
    stack = find(cloudformation, stage.stack)
    exists = stack is not None and stack.meaning.step not in {"replace", "create"}
    ours = set(_ours(cloudformation, stage.stack)) if exists else set()
    for _, resource_type, taken in _taken(target, account, template, ours):
        if isinstance(taken, Clash):
            yield taken.problem
        elif resource_type == POLICY and exists:
            yield (
                f"the organization has the policy {taken}, which stack {stage.stack} would create, and CloudFormation "
                'imports policies only into a new stack. Set CreatePolicies to "false" and add '
                f"{taken} to PolicyIds in the stage"
            )
        elif resource_type == _BUCKET and exists:
            yield (
                f"bucket {taken} exists and is not in stack {stage.stack}, which would create it. Import it "
                f'(aws cloudformation create-change-set --change-set-type IMPORT), or set CreateTrail to "false"'
            )


@dataclass(frozen=True)
class Clash:
    """A name of ours that something else has."""

    problem: str


def fixed_names(template: Mapping[str, Any], stage: Stage, account: Account) -> Iterator[tuple[str, str, str]]:
    """Yield the resources that the stage creates under a fixed name: logical id, type, and name."""
    values = {
        "NameSuffix": stage.suffix,
        "AWS::StackName": stage.stack,
        "AWS::AccountId": account.account_id,
        "AWS::Region": stage.region,
        "AWS::Partition": account.partition,
    }
    for name, each in template["Resources"].items():
        declared = each.get("Properties", {}).get(NAMES.get(each["Type"], ""))
        if declared is None or not is_created(each, stage):
            continue
        yield name, each["Type"], _text(declared, values)


def _text(declared: Any, values: Mapping[str, str]) -> str:
    """Return the text of a fixed name, which is plain, or in one of the forms that the template uses."""
    if isinstance(declared, str):
        return declared
    if "Fn::Join" in declared:
        new, split = declared["Fn::Join"]
        old, inner = split["Fn::Split"]
        return _text(inner, values).replace(old, new)
    return re.sub(r"\${([^}]+)}", lambda match: values[match[1]], declared["Fn::Sub"])


def _taken(
    target: Target, account: Account, template: Mapping[str, Any], ours: Container[str] = ()
) -> Iterator[tuple[str, str, str | Clash]]:
    """Yield each fixed name that is taken: logical id, type, and the id of what can be adopted, or the clash.

    Leaves out the resources that the stack has, `ours`.
    """
    names = [each for each in fixed_names(template, target.stage, account) if each[0] not in ours]
    wanted = {name for _, resource_type, name in names if resource_type == POLICY}
    policies = dict(_policies(target, wanted)) if wanted else {}
    for logical_id, resource_type, name in names:
        taken: str | Clash | None = None
        if resource_type == POLICY:
            content = template["Resources"][logical_id]["Properties"]["Content"]
            taken = _policy_taken(target, name, policies.get(name), content)
        elif resource_type == _BUCKET:
            taken = _bucket_taken(target, account, name)
        elif _exists(target, resource_type, name):
            taken = Clash(
                f"there is already a resource {name} ({resource_type}), and it is not in stack {target.stage.stack}. "
                "Delete it if nobody needs it, or deploy from a stage file with another name"
            )
        if taken is not None:
            yield logical_id, resource_type, taken


def _policies(target: Target, names: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the organization's SCPs with these names and their ids. Names are unique in an organization."""
    paginator = target.client("organizations").get_paginator("list_policies")
    for page in paginator.paginate(Filter="SERVICE_CONTROL_POLICY"):
        yield from ((each["Name"], each["Id"]) for each in page["Policies"] if each["Name"] in names)


def _policy_taken(target: Target, name: str, policy_id: str | None, content: Any) -> str | Clash | None:
    if policy_id is None:
        return None
    actual = target.client("organizations").describe_policy(PolicyId=policy_id)["Policy"]["Content"]
    if json.loads(actual) == content:
        return policy_id
    return Clash(
        f"the organization has a policy {name} ({policy_id}) with other content than infra/policies/. If it is ours, "
        f"restore its content (aws organizations update-policy --policy-id {policy_id} --content file://…); if not, "
        f'rename it (--name), or set CreatePolicies to "false" and PolicyIds to the policies to attach'
    )


def _bucket_taken(target: Target, account: Account, name: str) -> str | Clash | None:
    try:
        target.client("s3").head_bucket(Bucket=name, ExpectedBucketOwner=account.account_id)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _MISSING:
            return None
        if code in {"403", "AccessDenied", "Forbidden"}:
            return Clash(
                f"bucket {name} is another account's, or its policy denies access. Deploy from a stage file with "
                'another name, or set CreateTrail to "false"'
            )
        raise
    return name


def _ours(cloudformation: CloudFormationClient, stack: str) -> Iterator[str]:
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack):
        yield from (each["LogicalResourceId"] for each in page["StackResourceSummaries"])


def _kept(target: Target, resources: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield what deleted stacks of this name kept: logical id, type and physical id.

    CloudFormation knows a deleted stack's events for 90 days.
    """
    seen = set()
    cloudformation = target.client("cloudformation")
    for stack_id in _deleted(cloudformation, target.stage.stack):
        for event in events(cloudformation, stack_id):
            name, kept_id = event.get("LogicalResourceId", ""), event.get("PhysicalResourceId", "")
            if event.get("ResourceStatus") != "DELETE_SKIPPED" or name in seen or not kept_id:
                continue
            # What a later stack kept is newer.
            seen.add(name)
            resource_type = resources.get(name, {}).get("Type")
            if resource_type != event.get("ResourceType") or not is_kept(resources[name]):
                continue
            if not is_created(resources[name], target.stage):
                continue
            if resource_type not in {POLICY, _BUCKET_POLICY} | CREATED_AGAIN:
                yield name, (resource_type, kept_id)


def _deleted(cloudformation: CloudFormationClient, stack: str) -> list[str]:
    """Return the ids of deleted stacks of this name, the last deleted first."""
    pages = cloudformation.get_paginator("list_stacks").paginate(StackStatusFilter=["DELETE_COMPLETE"])
    found = [each for page in pages for each in page["StackSummaries"] if each["StackName"] == stack]
    found.sort(key=lambda each: each.get("DeletionTime", each["CreationTime"]), reverse=True)
    return [each["StackId"] for each in found]


def _usable(target: Target, account: Account, resource_type: str, resource_id: str) -> bool:
    """Return whether a kept resource still exists and can be used, which its key decides, too.

    A new stack that adopts a table, bucket or log group whose key is about to be deleted sets a new key, but this does
    not encrypt anew what they hold: nobody could read it, and DynamoDB does not even change such a table's key.
    """
    looks: Mapping[str, Callable[[], bool]] = {
        _BUCKET: lambda: _key_works(target, _key_of_bucket(target, account, resource_id)),
        "AWS::DynamoDB::Table": lambda: _table_works(target, resource_id),
        "AWS::KMS::Key": lambda: _key_works(target, resource_id),
        "AWS::Logs::LogGroup": lambda: any(
            each["logGroupName"] == resource_id and _key_works(target, each.get("kmsKeyId"))
            for each in target.client("logs").describe_log_groups(logGroupNamePrefix=resource_id)["logGroups"]
        ),
        "AWS::SQS::Queue": lambda: bool(
            target.client("sqs").get_queue_attributes(QueueUrl=resource_id, AttributeNames=["QueueArn"])
        ),
    }
    return _found(looks[resource_type])


def _key_works(target: Target, key: str | None) -> bool:
    """Return whether a key can be used; None is one of AWS's own keys, which always can."""
    return key is None or target.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"


def _table_works(target: Target, name: str) -> bool:
    # DynamoDB notices after a while that it cannot use a table's key, so the status is not enough.
    table = target.client("dynamodb").describe_table(TableName=name)["Table"]
    return table["TableStatus"] == "ACTIVE" and _key_works(
        target, table.get("SSEDescription", {}).get("KMSMasterKeyArn")
    )


def _key_of_bucket(target: Target, account: Account, bucket: str) -> str | None:
    """Return the key that a bucket encrypts new objects with; None if it is one of AWS's own."""
    s3, owner = target.client("s3"), account.account_id
    s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=owner)
    try:
        found = s3.get_bucket_encryption(Bucket=bucket, ExpectedBucketOwner=owner)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ServerSideEncryptionConfigurationNotFoundError":
            return None
        raise
    rules = found["ServerSideEncryptionConfiguration"]["Rules"]
    return next((each.get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID") for each in rules), None)


def _exists(target: Target, resource_type: str, name: str) -> bool:
    """Return whether the account and Region have a resource of this name."""
    looks: Mapping[str, Callable[[], bool]] = {
        "AWS::CloudTrail::Trail": lambda: bool(
            target.client("cloudtrail").describe_trails(trailNameList=[name])["trailList"]
        ),
        "AWS::Events::Rule": lambda: bool(target.client("events").describe_rule(Name=name)),
        "AWS::Glue::Database": lambda: bool(target.client("glue").get_database(Name=name)),
        "AWS::Lambda::Function": lambda: bool(target.client("lambda").get_function(FunctionName=name)),
        "AWS::SQS::Queue": lambda: bool(target.client("sqs").get_queue_url(QueueName=name)),
    }
    return _found(looks[resource_type])


def _found(look: Callable[[], bool]) -> bool:
    try:
        return look()
    except ClientError as error:
        if error.response["Error"]["Code"] in _MISSING:
            return False
        raise


def _bucket_policy(target: Target, account: Account, bucket: str) -> Any:
    """Return the document of a bucket's policy, or None if it has none."""
    try:
        found = target.client("s3").get_bucket_policy(Bucket=bucket, ExpectedBucketOwner=account.account_id)
    except ClientError as error:
        if error.response["Error"]["Code"] in _MISSING:
            return None
        raise DeployError(
            f"cannot read the policy of bucket {bucket}, which an earlier stack kept: {error}. Deploy with permission "
            "for s3:GetBucketPolicy, or make new resources (make deploy ARGS=--fresh)"
        ) from error
    return json.loads(found["Policy"])
