"""A backup of letters that were taken away: one line of JSON a letter, whole."""

import re
from base64 import b64encode
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from schemas.attribute import MOST_ATTRIBUTES, MOST_BYTES, Attribute, AttributeName, taken
from schemas.values import Moment

#: SQS opened on that day; no letter is older.
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,128}(?:\.[0-9]{1,128})?(?:[eE][+-]?[0-9]{1,2})?")
_FIRST_DAY: Final = datetime(2006, 7, 13, tzinfo=UTC)


def _base64(told: Any) -> Any:
    """Turn an attribute as backups have it, a binary value in hexadecimal, into one in Base64."""
    if isinstance(told, dict) and isinstance(told.get("BinaryValue"), str):
        return told | {"BinaryValue": b64encode(bytes.fromhex(told["BinaryValue"]))}
    return told


def _numeric(attribute: Attribute) -> Attribute:
    """Refuse a Number that is none, as SQS does; the worker takes it from SQS and need not look."""
    if attribute.data_type.startswith("Number") and not _NUMBER.fullmatch(attribute.string_value or ""):
        raise ValueError("must be a number, as its type says")
    return attribute


class BackedUpLetter(BaseModel):
    """A letter as it lay in its queue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queue: Literal["dead letters", "undelivered"]
    message_id: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
    sent_at: Annotated[Moment, Field(ge=_FIRST_DAY)]
    receives: Annotated[int, Field(strict=True, ge=0, le=999_999_999)]
    #: In SQS's spelling; binary values in hexadecimal.
    attributes: Annotated[
        dict[AttributeName, Annotated[Attribute, BeforeValidator(_base64), AfterValidator(_numeric)]],
        Field(max_length=MOST_ATTRIBUTES),
    ]
    body: Annotated[str, Field(min_length=1, max_length=MOST_BYTES), AfterValidator(taken)]
    #: The system attribute `AWSTraceHeader`; absent in older backups.
    trace_header: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,1024}$")] | None = None
