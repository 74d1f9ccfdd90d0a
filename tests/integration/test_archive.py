"""The evidence bucket: every object once."""

from __future__ import annotations

import hashlib
from base64 import b64decode

import pytest
from botocore.stub import Stubber

from handlers.aws.archive import S3Archive
from handlers.core.errors import RetryableError
from schemas.evidence import Evidence
from schemas.outcome import OutcomeStatus
from tests.fakes import NOON
from tests.integration.conftest import client

EVIDENCE = Evidence(
    event_id="event-1",
    event_name="AcceptHandshake",
    event_time=NOON,
    source="aws.organizations",
    body_sha256="0" * 64,
    organization_id="o-exampleorgid",
    attempt=1,
    status=OutcomeStatus.ENFORCED,
    recorded_at=NOON,
)


def test_an_object_is_written_once_and_stays_as_it_was(bucket: str) -> None:
    s3 = client("s3")
    archive = S3Archive(s3, bucket)

    assert archive.record("evidence/1", EVIDENCE) is True
    assert archive.record("evidence/1", EVIDENCE.model_copy(update={"status": OutcomeStatus.FAILED})) is False

    stored = s3.get_object(Bucket=bucket, Key="evidence/1", ChecksumMode="ENABLED")
    body = stored["Body"].read()
    assert Evidence.model_validate_json(body) == EVIDENCE
    assert b64decode(stored["ChecksumSHA256"]) == hashlib.sha256(body).digest()
    assert stored["ContentType"] == "application/json"
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 1


def test_it_needs_no_permission_but_to_put(bucket: str) -> None:
    s3 = client("s3")
    called: list[str] = []
    s3.meta.events.register("before-call.s3", lambda model, **_: called.append(model.name))

    S3Archive(s3, bucket).record("evidence/1", EVIDENCE)

    assert called == ["PutObject"]


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "AccessDenied", "SlowDown", "NoSuchBucket"])
@pytest.mark.usefixtures("credentials")
def test_what_else_the_bucket_says_is_passing(code: str) -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_client_error("put_object", code, "no", 409)
        with pytest.raises(RetryableError) as raised:
            S3Archive(s3, "bucket").record("evidence/1", EVIDENCE)

    assert raised.value.fault.code == f"S3.{code}"
