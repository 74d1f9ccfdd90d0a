"""SQS: the inbox and the dead letters."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from handlers.aws.faults import records_faults
from schemas.letter import Letter
from schemas.values import Moment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_sqs import SQSClient

    from handlers.core.ports import Message
    from schemas.outcome import Fault

#: A message takes ten attributes; ours come first.
_MAX_ATTRIBUTES: Final = 10
_COUNTER: Final = re.compile("[0-9]{1,9}")
_moment: Final[TypeAdapter[datetime]] = TypeAdapter(Moment)


class SqsInbox:
    """The queue that messages come from."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def postpone(self, message: Message, seconds: int) -> None:
        """Hide a message that will be tried again for so long from now."""
        with records_faults("SQS"):
            self._client.change_message_visibility(
                QueueUrl=self._queue_url, ReceiptHandle=message.receipt_handle, VisibilityTimeout=seconds
            )


class SqsDeadLetters:
    """The queue of messages that wait for an operator."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def send(self, message: Message, fault: Fault) -> None:
        """Keep a message, body byte for byte, with the reason why it is dead and all that it carried."""
        letter = Letter(
            error_code=fault.code,
            error_message=fault.message,
            first_seen=_first_seen(message),
            attempts=_number(message, "ATTEMPTS") + message.receives,
            redrives=_number(message, "REDRIVES"),
        )
        ours = {
            name: {"DataType": "Number" if isinstance(value, int) else "String", "StringValue": str(value)}
            for name, value in letter.model_dump(mode="json", by_alias=True).items()
        }
        others = [(name, value) for name, value in message.attributes.items() if name not in ours]
        with records_faults("SQS"):
            self._client.send_message(
                QueueUrl=self._queue_url,
                MessageBody=message.body,
                MessageAttributes=_typed(ours | dict(others[: _MAX_ATTRIBUTES - len(ours)])),
            )


def _text(message: Message, name: str) -> str:
    return message.attributes.get(name, {}).get("StringValue") or ""


def _first_seen(message: Message) -> datetime:
    """Read when the message first came; where somebody has spoilt that by hand, it came now."""
    try:
        return _moment.validate_python(_text(message, "FIRST_SEEN"))
    except ValidationError:
        return message.sent_at


def _number(message: Message, name: str) -> int:
    """Read a counter; one that somebody has spoilt by hand starts anew."""
    text = _text(message, name)
    return int(text) if _COUNTER.fullmatch(text) else 0


def _typed(attributes: Mapping[str, Mapping[str, Any]]) -> Any:  # noqa: ANN401 - the SDK's own shape
    return {name: dict(value) for name, value in attributes.items()}
