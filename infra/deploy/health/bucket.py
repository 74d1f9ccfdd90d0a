"""Check what protects the evidence bucket: its lock, its policy, and the settings beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from infra.deploy.health.check import Check, compared
from infra.deploy.health.difference import matches, policy_differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from infra.deploy.health.deployed import Deployed

EVIDENCE_AT_RISK: Final = "handlers/operate/RUNBOOK.md#evidence-at-risk"
#: S3's codes for a bucket that lacks the setting.
_UNSET: Final = frozenset(
    {
        "NoSuchBucketPolicy",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "ObjectLockConfigurationNotFound",
        "ObjectLockConfigurationNotFoundError",
        "ReplicationConfigurationNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)
#: CloudFormation's names of what a lifecycle rule does, with those of S3's API.
_ACTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "ExpirationInDays": ("Expiration", "Days"),
    "NoncurrentVersionExpiration": ("NoncurrentVersionExpiration", "NoncurrentDays"),
    "AbortIncompleteMultipartUpload": ("AbortIncompleteMultipartUpload", "DaysAfterInitiation"),
}


def bucket(s3: Any, stack: Deployed, name: str) -> Iterator[Check]:
    """Compare the settings of a bucket that the template declares, and report a replication that it does not."""
    declared = stack.properties(name)
    owned = {"Bucket": stack.id(name), "ExpectedBucketOwner": stack.account}
    compare = {
        "VersioningConfiguration": _versioning,
        "ObjectLockConfiguration": _lock,
        "PublicAccessBlockConfiguration": _public_access,
        "BucketEncryption": _encryption,
        "LifecycleConfiguration": _lifecycle,
        "LoggingConfiguration": _logging,
        "NotificationConfiguration": _notifications,
    }
    differences = [
        difference
        for setting, find in compare.items()
        if setting in declared
        for difference in find(s3, owned, declared[setting])
    ]
    if _read(lambda: s3.get_bucket_replication(**owned)):
        differences.append("it is replicated to another bucket")
    retention = declared.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention")
    found = f"{retention['Mode']}, {retention['Days']} days" if retention else "versioned"
    yield compared(f"bucket {name}", found, differences, next_step=EVIDENCE_AT_RISK)


def bucket_policy(s3: Any, stack: Deployed, name: str) -> Iterator[Check]:
    """Compare a bucket's policy with the declared one."""
    bucket_name = stack.declaration(name)["Properties"]["Bucket"]["Ref"]
    owned = {"Bucket": stack.id(bucket_name), "ExpectedBucketOwner": stack.account}
    actual = _read(lambda: s3.get_bucket_policy(**owned)["Policy"])
    differences = policy_differences(stack.properties(name)["PolicyDocument"], actual)
    yield compared(f"policy of bucket {bucket_name}", "as in the template", differences, next_step=EVIDENCE_AT_RISK)


def _versioning(s3: Any, owned: Any, declared: Any) -> Iterator[str]:
    status = s3.get_bucket_versioning(**owned).get("Status")
    if status != declared["Status"]:
        yield f"versioning is {status or 'off'}"


def _lock(s3: Any, owned: Any, declared: Any) -> Iterator[str]:
    actual = _read(lambda: s3.get_object_lock_configuration(**owned)["ObjectLockConfiguration"]) or {}
    retention, wanted = actual.get("Rule", {}).get("DefaultRetention"), declared["Rule"]["DefaultRetention"]
    if actual.get("ObjectLockEnabled") != "Enabled" or not retention:
        yield "it does not lock new objects"
    elif not matches(wanted, retention):
        mode, period = retention.get("Mode"), _period(retention)
        yield f"it locks new objects in mode {mode}, {period}, not {wanted['Mode']}, {wanted['Days']} days"


def _public_access(s3: Any, owned: Any, declared: Any) -> Iterator[str]:
    actual = _read(lambda: s3.get_public_access_block(**owned)["PublicAccessBlockConfiguration"]) or {}
    yield from (f"{each} is off" for each, on in declared.items() if on and not actual.get(each))


def _encryption(s3: Any, owned: Any, declared: Any) -> Iterator[str]:
    actual = _read(lambda: s3.get_bucket_encryption(**owned)["ServerSideEncryptionConfiguration"]["Rules"])
    [wanted] = declared["ServerSideEncryptionConfiguration"]
    key = [each.get("ApplyServerSideEncryptionByDefault") for each in actual or []]
    if key != [wanted["ServerSideEncryptionByDefault"]]:
        yield "it encrypts new objects with another key"


def _lifecycle(s3: Any, owned: Any, declared: Any) -> Iterator[str]:
    actual = {
        each["ID"]: _as_declared(each)
        for each in _read(lambda: s3.get_bucket_lifecycle_configuration(**owned)["Rules"]) or []
    }
    wanted = {each["Id"]: each for each in declared["Rules"]}
    yield from (f"it lacks the lifecycle rule {each}" for each in wanted.keys() - actual.keys())
    yield from (f"it has another lifecycle rule {each}" for each in actual.keys() - wanted.keys())
    for each in wanted.keys() & actual.keys():
        rule = {"Prefix": "", **wanted[each]}
        if rule.keys() != actual[each].keys() or not matches(rule, actual[each]):
            yield f"its lifecycle rule {each} was changed"


def _as_declared(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lifecycle rule of S3's API as CloudFormation writes it; settings that ours lack keep S3's names."""
    rest = dict(rule)
    translated = {
        "Id": rest.pop("ID"),
        "Status": rest.pop("Status"),
        "Prefix": rest.pop("Prefix", None) or rest.get("Filter", {}).get("Prefix", ""),
    }
    if set(rest.get("Filter", {})) <= {"Prefix"}:
        rest.pop("Filter", None)
    for ours, (theirs, days) in _ACTIONS.items():
        if action := rest.pop(theirs, None):
            translated[ours] = action.get(days) if ours == "ExpirationInDays" else action
    return translated | rest


def _logging(s3: Any, owned: Any, declared: Any) -> Iterator[str]:
    actual = s3.get_bucket_logging(**owned).get("LoggingEnabled", {})
    wanted = (declared["DestinationBucketName"], declared["LogFilePrefix"])
    if (actual.get("TargetBucket"), actual.get("TargetPrefix")) != wanted:
        yield "it does not log who reads it, or elsewhere"


def _notifications(s3: Any, owned: Any, declared: Any) -> Iterator[str]:
    actual = s3.get_bucket_notification_configuration(**owned)
    if declared["EventBridgeConfiguration"]["EventBridgeEnabled"] and "EventBridgeConfiguration" not in actual:
        yield "it does not announce new objects to EventBridge"


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
