"""SQS as an operator handles it: both queues of failures, in batches of ten."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from handlers.aws.errors import records_faults
from handlers.core.errors import RetryableError
from handlers.core.joins.reasons import trace_header, tracing
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.in_flight import Sent
from schemas.attribute import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient

    from handlers.core.redrive.dead_letter import Held, Queue
    from handlers.core.redrive.in_flight import Destination

#: How long a letter stays in hand. Whoever dies meanwhile gives it back by that.
IN_HAND: Final = 900
_BATCH: Final = 10
_ASKED: Final = ("SentTimestamp", "ApproximateReceiveCount", "AWSTraceHeader", "DeadLetterQueueSourceArn")
#: Calls that are made at once: SQS answers each within some 20 ms, and further away it is the way that takes long.
_AT_ONCE: Final = 8


class SqsPost:
    """Take letters in hand, give them back, send them, delete them."""

    def __init__(self, client: SQSClient, urls: Mapping[Queue, str], joins_url: str, *, poll: int = 1) -> None:
        """Take the queues; `poll` is how many seconds SQS may take to look on all its servers, 0 to 20."""
        self._client = client
        self._urls = urls
        self._poll = poll
        self._pool = ThreadPoolExecutor(_AT_ONCE)
        self._all_urls: dict[str, str] = {"joins": joins_url} | {str(queue): url for queue, url in urls.items()}

    def browse(self) -> Iterator[list[DeadLetter]]:
        """Take every letter of both queues in hand, a round of calls at a time.

        SQS shows a message only by handing it out, which raises its receive count. Neither queue has a redrive
        policy, so that count leads nowhere. A short poll asks some of SQS's servers and may come back empty
        although there is more, a long one asks all: the last answer of each queue is that of a long one.
        """
        seen: set[str] = set()
        keeps_for = {queue: self._keeps_for(url) for queue, url in self._urls.items()}
        found = True
        while found:
            for queue in self._urls:
                yield from self._drain(queue, keeps_for, seen)
            late = self._receive(list(self._urls), keeps_for, wait=self._poll)
            found = not {each.message_id for each in late} <= seen
            seen.update(each.message_id for each in late)
            yield late

    def _drain(self, queue: Queue, keeps_for: Mapping[Queue, timedelta], seen: set[str]) -> Iterator[list[DeadLetter]]:
        """Receive until an answer brings nothing new; where there is more than one call brings, by several at once."""
        calls = 1
        while True:
            batch = self._receive([queue] * calls, keeps_for, wait=0)
            if {each.message_id for each in batch} <= seen:
                yield batch
                return
            seen.update(each.message_id for each in batch)
            calls = _AT_ONCE if len(batch) == calls * _BATCH else 1
            yield batch

    def release(self, letters: Sequence[Held]) -> None:
        """Let letters be seen again at once."""
        self._hide(letters, 0)

    def hold(self, letters: Sequence[Held]) -> list[Held]:
        """Keep letters in hand for as long again; return those that still are."""
        return self._hide(letters, IN_HAND)

    def _hide(self, letters: Sequence[Held], seconds: int) -> list[Held]:
        def hide(queue: Queue, batch: Sequence[Held]) -> list[Held]:
            entries: Any = [
                {"Id": str(number), "ReceiptHandle": each.receipt, "VisibilityTimeout": seconds}
                for number, each in enumerate(batch)
            ]
            with records_faults("SQS"):
                answer = self._client.change_message_visibility_batch(QueueUrl=self._urls[queue], Entries=entries)
            return [batch[int(each["Id"])] for each in answer.get("Successful", [])]

        calls = [self._pool.submit(hide, *each) for each in _by_queue(letters)]
        return [each for call in calls for each in call.result()]

    def send(self, to: Destination, letters: Sequence[DeadLetter]) -> Sent:
        """Send letters, bodies byte for byte and attributes as they are, in batches that SQS takes.

        Raises RetryableError where nothing was sent; where something was, the rest is told as refused.
        """
        taken: list[DeadLetter] = []
        refused: dict[str, str] = {}
        for batch in _light_enough(letters):
            try:
                answer = self._send(to, batch)
            except RetryableError as error:
                if not taken:
                    raise
                refused |= {each.message_id: str(error) for each in batch}
                continue
            taken += [batch[int(each["Id"])] for each in answer.get("Successful", [])]
            for each in answer.get("Failed", []):
                refused[batch[int(each["Id"])].message_id] = f"{each['Code']}: {each.get('Message', 'no reason given')}"
        return Sent(taken, refused)

    def _send(self, to: Destination, batch: Sequence[DeadLetter]) -> Any:
        entries: Any = [
            {
                "Id": str(number),
                "MessageBody": each.body,
                "MessageAttributes": {name: dict(value) for name, value in each.attributes.items()},
                **tracing(each.trace_header),
            }
            for number, each in enumerate(batch)
        ]
        with records_faults("SQS"):
            return self._client.send_message_batch(QueueUrl=self._all_urls[to], Entries=entries)

    def delete(self, letters: Sequence[Held]) -> list[Held]:
        """Delete letters for good; return those that are gone."""
        gone: list[Held] = []
        for queue, batch in _by_queue(letters):
            entries: Any = [{"Id": str(n), "ReceiptHandle": each.receipt} for n, each in enumerate(batch)]
            with records_faults("SQS"):
                answer = self._client.delete_message_batch(QueueUrl=self._urls[queue], Entries=entries)
            gone += [batch[int(each["Id"])] for each in answer.get("Successful", [])]
        return gone

    def put(self, body: str) -> str:
        """Put a message of our own on the joins queue; return its id."""
        with records_faults("SQS"):
            return self._client.send_message(QueueUrl=self._all_urls["joins"], MessageBody=body)["MessageId"]

    def waiting(self) -> int:
        """Count the joins that wait."""
        return self._visible(self._all_urls["joins"])

    def hidden(self) -> int:
        """Count the letters that are in somebody's hand; about, as SQS does."""
        return sum(int(self._attribute(url, "ApproximateNumberOfMessagesNotVisible")) for url in self._urls.values())

    def count(self, queue: Queue) -> int:
        """Count the letters that nobody has in hand; about, as SQS does."""
        return self._visible(self._urls[queue])

    def _visible(self, url: str) -> int:
        return int(self._attribute(url, "ApproximateNumberOfMessages"))

    def _keeps_for(self, url: str) -> timedelta:
        return timedelta(seconds=int(self._attribute(url, "MessageRetentionPeriod")))

    def _attribute(self, url: str, name: Any) -> str:
        with records_faults("SQS"):
            asked: Any = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        return str(asked["Attributes"][name])

    def _receive(self, queues: Sequence[Queue], keeps_for: Mapping[Queue, timedelta], *, wait: int) -> list[DeadLetter]:
        """Make a call for each name, all at once; whatever keeps their letters from the caller, they are given back."""
        made = [self._pool.submit(self._receive_once, queue, keeps_for[queue], wait) for queue in queues]
        try:
            return [letter for call in made for letter in call.result()]
        except BaseException:
            for call in made:
                with suppress(BaseException):
                    self.release([letter.held for letter in call.result()])
            raise

    def _receive_once(self, queue: Queue, keeps_for: timedelta, wait: int) -> list[DeadLetter]:
        with records_faults("SQS"):
            answer = self._client.receive_message(
                QueueUrl=self._urls[queue],
                MaxNumberOfMessages=_BATCH,
                VisibilityTimeout=IN_HAND,
                WaitTimeSeconds=wait,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=list(_ASKED),
            )
        return [_letter(queue, keeps_for, message) for message in answer.get("Messages", [])]


