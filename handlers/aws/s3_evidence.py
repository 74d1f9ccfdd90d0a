"""S3: the evidence bucket. Each key is written once; if it is taken, the objects are compared."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from handlers.aws.errors import S3_NOT_OURS, error_code, service_errors

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_s3 import S3Client

    from schemas.ids import Sha256

#: How often an object is sent while others write under the same key.
_UPLOADS: Final = 3


def put_once(client: S3Client, **request: Any) -> bool:
    """Write an object with its SHA-256 checksum; return False if the key is taken.

    Raises RetryableError, also if other requests were writing under the key each time.
    """
    with service_errors("S3"):
        for _ in range(_UPLOADS - 1):
            try:
                return _put(client, request)
            except ClientError as error:
                if error_code(error) != "ConditionalRequestConflict":
                    raise
        return _put(client, request)


def _put(client: S3Client, request: Any) -> bool:
    try:
        client.put_object(**request, ChecksumAlgorithm="SHA256", IfNoneMatch="*")
    except ClientError as error:
        if error_code(error) == "PreconditionFailed":
            return False
        raise
    return True


class S3Archive:
    """Write evidence; the default retention of the bucket locks it."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def record(self, key: str, body: bytes) -> Sha256:
        """Write an object unless the key is taken; return the SHA-256 of the object that the key then holds.

        Returns an empty string if that object has no SHA-256 checksum, so that the worker did not write it. S3 stores
        the checksum with the object, so the objects are compared without reading them.
        """
        if self._put(key, body):
            return sha256(body).hexdigest()
        with service_errors("S3"):
            try:
                found = self._client.head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
            except ClientError as error:
                # The object is encrypted with another key, so the worker did not write it.
                if error_code(error) in S3_NOT_OURS:
                    return ""
                raise
        # An object that was uploaded in parts has a checksum of checksums and the number of parts: not valid Base64.
        try:
            return b64decode(found.get("ChecksumSHA256", ""), validate=True).hex()
        except ValueError:
            return ""

    def keep(self, key: str, body: bytes, *, mode: str, until: datetime) -> bool:
        """Write an object, locked until a moment in GOVERNANCE or COMPLIANCE mode; return False if the key is taken.

        The lock replaces the default retention of the bucket, which is that of evidence.
        """
        return self._put(key, body, ObjectLockMode=mode, ObjectLockRetainUntilDate=until)

    def _put(self, key: str, body: bytes, **lock: Any) -> bool:
        return put_once(self._client, Bucket=self._bucket, Key=key, Body=body, ContentType="application/json", **lock)

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        """Return an object's bytes, at most one more than the limit.

        Raises RetryableError with Cause.NOT_FOUND if there is no such object.
        """
        with service_errors("S3"):
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            with body:
                return body.read() if limit is None else body.read(limit + 1)

    def under(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """Return the keys under a prefix, in order, at most as many as the limit."""
        with service_errors("S3"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, PaginationConfig={"MaxItems": limit} if limit else {}
            )
            return [each["Key"] for page in pages for each in page.get("Contents", [])]

    def folders(self, prefix: str) -> list[str]:
        """Return the keys and the folders directly under a prefix, in order."""
        with service_errors("S3"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, Delimiter="/"
            )
            return sorted(
                name
                for page in pages
                for name in (
                    *(each["Key"] for each in page.get("Contents", [])),
                    *(each["Prefix"] for each in page.get("CommonPrefixes", [])),
                )
            )
