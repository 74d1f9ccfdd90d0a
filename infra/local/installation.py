"""Install Joinguard in the AWS stand-in: organization, policies, accounts, stack."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from infra.deploy.build import ROOT, Architecture, build
from infra.deploy.code import ensure_bucket, upload, upload_template
from infra.deploy.sources import sources
from infra.deploy.stack import Request, execute, find, outputs, plan, prepare
from infra.local.complete import complete, for_stand_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from infra.local.standin import StandIn

STACK: Final = "joinguard"
#: Each running `make local` has a file here with what it prints, named as its process id.
RUNNING: Final = ROOT / "build" / "running"
CODE_BUCKET: Final = "joinguard-code"
ACCOUNTS: Final = 4
#: The stack output of each field of an installation.
_OUTPUTS: Final = {
    "queue_url": "QueueUrl",
    "repairs_queue_url": "RepairsQueueUrl",
    "dead_letter_queue_url": "DeadLetterQueueUrl",
    "undelivered_queue_url": "UndeliveredQueueUrl",
    "outcomes_table": "OutcomesTable",
    "evidence_bucket": "EvidenceBucket",
}
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Installation:
    """The line that `make local` prints: endpoint, credentials, and the names of the resources."""

    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str
    queue_url: str
    repairs_queue_url: str
    dead_letter_queue_url: str
    undelivered_queue_url: str
    outcomes_table: str
    evidence_bucket: str
    policy_ids: list[str]
    account_ids: list[str]
    organization_id: str
    management_account_id: str
    #: Where the function calls Organizations: another one than `endpoint` with FAULTS.
    organizations_endpoint: str

    def line(self) -> str:
        """Return the installation as one line of JSON."""
        return json.dumps(asdict(self))


def build_local(folder: Path = ROOT / "build" / "local") -> Path:
    """Build the zip from the working tree for this machine's interpreter, which the stand-in uses too.

    A zip from an earlier run is reused if its sources, lock file and builder are the same; others are deleted.
    """
    machine: Architecture = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
    digest = _digest_of_sources()
    target = folder / f"joinguard-py{PYTHON}-{machine}-{digest[:16]}.zip"
    if not target.exists():
        # Another process may have built the target meanwhile.
        for outdated in {*folder.glob("*.zip")} - {target}:
            outdated.unlink(missing_ok=True)
        build(python_version=PYTHON, architecture=machine, target=target, allow_dirty=True)
    return target


def _digest_of_sources() -> str:
    """Return a digest of everything that determines the content of the zip."""
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
    log: Callable[[str], None],
    accounts: int = ACCOUNTS,
    changes: Mapping[str, str] | None = None,
) -> Installation:
    """Set up an organization and deploy the real template with the real zip.

    `log` receives progress messages; `changes` override template parameters.
    """
    organization = aws.client("organizations").describe_organization()["Organization"]
    policy_ids = [
        create_policy(aws, path.stem, json.loads(path.read_text()))
        for path in sorted((ROOT / "infra" / "policies").glob("*.json"))
    ]
    account_ids = [create_account(aws, f"member-{number}") for number in range(1, accounts + 1)]
    log(f"organization with {len(policy_ids)} policies and {len(account_ids)} member accounts")
    prefix = f"arn:aws:organizations::{organization['MasterAccountId']}:policy/{organization['Id']}"
    arns = [f"{prefix}/service_control_policy/{each}" for each in policy_ids]
    named = {"PolicyIds": ",".join(policy_ids), "PolicyArns": ",".join(arns)}
    parameters = _parameters(aws, package, organization) | named
    stack_outputs = configure(aws, parameters | dict(changes or {}))
    log("infra/template.yaml deployed through CloudFormation")
    return Installation(
        endpoint=aws.endpoint,
        region=aws.region,
        access_key_id=aws.access_key_id,
        secret_access_key=aws.secret_access_key,
        policy_ids=policy_ids,
        account_ids=account_ids,
        organization_id=organization["Id"],
        management_account_id=organization["MasterAccountId"],
        organizations_endpoint=aws.organizations_endpoint,
        **{name: stack_outputs[output] for name, output in _OUTPUTS.items()},
    )


def _parameters(aws: StandIn, package: Path, organization: Mapping[str, str]) -> dict[str, str]:
    """Upload the zip and return the template's parameters except the policies."""
    s3 = aws.client("s3")
    owner = organization["MasterAccountId"]
    ensure_bucket(s3, CODE_BUCKET, owner=owner, region=aws.region)
    code = upload(s3, CODE_BUCKET, package.read_bytes(), "joinguard/{}.zip", owner=owner)
    return {
        "OrganizationId": organization["Id"],
        "ManagementAccountId": organization["MasterAccountId"],
        "CodeBucket": code.bucket,
        "CodeKey": code.key,
        "CodeVersion": code.version,
        "OperatorPrincipalArn": f"arn:aws:iam::{organization['MasterAccountId']}:root",
        "ResolverPrincipalArn": f"arn:aws:iam::{organization['MasterAccountId']}:root",
    }


def configure(aws: StandIn, changes: Mapping[str, str]) -> dict[str, str]:
    """Deploy the stack with its present parameters and these changes, and return its outputs."""
    cloudformation = aws.client("cloudformation")
    present = find(cloudformation, STACK)
    parameters = {**(present.parameters if present else {}), **changes}
    template = for_stand_in((ROOT / "infra" / "template.yaml").read_text())
    planned = plan(
        cloudformation,
        Request(
            stack=STACK,
            kind=prepare(cloudformation, STACK, log=lambda _: None, poll_seconds=1),
            template_url=upload_template(
                aws.client("s3"), CODE_BUCKET, template, owner=parameters["ManagementAccountId"]
            ),
            parameters=parameters,
        ),
        poll_seconds=1,
    )
    if planned:
        execute(cloudformation, planned, poll_seconds=1)
    complete(aws, STACK)
    return outputs(cloudformation, STACK)


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
        # Organizations stores the text as sent and limits its length, so it has no white space.
        Content=json.dumps(document, separators=(",", ":")),
    )
    return str(policy["Policy"]["PolicySummary"]["Id"])


def operator_session(aws: StandIn) -> dict[str, str]:
    """Return the environment of a session of the role OperatorActs."""
    resource = aws.client("cloudformation").describe_stack_resource(StackName=STACK, LogicalResourceId="OperatorActs")
    name = resource["StackResourceDetail"]["PhysicalResourceId"]
    role = aws.client("iam").get_role(RoleName=name)["Role"]["Arn"]
    session = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="demo")["Credentials"]
    return {
        "AWS_ENDPOINT_URL": aws.endpoint,
        "AWS_DEFAULT_REGION": aws.region,
        "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["SessionToken"],
    }
