"""Compile a guardrails document: names become ids, once, and the lock file keeps what they stood for.

`resolve` looks names up in the organization; `compiled` needs only the document and the lock, so that the same two
files always give the same bytes. What the order of means nothing is sorted, so that moving a rule changes no hash.

In an OU pattern, the part up to the last name is looked up now; `*` and `**` after it hold for OUs that come later too.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from schemas.compiled_guardrails import (
    CompiledException,
    CompiledGuardrails,
    CompiledPolicy,
    CompiledRule,
    CompiledSelector,
    OuRange,
    PolicyType,
)
from schemas.guardrails import Document, Lock, LockedPolicy, PolicyEntry, Selector
from schemas.ids import OuId, PolicyId, Sha256

#: Where something is in the document: keys and positions.
Path: TypeAlias = tuple[str | int, ...]
Tree: TypeAlias = Mapping[str, OuId]

_WILD: Final = {"*": "/[^/]+", "**": "(?:/[^/]+)*"}


class Problem(NamedTuple):
    """What is wrong with a document, and the next step."""

    path: Path
    message: str


@dataclass(frozen=True)
class OrganizationPolicy:
    """A policy of the organization."""

    id: PolicyId
    name: str
    type: PolicyType
    #: SHA-256 of its content: of the UTF-8 text that DescribePolicy returns, byte for byte. None if it was not read.
    sha256: Sha256 | None = None
    #: Its content; None if it was not read, or the organization was recorded.
    content: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Organization:
    """What a document's names are looked up in."""

    policies: tuple[OrganizationPolicy, ...]
    #: The id of each OU by its path of names; the root's path is `/`.
    ous: Tree
    #: The OUs that their path does not name, since a name in it contains `/` or `*`; with their paths.
    unnamed: Mapping[OuId, str] = field(default_factory=dict)


class StaleLockError(Exception):
    """The lock file does not have what the document names; it has to be made again."""


def resolve(document: Document, organization: Organization) -> tuple[Lock | None, list[Problem]]:
    """Look up the names of a document; return the lock, or None and what was not found."""
    problems: list[Problem] = []
    policies: list[LockedPolicy] = []
    for position, entry in enumerate(document.policies):
        found = _policy(entry, organization.policies)
        if isinstance(found, str):
            problems.append(Problem(("policies", position), found))
        elif found.sha256 is None:
            problems.append(Problem(("policies", position), _unreadable(entry)))
        elif same := next((each.policy for each in policies if each.id == found.id), None):
            problems.append(Problem(("policies", position), f"{entry.label} is {same} again; keep one of them"))
        else:
            policies.append(LockedPolicy(policy=entry.label, id=found.id, type=found.type, sha256=found.sha256))
    problems += _not_found(document, organization)
    if problems:
        return None, problems
    return locked(document, policies, organization.ous), []


def locked(document: Document, policies: Iterable[LockedPolicy], ous: Tree) -> Lock:
    """Return the lock of a document whose policies were found; OU patterns that name nothing select nothing."""
    patterns = sorted({pattern for _, pattern, _ in ou_patterns(document)})
    lock = Lock(policies=tuple(policies), ous={each: named_ous(each, ous) for each in patterns}, compiled="0" * 64)
    return lock.model_copy(update={"compiled": compiled(document, lock).sha256()})


def compiled(document: Document, lock: Lock) -> CompiledGuardrails:
    """Compile a document with its lock; raise StaleLockError if the lock lacks a name."""
    ids = {each.policy: each.id for each in lock.policies}
    types = {each.policy: each for each in lock.policies}
    if missing := sorted({each.label for each in document.policies if each.label not in ids}):
        raise StaleLockError(f"the lock file does not have {', '.join(missing)}; make it again (joinguard lock)")
    order = [ids[each.label] for each in document.policies]

    def attached(names: Iterable[str]) -> tuple[PolicyId, ...]:
        return tuple(sorted({ids[each] for each in names}, key=order.index))

    return CompiledGuardrails(
        policies=tuple(
            CompiledPolicy(id=each.id, type=each.type, sha256=each.sha256)
            for each in (types[entry.label] for entry in document.policies)
        ),
        rules=tuple(
            CompiledRule(
                id=rule.id,
                attach=attached(rule.attach),
                match=rule.match if rule.match == "all" else _selectors(rule.match, lock),
                exclude=_selectors(rule.exclude, lock),
                when_no_longer=rule.when_no_longer,
            )
            for rule in sorted(document.rules, key=lambda each: each.id)
        ),
        exceptions=tuple(
            CompiledException(
                id=each.id,
                accounts=tuple(sorted(each.accounts)),
                policies=attached(each.policies),
                starts=each.starts,
                expires=each.expires,
            )
            for each in sorted(document.exceptions, key=lambda each: each.id)
        ),
        policies_per_account=document.limits.per_account(),
        max_removals=document.limits.removals,
    )


