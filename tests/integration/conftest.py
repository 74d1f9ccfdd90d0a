"""Test single adapters against moto, or against botocore's Stubber and hooks where moto differs from AWS."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from threading import RLock
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber

from infra.deploy.build import ROOT
from infra.deploy.template import load

TABLE, BUCKET = "outcomes", "evidence-bucket"
RESOURCES = load((ROOT / "infra" / "template.yaml").read_text())["Resources"]
URL = "https://service"

#: A hook on `before-send` that answers or fails instead of sending the request.
Hook = Callable[..., AWSResponse | None]


def _serialized(answer: Callable[..., Any]) -> Callable[..., Any]:
    lock = RLock()

    def answer_serialized(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return answer(*args, **kwargs)

    return answer_serialized


# moto's state is not safe for threads: of two concurrent receives, one can change a collection that the other iterates.
BotocoreStubber.process_request = _serialized(BotocoreStubber.process_request)  # type: ignore[method-assign]


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def aws(credentials: None) -> Iterator[None]:  # noqa: ARG001 - used for its effect
    with mock_aws():
        yield


@cache
def session() -> boto3.Session:
    """Return one session for all tests, because every session reads the services' models again."""
    return boto3.Session("testing", "testing", region_name="us-east-1")


def client(service: str) -> Any:
    return session().client(service, config=Config(retries={"mode": "standard", "total_max_attempts": 1}))  # type: ignore[call-overload]


def make_outcomes() -> Any:
    """Create the table as the template defines it."""
    properties = RESOURCES["Outcomes"]["Properties"]
    names = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    client("dynamodb").create_table(TableName=TABLE, **{name: properties[name] for name in names})
    return session().resource("dynamodb").Table(TABLE)


@pytest.fixture
def table(aws: None) -> Any:  # noqa: ARG001 - used for its effect
    return make_outcomes()


@pytest.fixture
def bucket(aws: None) -> str:  # noqa: ARG001 - used for its effect
    """Create a bucket that locks new objects as the template's bucket does, but only for a day."""
    s3 = client("s3")
    s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    s3.put_object_lock_configuration(Bucket=BUCKET, ObjectLockConfiguration=lock)
    return BUCKET


def answers(status: int, body: bytes) -> Hook:
    """Return a hook that answers every request with this status and body."""

    class Raw:
        def stream(self) -> Iterator[bytes]:
            yield body

    return lambda **_: AWSResponse(URL, status, HTTPHeaders(), Raw())


def fails(error: Exception) -> Hook:
    """Return a hook that fails every request with an error."""

    def fail(**_: object) -> None:
        raise error

    return fail


def intercepted(service: str, hook: Hook) -> tuple[Any, list[str]]:
    """Return a client whose requests go to a hook, and the list of the operations that it sends."""
    made, sent = client(service), []
    made.meta.events.register_first("before-send", lambda event_name, **_: sent.append(event_name.rpartition(".")[2]))
    made.meta.events.register("before-send", hook)
    return made, sent


#: Parts of the answers below that must not appear in logs, outcomes or evidence.
SECRETS = ("222222222222", "arn:", "jane")
#: Failures of our own records and queues, which say nothing about the event.
FAILURES: dict[str, Hook] = {
    "a throttle": answers(400, b'{"__type": "ThrottlingException", "message": "about 222222222222"}'),
    "access denied": answers(
        403, b'{"__type": "AccessDeniedException", "message": "arn:aws:iam::222222222222:user/jane may not"}'
    ),
    "a server error": answers(500, b""),
    "a gateway's error page": answers(502, b"<html>"),
    "a read timeout": fails(ReadTimeoutError(endpoint_url=URL)),
    "a closed connection": fails(ConnectionClosedError(endpoint_url=URL)),
    "a refused connection": fails(EndpointConnectionError(endpoint_url=URL, error="refused")),
    "a connect timeout": fails(ConnectTimeoutError(endpoint_url=URL)),
    "no credentials": fails(NoCredentialsError()),
}
