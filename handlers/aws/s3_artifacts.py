"""S3: what a deployment wrote for the function and the operators' tool, under keys with its SHA-256."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from handlers.aws.errors import service_errors
from handlers.core.errors import PermanentError, fault

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_DIGEST: Final = re.compile(r"/([0-9a-f]{64})\.json")


class S3Artifacts:
    """Read artifacts, and compare each with the SHA-256 in its key."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def read(self, key: str) -> bytes:
        """Return an artifact.

        Raises RetryableError if it cannot be read, and PermanentError if it is not what its key says.
        """
        with service_errors("S3"):
            body: bytes = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        digest = _DIGEST.search(key)
        if not digest or digest[1] != sha256(body).hexdigest():
            why = f"the object {key} does not have the SHA-256 in its key; deploy again, and find out who replaced it"
            raise PermanentError(fault("ARTIFACT_DIFFERS", why))
        return body
