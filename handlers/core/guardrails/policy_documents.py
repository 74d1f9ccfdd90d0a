"""Check the documents of policies: before one is created, and whether one does what its author meant.

AWS refuses a policy that is too long or not well formed, but accepts one that denies an action that does not exist. IAM
Access Analyzer finds those.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from handlers.core.errors import JoinguardError
from handlers.core.guardrails.ports import PolicyValidator
from schemas.compiled_guardrails import SCP, PolicyType

#: The characters that AWS allows a policy, white space included
#: (https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html; SCPs since May 2026).
MAX_CHARACTERS: Final[dict[PolicyType, int]] = {SCP: 10_240, "RESOURCE_CONTROL_POLICY": 5_120}
#: The policy types that Access Analyzer knows.
VALIDATED: Final[frozenset[PolicyType]] = frozenset(MAX_CHARACTERS)
_TOP: Final = frozenset({"Version", "Id", "Statement"})
#: The elements of a statement, of which a statement has one of each group
#: (https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_policies_scps_syntax.html).
_GROUPS: Final = (("Action", "NotAction"), ("Resource", "NotResource"))
_OTHERS: Final = frozenset({"Sid", "Effect", "Condition", "Principal"})


class Review(NamedTuple):
    """What Access Analyzer says about the policies of a document."""

    #: By the policy's name.
    findings: tuple[tuple[str, str], ...] = ()
    #: Why policies could not be checked; an empty string if all were.
    unchecked: str = ""


def mistakes(kind: PolicyType, content: str) -> Iterator[str]:
    """Yield why AWS would refuse a policy: its size, its JSON, and the grammar of its statements."""
    limit = MAX_CHARACTERS.get(kind, len(content))
    if len(content) > limit:
        yield f"has {len(content):,} characters, and AWS allows {limit:,}; shorten it"
    try:
        document = json.loads(content)
    except ValueError as error:
        yield f"is not JSON ({error}); correct it"
        return
    if not isinstance(document, dict):
        yield "must be a JSON object"
    elif kind in VALIDATED:
        yield from _grammar(kind, document)


def _grammar(kind: PolicyType, document: dict[str, Any]) -> Iterator[str]:
    if document.get("Version") != "2012-10-17":
        yield 'must have "Version": "2012-10-17"'
    if unknown := sorted(document.keys() - _TOP):
        yield f"has unknown elements: {', '.join(unknown)}"
    statements = document.get("Statement")
    listed = statements if isinstance(statements, list) else [statements]
    if not listed or not all(isinstance(each, dict) for each in listed):
        yield "must have a Statement: an object, or a list of objects"
        return
    for number, statement in enumerate(listed, 1):
        for mistake in _of_statement(kind, statement):
            yield f"statement {number}: {mistake}"


def _of_statement(kind: PolicyType, statement: dict[str, Any]) -> Iterator[str]:
    if statement.get("Effect") not in {"Allow", "Deny"}:
        yield "Effect must be Allow or Deny"
    for group in _GROUPS:
        if len(statement.keys() & set(group)) != 1:
            yield f"must have either {' or '.join(group)}"
    if kind != SCP and statement.get("Principal") != "*":
        yield 'must have "Principal": "*"'
    if kind == SCP and "Principal" in statement:
        yield "must have no Principal"
    known = _OTHERS.union(*_GROUPS)
    if unknown := sorted(statement.keys() - known):
        yield f"has unknown elements: {', '.join(unknown)}"


def review(policies: Iterable[tuple[str, PolicyType, str]], validator: PolicyValidator) -> Review:
    """Ask Access Analyzer about policies, each with its name, type and content, until it cannot be asked."""
    findings: list[tuple[str, str]] = []
    for name, kind, content in policies:
        if kind not in VALIDATED:
            continue
        try:
            found = validator.findings(kind, content)
        except JoinguardError as error:
            return Review(tuple(findings), error.fault.code)
        findings += [(name, f"{each.severity} {each.code}: {each.message}") for each in found]
    return Review(tuple(findings))
