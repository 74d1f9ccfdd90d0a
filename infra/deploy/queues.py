"""How many messages a queue has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: Visible, in flight, and delayed messages.
_COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


def messages_in(sqs: SQSClient, url: str) -> int:
    """Return how many messages a queue has: visible, in flight, and delayed together; SQS's counts are approximate."""
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_COUNTS))["Attributes"]
    return sum(int(attributes.get(each, 0)) for each in _COUNTS)
