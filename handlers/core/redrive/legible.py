"""What can be read from a body that is not a valid event, such as a truncated one. It proves nothing: it is a hint."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

#: A quotation mark, also inside a string of JSON, and what is between a name and its value. Every part has a limit, so
#: that a search takes linear time.
_Q: Final = r'\\{0,3}"'
_IS: Final = rf"{_Q}\s{{0,8}}:\s{{0,8}}{_Q}"
_TEXT: Final = "([0-9A-Za-z][0-9A-Za-z_-]{0,127})"
_ACCOUNT: Final = "([0-9]{12})"
#: Fields of a CloudTrail record, and of CloudTrail's own output.
_EVENT_ID: Final = re.compile(rf"{_Q}[Ee]vent(?:ID|Id){_IS}{_TEXT}{_Q}")
_EVENT_NAME: Final = re.compile(rf"{_Q}[Ee]ventName{_IS}{_TEXT}{_Q}")
#: The account in a handshake, and in other fields.
_ACCOUNT_ID: Final = re.compile(
    rf"{_Q}type{_IS}ACCOUNT{_Q}\s{{0,8}},\s{{0,8}}{_Q}(?:id|value){_IS}{_ACCOUNT}{_Q}|{_Q}accountId{_IS}{_ACCOUNT}{_Q}"
)
#: The number of values of one kind.
_MOST: Final = 4


@dataclass(frozen=True)
class Legible:
    """The values that a text names, in their order, each once."""

    event_ids: tuple[str, ...] = ()
    event_names: tuple[str, ...] = ()
    account_ids: tuple[str, ...] = ()

    @classmethod
    def of(cls, body: str) -> Self:
        """Return what a text names; of each kind a few values at most."""
        return cls(*(_values(pattern.finditer(body)) for pattern in (_EVENT_ID, _EVENT_NAME, _ACCOUNT_ID)))


def _values(found: Iterable[re.Match[str]]) -> tuple[str, ...]:
    values: dict[str, None] = {}
    for match in found:
        values[next(filter(None, match.groups()))] = None
        if len(values) == _MOST:
            break
    return tuple(values)
