"""The evidence bucket: each object is written once."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from handlers.aws.s3_evidence import S3Archive
from handlers.core.errors import RetryableError
from tests.integration.conftest import FAILURES, SECRETS, Hook, client, intercepted

BODY, OTHER = b'{"attempt": 1}', b'{"attempt": 2}'


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_an_object_is_written_once_and_never_changes(bucket: str) -> None:
    s3 = client("s3")
    archive = S3Archive(s3, bucket)

    assert archive.record("evidence/1", BODY) == digest(BODY)
    assert archive.record("evidence/1", OTHER) == digest(BODY), "the first object remains"
    assert archive.record("evidence/1", BODY) == digest(BODY)

    stored = s3.get_object(Bucket=bucket, Key="evidence/1", ChecksumMode="ENABLED")
    assert stored["Body"].read() == BODY
    assert b64decode(stored["ChecksumSHA256"]).hex() == digest(BODY)
    assert stored["ContentType"] == "application/json"
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 1


FOREIGN: dict[str, dict[str, Any]] = {
    "another kind of checksum": {"Body": OTHER, "ChecksumAlgorithm": "CRC32"},
    "the same bytes with another kind of checksum": {"Body": BODY, "ChecksumAlgorithm": "CRC32"},
    "other bytes with a SHA-256": {"Body": OTHER, "ChecksumAlgorithm": "SHA256"},
    "empty": {"Body": b""},
}


@pytest.mark.parametrize("put", FOREIGN.values(), ids=FOREIGN)
def test_an_object_that_somebody_else_wrote_is_not_taken_for_ours(bucket: str, put: dict[str, Any]) -> None:
    s3 = client("s3")
    s3.put_object(Bucket=bucket, Key="evidence/1", **put)

    assert S3Archive(s3, bucket).record("evidence/1", BODY) != digest(BODY)


@pytest.mark.parametrize("answer", [{}, {"ChecksumSHA256": "AAAA-2"}, {"ChecksumSHA256": "not base64!"}])
def test_an_object_without_a_valid_checksum_is_not_ours(answer: dict[str, Any]) -> None:
    """Use Stubber: for a multipart upload, S3 returns a digest of digests, and moto does not."""
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_client_error("put_object", "PreconditionFailed", "no", 412)
        stub.add_response("head_object", answer, {"Bucket": "bucket", "Key": "key", "ChecksumMode": "ENABLED"})

        assert S3Archive(s3, "bucket").record("key", BODY) == ""


@pytest.mark.parametrize("status", [400, 403])
def test_an_object_under_a_key_of_somebody_else_is_not_ours(status: int) -> None:
    """S3 answers like this if the object has a customer-provided key, or a KMS key that the role may not use."""
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_client_error("put_object", "PreconditionFailed", "no", 412)
        stub.add_client_error("head_object", str(status), "no", status)

        assert S3Archive(s3, "bucket").record("key", BODY) == ""


@pytest.mark.parametrize(("code", "status"), [("404", 404), ("500", 500), ("SlowDown", 503)])
def test_an_object_that_cannot_be_compared_is_transient(code: str, status: int) -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_client_error("put_object", "PreconditionFailed", "no", 412)
        stub.add_client_error("head_object", code, "no", status)

        with pytest.raises(RetryableError, match=rf"^S3\.{code}"):
            S3Archive(s3, "bucket").record("key", BODY)


def test_each_key_has_its_own_object(bucket: str) -> None:
    archive = S3Archive(client("s3"), bucket)

    assert [archive.record(f"evidence/{n}", body) for n, body in enumerate((BODY, OTHER))] == [
        digest(BODY),
        digest(OTHER),
    ]


def test_the_bucket_locks_each_new_object(bucket: str) -> None:
    s3 = client("s3")
    S3Archive(s3, bucket).record("evidence/1", BODY)

    stored = s3.head_object(Bucket=bucket, Key="evidence/1")
    assert stored["ObjectLockMode"] == "GOVERNANCE"
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=bucket, Key="evidence/1", VersionId=stored["VersionId"])


def test_an_object_is_compared_only_if_its_key_exists(bucket: str) -> None:
    s3 = client("s3")
    calls: list[str] = []
    s3.meta.events.register("before-call.s3", lambda model, **_: calls.append(model.name))
    archive = S3Archive(s3, bucket)

    archive.record("evidence/1", BODY)
    archive.record("evidence/1", BODY)

    assert calls == ["PutObject", "PutObject", "HeadObject"]


@pytest.mark.parametrize(
    ("code", "status"),
    [("AccessDenied", 403), ("SlowDown", 503), ("NoSuchBucket", 404)],
)
def test_every_other_error_of_the_bucket_is_transient(code: str, status: int) -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_client_error("put_object", code, "about 222222222222", status)
        with pytest.raises(RetryableError) as raised:
            S3Archive(s3, "bucket").record("evidence/1", BODY)

    assert raised.value.fault.code == f"S3.{code}"
    assert "222222222222" not in raised.value.fault.message


def conflicts(stub: Stubber, count: int) -> None:
    """Add the answers to uploads during which another request writes under the same key."""
    for _ in range(count):
        stub.add_client_error("put_object", "ConditionalRequestConflict", "no", 409)


def test_an_upload_that_another_one_disturbs_is_sent_again() -> None:
    """Use Stubber: no stand-in answers 409, as S3 does."""
    s3 = client("s3")
    with Stubber(s3) as stub:
        conflicts(stub, 2)
        stub.add_response("put_object", {})

        assert S3Archive(s3, "bucket").record("key", BODY) == digest(BODY)

        conflicts(stub, 1)
        stub.add_client_error("put_object", "PreconditionFailed", "no", 412)
        stub.add_response("head_object", {"ChecksumSHA256": b64encode(bytes(32)).decode()})

        assert S3Archive(s3, "bucket").record("key", BODY) == "00" * 32


def test_an_upload_that_others_disturb_each_time_can_succeed_soon() -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        conflicts(stub, 3)
        with pytest.raises(RetryableError, match=r"S3\.ConditionalRequestConflict") as raised:
            S3Archive(s3, "bucket").record("key", BODY)

    assert raised.value.soon


@pytest.mark.parametrize("hook", FAILURES.values(), ids=FAILURES)
def test_every_failure_of_s3_is_transient(hook: Hook) -> None:
    s3, sent = intercepted("s3", hook)

    with pytest.raises(RetryableError, match=r"^S3\.") as raised:
        S3Archive(s3, "bucket").record("evidence/1", BODY)

    assert sent == ["PutObject"]
    assert not any(secret in str(raised.value) for secret in SECRETS)


def test_a_read_returns_at_most_one_byte_over_its_limit(bucket: str) -> None:
    s3 = client("s3")
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"evidence/{number}", Body=b"x" * 1000)
    archive = S3Archive(s3, bucket)

    assert archive.read("evidence/0", limit=1000) == b"x" * 1000
    assert archive.read("evidence/0", limit=999) == b"x" * 1000, "one byte more shows that the object is larger"
    assert archive.read("evidence/0", limit=10) == b"x" * 11
    assert archive.read("evidence/0") == b"x" * 1000
    assert archive.under("evidence/", limit=3) == ["evidence/0", "evidence/1", "evidence/2"]
    assert len(archive.under("evidence/")) == 5
