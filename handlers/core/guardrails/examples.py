"""The examples of a document: tests of its rules, checked by the evaluator."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from hashlib import sha256
from typing import Final

from handlers.core.guardrails.compile import Organization, Problem, compiled, locked, ou_patterns
from handlers.core.guardrails.evaluate import Decision, Guardrails, Ruling
from handlers.core.guardrails.facts import Fact, Facts, Unknown
from schemas.compiled_guardrails import SCP, PolicyType
from schemas.guardrails import Document, Example, ExampleAccount, Lock, LockedPolicy
from schemas.ids import OuId

#: The policies of AWS's own that an account carries (FullAWSAccess, RCPFullAWSAccess).
AWS_MANAGED: Final[dict[PolicyType, int]] = {SCP: 1, "RESOURCE_CONTROL_POLICY": 1}
_SOME_ACCOUNT: Final = "000000000000"
_ROOT: Final = "r-root"


def check_examples(document: Document, lock: Lock, organization: Organization) -> Iterator[Problem]:
    """Yield each example that the rules contradict in an organization, and each that names more than fits."""
    rules = compiled(document, lock)
    with_exceptions = Guardrails(rules)
    without = Guardrails(rules.model_copy(update={"exceptions": ()}))
    names = {each.id: each.policy for each in lock.policies}
    for number, example in enumerate(document.examples):
        facts = _facts(example.account, organization)
        if facts.ous is Unknown.UNREADABLE:
            yield Problem(
                ("examples", number, "account", "ou"), f"the organization has no OU {example.account.ou}; correct it"
            )
            continue
        day = datetime.combine(example.day or date.min, time(), UTC)
        decision = (with_exceptions if example.day else without).evaluate(facts, day)
        for message in _differences(example, decision, names):
            yield Problem(("examples", number), message)
    yield from _too_many(document)


def check_examples_alone(document: Document) -> Iterator[Problem]:
    """Yield the same without an organization, in one that has the OUs of the examples and no others.

    A document that gives an OU by its id needs the organization, so only the number of policies is checked.
    """
    of_examples = [each.account.ou for each in document.examples if each.account.ou]
    patterns = [pattern for _, pattern, _ in ou_patterns(document)]
    if not all(each.startswith("/") for each in (*of_examples, *patterns)):
        yield from _too_many(document)
        return
    organization = Organization((), {above: _ou_id(above) for path in of_examples for above in _above(path)})
    policies = [
        LockedPolicy(policy=each.label, id=each.id or f"p-{_digest(each.label)}", type=each.type, sha256="0" * 64)
        for each in document.policies
    ]
    yield from check_examples(document, locked(document, policies, organization.ous), organization)


def _differences(example: Example, decision: Decision, names: dict[str, str]) -> Iterator[str]:
    for each in decision.policies:
        name = names[each.policy_id]
        if each.ruling is Ruling.UNDECIDED:
            keys = ", ".join(sorted("ou" if need is Fact.OUS else str(need) for need in each.needs))
            yield f"whether it carries {name} depends on {keys}; add {keys} to account"
        elif each.ruling is Ruling.REQUIRED and name not in example.carries:
            yield f"carries {name} too (rule {', '.join(each.demanded_by)}); correct the rules or carries"
        elif each.ruling is Ruling.NOT_REQUIRED and name in example.carries:
            against = each.waived_by or each.excluded_by
            why = f"{', '.join(against)} takes it away" if against else "no rule selects the account"
            yield f"does not carry {name} ({why}); correct the rules or carries"


def _too_many(document: Document) -> Iterator[Problem]:
    types = {each.label: each.type for each in document.policies}
    for number, example in enumerate(document.examples):
        for policy_type, limit in document.limits.per_account().items():
            carried = sum(types[name] == policy_type for name in example.carries)
            own = AWS_MANAGED.get(policy_type, 0)
            if carried + own > limit:
                message = (
                    f"carries {carried} policies of type {policy_type}, but an account has room for {limit - own}"
                    f"{' beside that of AWS' if own else ''}; merge policies"
                )
                yield Problem(("examples", number, "carries"), message)


def _facts(account: ExampleAccount, organization: Organization) -> Facts:
    return Facts(
        account.id or _SOME_ACCOUNT,
        name=account.name or Unknown.NOT_READ,
        email=account.email or Unknown.NOT_READ,
        joined=account.joined or Unknown.NOT_READ,
        ous=_path(account.ou, organization) if account.ou else Unknown.NOT_READ,
        tags=account.tags,
    )


def _path(ou: str, organization: Organization) -> tuple[OuId, ...] | Unknown:
    """Return the ids from the root to an OU; unreadable if the organization does not have it."""
    paths = {id_: path for path, id_ in organization.ous.items()}
    path = ou if ou.startswith("/") else paths.get(ou, "")
    above = _above(path)
    # The path of an OU above it may name two OUs, although its own names one.
    if not path or not organization.ous.keys() >= set(above):
        return Unknown.UNREADABLE
    return tuple(organization.ous[each] for each in above)


def _above(path: str) -> list[str]:
    """Return the paths from the root to an OU."""
    names = path.rstrip("/").split("/")
    return ["/".join(names[:end]) or "/" for end in range(1, len(names) + 1)]


def _ou_id(path: str) -> OuId:
    return _ROOT if path == "/" else f"ou-root-{_digest(path)}"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]
