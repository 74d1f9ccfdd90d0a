"""Deploy the main stack and the forwarder from a stage file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from infra.deploy.build import ROOT, Architecture, Package, build
from infra.deploy.preflight import EVENT_REGIONS, Here, look_around, problems
from infra.deploy.stack import DeployError, Plan, plan, upload_code
from infra.deploy.template import load

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from infra.deploy.stages import Stage, Target

TEMPLATE: Final = ROOT / "infra" / "template.yaml"
FORWARDER: Final = ROOT / "infra" / "forwarder.yaml"


def check(target: Target) -> Here:
    """Check everything that can be checked before deploying; raise DeployError with all that is wrong."""
    here = look_around(target)
    found = list(problems(target, here))
    if found:
        raise DeployError("\n".join(["this cannot work yet:", *(f"  - {each}" for each in found)]))
    return here


def build_for(stage: Stage, *, allow_dirty: bool) -> Package:
    """Build the zip for what the stage's function runs on; arm64 unless it says otherwise."""
    wanted: Architecture = "x86_64" if stage.parameters.get("Architecture") == "x86_64" else "arm64"
    return build(architecture=wanted, allow_dirty=allow_dirty)


def plan_main(target: Target, here: Here, package: Path, template: Path = TEMPLATE) -> Plan | None:
    """Upload the zip and make the change set of the main stack; None where nothing would change."""
    stage, s3 = target.stage, target.client("s3")
    bucket = f"joinguard-code-{here.account_id}-{stage.region}"
    _ensure_bucket(s3, bucket, stage.region)
    parameters = {
        "OrganizationId": here.organization_id,
        "ManagementAccountId": here.management_account_id,
        "NameSuffix": stage.suffix,
        "CodeBucket": bucket,
        "CodeKey": upload_code(s3, bucket, package),
        **stage.parameters,
    }
    return plan(
        target.client("cloudformation"),
        stack=stage.stack,
        template=template.read_text(),
        parameters=parameters,
        seconds_between_looks=target.pause,
    )


def plan_forwarder(target: Target, target_bus: str | None) -> tuple[str, Plan | None]:
    """Make the change set of the forwarder in the Region where the events are; return that Region too."""
    stage, here = target.stage, look_around(target)
    if not here.is_management:
        raise DeployError("the forwarder belongs into the management account, and this is another; switch credentials")
    region = EVENT_REGIONS[here.partition]
    if here.sees_events and not target_bus:
        raise DeployError(f"stage {stage.name} lives in {region}, where the events are; it needs no forwarder")
    home = f"arn:{here.partition}:events:{stage.region}:{here.account_id}:event-bus/default"
    planned = plan(
        target.client("cloudformation", region=region),
        stack=f"{stage.stack}-forwarder",
        template=FORWARDER.read_text(),
        parameters={"TargetBusArn": target_bus or home, "NameSuffix": stage.suffix},
        seconds_between_looks=target.pause,
    )
    return region, planned


def delegation_policy(here: Here, administrator_id: str, policy_ids: list[str]) -> dict[str, Any]:
    """Return the organization's resource policy that lets a member account attach these policies, and no others.

    https://docs.aws.amazon.com/organizations/latest/userguide/orgs_delegate_policies.html
    """
    prefix = f"arn:{here.partition}:organizations::{here.management_account_id}"
    accounts = f"{prefix}:account/{here.organization_id}/*"
    policies = [f"{prefix}:policy/{here.organization_id}/service_control_policy/{each}" for each in policy_ids]
    principal = {"AWS": f"arn:{here.partition}:iam::{administrator_id}:root"}
    only_scps = {"StringLikeIfExists": {"organizations:PolicyType": "SERVICE_CONTROL_POLICY"}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "JoinguardLooks",
                "Effect": "Allow",
                "Principal": principal,
                "Action": [
                    "organizations:DescribeAccount",
                    "organizations:DescribeOrganization",
                    "organizations:DescribePolicy",
                    "organizations:ListPoliciesForTarget",
                    "organizations:ListRoots",
                ],
                "Resource": "*",
            },
            {
                "Sid": "JoinguardAttaches",
                "Effect": "Allow",
                "Principal": principal,
                "Action": "organizations:AttachPolicy",
                "Resource": [accounts, *policies],
                "Condition": only_scps,
            },
        ],
    }


def kept(template: Path = TEMPLATE) -> list[tuple[str, str, str]]:
    """Return what outlives the stack: logical id, type, and why, from the comment above it in the template."""
    text = template.read_text().splitlines()
    resources = load(template.read_text())["Resources"]
    retained = [name for name, each in resources.items() if each.get("DeletionPolicy") == "Retain"]
    return [(name, resources[name]["Type"], _comment_above(text, name)) for name in retained]


def _comment_above(lines: list[str], name: str) -> str:
    """Return the first sentence of the comment that stands above a resource."""
    if f"  {name}:" not in lines:
        return ""
    end = lines.index(f"  {name}:")
    start = end
    while lines[start - 1].startswith("  #"):
        start -= 1
    return " ".join(line.strip(" #") for line in lines[start:end]).split(". ")[0].rstrip(".")


def _ensure_bucket(s3: S3Client, bucket: str, region: str) -> None:
    """Make the bucket that holds the zips, private and versioned, unless it is there."""
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"404", "NoSuchBucket"}:
            raise DeployError(f"the bucket {bucket} cannot be used: {error}; it holds the function's zip") from error
    else:
        return
    where: Any = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=bucket, **where)
    s3.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        },
    )
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
