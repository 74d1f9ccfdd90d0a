"""Names of events that logs, metrics and evidence may hold: an event's id or name can hold an account id."""

from handlers.core.ports import Pseudonyms
from handlers.core.redaction import holds_account_id
from schemas.events import KNOWN_EVENT_NAMES, Join, NoJoin
from schemas.ids import EventId


def reference(event: Join | NoJoin, pseudonyms: Pseudonyms) -> EventId:
    """Return the event's id, or a keyed digest of it where it holds twelve digits."""
    return _digest("event-id", event.event_id, pseudonyms) if holds_account_id(event.event_id) else event.event_id


def event_name(event: Join | NoJoin, pseudonyms: Pseudonyms) -> str:
    """Return the event's name where it is one that we know, else a keyed digest of it."""
    name = event.event_name
    return name if name in KNOWN_EVENT_NAMES else _digest("event-name", name, pseudonyms)


def _digest(kind: str, text: str, pseudonyms: Pseudonyms) -> str:
    # Letters only, so that no part of it can be taken for an account id.
    digits = pseudonyms.digest(kind, text)[:32].translate(str.maketrans("0123456789", "ghijklmnop"))
    return f"{kind}-{digits}"
