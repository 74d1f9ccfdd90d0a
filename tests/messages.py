"""Messages as the queue delivers them, and ways to change them."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

from infra.local.events import (
    account_closed,
    account_created,
    account_departed,
    account_joined,
    account_left,
    account_moved,
    account_removed,
    handshake_accepted,
    policy_deleted,
    policy_detached,
    policy_type_disabled,
    policy_updated,
    resource_tagged,
    resource_untagged,
)
from schemas import events
from schemas.intake import read_event

ACCOUNT, OTHER, MANAGEMENT, ORGANIZATION = "222222222222", "333333333333", "111111111111", "o-exampleorgid"
HANDSHAKE = "detail.responseElements.handshake"

Event = dict[str, Any]
Path = tuple[str | int, ...]


def invited(**changes: Any) -> Event:
    return handshake_accepted(ACCOUNT, ORGANIZATION, MANAGEMENT, **changes)


def created(**changes: Any) -> Event:
    return account_created(ACCOUNT, MANAGEMENT, **changes)


def announced(**detail: Any) -> Event:
    event = account_joined(ACCOUNT, ORGANIZATION, MANAGEMENT)
    event["detail"] |= detail
    return event


def moved(**parameters: Any) -> Event:
    return account_moved(ACCOUNT, MANAGEMENT, **parameters)


def tagged(**parameters: Any) -> Event:
    return resource_tagged(ACCOUNT, MANAGEMENT, **parameters)


def untagged(**parameters: Any) -> Event:
    return resource_untagged(ACCOUNT, MANAGEMENT, **parameters)


def departed(**details: Any) -> Event:
    return account_departed(ACCOUNT, ORGANIZATION, MANAGEMENT, **details)


def removed() -> Event:
    return account_removed(ACCOUNT, MANAGEMENT)


def left() -> Event:
    return account_left(ACCOUNT, MANAGEMENT)


def closed(**status: Any) -> Event:
    return account_closed(ACCOUNT, MANAGEMENT, **status)


def detached(target: str = ACCOUNT, policy_id: str = "p-aaaaaaaa") -> Event:
    return policy_detached(target, MANAGEMENT, policy_id)


def updated(policy_id: str = "p-aaaaaaaa") -> Event:
    return policy_updated(policy_id, MANAGEMENT)


def deleted(policy_id: str = "p-aaaaaaaa") -> Event:
    return policy_deleted(policy_id, MANAGEMENT)


def disabled(policy_type: str = "SERVICE_CONTROL_POLICY") -> Event:
    return policy_type_disabled(policy_type, MANAGEMENT)


def found_missing(**changes: Any) -> Event:
    """Return the sweep's request to close the record of an account that it no longer finds."""
    return requested(source="joinguard.departure", reason="not in the snapshot") | changes


def requested(**changes: Any) -> Event:
    return {
        "source": "joinguard.operator",
        "event_id": "request-1",
        "requested_at": "2026-11-24T12:00:00Z",
        "account_id": ACCOUNT,
        "organization_id": ORGANIZATION,
        "reason": "its event was lost",
    } | changes


def with_detail(event: Event, **detail: Any) -> Event:
    return event | {"detail": event["detail"] | detail}


def resource(kind: str, value: object) -> dict[str, object]:
    return {"type": kind, "value": value}


def read(event: object) -> events.Received:
    return read_event(json.dumps(event))


def at(event: object, path: Path) -> Any:
    for step in path:
        event = event[step]  # type: ignore[index]
    return event


def changed(event: Event, path: Path, value: object) -> Event:
    copied = copy.deepcopy(event)
    at(copied, path[:-1])[path[-1]] = value
    return copied


def without(event: Event, path: Path) -> Event:
    copied = copy.deepcopy(event)
    del at(copied, path[:-1])[path[-1]]
    return copied


def twice(event: Event, path: Path, value: object) -> str:
    """Return the JSON of an event with a duplicate key, the first time with another value."""
    copied = copy.deepcopy(event)
    container = at(copied, path[:-1])
    own = container.pop(path[-1])
    container |= {"@twice": value, path[-1]: own}
    return json.dumps(copied).replace('"@twice"', json.dumps(path[-1]))


def paths(value: object, path: Path = ()) -> list[Path]:
    """Return the paths to a value and to all values inside it."""
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(found for step, part in inner for found in paths(part, (*path, step)))]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.sampled_from([ACCOUNT, OTHER, MANAGEMENT, ORGANIZATION, "\ud800", "****"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
