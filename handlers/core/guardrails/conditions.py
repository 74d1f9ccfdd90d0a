"""Selectors as sets of conditions, and which conditions hold for an account.

Each distinct condition of a document has a bit, so a set of conditions is a number, and a selector is tested with two
operations. Which conditions hold for an OU path, a tag, a domain or a join method is remembered, since few of them are
different.
"""

from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from typing import Final, TypeAlias

from handlers.core.guardrails.facts import Fact, Facts, Unknown
from schemas.compiled_guardrails import CompiledSelector, OuRange
from schemas.ids import AccountId, OuId

#: A set of conditions, one bit each.
Mask: TypeAlias = int
_Test: TypeAlias = Callable[..., bool]

_REMEMBERED: Final = 4096


class _OfFact:
    """The conditions on one fact."""

    def __init__(self) -> None:
        self.mask: Mask = 0
        self._tests: list[tuple[Mask, _Test]] = []
        self.holding = lru_cache(_REMEMBERED)(self._holding)

    def add(self, bit: Mask, test: _Test) -> None:
        self.mask |= bit
        self._tests.append((bit, test))

    def _holding(self, value: Hashable) -> Mask:
        return sum(bit for bit, test in self._tests if test(value))


class Conditions:
    """The conditions of a document."""

    def __init__(self) -> None:
        """Start without conditions."""
        self._bits: dict[Hashable, Mask] = {}
        self._by_account: dict[AccountId, Mask] = {}
        self._by_fact: dict[Fact, _OfFact] = {}

    @property
    def facts(self) -> frozenset[Fact]:
        """The facts on which there are conditions."""
        return frozenset(self._by_fact)

    def add(self, selector: CompiledSelector) -> Mask | None:
        """Return the conditions of a selector; None if it can never select an account."""
        if selector.ou == ():
            return None
        mask = 0
        if selector.account:
            mask |= self._add_accounts(selector.account)
        for fact, condition, test in _tests(selector):
            known = (fact, condition) in self._bits
            bit = self._bit((fact, condition))
            mask |= bit
            if not known:
                self._by_fact.setdefault(fact, _OfFact()).add(bit, test)
        return mask

    def holding(self, facts: Facts) -> tuple[Mask, Mask]:
        """Return the conditions that hold for an account, and those whose fact is not known."""
        holding, unknown = self._by_account.get(facts.account_id, 0), 0
        for fact, conditions in self._by_fact.items():
            value = getattr(facts, fact)
            if isinstance(value, Unknown):
                unknown |= conditions.mask
            elif fact is Fact.TAGS:
                for tag in value.items():
                    holding |= conditions.holding(tag)
            else:
                holding |= conditions.holding(value)
        return holding, unknown

    def facts_of(self, mask: Mask) -> frozenset[Fact]:
        """Return the facts on which conditions depend."""
        return frozenset(fact for fact, conditions in self._by_fact.items() if conditions.mask & mask)

    def _bit(self, condition: Hashable) -> Mask:
        return self._bits.setdefault(condition, 1 << len(self._bits))

    def _add_accounts(self, accounts: tuple[AccountId, ...]) -> Mask:
        bit = self._bit(accounts)
        for account in accounts:
            self._by_account[account] = self._by_account.get(account, 0) | bit
        return bit


def _tests(selector: CompiledSelector) -> Iterator[tuple[Fact, Hashable, _Test]]:
    """Yield each condition of a selector with its fact and its test; a tag is tested as a pair of key and value."""
    if selector.ou:
        ranges = selector.ou
        yield Fact.OUS, ranges, lambda path: _within(path, ranges)
    for key, values in selector.tags.items():
        yield Fact.TAGS, (key, values), _tag_test(key, _any_of(values))
    if selector.name:
        yield Fact.NAME, selector.name, _any_of(selector.name)
    if selector.email_domain:
        matches = _any_of(selector.email_domain)
        yield Fact.EMAIL, selector.email_domain, lambda email: matches(email.rpartition("@")[2].lower())
    if selector.joined:
        yield Fact.JOINED, selector.joined, selector.joined.__contains__


def _tag_test(key: str, matches: Callable[[str], bool]) -> _Test:
    return lambda tag: tag[0] == key and matches(tag[1])


def _within(path: tuple[OuId, ...], ranges: tuple[OuRange, ...]) -> bool:
    """Return whether one of the ranges holds for an account whose OUs, from the root, are these."""
    levels = {ou: len(path) - 1 - position for position, ou in enumerate(path)}
    return any(
        each.id in levels
        and each.min_levels <= levels[each.id]
        and (each.max_levels is None or levels[each.id] <= each.max_levels)
        for each in ranges
    )


def _any_of(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    exact = frozenset(each for each in patterns if "*" not in each)
    wild = [each.split("*") for each in patterns if "*" in each]
    return lambda text: text in exact or any(_matches(text, parts) for parts in wild)


def _matches(text: str, parts: list[str]) -> bool:
    """Return whether a text consists of these parts in order, with anything between them; in linear time."""
    first, *middle, last = parts
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True
