"""SQS, as operators use it: both queues of failed messages, in batches of ten."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from handlers.aws.errors import cause_of, service_errors
from handlers.aws.sqs_messages import trace_header_parameters
from handlers.core.errors import RetryableError
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.ports import Sent
from schemas.attribute import MAX_BATCH, MAX_BYTES, trace_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient

    from handlers.core.redrive.dead_letter import Queue, Receipt
    from handlers.core.redrive.ports import Destination

#: Seconds. If the process dies, SQS makes its messages visible again after this time.
VISIBILITY_TIMEOUT: Final = 900
_SYSTEM_ATTRIBUTES: Final = (
    "SentTimestamp",
    "ApproximateReceiveCount",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
)
#: The precision of the Date header of SQS's answers.
_DATE_PRECISION: Final = timedelta(seconds=1)
#: A receive of ten later messages can hide an earlier one. After so many of these without an earlier message, the pass
#: ends.
_MAX_LATE_RECEIVES: Final = 5
#: Parallel calls: SQS answers in about 20 ms, and network latency is higher.
_PARALLEL: Final = 8


class SqsDeadLetterQueues:
    """Receive, release, send and delete messages."""

    def __init__(
        self, client: SQSClient, urls: Mapping[Queue, str], joins_url: str, *, repairs_url: str = "", poll: int = 1
    ) -> None:
        """Take the queues' URLs; `poll` is the wait time of the last receive in seconds, 0 to 20."""
        self._client = client
        self._urls = urls
        self._poll = poll
        self._pool = ThreadPoolExecutor(_PARALLEL)
        self._all_urls: dict[str, str] = {"joins": joins_url, "repairs": repairs_url}
        self._all_urls |= {str(queue): url for queue, url in urls.items()}

    def receive_all(self) -> Iterator[list[DeadLetter]]:
        """Receive every message that both queues held when the pass began, in batches.

        SQS shows a message only by delivering it, which raises its receive count. Neither queue has a redrive policy,
        so the count has no effect. A short poll asks a subset of SQS's servers and can be empty although there are
        messages; a long poll asks all of them. The pass ends only after a long poll finds no message that was there
        when it began. Messages that were sent later are yielded as `late`, and so the pass also ends while messages
        keep arriving.
        """
        seen: set[str] = set()
        about = {queue: self._about(url) for queue, url in self._urls.items()}
        late_receives = 0
        while late_receives < _MAX_LATE_RECEIVES:
            for queue in self._urls:
                yield from self._drain(queue, about, seen)
            last = self._receive(list(self._urls), about, wait=self._poll)
            yield last
            if _found_earlier(last, seen):
                late_receives = 0
            elif any(len([each for each in last if each.queue == queue]) == MAX_BATCH for queue in self._urls):
                late_receives += 1
            else:
                return

    def _drain(self, queue: Queue, about: Mapping[Queue, _About], seen: set[str]) -> Iterator[list[DeadLetter]]:
        """Receive until an answer holds no new message, by parallel calls while the answers are full."""
        calls = 1
        while True:
            batch = self._receive([queue] * calls, about, wait=0)
            yield batch
            if not _found_earlier(batch, seen):
                return
            calls = _PARALLEL if len(batch) == calls * MAX_BATCH else 1

    def release(self, messages: Sequence[Receipt]) -> None:
        """Make messages visible again."""
        self._change_visibility(messages, 0)

    def extend_visibility(self, messages: Sequence[Receipt]) -> list[Receipt]:
        """Extend the visibility timeout of messages; return those that are still in flight."""
        return self._change_visibility(messages, VISIBILITY_TIMEOUT)

    def _change_visibility(self, messages: Sequence[Receipt], seconds: int) -> list[Receipt]:
        def change(queue: Queue, batch: Sequence[Receipt]) -> list[Receipt]:
            entries: Any = [
                {"Id": str(number), "ReceiptHandle": each.receipt_handle, "VisibilityTimeout": seconds}
                for number, each in enumerate(batch)
            ]
            with service_errors("SQS"):
                answer = self._client.change_message_visibility_batch(QueueUrl=self._urls[queue], Entries=entries)
            return [batch[int(each["Id"])] for each in answer.get("Successful", [])]

        calls = [self._pool.submit(change, *each) for each in _batches(messages)]
        return [each for call in calls for each in call.result()]

    def send(self, to: Destination, messages: Sequence[DeadLetter]) -> Sent:
        """Send messages, their bodies and attributes unchanged, in batches within SQS's limits.

        Raises RetryableError if nothing was sent; otherwise the messages of a failed batch are refused.
        """
        accepted: list[DeadLetter] = []
        refused: dict[str, str] = {}
        for batch in _batches_by_size(messages):
            try:
                answer = self._send(to, batch)
            except RetryableError as error:
                if not accepted:
                    raise
                refused |= {each.message_id: str(error) for each in batch}
                continue
            accepted += [batch[int(each["Id"])] for each in answer.get("Successful", [])]
            for each in answer.get("Failed", []):
                refused[batch[int(each["Id"])].message_id] = f"{each['Code']}: {each.get('Message', 'no reason given')}"
        return Sent(accepted, refused)

    def _send(self, to: Destination, batch: Sequence[DeadLetter]) -> Any:
        entries: Any = [
            {
                "Id": str(number),
                "MessageBody": each.body,
                "MessageAttributes": {name: dict(value) for name, value in each.attributes.items()},
                **trace_header_parameters(each.trace_header),
            }
            for number, each in enumerate(batch)
        ]
        with service_errors("SQS"):
            return self._client.send_message_batch(QueueUrl=self._all_urls[to], Entries=entries)

    def delete(self, messages: Sequence[Receipt]) -> list[Receipt]:
        """Delete messages; return those that are deleted."""
        deleted: list[Receipt] = []
        for queue, batch in _batches(messages):
            entries: Any = [{"Id": str(n), "ReceiptHandle": each.receipt_handle} for n, each in enumerate(batch)]
            with service_errors("SQS"):
                answer = self._client.delete_message_batch(QueueUrl=self._urls[queue], Entries=entries)
            deleted += [batch[int(each["Id"])] for each in answer.get("Successful", [])]
        return deleted

    def in_flight(self) -> int:
        """Return the approximate number of messages in flight in both queues of failed messages."""
        return sum(int(self._attribute(url, "ApproximateNumberOfMessagesNotVisible")) for url in self._urls.values())

    def visible(self, queue: Destination) -> int:
        """Return the approximate number of visible messages in a queue."""
        return int(self._attribute(self._all_urls[queue], "ApproximateNumberOfMessages"))

    def _about(self, url: str) -> _About:
        answer = self._attributes(url, "MessageRetentionPeriod")
        return _About(timedelta(seconds=int(answer["Attributes"]["MessageRetentionPeriod"])), _time_of(answer))

    def _attribute(self, url: str, name: Any) -> str:
        return str(self._attributes(url, name)["Attributes"][name])

    def _attributes(self, url: str, name: Any) -> Any:
        with service_errors("SQS"):
            return self._client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])

    def _receive(self, queues: Sequence[Queue], about: Mapping[Queue, _About], *, wait: int) -> list[DeadLetter]:
        """Make one call for each queue in the list, in parallel; after an error, release what the others received."""
        calls = [self._pool.submit(self._receive_once, queue, about[queue], wait) for queue in queues]
        try:
            return [each for call in calls for each in call.result()]
        except BaseException:
            for call in calls:
                with suppress(BaseException):
                    self.release([each.receipt for each in call.result()])
            raise

    def _receive_once(self, queue: Queue, about: _About, wait: int) -> list[DeadLetter]:
        with service_errors("SQS"):
            answer = self._client.receive_message(
                QueueUrl=self._urls[queue],
                MaxNumberOfMessages=MAX_BATCH,
                VisibilityTimeout=VISIBILITY_TIMEOUT,
                WaitTimeSeconds=wait,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=list(_SYSTEM_ATTRIBUTES),
            )
        return [_dead_letter(queue, about, message) for message in answer.get("Messages", [])]


