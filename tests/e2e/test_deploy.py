"""`make deploy`, `status`, `logs` and `destroy` as a platform engineer runs them, against the embedded AWS.

The template is the real one, without the two resources that the stand-in's CloudFormation rejects.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from botocore.exceptions import ClientError
from click.testing import CliRunner

from infra.deploy.__main__ import cli
from infra.deploy.build import ROOT
from infra.deploy.stack import outputs
from infra.local.complete import complete, for_stand_in
from infra.local.installation import create_policy
from infra.local.standin import StandIn, running
from infra.local.waiting import HANGS_AFTER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.e2e.conftest import Done

DENY = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "x:Y", "Resource": "*"}]}


@dataclass(frozen=True, repr=False)
class Console:
    """A shell in the management account."""

    aws: StandIn
    folder: Path
    policy_id: str

    def stage(self, name: str = "rehearsal", *, region: str = "us-east-1", **parameters: str) -> str:
        """Write a stage file and return its path."""
        machine = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
        path = self.folder / f"{name}.yaml"
        # Only one stage of an organization attaches policies.
        values = {"Architecture": machine, "PolicyIds": self.policy_id, "AttachTo": "none"} | parameters
        path.write_text(yaml.safe_dump({"region": region, "parameters": values}))
        return str(path)

    def make(self, target: str, stage: str, arguments: str = "") -> Done:
        """Run a Make target as a platform engineer does; make exits with 2 if the command fails."""
        return subprocess.run(  # noqa: S603 - our own command
            ["make", "--silent", target, f"STAGE={stage}", f"ARGS={arguments}"],  # noqa: S607 - make from PATH
            cwd=ROOT,
            env=os.environ | self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=HANGS_AFTER,
        )

    def run(self, command: str, *arguments: str, answer: str = "", keys: Mapping[str, str] | None = None) -> Done:
        """Run the command behind a target, in this process, by default as the root user."""
        words, environment = [command, *arguments], self.environment() | dict(keys or {})
        done = CliRunner().invoke(cli, words, input=answer, env=environment, catch_exceptions=False)
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.aws.endpoint,
            "AWS_ACCESS_KEY_ID": self.aws.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.aws.secret_access_key,
            "COLUMNS": "200",
        }

    def deploy(self, stage: str, *arguments: str, answer: str = "", keys: Mapping[str, str] | None = None) -> Done:
        return self.run("deploy", "--stage", stage, *self.options(), *arguments, answer=answer, keys=keys)

    def options(self) -> list[str]:
        """Return options that deploy the stand-in's template from the working tree and poll every second."""
        template = self.folder / "template.yaml"
        template.write_text(for_stand_in((ROOT / "infra" / "template.yaml").read_text()))
        return ["--pause", "1", "--allow-dirty", "--template", str(template)]

    def stacks(self) -> dict[str, str]:
        found = self.aws.client("cloudformation").describe_stacks()["Stacks"]
        return {stack["StackName"]: stack["StackStatus"] for stack in found}


def create_trail(aws: StandIn) -> None:
    """Create a trail that logs management events, without which nothing is deployed."""
    aws.client("s3").create_bucket(Bucket="trail")
    recreate(aws.client("cloudtrail"))


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with running() as aws:
        create_trail(aws)
        yield Console(aws, tmp_path_factory.mktemp("stages"), create_policy(aws, "deny-x", DENY))


