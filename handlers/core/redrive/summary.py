"""Dead letters in groups, counted one by one, so that memory grows with the number of groups and not of messages."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from handlers.core.errors import Cause
from handlers.core.redrive.dead_letter import DeadLetter, Queue

#: The number of messages that a group names.
_NAMED: Final = 10

#: Where a body stops being JSON, which differs from message to message.
_PLACE: Final = re.compile(r"\bline [0-9]{1,9}, column [0-9]{1,9}")


def kind_of(dead_letter: DeadLetter) -> str:
    """Return the reason why a message failed, without the place in its body, so that equal reasons are one."""
    if dead_letter.cause is not Cause.INVALID_EVENT:
        return dead_letter.why
    return _PLACE.sub("line …, column …", dead_letter.why)


#: What messages can be grouped by.
KEYS: Final[Mapping[str, Callable[[DeadLetter], str]]] = {
    "reason": lambda each: f"{each.code}: {kind_of(each)}" if each.why else each.code,
    "code": lambda each: each.code,
    "account": lambda each: each.account_id or "none",
    "policy": lambda each: ", ".join(each.policies) or "none",
    "event": lambda each: each.origin,
    "day": lambda each: f"{each.first_seen:%Y-%m-%d}",
}


@dataclass(frozen=True)
class Failure:
    """Why messages failed."""

    code: str
    why: str
    policies: tuple[str, ...]
    cause: Cause
    queue: Queue
    #: The reason of the first message, with the place in its body.
    example: str = field(compare=False)

    @classmethod
    def of(cls, dead_letter: DeadLetter) -> "Failure":
        """Return why a message failed."""
        policies = tuple(dead_letter.policies)
        reason = kind_of(dead_letter)
        return cls(dead_letter.code, reason, policies, dead_letter.cause, dead_letter.queue, dead_letter.why)


@dataclass
class Group:
    """Messages with one value of a key."""

    key: str
    oldest: datetime
    newest: datetime
    #: When SQS deletes the first message at the end of its retention period.
    deleted_at: datetime | None
    messages: int = 0
    #: The number of messages of accounts that have left.
    departed: int = 0
    #: The highest number of redrives of one message.
    redrives: int = 0
    failures: Counter[Failure] = field(default_factory=Counter)
    queues: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)
    #: The message ids of the first few.
    ids: list[str] = field(default_factory=list)

    def add(self, dead_letter: DeadLetter) -> None:
        """Count a message."""
        self.messages += 1
        self.departed += dead_letter.left_at is not None
        self.oldest, self.newest = min(self.oldest, dead_letter.first_seen), max(self.newest, dead_letter.first_seen)
        if dead_letter.deleted_at and self.deleted_at:
            self.deleted_at = min(self.deleted_at, dead_letter.deleted_at)
        self.redrives = max(self.redrives, dead_letter.redrives)
        self.failures[Failure.of(dead_letter)] += 1
        self.queues[dead_letter.queue] += 1
        self.origins[dead_letter.origin] += 1
        if len(self.ids) < _NAMED:
            self.ids.append(dead_letter.message_id)


def summarize(dead_letters: Iterable[DeadLetter], by: str) -> list[Group]:
    """Group messages by one of KEYS, the largest group first."""
    groups: dict[str, Group] = {}
    for each in dead_letters:
        key = KEYS[by](each)
        groups.setdefault(key, Group(key, each.first_seen, each.first_seen, each.deleted_at)).add(each)
    return sorted(groups.values(), key=lambda group: (-group.messages, group.key))
