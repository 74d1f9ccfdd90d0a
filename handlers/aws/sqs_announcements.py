"""SQS: the messages that say which objects were written to the evidence bucket."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from handlers.aws.errors import service_errors
from handlers.core.errors import RetryableError, fault
from handlers.core.evidence.sealing import Announced, ObjectVersion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_sqs import SQSClient

#: S3's ids of versions (https://docs.aws.amazon.com/AmazonS3/latest/userguide/versioning-workflows.html).
_VERSION_ID: Final = re.compile("[A-Za-z0-9._-]{1,1024}")
#: SQS's limit for one call.
_AT_ONCE: Final = 10


class SqsAnnouncements:
    """The queue to which EventBridge sends S3's events `Object Created`."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def receive(self) -> Sequence[Announced]:
        """Return up to ten messages; none if the queue is empty."""
        with service_errors("SQS"):
            # A second of waiting asks all of SQS's servers.
            answer = self._client.receive_message(
                QueueUrl=self._queue_url, MaxNumberOfMessages=_AT_ONCE, WaitTimeSeconds=1
            )
        return [Announced(each["ReceiptHandle"], _version(each["Body"])) for each in answer.get("Messages", [])]

    def delete(self, receipts: Sequence[str]) -> None:
        """Delete messages; raise RetryableError if SQS keeps one. They are received again then, and have no effect."""
        kept = 0
        for at in range(0, len(receipts), _AT_ONCE):
            entries: Any = [
                {"Id": str(number), "ReceiptHandle": each} for number, each in enumerate(receipts[at : at + _AT_ONCE])
            ]
            with service_errors("SQS"):
                answer = self._client.delete_message_batch(QueueUrl=self._queue_url, Entries=entries)
            kept += len(answer.get("Failed", ()))
        if kept:
            raise RetryableError(fault("SQS.NotDeleted", f"SQS did not delete {kept} messages"))


def _version(body: str) -> ObjectVersion | None:
    """Return the version that a message names; None if it is no such message. The comparison finds its object."""
    try:
        found = json.loads(body)["detail"]["object"]
        key, version_id = found["key"], found["version-id"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    is_named = isinstance(key, str) and isinstance(version_id, str) and _VERSION_ID.fullmatch(version_id)
    return ObjectVersion(key, version_id) if is_named else None
