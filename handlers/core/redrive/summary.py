"""What waits, in groups: counted letter by letter, so that memory grows with the groups and not the letters."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from handlers.core.evidence.audit import next_step
from handlers.core.redrive.dead_letter import DeadLetter

#: So many letters of a group are named.
_NAMED: Final = 10

#: What letters may be grouped by.
KEYS: Final[Mapping[str, Callable[[DeadLetter], str]]] = {
    "reason": lambda each: f"{each.code}: {each.why}",
    "code": lambda each: each.code,
    "account": lambda each: each.account_id or "none",
    "policy": lambda each: ", ".join(each.policies) or "none",
    "event": lambda each: each.origin,
    "day": lambda each: f"{each.first_seen:%Y-%m-%d}",
}


@dataclass(frozen=True)
class Reason:
    """Why letters are dead."""

    code: str
    why: str
    policies: tuple[str, ...]
    next_step: str


@dataclass
class Group:
    """Letters that have something in common."""

    key: str
    oldest: datetime
    newest: datetime
    #: When SQS deletes the first of them by itself; unknown of letters that do not lie in a queue.
    deleted_at: datetime | None
    letters: int = 0
    #: The most that one of them was redriven.
    redrives: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)
    queues: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)
    #: Message ids of the first few.
    ids: list[str] = field(default_factory=list)

    def add(self, letter: DeadLetter) -> None:
        """Count a letter."""
        self.letters += 1
        self.oldest, self.newest = min(self.oldest, letter.first_seen), max(self.newest, letter.first_seen)
        if letter.deleted_at and self.deleted_at:
            self.deleted_at = min(self.deleted_at, letter.deleted_at)
        self.redrives = max(self.redrives, letter.redrives)
        self.reasons[Reason(letter.code, letter.why, tuple(letter.policies), next_step(letter))] += 1
        self.queues[letter.queue] += 1
        self.origins[letter.origin] += 1
        if len(self.ids) < _NAMED:
            self.ids.append(letter.message_id)


def summarize(letters: Iterable[DeadLetter], by: str) -> list[Group]:
    """Group letters by one of KEYS, most first."""
    groups: dict[str, Group] = {}
    for letter in letters:
        key = KEYS[by](letter)
        group = groups.setdefault(key, Group(key, letter.first_seen, letter.first_seen, letter.deleted_at))
        group.add(letter)
    return sorted(groups.values(), key=lambda group: (-group.letters, group.key))
