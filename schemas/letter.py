"""A dead letter's message attributes, named as EventBridge names its own.

SQS allows ten attributes and no empty value
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html).
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.values import Moment

Line = Annotated[str, Field(min_length=1, max_length=1024)]


class Letter(BaseModel):
    """Why a message is dead, and what is known of its life. The body is kept apart, byte for byte."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    error_code: Line = Field(alias="ERROR_CODE")
    error_message: Line = Field(alias="ERROR_MESSAGE")
    #: When the message first came to the queue, before any redrive.
    first_seen: Moment = Field(alias="FIRST_SEEN")
    #: How often it was tried, over all redrives.
    attempts: Annotated[int, Field(ge=0, alias="ATTEMPTS")]
    #: How often an operator has put it back.
    redrives: Annotated[int, Field(ge=0, alias="REDRIVES")]
