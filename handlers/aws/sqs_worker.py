"""SQS, as the workers use it: the inbox, the dead letters, and the requests from one worker to the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from handlers.aws.errors import service_errors
from handlers.aws.sqs_messages import trace_header_parameters
from handlers.core.joins.failure_attributes import failure_attributes

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from handlers.core.joins.ports import Message
    from schemas.events import JoinRequest, RemovalRequest
    from schemas.outcome import Fault

#: Seconds until an account is evaluated after a removal: longer than changes of accounts take to be read everywhere.
_SETTLED: Final = 300


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


class SqsRemovals:
    """The queue of the worker that removes policies."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def request(self, request: RemovalRequest) -> None:
        """Send a request."""
        with service_errors("SQS"):
            self._client.send_message(QueueUrl=self._queue_url, MessageBody=request.model_dump_json())

    def pass_on(self, message: Message) -> None:
        """Send a message as it is."""
        attributes: Any = message.attributes
        with service_errors("SQS"):
            self._client.send_message(
                QueueUrl=self._queue_url,
                MessageBody=message.body,
                MessageAttributes=attributes,
                **trace_header_parameters(message.trace_header),
            )


class SqsEvaluations:
    """The queue of the worker that attaches policies."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def request(self, request: JoinRequest) -> None:
        """Send a request, which SQS delivers after five minutes."""
        with service_errors("SQS"):
            self._client.send_message(
                QueueUrl=self._queue_url, MessageBody=request.model_dump_json(), DelaySeconds=_SETTLED
            )