def test_an_installation_is_deployed_checked_and_destroyed(console: Console) -> None:
    stage = console.stage(AttachTo="all")

    missing = console.make("status", stage)
    assert missing.returncode == 2
    assert "there is no stack joinguard-rehearsal in us-east-1" in missing.stdout
    assert "run `make deploy STAGE=rehearsal`" in missing.stdout
    for command in ("logs", "destroy"):
        refused = console.run(command, "--stage", stage)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "there is no stack joinguard-rehearsal in us-east-1" in refused.stderr
        # What to do about it differs.
        assert ("run `make deploy" in refused.stderr) == (command == "logs")

    yes = shlex.join(["--yes", *console.options()])
    first = console.make("deploy", stage, yes)
    assert first.returncode == 0, first.stderr
    assert "CREATE of stack joinguard-rehearsal" in first.stdout
    assert "DeadLetterQueueUrl" in first.stdout
    assert "next: " in first.stderr
    assert "warning: nobody gets the page: 0 confirmed; set AlarmEmail" in first.stderr

    second = console.make("deploy", stage, yes)
    assert second.returncode == 0, second.stderr
    assert "nothing to change" in second.stderr

    # The stand-in uses plain HTTP and enforces the queues' policies, which require TLS.
    complete(console.aws, "joinguard-rehearsal")
    status = console.make("status", stage, "--json")
    checks = {check["what"]: check for check in json.loads(status.stdout)}
    # The creation, and the update that protects the table.
    assert checks["stack"]["found"] == "UPDATE_COMPLETE"
    assert checks["mapping"]["well"]
    assert checks["dead letters"]["found"] == "0"
    assert checks["policy of queue Joins"]["found"].startswith("the policy"), "it was adapted"
    assert status.returncode == 2

    at = outputs(console.aws.client("cloudformation"), "joinguard-rehearsal")
    console.aws.client("sqs").send_message(QueueUrl=at["DeadLetterQueueUrl"], MessageBody="x")
    unwell = console.run("status", "--stage", stage)
    assert unwell.returncode == 1, "a dead letter needs an operator"
    assert "#dead-letters" in unwell.stdout
    assert "The runbook is handlers/operate/RUNBOOK.md" in unwell.stdout

    logs = console.aws.client("logs")
    logs.create_log_stream(logGroupName=at["LogGroup"], logStreamName="x")
    now = round(time.time() * 1000)
    events = [{"timestamp": now, "message": "one\ntwo\n"}, {"timestamp": now, "message": "three"}]
    logs.put_log_events(logGroupName=at["LogGroup"], logStreamName="x", logEvents=events)
    assert console.run("logs", "--stage", stage).stdout == "one\ntwo\nthree\n"
    assert console.run("logs", "--stage", stage, "--find", "t").stdout == "two\nthree\n"

    dry = console.make("destroy", stage)
    assert dry.returncode == 0
    assert "Evidence" in dry.stdout
    assert "Nothing was changed" in dry.stderr
    assert console.stacks()["joinguard-rehearsal"] == "UPDATE_COMPLETE"

    gone = console.make("destroy", stage, "--confirm --reason 'the rehearsal is over' --pause 1")
    assert gone.returncode == 0, gone.stderr
    assert console.stacks().get("joinguard-rehearsal", "DELETE_COMPLETE") == "DELETE_COMPLETE"


def test_without_an_operator_principal_iam_decides_who_assumes_the_role(console: Console) -> None:
    stage = console.stage("unnamed")
    assert console.deploy(stage, "--yes").returncode == 0
    role = outputs(console.aws.client("cloudformation"), "joinguard-unnamed")["OperatorActs"]
    iam = console.aws.client("iam")
    assume = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role}
    keys = {}
    for name, statements in (("operator", [assume]), ("somebody", [assume | {"Action": "sqs:*", "Resource": "*"}])):
        iam.create_user(UserName=name)
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_user_policy(UserName=name, PolicyName="x", PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        keys[name] = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}

    assumed = console.aws.client("sts", **keys["operator"]).assume_role(RoleArn=role, RoleSessionName="night-shift")
    with pytest.raises(ClientError, match="AccessDenied"):
        console.aws.client("sts", **keys["somebody"]).assume_role(RoleArn=role, RoleSessionName="night-shift")

    assert assumed["AssumedRoleUser"]["Arn"].endswith("/night-shift")


