"""SQS: the queue of the sweep's requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from handlers.aws.errors import service_errors
from handlers.core.errors import RetryableError, fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_sqs import SQSClient

    from schemas.events import JoinRequest

_TRIES: Final = 3
_COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class SqsRepairs:
    """The queue that the worker takes requests from when no join waits."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def send(self, requests: Sequence[JoinRequest]) -> None:
        """Send at most ten requests; raise RetryableError unless all of them are on the queue."""
        left: list[Any] = [
            {"Id": str(number), "MessageBody": each.model_dump_json()} for number, each in enumerate(requests)
        ]
        for _ in range(_TRIES):
            with service_errors("SQS"):
                answer = self._client.send_message_batch(QueueUrl=self._queue_url, Entries=left)
            sent = {each["Id"] for each in answer.get("Successful", ())}
            left = [each for each in left if each["Id"] not in sent]
            if not left:
                return
        raise RetryableError(fault("SQS.NotSent", f"SQS did not accept {len(left)} of {len(requests)} requests"))

    def is_empty(self) -> bool:
        """Return whether no request waits or is being handled, as far as SQS knows."""
        with service_errors("SQS"):
            names: Any = _COUNTS
            found: Any = self._client.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=names)
        return not any(int(found["Attributes"][each]) for each in _COUNTS)
