"""The worker with a guardrails document: which facts it reads, and what it does if they cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

import pytest

from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.guardrails.evaluate import Guardrails
from handlers.core.guardrails.facts import Facts, Unknown
from schemas.compiled_guardrails import (
    CompiledException,
    CompiledGuardrails,
    CompiledPolicy,
    CompiledRule,
    CompiledSelector,
    OuRange,
)
from schemas.outcome import AttachmentResult, OutcomeStatus
from tests.fakes import ACCOUNT, World, joined, of_age
from tests.messages import at, moved, tagged, twice, untagged

BASE, REGIONS, DATA = "p-baseline1", "p-regions11", "p-perimeter"
ROOT, PROD = "r-root", "ou-root-prod1111"
IN_PROD = CompiledSelector(ou=(OuRange(id=PROD, max_levels=None),))
TAGGED = CompiledSelector(tags={"environment": ("prod",)})
FACTS = Facts(
    ACCOUNT, name="web", email="a@example.com", joined="INVITED", ous=(ROOT, PROD), tags={"environment": "prod"}
)


def rule(name: str, policy: str, *match: CompiledSelector) -> CompiledRule:
    return CompiledRule(id=name, attach=(policy,), match=match or "all")


def world(*rules: CompiledRule, facts: Facts = FACTS, **changes: Any) -> World:
    policies = (
        CompiledPolicy(id=BASE, type="SERVICE_CONTROL_POLICY"),
        CompiledPolicy(id=REGIONS, type="SERVICE_CONTROL_POLICY"),
        CompiledPolicy(id=DATA, type="RESOURCE_CONTROL_POLICY"),
    )
    document = CompiledGuardrails(policies=policies, rules=(rule("everyone", BASE), *rules), **changes)
    made = World()
    requirements = replace(made.enforcer.requirements, guardrails=Guardrails(document))
    made.enforcer = replace(made.enforcer, requirements=requirements)
    made.organizations.types[DATA] = "RESOURCE_CONTROL_POLICY"
    made.organizations.facts[ACCOUNT] = facts
    return made


@pytest.mark.parametrize(
    ("selectors", "described", "tagged", "expected"),
    [
        ((), 0, 0, {BASE, REGIONS}),
        ((CompiledSelector(account=(ACCOUNT,)),), 0, 0, {BASE, REGIONS}),
        ((IN_PROD,), 1, 0, {BASE, REGIONS}),
        ((CompiledSelector(joined=("CREATED",)),), 1, 0, {BASE}),
        ((TAGGED,), 0, 1, {BASE, REGIONS}),
        ((CompiledSelector(ou=IN_PROD.ou, tags=TAGGED.tags),), 1, 1, {BASE, REGIONS}),
        # The OU decides, so the tags need not be read.
        ((IN_PROD, TAGGED), 1, 0, {BASE, REGIONS}),
    ],
    ids=["everyone", "account", "OU", "join method", "tag", "OU and tag", "OU or tag"],
)
def test_only_the_facts_that_decide_are_read(
    selectors: tuple[CompiledSelector, ...], described: int, tagged: int, expected: set[str]
) -> None:
    made = world(rule("regions", REGIONS, *selectors))

    handled = made.handle(joined())

    assert handled.status is OutcomeStatus.ENFORCED
    assert made.attached() == expected
    assert (made.steps.count("describe"), made.steps.count("tags")) == (described, tagged)


@pytest.mark.parametrize(
    ("selector", "before", "change", "call"),
    [
        (IN_PROD, replace(FACTS, ous=(ROOT,)), partial(moved, destinationParentId=PROD), "describe"),
        (TAGGED, replace(FACTS, tags={}), tagged, "tags"),
    ],
    ids=["moved", "tagged"],
)
def test_an_account_gets_what_it_lacks_after_a_move_or_a_change_of_its_tags(
    selector: CompiledSelector, before: Facts, change: Callable[[], dict[str, Any]], call: str
) -> None:
    made = world(rule("regions", REGIONS, selector), facts=before)
    made.handle(joined())
    assert made.attached() == {BASE}
    made.organizations.facts[ACCOUNT] = FACTS
    made.steps.log.clear()

    handled = made.handle(of_age(0, change(), event_id="event-2"))

    assert handled.status is OutcomeStatus.ENFORCED
    assert made.attached() == {BASE, REGIONS}
    assert (made.steps.count("read"), made.steps.count("attach"), made.steps.count(call)) == (2, 1, 1)


IN_TEST = replace(FACTS, ous=(ROOT, "ou-root-test1111"), tags={"environment": "test"})
CHANGES = {
    "moved into the OU": (IN_PROD, moved(destinationParentId=PROD), IN_TEST, FACTS),
    "tagged": (TAGGED, tagged(), IN_TEST, FACTS),
    "tagged for the first time": (TAGGED, tagged(), replace(FACTS, tags={}), FACTS),
    "a tag removed": (
        CompiledSelector(tags={"legacy": ("yes",)}),
        untagged(tagKeys=["environment"]),
        replace(FACTS, tags={"environment": "prod", "legacy": "yes"}),
        replace(FACTS, tags={"legacy": "yes"}),
    ),
}


@pytest.mark.parametrize(("selector", "event", "before", "after"), CHANGES.values(), ids=CHANGES)
def test_a_change_that_aws_does_not_return_yet_is_read_again(
    selector: CompiledSelector, event: dict[str, Any], before: Facts, after: Facts
) -> None:
    made = world(rule("regions", REGIONS, selector), facts=before)
    event = of_age(0, event)

    first = made.handle(event)

    assert (first.status, first.fault and first.fault.code) == (OutcomeStatus.RETRYING, "FACTS_STALE")
    assert made.attached() == {BASE}
    assert made.dead_letters.dead_letters == []
    made.organizations.facts[ACCOUNT] = after

    assert made.handle(event, receives=2).status is OutcomeStatus.ENFORCED
    assert made.attached() == {BASE, REGIONS}


@pytest.mark.parametrize(
    ("selector", "event"),
    [(IN_PROD, moved(destinationParentId=PROD)), (TAGGED, tagged())],
    ids=["moved", "tagged"],
)
def test_an_account_that_was_changed_again_is_judged_as_it_is_after_three_receives(
    selector: CompiledSelector, event: dict[str, Any]
) -> None:
    made = world(rule("regions", REGIONS, selector), facts=IN_TEST)

    statuses = [made.handle(of_age(0, event), receives=receives).status for receives in range(1, 5)]

    assert statuses == [*[OutcomeStatus.RETRYING] * 3, OutcomeStatus.ENFORCED]
    assert made.attached() == {BASE}
    assert made.dead_letters.dead_letters == []


@pytest.mark.parametrize(
    "event",
    [
        moved(destinationParentId=None),
        moved(destinationParentId="HIDDEN_DUE_TO_SECURITY_REASONS"),
        moved(destinationParentId=7),
        tagged(tags="HIDDEN_DUE_TO_SECURITY_REASONS"),
        tagged(tags=[{"key": "environment", "value": "HIDDEN_DUE_TO_SECURITY_REASONS"}]),
        tagged(tags=[{"key": 1, "value": "prod"}, "environment", None]),
        untagged(tagKeys={"environment": None}),
        untagged(tagKeys=["HIDDEN_DUE_TO_SECURITY_REASONS", 1]),
    ],
)
def test_a_change_that_the_event_does_not_show_is_judged_at_once(event: dict[str, Any]) -> None:
    made = world(rule("regions", REGIONS, IN_PROD, TAGGED), facts=IN_TEST)

    assert made.handle(of_age(0, event)).status is OutcomeStatus.ENFORCED


@pytest.mark.parametrize(
    ("event", "name"),
    [(moved(destinationParentId=PROD), "destinationParentId"), (tagged(), "tags"), (untagged(), "tagKeys")],
)
def test_a_change_that_the_event_reports_twice_is_judged_at_once(event: dict[str, Any], name: str) -> None:
    made = world(rule("regions", REGIONS, IN_PROD, TAGGED), facts=IN_TEST)
    event = of_age(0, event)
    path = ("detail", "requestParameters", name)

    assert made.handle(twice(event, path, at(event, path))).status is OutcomeStatus.ENFORCED


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RetryableError(fault("Cut", "no connection")), OutcomeStatus.RETRYING),
        (PermanentError(fault("InvalidInputException", "no")), OutcomeStatus.FAILED),
    ],
)
def test_without_a_fact_the_other_rules_hold_and_the_reason_is_kept(error: Exception, status: OutcomeStatus) -> None:
    made = world(rule("regions", REGIONS, TAGGED))
    made.steps.fail("tags", error)

    handled = made.handle(joined())

    assert handled.status is status
    assert made.attached() == {BASE}
    assert {each.policy_id: each.result for each in handled.policies} == {
        BASE: AttachmentResult.ATTACHED,
        REGIONS: AttachmentResult.FAILED,
    }
    assert handled.fault is not None
    assert handled.fault.code in str(error)
    assert bool(made.dead_letters.dead_letters) == (status is OutcomeStatus.FAILED)

    # The next attempt can read the tags.
    assert made.handle(joined(), receives=2).status is OutcomeStatus.ENFORCED
    assert made.attached() == {BASE, REGIONS}


def test_a_fact_that_does_not_matter_may_be_unreadable() -> None:
    made = world(rule("regions", REGIONS, TAGGED))
    made.organizations.attached[ACCOUNT].append(REGIONS)
    made.steps.fail("tags", PermanentError(fault("AccessDeniedException", "no")))

    assert made.handle(joined()).status is OutcomeStatus.ENFORCED


def test_a_fact_that_aws_does_not_return_is_unknown() -> None:
    made = world(rule("regions", REGIONS, IN_PROD), facts=Facts(ACCOUNT, ous=Unknown.UNREADABLE))

    handled = made.handle(joined())

    assert handled.status is OutcomeStatus.FAILED
    assert [(reason.code, "ous" in reason.message) for _, reason in made.dead_letters.dead_letters] == [
        ("FACTS_UNKNOWN", True)
    ]


def test_the_least_important_policy_has_no_place() -> None:
    made = world(rule("regions", REGIONS), policies_per_account={"SERVICE_CONTROL_POLICY": 2})

    handled = made.handle(joined())

    assert handled.status is OutcomeStatus.FAILED
    assert made.attached() == {BASE}
    [(_, reason)] = made.dead_letters.dead_letters
    assert (reason.code, made.steps.count("attach")) == ("NO_PLACE", 1)
    assert REGIONS in reason.message


def test_policies_of_another_type_are_read_and_have_their_own_places() -> None:
    limits = {"SERVICE_CONTROL_POLICY": 2, "RESOURCE_CONTROL_POLICY": 1}
    made = world(rule("perimeter", DATA), policies_per_account=limits)

    assert made.handle(joined()).status is OutcomeStatus.ENFORCED
    assert made.attached() == {BASE, DATA}
    made.steps.log.clear()
    again = made.handle(joined(event_id="event-2"))

    assert again.status is OutcomeStatus.ENFORCED
    assert made.steps.count("attach") == 0


def test_a_throttle_of_one_type_does_not_repeat_the_reads_of_the_others() -> None:
    """All types share five reads a second: repeating them all might never succeed."""
    made = world(rule("data", DATA))
    made.steps.fail("read", None, RetryableError(fault("TooManyRequestsException", "slow down"), soon=True))

    handled = made.handle(joined())

    assert handled.status is OutcomeStatus.ENFORCED
    assert (made.steps.count("read"), handled.retried_calls) == (3, 1)


@pytest.mark.parametrize(("expires", "attached"), [(date(2026, 11, 24), {BASE}), (date(2026, 11, 23), {BASE, REGIONS})])
def test_an_exception_holds_until_the_end_of_its_last_day(expires: date, attached: set[str]) -> None:
    exception = CompiledException(id="EXC-1", accounts=(ACCOUNT,), policies=(REGIONS,), expires=expires)
    made = world(rule("regions", REGIONS), exceptions=(exception,))

    assert made.handle(joined()).status is OutcomeStatus.ENFORCED
    assert made.attached() == attached


def test_outcome_and_evidence_name_the_guardrails_that_decided() -> None:
    made = world(rule("regions", REGIONS, IN_PROD))

    made.handle(joined())

    expected = made.enforcer.requirements.guardrails.sha256
    assert made.ledger.outcome("event-1").guardrails == expected
    [evidence] = made.evidence()
    assert evidence.guardrails == expected
    assert evidence.required == (BASE, REGIONS)


def test_a_handshake_that_is_no_join_is_decided_by_no_guardrails() -> None:
    made = world()

    made.handle(joined(action="ENABLE_ALL_FEATURES"))

    assert made.ledger.outcome("event-1").guardrails is None
