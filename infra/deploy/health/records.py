"""Check what keeps the records besides the bucket: the tables and the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from handlers.operate.installation import former_keys
from infra.deploy.health.check import Check, compared
from infra.deploy.health.difference import policy_differences, property_differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.deploy.health.deployed import Deployed

KEY_AT_RISK: Final = "handlers/operate/RUNBOOK.md#key-at-risk"
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


def key(kms: Any, stack: Deployed, name: str) -> Iterator[Check]:
    """Check that a key is enabled and rotates as declared."""
    metadata = kms.describe_key(KeyId=stack.id(name))["KeyMetadata"]
    state = metadata["KeyState"]
    differences = []
    if state == "PendingDeletion":
        differences.append(f"PendingDeletion, on {metadata.get('DeletionDate', 'an unknown date')}")
    elif state != "Enabled":
        differences.append(state)
    # KMS answers this for every key, and rotates only symmetric ones.
    elif stack.properties(name).get("EnableKeyRotation"):
        rotates = kms.get_key_rotation_status(KeyId=stack.id(name))["KeyRotationEnabled"]
        differences += [] if rotates else ["its rotation is off"]
    yield compared(f"key {name}", state, differences, next_step=KEY_AT_RISK)


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


def key_policy(kms: Any, stack: Deployed, name: str) -> Iterator[Check]:
    """Compare a key's policy with the declared one."""
    actual = kms.get_key_policy(KeyId=stack.id(name), PolicyName="default")["Policy"]
    differences = policy_differences(stack.properties(name)["KeyPolicy"], actual)
    yield compared(f"policy of key {name}", "as in the template", differences, next_step=KEY_AT_RISK)
