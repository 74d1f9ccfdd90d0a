"""Backups of letters: written whole, and read only where all of it is what is written here."""

import json
import re
from typing import Final

from pydantic import ValidationError

from handlers.core.redaction import holds_account_id
from handlers.core.redrive.dead_letter import DeadLetter
from schemas.attribute import MOST_BYTES
from schemas.backup import BackedUpLetter

#: What SQS gives a message; its last part may be twelve digits by chance.
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class BackupError(ValueError):
    """Something is no backup; the message says the line and the rule, and nothing that stands there."""


def _refuse_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    told = dict(pairs)
    if len(told) < len(pairs):
        raise BackupError("a name is there twice in one object")
    return told


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
    letters = [_restored(number, line) for number, line in enumerate(lines, 1)]
    first: dict[str, int] = {}
    for number, letter in enumerate(letters, 1):
        if first.setdefault(letter.message_id, number) != number:
            raise BackupError(f"line {number}: message_id is that of line {first[letter.message_id]}")
    return letters


def _restored(number: int, line: bytes) -> DeadLetter:
    try:
        json.loads(line, object_pairs_hook=_refuse_doubles)
    except BackupError as error:
        raise BackupError(f"line {number}: {error}") from None
    except (ValueError, RecursionError):
        # Said below, in one way for all that is no JSON.
        pass
    try:
        told = BackedUpLetter.model_validate_json(line)
    except ValidationError as error:
        [problem, *_] = error.errors(include_url=False, include_input=False, include_context=False)
        where = ".".join(map(str, problem["loc"]))
        raise BackupError(f"line {number}: {f'{where}: ' if where else ''}{problem['msg']}") from None
    if holds_account_id(told.message_id) and not _UUID.fullmatch(told.message_id):
        # It goes on record as it is.
        raise BackupError(f"line {number}: message_id: is not an id of SQS")
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
        raise BackupError(f"line {number}: body and attributes have more than the {MOST_BYTES:,} bytes that SQS takes")
    return letter
