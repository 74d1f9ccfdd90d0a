"""The evaluator: which policies an account must carry. Worker, sweep, plan and operator's tool all call it.

It decides with three values (Kleene's logic): a condition on a fact that is not known is neither true nor false.

    selector    true if all of its conditions are; false if one is
    rule        true if a selector of `match` is true and none of `exclude` is; false if one of `exclude` is true, or
                all of `match` are false
    policy      required if a rule that attaches it is true and no exception takes it away; not required if all these
                rules are false, or an exception takes it away; else undecided

Rules add up, so their order means nothing. An exception only takes away, and only from the beginning of its first day
to the end of its last one, in UTC. What is undecided is neither attached nor removed. A policy that is not required may
be removed if all rules that attach it say so, or if an exception in force names it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum, auto
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

from handlers.core.guardrails.conditions import Conditions, Mask
from handlers.core.guardrails.facts import Fact, Facts
from handlers.core.guardrails.scope import Scope
from schemas.compiled_guardrails import (
    CompiledException,
    CompiledGuardrails,
    CompiledRule,
    CompiledSelector,
    PolicyType,
    RuleId,
    for_everyone,
)
from schemas.ids import AccountId, OrganizationId, PolicyId, Sha256

_REMEMBERED: Final = 4096


class Ruling(Enum):
    """Whether an account must carry a policy."""

    REQUIRED = auto()
    NOT_REQUIRED = auto()
    UNDECIDED = auto()


@dataclass(frozen=True)
class PolicyDecision:
    """Whether an account must carry one policy, and why."""

    policy_id: PolicyId
    ruling: Ruling
    #: The rules that demand it.
    demanded_by: tuple[RuleId, ...] = ()
    #: The rules that would demand it, or might, if they did not exclude the account.
    excluded_by: tuple[RuleId, ...] = ()
    #: The exceptions in force that take it away although rules demand it, or might.
    waived_by: tuple[RuleId, ...] = ()
    #: The exceptions in force that name it, whether or not rules demand it.
    excepted_by: tuple[RuleId, ...] = ()
    #: The rules that more facts can decide.
    undecided_by: tuple[RuleId, ...] = ()
    #: The facts that decide it.
    needs: frozenset[Fact] = frozenset()
    #: Whether it may be removed if it is attached: it is not required now, and all of its rules say remove, or an
    #: exception in force names it. Who attached it, limits and approvals are for others to decide.
    removable: bool = False


@dataclass(frozen=True)
class Decision:
    """What the guardrails say about an account. Accounts for which the same conditions hold share one."""

    #: Each policy of the guardrails, the most important first.
    policies: tuple[PolicyDecision, ...]
    guardrails: "Guardrails" = field(repr=False, compare=False)

    @property
    def sha256(self) -> Sha256:
        """The SHA-256 of the guardrails that decided."""
        return self.guardrails.sha256

    @cached_property
    def required(self) -> tuple[PolicyId, ...]:
        """The policies that the account must carry, the most important first."""
        return self._with(Ruling.REQUIRED)

    @cached_property
    def undecided(self) -> tuple[PolicyId, ...]:
        """The policies that cannot be decided without more facts."""
        return self._with(Ruling.UNDECIDED)

    @cached_property
    def needs(self) -> frozenset[Fact]:
        """The facts without which something is undecided."""
        return frozenset().union(*(each.needs for each in self.policies))

    def missing(self, attached: Collection[PolicyId]) -> tuple[PolicyId, ...]:
        """Return the required policies that are not attached, the most important first."""
        return tuple(each for each in self.required if each not in attached)

    def removable(self, attached: Collection[PolicyId]) -> tuple[PolicyId, ...]:
        """Return the attached policies that may be removed as far as the guardrails are concerned."""
        return tuple(each.policy_id for each in self.policies if each.removable and each.policy_id in attached)

    def _with(self, ruling: Ruling) -> tuple[PolicyId, ...]:
        return tuple(each.policy_id for each in self.policies if each.ruling is ruling)


class _Rule(NamedTuple):
    """A rule with its selectors as conditions."""

    rule: CompiledRule
    match: tuple[Mask, ...]
    exclude: tuple[Mask, ...]


class _Answer(NamedTuple):
    """What a rule says about an account; `holds` is None if that is undecided."""

    rule: CompiledRule
    holds: bool | None
    excluded: bool
    #: The conditions that decide it.
    open: Mask


class Guardrails:
    """Which policies accounts must carry: compiled guardrails, ready to be asked."""

    def __init__(self, document: CompiledGuardrails, *, sha256: Sha256 | None = None) -> None:
        """Prepare the selectors and exceptions of a document; `sha256` is that of the bytes that it was read from."""
        self.document = document
        self._sha256 = sha256
        #: All policies, the most important first.
        self.policy_ids: tuple[PolicyId, ...] = tuple(each.id for each in document.policies)
        #: The types of the policies, each of which has to be read for an account.
        self.policy_types: tuple[PolicyType, ...] = tuple(dict.fromkeys(each.type for each in document.policies))
        self._conditions = Conditions()
        self._rules = tuple(_Rule(rule, self._masks(rule.match), self._masks(rule.exclude)) for rule in document.rules)
        #: The positions of the rules that attach each policy.
        self._attaching = {
            policy_id: tuple(number for number, rule in enumerate(document.rules) if policy_id in rule.attach)
            for policy_id in self.policy_ids
        }
        #: The policies whose rules all say remove, so that they are removed without any exception.
        self.may_be_removed = {
            policy_id
            for policy_id, numbers in self._attaching.items()
            if numbers and all(document.rules[number].when_no_longer == "remove" for number in numbers)
        }
        self._exceptions: dict[AccountId, list[CompiledException]] = {}
        for exception in document.exceptions:
            for account in exception.accounts:
                self._exceptions.setdefault(account, []).append(exception)
        self._decide = lru_cache(_REMEMBERED)(self._decided)

    @classmethod
    def for_everyone(cls, policy_ids: Iterable[PolicyId]) -> "Guardrails":
        """Return the short form: one rule that attaches SCPs to every account, in this order."""
        return cls(for_everyone(tuple(policy_ids)))

    @cached_property
    def sha256(self) -> Sha256:
        """The SHA-256 of the compiled guardrails."""
        # A later version may write fields that the bytes do not have.
        return self._sha256 or self.document.sha256()

    @property
    def facts_needed(self) -> frozenset[Fact]:
        """The facts on which at least one rule depends: nothing else has to be read."""
        return self._conditions.facts

    def evaluate(self, facts: Facts, at: datetime) -> Decision:
        """Decide which policies an account must carry at a moment, which has a time zone."""
        holding, unknown = self._conditions.holding(facts)
        return self._decide(holding, unknown, self._exceptions_in_force(facts.account_id, at))

    def _masks(self, selectors: str | tuple[CompiledSelector, ...]) -> tuple[Mask, ...]:
        """Return the conditions of selectors; `all` is a selector without conditions."""
        if isinstance(selectors, str):
            return (0,)
        masks = (self._conditions.add(each) for each in selectors)
        return tuple(each for each in masks if each is not None)

    def _exceptions_in_force(self, account_id: AccountId, at: datetime) -> tuple[CompiledException, ...]:
        exceptions = self._exceptions.get(account_id)
        if not exceptions:
            return ()
        day = at.astimezone(UTC).date()
        return tuple(each for each in exceptions if (each.starts or date.min) <= day <= each.expires)

    def _decided(self, holding: Mask, unknown: Mask, exceptions: tuple[CompiledException, ...]) -> Decision:
        answers = [_answer(rule, holding, unknown) for rule in self._rules]
        return Decision(tuple(self._of_policy(each, answers, exceptions) for each in self.policy_ids), self)

    def _of_policy(
        self, policy_id: PolicyId, answers: list[_Answer], exceptions: tuple[CompiledException, ...]
    ) -> PolicyDecision:
        mine = [answers[number] for number in self._attaching[policy_id]]
        demanded = tuple(each.rule.id for each in mine if each.holds)
        undecided = tuple(each.rule.id for each in mine if each.holds is None)
        named = tuple(each.id for each in exceptions if policy_id in each.policies)
        waived = named if demanded or undecided else ()
        ruling = Ruling.NOT_REQUIRED
        if demanded and not waived:
            ruling = Ruling.REQUIRED
        elif undecided and not waived:
            ruling = Ruling.UNDECIDED
        is_open = ruling is Ruling.UNDECIDED
        return PolicyDecision(
            policy_id,
            ruling,
            demanded_by=demanded,
            excluded_by=tuple(each.rule.id for each in mine if each.excluded),
            waived_by=waived,
            excepted_by=named,
            undecided_by=undecided if is_open else (),
            needs=self._conditions.facts_of(_union(each.open for each in mine)) if is_open else frozenset(),
            removable=ruling is Ruling.NOT_REQUIRED and (bool(named) or policy_id in self.may_be_removed),
        )


def _answer(rule: _Rule, holding: Mask, unknown: Mask) -> _Answer:
    """Return what a rule says if these conditions hold and the facts of those are not known."""
    match, open_match = _any(rule.match, holding, unknown)
    exclude, open_exclude = _any(rule.exclude, holding, unknown)
    if exclude or match is False:
        return _Answer(rule.rule, holds=False, excluded=bool(exclude) and match is not False, open=0)
    holds = None if match is None or exclude is None else True
    return _Answer(rule.rule, holds, excluded=False, open=open_match | open_exclude)


def _any(selectors: tuple[Mask, ...], holding: Mask, unknown: Mask) -> tuple[bool | None, Mask]:
    """Return whether one of the selectors is true, None if that is undecided, and the conditions that decide it."""
    undecided = 0
    for conditions in selectors:
        not_holding = conditions & ~holding
        if not not_holding:
            return True, 0
        if not not_holding & ~unknown:
            undecided |= not_holding
    return (None, undecided) if undecided else (False, 0)


def _union(masks: Iterable[Mask]) -> Mask:
    union = 0
    for mask in masks:
        union |= mask
    return union


@dataclass(frozen=True)
class Requirements:
    """What must be true of the accounts of an organization."""

    guardrails: Guardrails
    organization_id: OrganizationId
    #: The account that SCPs do not affect.
    management_account_id: AccountId
    scope: Scope = field(default_factory=Scope)
    #: Whether policies that an account no longer needs are removed.
    removes: bool = False
