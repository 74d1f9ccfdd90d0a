"""What several contracts share: types of values, and canonical JSON."""

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AwareDatetime, BeforeValidator, StringConstraints

#: A date and time with its offset (https://www.rfc-editor.org/rfc/rfc3339#section-5.6). Other forms that date parsers
#: accept (`20261125`, seconds since 1970) are ambiguous.
_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def moment(text: str) -> datetime:
    """Read a date and time in RFC 3339 form and convert it to UTC.

    Raises ValueError if the text has another form or is not a valid date and time.
    """
    if not _RFC_3339.fullmatch(text):
        raise ValueError("must be a date and time in RFC 3339 form")
    return _utc(datetime.fromisoformat(text.upper()))


def _parsed(value: object) -> datetime:
    if isinstance(value, datetime):
        # A date and time without an offset is refused after this.
        return _utc(value) if value.tzinfo else value
    return moment(value if isinstance(value, str) else "")


def _utc(value: datetime) -> datetime:
    """Convert a date and time to UTC.

    Raises ValueError in the first and last hours of the calendar, in which the result has no representation.
    """
    if value.tzinfo is UTC:
        return value
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be within the years 1 to 9999 in UTC") from error


Moment = Annotated[AwareDatetime, BeforeValidator(_parsed)]
Text = Annotated[str, StringConstraints(max_length=1024)]


def canonical_json(value: object) -> bytes:
    """Return the canonical JSON of a value: sorted keys, no white space, UTF-8.

    That is RFC 8785 for keys of ASCII and for texts, integers up to 2^53 - 1, truth values, null, lists and objects.
    Floating-point numbers have other forms there, and no contract has any.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
