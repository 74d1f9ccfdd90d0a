"""Which letters are meant, what would become of them, and putting them back."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from handlers.core.letters import DeadLetter

#: Seconds after which letters in hand are held on to anew; a third of the time that they stay in hand.
HOLD_AGAIN: Final = 300


@dataclass(frozen=True)
class Filter:
    """Which letters are meant; empty means all."""

    codes: Collection[str] = ()
    accounts: Collection[str] = ()
    policies: Collection[str] = ()
    events: Collection[str] = ()
    ids: Collection[str] = ()
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    limit: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether all letters are meant."""
        return self == Filter(limit=self.limit)

    def matches(self, letter: DeadLetter, now: datetime) -> bool:
        """Tell whether a letter is meant, the limit aside."""
        age = now - letter.sent_at
        wanted: Iterable[tuple[Collection[str], Collection[str]]] = (
            (self.codes, [letter.code]),
            (self.accounts, [letter.account_id]),
            (self.policies, letter.policies),
            (self.events, [letter.event_id]),
            (self.ids, [letter.message_id]),
        )
        return (
            all(not told or set(told) & set(has) for told, has in wanted)
            and (self.older_than is None or age > self.older_than)
            and (self.newer_than is None or age < self.newer_than)
        )


@dataclass(frozen=True)
class Plan:
    """What would be done with the letters in hand."""

    chosen: tuple[DeadLetter, ...]
    #: Letters that are meant and left out, with the reason.
    left_out: tuple[tuple[DeadLetter, str], ...]
    others: tuple[DeadLetter, ...]


def make_plan(  # noqa: PLR0913 - the options of a command
    letters: Sequence[DeadLetter],
    wanted: Filter,
    *,
    now: datetime,
    max_redrives: int,
    would_fail: Callable[[DeadLetter], str | None],
    force: bool,
) -> Plan:
    """Choose the letters that are meant, oldest first; leave out what would only come back, unless forced."""
    meant = sorted((each for each in letters if wanted.matches(each, now)), key=lambda each: each.sent_at)
    chosen: list[DeadLetter] = []
    left_out: list[tuple[DeadLetter, str]] = []
    for letter in meant:
        if wanted.limit is not None and len(chosen) >= wanted.limit:
            break
        worn = f"redriven {letter.redrives} times already" if letter.redrives >= max_redrives else None
        problem = None if force else worn or would_fail(letter)
        if problem:
            left_out.append((letter, problem))
        else:
            chosen.append(letter)
    taken = {id(each) for each in [*chosen, *(each for each, _ in left_out)]}
    return Plan(tuple(chosen), tuple(left_out), tuple(each for each in letters if id(each) not in taken))


def group(letters: Iterable[DeadLetter], by: str) -> dict[str, list[DeadLetter]]:
    """Group letters, most first."""
    key: Callable[[DeadLetter], str] = {
        "account": lambda each: each.account_id or "none",
        "code": lambda each: each.code,
        "policy": lambda each: ", ".join(each.policies) or "none",
        "event": lambda each: each.event.event_name if each.event else "unreadable",
        "day": lambda each: f"{each.sent_at:%Y-%m-%d}",
    }[by]
    groups: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault(key(letter), []).append(letter)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


class Post(Protocol):
    """The queues as an operator handles them."""

    def browse(self) -> Iterable[DeadLetter]:
        """Take every letter of both queues in hand, one after the other."""

    def release(self, letters: Sequence[DeadLetter]) -> None:
        """Let letters be seen by others again."""

    def hold(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters in hand for longer."""

    def resend(self, letters: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
        """Send up to ten letters back to the joins; return those that SQS has taken."""

    def delete(self, letters: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
        """Delete up to ten letters; return those that are gone."""

    def waiting(self) -> int:
        """Count the joins that wait."""

    def returned(self) -> int:
        """Count the dead letters that nobody has in hand."""


@dataclass
class Redrive:
    """Put letters back: send first, delete after, no faster than they are absorbed, until too many come back."""

    post: Post
    sleep: Callable[[float], None]
    #: Seconds, from any beginning.
    time: Callable[[], float]
    #: Letters a second; None for as fast as SQS takes them, live joins or not.
    rate: float | None = None
    #: Live joins go first: while more than this many wait, nothing is sent.
    yield_above: int = 50
    #: How many may come back dead before it stops.
    breaker: int = 5
    sent: int = 0
    deleted: int = 0
    stopped: str = ""
    _before: int = field(default=0, init=False)
    _held_at: float = field(default=0.0, init=False)

    def run(self, letters: Sequence[DeadLetter], progress: Callable[[int], None]) -> None:
        """Do it; what was not sent is released, whatever happens."""
        self._before, self._held_at = self.post.returned(), self.time()
        left = list(letters)
        size = 10 if self.rate is None else max(1, min(10, round(self.rate)))
        try:
            while left and not self._tripped():
                self._give_way()
                self._keep_in_hand(left)
                batch, left = left[:size], left[size:]
                taken = self.post.resend(batch)
                self.post.release([letter for letter in batch if letter not in taken])
                self.sent += len(taken)
                gone = self.post.delete(taken)
                self.deleted += len(gone)
                progress(len(batch))
                if self.rate is not None:
                    self.sleep(len(batch) / self.rate)
        finally:
            self.post.release(left)

    def _keep_in_hand(self, left: Sequence[DeadLetter]) -> None:
        """Hold on to what is left before its time in hand runs out."""
        if self.time() - self._held_at > HOLD_AGAIN:
            self.post.hold(left)
            self._held_at = self.time()

    def _tripped(self) -> bool:
        back = self.post.returned() - self._before if self.sent else 0
        if back >= self.breaker:
            self.stopped = f"{back} letters came back dead after {self.sent} were sent; the cause is not gone"
        return bool(self.stopped)

    def _give_way(self) -> None:
        while self.rate is not None and self.post.waiting() > self.yield_above:
            self.sleep(2)
