"""SQS, as the worker uses it: the inbox and the dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handlers.aws.errors import service_errors
from handlers.aws.sqs_messages import trace_header_parameters
from handlers.core.joins.failure_attributes import failure_attributes

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from handlers.core.joins.ports import Message
    from schemas.outcome import Fault


class SqsInbox:
    """The queue that delivers the messages."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def postpone(self, message: Message, seconds: int) -> None:
        """Set how long the message stays invisible before SQS delivers it again."""
        with service_errors("SQS"):
            self._client.change_message_visibility(
                QueueUrl=self._queue_url, ReceiptHandle=message.receipt_handle, VisibilityTimeout=seconds
            )


class SqsDeadLetters:
    """The dead-letter queue."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def send(self, message: Message, fault: Fault) -> None:
        """Send a message, its body and attributes unchanged, with the reason why it failed."""
        attributes: Any = failure_attributes(message, fault)
        with service_errors("SQS"):
            self._client.send_message(
                QueueUrl=self._queue_url,
                MessageBody=message.body,
                MessageAttributes=attributes,
                **trace_header_parameters(message.trace_header),
            )
