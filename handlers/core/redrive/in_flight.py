"""Letters in hand: what is taken from the queues is given back, whatever happens in between."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Literal, Protocol, Self, TypeVar

from handlers.core.errors import RetryableError
from handlers.core.ports import Clock
from handlers.core.redrive.dead_letter import DeadLetter, Held, Queue

T = TypeVar("T")

#: After this, letters in hand are held on to anew; a third of the time that they stay in hand.
HOLD_AGAIN: Final = timedelta(minutes=5)

#: Why a letter was not sent that SQS has given back.
NOT_IN_HAND: Final = "no longer in hand"

Destination = Queue | Literal["joins"]


@dataclass(frozen=True)
class Sent:
    """What became of letters that were sent."""

    taken: Sequence[DeadLetter]
    #: Why SQS refused a letter, by message id.
    refused: Mapping[str, str] = field(default_factory=dict)


class Post(Protocol):
    """The queues as an operator handles them."""

    def browse(self) -> Iterable[Sequence[DeadLetter]]:
        """Take every letter of both queues in hand, some at a time."""

    def release(self, letters: Sequence[Held]) -> None:
        """Let letters be seen by others again."""

    def hold(self, letters: Sequence[Held]) -> Sequence[Held]:
        """Keep letters in hand for longer; return those that still are."""

    def send(self, to: Destination, letters: Sequence[DeadLetter]) -> Sent:
        """Send letters, bodies and attributes as they are."""

    def delete(self, letters: Sequence[Held]) -> Sequence[Held]:
        """Delete letters; return those that are gone."""

    def waiting(self) -> int:
        """Count the joins that wait."""

    def hidden(self) -> int:
        """Count the letters that are in somebody's hand."""


class Patience(Protocol):
    """Calls, and again while the connection is lost."""

    def __call__(self, call: Callable[[], T]) -> T:
        """Return what the call returns in the end."""


def impatiently(call: Callable[[], T]) -> T:
    """Call once."""
    return call()


@dataclass
class Hand:
    """All letters that this process has in hand.

    Used as a context: in the end, also after an error or an interrupt, everything still in hand is given back.
    Whoever dies without that gives it back when its time in hand is over. It keeps no bodies, so that
    looking takes little memory whatever the number of letters.
    """

    post: Post
    clock: Clock
    #: For keeping, deleting and giving back.
    patiently: Patience = impatiently
    #: About how many letters were in other hands when all were looked at: another operator's, or a look's that died.
    elsewhere: int = field(default=0, init=False)
    _held: dict[str, Held] = field(default_factory=dict, init=False)
    _since: datetime | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        """Begin with nothing in hand."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give everything back."""
        if error is None:
            self.release_all_but(())
            return
        # What went wrong matters more, and nobody waits for a connection twice: the letters are there again when
        # their time in hand is over.
        with suppress(RetryableError):
            self.post.release(list(self._held.values()))

    def browse(self) -> Iterator[DeadLetter]:
        """Take every letter of both queues in hand and yield it, once."""
        for batch in self.post.browse():
            fresh = {letter.message_id: letter for letter in batch if letter.message_id not in self._held}
            # SQS may hand a letter out twice; only the later receipt counts.
            self._held |= {letter.message_id: letter.held for letter in batch}
            self._since = self._since or self.clock.now()
            yield from fresh.values()
        self.elsewhere = max(0, self.post.hidden() - len(self._held))

    def has(self, letter: DeadLetter) -> bool:
        """Tell whether a letter is in hand."""
        return letter.message_id in self._held

    def keep(self) -> None:
        """Hold on to everything anew, where it is time for that; what SQS does not let be held is not in hand any more.

        SQS lets a letter be in hand for twelve hours in all.
        """
        now = self.clock.now()
        if self._held and self._since and now - self._since > HOLD_AGAIN:
            held = self.patiently(lambda: self.post.hold(list(self._held.values())))
            self._held = {each.message_id: each for each in held}
            self._since = now

    def delete(self, letters: Iterable[DeadLetter]) -> list[str]:
        """Delete letters that are in hand; return the message ids of those that are gone."""
        held = [self._held[letter.message_id] for letter in letters if self.has(letter)]
        gone = self.patiently(lambda: self.post.delete(held))
        for each in gone:
            self._held.pop(each.message_id, None)
        return [each.message_id for each in gone]

    def release_all_but(self, letters: Iterable[DeadLetter]) -> None:
        """Give all others back."""
        kept = {letter.message_id for letter in letters}
        given = [held for message_id, held in self._held.items() if message_id not in kept]
        if given:
            self.patiently(lambda: self.post.release(given))
        for each in given:
            del self._held[each.message_id]
