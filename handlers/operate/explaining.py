"""What `explain` does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich.text import Text

from handlers.core.errors import JoinguardError
from handlers.core.guardrails.evaluate import Guardrails, Ruling
from handlers.core.guardrails.facts import Fact, Facts, Unknown
from handlers.core.guardrails.names import paths
from handlers.core.guardrails.reading import DESCRIBED
from handlers.core.guardrails.snapshot import ACTIVE
from handlers.operate.errors import OperateError
from handlers.operate.output import plain, print_json, stderr, stdout
from handlers.operate.planning import read_guardrails
from handlers.operate.tables import Cell, lines, print_fields, print_table

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Collection, Mapping, Sequence

    from handlers.core.guardrails.evaluate import Decision, PolicyDecision, Requirements
    from handlers.operate.context import Connection, OrganizationContext
    from schemas.ids import AccountId, OuId, PolicyId

_TAGS: Final = "tags."
_KEYS: Final = {"ous": "ou"}
_JOINED: Final = ("INVITED", "CREATED")


def explain(
    connection: Connection,
    account_id: AccountId,
    changes: Sequence[str],
    document: pathlib.Path | None,
    *,
    as_json: bool,
) -> int:
    """Evaluate one account as it is now, or as if it were different, and print why; return the exit status."""
    requirements: Requirements | None = None
    if document:
        guardrails = Guardrails(read_guardrails(document, connection.now()))
    else:
        requirements = connection().requirements
        guardrails = requirements.guardrails
    organization = connection.organization()
    asked = _Asked(organization, guardrails)
    account = organization.accounts.account(account_id)
    if account is None:
        raise OperateError(f"{account_id} is not an account of this organization. Correct it, or add --profile")
    if account_id == organization.reader.identity().management_account_id:
        raise OperateError(
            f"{account_id} is the management account, to which no policy is attached. Choose another one"
        )
    facts = asked.changed(asked.facts(account_id), changes)
    decision = guardrails.evaluate(facts, connection.now())
    attached = asked.attached(account_id)
    names, remover = asked.names(), _remover(requirements, account_id)
    if as_json:
        state = {"account": account_id, "state": account.state, "removes": remover.removes}
        print_json(_fields(decision, facts, attached, names) | state)
    else:
        if account.state != ACTIVE:
            stderr.print(f"the account is {account.state}; policies are attached to active accounts", style="yellow")
        _print(decision, facts, attached, names, remover)
    lacks = attached is not None and decision.missing(attached)
    return 1 if attached is None or lacks or decision.undecided else 0


class _Remover(NamedTuple):
    """Whether policies are removed from an account that needs them no longer; None if that is not known."""

    words: str
    removes: bool | None


def _remover(requirements: Requirements | None, account_id: AccountId) -> _Remover:
    if requirements is None:
        return _Remover('is removed if Joinguard attached it and the stage has RemovePolicies "true"', removes=None)
    if not requirements.removes:
        return _Remover('may be removed, but RemovePolicies is not "true" in the stage, so it stays', removes=False)
    if not requirements.scope.attaches_to(account_id):
        return _Remover("may be removed, but the account is only observed (AttachTo), so it stays", removes=False)
    return _Remover("is removed at the next event of the account if Joinguard attached it", removes=True)


class _Asked:
    """What is read of one account."""

    def __init__(self, organization: OrganizationContext, guardrails: Guardrails) -> None:
        self._reader = organization.reader
        self._accounts = organization.accounts
        self._guardrails = guardrails

    def facts(self, account_id: AccountId) -> Facts:
        """Return the facts of an account; tags only if a rule depends on them."""
        facts = self._read(self._accounts.described, Facts(account_id), "cannot describe it", DESCRIBED)
        if Fact.TAGS not in self._guardrails.facts_needed:
            return facts
        return self._read(self._accounts.tagged, facts, "cannot read its tags", (Fact.TAGS,))

    @staticmethod
    def _read(read: Callable[[Facts], Facts], facts: Facts, failed: str, expected: Collection[Fact]) -> Facts:
        try:
            return read(facts)
        except JoinguardError as error:
            stderr.print(f"{failed} ({error.fault.code}): {error.fault.message}", style="yellow")
            unreadable: Any = dict.fromkeys(expected, Unknown.UNREADABLE)
            return replace(facts, **unreadable)

    def attached(self, account_id: AccountId) -> frozenset[PolicyId] | None:
        """Return the policies that the account carries itself; None if they cannot be read."""
        try:
            found = self._accounts.attached_policies(account_id, self._guardrails.policy_types)
        except JoinguardError as error:
            stderr.print(f"cannot read its policies ({error.fault.code}): {error.fault.message}", style="yellow")
            return None
        return frozenset(each.id for each in found)

    def names(self) -> Mapping[PolicyId, str]:
        """Return the names of the policies; without them, people see ids."""
        try:
            return {
                each.id: each.name for kind in self._guardrails.policy_types for each in self._reader.policies(kind)
            }
        except JoinguardError:
            return {}

    def changed(self, facts: Facts, changes: Sequence[str]) -> Facts:
        """Return facts with changes such as `ou=/A/B`; raise OperateError for one that is not valid."""
        for change in changes:
            key, has_value, value = change.partition("=")
            if key.startswith(_TAGS) and key != _TAGS:
                if facts.tags is Unknown.UNREADABLE:
                    raise OperateError(
                        f"--as-if {change} says nothing about the other tags, which cannot be read; use credentials "
                        "that may call organizations:ListTagsForResource"
                    )
                tags = {} if isinstance(facts.tags, Unknown) else dict(facts.tags)
                tags.pop(key.removeprefix(_TAGS), None)
                facts = replace(facts, tags=tags | ({key.removeprefix(_TAGS): value} if has_value else {}))
            elif key == "ou" and value:
                facts = replace(facts, ous=self._path(value))
            elif key == "joined" and value in _JOINED:
                facts = replace(facts, joined="INVITED" if value == "INVITED" else "CREATED")
            elif key == "name" and value:
                facts = replace(facts, name=value)
            elif key == "email" and value:
                facts = replace(facts, email=value)
            else:
                raise OperateError(
                    f"--as-if {change} is not valid. Use ou=/A/B, tags.KEY=VALUE, name=NAME, email=ADDRESS, or "
                    f"joined={' or joined='.join(_JOINED)}"
                )
        return facts

    def _path(self, ou: str) -> tuple[OuId, ...]:
        """Return the ids from the root to an OU, which is a path of names or an id."""
        root = self._reader.root().id
        ous = list(self._reader.ous(root))
        named, _ = paths(root, ous)
        parents = {each.id: each.parent for each in ous}
        found = named.get(ou, ou)
        if found != root and found not in parents:
            raise OperateError(f"the organization has no OU {ou}. Use a path such as /Workloads/Prod, or an id")
        path = [found]
        while path[0] != root:
            path.insert(0, parents[path[0]])
        return tuple(path)


def _fields(
    decision: Decision, facts: Facts, attached: frozenset[PolicyId] | None, names: Mapping[PolicyId, str]
) -> dict[str, Any]:
    return {
        "guardrails": decision.sha256,
        "facts": _facts(facts),
        "carries": None if attached is None else sorted(attached),
        "policies": [
            {
                "policy": names.get(each.policy_id, each.policy_id),
                "id": each.policy_id,
                "ruling": each.ruling.name,
                "attached": None if attached is None else each.policy_id in attached,
                "demanded_by": list(each.demanded_by),
                "excluded_by": list(each.excluded_by),
                "waived_by": list(each.waived_by),
                "undecided_by": list(each.undecided_by),
                "needs": sorted(each.needs),
                "removable": each.removable,
            }
            for each in decision.policies
        ],
    }


def _facts(facts: Facts) -> dict[str, Any]:
    values = {str(each): getattr(facts, each) for each in Fact}
    return {key: None if isinstance(value, Unknown) else _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    return dict(value) if hasattr(value, "items") else list(value) if isinstance(value, tuple) else value


def _print(
    decision: Decision,
    facts: Facts,
    attached: frozenset[PolicyId] | None,
    names: Mapping[PolicyId, str],
    remover: _Remover,
) -> None:
    print_fields(f"Account {facts.account_id}", {_KEYS.get(key, key): value for key, value in _facts(facts).items()})
    rows: list[list[Cell]] = [
        [names.get(each.policy_id, each.policy_id), _state(each, attached), lines(*_reasons(each, attached, remover))]
        for each in decision.policies
    ]
    print_table(f"Policies, by guardrails {decision.sha256[:12]}", ["Policy", "State", "Why"], rows)
    foreign = sorted((attached or frozenset()).difference(each.policy_id for each in decision.policies))
    if foreign:
        stdout.print(plain(f"Carries too: {', '.join(names.get(each, each) for each in foreign)}"), soft_wrap=True)


def _state(policy: PolicyDecision, attached: frozenset[PolicyId] | None) -> Text:
    if attached is None:
        return plain(policy.ruling.name.lower().replace("_", " "), "yellow")
    carries = policy.policy_id in attached
    if policy.ruling is Ruling.REQUIRED:
        return plain("carries it", "green") if carries else plain("lacks it", "red")
    if policy.ruling is Ruling.UNDECIDED:
        return plain(f"undecided, {'carries it' if carries else 'lacks it'}", "yellow")
    return plain("carries it, not required", "yellow") if carries else plain("not required")


def _reasons(policy: PolicyDecision, attached: frozenset[PolicyId] | None, remover: _Remover) -> list[str]:
    reasons = [
        (policy.demanded_by, "demanded by rule"),
        (policy.waived_by, "taken away by exception"),
        (policy.excluded_by, "excluded by rule"),
        (policy.undecided_by, "undecided in rule"),
    ]
    said = [f"{what} {', '.join(ids)}" for ids, what in reasons if ids]
    if policy.needs:
        said.append(f"cannot be read: {', '.join(sorted(_KEYS.get(each, each) for each in policy.needs))}")
    if policy.removable and (attached is None or policy.policy_id in attached):
        said.append(remover.words)
    return said or ["no rule selects the account"]
