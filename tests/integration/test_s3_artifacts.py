"""Compiled guardrails in the artifacts bucket, and how the operators' tool finds those that are in force."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from handlers.aws.s3_artifacts import S3Artifacts
from handlers.core.errors import PermanentError, RetryableError
from handlers.operate.__main__ import cli
from handlers.operate.errors import NotInstalledError, OperateError
from handlers.operate.installation import open_context
from infra.deploy.guardrails import to_be_replaced
from infra.deploy.stack import DeployError
from infra.deploy.stages import Stage, Target
from infra.local.organizations import served
from schemas.compiled_guardrails import for_everyone
from tests.fakes import MANAGEMENT, ORGANIZATION
from tests.integration.conftest import FAILURES, SECRETS, Hook, client, intercepted

BUCKET = "artifacts-bucket"
GUARDRAILS = for_everyone(("p-aaaaaaaa",))
KEY = f"joinguard/guardrails/{GUARDRAILS.sha256()}.json"


@pytest.fixture
def s3(aws: None) -> Any:  # noqa: ARG001 - used for its effect
    s3 = client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=GUARDRAILS.canonical())
    return s3


def test_an_object_is_read_if_its_content_is_what_its_name_says(s3: Any) -> None:
    assert S3Artifacts(s3, BUCKET).read(KEY) == GUARDRAILS.canonical()


def test_another_content_than_the_name_says_is_an_error_that_no_retry_corrects(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=GUARDRAILS.canonical() + b" ")

    with pytest.raises(PermanentError, match="does not have the SHA-256 in its key"):
        S3Artifacts(s3, BUCKET).read(KEY)


@pytest.mark.parametrize("hook", FAILURES.values(), ids=FAILURES)
def test_a_bucket_that_does_not_answer_says_nothing_about_the_guardrails(credentials: None, hook: Hook) -> None:  # noqa: ARG001 - used for its effect
    s3, _ = intercepted("s3", hook)

    with pytest.raises(RetryableError) as raised:
        S3Artifacts(s3, BUCKET).read(KEY)

    assert not any(secret in raised.value.fault.message for secret in SECRETS)


OUTPUTS = {
    "PolicyIds": "p-bbbbbbbb",
    "DeadLetterQueueUrl": "https://x/dlq",
    "UndeliveredQueueUrl": "https://x/undelivered",
    "QueueUrl": "https://x/joins",
    "EvidenceBucket": "evidence-bucket",
    "OutcomesTable": "outcomes",
    "PoliciesPerAccount": "10",
    "PseudonymKeyId": "key",
    "BackupDays": "90",
}
PARAMETERS = {
    "OrganizationId": ORGANIZATION,
    "ManagementAccountId": MANAGEMENT,
    "AttachmentsPerSecond": "2",
    "RetentionMode": "GOVERNANCE",
    "CodeBucket": BUCKET,
}


@contextmanager
def stack(monkeypatch: pytest.MonkeyPatch, *, status: str = "CREATE_COMPLETE", **parameters: str) -> Iterator[None]:
    """Serve a stack with these parameters and the outputs of an installation: moto's needs packages that we do not."""
    given = "".join(_pair("Parameter", *each) for each in (PARAMETERS | parameters).items())
    outputs = "".join(_pair("Output", *each) for each in OUTPUTS.items())
    member = f"<Outputs>{outputs}</Outputs><Parameters>{given}</Parameters><StackStatus>{status}</StackStatus>"
    member += "<StackId>arn:x/joinguard/1</StackId>"
    result = f"<DescribeStacksResult><Stacks><member>{member}</member></Stacks></DescribeStacksResult>"
    body = f"<DescribeStacksResponse>{result}</DescribeStacksResponse>".encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with served(Handler) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", endpoint)
        yield


def _pair(kind: str, name: str, value: str) -> str:
    return f"<member><{kind}Key>{name}</{kind}Key><{kind}Value>{value}</{kind}Value></member>"


