"""The keys that pseudonyms are derived from: none that exists is dropped, because earlier records need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handlers.operate.installation import former_keys
from infra.deploy.stack import find

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from infra.deploy.preflight import Account
    from infra.deploy.stages import Target


def key_in_force(parameters: Mapping[str, str], own: str) -> str:
    """Return the key that pseudonyms are derived from, given the stack's own one."""
    return parameters.get("PseudonymKeyArn") or own


def problems(target: Target, account: Account) -> Iterator[str]:
    """Yield why the keys that the stage names cannot be used, and which keys it drops that are still in use."""
    stage, kms = target.stage, target.client("kms")
    named = stage.parameters.get("PseudonymKeyArn")
    if named:
        key = _metadata(kms, named)
        if key.get("KeySpec") != "HMAC_256" or key.get("KeyState") != "Enabled":
            yield (
                f"PseudonymKeyArn: {named} is not an enabled HMAC_256 key of this Region; make one (aws kms create-key "
                "--key-spec HMAC_256 --key-usage GENERATE_VERIFY_MAC)"
            )
    former = former_keys(stage.parameters)
    if named in former:
        yield "FormerPseudonymKeyArns names the key of PseudonymKeyArn; remove it there"
    deployed = find(target.client("cloudformation"), stage.stack)
    own = _own_key(target, account) if deployed else ""
    if deployed is None or not own:
        return
    before = {key_in_force(deployed.parameters, own), *former_keys(deployed.parameters)}
    for each in sorted(before.difference({key_in_force(stage.parameters, own), *former})):
        if _metadata(kms, each).get("KeyState") == "Enabled":
            yield (
                f"pseudonyms were derived from key {each}, and earlier records could not be compared or resolved "
                "without it; add it to FormerPseudonymKeyArns"
            )


def _own_key(target: Target, account: Account) -> str:
    """Return the ARN of the stack's own key; empty if the stack has none."""
    resources = target.client("cloudformation").describe_stack_resources(StackName=target.stage.stack)
    ids = [
        each.get("PhysicalResourceId")
        for each in resources["StackResources"]
        if each["LogicalResourceId"] == "PseudonymKey"
    ]
    where = f"arn:{account.partition}:kms:{account.region}:{account.account_id}"
    return f"{where}:key/{ids[0]}" if ids and ids[0] else ""


def _metadata(kms: Any, arn: str) -> dict[str, Any]:
    """Return what KMS says about a key; empty if it does not exist."""
    try:
        found: dict[str, Any] = kms.describe_key(KeyId=arn)["KeyMetadata"]
    except kms.exceptions.NotFoundException:
        return {}
    return found
