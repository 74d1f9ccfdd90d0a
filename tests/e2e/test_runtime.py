"""The zip alone, under AWS's runtime interface emulator and runtime client."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import time
import zipfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from infra.deploy.build import ROOT
from infra.local.installation import build_local
from infra.local.organizations import passed_on
from infra.local.waiting import until
from schemas.outcome import OutcomeStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Pipeline

RUNTIME = ROOT / ".venv-lambda"
MACHINE = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="AWS's emulator is a binary for Linux")


def free_ports(count: int) -> list[int]:
    """Return this many different free ports."""
    with ExitStack() as probes:
        opened = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in opened:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in opened]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def function(pipeline: Pipeline, tmp_path: Path) -> Iterator[str]:
    """Run the unpacked zip with the deployed function's environment; yield its URL."""
    zipfile.ZipFile(build_local()).extractall(tmp_path)
    emulator = RUNTIME / "rie" / "samcli" / "local" / "rapid" / f"aws-lambda-rie-{MACHINE}"
    emulator.chmod(0o755)
    configured = pipeline.client("lambda").get_function_configuration(FunctionName=pipeline.resource("AttachPolicies"))
    environment = configured["Environment"]["Variables"] | {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": pipeline.aws.endpoint,
        "AWS_ENDPOINT_URL_ORGANIZATIONS": pipeline.relay.endpoint,
        "AWS_REGION": pipeline.aws.region,
        "AWS_DEFAULT_REGION": pipeline.aws.region,
        "AWS_ACCESS_KEY_ID": pipeline.aws.access_key_id,
        "AWS_SECRET_ACCESS_KEY": pipeline.aws.secret_access_key,
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(configured["Timeout"]),
        # AWS's runtime adds the function's folder to the path itself.
        "PYTHONPATH": str(tmp_path),
    }
    port, runtime_port = free_ports(2)
    addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    addresses += ["--runtime-api-address", f"127.0.0.1:{runtime_port}"]
    with subprocess.Popen(  # noqa: S603 - our own command
        [
            str(emulator),
            *addresses,
            str(RUNTIME / "bin" / "python"),
            *("-m", "awslambdaric", "handlers.attach_policies.lambda_handler"),
        ],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        until(lambda: process.poll() is not None or listens(port), "the emulator to listen")
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def invoke(url: str, *bodies: object) -> dict[str, Any]:
    records = [
        {
            "messageId": f"message-{number}",
            "receiptHandle": "none",
            "body": body if isinstance(body, str) else json.dumps(body),
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": str(round(time.time() * 1000))},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "awsRegion": "us-east-1",
        }
        for number, body in enumerate(bodies)
    ]
    body = json.dumps({"Records": records}).encode()
    status, answer, _ = passed_on(url, "POST", "/2015-03-31/functions/function/invocations", body, {})
    assert status == 200, answer
    found: dict[str, Any] = json.loads(answer)
    return found


def test_the_zip_handles_a_batch_without_other_packages(pipeline: Pipeline, function: str) -> None:
    join, retried = pipeline.invited(pipeline.account()), pipeline.invited(pipeline.account())
    pipeline.relay.fail_next("AttachPolicy", *[(400, "FinalizingOrganizationException")] * 2)

    answer = invoke(function, retried, join, "{broken")

    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert pipeline.outcome(retried["detail"]["eventID"]).status is OutcomeStatus.RETRYING
    assert pipeline.outcome(join["detail"]["eventID"]).status is OutcomeStatus.ENFORCED
    [dead_letter] = pipeline.watch.dead_letters()
    assert dead_letter["Body"] == "{broken"
