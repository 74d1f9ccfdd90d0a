"""The reason why a message is dead, as message attributes: how they are written and how they are read.

All that a message carried is kept. An attribute of its own that has a name of ours is not taken for ours, unless the
message has been a dead letter before: then it carries ours in the form in which they are written here.
"""

import json
import re
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from pydantic import TypeAdapter, ValidationError

from handlers.core.ports import Message
from schemas.attribute import MOST_ATTRIBUTES, MOST_BYTES, Attribute
from schemas.dead_letter import CARRIED, LONGEST_LINE, MOST, ORDER, Letter
from schemas.outcome import Fault
from schemas.values import moment

#: By name, in the SDK's spelling (`DataType`, `StringValue`, `BinaryValue`).
Attributes: TypeAlias = Mapping[str, Mapping[str, Any]]

#: How far back a message may say that it was first seen: four times what SQS keeps one.
_EARLIEST: Final = timedelta(days=56)
#: The trace header of AWS X-Ray.
_TRACE: Final = re.compile(r"[\x21-\x7e]{1,1024}")
_COUNTER: Final = re.compile("[0-9]{1,9}")
_TYPES: Final = {"ATTEMPTS": "Number", "REDRIVES": "Number"}
#: Bytes that are left for a count of redrives that grows.
_SPARE: Final = 16
#: A message that is shorter says nothing.
_SHORTEST: Final = 20
#: Bytes that all of ours take at most; a body that leaves less may be without some of them.
_OURS: Final = 4096
_carried: Final[TypeAdapter[dict[str, Attribute]]] = TypeAdapter(dict[str, Attribute])


def letter_of(attributes: Attributes, sent_at: datetime) -> Letter:
    """Read what attributes say of a message's death and life.

    What is missing or was spoilt by hand is absent; such a counter is 0, and the message was first seen when it was
    sent, or at most 56 days before.
    """
    return Letter(
        error_code=_text(attributes, "ERROR_CODE")[:LONGEST_LINE] or None,
        error_message=_text(attributes, "ERROR_MESSAGE")[:LONGEST_LINE] or None,
        first_seen=_first_seen(_text(attributes, "FIRST_SEEN"), sent_at),
        attempts=_count(attributes, "ATTEMPTS"),
        redrives=_count(attributes, "REDRIVES"),
    )


def with_reason(message: Message, why: Fault) -> dict[str, dict[str, Any]]:
    """Return a message's attributes with the reason why it is dead: as much of it as SQS takes with that body.

    What the message came with is always among them, for it fitted as it came.
    """
    known = letter_of(message.attributes, message.sent_at)
    ours = _written(
        Letter(
            error_code=why.code,
            error_message=why.message,
            first_seen=known.first_seen,
            attempts=min(known.attempts + message.receives, MOST),
            redrives=known.redrives,
        )
    )
    theirs, packed = _theirs(message)
    room = MOST_BYTES - _SPARE - len(message.body.encode(errors="surrogatepass"))
    for number in range(len(ORDER), 0, -1):
        told = {name: ours[name] for name in ORDER[:number]}
        for beside in _ways(theirs, told):
            rest = {name: value for name, value in theirs.items() if name not in beside}
            whole = _fitted(told | beside | _pack(packed | rest), room)
            if whole:
                return whole
    return {name: dict(value) for name, value in message.attributes.items()}


def counted(attributes: Attributes, redrives: int) -> dict[str, Mapping[str, Any]]:
    """Return attributes with another number of redrives."""
    return dict(attributes) | {"REDRIVES": {"DataType": "Number", "StringValue": str(min(redrives, MOST))}}


def weight(attributes: Attributes, body: str = "") -> int:
    """Return how many bytes SQS counts: the body, and names, types and values of the attributes."""
    values = (part for each in attributes.values() for part in each.values())
    return sum(_bytes(each) for each in (body, *attributes, *values))


def trace_header(text: object) -> str | None:
    """Return a trace header; None for anything that is none."""
    return text if isinstance(text, str) and _TRACE.fullmatch(text) else None


def tracing(header: str | None) -> dict[str, Any]:
    """Return what a message is sent with so that it keeps its trace header."""
    if header is None:
        return {}
    return {"MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": header}}}


