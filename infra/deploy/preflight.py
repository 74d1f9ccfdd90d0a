"""Check before deploying: which account the credentials belong to, and whether the installation can work there."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from handlers.aws.organizations_in_bulk import ORGANIZATIONS_REGIONS
from infra.deploy.acting import others
from infra.deploy.stack import DeployError
from infra.deploy.trail import read_trails

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_organizations import OrganizationsClient

    from infra.deploy.acting import Other
    from infra.deploy.stages import Stage, Target
    from infra.deploy.trail import Trails

#: Organizations is a global service and sends its events in one Region per partition.
EVENT_REGIONS: Final = ORGANIZATIONS_REGIONS


@dataclass(frozen=True)
class Account:
    """The account that the credentials belong to, the Region, and the organization."""

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
    def receives_events(self) -> bool:
        """Whether EventBridge delivers Organizations' events to this account and Region without a forwarder."""
        return self.is_management and self.region == EVENT_REGIONS.get(self.partition)


def read_account(target: Target) -> Account:
    """Return the account and organization of the credentials; raise DeployError if they cannot be read."""
    try:
        identity = target.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        raise DeployError(
            f"AWS rejected the credentials: {error}. Log in (aws sso login) or set AWS_PROFILE, then try again"
        ) from error
    try:
        organization = target.client("organizations").describe_organization()["Organization"]
    except (BotoCoreError, ClientError) as error:
        raise DeployError(
            f"cannot read the account's organization: {error}. Deploy from the management account or a delegated "
            "administrator account, with permission to call organizations:DescribeOrganization"
        ) from error
    return Account(
        account_id=identity["Account"],
        partition=identity["Arn"].split(":")[1],
        region=target.stage.region,
        organization_id=organization["Id"],
        management_account_id=organization["MasterAccountId"],
        all_features=organization.get("FeatureSet") == "ALL",
    )


def problems(target: Target, account: Account) -> Iterator[str]:
    """Yield each problem that would keep the installation from working, with the next step."""
    stage = target.stage
    if not account.all_features:
        yield "the organization has only consolidated billing features; run aws organizations enable-all-features"
    yield from _naming_problems(stage, account)
    yield from _boundary_problems(target)
    yield from _policy_problems(target.client("organizations"), account, stage.policy_ids)
    yield from _delivery_problems(target, account)
    yield from _trail_problems(target, account)
    for other in _others(target, account):
        if other.attaches:
            yield _second(stage, other)


def _second(stage: Stage, other: Other) -> str:
    if other.stage == stage.name:
        return (
            f"stage {stage.name} is also installed {other.where}, where it attaches policies in this organization, and "
            f"only one installation may. Set the stage's region to that one and run `make destroy STAGE={stage.name}` "
            "first"
        )
    return (
        f"stage {other.stage} ({other.where}) attaches policies in this organization, and only one stage may. "
        f'Set AttachTo to "none" in stage {stage.name}, which then only observes; or set it in stage '
        f"{other.stage} and deploy that stage first"
    )


def _naming_problems(stage: Stage, account: Account) -> Iterator[str]:
    """Yield what is wrong with how a stage names its policies."""
    policy_ids = stage.policy_ids
    if stage.creates_policies and policy_ids:
        yield "the stage sets both CreatePolicies and PolicyIds; keep one of them"
    if stage.document and policy_ids:
        yield "the stage sets PolicyIds and has a guardrails document; name the policies in the document alone"
    if not stage.creates_policies and not policy_ids and not stage.document:
        yield 'the stage names no policies; set PolicyIds, or CreatePolicies to "true", or write a guardrails document'
    if stage.removes and not stage.document:
        yield "RemovePolicies needs a guardrails document, whose rules say what may be removed; write one, or unset it"
    if stage.creates_policies and not account.is_management:
        yield "CreatePolicies works only in the management account; create the policies there and set PolicyIds"


def warnings(target: Target, account: Account) -> Iterator[str]:
    """Yield what may keep the installation from working but cannot be read with these credentials."""
    yield from _unknown_others(target, account)
    management = account.management_account_id
    if not account.is_management:
        yield (
            f"it is not known whether a CloudTrail trail logs management events in account {management}; without one, "
            "no join event arrives. Check it there (aws cloudtrail describe-trails, get-trail-status)"
        )
    elif target.stage.parameters.get("CreateTrail") != "true":
        try:
            _read_trails(target, account)
        except (BotoCoreError, ClientError) as error:
            yield (
                f"it is not known whether a CloudTrail trail logs management events: {error}. Without one, no join "
                "event arrives; check it, or set CreateTrail"
            )


