"""A message attribute as SQS takes it.

The rules are those of
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html.
"""

import re
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Base64Bytes, BaseModel, ConfigDict, Field, model_validator

#: SQS takes that many attributes with a message, and that many bytes: body, and names, types and values of attributes.
MOST_ATTRIBUTES: Final = 10
MOST_BYTES: Final = 1_048_576
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_TYPE: Final = r"^(String|Number|Binary)(\.[\x21-\x7e]+)?$"
#: https://www.w3.org/TR/REC-xml/#charsets
_NOT_TAKEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def taken(text: str) -> str:
    """Return a text that SQS takes as a body or a value.

    Raises ValueError where it holds a character that SQS refuses.
    """
    if _NOT_TAKEN.search(text):
        raise ValueError("holds a character that SQS does not take")
    return text


def _named(name: str) -> str:
    if not _NAME.fullmatch(name) or name.lower().startswith(("aws.", "amazon.")):
        raise ValueError("is no name of a message attribute")
    return name


AttributeName = Annotated[str, Field(max_length=256), AfterValidator(_named)]


class Attribute(BaseModel):
    """An attribute's type and value; a binary value in Base64."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    data_type: Annotated[str, Field(alias="DataType", max_length=256, pattern=_TYPE)]
    string_value: Annotated[str, Field(min_length=1), AfterValidator(taken)] | None = Field(None, alias="StringValue")
    binary_value: Base64Bytes | None = Field(None, alias="BinaryValue")

    @model_validator(mode="after")
    def _has_the_value_of_its_type(self) -> Self:
        is_binary = self.data_type.startswith("Binary")
        value, other = (self.binary_value, self.string_value) if is_binary else (self.string_value, self.binary_value)
        if not value or other is not None:
            raise ValueError("must have one value, that of its type")
        return self

    @property
    def sdk(self) -> dict[str, Any]:
        """The attribute in the SDK's spelling."""
        if self.binary_value is not None:
            return {"DataType": self.data_type, "BinaryValue": self.binary_value}
        return {"DataType": self.data_type, "StringValue": self.string_value}
