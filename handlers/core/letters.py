"""Dead letters: what they say, which are meant, what would become of them."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Literal, Protocol

from handlers.core.errors import redact
from schemas.act import LetterDigest
from schemas.events import Join, NoJoin
from schemas.intake import InvalidEventError, read_event

#: How long SQS keeps a letter, counted from when it was first sent.
RETENTION: Final = timedelta(days=14)
#: SQS moved it there by itself, so nobody wrote down a reason; the outcome row and the log know it.
GAVE_UP: Final = "GAVE_UP"
#: Seconds after which letters in hand are held on to anew; a third of the time that they stay in hand.
HOLD_AGAIN: Final = 300
_POLICY: Final = re.compile(r"\bp-[0-9a-zA-Z_]{8,128}\b")

Queue = Literal["dead letters", "undelivered"]


@dataclass(frozen=True)
class DeadLetter:
    """A letter in hand: nobody else sees it until it is released, deleted, or its time in hand is over."""

    queue: Queue
    message_id: str
    receipt: str
    body: str
    attributes: Mapping[str, Mapping[str, Any]]
    sent_at: datetime
    #: How often it was received where it lies; looking at it counts.
    receives: int

    def says(self, name: str) -> str:
        """Return an attribute's text; empty where it has none."""
        return str(self.attributes.get(name, {}).get("StringValue") or "")

    @property
    def code(self) -> str:
        """Why it is dead."""
        return self.says("ERROR_CODE") or GAVE_UP

    @property
    def why(self) -> str:
        """The reason in words, without account ids."""
        return redact(self.says("ERROR_MESSAGE")) or "SQS gave it up after all its receives; see its outcome"

    @property
    def redrives(self) -> int:
        """How often it was put back."""
        text = self.says("REDRIVES")
        return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0

    @property
    def first_seen(self) -> datetime:
        """When it first came, before any redrive; at least when it was sent here."""
        try:
            seen = datetime.fromisoformat(self.says("FIRST_SEEN"))
        except ValueError:
            return self.sent_at
        return min(self.sent_at, max(seen, self.sent_at - RETENTION * 4)) if seen.tzinfo else self.sent_at

    @property
    def policies(self) -> list[str]:
        """The policies that its reason names."""
        return sorted(set(_POLICY.findall(self.says("ERROR_MESSAGE"))))

    @cached_property
    def event(self) -> Join | NoJoin | None:
        """What its body means; None where it cannot be read."""
        try:
            return read_event(self.body)
        except InvalidEventError:
            return None

    @property
    def event_id(self) -> str:
        """The event's id; empty where it cannot be read."""
        return self.event.event_id if self.event else ""

    @property
    def account_id(self) -> str:
        """The account that is meant; empty where none is named."""
        return self.event.account_id if isinstance(self.event, Join) else ""

    def digest(self) -> LetterDigest:
        """Return what evidence may hold of it."""
        return LetterDigest(
            message_id=self.message_id,
            body_sha256=sha256(self.body.encode()).hexdigest(),
            error_code=redact(self.code),
            redrives=self.redrives,
        )

    def put_back(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the attributes that it goes back with: all that it has, one redrive more."""
        return dict(self.attributes) | {"REDRIVES": {"DataType": "Number", "StringValue": str(self.redrives + 1)}}


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


def backup(letter: DeadLetter) -> str:
    """Write a letter down whole, so that it can be restored."""
    attributes = {
        name: {key: value.hex() if isinstance(value, bytes) else value for key, value in each.items()}
        for name, each in letter.attributes.items()
    }
    whole = {
        "queue": letter.queue,
        "message_id": letter.message_id,
        "sent_at": letter.sent_at.isoformat(),
        "receives": letter.receives,
        "attributes": attributes,
        "body": letter.body,
    }
    return json.dumps(whole)


def restored(line: str) -> DeadLetter:
    """Read a letter from its backup."""
    told = json.loads(line)
    attributes = {
        name: {key: bytes.fromhex(value) if key == "BinaryValue" else value for key, value in each.items()}
        for name, each in told["attributes"].items()
    }
    return DeadLetter(
        queue=told["queue"],
        message_id=told["message_id"],
        receipt="",
        body=told["body"],
        attributes=attributes,
        sent_at=datetime.fromisoformat(told["sent_at"]),
        receives=told["receives"],
    )


def edited(letter: DeadLetter, body: str) -> DeadLetter:
    """Return a letter with another body; raise InvalidEventError where that cannot be read either."""
    read_event(body)
    return replace(letter, body=body)
