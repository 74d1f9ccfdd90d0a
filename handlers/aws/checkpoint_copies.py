"""Copies of checkpoints: in a bucket of another account, and as messages on an SNS topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from handlers.aws.errors import error_code, service_errors
from schemas.keys import checkpoint_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient


class S3CheckpointCopies:
    """Write copies to a bucket, each once."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def copy(self, origin: str, number: int, note: bytes) -> None:
        """Copy a checkpoint, unless it was copied before. The log's name is the folder."""
        with service_errors("S3"):
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=f"{origin}/{checkpoint_key(number)}",
                    Body=note,
                    ContentType="text/plain; charset=utf-8",
                    ChecksumAlgorithm="SHA256",
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if error_code(error) != "PreconditionFailed":
                    raise


class SnsCheckpointCopies:
    """Publish copies on a topic, whose subscribers decide what becomes of them: mail, a queue, an HTTPS address."""

    def __init__(self, client: SNSClient, topic: str) -> None:
        self._client = client
        self._topic = topic

    def copy(self, origin: str, number: int, note: bytes) -> None:
        """Publish a checkpoint; after an interruption perhaps a second time."""
        with service_errors("SNS"):
            self._client.publish(
                TopicArn=self._topic, Subject=f"Checkpoint {number} of {origin}"[:100], Message=note.decode()
            )
