"""Copies of checkpoints: in a bucket of another account, and as messages on an SNS topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handlers.aws.errors import service_errors
from handlers.aws.s3_evidence import put_once
from handlers.core.errors import PermanentError, fault
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
        """Copy a checkpoint, unless it was copied before. The log's name is the folder.

        Raises PermanentError if the bucket has another object in its place.
        """
        name: Any = {"Bucket": self._bucket, "Key": f"{origin}/{checkpoint_key(number)}"}
        if put_once(self._client, **name, Body=note, ContentType="text/plain; charset=utf-8"):
            return
        with service_errors("S3"):
            body = self._client.get_object(**name)["Body"]
            with body:
                stored = body.read(len(note) + 1)
        if stored != note:
            raise PermanentError(
                fault("CHECKPOINT_DIFFERS", f"CheckpointBucket has another object in place of checkpoint {number}")
            )


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
