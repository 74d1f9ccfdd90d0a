"""Compare a lock file with what its document stands for now, and say in words what changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from handlers.core.guardrails.compile import Organization, Problem, ou_patterns, resolve
from handlers.core.guardrails.examples import check_examples
from schemas.guardrails import Document, Lock, LockedPolicy
from schemas.ids import OuId


@dataclass(frozen=True)
class LockCheck:
    """How a lock file compares with the organization."""

    #: What the lock file must be; None if the document cannot be compiled.
    lock: Lock | None
    #: Why it cannot be compiled, or which examples fail.
    problems: tuple[Problem, ...]
    #: What changed since the lock file was made. The lock file is stale if there is anything.
    changes: tuple[Problem, ...]


def check_lock(document: Document, before: Lock | None, organization: Organization) -> LockCheck:
    """Resolve a document in an organization, check its examples, and compare the result with its lock file."""
    after, problems = resolve(document, organization)
    if not after:
        return LockCheck(None, tuple(_explained(document, problems, before, organization)), ())
    failing = tuple(check_examples(document, after, organization))
    if before is None:
        return LockCheck(after, failing, (Problem((), "has no lock file yet"),))
    changes = tuple(_changes(document, before, after, organization))
    if not changes and before != after:
        changes = (Problem((), "changed since the lock file was made"),)
    return LockCheck(after, failing, changes)


def _explained(
    document: Document, problems: list[Problem], before: Lock | None, organization: Organization
) -> Iterator[Problem]:
    """Add to what was not found what became of it, as far as the lock file tells."""
    ids = {each.policy: each.id for each in before.policies} if before else {}
    locked_ous = before.ous if before else {}
    names = {each.id: each.name for each in organization.policies}
    patterns = {path: pattern for path, pattern, _ in ou_patterns(document)}
    for each in problems:
        known = ""
        if each.path[0] == "policies":
            id_ = ids.get(document.policies[int(each.path[1])].label)
            if id_ in names:
                known = f"; {id_}, which the lock file names, is {names[id_]} now"
            elif id_:
                known = f"; {id_}, which the lock file names, was deleted"
        elif pattern := patterns.get(each.path):
            known = "".join(f"; {_whereabouts(*ou, organization)}" for ou in locked_ous.get(pattern, {}).items())
        yield Problem(each.path, each.message + known)


def _whereabouts(path: str, ou: OuId, organization: Organization) -> str:
    """Return what became of an OU that is no longer at a path."""
    now = next((at for at, id_ in organization.ous.items() if id_ == ou), organization.unnamed.get(ou))
    return f"{ou}, which was {path}, is {now} now" if now else f"{ou}, which was {path}, was deleted"


def _changes(document: Document, before: Lock, after: Lock, organization: Organization) -> Iterator[Problem]:
    old = {each.policy: each for each in before.policies}
    for position, policy in enumerate(after.policies):
        if message := _policy_change(old.pop(policy.policy, None), policy, organization):
            yield Problem(("policies", position), message)
    for name in old:
        yield Problem(("policies",), f"{name} is no longer in the list")
    seen = set()
    for path, pattern, _ in ou_patterns(document):
        if pattern not in seen:
            seen.add(pattern)
            changes = _ou_changes(before.ous.get(pattern), after.ous[pattern], organization)
            yield from (Problem(path, f"{pattern}: {message}") for message in changes)


def _policy_change(old: LockedPolicy | None, new: LockedPolicy, organization: Organization) -> str:
    if old is None:
        return f"{new.policy} is new: {new.id}"
    if old.id != new.id:
        name = next((each.name for each in organization.policies if each.id == old.id), None)
        fate = f"is {name} now" if name else "was deleted"
        return f"{new.policy} is another policy now: {new.id}; {old.id}, which the lock file names, {fate}"
    if old.type != new.type:
        return f"{new.policy} is a {new.type} now, not a {old.type}"
    if old.sha256 != new.sha256:
        return (
            f"the content of {new.policy} ({new.id}) changed in the organization since the lock file was made; "
            f"review it: aws organizations describe-policy --policy-id {new.id}"
        )
    return ""


def _ou_changes(old: Mapping[str, OuId] | None, new: Mapping[str, OuId], organization: Organization) -> Iterator[str]:
    """Yield how the OUs differ that a pattern stands for; a pattern that is new in the document is a single change."""
    if old is None:
        found = ", ".join(f"{path} ({ou})" for path, ou in new.items()) or "no OU yet"
        yield f"is new: {found}"
        return
    for path, ou in old.items():
        if path not in new:
            yield _whereabouts(path, ou, organization)
        elif new[path] != ou:
            yield f"{path} is another OU now: {new[path]}; {_whereabouts(path, ou, organization)}"
    for path in new.keys() - old.keys():
        was = next((at for at, ou in old.items() if ou == new[path]), None)
        if was is None:
            yield f"{path} ({new[path]}) is selected now too"
