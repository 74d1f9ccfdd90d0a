"""SQS's own move task: it moves all messages of a queue, without a filter."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from handlers.aws.errors import service_errors
from handlers.core.redrive.ports import MoveTask

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class SqsMoves:
    """Start, watch and cancel the move of all dead letters.

    The move names its destination. SQS knows the source queue only of messages that SQS itself moved; for those that
    the worker sent, a move without a destination fails with CouldNotDetermineMessageSource
    (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/troubleshooting-dlq-redrive.html).
    """

    def __init__(self, client: SQSClient, source_url: str, destination_url: str) -> None:
        self._client = client
        self._source_url = source_url
        self._destination_url = destination_url

    def start(self, *, per_second: int) -> None:
        """Start a task that moves 1 to 500 messages a second; SQS allows one task at a time."""
        with service_errors("SQS"):
            self._client.start_message_move_task(
                SourceArn=self._source_arn,
                DestinationArn=self._arn(self._destination_url),
                MaxNumberOfMessagesPerSecond=per_second,
            )

    def latest(self) -> MoveTask | None:
        """Return the latest task; None if there is none, or if SQS no longer lists it."""
        with service_errors("SQS"):
            found = self._client.list_message_move_tasks(SourceArn=self._source_arn, MaxResults=1).get("Results")
        if not found:
            return None
        [task] = found
        return MoveTask(
            status=task.get("Status", ""),
            moved=task.get("ApproximateNumberOfMessagesMoved", 0),
            to_move=task.get("ApproximateNumberOfMessagesToMove"),
            handle=task.get("TaskHandle"),
            failure=task.get("FailureReason"),
            started=task.get("StartedTimestamp", 0),
        )

    def cancel(self, handle: str) -> None:
        """Cancel a task; messages that are moved stay moved."""
        with service_errors("SQS"):
            self._client.cancel_message_move_task(TaskHandle=handle)

    @cached_property
    def _source_arn(self) -> str:
        return self._arn(self._source_url)

    def _arn(self, url: str) -> str:
        with service_errors("SQS"):
            answer = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return answer["Attributes"]["QueueArn"]
