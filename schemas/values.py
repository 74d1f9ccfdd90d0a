"""Values that several contracts share."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, StringConstraints

#: A date and time with its offset (https://www.rfc-editor.org/rfc/rfc3339#section-5.6). Everything else that a
#: parser of dates may take (`20261125`, seconds since 1970) is ambiguous.
_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def moment(text: str) -> datetime:
    """Read a moment in RFC 3339 form and express it in UTC.

    Raises ValueError where the text has another form or names no moment.
    """
    if not _RFC_3339.fullmatch(text):
        raise ValueError("must be a date and time in RFC 3339 form")
    return _utc(datetime.fromisoformat(text.upper()))


def _written(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    return moment(value if isinstance(value, str) else "")


def _utc(value: datetime) -> datetime:
    """Express a moment in UTC.

    A moment in the first or last hours of the calendar has no UTC form; that is a bad date.
    """
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is out of the calendar's range") from error


Moment = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_utc)]
Text = Annotated[str, StringConstraints(max_length=1024)]
