"""Which letters are meant, and what would be done with them."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from handlers.core.redrive.dead_letter import DeadLetter

#: So much of an id says which is meant.
_SHORT: Final = 8


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
        """Tell whether a letter is meant, the limit aside. An id may be cut short, to eight characters at least."""
        age = now - letter.first_seen
        wanted: Iterable[tuple[Collection[str], Collection[str]]] = (
            (self.codes, [letter.code]),
            (self.accounts, [letter.account_id]),
            (self.policies, letter.policies),
            (self.events, [letter.event_id, letter.origin]),
        )
        return (
            all(not told or set(told) & set(has) for told, has in wanted)
            and (not self.ids or any(is_meant(letter, each) for each in self.ids))
            and (self.older_than is None or age > self.older_than)
            and (self.newer_than is None or age < self.newer_than)
        )


def is_meant(letter: DeadLetter, name: str) -> bool:
    """Tell whether a message id or an event id is a letter's, whole or its first eight characters and more."""
    return any(
        name == known or (len(name) >= _SHORT and known.startswith(name))
        for known in (letter.message_id, letter.event_id)
        if known
    )


@dataclass(frozen=True)
class Plan:
    """What would be done with the letters in hand."""

    chosen: tuple[DeadLetter, ...]
    #: Letters that are meant and left out, with the reason.
    left_out: tuple[tuple[DeadLetter, str], ...] = ()
    #: Message and event ids that were named and are not there.
    missing: tuple[str, ...] = ()
    #: About how many letters are in other hands.
    elsewhere: int = 0
    #: What could not be found out, in words.
    unknown: tuple[str, ...] = ()

    @property
    def leaves(self) -> bool:
        """Whether something that may have been meant is left, whatever becomes of those that are chosen."""
        return bool(self.left_out or self.missing or self.elsewhere)


def select(letters: Iterable[DeadLetter], wanted: Filter, now: datetime) -> tuple[list[DeadLetter], tuple[str, ...]]:
    """Return the letters that are meant, oldest first, the limit aside; and the names that mean none."""
    meant = sorted((each for each in letters if wanted.matches(each, now)), key=lambda each: each.first_seen)
    missing = [name for name in wanted.ids if not any(is_meant(each, name) for each in meant)]
    missing += [name for name in wanted.events if not any(name in {each.event_id, each.origin} for each in meant)]
    return meant, tuple(missing)


def make_plan(  # noqa: PLR0913 - the options of a command
    letters: Iterable[DeadLetter],
    wanted: Filter,
    *,
    now: datetime,
    max_redrives: int,
    would_fail: Callable[[DeadLetter], str | None],
    force: bool,
) -> Plan:
    """Choose the letters that are meant, oldest first; leave out what would only come back, unless forced."""
    meant, missing = select(letters, wanted, now)
    chosen: list[DeadLetter] = []
    left_out: list[tuple[DeadLetter, str]] = []
    for letter in meant:
        if wanted.limit is not None and len(chosen) >= wanted.limit:
            break
        worn = (
            f"redriven {letter.redrives} times already; --max-redrives and --force allow more"
            if letter.redrives >= max_redrives
            else None
        )
        problem = letter.stuck or (None if force else worn or would_fail(letter))
        if problem:
            left_out.append((letter, problem))
        else:
            chosen.append(letter)
    return Plan(tuple(chosen), tuple(left_out), missing)
