"""The evaluator: which policies an account must carry."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from handlers.core.guardrails.evaluate import Decision, Guardrails, Ruling
from handlers.core.guardrails.facts import Fact, Facts, Unknown
from handlers.core.guardrails.places import AttachedPolicy, places
from schemas.compiled_guardrails import (
    SCP,
    CompiledException,
    CompiledGuardrails,
    CompiledPolicy,
    CompiledRule,
    CompiledSelector,
    OuRange,
    PolicyType,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
POLICIES = tuple(f"p-policy000{number}" for number in range(4))
ACCOUNTS = tuple(f"{number:012d}" for number in range(3))
OUS = ("r-root", "ou-root-aaaaaaaa", "ou-root-bbbbbbbb", "ou-root-cccccccc")
NAMES = ("prod-web", "prod-db", "test-web", "x")
EMAILS = ("a@example.com", "b@Sub.Example.COM", "c@evil-example.com")


# ---------------------------------------------------------------- a second, naive evaluator


def naive(document: CompiledGuardrails, facts: Facts, at: datetime) -> dict[str, str]:
    """Return yes, no, or perhaps for each policy, by the shortest code and nothing shared with the product's."""
    answers = {}
    for policy in document.policies:
        demands = [rule_holds(rule, facts) for rule in document.rules if policy.id in rule.attach]
        day = at.astimezone(UTC).date()
        waived = any(
            facts.account_id in each.accounts
            and policy.id in each.policies
            and (each.starts is None or each.starts <= day)
            and day <= each.expires
            for each in document.exceptions
        )
        answers[policy.id] = "no" if waived else either(demands)
    return answers


def either(values: list[str]) -> str:
    return "yes" if "yes" in values else "perhaps" if "perhaps" in values else "no"


def both(values: list[str]) -> str:
    return "no" if "no" in values else "perhaps" if "perhaps" in values else "yes"


NOT = {"yes": "no", "no": "yes", "perhaps": "perhaps"}


def rule_holds(rule: CompiledRule, facts: Facts) -> str:
    match = "yes" if rule.match == "all" else either([selector_holds(each, facts) for each in rule.match])
    exclude = either([selector_holds(each, facts) for each in rule.exclude])
    return both([match, NOT[exclude]])


def selector_holds(selector: CompiledSelector, facts: Facts) -> str:
    if selector.ou == ():
        return "no"
    values: list[str] = []
    if selector.account:
        values.append("yes" if facts.account_id in selector.account else "no")
    if selector.ou:
        values.append(known(facts.ous, lambda path: any(in_range(each, path) for each in selector.ou or ())))
    for key, patterns in selector.tags.items():
        values.append(known(facts.tags, lambda tags, k=key, p=patterns: k in tags and fits(p, tags[k])))
    if selector.name:
        values.append(known(facts.name, lambda name: fits(selector.name, name)))
    if selector.email_domain:
        values.append(known(facts.email, lambda mail: fits(selector.email_domain, mail.split("@")[-1].lower())))
    if selector.joined:
        values.append(known(facts.joined, lambda joined: joined in selector.joined))
    return both(values)


def known(value: Any, test: Any) -> str:
    return "perhaps" if isinstance(value, Unknown) else "yes" if test(value) else "no"


def in_range(range_: OuRange, path: tuple[str, ...]) -> bool:
    if range_.id not in path:
        return False
    below = len(path[path.index(range_.id) + 1 :])
    return below in range(range_.min_levels, 100 if range_.max_levels is None else range_.max_levels + 1)


def fits(patterns: tuple[str, ...], text: str) -> bool:
    return any(re.fullmatch(re.escape(each).replace(r"\*", ".*"), text, re.DOTALL) for each in patterns)


# ---------------------------------------------------------------- documents and facts


def some(values: Any, least: int = 0, most: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=most, unique=True).map(tuple)


