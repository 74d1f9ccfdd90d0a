"""The stage chooses the installation for every Make target of the operators' tool."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from infra.deploy.build import ROOT
from infra.deploy.operate import as_deployed, with_document
from infra.deploy.stack import DeployError
from infra.deploy.stages import Stage, load_stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALLER = """<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::111111111111:user/x</Arn>
<UserId>AIDAEXAMPLE</UserId><Account>111111111111</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""
NO_STACK = """<ErrorResponse><Error><Code>ValidationError</Code><Message>Stack does not exist</Message></Error>
</ErrorResponse>"""


class Aws:
    """An AWS without stacks, which records which stack is asked for in which Region."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        aws = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                is_sts = request["Action"] == ["GetCallerIdentity"]
                if not is_sts:
                    [region] = re.findall(r"Credential=[^/]+/[0-9]+/([^/]+)/", self.headers["Authorization"])
                    aws.asked.append((request["StackName"][0], region))
                self.send_response(200 if is_sts else 400)
                self.end_headers()
                self.wfile.write((CALLER if is_sts else NO_STACK).encode())

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server.server_port}",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "ap-southeast-2",
        }
        return subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "infra.deploy.operate", *arguments],
            cwd=ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def aws() -> Iterator[Aws]:
    aws = Aws()
    thread = Thread(target=aws.server.serve_forever)
    thread.start()
    yield aws
    aws.server.shutdown()
    thread.join()
    aws.server.server_close()


@pytest.mark.parametrize(("stage", "stack"), [("prod", "joinguard"), ("test", "joinguard-test")])
def test_a_stage_chooses_the_stack(aws: Aws, stage: str, stack: str) -> None:
    result = aws.run(stage, "list")

    assert aws.asked == [(stack, "us-east-1")]
    assert result.returncode == 1
    assert f"stack {stack} " in result.stderr
    where = "" if stage == "prod" else f" STAGE={stage}"
    assert f"run `make deploy{where}`" in result.stderr


def test_the_region_comes_from_the_stage_file_and_not_from_the_environment(aws: Aws, tmp_path: Path) -> None:
    (tmp_path / "far.yaml").write_text("region: us-gov-west-1\n")

    aws.run(str(tmp_path / "far.yaml"), "outcomes")

    assert aws.asked == [("joinguard-far", "us-gov-west-1")]


def test_an_unknown_stage_is_an_error_in_one_line_and_reaches_no_installation(aws: Aws) -> None:
    result = aws.run("nowhere", "redrive", "--all", "--confirm", "--reason", "x")

    assert (result.returncode, aws.asked) == (1, [])
    assert "there is no stage 'nowhere'; use one of" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def stage(**parameters: str) -> Stage:
    return Stage(name="test", region="us-east-1", parameters=parameters)


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({}, ["--attach-to=all", "--keeps"]),
        ({"AttachTo": "none", "RemovePolicies": "true"}, ["--attach-to=none", "--removes"]),
    ],
)
def test_plan_gets_what_the_next_deployment_plans_with_and_says_so(
    parameters: dict[str, str], options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert as_deployed(stage(**parameters), ("plan", "--json")) == ["plan", *options, "--json"]
    said = capsys.readouterr()
    assert "from the file of stage test, as the next `make deploy" in said.err
    assert not said.out


def test_a_plan_with_places_is_not_said_to_be_that_of_the_next_deployment(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_deployed(stage(), ("plan", "--places")) == ["plan", "--attach-to=all", "--keeps", "--places"]
    said = capsys.readouterr().err
    assert "as the next `make deploy" not in said
    assert "plans without --places, so the digest of its plan can be another one" in " ".join(said.split())


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (["--attach-to", "all"], ["--removes"]),
        (["--attach-to=all", "--keeps"], []),
        (["--removes"], ["--attach-to=none"]),
    ],
)
def test_what_the_operator_gives_to_plan_stays(
    given: list[str], options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    acting = stage(AttachTo="none", RemovePolicies="true")

    assert as_deployed(acting, ("plan", *given)) == ["plan", *options, *given]
    assert "can make another plan" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("lock",), ("plan", "--help"), ()])
def test_other_commands_get_what_the_operator_gives(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert as_deployed(stage(), arguments) == [*arguments]
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("parameters", "rule"),
    [
        ({"AttachTo": "some"}, "AttachTo must be all, none, or at most 130 account ids"),
        ({"RemovePolicies": "yes"}, "RemovePolicies must be true or false, not yes"),
        ({"RemovePolicy": "true"}, "there is no parameter RemovePolicy; correct it to RemovePolicies"),
    ],
)
def test_a_plan_of_a_stage_that_deploy_refuses_is_refused_with_the_same_problem(
    parameters: dict[str, str], rule: str
) -> None:
    with pytest.raises(DeployError, match=f"stage file test.yaml: {rule}"):
        as_deployed(stage(**parameters), ("plan",))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return a stage file in another folder than ours."""
    path = tmp_path / "stages" / "custom.yaml"
    path.parent.mkdir()
    path.write_text("region: us-east-1\n")
    return path


@pytest.mark.parametrize("has_document", [True, False])
@pytest.mark.parametrize(
    "given", [["plan", "--json"], ["plan", "--before", "none"], ["lock", "--check"], ["lock"], ["snapshot", "o.json"]]
)
def test_the_document_is_the_one_that_the_deployment_of_the_stage_reads(
    elsewhere: Path, given: list[str], *, has_document: bool
) -> None:
    document = elsewhere.parent.parent / "guardrails" / "custom.yaml"
    if has_document:
        document.parent.mkdir()
        document.write_text("version: 1\n")

    assert with_document(load_stage(str(elsewhere)), given) == [*given, str(document)]


@pytest.mark.parametrize(
    "given",
    [
        ["plan", "mine.yaml", "--json"],
        ["plan", "--before", "none", "mine.yaml"],
        ["lock", "mine.yaml"],
        ["lock", "--", "mine.yaml"],
        ["snapshot", "o.json", "mine.yaml"],
        # The next argument would be the file to write.
        ["snapshot", "--force"],
        ["plan", "--before"],
        ["list"],
        ["nothing"],
        [],
    ],
)
def test_no_document_is_added_to_one_that_the_operator_names_nor_where_none_belongs(
    elsewhere: Path, given: list[str]
) -> None:
    assert with_document(load_stage(str(elsewhere)), given) == given


def test_make_reads_the_document_beside_the_stage_file(aws: Aws, elsewhere: Path) -> None:
    result = aws.run(str(elsewhere), "plan", "--before", "none")

    assert result.returncode == 1
    assert str(elsewhere.parent.parent / "guardrails" / "custom.yaml") in result.stderr


def test_make_runs_plan_with_the_options_of_the_stage(aws: Aws) -> None:
    result = aws.run("test", "plan")

    assert "the plan takes AttachTo and RemovePolicies from the file of stage test" in result.stderr
    assert "as the next `make deploy STAGE=test` does" in result.stderr
