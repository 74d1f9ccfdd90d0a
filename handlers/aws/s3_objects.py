"""S3: the objects in the evidence bucket, version by version, as they are sealed."""

from __future__ import annotations

from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from handlers.aws.errors import (
    S3_ARCHIVED,
    S3_DENIED,
    S3_GONE,
    S3_NOT_OURS,
    S3_OF_KMS,
    S3_UNREADABLE,
    error_code,
    service_errors,
)
from handlers.core.evidence.sealing import Described, ListedVersion, ObjectVersion
from schemas.sealed import SealedObject

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mypy_boto3_s3 import S3Client

    from schemas.ids import Sha256
    from schemas.sealed import Comparison, ObjectKind

#: S3's codes for markers of a listing that cannot be those of a version.
_NO_MARKER: Final = frozenset({"InvalidArgument", "KeyTooLongError"})
#: How many objects are read at the same time.
_AT_ONCE: Final = 8
#: An object without a checksum, which a worker did not write, is hashed up to this size.
_MAX_HASHED: Final = 64 * 1024 * 1024
_CHUNK: Final = 1024 * 1024


class S3EvidenceObjects:
    """Describe versions of objects, and list them. `key_arn` is the KMS key that encrypts what Joinguard writes."""

    def __init__(self, client: S3Client, bucket: str, key_arn: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key_arn = key_arn

    def describe(
        self, kinds: Sequence[tuple[ObjectVersion, ObjectKind]], may_read: Callable[[], bool]
    ) -> Sequence[Described]:
        """Return what S3 says about versions, without those that are gone or encrypted with a key of a customer.

        Bytes, of which S3 has no SHA-256, are read while `may_read` says so.
        """
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [
                found for found in pool.map(lambda each: self._described(each[0], each[1], may_read), kinds) if found
            ]

    def versions(self, after: Comparison) -> tuple[Sequence[ListedVersion], Comparison | None]:
        """Return the next versions and delete markers under a prefix, and where to go on; None at the end."""
        with service_errors("S3"):
            page = self._page(after)
        listed = [
            *(ListedVersion(ObjectVersion(each["Key"], each["VersionId"])) for each in page.get("Versions", [])),
            *(
                ListedVersion(ObjectVersion(each["Key"], each["VersionId"]), each["LastModified"])
                for each in page.get("DeleteMarkers", [])
            ),
        ]
        if not page["IsTruncated"]:
            return listed, None
        following = {"key": page["NextKeyMarker"], "version_id": page["NextVersionIdMarker"]}
        return listed, after.model_copy(update=following)

    def _page(self, after: Comparison) -> Any:
        markers: Any = {"KeyMarker": after.key, "VersionIdMarker": after.version_id} if after.key else {}
        if not after.version_id:
            markers.pop("VersionIdMarker", None)
        try:
            return self._client.list_object_versions(Bucket=self._bucket, Prefix=after.prefix, **markers)
        except ClientError as error:
            # S3 knows no such version: begin the prefix again.
            if markers and error_code(error) in _NO_MARKER:
                return self._client.list_object_versions(Bucket=self._bucket, Prefix=after.prefix)
            raise

    def _described(self, version: ObjectVersion, kind: ObjectKind, may_read: Callable[[], bool]) -> Described | None:
        with service_errors("S3"):
            try:
                found, digest, may_follow = self._head(version, may_read)
            except ClientError as error:
                # One object must not keep all others from being sealed. Verifying finds it, because the log lacks it.
                if error_code(error) in S3_DENIED:
                    return Described(version, None, may_follow=True)
                if error_code(error) in S3_GONE | S3_NOT_OURS:
                    return None
                raise
        described = SealedObject(
            kind=kind,
            key=version.key,
            version_id=version.version_id,
            sha256=digest,
            size=found["ContentLength"],
            modified_at=found["LastModified"],
            retain_until=found.get("ObjectLockRetainUntilDate"),
            lock=found.get("ObjectLockMode"),
        )
        return Described(version, described, may_follow)

    def _head(self, version: ObjectVersion, may_read: Callable[[], bool]) -> tuple[Any, Sha256 | None, bool]:
        """Return the answer to HEAD, the SHA-256 of the content, if S3 returns it, and whether it may do so later."""
        name: Any = {"Bucket": self._bucket, "Key": version.key, "VersionId": version.version_id}
        try:
            found = self._client.head_object(**name, ChecksumMode="ENABLED")
        except ClientError as error:
            if error_code(error) in S3_NOT_OURS:
                found = self._client.head_object(**name)
                return found, None, self._is_ours(found)
            raise
        digest = _sha256_in(found)
        if digest or found["ContentLength"] > _MAX_HASHED:
            return found, digest, False
        try:
            digest = self._hash(name, may_read)
        except ClientError as error:
            code = error_code(error)
            if code in S3_UNREADABLE or code.startswith(S3_OF_KMS):
                return found, None, self._is_ours(found)
            if code == S3_ARCHIVED:
                return found, None, False
            raise
        return found, digest, digest is None

    def _is_ours(self, found: Any) -> bool:
        """Return whether an object is encrypted with no key but ours.

        HEAD names the key to whoever may read the object, without asking KMS. S3's own keys have no name.
        """
        return bool(found.get("SSEKMSKeyId", self._key_arn) == self._key_arn)

    def _hash(self, name: Any, may_read: Callable[[], bool]) -> Sha256 | None:
        """Return the SHA-256 of an object's bytes; None if there is no time to read them."""
        if not may_read():
            return None
        digest = sha256()
        body = self._client.get_object(**name)["Body"]
        with body:
            for chunk in body.iter_chunks(_CHUNK):
                if not may_read():
                    return None
                digest.update(chunk)
        return digest.hexdigest()


def _sha256_in(found: Any) -> Sha256 | None:
    """Return the checksum in an answer. That of an object that was uploaded in parts is one of checksums: no Base64."""
    try:
        return b64decode(found.get("ChecksumSHA256", ""), validate=True).hex() or None
    except ValueError:
        return None
