"""Parse JSON from others without converting values or losing duplicate keys, and with limits on depth and size."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

#: SQS's limit for a message (1 MiB).
MAX_BODY_BYTES: Final = 1024 * 1024
#: CloudTrail's records are nested less than ten levels deep. The parser is recursive, so the depth is checked first.
MAX_DEPTH: Final = 100
_MAX_MESSAGE: Final = 1000
_MAX_PROBLEMS: Final = 10

Json: TypeAlias = "bool | str | list[Json] | dict[str, Json] | None"


class InvalidEventError(ValueError):
    """What is wrong with an event: pairs of a path and a rule, without any value of the event."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        self.problems = problems
        message = "; ".join(f"{path}: {rule}" for path, rule in problems[:_MAX_PROBLEMS])
        super().__init__(message[:_MAX_MESSAGE])


class Number(str):
    """A JSON number in its original spelling."""

    __slots__ = ()


class ObjectWithDuplicates(dict[str, Json]):
    """A JSON object in which a key appears more than once; as a dict it has the last value of each key."""

    def __init__(self, pairs: Sequence[tuple[str, Json]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs
        self.duplicates = frozenset(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)


def _object(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    parsed = dict(pairs)
    return parsed if len(parsed) == len(pairs) else ObjectWithDuplicates(pairs)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=Number, parse_float=Number, parse_constant=Number
)
#: A string, complete or not, or a bracket. The quantifiers are possessive, so that an endless string is read only once.
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def parse(text: str, path: str) -> Json:
    """Parse JSON in linear time; raise InvalidEventError if it is invalid or nested too deeply."""
    text = text.removeprefix("\ufeff")
    if _is_too_deep(text):
        raise InvalidEventError((path, f"is nested deeper than {MAX_DEPTH} levels"))
    try:
        parsed: Json = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidEventError((path, f"is not JSON: line {error.lineno}, column {error.colno}")) from None
    return parsed


def _is_too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        first = text[found.start()]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif first in "]}":
            depth -= 1
    return False


@dataclass(frozen=True, slots=True)
class Node:
    """A JSON value and its path. Paths hold only names that the code asks for, so errors repeat no part of an event."""

    path: str
    value: Json

    def __getitem__(self, name: str) -> "Node":
        """Return the value of a key; None if there is none.

        Raises InvalidEventError if the key appears more than once.
        """
        path = f"{self.path}.{name}" if self.path else name
        if not isinstance(self.value, dict):
            return Node(path, None)
        if isinstance(self.value, ObjectWithDuplicates) and name in self.value.duplicates:
            raise InvalidEventError((path, "must not appear more than once"))
        return Node(path, self.value.get(name))

    def __contains__(self, name: str) -> bool:
        """Return whether this is an object with the key."""
        return isinstance(self.value, dict) and name in self.value

    def __iter__(self) -> Iterator["Node"]:
        """Yield the elements of an array; nothing for any other value."""
        for each in self.value if isinstance(self.value, list) else ():
            yield Node(self.path, each)

    @property
    def string(self) -> str | None:
        """The value if it is a string; a number is not."""
        return self.value if type(self.value) is str else None

    @property
    def upper(self) -> str | None:
        """The value in capitals if it is a string of ASCII characters."""
        return self.value.upper() if type(self.value) is str and self.value.isascii() else None
