"""The message attributes of a dead letter, named like those of EventBridge: their contract and their only reader.

SQS allows ten attributes, no empty value, and 1 MiB for body and attributes together
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html). Each attribute
is therefore optional: if the body is close to the limit, the last ones of `ORDER` are left out first. The message's own
attributes stay beside these; if there are more than ten in all, or one has the same name, they move into `CARRIED`.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, Json

from schemas.attribute import Attribute
from schemas.values import Moment, moment

#: By name, in the SDK's spelling (`DataType`, `StringValue`, `BinaryValue`).
Attributes: TypeAlias = Mapping[str, Mapping[str, Any]]

#: The most important first.
ORDER: Final = ("ERROR_CODE", "REDRIVES", "ATTEMPTS", "FIRST_SEEN", "ERROR_MESSAGE")
CARRIED: Final = "CARRIED"
#: The highest value of a counter.
MAX_COUNT: Final = 999_999_999
MAX_LINE: Final = 1024
COUNTER: Final = re.compile("[0-9]{1,9}")
#: The greatest difference between `FIRST_SEEN` and the time when the message was sent: four times SQS's longest
#: retention.
_MAX_AGE: Final = timedelta(days=56)

Line = Annotated[str, Field(min_length=1, max_length=MAX_LINE)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class DeadLetterAttributes(BaseModel):
    """Why a message failed, and its history. The body stays as it is, byte for byte."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    #: Absent if SQS itself moved the message.
    error_code: Line | None = Field(None, alias="ERROR_CODE")
    error_message: Line | None = Field(None, alias="ERROR_MESSAGE")
    #: When the message was first sent to the queue, before any redrive; a string in RFC 3339 form.
    first_seen: Moment | None = Field(None, alias="FIRST_SEEN")
    #: The number of receives, all redrives included.
    attempts: Count = Field(0, alias="ATTEMPTS")
    #: The number of times that an operator has redriven the message.
    redrives: Count = Field(0, alias="REDRIVES")
    #: The message's own attributes, by name, that did not fit beside these.
    carried: Json[dict[str, Attribute]] | None = Field(None, alias=CARRIED)


def read_attributes(attributes: Attributes, sent_at: datetime) -> DeadLetterAttributes:
    """Read a message's attributes, even if they were edited by hand.

    A missing or malformed reason is None, and a counter 0. `first_seen` is the time when the message was sent if it is
    missing, malformed or later, and at most 56 days before that time.
    """
    return DeadLetterAttributes(
        error_code=string_value(attributes, "ERROR_CODE")[:MAX_LINE] or None,
        error_message=string_value(attributes, "ERROR_MESSAGE")[:MAX_LINE] or None,
        first_seen=_first_seen(string_value(attributes, "FIRST_SEEN"), sent_at),
        attempts=_count(attributes, "ATTEMPTS"),
        redrives=_count(attributes, "REDRIVES"),
    )


def with_redrives(attributes: Attributes, redrives: int) -> dict[str, Mapping[str, Any]]:
    """Return attributes with another number of redrives."""
    return dict(attributes) | {"REDRIVES": {"DataType": "Number", "StringValue": str(min(redrives, MAX_COUNT))}}


def string_value(attributes: Attributes, name: str) -> str:
    """Return the string value of an attribute; an empty string if there is none."""
    return str(attributes.get(name, {}).get("StringValue") or "")


def _count(attributes: Attributes, name: str) -> int:
    text = string_value(attributes, name)
    return int(text) if COUNTER.fullmatch(text) else 0


def _first_seen(text: str, sent_at: datetime) -> datetime:
    try:
        return min(sent_at, max(moment(text), sent_at - _MAX_AGE))
    except ValueError:
        return sent_at
