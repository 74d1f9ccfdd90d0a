"""Deploy the main stack and the forwarder from a stage file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from infra.deploy.build import ROOT, Architecture, Package, build
from infra.deploy.preflight import EVENT_REGIONS, Account, problems, read_account
from infra.deploy.stack import DeployError, Plan, plan, upload_code
from infra.deploy.template import load

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from infra.deploy.stages import Stage, Target

TEMPLATE: Final = ROOT / "infra" / "template.yaml"
FORWARDER: Final = ROOT / "infra" / "forwarder.yaml"
#: What the worker, the operators and `make deploy` read in a member account.
_DELEGATED_READS: Final = (
    "organizations:DescribeAccount",
    "organizations:DescribeOrganization",
    "organizations:DescribePolicy",
    "organizations:ListPoliciesForTarget",
    "organizations:ListRoots",
)


def check(target: Target) -> Account:
    """Run all checks before a deployment; raise DeployError listing every problem."""
    account = read_account(target)
    found = list(problems(target, account))
    if found:
        raise DeployError("\n".join(["the installation would not work yet:", *(f"  - {each}" for each in found)]))
    return account


def build_for(stage: Stage, *, allow_dirty: bool) -> Package:
    """Build the zip for the stage's architecture, by default arm64."""
    architecture: Architecture = "x86_64" if stage.parameters.get("Architecture") == "x86_64" else "arm64"
    return build(architecture=architecture, allow_dirty=allow_dirty)


def plan_main(target: Target, account: Account, package: Path, template: Path = TEMPLATE) -> Plan | None:
    """Upload the zip and create the main stack's change set; return None if nothing would change."""
    stage, s3 = target.stage, target.client("s3")
    bucket = f"joinguard-code-{account.account_id}-{stage.region}"
    _ensure_bucket(s3, bucket, stage.region)
    parameters = {
        "OrganizationId": account.organization_id,
        "ManagementAccountId": account.management_account_id,
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
        poll_seconds=target.poll_seconds,
    )


def plan_forwarder(target: Target, target_bus: str | None) -> tuple[str, Plan | None]:
    """Create the forwarder's change set in the Region of the events; return that Region and the plan."""
    stage, account = target.stage, read_account(target)
    if not account.is_management:
        raise DeployError("the forwarder works only in the management account; use that account's credentials")
    region = EVENT_REGIONS[account.partition]
    if account.receives_events and not target_bus:
        raise DeployError(f"stage {stage.name} is in {region}, where the events are; it needs no forwarder")
    own_bus = f"arn:{account.partition}:events:{stage.region}:{account.account_id}:event-bus/default"
    planned = plan(
        target.client("cloudformation", region=region),
        stack=f"{stage.stack}-forwarder",
        template=FORWARDER.read_text(),
        parameters={"TargetBusArn": target_bus or own_bus, "NameSuffix": stage.suffix},
        poll_seconds=target.poll_seconds,
    )
    return region, planned


def delegation_policy(account: Account, administrator_id: str, policy_ids: list[str]) -> dict[str, Any]:
    """Return a resource policy of the organization that lets a member account attach only these policies.

    https://docs.aws.amazon.com/organizations/latest/userguide/orgs_delegate_policies.html
    """
    prefix = f"arn:{account.partition}:organizations::{account.management_account_id}"
    accounts = f"{prefix}:account/{account.organization_id}/*"
    policies = [f"{prefix}:policy/{account.organization_id}/service_control_policy/{each}" for each in policy_ids]
    allow = {"Effect": "Allow", "Principal": {"AWS": f"arn:{account.partition}:iam::{administrator_id}:root"}}
    reads = {"Sid": "JoinguardReads", **allow, "Action": list(_DELEGATED_READS), "Resource": "*"}
    attaches = {
        "Sid": "JoinguardAttaches",
        **allow,
        "Action": "organizations:AttachPolicy",
        "Resource": [accounts, *policies],
        "Condition": {"StringLikeIfExists": {"organizations:PolicyType": "SERVICE_CONTROL_POLICY"}},
    }
    return {"Version": "2012-10-17", "Statement": [reads, attaches]}


def kept(template: Path = TEMPLATE) -> list[tuple[str, str, str]]:
    """Return the resources that a deleted stack leaves: logical id, type, and the template's comment on it."""
    text = template.read_text().splitlines()
    resources = load(template.read_text())["Resources"]
    retained = [name for name, each in resources.items() if each.get("DeletionPolicy") == "Retain"]
    return [(name, resources[name]["Type"], _comment_above(text, name)) for name in retained]


def _comment_above(lines: list[str], name: str) -> str:
    """Return the first sentence of the comment above a resource."""
    end = lines.index(f"  {name}:")
    start = end
    while lines[start - 1].startswith("  #"):
        start -= 1
    return " ".join(line.strip(" #") for line in lines[start:end]).split(". ")[0].rstrip(".")


def _ensure_bucket(s3: S3Client, bucket: str, region: str) -> None:
    """Create the bucket for the zips, private and versioned, if it does not exist."""
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"404", "NoSuchBucket"}:
            raise DeployError(f"cannot use bucket {bucket} for the zip: {error}. Check its permissions") from error
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
