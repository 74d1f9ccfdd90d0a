"""A message attribute that SQS accepts, and the size of a message.

Source of the rules:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Base64Bytes, BaseModel, ConfigDict, Field, model_validator

#: The limits of a message: its attributes, and the bytes of its body and of their names, types and values.
MAX_ATTRIBUTES: Final = 10
MAX_BYTES: Final = 1_048_576
#: The messages of a batch.
MAX_BATCH: Final = 10
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_TYPE: Final = r"^(String|Number|Binary)(\.[\x21-\x7e]+)?$"
#: https://www.w3.org/TR/REC-xml/#charsets
_INVALID: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def valid_text(text: str) -> str:
    """Return a text if SQS accepts it as a body or a value.

    Raises ValueError if the text holds a character that SQS rejects.
    """
    if _INVALID.search(text):
        raise ValueError("must not hold a character that SQS rejects")
    return text


def _named(name: str) -> str:
    if not _NAME.fullmatch(name) or name.lower().startswith(("aws.", "amazon.")):
        raise ValueError("must be a valid name of a message attribute")
    return name


AttributeName = Annotated[str, Field(max_length=256), AfterValidator(_named)]


class Attribute(BaseModel):
    """An attribute's type and value; a binary value in Base64."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    data_type: Annotated[str, Field(alias="DataType", max_length=256, pattern=_TYPE)]
    string_value: Annotated[str, Field(min_length=1), AfterValidator(valid_text)] | None = Field(
        None, alias="StringValue"
    )
    binary_value: Base64Bytes | None = Field(None, alias="BinaryValue")

    @model_validator(mode="after")
    def _has_the_value_of_its_type(self) -> Self:
        is_binary = self.data_type.startswith("Binary")
        value, other = (self.binary_value, self.string_value) if is_binary else (self.string_value, self.binary_value)
        if not value or other is not None:
            raise ValueError("must have exactly one value, of its type")
        return self

    @property
    def sdk(self) -> dict[str, Any]:
        """The attribute in the SDK's spelling."""
        if self.binary_value is not None:
            return {"DataType": self.data_type, "BinaryValue": self.binary_value}
        return {"DataType": self.data_type, "StringValue": self.string_value}


#: The trace header of AWS X-Ray.
_TRACE: Final = re.compile(r"[\x21-\x7e]{1,1024}")


def size_bytes(attributes: Mapping[str, Mapping[str, Any]], body: str = "") -> int:
    """Return the size of a message as SQS counts it: the body, and the names, types and values of the attributes."""
    values = (part for each in attributes.values() for part in each.values())
    return sum(_bytes(each) for each in (body, *attributes, *values))


def trace_header(value: object) -> str | None:
    """Return a valid trace header; None for anything else."""
    return value if isinstance(value, str) and _TRACE.fullmatch(value) else None


def _bytes(value: Any) -> int:
    return len(value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass"))