@pytest.mark.usefixtures("s3")
def test_the_guardrails_in_force_are_those_that_the_stack_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with stack(monkeypatch, GuardrailsKey=KEY):
        context = open_context("joinguard", None, "us-east-1", 1)

    assert context.requirements.guardrails.policy_ids == ("p-aaaaaaaa",)
    assert context.requirements.guardrails.sha256 == sha256(GUARDRAILS.canonical()).hexdigest()


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize("parameters", [{}, {"GuardrailsKey": ""}])
def test_without_a_key_the_policies_of_the_stack_are_in_force_for_everyone(
    parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with stack(monkeypatch, **parameters):
        context = open_context("joinguard", None, "us-east-1", 1)

    assert context.requirements.guardrails.policy_ids == ("p-bbbbbbbb",)


@pytest.mark.usefixtures("s3")
def test_a_plan_takes_guardrails_that_are_not_there_for_an_error_and_not_for_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text("version: 1\npolicies: [a]\nrules: [{id: all, attach: [a], match: all}]\n")
    missing = f"joinguard/guardrails/{'0' * 64}.json"

    with stack(monkeypatch, GuardrailsKey=missing):
        result = CliRunner().invoke(cli, ["--region", "us-east-1", "plan", "x.yaml"])

    assert result.exit_code == 1
    assert "NoSuchKey" in result.output


@pytest.mark.parametrize("content", [None, b"{}", GUARDRAILS.canonical() + b" "], ids=["gone", "another", "changed"])
def test_guardrails_that_the_worker_cannot_read_do_not_keep_a_deployment_from_uploading_them_again(
    content: bytes | None, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nobody could do what the worker's error says: deploy again."""
    if content is None:
        s3.delete_object(Bucket=BUCKET, Key=KEY)
    else:
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=content)
    target = Target(boto3.Session(), Stage(name="prod", region="us-east-1"), poll_seconds=1)
    notes: list[str] = []

    with stack(monkeypatch, GuardrailsKey=KEY):
        before = to_be_replaced(target, notes.append)

    assert before is None
    assert len(notes) == 1


@pytest.mark.usefixtures("s3")
def test_guardrails_in_force_that_can_be_read_are_those_that_a_deployment_replaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = Target(boto3.Session(), Stage(name="prod", region="us-east-1"), poll_seconds=1)

    with stack(monkeypatch, GuardrailsKey=KEY):
        before = to_be_replaced(target, pytest.fail)

    assert before
    assert before.sha256 == GUARDRAILS.sha256()


def test_a_deployment_ends_if_the_guardrails_in_force_may_not_be_read(
    aws: None,  # noqa: ARG001 - used for its effect
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with served(_Denies) as endpoint, stack(monkeypatch, GuardrailsKey=KEY):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        target = Target(boto3.Session(), Stage(name="prod", region="us-east-1"), poll_seconds=1)

        with pytest.raises(DeployError, match="AccessDenied"):
            to_be_replaced(target, pytest.fail)


class _Denies(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Missing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        message = "<Message>Stack with id joinguard does not exist</Message>"
        body = f"<ErrorResponse><Error><Code>ValidationError</Code>{message}</Error></ErrorResponse>".encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.usefixtures("aws")
def test_a_stack_that_is_not_there_yet_is_told_from_one_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(_Missing) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", endpoint)
        with pytest.raises(NotInstalledError, match=r"does not exist\. Add --stack"):
            open_context("joinguard", None, "us-east-1", 1)

    monkeypatch.delitem(OUTPUTS, "QueueUrl")
    with (
        stack(monkeypatch, status="REVIEW_IN_PROGRESS", GuardrailsKey=KEY),
        pytest.raises(NotInstalledError, match="has no QueueUrl"),
    ):
        open_context("joinguard", None, "us-east-1", 1)
    with stack(monkeypatch, GuardrailsKey=KEY), pytest.raises(OperateError, match="has no QueueUrl") as wrong:
        open_context("joinguard", None, "us-east-1", 1)
    assert not isinstance(wrong.value, NotInstalledError)
