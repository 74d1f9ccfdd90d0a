"""Putting letters back: send first, delete after, no faster than they are absorbed, until too many come back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from random import Random
from typing import Final, TypeVar

from handlers.core.ports import Clock
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.in_flight import NOT_IN_HAND, Hand, Sent
from handlers.core.redrive.tracker import AT_ONCE, Following
from handlers.core.timing import patiently
from schemas.outcome import OutcomeStatus

T = TypeVar("T")

#: For so long the first letters are waited for before the others follow.
FIRST: Final = timedelta(minutes=5)
#: For so long live joins are let go first.
GIVE_WAY: Final = timedelta(minutes=15)
_BATCH: Final = 10
#: Seconds.
_BETWEEN_LOOKS: Final = 0.5


@dataclass
class Redrive:
    """Put letters back: send first, delete after, no faster than they are absorbed, until too many come back."""

    hand: Hand
    following: Following
    clock: Clock
    rng: Random
    #: Letters a second; None for as fast as SQS takes them, live joins or not.
    rate: float | None = None
    #: Live joins go first: while more than this many wait, nothing is sent.
    yield_above: int = 50
    #: How many may come back dead before it stops, and how many go first and are waited for.
    breaker: int = 5
    #: Says what is waited for.
    tell: Callable[[str], None] = lambda _text: None
    #: What became of each letter so far: `sent`, then `deleted`; or `refused: …`.
    became: dict[str, str] = field(default_factory=dict, init=False)
    sent: int = field(default=0, init=False)
    deleted: int = field(default=0, init=False)
    #: How many were sent whose fate nobody can follow, for their bodies cannot be read.
    unfollowed: int = field(default=0, init=False)
    stopped: str = field(default="", init=False)
    _first_awaited: bool = field(default=False, init=False)

    def run(self, letters: Sequence[DeadLetter], progress: Callable[[int], None]) -> None:
        """Do it; what was not sent stays in hand, for its owner to give back."""
        for begin in range(0, len(letters), AT_ONCE):
            left = letters[begin : begin + AT_ONCE]
            self._patiently(partial(self.following.expect, left))
            while left:
                self._give_way()
                if self._tripped():
                    return
                size = self._size()
                batch, left = left[:size], left[size:]
                self._put_back(batch)
                progress(len(batch))
                if batch[-1] is not letters[-1]:
                    self.clock.sleep(len(batch) / self.rate if self.rate else 0)
                    self._await_the_first()

    def await_all(self, patience: timedelta, progress: Callable[[int], None]) -> None:
        """Wait until what was sent is decided, or patience is at an end."""
        until = self.clock.now() + patience
        before = len(self.following.decided)
        while self.following.undecided and self.clock.now() < until:
            self.clock.sleep(_BETWEEN_LOOKS)
            self._look()
            progress(len(self.following.decided) - before)
            before = len(self.following.decided)

    @property
    def dead(self) -> int:
        """How many came back dead."""
        return self.following.ended[OutcomeStatus.FAILED]

    @property
    def results(self) -> dict[str, int]:
        """What came of it, counted: letters sent, deleted, refused, and how those that were decided ended."""
        told = {"sent": self.sent, "deleted": self.deleted, "refused": len(self.became) - self.sent}
        return told | {status.value.lower(): number for status, number in self.following.ended.items()}

    @property
    def fates(self) -> dict[str, str]:
        """What became of each letter that was touched, and of its event, by message id."""
        decided = self.following.decided
        return {
            each: f"{state}, {decided[each].value.lower()}" if each in decided else state
            for each, state in self.became.items()
        }

    def _size(self) -> int:
        """How many letters go next: no more than are wanted first, before those are decided."""
        size = _BATCH if self.rate is None else max(1, min(_BATCH, round(self.rate)))
        return size if self._first_awaited else max(1, min(size, self.breaker - self.sent))

    def _put_back(self, batch: Sequence[DeadLetter]) -> None:
        self.hand.keep()
        ours = [each.redriven() for each in batch if self.hand.has(each)]
        self.became |= {each.message_id: f"refused: {NOT_IN_HAND}" for each in batch if not self.hand.has(each)}
        sent: Sent = self._patiently(lambda: self.hand.post.send("joins", ours))
        self.became |= {each.message_id: "sent" for each in sent.taken}
        self.became |= {message_id: f"refused: {why}" for message_id, why in sent.refused.items()}
        self.sent += len(sent.taken)
        self.unfollowed += sum(each.outcome_key is None for each in sent.taken)
        self.following.follow(sent.taken)
        gone = self.hand.delete(sent.taken)
        self.became |= dict.fromkeys(gone, "deleted")
        self.deleted += len(gone)

    def _tripped(self) -> bool:
        self._look()
        if self.dead >= self.breaker:
            reasons = ", ".join(f"{code} {number}" for code, number in self.following.reasons.most_common())
            self.stopped = f"{self.dead} letters came back dead ({reasons}) of {self.sent}; the cause is not gone"
        return bool(self.stopped)

    def _await_the_first(self) -> None:
        """Wait for the first letters, so that a cause that is not gone costs no more than those."""
        if self._first_awaited or self.sent < self.breaker:
            return
        self._first_awaited = True
        self.tell(f"waiting for what becomes of the first {self.sent}")
        until = self.clock.now() + FIRST
        while self.following.undecided and self.clock.now() < until:
            self.clock.sleep(_BETWEEN_LOOKS)
            self.hand.keep()
            self._look()
        if self.following.undecided and not self.following.decided:
            self.stopped = (
                f"none of the first {self.sent} was decided in five minutes: is the worker on? (`make status`)"
            )

    def _give_way(self) -> None:
        until = None
        while self.rate is not None and not self.stopped and self._joins_wait():
            if until is None:
                self.tell(f"more than {self.yield_above} joins wait, and they go first")
                until = self.clock.now() + GIVE_WAY
            if self.clock.now() >= until:
                self.stopped = "joins have been waiting for a quarter of an hour: is the worker on? (`make status`)"
            self.hand.keep()
            self.clock.sleep(2)

    def _joins_wait(self) -> bool:
        return self._patiently(self.hand.post.waiting) > self.yield_above

    def _look(self) -> None:
        self._patiently(lambda: self.following.look(self.clock.now()))

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call, and again while the connection is lost. SQS may take a letter twice by that, which does no harm."""
        return patiently(call, clock=self.clock, rng=self.rng)
