"""Messages in flight: whatever happens, they become visible again unless they were deleted."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from handlers.core.errors import RetryableError
from handlers.core.ports import Clock
from handlers.core.redrive.dead_letter import DeadLetter, Receipt
from handlers.core.redrive.ports import CallPatiently, DeadLetterQueues

#: When to extend the visibility timeout: after a third of it.
EXTEND_AFTER: Final = timedelta(minutes=5)
#: The result of a message that became visible again before it was sent.
NOT_IN_FLIGHT: Final = "NOT_IN_FLIGHT"


@dataclass
class InFlight:
    """All messages that this process has received and not released or deleted.

    Use it as a context: at its end, also after an error or an interrupt, it releases all messages. If the process is
    killed, SQS makes them visible again after the visibility timeout. It keeps receipts and no bodies, so that memory
    stays small however many messages there are.
    """

    queues: DeadLetterQueues
    clock: Clock
    #: For extending, deleting and releasing.
    patiently: CallPatiently
    #: The approximate number of messages that other processes had in flight when all were received.
    elsewhere: int = field(default=0, init=False)
    #: The number of messages that arrived while all were received, and were released again.
    late: int = field(default=0, init=False)
    _receipts: dict[str, Receipt] = field(default_factory=dict, init=False)
    _since: datetime | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        """Return it without messages."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release all messages."""
        if error is None:
            self.release_all_but(())
            return
        # The error matters more, and a lost connection is not waited for again: SQS makes the messages visible.
        with suppress(RetryableError):
            self.queues.release(list(self._receipts.values()))

    def receive_all(self) -> Iterator[DeadLetter]:
        """Receive every message that both queues held at the beginning, yield each once, release those sent later."""
        late: set[str] = set()
        for batch in self.queues.receive_all():
            fresh = {each.message_id: each for each in batch if each.message_id not in self._receipts and not each.late}
            late |= {each.message_id for each in batch if each.late}
            # SQS may deliver a message twice; only the later receipt is valid.
            self._receipts |= {each.message_id: each.receipt for each in batch}
            self._since = self._since or self.clock.now()
            yield from fresh.values()
        self.elsewhere = max(0, self.queues.in_flight() - len(self._receipts))
        self.late = len(late)
        self._release(late)

    def has(self, dead_letter: DeadLetter) -> bool:
        """Return whether a message is in flight."""
        return dead_letter.message_id in self._receipts

    def extend_visibility(self) -> None:
        """Extend the visibility timeout of all messages if it is time to; forget those that SQS refuses to extend.

        SQS allows a message to be in flight for twelve hours in all.
        """
        now = self.clock.now()
        if self._receipts and self._since and now - self._since > EXTEND_AFTER:
            extended = self.patiently(lambda: self.queues.extend_visibility(list(self._receipts.values())))
            self._receipts = {each.message_id: each for each in extended}
            self._since = now

    def delete(self, dead_letters: Iterable[DeadLetter]) -> list[str]:
        """Delete messages that are in flight; return the message ids of those that are deleted."""
        receipts = [self._receipts[each.message_id] for each in dead_letters if self.has(each)]
        deleted = self.patiently(lambda: self.queues.delete(receipts))
        for each in deleted:
            self._receipts.pop(each.message_id, None)
        return [each.message_id for each in deleted]

    def release_all_but(self, dead_letters: Iterable[DeadLetter]) -> None:
        """Release all other messages."""
        self._release(self._receipts.keys() - {each.message_id for each in dead_letters})

    def _release(self, message_ids: Collection[str]) -> None:
        released = [receipt for message_id, receipt in self._receipts.items() if message_id in message_ids]
        if released:
            self.patiently(lambda: self.queues.release(released))
        for each in released:
            del self._receipts[each.message_id]
