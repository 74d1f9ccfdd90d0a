"""Look before deploying: where the credentials lead, and whether it can work there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from infra.deploy.stack import DeployError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_organizations import OrganizationsClient

    from infra.deploy.stages import Stage, Target

#: Organizations is a global service: its events exist only in this Region of a partition.
EVENT_REGIONS: Final = {"aws": "us-east-1", "aws-us-gov": "us-gov-west-1", "aws-cn": "cn-northwest-1"}
#: Policies that fit on an account (AWS, since May 2026), and the place that FullAWSAccess takes.
_MAX_ATTACHED: Final = 10


@dataclass(frozen=True)
class Here:
    """The account that the credentials belong to, and its organization."""

    account_id: str
    partition: str
    region: str
    organization_id: str
    management_account_id: str
    all_features: bool

    @property
    def is_management(self) -> bool:
        """Whether this is the organization's management account."""
        return self.account_id == self.management_account_id

    @property
    def sees_events(self) -> bool:
        """Whether Organizations' events arrive here by themselves."""
        return self.is_management and self.region == EVENT_REGIONS.get(self.partition)


def look_around(target: Target) -> Here:
    """Find out where the credentials lead; raise DeployError where they lead nowhere."""
    try:
        identity = target.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        raise DeployError(
            f"AWS does not take the credentials: {error}. Log in (aws sso login) or set AWS_PROFILE, and try again"
        ) from error
    try:
        organization = target.client("organizations").describe_organization()["Organization"]
    except (BotoCoreError, ClientError) as error:
        raise DeployError(
            f"the account's organization cannot be read: {error}. Deploy from the management account or a "
            "delegated administrator, as one who may call organizations:DescribeOrganization"
        ) from error
    return Here(
        account_id=identity["Account"],
        partition=identity["Arn"].split(":")[1],
        region=target.stage.region,
        organization_id=organization["Id"],
        management_account_id=organization["MasterAccountId"],
        all_features=organization.get("FeatureSet") == "ALL",
    )


def problems(target: Target, here: Here) -> Iterator[str]:
    """Yield what would keep the installation from working, each with the next step."""
    stage, policy_ids = target.stage, target.stage.policy_ids
    if not here.all_features:
        yield "the organization has consolidated billing only; run aws organizations enable-all-features"
    if stage.creates_policies and policy_ids:
        yield "the stage sets both CreatePolicies and PolicyIds; keep one"
    if not stage.creates_policies and not policy_ids:
        yield 'the stage names no policies; set PolicyIds, or CreatePolicies to "true"'
    if stage.creates_policies and not here.is_management:
        yield "CreatePolicies works in the management account only; create the policies there and set PolicyIds"
    if len(policy_ids) >= _MAX_ATTACHED:
        yield (
            f"{len(policy_ids)} policies do not fit: an account carries {_MAX_ATTACHED}, "
            "and FullAWSAccess is one of them; merge some"
        )
    yield from _policy_problems(target.client("organizations"), here, policy_ids)
    yield from _arrival_problems(target, here)


def _policy_problems(organizations: OrganizationsClient, here: Here, policy_ids: list[str]) -> Iterator[str]:
    try:
        roots = organizations.list_roots()["Roots"]
        types = {kind["Type"]: kind["Status"] for root in roots for kind in root["PolicyTypes"]}
        if types.get("SERVICE_CONTROL_POLICY") != "ENABLED":
            yield (
                "service control policies are not enabled; enable them (aws organizations enable-policy-type "
                f"--root-id {roots[0]['Id']} --policy-type SERVICE_CONTROL_POLICY)"
            )
        for policy_id in policy_ids:
            yield from _policy_problem(organizations, policy_id)
    except ClientError as error:
        if here.is_management:
            yield f"Organizations cannot be read: {error}; deploy as one who may"
        else:
            yield (
                f"account {here.account_id} is no delegated administrator of the management account: {error}. "
                "There, make what `make delegation-policy` prints the resource policy of the organization"
            )


def _policy_problem(organizations: OrganizationsClient, policy_id: str) -> Iterator[str]:
    try:
        summary = organizations.describe_policy(PolicyId=policy_id)["Policy"]["PolicySummary"]
    except organizations.exceptions.PolicyNotFoundException:
        yield f"there is no policy {policy_id}; correct PolicyIds (aws organizations list-policies)"
    else:
        if summary["Type"] != "SERVICE_CONTROL_POLICY":
            yield f"policy {policy_id} is a {summary['Type']}, not a service control policy; take it out of PolicyIds"


def _arrival_problems(target: Target, here: Here) -> Iterator[str]:
    """Join events must be able to get here."""
    stage, event_region = target.stage, EVENT_REGIONS.get(here.partition)
    if event_region is None:
        yield f"it is not known in which Region of partition {here.partition} the events of Organizations are"
    elif here.sees_events:
        return
    elif not here.is_management:
        if not stage.parameters.get("ForwarderAccountId"):
            yield (
                "join events exist in the management account only. There, run `make forwarder` with this account's "
                "event bus, then set ForwarderAccountId to the management account's id in the stage"
            )
    elif not _has_forwarder(target.client("events", region=event_region), stage):
        yield (
            f"join events exist in {event_region} only, and nothing forwards them to {here.region}. Run "
            f"`make forwarder STAGE={stage.name}`, or set region to {event_region} in the stage"
        )


def _has_forwarder(events: EventBridgeClient, stage: Stage) -> bool:
    try:
        events.describe_rule(Name=f"MemberAccountInitializationForwarder{stage.suffix}")
    except events.exceptions.ResourceNotFoundException:
        return False
    return True
