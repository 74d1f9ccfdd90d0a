"""Which account and which organization a place of an event names: exactly one, or none that can be relied on."""

import re
from collections.abc import Callable, Iterable
from typing import Final

from schemas.document import InvalidEventError, Json, Number, Place

_ACCOUNT_ID: Final = re.compile(r"[0-9]{12}")
_ORGANIZATION_ID: Final = re.compile(r"o-[a-z0-9]{10,32}")
#: What CloudTrail writes in place of a value.
_HIDDEN: Final = "HIDDEN_DUE_TO_SECURITY_REASONS"
#: Stand for characters that are masked, all of them or the first ones.
_MASK: Final = re.compile(r"[*#X\u2022]")


def account_id(place: Place) -> str | None:
    """Return the account id that stands at a place; None where nothing does or it is masked.

    Raises InvalidEventError where there are digits that make no account id.
    """
    value = place.value
    if not isinstance(value, str) or not any(map(str.isdigit, value)) or _MASK.search(value):
        return None
    if isinstance(value, Number) or not _ACCOUNT_ID.fullmatch(value):
        raise InvalidEventError((place.where, "is not an account id"))
    return value


def organization_id(place: Place) -> str | None:
    """Return the organization id that stands at a place; None where nothing does or it is masked.

    Raises InvalidEventError where there is something else.
    """
    value = place.value
    if not isinstance(value, str) or value == _HIDDEN or not any(map(str.isalnum, value)) or _MASK.search(value):
        return None
    if not _ORGANIZATION_ID.fullmatch(value):
        raise InvalidEventError((place.where, "is not an organization id"))
    return value


def is_organization_id(value: Json) -> bool:
    """Tell whether a value is a well-formed organization id."""
    return isinstance(value, str) and bool(_ORGANIZATION_ID.fullmatch(value))


def is_account_id(value: Json) -> bool:
    """Tell whether a value is a well-formed account id, be it a text or a number."""
    return isinstance(value, str) and bool(_ACCOUNT_ID.fullmatch(value))


def agreed(what: str, places: Iterable[Place], read: Callable[[Place], str | None]) -> str | None:
    """Return the one id that all places agree on; None where none carries one.

    Raises InvalidEventError where they differ.
    """
    found: dict[str, str] = {}
    for place in places:
        value = read(place)
        if value is not None:
            found.setdefault(value, place.where)
    if len(found) > 1:
        where = " and ".join(sorted(set(found.values())))
        raise InvalidEventError((where, f"name {len(found)} different {what}s"))
    return next(iter(found), None)
