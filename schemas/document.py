"""JSON as others write it: nothing is converted, no key is lost, depth and size are bounded."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

#: The largest message SQS takes (1 MiB); nothing longer can be one of ours.
MAX_BODY_BYTES: Final = 1024 * 1024
#: CloudTrail's records nest less than ten deep. The parser recurses, so that this has to be known before it runs.
MAX_DEPTH: Final = 100
_MAX_TEXT: Final = 1000
_MAX_PROBLEMS: Final = 10

Json: TypeAlias = "bool | str | list[Json] | dict[str, Json] | None"


class InvalidEventError(ValueError):
    """Say what is wrong with an event, and where; without anything that the event says."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        self.problems = problems
        text = "; ".join(f"{where}: {what}" for where, what in problems[:_MAX_PROBLEMS])
        super().__init__(text[:_MAX_TEXT])


class Number(str):
    """A JSON number as it is written."""

    __slots__ = ()


class Ambiguous(dict[str, Json]):
    """A JSON object in which a key is there twice; as a dict it has the last value of each."""

    def __init__(self, pairs: Sequence[tuple[str, Json]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs
        self.twice = frozenset(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)


def _object(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else Ambiguous(pairs)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=Number, parse_float=Number, parse_constant=Number
)
#: A string, whole or cut off, or a bracket. Possessive, so that a string that never ends is read once.
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def parse(text: str, where: str) -> Json:
    """Read a JSON text in time that is linear in its length; raise InvalidEventError where it is none."""
    text = text.removeprefix("\ufeff")
    if _is_too_deep(text):
        raise InvalidEventError((where, f"is nested deeper than {MAX_DEPTH} levels"))
    try:
        parsed: Json = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidEventError((where, f"is not JSON: line {error.lineno}, column {error.colno}")) from None
    return parsed


def _is_too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        opening = text[found.start()]
        if opening in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif opening in "]}":
            depth -= 1
    return False


@dataclass(frozen=True, slots=True)
class Place:
    """A value and where it stands. Paths are made of names that we asked for, never of the document's own."""

    where: str
    value: Json

    def __getitem__(self, name: str) -> "Place":
        """Return what stands under a name, None where nothing does; raise InvalidEventError where it is there twice."""
        where = f"{self.where}.{name}" if self.where else name
        if not isinstance(self.value, dict):
            return Place(where, None)
        if isinstance(self.value, Ambiguous) and name in self.value.twice:
            raise InvalidEventError((where, "is there twice"))
        return Place(where, self.value.get(name))

    def __contains__(self, name: str) -> bool:
        """Tell whether this is an object with such a name."""
        return isinstance(self.value, dict) and name in self.value

    def __iter__(self) -> Iterator["Place"]:
        """Yield the entries of a list; of anything else nothing."""
        for each in self.value if isinstance(self.value, list) else ():
            yield Place(self.where, each)

    @property
    def text(self) -> str | None:
        """The value where it is a text; a number is none."""
        return self.value if type(self.value) is str else None

    @property
    def word(self) -> str | None:
        """The value in capitals where it is a text of ASCII characters."""
        return self.value.upper() if type(self.value) is str and self.value.isascii() else None
