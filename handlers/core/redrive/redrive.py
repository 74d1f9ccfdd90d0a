"""Send messages back to the joins queue, no faster than the workers handle them, and stop if they fail again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

from handlers.core.ports import Clock
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.explanations import Explanation, Reason
from handlers.core.redrive.in_flight import NOT_IN_FLIGHT, InFlight
from handlers.core.redrive.ports import CallPatiently, Destination
from handlers.core.redrive.tracker import BATCH, OutcomeTracker
from schemas.attribute import MAX_BATCH
from schemas.outcome import OutcomeStatus

#: How long to wait until the first messages are decided.
FIRST_MESSAGES_TIMEOUT: Final = timedelta(minutes=5)
#: How long to let others go first.
OTHERS_TIMEOUT: Final = timedelta(minutes=15)
#: Seconds.
_POLL_INTERVAL: Final = 0.5
_BACKLOG_INTERVAL: Final = 2


@dataclass
class Redrive:
    """Send each message first, then delete it from its queue."""

    in_flight: InFlight
    tracker: OutcomeTracker
    clock: Clock
    patiently: CallPatiently
    #: Messages a second; None for no limit, even while other messages wait.
    rate: float | None = None
    #: While more messages than this wait in the queue, nothing is sent.
    max_backlog: int = 50
    #: The number of failed messages that stops the redrive, and the number of first messages.
    breaker: int = 5
    #: Called with the reason whenever the redrive begins to wait.
    notify: Callable[[Explanation], None] = lambda _: None
    #: The queue to which messages are sent.
    to: Destination = "joins"
    #: The result of each message so far: `sent`, then `deleted`; or `refused: …`.
    result_of: dict[str, str] = field(default_factory=dict, init=False)
    sent: int = field(default=0, init=False)
    deleted: int = field(default=0, init=False)
    #: The number of sent messages that cannot be tracked, because their bodies are unreadable.
    untracked: int = field(default=0, init=False)
    #: Why the redrive stopped before its end.
    stopped: Explanation | None = field(default=None, init=False)
    _waited_for_first: bool = field(default=False, init=False)

    def run(self, dead_letters: Sequence[DeadLetter], progress: Callable[[int], None]) -> None:
        """Send messages; those that are not sent stay in flight, and InFlight releases them.

        `progress` is called with the number of messages after each batch.
        """
        for begin in range(0, len(dead_letters), BATCH):
            left = dead_letters[begin : begin + BATCH]
            self.patiently(partial(self.tracker.expect, left))
            while left:
                self._let_others_go_first()
                if self._must_stop():
                    return
                size = self._batch_size()
                batch, left = left[:size], left[size:]
                self._send(batch)
                progress(len(batch))
                if batch[-1] is not dead_letters[-1]:
                    self.clock.sleep(len(batch) / self.rate if self.rate else 0)
                    self._wait_for_first()

    def wait_for_all(self, timeout: timedelta, progress: Callable[[int], None]) -> None:
        """Wait until all sent messages are decided, at most until the timeout."""
        until = self.clock.now() + timeout
        before = len(self.tracker.decided)
        while self.tracker.undecided and self.clock.now() < until:
            self.clock.sleep(_POLL_INTERVAL)
            self._poll()
            progress(len(self.tracker.decided) - before)
            before = len(self.tracker.decided)

    @property
    def failed(self) -> int:
        """The number of messages that failed again."""
        return self.tracker.by_status[OutcomeStatus.FAILED]

    @property
    def results(self) -> dict[str, int]:
        """The number of messages that were sent, deleted and refused, and of decided messages for each status."""
        counts = {"sent": self.sent, "deleted": self.deleted, "refused": len(self.result_of) - self.sent}
        return counts | {status.value.lower(): number for status, number in self.tracker.by_status.items()}

    @property
    def final_results(self) -> dict[str, str]:
        """The result of each message, with the status of its event if that is decided, by message id."""
        decided = self.tracker.decided
        return {
            message_id: f"{result}, {decided[message_id].value.lower()}" if message_id in decided else result
            for message_id, result in self.result_of.items()
        }

    def _batch_size(self) -> int:
        size = MAX_BATCH if self.rate is None else max(1, min(MAX_BATCH, round(self.rate)))
        return size if self._waited_for_first else max(1, min(size, self.breaker - self.sent))

    def _send(self, batch: Sequence[DeadLetter]) -> None:
        self.in_flight.extend_visibility()
        ready = [each.redriven() for each in batch if self.in_flight.has(each)]
        late = [each.message_id for each in batch if not self.in_flight.has(each)]
        self.result_of |= dict.fromkeys(late, f"refused: {NOT_IN_FLIGHT}")
        # If an answer is lost, SQS receives a message twice, which changes nothing.
        deleted = self.in_flight.delete(self._put(ready))
        self.result_of |= dict.fromkeys(deleted, "deleted")
        self.deleted += len(deleted)

    def _put(self, messages: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
        """Put messages on the queue and track them; return those that SQS accepted."""
        sent = self.patiently(lambda: self.in_flight.queues.send(self.to, messages))
        self.result_of |= {each.message_id: "sent" for each in sent.accepted}
        self.result_of |= {message_id: f"refused: {why}" for message_id, why in sent.refused.items()}
        self.sent += len(sent.accepted)
        self.untracked += sum(each.event is None for each in sent.accepted)
        self.tracker.track(sent.accepted)
        return sent.accepted

    def _must_stop(self) -> bool:
        self._poll()
        if self.failed >= self.breaker:
            codes = ", ".join(f"{code} {number}" for code, number in self.tracker.codes.most_common())
            self.stopped = Explanation(Reason.CAUSE_REMAINS, (self.failed, codes, self.sent))
        return self.stopped is not None

    def _wait_for_first(self) -> None:
        """Wait for the first messages, so that, if the cause is not corrected, only these fail again."""
        if self._waited_for_first or self.sent < self.breaker:
            return
        self._waited_for_first = True
        self.notify(Explanation(Reason.FIRST_MESSAGES, (self.sent,)))
        until = self.clock.now() + FIRST_MESSAGES_TIMEOUT
        while self.tracker.undecided and self.clock.now() < until:
            self.clock.sleep(_POLL_INTERVAL)
            self.in_flight.extend_visibility()
            self._poll()
        if self.tracker.undecided and not self.tracker.decided:
            self.stopped = Explanation(Reason.NOTHING_DECIDED, (self.sent,))

    def _let_others_go_first(self) -> None:
        until = None
        while self.rate is not None and self.stopped is None and self._others_wait():
            if until is None:
                self.notify(Explanation(Reason.OTHERS_FIRST, (self.max_backlog,)))
                until = self.clock.now() + OTHERS_TIMEOUT
            if self.clock.now() >= until:
                self.stopped = Explanation(Reason.OTHERS_DELAYED)
            self.in_flight.extend_visibility()
            self.clock.sleep(_BACKLOG_INTERVAL)

    def _others_wait(self) -> bool:
        return self.patiently(lambda: self.in_flight.queues.visible(self.to)) > self.max_backlog

    def _poll(self) -> None:
        self.patiently(lambda: self.tracker.poll(self.clock.now()))


class Requests(Redrive):
    """Send new messages, which are in no queue and therefore not deleted, the same way."""

    def _send(self, batch: Sequence[DeadLetter]) -> None:
        self._put(batch)

    @property
    def results(self) -> dict[str, int]:
        """The number of messages for each result that there is."""
        return {name: number for name, number in super().results.items() if number}
