"""Backups of messages: complete when written, and read only if every line is as it was written."""

import json
import re
from typing import Final

from pydantic import ValidationError

from handlers.core.redaction import holds_account_id
from handlers.core.redrive.dead_letter import DeadLetter
from schemas.attribute import MAX_BYTES
from schemas.backup import BackedUpMessage

#: The message id that SQS assigns; its last group can be twelve digits by chance.
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class BackupError(ValueError):
    """An object is not a backup. The message names the line and the rule, and repeats nothing of the line."""


def backup_line(dead_letter: DeadLetter) -> str:
    """Return a message as a line of a backup, complete, so that it can be restored."""
    attributes = {
        name: {key: value.hex() if isinstance(value, bytes) else value for key, value in each.items()}
        for name, each in dead_letter.attributes.items()
    }
    fields = {
        "queue": dead_letter.queue,
        "message_id": dead_letter.message_id,
        "sent_at": dead_letter.sent_at.isoformat(),
        "receives": dead_letter.receives,
        "attributes": attributes,
        "body": dead_letter.body,
    }
    return json.dumps(fields | ({"trace_header": dead_letter.trace_header} if dead_letter.trace_header else {}))


def read_backup(text: bytes) -> list[DeadLetter]:
    """Return the messages of a backup; raise BackupError if a line is not one that `backup_line` writes."""
    lines = text.removesuffix(b"\n").split(b"\n")
    dead_letters = [_read_line(number, line) for number, line in enumerate(lines, 1)]
    first: dict[str, int] = {}
    for number, each in enumerate(dead_letters, 1):
        if first.setdefault(each.message_id, number) != number:
            raise BackupError(f"line {number}: message_id is that of line {first[each.message_id]}")
    return dead_letters


def _read_line(number: int, line: bytes) -> DeadLetter:
    fields = _fields(number, line)
    if holds_account_id(fields.message_id) and not _UUID.fullmatch(fields.message_id):
        # Audit records hold message ids in clear.
        raise BackupError(f"line {number}: message_id: is not a message id of SQS")
    dead_letter = DeadLetter(
        queue=fields.queue,
        message_id=fields.message_id,
        receipt_handle="",
        body=fields.body,
        attributes={name: each.sdk for name, each in fields.attributes.items()},
        sent_at=fields.sent_at,
        receives=fields.receives,
        trace_header=fields.trace_header,
    )
    if dead_letter.size_bytes > MAX_BYTES:
        raise BackupError(f"line {number}: body and attributes are larger than SQS's limit of {MAX_BYTES:,} bytes")
    return dead_letter


def _fields(number: int, line: bytes) -> BackedUpMessage:
    try:
        json.loads(line, object_pairs_hook=_reject_duplicates)
    except BackupError as error:
        raise BackupError(f"line {number}: {error}") from None
    except (ValueError, RecursionError):
        # The model below rejects what is not JSON, with the same message for each line.
        pass
    try:
        return BackedUpMessage.model_validate_json(line)
    except ValidationError as error:
        [problem, *_] = error.errors(include_url=False, include_input=False, include_context=False)
        where = ".".join(map(str, problem["loc"]))
        raise BackupError(f"line {number}: {f'{where}: ' if where else ''}{problem['msg']}") from None


def _reject_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise BackupError("an object has two values of one name")
    return fields
