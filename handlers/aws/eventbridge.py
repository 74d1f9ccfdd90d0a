"""EventBridge: the default event bus, on which operators put rehearsals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from handlers.aws.errors import service_errors
from handlers.core.errors import RetryableError, fault
from schemas.events import REHEARSAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_events import EventBridgeClient

    from schemas.ids import EventId

#: As the stack's schedule puts it on the bus, with every key that the rule's pattern requires.
_DETAIL_TYPE: Final = "Joinguard Rehearsal"
_DETAIL: Final = json.dumps({"eventSource": "organizations.amazonaws.com", "eventName": "Rehearsal"})


class EventBridgeBus:
    """Put rehearsals on the default bus of a Region."""

    def __init__(self, client: Callable[[str | None], EventBridgeClient]) -> None:
        self._client = client

    def put_rehearsal(self, region: str | None = None) -> EventId:
        """Put a rehearsal on the bus of a Region, or of the stack's; return the id of the event.

        Raises RetryableError if EventBridge does not accept it.
        """
        entry = {"Source": REHEARSAL, "DetailType": _DETAIL_TYPE, "Detail": _DETAIL}
        with service_errors("EventBridge"):
            [answer] = self._client(region).put_events(Entries=[entry])["Entries"]  # type: ignore[list-item]
        if event_id := answer.get("EventId"):
            return event_id
        why = answer.get("ErrorMessage", "no reason given")
        raise RetryableError(fault(f"EventBridge.{answer.get('ErrorCode', 'Unknown')}", f"not accepted: {why}"))
