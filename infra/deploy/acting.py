"""Find other stages that attach policies in the organization, where only one may.

They share the accounts, the places for policies on each account, and the rate of attachments. Every installation has a
rule in the Region of Organizations' events: its own rule, or the forwarder's, whose target is the installation's bus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from infra.deploy.stack import find
from infra.deploy.stages import PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_events import EventBridgeClient

    from infra.deploy.preflight import Account
    from infra.deploy.stages import Target

_RULE: Final = "MemberAccountInitialization"
_FORWARDER: Final = f"{_RULE}Forwarder"


class Other(NamedTuple):
    """Another stage with a rule, and whether it attaches policies; None if that cannot be read."""

    stage: str
    where: str
    attaches: bool | None


def others(target: Target, account: Account, event_region: str) -> Iterator[Other]:
    """Yield the other stages whose rules are in this account, in the Region of the events or of the stage."""
    seen = {(target.stage.name, target.stage.region, account.account_id)}
    for region in dict.fromkeys((event_region, target.stage.region)):
        for name, arn in _installations(target.client("events", region=region)):
            # A stage whose Region was changed in its file is another installation of the same name.
            installation = (name, arn.split(":")[3], arn.split(":")[4])
            if installation not in seen:
                seen.add(installation)
                yield _other(target, account, name, arn)


def _installations(events: EventBridgeClient) -> Iterator[tuple[str, str]]:
    """Yield the stage of each enabled rule of ours, and an ARN in its Region and account."""
    for page in events.get_paginator("list_rules").paginate(NamePrefix=_RULE):
        for rule in page["Rules"]:
            name, is_forwarder = _stage_of(rule["Name"])
            if not name or rule.get("State") == "DISABLED":
                continue
            if not is_forwarder:
                yield name, rule["Arn"]
                continue
            # Somebody may have removed the target: then it forwards to nowhere.
            for each in events.list_targets_by_rule(Rule=rule["Name"]).get("Targets", []):
                yield name, each["Arn"]


def _stage_of(rule: str) -> tuple[str, bool]:
    """Return the stage in a rule's name, and whether the rule is a forwarder's; empty if the name is not ours."""
    is_forwarder = rule.startswith(_FORWARDER)
    suffix = rule.removeprefix(_FORWARDER if is_forwarder else _RULE)
    if suffix and not suffix.startswith("-"):
        return "", is_forwarder
    return suffix[1:] or PLAIN, is_forwarder


def _other(target: Target, account: Account, name: str, arn: str) -> Other:
    """Return another stage, from its stack in the Region of its rule or its bus."""
    region, account_id = arn.split(":")[3:5]
    where = f"in {region}" if account_id == account.account_id else f"in {region} of account {account_id}"
    if account_id != account.account_id:
        return Other(name, where, attaches=None)
    stage = target.stage.model_copy(update={"name": name})
    stack = find(target.client("cloudformation", region=region), stage.stack)
    # Stacks of earlier versions have no such parameter, and attach to every account.
    return Other(name, where, attaches=stack.parameters.get("AttachTo", "all") != "none" if stack else None)
