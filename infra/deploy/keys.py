"""Delete the keys that a temporary stage's stack keeps, after the stack's deletion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from infra.deploy.adopt import is_kept
from infra.deploy.stack import DeployError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from infra.deploy.destroying import Installed
    from infra.deploy.stages import Stage, Target

KEY: Final = "AWS::KMS::Key"
#: The longest window that KMS accepts; until it ends, the deletion can be cancelled.
#: https://docs.aws.amazon.com/kms/latest/APIReference/API_ScheduleKeyDeletion.html
WAITING_DAYS: Final = 30
#: A key in one of these states is deleted already, or will be.
_ENDING: Final = frozenset({"PendingDeletion", "PendingReplicaDeletion"})


def is_temporary(stage: Stage, installed: Installed) -> bool:
    """Return whether the stage's file and its deployed stack both say that the records need no protection."""
    deployed = installed.stack.parameters.get("DeletionProtection", "false")
    return stage.parameters.get("DeletionProtection") == deployed == "false"


def kept_keys(installed: Installed) -> dict[str, str]:
    """Return the keys that the stack's deletion keeps: logical ids with key ids."""
    resources = installed.template.get("Resources", {})
    return {
        name: key
        for name, key in installed.ids.items()
        if resources.get(name, {}).get("Type") == KEY and is_kept(resources[name])
    }


def keys_to_delete(stage: Stage, installed: Installed) -> dict[str, str]:
    """Return the kept keys of a temporary stage; raise DeployError for others, whose records would become useless."""
    if not is_temporary(stage, installed):
        raise DeployError(
            f"the keys of stage {stage.name} are not deleted: without DataKey, nobody could read its evidence, "
            "outcomes, or log, and without PseudonymKey, nobody could find an account's records. --delete-keys is for "
            'a temporary stage, which sets DeletionProtection to "false" and is deployed with it'
        )
    return kept_keys(installed)


def schedule_deletion(target: Target, keys: Mapping[str, str]) -> None:
    """Schedule the deletion of keys; raise DeployError with the commands for those that could not be scheduled."""
    failed = dict(_failures(target, keys))
    if failed:
        commands = "; ".join(
            f"aws kms schedule-key-deletion --region {target.stage.region} --key-id {key} "
            f"--pending-window-in-days {WAITING_DAYS}"
            for key in failed
        )
        raise DeployError(
            f"the stack is deleted, but these keys are not: {'; '.join(failed.values())}. Use credentials that may "
            f"call kms:DescribeKey and kms:ScheduleKeyDeletion, and run: {commands}"
        )


def _failures(target: Target, keys: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Schedule the deletion of each key on its own; yield the ids of those that failed, with the reason."""
    kms = target.client("kms")
    for name, key in keys.items():
        try:
            if kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] not in _ENDING:
                kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=WAITING_DAYS)
        except kms.exceptions.NotFoundException:
            continue
        except (BotoCoreError, ClientError) as error:
            yield key, f"{name} ({error})"
