"""An installation in the embedded AWS: organization, policies, accounts, stack."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from infra.deploy.build import ROOT, Architecture, build
from infra.deploy.sources import sources
from infra.deploy.stack import execute, outputs, plan, upload_code
from infra.local.complete import complete, understood

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from infra.local.standin import StandIn

STACK: Final = "joinguard"
CODE_BUCKET: Final = "joinguard-code"
ACCOUNTS: Final = 4
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Installation:
    """What `make local` prints: where everything is."""

    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str
    queue_url: str
    dead_letter_queue_url: str
    undelivered_queue_url: str
    outcomes_table: str
    evidence_bucket: str
    policy_ids: list[str]
    account_ids: list[str]
    organization_id: str
    management_account_id: str

    def line(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self))


def build_local() -> Path:
    """Build the zip from the files as they are here, for the interpreter that we run on: the stand-in uses the same.

    One that was built from the same sources, lock and builder before is taken as it is.
    """
    machine: Architecture = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
    digest = _digest_of_sources()
    target = ROOT / "build" / "local" / f"joinguard-py{PYTHON}-{machine}-{digest[:16]}.zip"
    if not target.exists():
        for outdated in target.parent.glob("*.zip"):
            if outdated != target:
                outdated.unlink(missing_ok=True)
        build(python_version=PYTHON, architecture=machine, target=target, allow_dirty=True)
    return target


def _digest_of_sources() -> str:
    """Return a digest of all that decides what is in the zip."""
    builder = sorted((ROOT / "infra" / "deploy").glob("*.py"))
    others = {path.name: path.read_bytes() for path in (*builder, ROOT / "uv.lock", ROOT / "pyproject.toml")}
    digest = hashlib.sha256()
    for name, content in sorted((sources(ROOT, allow_dirty=True) | others).items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def install(
    aws: StandIn,
    *,
    package: Path,
    told: Callable[[str], None],
    accounts: int = ACCOUNTS,
    changes: Mapping[str, str] | None = None,
) -> Installation:
    """Set up an organization and deploy the real template with the real zip into it.

    Changes are to the template's parameters.
    """
    organizations = aws.client("organizations")
    organization = organizations.describe_organization()["Organization"]
    policy_ids = [
        create_policy(aws, path.stem, json.loads(path.read_text()))
        for path in sorted((ROOT / "infra" / "policies").glob("*.json"))
    ]
    account_ids = [create_account(aws, f"member-{number}") for number in range(1, accounts + 1)]
    told(f"organization with {len(policy_ids)} policies and {len(account_ids)} member accounts")
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=CODE_BUCKET)
    parameters = {
        "OrganizationId": organization["Id"],
        "ManagementAccountId": organization["MasterAccountId"],
        "CodeBucket": CODE_BUCKET,
        "CodeKey": upload_code(s3, CODE_BUCKET, package),
        "OperatorPrincipalArn": f"arn:aws:iam::{organization['MasterAccountId']}:root",
    }
    made = configure(aws, policy_ids, parameters | dict(changes or {}))
    told("infra/template.yaml deployed through CloudFormation")
    return Installation(
        endpoint=aws.endpoint,
        region=aws.region,
        access_key_id=aws.access_key_id,
        secret_access_key=aws.secret_access_key,
        queue_url=made["QueueUrl"],
        dead_letter_queue_url=made["DeadLetterQueueUrl"],
        undelivered_queue_url=made["UndeliveredQueueUrl"],
        outcomes_table=made["OutcomesTable"],
        evidence_bucket=made["EvidenceBucket"],
        policy_ids=policy_ids,
        account_ids=account_ids,
        organization_id=organization["Id"],
        management_account_id=organization["MasterAccountId"],
    )


def configure(aws: StandIn, policy_ids: Sequence[str], parameters: dict[str, str] | None = None) -> dict[str, str]:
    """Deploy the stack with these policies, as an operator corrects its parameters, and return its outputs."""
    cloudformation = aws.client("cloudformation")
    if parameters is None:
        known = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["Parameters"]
        parameters = {each["ParameterKey"]: each["ParameterValue"] for each in known}
    planned = plan(
        cloudformation,
        stack=STACK,
        template=understood((ROOT / "infra" / "template.yaml").read_text()),
        parameters=parameters | {"PolicyIds": ",".join(policy_ids)},
        poll_seconds=1,
    )
    if planned:
        execute(cloudformation, planned, poll_seconds=1)
    made = outputs(cloudformation, STACK)
    complete(aws, STACK)
    return made


def create_account(aws: StandIn, name: str) -> str:
    """Create a member account and return its id."""
    status = aws.client("organizations").create_account(Email=f"{name}@example.com", AccountName=name)
    return str(status["CreateAccountStatus"]["AccountId"])


def create_policy(aws: StandIn, name: str, document: Mapping[str, object]) -> str:
    """Create a service control policy and return its id."""
    policy = aws.client("organizations").create_policy(
        Name=name,
        Description=f"Joinguard: {name}",
        Type="SERVICE_CONTROL_POLICY",
        # Organizations keeps the text as it is sent and limits its length, so without white space.
        Content=json.dumps(document, separators=(",", ":")),
    )
    return str(policy["Policy"]["PolicySummary"]["Id"])