def _by_queue(letters: Sequence[Held]) -> Iterator[tuple[Queue, list[Held]]]:
    """Put letters into batches of one queue each."""
    for queue in dict.fromkeys(each.queue for each in letters):
        ours = [each for each in letters if each.queue == queue]
        for begin in range(0, len(ours), _BATCH):
            yield queue, ours[begin : begin + _BATCH]


def _light_enough(letters: Sequence[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """Put letters into batches of at most ten that together are not too heavy."""
    batch: list[DeadLetter] = []
    weight = 0
    for letter in letters:
        if batch and (len(batch) == _BATCH or weight + letter.weight > MOST_BYTES):
            yield batch
            batch, weight = [], 0
        batch.append(letter)
        weight += letter.weight
    if batch:
        yield batch


def _letter(queue: Queue, keeps_for: timedelta, message: Mapping[str, Any]) -> DeadLetter:
    told = message.get("Attributes", {})
    kept = ("DataType", "StringValue", "BinaryValue")
    sent_at = datetime.fromtimestamp(int(told["SentTimestamp"]) / 1000, UTC)
    return DeadLetter(
        queue=queue,
        message_id=message["MessageId"],
        receipt=message["ReceiptHandle"],
        body=message["Body"],
        attributes={
            name: {key: value[key] for key in kept if key in value}
            for name, value in message.get("MessageAttributes", {}).items()
        },
        sent_at=sent_at,
        receives=int(told["ApproximateReceiveCount"]),
        deleted_at=sent_at + keeps_for,
        trace_header=trace_header(told.get("AWSTraceHeader")),
        moved_by_sqs="DeadLetterQueueSourceArn" in told,
    )
