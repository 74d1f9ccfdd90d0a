"""Read the names that a document can use: the light reading of an organization, for the lock file."""

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256

from handlers.core.errors import PermanentError
from handlers.core.guardrails.compile import Organization, OrganizationPolicy
from handlers.core.guardrails.ports import OrganizationReader, ReadOu, ReadPolicy
from schemas.compiled_guardrails import PolicyType
from schemas.guardrails import Document
from schemas.ids import OuId, Sha256

_NOT_IN_PATHS = frozenset("/*")


def read_names(reader: OrganizationReader, document: Document) -> Organization:
    """Read the OUs, and the policies of the types that a document names, with the content of those that it names.

    Raises JoinguardError if the names cannot be read. A content that cannot be read is None, which `resolve` reports.
    """
    policies = [each for kind in policy_types(document) for each in reader.policies(kind)]
    wanted = {each.label for each in document.policies}
    root = reader.root()
    named, unnamed = paths(root.id, reader.ous(root.id))
    return Organization(tuple(_with_content(reader, policies, wanted)), named, unnamed)


def policy_types(document: Document) -> list[PolicyType]:
    """Return the policy types that a document names."""
    return sorted({each.type for each in document.policies})


def paths(root: OuId, ous: Iterable[ReadOu]) -> tuple[dict[str, OuId], dict[OuId, str]]:
    """Return the OUs by their path of names, and the paths of those that no path names.

    Each OU must come after the one that it is in.
    """
    path_of = {root: ""}
    unclear: set[OuId] = set()
    for each in ous:
        path_of[each.id] = f"{path_of[each.parent]}/{each.name}"
        if each.parent in unclear or not _NOT_IN_PATHS.isdisjoint(each.name):
            unclear.add(each.id)
    path_of[root] = "/"
    # An OU `A/B` has the path of the OU `B` in `A`: then that path names neither.
    shared = Counter(path_of.values())
    named = {path: ou for ou, path in path_of.items() if ou not in unclear and shared[path] == 1}
    return named, {ou: path for ou, path in path_of.items() if ou in unclear or shared[path] > 1}


def _with_content(
    reader: OrganizationReader, policies: Iterable[ReadPolicy], wanted: set[str]
) -> Iterator[OrganizationPolicy]:
    for each in policies:
        content = _read_content(reader, each) if {each.id, each.name} & wanted else None
        digest = None if content is None else content_sha256(content)
        yield OrganizationPolicy(each.id, each.name, each.type, digest, content)


def _read_content(reader: OrganizationReader, policy: ReadPolicy) -> str | None:
    """Return a policy's content; None if it may not be read."""
    try:
        return reader.content(policy.id)
    except PermanentError:
        return None


def content_sha256(content: str) -> Sha256:
    """Return the SHA-256 by which lock files name a policy's content: of its UTF-8 text, byte for byte."""
    return sha256(content.encode()).hexdigest()