def test_a_declined_deployment_leaves_nothing(console: Console) -> None:
    declined = console.deploy(console.stage("declined"), answer="n\n")

    assert declined.returncode == 1
    assert "the change set was deleted" in declined.stderr
    assert console.stacks().get("joinguard-declined", "DELETE_COMPLETE") == "DELETE_COMPLETE"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"PolicyIds": "p-doesnotexist"}, "there is no policy p-doesnotexist"),
        ({"PolicyIds": ""}, "the stage names no policies"),
        ({"CreatePolicies": "true"}, "keep one"),
        ({"PolicyIds": ",".join(f"p-{number:08d}" for number in range(10))}, "PolicyIds must be one to nine policy id"),
    ],
    ids=["a missing policy", "no policy", "both kinds of policies", "too many policies"],
)
def test_impossible_parameters_are_refused_before_anything_is_deployed(
    console: Console, parameters: dict[str, str], message: str
) -> None:
    refused = console.deploy(console.stage("wrong", **parameters), "--yes")

    assert refused.returncode == 1
    assert message in refused.stderr
    assert "joinguard-wrong" not in console.stacks()


def test_a_region_without_the_events_needs_a_forwarder_first(console: Console) -> None:
    boundary = boundary_of(console.aws)
    ours = {"PermissionsBoundaryArn": boundary, "RolePath": "/team/a/"}
    stage = console.stage("far", region="eu-central-1", **ours)

    refused = console.deploy(stage, "--yes")
    assert refused.returncode == 1
    assert "no rule forwards them to eu-central-1" in refused.stderr

    forwarder = console.run("forwarder", "--stage", stage, "--yes", "--pause", "1")
    assert forwarder.returncode == 0, forwarder.stderr
    assert console.stacks()["joinguard-far-forwarder"] == "CREATE_COMPLETE"
    assert "warning: nobody gets the page: 0 confirmed" in forwarder.stderr
    assert "set AlarmEmail in the stage and run `make forwarder`" in forwarder.stderr
    # The stand-in confirms a subscription at once.
    ours["AlarmEmail"] = "team@example.com"
    stage = console.stage("far", region="eu-central-1", **ours)
    again = console.run("forwarder", "--stage", stage, "--yes", "--pause", "1")
    assert again.returncode == 0, again.stderr
    assert "warning" not in again.stderr
    [stack] = console.aws.client("cloudformation").describe_stacks(StackName="joinguard-far-forwarder")["Stacks"]
    given = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    assert {name: given[name] for name in ours} == ours
    assert given["NameSuffix"] == "-far"

    deployed = console.deploy(stage, "--yes")
    assert deployed.returncode == 0, deployed.stderr


def boundary_of(aws: StandIn) -> str:
    """Create a policy to use as permissions boundary, if there is none, and return its ARN."""
    iam = aws.client("iam")
    found = {each["PolicyName"]: each["Arn"] for each in iam.list_policies(Scope="Local")["Policies"]}
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    policy = {"PolicyName": "boundary", "PolicyDocument": json.dumps(document)}
    return found.get("boundary") or str(iam.create_policy(**policy)["Policy"]["Arn"])


def test_roles_with_a_path_work_as_those_without(console: Console) -> None:
    """The queues' policies name the roles' ARNs. The stand-in ignores permissions boundaries."""
    stage = console.stage("pathed", RolePath="/team/a/", PermissionsBoundaryArn=boundary_of(console.aws))
    assert console.deploy(stage, "--yes").returncode == 0
    complete(console.aws, "joinguard-pathed")
    at = outputs(console.aws.client("cloudformation"), "joinguard-pathed")

    roles = {name: at[name] for name in ("FunctionRole", "OperatorReads", "OperatorActs")}
    assert [name for name, arn in roles.items() if ":role/team/a/" not in arn] == []
    sts = console.aws.client("sts")
    session = {}
    for name in ("OperatorReads", "OperatorActs"):
        found = sts.assume_role(RoleArn=at[name], RoleSessionName="night-shift")["Credentials"]
        session[name] = {
            "aws_access_key_id": found["AccessKeyId"],
            "aws_secret_access_key": found["SecretAccessKey"],
            "aws_session_token": found["SessionToken"],
        }
    letter = {"QueueUrl": at["DeadLetterQueueUrl"], "MessageBody": "x"}
    console.aws.client("sqs", **session["OperatorActs"]).send_message(**letter)
    with pytest.raises(ClientError, match="AccessDenied"):
        console.aws.client("sqs", **session["OperatorReads"]).send_message(**letter)


