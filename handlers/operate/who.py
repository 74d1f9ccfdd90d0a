"""Who did something, as commands show it: the caller as `you`, and everybody by pseudonyms."""

from typing import Any

from handlers.operate.context import Context
from schemas.audit import AuditRecord
from schemas.outcome import Closed
from schemas.pause import Ended, Pause

Recorded = AuditRecord | Closed | Pause | Ended


def is_you(context: Context, recorded: Recorded) -> bool:
    """Return whether a record names the caller; False if KMS does not say the caller's pseudonyms."""
    return any(each.did(recorded) for each in context.known_as)


def who(context: Context, recorded: Recorded) -> str:
    """Return who did what a record says: `you`, or the pseudonym of the name; in older records that of the ARN."""
    named = recorded.actor_name or recorded.actor
    return f"you ({named.value})" if is_you(context, recorded) else f"{named.value} ({recorded.actor_id})"


def who_fields(context: Context, recorded: Recorded | None) -> dict[str, Any]:
    """Return who did what a record says for --json; nulls without a record."""
    if recorded is None:
        return dict.fromkeys(("actor", "actor_name", "actor_id", "you"))
    return {
        "actor": recorded.actor.value,
        "actor_name": recorded.actor_name.value if recorded.actor_name else None,
        "actor_id": recorded.actor_id,
        "you": is_you(context, recorded),
    }
