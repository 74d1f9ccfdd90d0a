"""The evidence bucket: every object once."""

from __future__ import annotations

import hashlib
from base64 import b64decode

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from handlers.aws.archive import S3Archive
from handlers.core.errors import RetryableError, fault
from schemas.evidence import Evidence
from schemas.outcome import AttachmentResult, OutcomeStatus, PolicyOutcome
from tests.fakes import NOON, POLICIES
from tests.integration.conftest import SECRETS, TROUBLE, Hook, client, intercepted

EVIDENCE = Evidence(
    event_id="event-1",
    event_name="AcceptHandshake",
    event_time=NOON,
    source="aws.organizations",
    body_sha256="0" * 64,
    organization_id="o-exampleorgid",
    attempt=1,
    status=OutcomeStatus.FAILED,
    policies=(PolicyOutcome(policy_id=POLICIES[0], result=AttachmentResult.FAILED, fault=fault("CODE", "why")),),
    recorded_at=NOON,
)


def test_an_object_is_written_once_and_stays_as_it_was(bucket: str) -> None:
    s3 = client("s3")
    archive = S3Archive(s3, bucket)

    assert archive.record("evidence/1", EVIDENCE) is True
    assert archive.record("evidence/1", EVIDENCE.model_copy(update={"status": OutcomeStatus.ENFORCED})) is False

    stored = s3.get_object(Bucket=bucket, Key="evidence/1", ChecksumMode="ENABLED")
    body = stored["Body"].read()
    assert Evidence.model_validate_json(body) == EVIDENCE
    assert b64decode(stored["ChecksumSHA256"]) == hashlib.sha256(body).digest()
    assert stored["ContentType"] == "application/json"
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 1


def test_other_keys_are_other_objects(bucket: str) -> None:
    archive = S3Archive(client("s3"), bucket)

    assert [archive.record(f"evidence/{number}", EVIDENCE) for number in (1, 2)] == [True, True]


def test_what_is_written_is_locked_by_the_bucket(bucket: str) -> None:
    s3 = client("s3")
    S3Archive(s3, bucket).record("evidence/1", EVIDENCE)

    stored = s3.head_object(Bucket=bucket, Key="evidence/1")
    assert stored["ObjectLockMode"] == "GOVERNANCE"
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=bucket, Key="evidence/1", VersionId=stored["VersionId"])


def test_it_needs_no_permission_but_to_put(bucket: str) -> None:
    s3 = client("s3")
    called: list[str] = []
    s3.meta.events.register("before-call.s3", lambda model, **_: called.append(model.name))
    archive = S3Archive(s3, bucket)

    archive.record("evidence/1", EVIDENCE)
    archive.record("evidence/1", EVIDENCE)

    assert called == ["PutObject", "PutObject"]


@pytest.mark.parametrize(
    ("code", "status"),
    [("ConditionalRequestConflict", 409), ("AccessDenied", 403), ("SlowDown", 503), ("NoSuchBucket", 404)],
)
def test_what_else_the_bucket_says_is_passing(code: str, status: int) -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_client_error("put_object", code, "about 222222222222", status)
        with pytest.raises(RetryableError) as raised:
            S3Archive(s3, "bucket").record("evidence/1", EVIDENCE)

    assert raised.value.fault.code == f"S3.{code}"
    assert "222222222222" not in raised.value.fault.message


@pytest.mark.parametrize("hook", TROUBLE.values(), ids=TROUBLE)
def test_a_bucket_that_cannot_be_reached_is_passing(hook: Hook) -> None:
    s3, sent = intercepted("s3", hook)

    with pytest.raises(RetryableError, match=r"^S3\.") as raised:
        S3Archive(s3, "bucket").record("evidence/1", EVIDENCE)

    assert sent == ["PutObject"]
    assert not any(secret in str(raised.value) for secret in SECRETS)
