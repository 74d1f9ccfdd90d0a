"""A backup of dead letters: one line of JSON for each message, complete."""

import re
from base64 import b64encode
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from schemas.attribute import MAX_ATTRIBUTES, MAX_BYTES, Attribute, AttributeName, valid_text
from schemas.values import Moment

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,128}(?:\.[0-9]{1,128})?(?:[eE][+-]?[0-9]{1,2})?")
#: The day on which SQS became available; no message is older.
_FIRST_DAY: Final = datetime(2006, 7, 13, tzinfo=UTC)


def _base64(attribute: Any) -> Any:
    """Convert the binary value of an attribute from hexadecimal, the form in backups, to Base64."""
    if isinstance(attribute, dict) and isinstance(attribute.get("BinaryValue"), str):
        return attribute | {"BinaryValue": b64encode(bytes.fromhex(attribute["BinaryValue"]))}
    return attribute


def _numeric(attribute: Attribute) -> Attribute:
    """Reject a Number attribute without a number, as SQS does; the worker receives attributes that SQS has checked."""
    if attribute.data_type.startswith("Number") and not _NUMBER.fullmatch(attribute.string_value or ""):
        raise ValueError("must be a number")
    return attribute


class BackedUpMessage(BaseModel):
    """A message as it was in its queue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queue: Literal["dead letters", "undelivered"]
    message_id: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
    sent_at: Annotated[Moment, Field(ge=_FIRST_DAY)]
    receives: Annotated[int, Field(strict=True, ge=0, le=999_999_999)]
    #: In SQS's spelling; binary values in hexadecimal.
    attributes: Annotated[
        dict[AttributeName, Annotated[Attribute, BeforeValidator(_base64), AfterValidator(_numeric)]],
        Field(max_length=MAX_ATTRIBUTES),
    ]
    body: Annotated[str, Field(min_length=1, max_length=MAX_BYTES), AfterValidator(valid_text)]
    #: The system attribute `AWSTraceHeader`; absent in older backups.
    trace_header: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,1024}$")] | None = None