def ou_patterns(document: Document) -> Iterator[tuple[Path, str, bool]]:
    """Yield each OU pattern with its place in the document, and whether its rule may select nothing."""
    for number, rule in enumerate(document.rules):
        for key, selectors in (("match", rule.match), ("exclude", rule.exclude)):
            for position, selector in enumerate(selectors if isinstance(selectors, tuple) else ()):
                for index, pattern in enumerate(selector.ou):
                    # A rule may select nobody; a misspelled exclusion would select too many.
                    allow_empty = rule.allow_empty and key == "match"
                    yield ("rules", number, key, position, "ou", index), pattern, allow_empty


def named_ous(pattern: str, ous: Tree) -> dict[str, OuId]:
    """Return the OUs that the part of a pattern up to its last name stands for, by path."""
    head, _ = _split(pattern)
    if not head.startswith("/"):
        return {path: ou for path, ou in ous.items() if ou == head}
    if head == "/":
        return {path: ou for path, ou in ous.items() if path == "/"}
    # Two `**` in a row mean one, and would take time that doubles with each further one.
    names = [each for each, above in pairwise(reversed(["", *head[1:].split("/")])) if (each, above) != ("**", "**")]
    expression = re.compile("".join(_WILD.get(each, f"/{re.escape(each)}") for each in reversed(names)))
    return {path: ou for path, ou in sorted(ous.items()) if expression.fullmatch(path)}


def nearest(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean …?` with the most similar name, or nothing."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _split(pattern: str) -> tuple[str, list[str]]:
    """Return a pattern up to its last name, and the wildcards after it."""
    first, *segments = pattern.split("/")
    wild: list[str] = []
    while segments and segments[-1] in _WILD:
        wild.insert(0, segments.pop())
    head = "/".join([first, *segments]) or "/"
    return head, wild


def _policy(entry: PolicyEntry, policies: Iterable[OrganizationPolicy]) -> OrganizationPolicy | str:
    """Return a policy of the organization, or why there is none."""
    of_type = [each for each in policies if each.type == entry.type]
    for policy in of_type:
        if entry.label in {policy.id, policy.name} and entry.label == (policy.id if entry.id else policy.name):
            return policy
    other = next((each.type for each in policies if entry.label in {each.id, each.name}), None)
    if other:
        return f"{entry.label} is a {other}, not a {entry.type}; add its type: {{name: …, type: {other}}}"
    hint = nearest(entry.label, [each.name for each in of_type]) or "; correct it, or create the policy"
    return f"the organization has no {entry.type} {entry.label}{hint}"


def _unreadable(entry: PolicyEntry) -> str:
    return f"the content of {entry.label} cannot be read; allow organizations:DescribePolicy"


def _not_found(document: Document, organization: Organization) -> Iterator[Problem]:
    for path, pattern, allow_empty in ou_patterns(document):
        head, _ = _split(pattern)
        by_id = not head.startswith("/")
        unnamed = sorted(each for each, at in organization.unnamed.items() if named_ous(pattern, {at: each}))
        if unnamed and not by_id:
            few = ", ".join(unnamed[:3])
            yield Problem(path, f"{pattern} also means OUs with / or * in their names; write ids instead ({few})")
        if unnamed or named_ous(pattern, organization.ous) or (allow_empty and not by_id):
            continue
        hint = (
            "; correct the id"
            if by_id
            else nearest(head, organization.ous) or "; correct it, create the OU, or add allow_empty: true to the rule"
        )
        yield Problem(path, f"the organization has no OU {head}{hint}")


def _selectors(selectors: tuple[Selector, ...], lock: Lock) -> tuple[CompiledSelector, ...]:
    # Their order says nothing.
    return tuple(sorted((_selector(each, lock) for each in selectors), key=repr))


def _selector(selector: Selector, lock: Lock) -> CompiledSelector:
    return CompiledSelector(
        account=tuple(sorted(selector.account)),
        ou=tuple(sorted(_ranges(selector.ou, lock), key=repr)) if selector.ou else None,
        tags={key: tuple(sorted(values)) for key, values in selector.tags.items()},
        name=tuple(sorted(selector.name)),
        email_domain=tuple(sorted(selector.email_domain)),
        joined=tuple(sorted(selector.joined)),
    )


def _ranges(patterns: Iterable[str], lock: Lock) -> set[OuRange]:
    ranges = set()
    for pattern in patterns:
        head, wild = _split(pattern)
        if head.startswith("/") and pattern not in lock.ous:
            raise StaleLockError(f"the lock file does not have the OU {pattern}; make it again (joinguard lock)")
        levels = wild.count("*")
        for ou in lock.ous[pattern].values() if head.startswith("/") else [head]:
            ranges.add(OuRange(id=ou, min_levels=levels, max_levels=None if "**" in wild else levels))
    return ranges