ranges = st.builds(OuRange, id=st.sampled_from(OUS), min_levels=st.integers(0, 2), max_levels=st.none()) | st.builds(
    OuRange, id=st.sampled_from(OUS), min_levels=st.just(0), max_levels=st.integers(0, 2)
)
selectors = st.builds(
    CompiledSelector,
    account=some(ACCOUNTS),
    ou=st.none() | st.lists(ranges, max_size=2).map(tuple),
    tags=st.dictionaries(st.sampled_from(["env", "team"]), some(["prod", "test", "p*", "*"], 1), max_size=2),
    name=some(["prod-web", "prod-*", "*-web", "*o*b"]),
    email_domain=some(["example.com", "*.example.com"]),
    joined=some(["INVITED", "CREATED"]),
)
many = st.lists(selectors, max_size=2).map(tuple)
rules = st.lists(
    st.builds(
        CompiledRule,
        id=st.just("rule"),
        attach=some(POLICIES, 1, 3),
        match=st.just("all") | st.lists(selectors, min_size=1, max_size=2).map(tuple),
        exclude=many,
        when_no_longer=st.sampled_from(["keep", "remove"]),
    ),
    max_size=4,
).map(lambda drawn: tuple(each.model_copy(update={"id": f"rule-{n}"}) for n, each in enumerate(drawn)))
days = st.dates(date(2026, 11, 23), date(2026, 11, 27))
exceptions = st.lists(
    st.builds(
        CompiledException,
        id=st.sampled_from(["EXC-1", "EXC-2"]),
        accounts=some(ACCOUNTS, 1),
        policies=some(POLICIES, 1),
        starts=st.none() | days,
        expires=days,
    ),
    max_size=2,
).map(tuple)
documents = st.builds(
    CompiledGuardrails,
    policies=st.just(tuple(CompiledPolicy(id=each, type=SCP) for each in POLICIES)),
    rules=rules,
    exceptions=exceptions,
)
unknown = st.sampled_from(Unknown)
known_facts = st.builds(
    Facts,
    account_id=st.sampled_from(ACCOUNTS),
    name=st.sampled_from(NAMES),
    email=st.sampled_from(EMAILS),
    joined=st.sampled_from(["INVITED", "CREATED"]),
    ous=st.integers(1, 4).map(lambda depth: OUS[:depth]),
    tags=st.dictionaries(st.sampled_from(["env", "team"]), st.sampled_from(["prod", "test", ""]), max_size=2),
)
fields = st.sets(st.sampled_from(Fact))
moments = st.datetimes(datetime(2026, 11, 23), datetime(2026, 11, 27), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy adds it


def without(facts: Facts, names: set[Fact] | frozenset[Fact], value: Unknown = Unknown.UNREADABLE) -> Facts:
    hidden: dict[str, Any] = dict.fromkeys(map(str, names), value)
    return dataclasses.replace(facts, **hidden)


def ask(document: CompiledGuardrails, facts: Facts, at: datetime = NOON) -> Decision:
    return Guardrails(document).evaluate(facts, at)


WORDS = {Ruling.REQUIRED: "yes", Ruling.NOT_REQUIRED: "no", Ruling.UNDECIDED: "perhaps"}


def verdicts(decision: Decision) -> dict[str, str]:
    return {each.policy_id: WORDS[each.ruling] for each in decision.policies}


# ---------------------------------------------------------------- what always holds


@given(documents, known_facts, fields, unknown, moments)
def test_the_evaluator_says_what_a_naive_one_says(
    document: CompiledGuardrails, facts: Facts, hidden: set[Fact], value: Unknown, at: datetime
) -> None:
    partly = without(facts, hidden, value)

    assert verdicts(ask(document, partly, at)) == naive(document, partly, at)


@given(documents, st.lists(known_facts, min_size=2, max_size=4), fields)
def test_what_was_asked_before_does_not_matter(
    document: CompiledGuardrails, asked: list[Facts], hidden: set[Fact]
) -> None:
    guardrails = Guardrails(document)
    asked = [each for facts in asked for each in (facts, without(facts, hidden))]

    assert [guardrails.evaluate(each, NOON) for each in asked] == [ask(document, each) for each in asked]


@given(documents, known_facts, fields, st.randoms())
def test_the_order_of_rules_does_not_matter(
    document: CompiledGuardrails, facts: Facts, hidden: set[Fact], random: Any
) -> None:
    shuffled = list(document.rules)
    random.shuffle(shuffled)
    other = document.model_copy(update={"rules": tuple(shuffled)})
    partly = without(facts, hidden)

    first, second = ask(document, partly), ask(other, partly)
    assert verdicts(first) == verdicts(second)
    assert [each.removable for each in first.policies] == [each.removable for each in second.policies]
    assert [each.needs for each in first.policies] == [each.needs for each in second.policies]


@given(documents, known_facts, fields, fields)
def test_more_facts_never_contradict_what_fewer_decided(
    document: CompiledGuardrails, facts: Facts, hidden: set[Fact], read: set[Fact]
) -> None:
    fewer, more = (ask(document, without(facts, each)) for each in (hidden, hidden - read))

    for before, after in zip(fewer.policies, more.policies, strict=True):
        assert before.ruling is Ruling.UNDECIDED or before.ruling is after.ruling
        assert not before.removable or after.removable
        assert set(before.demanded_by) <= set(after.demanded_by)
    assert more.needs <= fewer.needs


@given(documents, known_facts, fields)
def test_an_unknown_fact_never_attaches_or_removes_what_only_it_could_decide(
    document: CompiledGuardrails, facts: Facts, hidden: set[Fact]
) -> None:
    """If two accounts that differ only in the hidden facts get different answers, the evaluator gives none."""
    decision = ask(document, without(facts, hidden))
    variants = [
        {Fact.NAME: name, Fact.EMAIL: email, Fact.JOINED: joined, Fact.OUS: OUS[:depth], Fact.TAGS: tags}
        for name, email, joined, depth, tags in (
            ("x", "a@other.org", "INVITED", 1, {}),
            ("prod-web", "a@example.com", "CREATED", 4, {"env": "prod", "team": "test"}),
        )
    ]
    for each in variants:
        read: dict[str, Any] = {str(fact): each[fact] for fact in hidden}
        full = ask(document, dataclasses.replace(facts, **read))
        assert set(decision.required) <= set(full.required)
        assert set(decision.removable(POLICIES)) <= set(full.removable(POLICIES))


@given(documents, known_facts, fields)
def test_the_needed_facts_decide_everything_and_no_others_are_needed(
    document: CompiledGuardrails, facts: Facts, hidden: set[Fact]
) -> None:
    decision = ask(document, without(facts, hidden))

    assert decision.needs <= hidden & Guardrails(document).facts_needed
    assert bool(decision.needs) == bool(decision.undecided)
    assert not ask(document, without(facts, hidden - decision.needs)).undecided
    assert ask(document, without(facts, set(Fact) - Guardrails(document).facts_needed)) == ask(document, facts)


@given(documents, known_facts, fields, selectors)
def test_exclude_always_wins(
    document: CompiledGuardrails, facts: Facts, hidden: set[Fact], selector: CompiledSelector
) -> None:
    excluded = tuple(
        each.model_copy(update={"exclude": (*each.exclude, CompiledSelector(account=(facts.account_id,)))})
        for each in document.rules
    )
    perhaps = tuple(each.model_copy(update={"exclude": (*each.exclude, selector)}) for each in document.rules)

    assert set(verdicts(ask(document.model_copy(update={"rules": excluded}), without(facts, hidden))).values()) == {
        "no"
    }
    narrower = ask(document.model_copy(update={"rules": perhaps}), without(facts, hidden))
    assert set(narrower.required) <= set(ask(document, without(facts, hidden)).required)


@given(documents, known_facts, fields, moments)
def test_an_exception_never_adds(document: CompiledGuardrails, facts: Facts, hidden: set[Fact], at: datetime) -> None:
    partly = without(facts, hidden)
    with_them, without_them = (
        ask(each, partly, at) for each in (document, document.model_copy(update={"exceptions": ()}))
    )

    assert set(with_them.required) <= set(without_them.required)
    assert set(with_them.undecided) <= set(without_them.undecided)
    taken = set(without_them.required) - set(with_them.required)
    assert taken <= {each.policy_id for each in with_them.policies if each.waived_by}


@given(documents, known_facts, fields)
def test_a_policy_is_removable_only_if_it_is_not_required_and_all_of_its_rules_or_an_exception_say_so(
    document: CompiledGuardrails, facts: Facts, hidden: set[Fact]
) -> None:
    decision = ask(document, without(facts, hidden))

    for each in decision.removable(POLICIES):
        assert each not in decision.required + decision.undecided
        excepted = any(
            each in exception.policies
            and facts.account_id in exception.accounts
            and (exception.starts or NOON.date()) <= NOON.date() <= exception.expires
            for exception in document.exceptions
        )
        assert excepted or {rule.when_no_longer for rule in document.rules if each in rule.attach} == {"remove"}
    assert decision.removable(()) == ()


@given(documents, known_facts, fields)
def test_what_is_removable_without_some_facts_is_removable_with_them(
    document: CompiledGuardrails, facts: Facts, hidden: set[Fact]
) -> None:
    known, unknown = ask(document, facts), ask(document, without(facts, hidden))

    assert set(unknown.removable(POLICIES)) <= set(known.removable(POLICIES))


@given(documents, known_facts, moments)
def test_guardrails_that_were_stored_and_read_decide_the_same(
    document: CompiledGuardrails, facts: Facts, at: datetime
) -> None:
    again = CompiledGuardrails.model_validate_json(document.canonical())

    assert again.sha256() == document.sha256()
    assert ask(again, facts, at) == ask(document, facts, at)
    assert ask(again, facts, at).sha256 == document.sha256()


# ---------------------------------------------------------------- examples


def one_rule(**changes: Any) -> CompiledGuardrails:
    rule = {"id": "one", "attach": POLICIES[:1], "match": "all"} | changes.pop("rule", {})
    policy = CompiledPolicy(id=POLICIES[0], type=SCP)
    return CompiledGuardrails(policies=(policy,), rules=(CompiledRule(**rule),), **changes)


def test_the_short_form_needs_no_fact_and_is_a_document_of_one_rule() -> None:
    guardrails = Guardrails.for_everyone(POLICIES)
    decision = guardrails.evaluate(Facts(ACCOUNTS[0]), NOON)

    assert guardrails.facts_needed == frozenset()
    assert decision.required == guardrails.policy_ids == POLICIES
    assert decision.missing({POLICIES[1]}) == (POLICIES[0], *POLICIES[2:])
    assert decision.policies[0].demanded_by == ("everyone",)
    document = CompiledGuardrails(
        policies=tuple(CompiledPolicy(id=each, type=SCP) for each in POLICIES),
        rules=(CompiledRule(id="everyone", attach=POLICIES, match="all"),),
    )
    assert decision.sha256 == document.sha256() == guardrails.document.sha256()


@pytest.mark.parametrize(
    ("at", "in_force"),
    [
        ("2026-11-23T23:59:59.999999+00:00", False),
        ("2026-11-24T00:00:00+00:00", True),
        ("2026-11-25T23:59:59.999999+00:00", True),
        ("2026-11-26T00:00:00+00:00", False),
    ],
)
@pytest.mark.parametrize("hours", [-11, 0, 14])
def test_an_exception_is_in_force_from_the_beginning_of_its_first_day_to_the_end_of_its_last_day_in_utc(
    at: str, hours: int, *, in_force: bool
) -> None:
    exception = CompiledException(
        id="EXC-1", accounts=ACCOUNTS[:1], policies=POLICIES[:1], starts=date(2026, 11, 24), expires=date(2026, 11, 25)
    )
    document = one_rule(exceptions=(exception,))
    moment = datetime.fromisoformat(at).astimezone(timezone(timedelta(hours=hours)))

    decision = ask(document, Facts(ACCOUNTS[0]), moment)
    assert (decision.required == ()) is in_force
    assert decision.policies[0].waived_by == (("EXC-1",) if in_force else ())
    assert ask(document, Facts(ACCOUNTS[1]), moment).required == POLICIES[:1]


def test_a_decision_names_what_decided_otherwise() -> None:
    prod = CompiledSelector(tags={"env": ("prod",)})
    document = CompiledGuardrails(
        policies=tuple(CompiledPolicy(id=each, type=SCP) for each in POLICIES[:2]),
        rules=(
            CompiledRule(id="a", attach=POLICIES[:2], match=(prod,), exclude=(CompiledSelector(joined=("INVITED",)),)),
            CompiledRule(id="b", attach=POLICIES[1:2], match=(CompiledSelector(name=("x",)),)),
        ),
    )

    first, second = ask(document, Facts(ACCOUNTS[0], tags={"env": "prod"}, joined="INVITED")).policies
    assert (first.ruling, first.excluded_by) == (Ruling.NOT_REQUIRED, ("a",))
    assert (second.undecided_by, second.needs, second.excluded_by) == (("b",), frozenset({Fact.NAME}), ("a",))


def test_an_exclusion_that_is_not_known_needs_its_fact() -> None:
    prod = CompiledSelector(tags={"env": ("prod",)})
    document = one_rule(rule={"match": (prod,), "exclude": (CompiledSelector(name=("x",)),)})

    assert ask(document, Facts(ACCOUNTS[0])).needs == {Fact.TAGS, Fact.NAME}
    assert ask(document, Facts(ACCOUNTS[0], tags={"env": "prod"})).needs == {Fact.NAME}
    assert ask(document, Facts(ACCOUNTS[0], name="x")).needs == set()


@pytest.mark.parametrize(
    ("email", "selected"),
    [("a@Example.COM", True), ("a@evil-example.com", False), ("a@b.example.com", False), ("example.com@x.org", False)],
)
def test_a_domain_is_compared_whole_and_in_any_case(email: str, *, selected: bool) -> None:
    document = one_rule(rule={"match": (CompiledSelector(email_domain=("example.com",)),)})

    assert bool(ask(document, Facts(ACCOUNTS[0], email=email)).required) is selected


@pytest.mark.parametrize(
    ("pattern", "text", "fits_it"),
    [
        ("prod", "prod", True),
        ("prod", "Prod", False),
        ("*", "", True),
        ("ab*ba", "aba", False),
        ("ab*ba", "abba", True),
        ("a*b*c", "a-b-c", True),
        ("a*c*b*", "abc", False),
        ("*.x", "a.x\n", False),
        ("[a]?", "a", False),
        ("*a*", "x\na\n", True),
    ],
)
def test_a_star_stands_for_any_characters_and_nothing_else_is_special(
    pattern: str, text: str, *, fits_it: bool
) -> None:
    document = one_rule(rule={"match": (CompiledSelector(name=(pattern,)),)})

    assert bool(ask(document, Facts(ACCOUNTS[0], name=text)).required) is fits_it


def test_the_policy_types_are_those_that_aws_attaches() -> None:
    shape: Any = get_session().get_service_model("organizations").shape_for("PolicyType")

    assert set(PolicyType.__args__) == set(shape.enum)  # type: ignore[attr-defined]  # a Literal


# ---------------------------------------------------------------- places

RCP: PolicyType = "RESOURCE_CONTROL_POLICY"
known_policies = tuple(
    CompiledPolicy(id=f"p-policy000{number}", type=SCP if number % 3 else RCP) for number in range(8)
)
carried = st.lists(
    st.sampled_from([AttachedPolicy(each.id, each.type) for each in known_policies])
    | st.builds(AttachedPolicy, id=st.sampled_from(["p-foreign01", "p-FullAWSAccess"]), type=st.just(SCP)),
    max_size=5,
    unique_by=lambda each: each.id,
)


@given(st.sets(st.sampled_from([each.id for each in known_policies])), carried, st.integers(1, 6), st.integers(1, 4))
def test_what_has_no_place_is_the_least_important_and_nothing_is_evicted(
    required: set[str], attached: list[AttachedPolicy], scps: int, rcps: int
) -> None:
    limits: Mapping[PolicyType, int] = {SCP: scps, RCP: rcps}
    result = places(known_policies, required, attached, limits)
    order = [each.id for each in known_policies]
    types = {each.id: each.type for each in known_policies}
    without_place = [each.policy_id for each in result.no_place]

    assert sorted((*result.attached, *result.to_attach, *without_place)) == sorted(required)
    assert set(result.attached) == required & {each.id for each in attached}
    for policy_type, limit in limits.items():
        used = sum(each.type == policy_type for each in attached)
        attach = [each for each in result.to_attach if types[each] == policy_type]
        lose = [each for each in without_place if types[each] == policy_type]
        assert used + len(attach) <= max(limit, used)
        assert not lose or used + len(attach) >= limit
        assert [*attach, *lose] == sorted([*attach, *lose], key=order.index)
    for each in result.no_place:
        for holder in each.held_by:
            assert holder in {one.id for one in attached}
            assert holder not in required or order.index(holder) > order.index(each.policy_id)


def test_a_type_without_a_limit_has_places_for_all_and_foreign_policies_are_counted() -> None:
    required = [each.id for each in known_policies]
    attached = [AttachedPolicy("p-FullAWSAccess", SCP), AttachedPolicy(known_policies[-1].id, SCP)]

    assert places(known_policies, required, attached, {}).no_place == ()
    [lost] = places(known_policies[1:], [known_policies[1].id], attached, {SCP: 2}).no_place
    assert (lost.policy_id, lost.held_by, lost.foreign) == (known_policies[1].id, (known_policies[-1].id,), 1)
