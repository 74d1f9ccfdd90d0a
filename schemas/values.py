"""Values that several contracts share."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, StringConstraints


def _utc(moment: datetime) -> datetime:
    """Express a moment in UTC.

    A moment in the first or last hours of the calendar has no UTC form; that is a bad date.
    """
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        message = "is out of the calendar's range"
        raise ValueError(message) from error


Moment = Annotated[AwareDatetime, AfterValidator(_utc)]
Text = Annotated[str, StringConstraints(max_length=1024)]
