"""Single adapters against moto; where moto is wrong about AWS, against botocore's Stubber and hooks."""

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

#: What a hook on `before-send` does instead of sending.
Hook = Callable[..., AWSResponse | None]


def _one_by_one(answer: Callable[..., Any]) -> Callable[..., Any]:
    one_at_a_time = RLock()

    def answer_alone(*args: Any, **kwargs: Any) -> Any:
        with one_at_a_time:
            return answer(*args, **kwargs)

    return answer_alone


# moto's state is not made for threads: two receives at once fail now and then, one changing what the other walks over.
BotocoreStubber.process_request = _one_by_one(BotocoreStubber.process_request)  # type: ignore[method-assign]


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
def aws(credentials: None) -> Iterator[None]:  # noqa: ARG001 - a fixture that is needed for its effect
    with mock_aws():
        yield


@cache
def session() -> boto3.Session:
    """Make one session for all tests: each new one reads the services' models anew."""
    return boto3.Session("testing", "testing", region_name="us-east-1")


def client(service: str) -> Any:
    return session().client(service, config=Config(retries={"mode": "standard", "total_max_attempts": 1}))  # type: ignore[call-overload]


def make_outcomes() -> Any:
    """Make the table as the template defines it."""
    told = RESOURCES["Outcomes"]["Properties"]
    names = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    client("dynamodb").create_table(TableName=TABLE, **{name: told[name] for name in names})
    return session().resource("dynamodb").Table(TABLE)


@pytest.fixture
def table(aws: None) -> Any:  # noqa: ARG001 - boto3's own type; a fixture that is needed for its effect
    return make_outcomes()


@pytest.fixture
def bucket(aws: None) -> str:  # noqa: ARG001 - as above
    """Make a bucket that locks what comes, as the template's does, only for a day."""
    s3 = client("s3")
    s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    s3.put_object_lock_configuration(Bucket=BUCKET, ObjectLockConfiguration=lock)
    return BUCKET


def answers(status: int, body: bytes) -> Hook:
    """Answer every request with these bytes."""

    class Raw:
        def stream(self) -> Iterator[bytes]:
            yield body

    return lambda **_: AWSResponse(URL, status, HTTPHeaders(), Raw())


def fails(error: Exception) -> Hook:
    """Let every request fail on its way."""

    def fail(**_: object) -> None:
        raise error

    return fail


def intercepted(service: str, hook: Hook) -> tuple[Any, list[str]]:
    """Return a client whose requests go to a hook, and the names of the operations that it sent."""
    made, sent = client(service), []
    made.meta.events.register_first("before-send", lambda event_name, **_: sent.append(event_name.rpartition(".")[2]))
    made.meta.events.register("before-send", hook)
    return made, sent


#: What the answers below tell, and what must not get into logs, outcomes and evidence.
SECRETS = ("222222222222", "arn:", "jane")
#: How our own records and queues may fail; none of it says anything about the event.
TROUBLE: dict[str, Hook] = {
    "a throttle": answers(400, b'{"__type": "ThrottlingException", "message": "about 222222222222"}'),
    "no permission": answers(
        403, b'{"__type": "AccessDeniedException", "message": "arn:aws:iam::222222222222:user/jane may not"}'
    ),
    "a server error": answers(500, b""),
    "a gateway's page": answers(502, b"<html>"),
    "no answer in time": fails(ReadTimeoutError(endpoint_url=URL)),
    "a connection that is cut": fails(ConnectionClosedError(endpoint_url=URL)),
    "a connection that is refused": fails(EndpointConnectionError(endpoint_url=URL, error="refused")),
    "a connection that takes too long": fails(ConnectTimeoutError(endpoint_url=URL)),
    "no credentials": fails(NoCredentialsError()),
}
