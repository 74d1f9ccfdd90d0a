"""A dead letter's message attributes, named as EventBridge names its own.

SQS allows ten attributes, no empty value, and 1 MiB for body and attributes together
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html). So each may be
absent: of a body close to the limit, the last of `ORDER` are left out first. What the message itself carried stands
beside them as it came; where there are more than ten, or one has a name of ours, in `CARRIED`.
"""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, Json

from schemas.attribute import Attribute
from schemas.values import Moment

#: The most important first.
ORDER: Final = ("ERROR_CODE", "REDRIVES", "ATTEMPTS", "FIRST_SEEN", "ERROR_MESSAGE")
CARRIED: Final = "CARRIED"
#: No counter goes beyond it.
MOST: Final = 999_999_999
LONGEST_LINE: Final = 1024

Line = Annotated[str, Field(min_length=1, max_length=LONGEST_LINE)]
Count = Annotated[int, Field(ge=0, le=MOST)]


class Letter(BaseModel):
    """Why a message is dead, and what is known of its life. The body is kept apart, byte for byte."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    #: Absent where SQS itself moved the message.
    error_code: Line | None = Field(None, alias="ERROR_CODE")
    error_message: Line | None = Field(None, alias="ERROR_MESSAGE")
    #: When the message first came to the queue, before any redrive: a text in RFC 3339 form.
    first_seen: Moment | None = Field(None, alias="FIRST_SEEN")
    #: How often it was tried, over all redrives.
    attempts: Count = Field(0, alias="ATTEMPTS")
    #: How often an operator has put it back.
    redrives: Count = Field(0, alias="REDRIVES")
    #: The message's own attributes, by name, that have no place beside ours.
    carried: Json[dict[str, Attribute]] | None = Field(None, alias=CARRIED)