def _bytes(value: Any) -> int:
    return len(value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass"))


def _text(attributes: Attributes, name: str) -> str:
    return str(attributes.get(name, {}).get("StringValue") or "")


def _count(attributes: Attributes, name: str) -> int:
    text = _text(attributes, name)
    return int(text) if _COUNTER.fullmatch(text) else 0


def _first_seen(text: str, sent_at: datetime) -> datetime:
    try:
        return min(sent_at, max(moment(text), sent_at - _EARLIEST))
    except ValueError:
        return sent_at


def _written(letter: Letter) -> dict[str, dict[str, Any]]:
    told = letter.model_dump(mode="json", by_alias=True)
    return {name: {"DataType": _TYPES.get(name, "String"), "StringValue": str(told[name])} for name in ORDER}


def _theirs(message: Message) -> tuple[dict[str, Mapping[str, Any]], dict[str, Mapping[str, Any]]]:
    """Return what of a message's attributes is its own, and what of it was packed at an earlier death."""
    attributes = message.attributes
    superseded = set(ORDER) if _was_dead(message) else {"REDRIVES"} if _is_ours(attributes, "REDRIVES") else set()
    theirs = {name: value for name, value in attributes.items() if name not in superseded}
    packed = _unpacked(_text(attributes, CARRIED))
    others = {name: value for name, value in theirs.items() if name != CARRIED}
    if packed is None or any(packed.get(name, value) != value for name, value in others.items()):
        # Not packed by us; or another attribute of one name came later, and then it is packed as a whole.
        return theirs, {}
    return others, packed


def _was_dead(message: Message) -> bool:
    """Tell whether a message carries what is written here: all of it, or its begin where the body leaves no room."""
    there = [name for name in ORDER if name in message.attributes]
    is_heavy = _bytes(message.body) > MOST_BYTES - _OURS
    return (
        len(there) >= (2 if is_heavy else len(ORDER) - 1)
        and there == list(ORDER[: len(there)])
        and all(_is_ours(message.attributes, name) for name in there)
    )


def _is_ours(attributes: Attributes, name: str) -> bool:
    """Tell whether an attribute has the form in which ours is written."""
    text = _text(attributes, name)
    if attributes.get(name, {}).get("DataType") != _TYPES.get(name, "String"):
        return False
    if name in _TYPES:
        return bool(_COUNTER.fullmatch(text))
    try:
        return name != "FIRST_SEEN" or bool(moment(text))
    except ValueError:
        return False


def _ways(theirs: Attributes, told: Collection[str]) -> Iterator[dict[str, Mapping[str, Any]]]:
    """Yield what of a message's own attributes may stand beside ours: all, none, the heaviest; the rest is packed."""
    free = {name: value for name, value in theirs.items() if name not in {*ORDER, CARRIED}}
    yield free
    yield {}
    heaviest = sorted(free, key=lambda name: weight({name: free[name]}), reverse=True)
    yield {name: free[name] for name in heaviest[: MOST_ATTRIBUTES - 1 - len(told)]}


def _fitted(attributes: dict[str, Mapping[str, Any]], room: int) -> dict[str, dict[str, Any]] | None:
    """Return attributes that SQS takes, the message shortened for that; None where there is no way."""
    over = weight(attributes) - room
    text = _text(attributes, "ERROR_MESSAGE")
    if len(attributes) > MOST_ATTRIBUTES or over > max(0, len(text) - _SHORTEST):
        return None
    whole = {name: dict(value) for name, value in attributes.items()}
    if over > 0:
        # Ours is ASCII: as many characters as bytes.
        whole["ERROR_MESSAGE"]["StringValue"] = text[: len(text) - over - 1] + "~"
    return whole


def _pack(attributes: Attributes) -> dict[str, Mapping[str, Any]]:
    """Return attributes as one; none where there are none."""
    if not attributes:
        return {}
    told = {
        name: {key: b64encode(each).decode() if isinstance(each, bytes) else each for key, each in value.items()}
        for name, value in attributes.items()
    }
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    return {CARRIED: {"DataType": "String", "StringValue": text}}


def _unpacked(text: str) -> dict[str, Mapping[str, Any]] | None:
    """Return what was packed into a text; None where that is something else."""
    try:
        return {name: value.sdk for name, value in _carried.validate_json(text).items()}
    except ValidationError:
        return None
