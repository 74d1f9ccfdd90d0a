"""Write the reason why a message failed into its attributes, and keep all attributes that it carries.

If the message already has an attribute with one of our names, it is kept as the message's own. Exception: the message
was a dead letter before. It then carries our attributes in exactly the form in which they are written here.
"""

import json
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from handlers.core.joins.ports import Message
from schemas.attribute import MAX_ATTRIBUTES, MAX_BYTES, Attribute, size_bytes
from schemas.dead_letter import (
    CARRIED,
    COUNTER,
    MAX_COUNT,
    ORDER,
    Attributes,
    DeadLetterAttributes,
    read_attributes,
    string_value,
)
from schemas.outcome import Fault
from schemas.values import moment

_TYPES: Final = {"ATTEMPTS": "Number", "REDRIVES": "Number"}
#: Bytes reserved so that REDRIVES can grow.
_SPARE: Final = 16
#: The shortest useful ERROR_MESSAGE, in characters.
_MIN_MESSAGE: Final = 20
#: The size of all our attributes at most, in bytes; beside a body that leaves less, some of them are missing.
_MAX_OURS: Final = 4096
_carried: Final[TypeAdapter[dict[str, Attribute]]] = TypeAdapter(dict[str, Attribute])


def failure_attributes(message: Message, why: Fault) -> dict[str, dict[str, Any]]:
    """Return a message's attributes with the reason why it failed, as much of it as fits beside the body.

    The attributes that the message carried are always among them, because they fitted when it was sent.
    """
    known = read_attributes(message.attributes, message.sent_at)
    ours = _sdk_attributes(
        DeadLetterAttributes(
            error_code=why.code,
            error_message=why.message,
            first_seen=known.first_seen,
            attempts=min(known.attempts + message.receives, MAX_COUNT),
            redrives=known.redrives,
        )
    )
    own, packed = _own_attributes(message)
    available = MAX_BYTES - _SPARE - size_bytes({}, message.body)
    for number in range(len(ORDER), 0, -1):
        written = {name: ours[name] for name in ORDER[:number]}
        for unpacked in _candidates(own, written):
            rest = {name: value for name, value in own.items() if name not in unpacked}
            fitted = _fitted(written | unpacked | _pack(packed | rest), available)
            if fitted:
                return fitted
    return {name: dict(value) for name, value in message.attributes.items()}


def _sdk_attributes(attributes: DeadLetterAttributes) -> dict[str, dict[str, Any]]:
    values = attributes.model_dump(mode="json", by_alias=True)
    return {name: {"DataType": _TYPES.get(name, "String"), "StringValue": str(values[name])} for name in ORDER}


def _own_attributes(message: Message) -> tuple[dict[str, Mapping[str, Any]], dict[str, Mapping[str, Any]]]:
    """Return the message's own attributes, and those of them that an earlier failure packed into CARRIED."""
    attributes = message.attributes
    superseded = (
        set(ORDER) if _was_dead_letter(message) else {"REDRIVES"} if _is_ours(attributes, "REDRIVES") else set()
    )
    own = {name: value for name, value in attributes.items() if name not in superseded}
    packed = _unpacked(string_value(attributes, CARRIED))
    others = {name: value for name, value in own.items() if name != CARRIED}
    if packed is None or any(packed.get(name, value) != value for name, value in others.items()):
        # This CARRIED is not ours, or an attribute of the same name was added later: it is packed as a whole.
        return own, {}
    return others, packed


def _was_dead_letter(message: Message) -> bool:
    """Return whether a message carries our attributes: all of them, or the first ones beside a large body."""
    present = [name for name in ORDER if name in message.attributes]
    is_large = size_bytes({}, message.body) > MAX_BYTES - _MAX_OURS
    return (
        len(present) >= (2 if is_large else len(ORDER) - 1)
        and present == list(ORDER[: len(present)])
        and all(_is_ours(message.attributes, name) for name in present)
    )


def _is_ours(attributes: Attributes, name: str) -> bool:
    """Return whether an attribute has the form in which ours is written."""
    text = string_value(attributes, name)
    if attributes.get(name, {}).get("DataType") != _TYPES.get(name, "String"):
        return False
    if name in _TYPES:
        return bool(COUNTER.fullmatch(text))
    try:
        return name != "FIRST_SEEN" or bool(moment(text))
    except ValueError:
        return False


def _candidates(own: Attributes, written: Collection[str]) -> Iterator[dict[str, Mapping[str, Any]]]:
    """Yield sets of the message's own attributes to keep unpacked: all, none, the largest ones that fit."""
    free = {name: value for name, value in own.items() if name not in {*ORDER, CARRIED}}
    yield free
    yield {}
    largest = sorted(free, key=lambda name: size_bytes({name: free[name]}), reverse=True)
    yield {name: free[name] for name in largest[: MAX_ATTRIBUTES - 1 - len(written)]}


def _fitted(attributes: dict[str, Mapping[str, Any]], available: int) -> dict[str, dict[str, Any]] | None:
    """Return attributes that SQS accepts, with a shorter ERROR_MESSAGE if need be; None if they cannot fit."""
    excess = size_bytes(attributes) - available
    text = string_value(attributes, "ERROR_MESSAGE")
    if len(attributes) > MAX_ATTRIBUTES or excess > max(0, len(text) - _MIN_MESSAGE):
        return None
    fitted = {name: dict(value) for name, value in attributes.items()}
    if excess > 0:
        # Our message is ASCII: one byte a character.
        fitted["ERROR_MESSAGE"]["StringValue"] = text[: len(text) - excess - 1] + "~"
    return fitted


def _pack(attributes: Attributes) -> dict[str, Mapping[str, Any]]:
    """Return attributes as one attribute CARRIED; nothing if there are none."""
    if not attributes:
        return {}
    encoded = {
        name: {key: b64encode(each).decode() if isinstance(each, bytes) else each for key, each in value.items()}
        for name, value in attributes.items()
    }
    text = json.dumps(encoded, ensure_ascii=False, separators=(",", ":"))
    return {CARRIED: {"DataType": "String", "StringValue": text}}


def _unpacked(text: str) -> dict[str, Mapping[str, Any]] | None:
    """Return the attributes packed in CARRIED; None if the text is anything else."""
    try:
        return {name: value.sdk for name, value in _carried.validate_json(text).items()}
    except ValidationError:
        return None
