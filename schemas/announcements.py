"""`AccountJoinedOrganization`, whose layout AWS has not published: which account joined.

Looked for under names that say so, then anywhere in the record. `userIdentity` is never the answer: for a service
event that is the management account.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from schemas.document import Ambiguous, InvalidEventError, Json, Place
from schemas.naming import is_account_id, is_organization_id

#: CloudTrail keeps a record below 256 kB; one of Organizations has some fifty values.
MAX_VALUES: Final = 20_000
_SECTIONS: Final = frozenset({"serviceEventDetails", "responseElements", "requestParameters"})
#: CloudTrail's own fields, the same in each service's records; what they name did not join.
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
#: What stands under such a word is about somebody else than the account that joined.
_SOMEBODY_ELSE: Final = re.compile(
    "management|master|payer|administrator|previous|prior(?!ity)|former|(?<!re|ut)source|from|departed|govcloud"
    "|usgov|commercial|paired|oldaccount|oldorg|oldparent|leaving|origin|^tags?$"
    "|invitedby|inviter|sender|caller|requester|initiator|useridentity"
)
_FOLDED: Final = str.maketrans("", "", "_- ")
_LONGEST_PATH: Final = 200
#: The ARN of a member account names the management account first.
_ACCOUNT_ARN: Final = re.compile(r"arn:[^:]*:organizations:[^:]*:[0-9]*:account/o-[a-z0-9]+/([0-9]{12})")
_IN_ARN: Final = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")
#: Names that may stand in an error: they are ours, not the event's.
_TELLING: Final = frozenset(
    {"accountId", "joinedAccountId", "memberAccountId", "account", "id", "organizationId", "organization"} | _SECTIONS
)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A value without parts, and how it is named."""

    value: Json
    where: str
    #: Its own name and that of the object around it, folded: no capitals, no underscores.
    name: str = ""
    outer: str = ""
    #: Whether it is part of one of the sections that describe the event.
    described: bool = False
    #: Whether a key on the way is there twice.
    twice: bool = False

    @property
    def full_name(self) -> str:
        return self.outer + self.name if self.name == "id" else self.name


def joined(record: Place, management: frozenset[str]) -> tuple[str | None, str | None]:
    """Return the account that joined, None where that is the management account, and its organization's id if told.

    Raises InvalidEventError where the record names several accounts, or none.
    """
    leaves = list(_leaves(record))
    described = [leaf for leaf in leaves if leaf.described]
    organization = _one(
        "organization id",
        [(leaf.value, leaf) for leaf in described if _names(leaf, "organization") and is_organization_id(leaf.value)],
    )
    named = [leaf for leaf in described if _names(leaf, "account")]
    _refuse_what_is_none(named)
    account = _one("account id", [(leaf.value, leaf) for leaf in named if is_account_id(leaf.value)], management)
    if account is None or account in management:
        other = _one("account id", [each for leaf in leaves for each in _ids(leaf) if each[0] not in management])
        if account and other:
            raise InvalidEventError((_where(record), "names the management account and another one"))
        account = account or other or next(filter(None, map(_account_in_arn, leaves)), None)
    if account is None:
        raise InvalidEventError((_where(record), "carries no account id but the management account's"))
    return (None if account in management else account), organization


def _where(record: Place) -> str:
    return record.where or "body"


def _names(leaf: _Leaf, what: str) -> bool:
    """Accept `accountId`, `joinedAccountId`, `memberAccountId`, `account` and `account.id` in any spelling."""
    return leaf.full_name.endswith((what, f"{what}id"))


def _refuse_what_is_none(named: list[_Leaf]) -> None:
    for leaf in named:
        value = leaf.value
        told = isinstance(value, str) and any(map(str.isdigit, value)) and not value.startswith("arn:")
        if told and leaf.full_name.endswith("id") and not is_account_id(value):
            raise InvalidEventError((leaf.where, "is not an account id"))


def _account_in_arn(leaf: _Leaf) -> str | None:
    found = _ACCOUNT_ARN.fullmatch(leaf.value) if isinstance(leaf.value, str) else None
    return found[1] if found else None


def _ids(leaf: _Leaf) -> list[tuple[Json, _Leaf]]:
    """Return the well-formed account ids that a value holds: as a text, as a number, inside an ARN."""
    if is_account_id(leaf.value):
        return [(leaf.value, leaf)]
    if isinstance(leaf.value, str) and leaf.value.startswith("arn:"):
        account = _account_in_arn(leaf)
        return [(each, leaf) for each in ([account] if account else _IN_ARN.findall(leaf.value))]
    return []


def _one(what: str, found: list[tuple[Json, _Leaf]], management: frozenset[str] = frozenset()) -> str | None:
    """Return the one id that is found; the management account's only where there is no other."""
    for _, leaf in found:
        if leaf.twice:
            raise InvalidEventError((leaf.where, f"names an {what} under a key that is there twice"))
    places = {str(value): leaf.where for value, leaf in found}
    others = places.keys() - management
    if len(others) > 1:
        where = " and ".join(sorted({places[each] for each in others}))
        raise InvalidEventError((where, f"name {len(others)} different {what}s"))
    return next(iter(others or places), None)


def _leaves(record: Place) -> Iterator[_Leaf]:
    """Yield the values of a record that may be about the account that joined, each once."""
    waiting = [_Leaf(record.value, record.where)]
    left = MAX_VALUES
    while waiting:
        at = waiting.pop()
        left -= 1
        if left < 0:
            raise InvalidEventError((_where(record), f"has more than {MAX_VALUES} values"))
        if isinstance(at.value, dict):
            outermost = at.value is record.value
            twice = at.value.twice if isinstance(at.value, Ambiguous) else frozenset()
            pairs = at.value.pairs if isinstance(at.value, Ambiguous) else at.value.items()
            waiting += [
                _inner(at, name, value, twice=name in twice, described=outermost and name in _SECTIONS)
                for name, value in pairs
                if not (outermost and name in _CLOUDTRAIL) and not _SOMEBODY_ELSE.search(_folded(name))
            ]
        elif isinstance(at.value, list):
            waiting += [
                _Leaf(each, at.where, at.name, at.outer, described=at.described, twice=at.twice) for each in at.value
            ]
        else:
            yield at


def _inner(at: _Leaf, name: str, value: Json, *, twice: bool, described: bool) -> _Leaf:
    step = name if name in _TELLING else "*"
    known = (step == "*" and at.where.endswith("*")) or len(at.where) > _LONGEST_PATH
    where = at.where if known else f"{at.where}.{step}".strip(".")
    return _Leaf(value, where, _folded(name), at.name, described=at.described or described, twice=at.twice or twice)


def _folded(name: str) -> str:
    return name.translate(_FOLDED).lower()
