"""Find the account of an `AccountJoinedOrganization` or `AccountDepartedOrganization`, whose layouts are not published.

The id is searched for under keys that name an account, then in the whole record. `userIdentity` is left out, because it
is the management account in service events.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from schemas.document import InvalidEventError, Json, Node, ObjectWithDuplicates
from schemas.naming import different, is_account_id, is_organization_id

#: CloudTrail limits a record to 256 kB; a record of Organizations has about fifty values.
MAX_VALUES: Final = 20_000
_SECTIONS: Final = frozenset({"serviceEventDetails", "responseElements", "requestParameters"})
#: CloudTrail's own fields, which the records of all services have; an account that they name neither joined nor left.
_CLOUDTRAIL: Final = frozenset(
    {
        "awsRegion",
        "eventCategory",
        "eventID",
        "eventName",
        "eventSource",
        "eventTime",
        "eventType",
        "eventVersion",
        "recipientAccountId",
        "requestID",
        "sharedEventID",
        "sourceIPAddress",
        "tlsDetails",
        "userAgent",
        "userIdentity",
        "vpcEndpointAccountId",
        "vpcEndpointId",
    }
)
#: Values under a key with one of these words are about another account than the one that joined or left.
_OTHERS: Final = (
    "management|master|payer|administrator|govcloud|usgov|commercial|paired|^tags?$"
    "|invitedby|inviter|sender|caller|requester|initiator|useridentity"
)
_OTHER_THAN_JOINED: Final = re.compile(
    f"{_OTHERS}|previous|prior(?!ity)|former|(?<!re|ut)source|from|departed|oldaccount|oldorg|oldparent|leaving|origin"
)
_OTHER_THAN_DEPARTED: Final = re.compile(f"{_OTHERS}|destination|joined|joining|newaccount|neworg|newparent|target")
_FOLDED: Final = str.maketrans("", "", "_- ")
_MAX_PATH: Final = 200
#: The ARN of a member account holds the id of the management account first.
_ACCOUNT_ARN: Final = re.compile(r"arn:[^:]*:organizations:[^:]*:[0-9]*:account/o-[a-z0-9]+/([0-9]{12})")
_IN_ARN: Final = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")
#: Keys that may appear in error messages. Any other key is a text of the event, and `*` replaces it.
_KNOWN_KEYS: Final = frozenset(
    {"accountId", "joinedAccountId", "departedAccountId", "memberAccountId", "account", "id", "organizationId"}
    | {"organization"}
    | _SECTIONS
)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A value that is not an object or an array, and its names."""

    value: Json
    path: str
    #: Its key and the key of the object around it, in lowercase and without underscores.
    name: str = ""
    outer: str = ""
    #: Whether it is inside one of the sections that describe the event.
    in_section: bool = False
    #: Whether a key on its path appears more than once.
    duplicate: bool = False

    @property
    def full_name(self) -> str:
        return self.outer + self.name if self.name == "id" else self.name


def joined(record: Node, management: frozenset[str]) -> tuple[str | None, str | None]:
    """Return the id of the account that joined, and that of its organization if the record holds it.

    The account is None if it is the management account. Raises InvalidEventError if the record names several accounts,
    or none.
    """
    return _announced(record, management, _OTHER_THAN_JOINED)


def departed(record: Node, management: frozenset[str]) -> tuple[str | None, str | None]:
    """Return the id of the account that left, and that of the organization, as for a join."""
    return _announced(record, management, _OTHER_THAN_DEPARTED)


def _announced(record: Node, management: frozenset[str], others: re.Pattern[str]) -> tuple[str | None, str | None]:
    leaves = list(_leaves(record, others))
    in_sections = [leaf for leaf in leaves if leaf.in_section]
    organization = _one(
        "organization id",
        [
            (leaf.value, leaf)
            for leaf in in_sections
            if _is_named(leaf, "organization") and is_organization_id(leaf.value)
        ],
    )
    named = [leaf for leaf in in_sections if _is_named(leaf, "account")]
    _reject_malformed(named)
    account = _one("account id", [(leaf.value, leaf) for leaf in named if is_account_id(leaf.value)], management)
    if account is None or account in management:
        other = _one("account id", [each for leaf in leaves for each in _ids(leaf) if each[0] not in management])
        if account and other:
            raise InvalidEventError((_path(record), "must not name both the management account and another one"))
        account = account or other or next(filter(None, map(_account_in_arn, leaves)), None)
    if account is None:
        raise InvalidEventError((_path(record), "must hold an account id other than that of the management account"))
    return (None if account in management else account), organization


