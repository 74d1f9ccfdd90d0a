"""Where objects lie in the evidence bucket. No key holds an account id."""

from typing import Final

from schemas.evidence import Evidence

#: Stands for the account where an event names none.
NO_ACCOUNT: Final = "none"
#: So much of a SHA-256 tells two objects for one attempt apart.
_SHORT: Final = 16


def evidence_key(evidence: Evidence) -> str:
    """Return an attempt's key: the day of the event (UTC), the event, the account's pseudonym, the attempt.

    The account is part of it, because one event id can stand in events about two accounts.
    """
    account = evidence.account.value if evidence.account else NO_ACCOUNT
    late = "-late" if evidence.course == "late" else ""
    return f"{evidence_prefix(evidence)}{account}/{evidence.attempt:04d}{late}.json"


def evidence_prefix(evidence: Evidence) -> str:
    """Return what the keys of an event's evidence begin with."""
    return f"evidence/{evidence.event_time:%Y/%m/%d}/{evidence.event_id}/"


def key_beside(key: str, sha256: str) -> str:
    """Return the key for an object whose own key holds something else."""
    return f"{key.removesuffix('.json')}-{sha256[:_SHORT]}.json"
