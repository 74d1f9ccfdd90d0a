"""S3: the artifacts bucket, whose objects have the SHA-256 of their content as their name."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from handlers.aws.errors import service_errors
from handlers.core.errors import PermanentError, fault

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3Artifacts:
    """Read what a deployment stored."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def read(self, key: str) -> bytes:
        """Return an object's bytes; `key` is `…/SHA256.suffix`.

        Raises PermanentError if they do not have this SHA-256, RetryableError if they cannot be read.
        """
        with service_errors("S3"), self._client.get_object(Bucket=self._bucket, Key=key)["Body"] as body:
            content = body.read()
        if sha256(content).hexdigest() != key.rpartition("/")[2].partition(".")[0]:
            raise PermanentError(
                fault("WRONG_CONTENT", f"{key} does not have the content that its name says; deploy it again")
            )
        return content
