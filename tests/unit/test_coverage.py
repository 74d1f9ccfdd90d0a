"""The coverage: every account once, what is required by the evaluator, and why something is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.guardrails.evaluate import Decision, Guardrails
from handlers.core.guardrails.facts import Fact
from handlers.core.guardrails.plan import make_plan
from handlers.core.guardrails.scope import Scope
from handlers.core.guardrails.snapshot import ACTIVE, facts_of
from handlers.core.ports import UnreadableRow
from handlers.core.reconcile.coverage import (
    JOINED_EARLIER,
    AccountPolicy,
    Coverage,
    GapCause,
    Rows,
    Status,
    cover,
)
from schemas.compiled_guardrails import CompiledException, CompiledGuardrails
from schemas.outcome import AttachmentResult, Claim, Fault, Outcome, OutcomeStatus, PolicyOutcome
from schemas.snapshot import Snapshot, SnapshotAccount, Unread
from tests.fake_queues import outcome
from tests.fakes import MANAGEMENT, NOON
from tests.unit.test_plan import (
    EVERYONE,
    FULL,
    GUARDRAILS,
    ONE,
    ORGANIZATIONS,
    PROD,
    ROOT_OU,
    SCOPES,
    TODAY,
    TWO,
    A,
    B,
    C,
    Made,
    account,
    guardrails,
    rule,
)

HOUR = timedelta(hours=1)
ATTACHED, REMOVED = AttachmentResult.ATTACHED, AttachmentResult.REMOVED


def covered(
    document: CompiledGuardrails, snapshot: Snapshot, scope: Scope = EVERYONE, since: datetime | None = None
) -> Coverage:
    return cover(
        Guardrails(document),
        snapshot,
        NOON,
        scope,
        policies_per_account=document.policies_per_account,
        since=since,
    )


def status_of(coverage: Coverage, account_id: str = ONE, policy_id: str = A) -> Status | None:
    found = [each.status for each in coverage.lines if (each.account_id, each.policy_id) == (account_id, policy_id)]
    return found[0] if found else None


def line_of(coverage: Coverage, policy_id: str = A) -> AccountPolicy:
    return next(each for each in coverage.lines if (each.account_id, each.policy_id) == (ONE, policy_id))


# What is required is what the evaluator says


@dataclass(frozen=True)
class Example:
    """An organization that was not read completely."""

    document: CompiledGuardrails
    snapshot: Snapshot
    scope: Scope
    since: datetime | None
    unread: frozenset[str]
    absent: frozenset[str]


@st.composite
def examples(draw: st.DrawFn) -> Example:
    made: Made = draw(ORGANIZATIONS)
    snapshot = made.snapshot()
    unread = draw(st.frozensets(st.sampled_from([A, B, C]), max_size=1))
    absent = draw(st.frozensets(st.sampled_from([A, B, C]), max_size=1)) - unread
    policies = tuple(
        each.model_copy(update={"targets": None}) if each.id in unread else each
        for each in snapshot.policies
        if each.id not in absent
    )
    days = draw(st.lists(st.sampled_from([None, 0, 1, 2]), min_size=9, max_size=9))
    accounts = tuple(
        each.model_copy(update={"joined_at": None if day is None else NOON - timedelta(days=day)})
        for each, day in zip(snapshot.accounts, days, strict=False)
    )
    since = draw(st.sampled_from([None, NOON - timedelta(days=1)]))
    changed = snapshot.model_copy(update={"policies": policies, "accounts": accounts})
    return Example(draw(GUARDRAILS), changed, draw(SCOPES), since, unread, absent)


@settings(max_examples=300)
@given(examples())
def test_every_account_counts_exactly_once(each: Example) -> None:
    coverage = covered(each.document, each.snapshot, each.scope, each.since)

    counted = [*coverage.evaluated, *coverage.observed]
    assert len(set(counted)) == len(counted)
    assert len(counted) + sum(coverage.left_out.values()) == coverage.accounts == len(each.snapshot.accounts)
    for found in each.snapshot.accounts:
        earlier = each.since is not None and found.joined_at is not None and found.joined_at < each.since
        leaves_out = found.state != ACTIVE or found.id == MANAGEMENT or earlier
        assert (found.id in counted) == (not leaves_out)
        assert (found.id in coverage.evaluated) == (not leaves_out and each.scope.attaches_to(found.id))
    unclear = coverage.unclear.keys() - coverage.gaps.keys()
    assert coverage.covered + len(coverage.gaps) + len(unclear) == len(coverage.evaluated)


def expected(decision: Decision, policy_id: str, *, carried: bool, unread: bool) -> Status | None:
    """Return what must be said of a policy."""
    if policy_id not in {*decision.required, *decision.undecided}:
        [decided] = [each for each in decision.policies if each.policy_id == policy_id]
        return Status.EXCEPTED if decided.waived_by else None
    if unread:
        return Status.UNREAD
    if policy_id in decision.undecided:
        return Status.UNDECIDED
    return Status.CARRIED if carried else Status.MISSING


@settings(max_examples=300)
@given(examples())
def test_it_says_of_each_account_what_the_evaluator_says(each: Example) -> None:
    coverage = covered(each.document, each.snapshot, each.scope, each.since)
    evaluator, targets = Guardrails(each.document), {one.id: one.targets or () for one in each.snapshot.policies}
    facts = {one.id: facts_of(one) for one in each.snapshot.accounts}

    said = {(line.account_id, line.policy_id): line.status for line in coverage.lines}
    assert len(said) == len(coverage.lines), "each account and policy once"
    for account_id in coverage.evaluated:
        decision = evaluator.evaluate(facts[account_id], NOON)
        for policy_id in evaluator.policy_ids:
            carried = account_id in targets.get(policy_id, ())
            assert said.get((account_id, policy_id)) == expected(
                decision, policy_id, carried=carried, unread=policy_id in each.unread
            )
        attached = {one for one in targets if account_id in targets[one]}
        missing = [line.policy_id for line in coverage.gaps.get(account_id, ())]
        assert missing == [one for one in decision.missing(attached) if one not in each.unread]


@settings(max_examples=300)
@given(examples())
def test_the_totals_add_up(each: Example) -> None:
    coverage = covered(each.document, each.snapshot, each.scope, each.since)

    statuses = Counter(line.status for line in coverage.lines)
    assert sum(policy.carried for policy in coverage.by_policy) == statuses[Status.CARRIED]
    assert sum(policy.lacking for policy in coverage.by_policy) == statuses[Status.MISSING] == coverage.missing
    assert sum(policy.undecided for policy in coverage.by_policy) == statuses[Status.UNDECIDED]
    assert sum(policy.unread for policy in coverage.by_policy) == statuses[Status.UNREAD]
    assert sum(policy.excepted for policy in coverage.by_policy) == statuses[Status.EXCEPTED]
    assert all(policy.required == policy.carried + sum(policy.missing.values()) for policy in coverage.by_policy)
    assert all(bool(line.cause) == (line.status is Status.MISSING) for line in coverage.lines)
    assert coverage.is_complete == (coverage.covered == len(coverage.evaluated))
    for policy in coverage.by_policy:
        if policy.id in each.unread:
            assert (policy.carried, policy.lacking, policy.undecided) == (0, 0, 0)


@settings(max_examples=200)
@given(GUARDRAILS, ORGANIZATIONS, SCOPES)
def test_a_plan_of_the_same_guardrails_says_the_same(document: CompiledGuardrails, made: Made, scope: Scope) -> None:
    snapshot = made.snapshot()
    coverage = covered(document, snapshot, scope)
    plan = make_plan(document, document, snapshot, NOON, 2.0, scope=scope)

    for planned in plan.policies:
        lines = [each for each in coverage.lines if each.policy_id == planned.id]
        no_place = [each.account_id for each in lines if each.cause is GapCause.NO_PLACE]
        missing = [each.account_id for each in lines if each.status is Status.MISSING]
        assert set(planned.get) == set(missing) - set(no_place)
        assert set(no_place) == {each for each in planned.no_place if scope.attaches_to(each)}
        carried = {each.account_id for each in lines if each.status is Status.CARRIED}
        assert carried == {each for each in planned.carry if scope.attaches_to(each)}
        inherited = {each.account_id for each in lines if each.inherits and each.status is not Status.EXCEPTED}
        assert inherited == {each for each in planned.inherit if scope.attaches_to(each)}


# Examples of what could not be read, is not there, or is taken away


def without_targets(snapshot: Snapshot, policy_id: str) -> Snapshot:
    policies = (
        each.model_copy(update={"targets": None}) if each.id == policy_id else each for each in snapshot.policies
    )
    unread = Unread(part="targets", policy=policy_id, code="AccessDeniedException")
    return snapshot.model_copy(update={"policies": tuple(policies), "unread": (unread,)})


def test_of_a_policy_whose_targets_could_not_be_read_nothing_else_is_said() -> None:
    snapshot = without_targets(Made([account(1)], {A: {ONE}, B: {ONE}}).snapshot(), A)

    coverage = covered(guardrails(rule("all", A, B)), snapshot)

    assert [(each.policy_id, each.status) for each in coverage.lines] == [(A, Status.UNREAD), (B, Status.CARRIED)]
    assert (coverage.covered, coverage.gaps, list(coverage.unclear)) == (0, {}, [ONE])
    assert not coverage.is_complete


def test_a_policy_that_the_organization_does_not_have_is_missing_and_takes_no_place() -> None:
    snapshot = Made([account(1)]).snapshot()
    snapshot = snapshot.model_copy(update={"policies": tuple(each for each in snapshot.policies if each.id != A)})

    coverage = covered(guardrails(rule("all", A, B), places=2), snapshot)

    assert (line_of(coverage).status, line_of(coverage).cause) == (Status.MISSING, GapCause.NO_POLICY)
    assert line_of(coverage, B).cause is GapCause.UNKNOWN


def test_a_policy_of_a_type_that_is_not_enabled_cannot_be_attached() -> None:
    snapshot = Made([account(1)]).snapshot().model_copy(update={"enabled_types": ()})

    assert line_of(covered(guardrails(rule("all", A)), snapshot)).cause is GapCause.TYPE_DISABLED


def test_an_undecided_policy_is_neither_missing_nor_carried_even_if_it_is_attached() -> None:
    tagged = guardrails(rule("tagged", A, when={"tags": {"environment": ("prod",)}}))

    for targets in ({A: {ONE}}, {A: set[str]()}):
        coverage = covered(tagged, Made([account(1, tags=None)], targets).snapshot())
        assert (line_of(coverage).status, line_of(coverage).needs) == (Status.UNDECIDED, frozenset({Fact.TAGS}))
        assert (coverage.covered, coverage.gaps) == (0, {})


@pytest.mark.parametrize("targets", [{}, {A: {ONE}}])
def test_a_policy_that_an_exception_takes_away_is_neither(targets: dict[str, set[str]]) -> None:
    exception = CompiledException(id="EXC-1", accounts=(ONE,), policies=(A,), expires=TODAY + timedelta(days=3))
    coverage = covered(
        guardrails(rule("all", A), exceptions=(exception,)), Made([account(1), account(2)], targets).snapshot()
    )

    assert (line_of(coverage).status, line_of(coverage).exceptions) == (Status.EXCEPTED, (exception,))
    assert list(coverage.gaps) == [TWO]
    assert coverage.covered == 1


@pytest.mark.parametrize(
    ("ou", "target", "inherits"),
    [(PROD, PROD, True), (ROOT_OU, PROD, False), (None, PROD, None), (None, ROOT_OU, True), (None, TWO, False)],
)
def test_an_account_that_inherits_a_policy_lacks_it_nevertheless(
    ou: str | None, target: str, *, inherits: bool | None
) -> None:
    coverage = covered(guardrails(rule("all", A)), Made([account(1, ou)], {A: {target}}).snapshot())

    assert (line_of(coverage).status, line_of(coverage).inherits) == (Status.MISSING, inherits)


def test_an_aws_managed_policy_that_the_guardrails_name_is_carried_where_it_is_attached() -> None:
    """Others' policies are not read then, so that AWS's own would be assumed on each account."""
    document = guardrails(rule("all", A), places=2)
    full = document.model_copy(
        update={"policies": (*document.policies, document.policies[0].model_copy(update={"id": FULL}))}
    )
    full = full.model_copy(update={"rules": (rule("all", A, FULL),)})
    snapshot = without_targets(Made([account(1), account(2)], {FULL: {ONE}}).snapshot(), C)

    coverage = covered(full, snapshot)

    assert (status_of(coverage, ONE, FULL), status_of(coverage, TWO, FULL)) == (Status.CARRIED, Status.MISSING)
    assert line_of(coverage).cause is GapCause.UNKNOWN, "there is a place"


@pytest.mark.parametrize("state", ["SUSPENDED", "PENDING_CLOSURE", "CLOSED", "PENDING_ACTIVATION"])
def test_accounts_that_are_not_active_are_left_out_by_state(state: str) -> None:
    coverage = covered(guardrails(rule("all", A)), Made([account(1, state=state)]).snapshot())

    assert coverage.left_out == {state: 1, "MANAGEMENT": 1}
    assert coverage.is_complete


def test_accounts_that_joined_earlier_are_left_out_and_others_of_which_that_is_not_known_are_not() -> None:
    accounts = [
        account(1, joined_at=NOON - HOUR),
        account(2, joined_at=NOON),
        account(3),
    ]

    coverage = covered(guardrails(rule("all", A)), Made(accounts).snapshot(), since=NOON)

    assert list(coverage.gaps) == [TWO, "000000000003"]
    assert coverage.left_out == {"MANAGEMENT": 1, JOINED_EARLIER: 1}


def test_accounts_that_are_only_observed_have_no_gaps_and_are_counted() -> None:
    accounts = [account(1), account(2), account(3)]

    coverage = covered(guardrails(rule("all", A)), Made(accounts, {A: {TWO}}).snapshot(), Scope.parse("000000000003"))

    assert list(coverage.gaps) == ["000000000003"]
    assert (coverage.observed, coverage.observed_lacking) == ((ONE, TWO), 1)


# Why a policy is missing

DOCUMENT = guardrails(rule("all", A, B))


def row(status: OutcomeStatus = OutcomeStatus.ENFORCED, hours: float = 0, **changes: Any) -> Outcome:
    """Return an outcome that was last written some hours before noon."""
    return outcome((ONE, f"event-{hours}"), status, updated_at=NOON - HOUR * hours, **changes)


def claim(result: Any = ATTACHED, hours: float = 0) -> dict[str, Claim]:
    return {A: Claim(result=result, at=NOON - HOUR * hours, seal="0" * 64)}


def result(result: AttachmentResult, policy_id: str = A, code: str | None = None) -> tuple[PolicyOutcome, ...]:
    fault = Fault(code=code, message="x") if code else None
    return (PolicyOutcome(policy_id=policy_id, result=result, fault=fault),)


def explained(*rows: Outcome | UnreadableRow, joined_at: datetime | None = None, places: int = 10) -> AccountPolicy:
    document = DOCUMENT.model_copy(update={"policies_per_account": {"SERVICE_CONTROL_POLICY": places}})
    found = covered(document, Made([account(1, joined_at=joined_at)]).snapshot())
    return line_of(found.explained({ONE: rows}))


FAILED, RETRYING = OutcomeStatus.FAILED, OutcomeStatus.RETRYING
UNREADABLE = UnreadableRow(ONE, "event-x")
CAUSES: dict[str, tuple[Rows, GapCause, str | None]] = {
    "no outcome": ((), GapCause.NEVER_SEEN, None),
    "enforced, and others detached what they attached": ((row(),), GapCause.NOT_YET, None),
    "closed": ((row(OutcomeStatus.CLOSED),), GapCause.NOT_YET, None),
    "failed": ((row(FAILED),), GapCause.FAILED, "AccessDeniedException"),
    "retried": ((row(RETRYING, fault=Fault(code="X", message="x")),), GapCause.RETRYING, "X"),
    "an attempt is running": ((row(RETRYING),), GapCause.RETRYING, None),
    "the newest failure counts": ((row(FAILED, 2), row(RETRYING, 1)), GapCause.RETRYING, None),
    "the policy's own code": (
        (row(FAILED, policies=result(AttachmentResult.FAILED, code="Own")),),
        GapCause.FAILED,
        "Own",
    ),
    "detached": ((row(claims=claim()),), GapCause.DRIFTED, None),
    "detached after an earlier failure": ((row(FAILED, 3), row(claims=claim(hours=1))), GapCause.DRIFTED, None),
    "detached after a failure that somebody repaired by hand": (
        (row(FAILED, 3), row(policies=result(AttachmentResult.ALREADY_ATTACHED), hours=1)),
        GapCause.NOT_YET,
        None,
    ),
    "detached, and another event failed before the attachment was recorded": (
        (row(FAILED, 2), row(policies=result(ATTACHED), claims=claim(hours=3), hours=1)),
        GapCause.DRIFTED,
        None,
    ),
    "failed after it was detached": (
        (row(claims=claim(hours=3), hours=3), row(FAILED, 1)),
        GapCause.FAILED,
        "AccessDeniedException",
    ),
    "Joinguard removed it": (
        (row(claims=claim(hours=2), hours=2), row(claims=claim(REMOVED, 1), hours=1)),
        GapCause.NOT_YET,
        None,
    ),
    "of two claims at one moment, the removal counts": (
        (row(claims=claim(REMOVED)), row(claims=claim(), hours=1)),
        GapCause.NOT_YET,
        None,
    ),
    "another policy failed": (
        (row(FAILED, policies=result(ATTACHED) + result(AttachmentResult.FAILED, B), claims=claim(hours=1)),),
        GapCause.DRIFTED,
        None,
    ),
    "a failure under guardrails that did not require it": (
        (row(FAILED, policies=result(AttachmentResult.FAILED, B), guardrails="0" * 64),),
        GapCause.NOT_YET,
        None,
    ),
    "a failure of these guardrails": (
        (row(FAILED, policies=result(AttachmentResult.FAILED, B), guardrails=DOCUMENT.sha256()),),
        GapCause.FAILED,
        "AccessDeniedException",
    ),
    "a removal failed": ((row(FAILED, source="joinguard.removal"),), GapCause.NOT_YET, None),
    "an unreadable row": ((UNREADABLE,), GapCause.UNKNOWN, None),
    "an unreadable row beside one that explains nothing": ((row(), UNREADABLE), GapCause.UNKNOWN, None),
    "an unreadable row beside a failure": ((row(FAILED), UNREADABLE), GapCause.FAILED, "AccessDeniedException"),
}


@pytest.mark.parametrize(("rows", "cause", "code"), CAUSES.values(), ids=CAUSES)
def test_the_outcomes_of_an_account_say_why_it_lacks_a_policy(rows: Rows, cause: GapCause, code: str | None) -> None:
    found = explained(*rows)

    assert (found.cause, found.code) == (cause, code)


def test_the_places_of_an_account_count_more_than_its_outcomes() -> None:
    assert explained(row(FAILED), places=1).cause is GapCause.NO_PLACE


@pytest.mark.parametrize("earlier", [row(FAILED, 5), row(hours=5), row(claims=claim(hours=5), hours=5)])
def test_outcomes_of_an_earlier_membership_say_nothing(earlier: Outcome) -> None:
    assert explained(earlier, joined_at=NOON - HOUR).cause is GapCause.NEVER_SEEN
    assert explained(earlier, joined_at=NOON - 9 * HOUR).cause is not GapCause.NEVER_SEEN


def test_without_outcomes_the_causes_are_not_known() -> None:
    coverage = covered(DOCUMENT, Made([account(1), account(2)]).snapshot()).explained({TWO: ()})

    assert {each.account_id: each.cause for each in coverage.lines} == {
        ONE: GapCause.UNKNOWN,
        TWO: GapCause.NEVER_SEEN,
    }


@pytest.mark.parametrize(
    ("rows", "waits"),
    [
        ([row(RETRYING)], True),
        ([row(FAILED)], False),
        ([row(RETRYING, source="joinguard.removal")], False),
        ([row(RETRYING, hours=5)], False),
        ([UNREADABLE], False),
    ],
)
def test_an_account_waits_while_an_event_of_it_is_retried(rows: Rows, *, waits: bool) -> None:
    coverage = covered(DOCUMENT, Made([account(1, joined_at=NOON - HOUR)]).snapshot())

    assert coverage.waits(ONE, rows) == waits


def test_explaining_changes_nothing_but_causes() -> None:
    coverage = covered(DOCUMENT, Made([account(1), account(2)], {A: {TWO}}).snapshot())

    told = coverage.explained({ONE: (row(FAILED),), TWO: ()})

    assert told.lines != coverage.lines
    assert [replace(each, cause=None, code=None, message_code=None) for each in told.lines] == [
        replace(each, cause=None) for each in coverage.lines
    ]


def test_a_recorded_account_of_before_is_still_read() -> None:
    assert SnapshotAccount.model_validate({"id": ONE, "state": "ACTIVE"}).joined_at is None
