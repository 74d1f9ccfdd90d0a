"""Check what keeps the records: the tables, the evidence bucket's lock and policy, the keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from handlers.operate.installation import former_keys
from infra.deploy.health.check import Check, compared
from infra.deploy.health.difference import matches, policy_differences, property_differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.deploy.health.deployed import Deployed

#: S3's codes for a bucket that lacks the setting.
_UNSET: Final = frozenset(
    {
        "NoSuchBucketPolicy",
        "NoSuchPublicAccessBlockConfiguration",
        "ObjectLockConfigurationNotFoundError",
        "ObjectLockConfigurationNotFound",
    }
)
_WORKING_TABLE: Final = frozenset({"ACTIVE", "UPDATING"})


def table(dynamodb: Any, stack: Deployed, name: str) -> Iterator[Check]:
    """Check that a table is active and as declared."""
    declared = stack.properties(name)
    actual = dynamodb.describe_table(TableName=stack.id(name))["Table"]
    differences = [*property_differences(declared, actual, ("KeySchema",))]
    if actual["TableStatus"] not in _WORKING_TABLE:
        differences.insert(0, actual["TableStatus"])
    wanted = str(declared.get("DeletionProtectionEnabled", "false")).lower()
    if wanted == "true" and not actual.get("DeletionProtectionEnabled"):
        differences.append("it is not protected from deletion")
    indexes = {each["IndexName"] for each in actual.get("GlobalSecondaryIndexes", [])}
    missing = [each["IndexName"] for each in declared.get("GlobalSecondaryIndexes", [])]
    differences += [f"it lacks the index {each}" for each in missing if each not in indexes]
    yield compared(f"table {name}", actual["TableStatus"], differences)


def bucket(s3: Any, stack: Deployed, name: str) -> Iterator[Check]:
    """Check a bucket's Object Lock, versioning and public access block."""
    declared, physical = stack.properties(name), stack.id(name)
    owned = {"Bucket": physical, "ExpectedBucketOwner": stack.account}
    differences: list[str] = []
    found = "versioned"
    if versioning := declared.get("VersioningConfiguration"):
        status = s3.get_bucket_versioning(**owned).get("Status")
        if status != versioning["Status"]:
            differences.append(f"versioning is {status or 'off'}")
    if lock := declared.get("ObjectLockConfiguration"):
        actual = _read(lambda: s3.get_object_lock_configuration(**owned)["ObjectLockConfiguration"]) or {}
        retention, wanted = actual.get("Rule", {}).get("DefaultRetention"), lock["Rule"]["DefaultRetention"]
        found = f"{wanted['Mode']}, {wanted['Days']} days"
        if actual.get("ObjectLockEnabled") != "Enabled" or not retention:
            differences.append("it does not lock new objects")
        elif not matches(wanted, retention):
            differences.append(
                f"it locks new objects in mode {retention.get('Mode')}, {_period(retention)}, not {found}"
            )
    if block := declared.get("PublicAccessBlockConfiguration"):
        actual = _read(lambda: s3.get_public_access_block(**owned)["PublicAccessBlockConfiguration"]) or {}
        differences += [f"{each} is off" for each, on in block.items() if on and not actual.get(each)]
    yield compared(f"bucket {name}", found, differences)


def bucket_policy(s3: Any, stack: Deployed, name: str) -> Iterator[Check]:
    """Compare a bucket's policy with the declared one."""
    bucket_name = stack.declaration(name)["Properties"]["Bucket"]["Ref"]
    owned = {"Bucket": stack.id(bucket_name), "ExpectedBucketOwner": stack.account}
    actual = _read(lambda: s3.get_bucket_policy(**owned)["Policy"])
    differences = policy_differences(stack.properties(name)["PolicyDocument"], actual)
    yield compared(f"policy of bucket {bucket_name}", "as in the template", differences)


def key(kms: Any, stack: Deployed, name: str) -> Iterator[Check]:
    """Check that a key is enabled and that its policy is as declared."""
    metadata = kms.describe_key(KeyId=stack.id(name))["KeyMetadata"]
    state = metadata["KeyState"]
    differences = []
    if state == "PendingDeletion":
        differences.append(f"PendingDeletion, on {metadata.get('DeletionDate', 'an unknown date')}")
    elif state != "Enabled":
        differences.append(state)
    yield compared(f"key {name}", state, differences, next_step="handlers/operate/RUNBOOK.md#key-at-risk")
    policy = json.loads(kms.get_key_policy(KeyId=stack.id(name), PolicyName="default")["Policy"])
    changed = [*policy_differences(stack.properties(name)["KeyPolicy"], json.dumps(policy))]
    if changed:
        yield compared(f"policy of key {name}", "", changed)


def pseudonym_keys(kms: Any, stack: Deployed) -> Iterator[Check]:
    """Check that the key that the stack derives pseudonyms from is enabled, and show the state of former keys.

    A former key may be deleted: then nobody can link the pseudonyms that it made any more.
    """
    named = stack.parameters.get("PseudonymKeyArn", "")
    if named:
        state = _state(kms, named)
        differences = [state] if state != "Enabled" else []
        yield compared("pseudonym key", state, differences, next_step="handlers/operate/RUNBOOK.md#key-at-risk")
    for each in former_keys(stack.parameters):
        state = _state(kms, each)
        found = f"{each.rpartition('/')[2]}: {state}"
        yield Check("former pseudonym key", found, "ok", always_shown=state != "Enabled")


def _state(kms: Any, arn: str) -> str:
    try:
        return str(kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"])
    except kms.exceptions.NotFoundException:
        return "deleted"


def _read(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or None if S3 answers that the bucket lacks the setting."""
    try:
        return call()
    except ClientError as error:
        if error.response["Error"]["Code"] in _UNSET:
            return None
        raise


def _period(retention: dict[str, Any]) -> str:
    return f"{retention['Years']} years" if "Years" in retention else f"{retention.get('Days')} days"
