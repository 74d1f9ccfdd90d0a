"""SQS as an operator handles it: both queues of failures, in batches of ten."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from handlers.aws.faults import records_faults
from handlers.core.letters import DeadLetter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient

    from handlers.core.letters import Queue

#: How long a letter stays in hand. Whoever dies meanwhile gives it back by that.
IN_HAND: Final = 900
#: SQS answers empty now and then although there is more; so many such answers are believed.
_EMPTY_ANSWERS: Final = 3
_BATCH: Final = 10


class SqsPost:
    """Take letters in hand, put them back, send them on, delete them."""

    def __init__(self, client: SQSClient, urls: Mapping[Queue, str], joins_url: str) -> None:
        self._client = client
        self._urls = urls
        self._joins_url = joins_url

    def browse(self) -> Iterator[DeadLetter]:
        """Take every letter of both queues in hand.

        SQS shows a message only by handing it out, which raises its receive count. Neither queue has a redrive
        policy, so that count leads nowhere.
        """
        for queue in self._urls:
            seen: set[str] = set()
            empty = 0
            while empty < _EMPTY_ANSWERS:
                fresh = [each for each in self._receive(queue) if each.message_id not in seen]
                empty = 0 if fresh else empty + 1
                seen.update(each.message_id for each in fresh)
                yield from fresh

    def release(self, letters: Sequence[DeadLetter]) -> None:
        """Let letters be seen again at once."""
        self._hide(letters, 0)

    def hold(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters in hand for as long again."""
        self._hide(letters, IN_HAND)

    def _hide(self, letters: Sequence[DeadLetter], seconds: int) -> None:
        for queue, batch in self._batches(letters):
            entries: Any = [
                {"Id": str(number), "ReceiptHandle": each.receipt, "VisibilityTimeout": seconds}
                for number, each in enumerate(batch)
            ]
            with records_faults("SQS"):
                self._client.change_message_visibility_batch(QueueUrl=self._urls[queue], Entries=entries)

    def resend(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Send letters to the joins, bodies byte for byte and attributes kept; return those that were taken."""
        entries: Any = [
            {
                "Id": str(number),
                "MessageBody": each.body,
                "MessageAttributes": {name: dict(value) for name, value in each.put_back().items()},
            }
            for number, each in enumerate(letters)
        ]
        with records_faults("SQS"):
            answer = self._client.send_message_batch(QueueUrl=self._joins_url, Entries=entries)
        return [letters[int(each["Id"])] for each in answer.get("Successful", [])]

    def delete(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Delete letters for good; return those that are gone."""
        gone: list[DeadLetter] = []
        for queue, batch in self._batches(letters):
            entries: Any = [{"Id": str(n), "ReceiptHandle": each.receipt} for n, each in enumerate(batch)]
            with records_faults("SQS"):
                answer = self._client.delete_message_batch(QueueUrl=self._urls[queue], Entries=entries)
            gone += [batch[int(each["Id"])] for each in answer.get("Successful", [])]
        return gone

    def put(self, body: str) -> None:
        """Put a message of our own on the joins queue."""
        with records_faults("SQS"):
            self._client.send_message(QueueUrl=self._joins_url, MessageBody=body)

    def waiting(self) -> int:
        """Count the joins that wait."""
        return self._visible(self._joins_url)

    def returned(self) -> int:
        """Count the dead letters that nobody has in hand."""
        return self._visible(self._urls["dead letters"])

    def _visible(self, url: str) -> int:
        with records_faults("SQS"):
            asked = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(asked["Attributes"]["ApproximateNumberOfMessages"])

    def _receive(self, queue: Queue) -> Iterable[DeadLetter]:
        with records_faults("SQS"):
            answer = self._client.receive_message(
                QueueUrl=self._urls[queue],
                MaxNumberOfMessages=_BATCH,
                VisibilityTimeout=IN_HAND,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            )
        return [_letter(queue, message) for message in answer.get("Messages", [])]

    def _batches(self, letters: Sequence[DeadLetter]) -> Iterator[tuple[Queue, list[DeadLetter]]]:
        for queue in self._urls:
            ours = [each for each in letters if each.queue == queue]
            for begin in range(0, len(ours), _BATCH):
                yield queue, ours[begin : begin + _BATCH]


def _letter(queue: Queue, message: Mapping[str, Any]) -> DeadLetter:
    told = message.get("Attributes", {})
    kept = ("DataType", "StringValue", "BinaryValue")
    return DeadLetter(
        queue=queue,
        message_id=message["MessageId"],
        receipt=message["ReceiptHandle"],
        body=message["Body"],
        attributes={
            name: {key: value[key] for key in kept if key in value}
            for name, value in message.get("MessageAttributes", {}).items()
        },
        sent_at=datetime.fromtimestamp(int(told["SentTimestamp"]) / 1000, UTC),
        receives=int(told["ApproximateReceiveCount"]),
    )
