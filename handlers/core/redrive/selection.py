"""Which messages are selected, and what an action would do with them."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.explanations import Explanation, Problems, Reason

#: The number of ids that an error names.
_NAMED: Final = 4


class AmbiguousIdError(ValueError):
    """The beginning of an id is that of several messages."""


@dataclass(frozen=True)
class Filter:
    """Which messages are selected; an empty filter selects all."""

    codes: Collection[str] = ()
    accounts: Collection[str] = ()
    policies: Collection[str] = ()
    events: Collection[str] = ()
    ids: Collection[str] = ()
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    #: Only those of accounts that have left since.
    departed: bool = False
    limit: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it selects all messages, the limit aside."""
        return self == Filter(limit=self.limit)

    def matches(self, dead_letter: DeadLetter, now: datetime) -> bool:
        """Return whether a message is selected, the limit aside."""
        age = now - dead_letter.first_seen
        criteria: Iterable[tuple[Collection[str], Collection[str]]] = (
            (self.codes, [dead_letter.code]),
            (self.accounts, [dead_letter.account_id]),
            (self.policies, dead_letter.policies),
            (self.events, [dead_letter.event_id, dead_letter.origin]),
        )
        return (
            all(not wanted or set(wanted) & set(actual) for wanted, actual in criteria)
            and (not self.ids or any(has_id(dead_letter, each) for each in self.ids))
            and (not self.departed or dead_letter.left_at is not None)
            and (self.older_than is None or age > self.older_than)
            and (self.newer_than is None or age < self.newer_than)
        )


def has_id(dead_letter: DeadLetter, id_: str) -> bool:
    """Return whether the id of a message or of its event is this one, or begins with it."""
    return bool(id_) and any(known.startswith(id_) for known in (dead_letter.message_id, dead_letter.event_id))


def identified(dead_letters: Iterable[DeadLetter], id_: str) -> list[DeadLetter]:
    """Return the messages with a message or event id, given as a whole or by its beginning.

    Raises AmbiguousIdError if the beginning is that of several messages, other than those of one event.
    """
    found = [each for each in dead_letters if has_id(each, id_)]
    if exact := [each for each in found if id_ in {each.message_id, each.event_id}]:
        return exact
    of_one_event = len({each.event_id for each in found}) == 1 and found[0].event_id.startswith(id_)
    if len(found) > 1 and not of_one_event:
        few = ", ".join(each.message_id for each in found[:_NAMED])
        more = ", …" if len(found) > _NAMED else ""
        raise AmbiguousIdError(
            f"{len(found):,} messages have an id that begins with {id_} ({few}{more}). Use more characters of the id"
        )
    return found


@dataclass(frozen=True)
class Plan:
    """What an action would do with the messages in flight."""

    chosen: tuple[DeadLetter, ...]
    #: Messages that are selected and left out.
    left_out: tuple[tuple[DeadLetter, Problems], ...] = ()
    #: Message and event ids of the filter that no message has.
    missing: tuple[str, ...] = ()
    #: The approximate number of messages that other processes have in flight.
    elsewhere: int = 0
    #: What pre-flight could not find out.
    unknown: tuple[Explanation, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Whether messages that may be selected are not among the chosen."""
        return bool(self.left_out or self.missing or self.elsewhere)


def select(
    dead_letters: Iterable[DeadLetter], wanted: Filter, now: datetime
) -> tuple[list[DeadLetter], tuple[str, ...]]:
    """Return the selected messages, oldest first, the limit aside; and the ids that no message has.

    Raises AmbiguousIdError if an id of the filter is the beginning of several.
    """
    selected = sorted((each for each in dead_letters if wanted.matches(each, now)), key=lambda each: each.first_seen)
    having = {id_: identified(selected, id_) for id_ in wanted.ids}
    if having:
        chosen = {each.message_id for found in having.values() for each in found}
        selected = [each for each in selected if each.message_id in chosen]
    missing = [id_ for id_, found in having.items() if not found]
    missing += [name for name in wanted.events if not any(name in {each.event_id, each.origin} for each in selected)]
    return selected, tuple(missing)


def make_plan(  # noqa: PLR0913 - the options of a redrive
    dead_letters: Iterable[DeadLetter],
    wanted: Filter,
    *,
    now: datetime,
    max_redrives: int,
    would_fail: Callable[[DeadLetter], Problems],
    force: bool,
) -> Plan:
    """Choose the selected messages, oldest first; leave out those that would fail again, unless forced."""
    selected, missing = select(dead_letters, wanted, now)
    chosen: list[DeadLetter] = []
    left_out: list[tuple[DeadLetter, Problems]] = []
    for each in selected:
        if wanted.limit is not None and len(chosen) >= wanted.limit:
            break
        problems: Problems = (each.cannot_redrive,) if each.cannot_redrive else ()
        if not force:
            over_limit = each.redrives >= max_redrives
            problems += (Explanation(Reason.OVER_REDRIVE_LIMIT, (each.redrives,)),) if over_limit else ()
            problems += would_fail(each)
        if problems:
            left_out.append((each, problems))
        else:
            chosen.append(each)
    return Plan(tuple(chosen), tuple(left_out), missing)
