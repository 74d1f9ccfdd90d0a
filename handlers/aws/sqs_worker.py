"""SQS: the inbox and the dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handlers.aws.errors import records_faults
from handlers.core.joins.reasons import tracing, with_reason

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from handlers.core.ports import Message
    from schemas.outcome import Fault


class SqsInbox:
    """The queue that messages come from."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def postpone(self, message: Message, seconds: int) -> None:
        """Hide a message that will be tried again for so long from now."""
        with records_faults("SQS"):
            self._client.change_message_visibility(
                QueueUrl=self._queue_url, ReceiptHandle=message.receipt_handle, VisibilityTimeout=seconds
            )


class SqsDeadLetters:
    """The queue of messages that wait for an operator."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def send(self, message: Message, fault: Fault) -> None:
        """Keep a message, body byte for byte, with the reason why it is dead and all that it carried."""
        attributes: Any = with_reason(message, fault)
        with records_faults("SQS"):
            self._client.send_message(
                QueueUrl=self._queue_url,
                MessageBody=message.body,
                MessageAttributes=attributes,
                **tracing(message.trace_header),
            )
