"""The requests that one worker sends to the other; a repeated request has the same id, so it is handled once."""

from collections.abc import Collection
from datetime import datetime

from handlers.core.evidence.references import request_id
from handlers.core.ports import Pseudonyms
from schemas.events import ChangedTag, Join, JoinRequest, RemovalRequest
from schemas.ids import OrganizationId, PolicyId


def removal_request(
    join: Join,
    removable: Collection[PolicyId],
    organization_id: OrganizationId,
    now: datetime,
    pseudonyms: Pseudonyms,
) -> RemovalRequest:
    """Return the request to remove what an account does not need after an event.

    Another attempt at the event may find more that is removable, which takes a request of its own. The request has what
    the event changed, so that the other worker does not decide by facts that are older.
    """
    return RemovalRequest(
        source="joinguard.removal",
        event_id=request_id(pseudonyms, "removal", join.account_id, join.event_id, *sorted(removable)),
        requested_at=now,
        account_id=join.account_id,
        organization_id=organization_id,
        reason=f"after event {join.event_id}",
        changed_parent=join.change.parent_id,
        changed_tags=tuple(ChangedTag(key=key, value=value) for key, value in join.change.tags.items()),
    )


def evaluation_request(
    join: Join, attempt: int, organization_id: OrganizationId, now: datetime, pseudonyms: Pseudonyms
) -> JoinRequest:
    """Return the request to evaluate an account again after an attempt that removed something.

    The account may have changed meanwhile, and it has a place again for a policy that had none.
    """
    return JoinRequest(
        source="joinguard.worker",
        event_id=request_id(pseudonyms, "evaluation", join.account_id, join.event_id, str(attempt)),
        requested_at=now,
        account_id=join.account_id,
        organization_id=organization_id,
        reason=f"after removal {join.event_id}",
    )