@dataclass(frozen=True)
class _About:
    """What a pass needs to know about a queue."""

    retention: timedelta
    #: When the pass began, by SQS's own clock. None if a proxy removed the time from the answer; the pass then ends
    #: when no new message arrives.
    began_at: datetime | None


def _time_of(answer: Any) -> datetime | None:
    """Return the time of an answer by SQS's own clock, which SentTimestamp uses too."""
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    except (KeyError, ValueError):
        return None


def _found_earlier(batch: Sequence[DeadLetter], seen: set[str]) -> bool:
    """Return whether a batch holds a new message that was there when the pass began; add its messages to `seen`."""
    found = any(each.message_id not in seen and not each.late for each in batch)
    seen.update(each.message_id for each in batch)
    return found


def _batches(messages: Sequence[Receipt]) -> Iterator[tuple[Queue, list[Receipt]]]:
    """Divide messages into batches of one queue each."""
    for queue in dict.fromkeys(each.queue for each in messages):
        ours = [each for each in messages if each.queue == queue]
        for begin in range(0, len(ours), MAX_BATCH):
            yield queue, ours[begin : begin + MAX_BATCH]


def _batches_by_size(messages: Sequence[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """Divide messages into batches of at most ten that together are within SQS's size limit."""
    batch: list[DeadLetter] = []
    total = 0
    for each in messages:
        if batch and (len(batch) == MAX_BATCH or total + each.size_bytes > MAX_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(each)
        total += each.size_bytes
    if batch:
        yield batch


def _dead_letter(queue: Queue, about: _About, message: Mapping[str, Any]) -> DeadLetter:
    system = message.get("Attributes", {})
    values = ("DataType", "StringValue", "BinaryValue")
    sent_at = datetime.fromtimestamp(int(system["SentTimestamp"]) / 1000, UTC)
    received = DeadLetter(
        queue=queue,
        message_id=message["MessageId"],
        receipt_handle=message["ReceiptHandle"],
        body=message["Body"],
        attributes={
            name: {key: value[key] for key in values if key in value}
            for name, value in message.get("MessageAttributes", {}).items()
        },
        sent_at=sent_at,
        receives=int(system["ApproximateReceiveCount"]),
        deleted_at=sent_at + about.retention,
        late=about.began_at is not None and sent_at >= about.began_at + _DATE_PRECISION,
        trace_header=trace_header(system.get("AWSTraceHeader")),
        moved_by_sqs="DeadLetterQueueSourceArn" in system,
    )
    return with_cause(received)


def with_cause(dead_letter: DeadLetter) -> DeadLetter:
    """Return a message with the cause behind its code."""
    return replace(dead_letter, cause=cause_of(dead_letter.code))
