"""Backups of letters: written whole, and read only where all of it is what is written here."""

import json

from pydantic import ValidationError

from handlers.core.letters import DeadLetter
from schemas.attribute import MOST_BYTES
from schemas.backup import BackedUpLetter


class BackupError(ValueError):
    """Something is no backup; the message says the line and the rule, and nothing that stands there."""


def backup(letter: DeadLetter) -> str:
    """Write a letter down whole, so that it can be restored."""
    attributes = {
        name: {key: value.hex() if isinstance(value, bytes) else value for key, value in each.items()}
        for name, each in letter.attributes.items()
    }
    whole = {
        "queue": letter.queue,
        "message_id": letter.message_id,
        "sent_at": letter.sent_at.isoformat(),
        "receives": letter.receives,
        "attributes": attributes,
        "body": letter.body,
    }
    return json.dumps(whole | ({"trace_header": letter.trace_header} if letter.trace_header else {}))


def restored(text: bytes) -> list[DeadLetter]:
    """Read letters from their backup; raise BackupError where one of its lines is not what `backup` writes."""
    lines = text.removesuffix(b"\n").split(b"\n")
    return [_restored(number, line) for number, line in enumerate(lines, 1)]


def _restored(number: int, line: bytes) -> DeadLetter:
    try:
        told = BackedUpLetter.model_validate_json(line)
    except ValidationError as error:
        [problem, *_] = error.errors(include_url=False, include_input=False, include_context=False)
        where = ".".join(map(str, problem["loc"]))
        message = f"line {number}: {f'{where}: ' if where else ''}{problem['msg']}"
        raise BackupError(message) from None
    letter = DeadLetter(
        queue=told.queue,
        message_id=told.message_id,
        receipt="",
        body=told.body,
        attributes={name: each.sdk for name, each in told.attributes.items()},
        sent_at=told.sent_at,
        receives=told.receives,
        trace_header=told.trace_header,
    )
    if letter.weight > MOST_BYTES:
        message = f"line {number}: body and attributes have more than the {MOST_BYTES:,} bytes that SQS takes"
        raise BackupError(message)
    return letter
