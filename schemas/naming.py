"""Read account ids and organization ids of an event; all places that hold one must agree."""

import re
from collections.abc import Callable, Iterable
from typing import Final

from schemas.document import InvalidEventError, Json, Node, Number
from schemas.ids import OU_ID

_ACCOUNT_ID: Final = re.compile(r"[0-9]{12}")
_ORGANIZATION_ID: Final = re.compile(r"o-[a-z0-9]{10,32}")
_OU_ID: Final = re.compile(OU_ID)
#: CloudTrail writes this in place of a sensitive value.
HIDDEN: Final = "HIDDEN_DUE_TO_SECURITY_REASONS"
#: Characters that mask all characters of an id, or the first ones.
_MASK: Final = re.compile(r"[*#X\u2022]")
#: The rule of an account id, for error messages.
ACCOUNT_ID_RULE: Final = "must be an account id: a string of 12 digits"


def account_id(node: Node) -> str | None:
    """Return the account id of a node; None if it has none, or a masked one.

    Raises InvalidEventError if the node has digits that are not an account id.
    """
    value = node.value
    if not isinstance(value, str) or not any(map(str.isdigit, value)) or _MASK.search(value):
        return None
    if isinstance(value, Number) or not _ACCOUNT_ID.fullmatch(value):
        raise InvalidEventError((node.path, ACCOUNT_ID_RULE))
    return value


def organization_id(node: Node) -> str | None:
    """Return the organization id of a node; None if it has none, or a masked one.

    Raises InvalidEventError if the node has another value.
    """
    value = node.value
    if not isinstance(value, str) or value == HIDDEN or not any(map(str.isalnum, value)) or _MASK.search(value):
        return None
    if not _ORGANIZATION_ID.fullmatch(value):
        raise InvalidEventError((node.path, "must be an organization id: o- and 10 to 32 lowercase letters or digits"))
    return value


def is_organization_id(value: Json) -> bool:
    """Return whether a value is a well-formed organization id."""
    return isinstance(value, str) and bool(_ORGANIZATION_ID.fullmatch(value))


def is_account_id(value: Json) -> bool:
    """Return whether a value is a well-formed account id, as a string or as a number."""
    return isinstance(value, str) and bool(_ACCOUNT_ID.fullmatch(value))


def is_ou_id(value: Json) -> bool:
    """Return whether a value is the well-formed id of an OU or of the root."""
    return isinstance(value, str) and bool(_OU_ID.fullmatch(value))


def agreed(what: str, nodes: Iterable[Node], read: Callable[[Node], str | None]) -> str | None:
    """Return the one id that all nodes agree on; None if no node has one.

    Raises InvalidEventError if they differ.
    """
    found: dict[str, str] = {}
    for node in nodes:
        value = read(node)
        if value is not None:
            found.setdefault(value, node.path)
    if len(found) > 1:
        paths = " and ".join(sorted(set(found.values())))
        raise InvalidEventError((paths, different(what, len(found))))
    return next(iter(found), None)


def different(what: str, number: int) -> str:
    """Return the rule that places break if they hold different ids."""
    return f"must not name {number} different {what}s"
