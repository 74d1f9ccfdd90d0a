"""Whom a pseudonym stands for: it cannot be read, so candidates are tried under each key."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from handlers.core.evidence.actor import name_in
from handlers.core.evidence.ports import PrincipalPseudonyms
from schemas.ids import AccountId
from schemas.pseudonym import Pseudonym

#: The prefixes of pseudonyms.
ACCOUNT: Final = "acct-"
PRINCIPAL: Final = "prin-"
NAME: Final = "name-"
_MAKE: Final[dict[str, Callable[[PrincipalPseudonyms, str], Pseudonym]]] = {
    ACCOUNT: lambda pseudonyms, account_id: pseudonyms.of(account_id),
    PRINCIPAL: lambda pseudonyms, arn: pseudonyms.principal(arn),
    NAME: lambda pseudonyms, name: pseudonyms.name(name),
}


@dataclass(frozen=True)
class Candidate:
    """What a pseudonym may stand for: an account id, the ARN of a principal, or the name of a session or user."""

    #: The prefix of its pseudonyms.
    kind: str
    text: str

    def under(self, keys: Sequence[PrincipalPseudonyms]) -> list[Pseudonym]:
        """Return its pseudonyms, one for each key."""
        return [_MAKE[self.kind](each, self.text) for each in keys]


@dataclass(frozen=True)
class Resolved:
    """What a pseudonym stands for, and the key that it was made with."""

    pseudonym: Pseudonym
    text: str


def accounts(account_ids: Iterable[AccountId]) -> Iterable[Candidate]:
    """Yield accounts as candidates."""
    return (Candidate(ACCOUNT, each) for each in account_ids)


def people(names: Iterable[str], arns: Iterable[str], roles: Sequence[str]) -> Iterable[Candidate]:
    """Yield names and principals as candidates, and each name as that of a session of each role.

    `roles` are the ARNs of roles. The name in the ARN of a session or user is a candidate, too.
    """
    for name in names:
        yield Candidate(NAME, name)
        yield from (Candidate(PRINCIPAL, session_arn(role, name)) for role in roles)
    for arn in arns:
        yield Candidate(PRINCIPAL, arn)
        yield Candidate(NAME, name_in(arn))


def session_arn(role: str, name: str) -> str:
    """Return the ARN of a session of a role with a name, as STS reports it: without the role's path."""
    _, partition, _, _, account_id, path_and_name = role.split(":", 5)
    return f"arn:{partition}:sts::{account_id}:assumed-role/{path_and_name.rpartition('/')[2]}/{name}"


def resolve(
    values: Collection[str], candidates: Iterable[Candidate], keys: Sequence[PrincipalPseudonyms]
) -> dict[str, Resolved]:
    """Return what pseudonyms stand for, as far as a candidate does; no candidate is taken after the last is found."""
    found: dict[str, Resolved] = {}
    left = set(values)
    kinds = {kind for kind in _MAKE if any(each.startswith(kind) for each in left)}
    for candidate in candidates:
        if candidate.kind in kinds:
            for pseudonym in candidate.under(keys):
                if pseudonym.value in left:
                    left.remove(pseudonym.value)
                    found[pseudonym.value] = Resolved(pseudonym, candidate.text)
            if not left:
                break
    return found
