"""Single adapters against moto; where moto is wrong about AWS, against botocore's Stubber."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws

from infra.deploy.build import ROOT
from infra.deploy.template import load

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE, BUCKET = "outcomes", "evidence-bucket"
RESOURCES = load((ROOT / "infra" / "template.yaml").read_text())["Resources"]


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
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


def client(service: str) -> Any:  # noqa: ANN401 - the callers name the service
    return boto3.client(service, config=Config(retries={"mode": "standard", "total_max_attempts": 1}))  # type: ignore[call-overload]


@pytest.fixture
def table(aws: None) -> Any:  # noqa: ANN401, ARG001 - boto3's own type; a fixture that is needed for its effect
    """Make the table as the template defines it."""
    told = RESOURCES["Outcomes"]["Properties"]
    names = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    client("dynamodb").create_table(TableName=TABLE, **{name: told[name] for name in names})
    return boto3.resource("dynamodb").Table(TABLE)


@pytest.fixture
def bucket(aws: None) -> str:  # noqa: ARG001 - as above
    client("s3").create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    return BUCKET
