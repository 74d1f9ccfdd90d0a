"""S3: the evidence, what happened. Each key is written once; what is there already is compared."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from handlers.aws.errors import error_code, service_errors

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_s3 import S3Client

    from schemas.ids import Sha256


#: HEAD has no body, so that the status is all that S3 says.
_NOT_OURS: Final = frozenset({"400", "403"})


class S3Archive:
    """Write evidence into the locked bucket; its default retention does the locking."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def record(self, key: str, body: bytes) -> Sha256:
        """Write an object once; return the SHA-256 of what lies under the key, which is another's if that came first.

        Returns an empty text where what lies there has no SHA-256 checksum: it is not ours. Ours travels with the
        request and stays with the object, so that nothing needs to be read to compare.
        """
        if self._put(key, body):
            return sha256(body).hexdigest()
        with service_errors("S3"):
            try:
                found = self._client.head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
            except ClientError as error:
                # Encrypted under a key that is not ours: neither is the object.
                if error_code(error) in _NOT_OURS:
                    return ""
                raise
        # Of an object that was uploaded in parts, a digest of digests and their number.
        try:
            return b64decode(found.get("ChecksumSHA256", ""), validate=True).hex()
        except ValueError:
            return ""

    def keep(self, key: str, body: bytes, *, mode: str, until: datetime) -> bool:
        """Write bytes once, locked until then and not for as long as evidence; False where the key was there already.

        Mode is GOVERNANCE or COMPLIANCE.
        """
        return self._put(key, body, ObjectLockMode=mode, ObjectLockRetainUntilDate=until)

    def _put(self, key: str, body: bytes, **lock: Any) -> bool:
        with service_errors("S3"):
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=key,
                    Body=body,
                    ContentType="application/json",
                    ChecksumAlgorithm="SHA256",
                    IfNoneMatch="*",
                    **lock,
                )
            except ClientError as error:
                if error_code(error) == "PreconditionFailed":
                    return False
                raise
        return True

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        """Read what was kept; of an object that has more bytes, one more than so many. Only operators may."""
        with service_errors("S3"):
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            with body:
                return body.read() if limit is None else body.read(limit + 1)

    def under(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """List the keys under a prefix, at most so many; only operators may."""
        with service_errors("S3"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, PaginationConfig={"MaxItems": limit} if limit else {}
            )
            return [each["Key"] for page in pages for each in page.get("Contents", [])]