def _others(target: Target, account: Account) -> Iterator[Other]:
    """Yield the other stages, if this stage attaches policies and they can be read."""
    region = EVENT_REGIONS.get(account.partition)
    if not target.stage.attaches or not region:
        return
    with suppress(BotoCoreError, ClientError):
        yield from others(target, account, region if account.is_management else target.stage.region)


def _unknown_others(target: Target, account: Account) -> Iterator[str]:
    """Yield that another stage may attach policies too, where that cannot be read."""
    stage, region = target.stage, EVENT_REGIONS.get(account.partition)
    if not stage.attaches or not region:
        return
    advice = "only one stage of an organization may attach policies; the others need AttachTo none"
    try:
        for other in others(target, account, region if account.is_management else stage.region):
            if other.attaches is None:
                yield f"it is not known whether stage {other.stage} ({other.where}) attaches policies: {advice}"
    except (BotoCoreError, ClientError) as error:
        yield f"it is not known whether another stage attaches policies: {error}; {advice}"
    if not account.is_management:
        yield f"it is not known whether a stage in account {account.management_account_id} attaches policies: {advice}"


def _boundary_problems(target: Target) -> Iterator[str]:
    arn, iam = target.stage.parameters.get("PermissionsBoundaryArn"), target.client("iam")
    try:
        if arn:
            iam.get_policy(PolicyArn=arn)
    except iam.exceptions.NoSuchEntityException:
        yield f"there is no policy {arn}; correct PermissionsBoundaryArn (aws iam list-policies)"
    except ClientError:
        # Nothing shows that there is none, and CloudFormation finds out.
        return


def _policy_problems(organizations: OrganizationsClient, account: Account, policy_ids: list[str]) -> Iterator[str]:
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
        if account.is_management:
            yield f"cannot read from Organizations: {error}; deploy with permissions to read from Organizations"
        else:
            yield (
                f"account {account.account_id} is not a delegated administrator: {error}. In the management account, "
                "set what `make delegation-policy` prints as the organization's resource policy"
            )


def _policy_problem(organizations: OrganizationsClient, policy_id: str) -> Iterator[str]:
    try:
        summary = organizations.describe_policy(PolicyId=policy_id)["Policy"]["PolicySummary"]
    except organizations.exceptions.PolicyNotFoundException:
        yield f"there is no policy {policy_id}; correct PolicyIds (aws organizations list-policies)"
    else:
        if summary["Type"] != "SERVICE_CONTROL_POLICY":
            yield f"policy {policy_id} is a {summary['Type']}, not a service control policy; remove it from PolicyIds"


def _delivery_problems(target: Target, account: Account) -> Iterator[str]:
    """Yield what would keep join events from reaching the account and Region."""
    stage, event_region = target.stage, EVENT_REGIONS.get(account.partition)
    if event_region is None:
        yield f"partition {account.partition} is not supported: the Region of its Organizations events is not known"
    elif account.receives_events:
        return
    elif not account.is_management:
        if not stage.parameters.get("ForwarderAccountId"):
            yield (
                "join events exist only in the management account. Run `make forwarder` there with this account's "
                "event bus, then set ForwarderAccountId to the management account's id in the stage"
            )
    elif not _has_forwarder(target.client("events", region=event_region), stage):
        yield (
            f"join events exist only in {event_region}, and no rule forwards them to {account.region}. Run "
            f"`make forwarder STAGE={stage.name}`, or set region to {event_region} in the stage"
        )


def _has_forwarder(events: EventBridgeClient, stage: Stage) -> bool:
    try:
        events.describe_rule(Name=f"MemberAccountInitializationForwarder{stage.suffix}")
    except events.exceptions.ResourceNotFoundException:
        return False
    return True


def _trail_problems(target: Target, account: Account) -> Iterator[str]:
    """Yield a problem if no trail logs management events and the stage creates none."""
    if not account.is_management or target.stage.parameters.get("CreateTrail") == "true":
        return
    try:
        trails = _read_trails(target, account)
    except (BotoCoreError, ClientError):
        # A warning, because nothing shows that there is no trail.
        return
    if trails and not trails.working:
        yield (
            f"join events reach EventBridge only if a CloudTrail trail logs management events: {trails.found}. Correct "
            'the trail, or set CreateTrail to "true" in the stage'
        )


def _read_trails(target: Target, account: Account) -> Trails | None:
    region = EVENT_REGIONS.get(account.partition)
    return read_trails(lambda home: target.client("cloudtrail", region=home), region) if region else None
