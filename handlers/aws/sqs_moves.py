"""SQS's own move task: all letters of a queue, without a filter, by SQS itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from handlers.aws.errors import records_faults

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True)
class Move:
    """How a move task stands."""

    #: RUNNING, CANCELLING, CANCELLED, COMPLETED or FAILED.
    status: str
    moved: int
    #: Unknown until SQS has begun.
    to_move: int | None
    #: SQS tells it of a running task alone.
    handle: str | None
    failure: str | None
    #: When it was started, in milliseconds since 1970: tells one task from the next.
    started: int = 0


class SqsMoves:
    """Start, watch and cancel the move of all dead letters.

    The destination is named, for SQS itself knows where a letter came from only if SQS put it there; those that
    the worker has put there would fail with CouldNotDetermineMessageSource
    (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/troubleshooting-dlq-redrive.html).
    """

    def __init__(self, client: SQSClient, source_url: str, destination_url: str) -> None:
        self._client = client
        self._source_url = source_url
        self._destination_url = destination_url

    def start(self, *, per_second: int) -> None:
        """Start a task; SQS allows one at a time, and 1 to 500 letters a second."""
        with records_faults("SQS"):
            self._client.start_message_move_task(
                SourceArn=self._source_arn,
                DestinationArn=self._arn(self._destination_url),
                MaxNumberOfMessagesPerSecond=per_second,
            )

    def latest(self) -> Move | None:
        """Return the latest task; None where there never was one, or not for long."""
        with records_faults("SQS"):
            found = self._client.list_message_move_tasks(SourceArn=self._source_arn, MaxResults=1).get("Results")
        if not found:
            return None
        [task] = found
        return Move(
            status=task.get("Status", ""),
            moved=task.get("ApproximateNumberOfMessagesMoved", 0),
            to_move=task.get("ApproximateNumberOfMessagesToMove"),
            handle=task.get("TaskHandle"),
            failure=task.get("FailureReason"),
            started=task.get("StartedTimestamp", 0),
        )

    def cancel(self, handle: str) -> None:
        """Let SQS move no more; what it has moved stays moved."""
        with records_faults("SQS"):
            self._client.cancel_message_move_task(TaskHandle=handle)

    @cached_property
    def _source_arn(self) -> str:
        return self._arn(self._source_url)

    def _arn(self, url: str) -> str:
        with records_faults("SQS"):
            asked = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return asked["Attributes"]["QueueArn"]
