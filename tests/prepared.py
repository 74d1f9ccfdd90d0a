"""Clients of AWS with prepared answers, for what the embedded AWS lacks or does otherwise than AWS."""

from __future__ import annotations

from typing import Any, cast

import boto3
from botocore.config import Config
from botocore.stub import Stubber

from infra.deploy.preflight import Account
from infra.deploy.stages import Stage, Target

ACCOUNT_ID = "111111111111"
ORGANIZATION_ID = "o-abcdefghij"
ACCOUNT = Account(
    account_id=ACCOUNT_ID,
    partition="aws",
    region="us-east-1",
    organization_id=ORGANIZATION_ID,
    management_account_id=ACCOUNT_ID,
    all_features=True,
)


class Stub(Stubber):
    """A client that has prepared answers and cannot reach AWS; add the answers in the order of the calls."""

    client: Any


def stub(service: str, region: str = "us-east-1") -> Stub:
    """Return a stub of a service in a Region."""
    client: Any = boto3.client(  # type: ignore[call-overload]
        service,
        region_name=region,
        aws_access_key_id="x",
        aws_secret_access_key="x",  # noqa: S106 - nothing receives it
        config=Config(retries={"total_max_attempts": 1}),
    )
    return Stub(client)


class StubbedSession:
    """A session whose clients have prepared answers; a call without one fails."""

    def __init__(self, stubs: dict[str, Stub]) -> None:
        self._stubs = stubs
        for each in stubs.values():
            each.activate()

    def client(self, service: str, region_name: str | None = None) -> Any:
        """Return the client of a service, the same in each Region."""
        del region_name
        return self._stubs[service].client


def target(stubs: dict[str, Stub], *, name: str = "prod", **parameters: str) -> Target:
    """Return a target whose session has these stubs."""
    stage = Stage(name=name, region="us-east-1", parameters=parameters)
    return Target(cast("boto3.Session", StubbedSession(stubs)), stage, poll_seconds=1)
