"""References to events that logs, metrics and evidence may hold: an event's own id or name can hold an account id."""

from collections.abc import Callable
from typing import Final, TypeAlias
from uuid import uuid4

from handlers.core.ports import Pseudonyms
from handlers.core.redaction import holds_account_id
from schemas.events import KNOWN_EVENT_NAMES, Event
from schemas.ids import EventId, Sha256

#: Returns the keyed digest of a text, given its kind and the text.
Keyed: TypeAlias = Callable[[str, str], Sha256]

_EVENT_ID: Final = "event-id"
#: Letters in place of digits, so that nothing looks like an account id.
_LETTERS: Final = str.maketrans("0123456789", "ghijklmnop")


def event_reference(event_id: EventId, keyed: Keyed) -> EventId:
    """Return an event id, or its keyed digest if it holds twelve digits."""
    return keyed_reference(_EVENT_ID, event_id, keyed) if holds_account_id(event_id) else event_id


def is_digest(reference: EventId) -> bool:
    """Return whether a reference is the keyed digest of an event id."""
    return reference.startswith(f"{_EVENT_ID}-")


def event_name(event: Event, pseudonyms: Pseudonyms) -> str:
    """Return the event's name if it is a known one, otherwise its keyed digest."""
    name = event.event_name
    return name if name in KNOWN_EVENT_NAMES else keyed_reference("event-name", name, pseudonyms.digest)


def request_id(pseudonyms: Pseudonyms, kind: str, *parts: str) -> EventId:
    """Return the id of a request of ours, the same one for the same parts.

    Nobody can know it in advance who could write a final row for it.
    """
    return keyed_reference(kind, "/".join(parts), pseudonyms.digest)


def keyed_reference(kind: str, text: str, keyed: Keyed) -> EventId:
    """Return a keyed digest of a text in the form of an event id."""
    return f"{kind}-{keyed(kind, text)[:32].translate(_LETTERS)}"


def random_reference(kind: str) -> EventId:
    """Return a random event id that logs and evidence hold as it is.

    Of 1,000 UUIDs, three or four end in twelve digits, and a digest would take their place.
    """
    return f"{kind}-{uuid4().hex.translate(_LETTERS)}"
