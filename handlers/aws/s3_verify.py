"""S3: the evidence bucket version by version, as it is verified. Objects are read several at a time."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from handlers.aws.errors import (
    S3_ARCHIVED,
    S3_DENIED,
    S3_GONE,
    S3_OF_KMS,
    S3_UNREADABLE,
    error_code,
    service_errors,
)
from handlers.aws.s3_evidence import S3Archive
from handlers.core.evidence.verifying import MAX_KEPT, Fetched, Listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from mypy_boto3_s3 import S3Client

    from handlers.core.evidence.verifying import Wanted

#: How many objects are read at the same time, and how many are read ahead.
AT_ONCE: Final = 16
_AHEAD: Final = 4 * AT_ONCE
_CHUNK: Final = 1024 * 1024
#: S3's codes for an object without a lock.
_NOT_LOCKED: Final = frozenset({"NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"})


class S3SealedBucket(S3Archive):
    """Read all versions of all objects."""

    def __init__(self, client: S3Client, bucket: str, key_arn: str | None) -> None:
        """Take the ARN of the KMS key that encrypts what Joinguard writes; None if that is not known."""
        super().__init__(client, bucket)
        self._key_arn = key_arn
        self._may_read_locks = True

    @property
    def has_versions(self) -> bool:
        """Whether versions, times and locks are known."""
        return True

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Yield all versions and delete markers under a prefix, in the order of the keys' bytes."""
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=prefix)
        with service_errors("S3"):
            for page in pages:
                versions = ((each["Key"].encode(), each, False) for each in page.get("Versions", []))
                markers = ((each["Key"].encode(), each, True) for each in page.get("DeleteMarkers", []))
                for _, each, is_marker in merge(versions, markers, key=itemgetter(0)):
                    yield _listed(each, is_marker=is_marker)

    def fetch(self, wanted: Iterable[Wanted]) -> Iterator[Fetched]:
        """Read objects, several at a time, and yield them in order."""
        pool = ThreadPoolExecutor(AT_ONCE)
        ahead: deque[Future[Fetched]] = deque()
        try:
            for each in wanted:
                ahead.append(pool.submit(self._fetched, each))
                if len(ahead) >= _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            # Otherwise, an interrupt waits until everything is read.
            pool.shutdown(wait=False, cancel_futures=True)

    def _fetched(self, wanted: Wanted) -> Fetched:
        name: Any = {"Bucket": self._bucket, "Key": wanted.key}
        if wanted.version_id:
            name["VersionId"] = wanted.version_id
        digest: str | None
        with service_errors("S3"):
            try:
                answer: Any = self._client.get_object(**name)
                digest, size, body = _read(answer["Body"])
            except ClientError as error:
                if error_code(error) in S3_GONE:
                    return Fetched(wanted, None)
                if self._is_foreign(error_code(error), name):
                    return Fetched(wanted, None, is_foreign=True)
                if error_code(error) != S3_ARCHIVED:
                    raise
                answer, (digest, size, body) = self._client.head_object(**name), (None, 0, None)
            lock, until = answer.get("ObjectLockMode"), answer.get("ObjectLockRetainUntilDate")
            # S3 leaves the lock out if there is none, and if the caller may not read it.
            knows_lock = until is not None or self._has_no_lock(name)
        return Fetched(wanted, digest, size, body, knows_lock, lock, until, is_archived=digest is None)

    def _is_foreign(self, code: str, name: Any) -> bool:
        """Return whether an object cannot be read because another key encrypts it, and not because the caller may not.

        HEAD names the KMS key without asking KMS; it answers 400 if the customer's own key is needed.
        """
        if not (code in S3_UNREADABLE or code.startswith(S3_OF_KMS)):
            return False
        try:
            found = self._client.head_object(**name)
        except ClientError as error:
            return error_code(error) == "400"
        return self._key_arn is not None and found.get("SSEKMSKeyId", self._key_arn) != self._key_arn

    def _has_no_lock(self, name: Any) -> bool:
        """Return whether an object is known to have no lock."""
        if not self._may_read_locks:
            return False
        try:
            found = self._client.get_object_retention(**name)
        except ClientError as error:
            if error_code(error) in _NOT_LOCKED:
                return True
            if error_code(error) not in S3_DENIED:
                raise
            self._may_read_locks = False
            return False
        return "RetainUntilDate" not in found.get("Retention", {})


def _listed(each: Any, *, is_marker: bool) -> Listed:
    return Listed(each["Key"], each["VersionId"], is_marker, each.get("Size", 0), each["LastModified"])


def _read(stream: Any) -> tuple[str, int, bytes | None]:
    """Return the SHA-256, the size, and the bytes if they are few enough."""
    digest, size, kept = sha256(), 0, []
    with stream:
        for chunk in stream.iter_chunks(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            if size <= MAX_KEPT:
                kept.append(chunk)
    return digest.hexdigest(), size, b"".join(kept) if size <= MAX_KEPT else None