def _path(record: Node) -> str:
    return record.path or "body"


def _is_named(leaf: _Leaf, what: str) -> bool:
    """Return whether the name of a leaf is `accountId`, `joinedAccountId`, `account`, `account.id` or similar."""
    return leaf.full_name.endswith((what, f"{what}id"))


def _reject_malformed(named: list[_Leaf]) -> None:
    for leaf in named:
        value = leaf.value
        holds_id = isinstance(value, str) and any(map(str.isdigit, value)) and not value.startswith("arn:")
        if holds_id and leaf.full_name.endswith("id") and not is_account_id(value):
            raise InvalidEventError((leaf.path, "must be an account id: 12 digits"))


def _account_in_arn(leaf: _Leaf) -> str | None:
    found = _ACCOUNT_ARN.fullmatch(leaf.value) if isinstance(leaf.value, str) else None
    return found[1] if found else None


def _ids(leaf: _Leaf) -> list[tuple[Json, _Leaf]]:
    """Return the well-formed account ids of a value: a string, a number, or part of an ARN."""
    if is_account_id(leaf.value):
        return [(leaf.value, leaf)]
    if isinstance(leaf.value, str) and leaf.value.startswith("arn:"):
        account = _account_in_arn(leaf)
        return [(each, leaf) for each in ([account] if account else _IN_ARN.findall(leaf.value))]
    return []


def _one(what: str, found: list[tuple[Json, _Leaf]], management: frozenset[str] = frozenset()) -> str | None:
    """Return the one id that is found; that of the management account only if there is no other."""
    for _, leaf in found:
        if leaf.duplicate:
            raise InvalidEventError((leaf.path, f"must not name an {what} under a key that appears more than once"))
    paths = {str(value): leaf.path for value, leaf in found}
    others = paths.keys() - management
    if len(others) > 1:
        where = " and ".join(sorted({paths[each] for each in others}))
        raise InvalidEventError((where, different(what, len(others))))
    return next(iter(others or paths), None)


def _leaves(record: Node, others: re.Pattern[str]) -> Iterator[_Leaf]:
    """Yield each value of a record that may be about the account, which is not under a key about others."""
    stack = [_Leaf(record.value, record.path)]
    left = MAX_VALUES
    while stack:
        at = stack.pop()
        left -= 1
        if left < 0:
            raise InvalidEventError((_path(record), f"has more than {MAX_VALUES} values"))
        if isinstance(at.value, dict):
            outermost = at.value is record.value
            duplicates = at.value.duplicates if isinstance(at.value, ObjectWithDuplicates) else frozenset()
            pairs = at.value.pairs if isinstance(at.value, ObjectWithDuplicates) else at.value.items()
            stack += [
                _inner(at, name, value, duplicate=name in duplicates, in_section=outermost and name in _SECTIONS)
                for name, value in pairs
                if not (outermost and name in _CLOUDTRAIL) and not others.search(_folded(name))
            ]
        elif isinstance(at.value, list):
            stack += [
                _Leaf(each, at.path, at.name, at.outer, in_section=at.in_section, duplicate=at.duplicate)
                for each in at.value
            ]
        else:
            yield at


def _inner(at: _Leaf, name: str, value: Json, *, duplicate: bool, in_section: bool) -> _Leaf:
    step = name if name in _KNOWN_KEYS else "*"
    unchanged = (step == "*" and at.path.endswith("*")) or len(at.path) > _MAX_PATH
    path = at.path if unchanged else f"{at.path}.{step}".strip(".")
    return _Leaf(
        value,
        path,
        _folded(name),
        at.name,
        in_section=at.in_section or in_section,
        duplicate=at.duplicate or duplicate,
    )


def _folded(name: str) -> str:
    return name.translate(_FOLDED).lower()