def test_a_stage_in_the_region_of_the_events_needs_no_forwarder(console: Console) -> None:
    refused = console.run("forwarder", "--stage", console.stage(), "--yes")

    assert refused.returncode == 1
    assert "needs no forwarder" in refused.stderr


def test_a_resource_policy_that_cannot_be_read_is_not_replaced(console: Console) -> None:
    """The stand-in's Organizations has no resource policies; tests/infra/test_delegation.py has AWS's answers."""
    done = console.run("delegation-policy", "--stage", console.stage(), "--administrator", "333333333333")

    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot read the organization's resource policy" in done.stderr


def test_without_credentials_one_line_gives_the_next_step(console: Console) -> None:
    stage = console.stage()
    environment = {"PATH": os.environ["PATH"], "HOME": str(console.folder), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "infra.deploy", "deploy", "--stage", stage, "--yes"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_AFTER,
    )

    assert done.returncode == 1
    assert "Log in (aws sso login) or set AWS_PROFILE" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_stage_is_refused_with_the_known_stages(console: Console) -> None:
    done = console.run("status", "--stage", "nowhere")

    assert done.returncode == 1
    assert "there is no stage 'nowhere'; use one of prod, test" in done.stderr


@dataclass(frozen=True)
class Trail:
    """What is wrong with the only trail, and the words for it."""

    change: Callable[[Any], object]
    undo: Callable[[Any], object]
    words: str


def recreate(cloudtrail: Any) -> None:
    cloudtrail.create_trail(Name="all", S3BucketName="trail", IsMultiRegionTrail=True)
    cloudtrail.start_logging(Name="all")


def select(cloudtrail: Any, *, management: bool) -> None:
    selector = {"ReadWriteType": "All", "IncludeManagementEvents": management}
    cloudtrail.put_event_selectors(TrailName="all", EventSelectors=[selector])


TRAILS = {
    "there is none": Trail(lambda c: c.delete_trail(Name="all"), recreate, "there is no trail"),
    "it does not log": Trail(
        lambda c: c.stop_logging(Name="all"), lambda c: c.start_logging(Name="all"), "trail all is not logging"
    ),
    "it logs no management events": Trail(
        lambda c: select(c, management=False), lambda c: select(c, management=True), "does not log write management"
    ),
}


@pytest.mark.parametrize("trail", TRAILS.values(), ids=TRAILS)
def test_without_a_trail_that_logs_management_events_nothing_is_deployed(console: Console, trail: Trail) -> None:
    trail.change(console.aws.client("cloudtrail"))
    try:
        refused = console.deploy(console.stage("silent"), "--yes")
        # This refusal has another reason, so that nothing is deployed.
        creating = console.deploy(console.stage("silent", CreateTrail="true", PolicyIds="p-doesnotexist"), "--yes")
    finally:
        trail.undo(console.aws.client("cloudtrail"))

    assert refused.returncode == 1
    assert trail.words in refused.stderr
    assert 'set CreateTrail to "true" in the stage' in refused.stderr
    assert "joinguard-silent" not in console.stacks()
    assert "CloudTrail" not in creating.stderr


def test_a_trail_that_may_not_be_read_is_a_warning(console: Console) -> None:
    stage = console.stage("unreadable")
    iam = console.aws.client("iam")
    iam.create_user(UserName="deployer")
    statements = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "cloudtrail:*", "Resource": "*"},
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_user_policy(UserName="deployer", PolicyName="x", PolicyDocument=document)
    key = iam.create_access_key(UserName="deployer")["AccessKey"]
    keys = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    declined = console.deploy(stage, answer="n\n", keys=keys)

    assert "warning: it is not known whether a CloudTrail trail logs management events" in declined.stderr
    assert "the change set was deleted" in declined.stderr
