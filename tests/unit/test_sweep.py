"""The sweep: what it requests, what it leaves out and why, and that it goes on after any end of its process."""

from __future__ import annotations

import zlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.evidence.references import request_id
from handlers.core.guardrails.limits import FEW
from handlers.core.guardrails.pauses import KnownPauses
from handlers.core.reconcile.deciding import ON_ITS_WAY
from handlers.core.reconcile.sweep import Step
from handlers.core.timing import RECEIVED_AGAIN
from schemas.compiled_guardrails import SCP, CompiledGuardrails, CompiledPolicy, CompiledRule, CompiledSelector, OuRange
from schemas.events import DEPARTURE
from schemas.outcome import AttachmentResult, Claim, Fault, Outcome, OutcomeStatus, PolicyOutcome
from schemas.pause import Pause
from schemas.pseudonym import Pseudonym
from schemas.sweep import NotRequested
from tests.bulk_organization import ROOT_OU, Member
from tests.fakes import MANAGEMENT, NOON, POLICIES, Killed
from tests.sweeping import SweepWorld, texts

if TYPE_CHECKING:
    from collections.abc import Callable


A, B = POLICIES
BARE, COVERED, HALF = "222222222222", "333333333333", "444444444444"
HOUR = timedelta(hours=1)


def world(**changes: Any) -> SweepWorld:
    """Return an organization with a bare account, a covered one, and one that lacks a policy."""
    made = SweepWorld(**changes)
    for each in (BARE, COVERED, HALF):
        made.organization.accounts[each] = Member()
    made.organization.attach(A, COVERED, HALF)
    made.organization.attach(B, COVERED)
    return made


def row(account_id: str, status: OutcomeStatus = OutcomeStatus.ENFORCED, **changes: Any) -> Outcome:
    """Return the outcome of a join of an account, an hour ago."""
    fields: dict[str, Any] = {
        "account_id": account_id,
        "event_id": "event-1",
        "event_name": "AcceptHandshake",
        "source": "aws.organizations",
        "status": status,
        "attempts": 1,
        "event_time": NOON - HOUR,
        "received_at": NOON - HOUR,
        "updated_at": NOON - HOUR,
    }
    return Outcome(**fields | changes)


def attached(account_id: str, *policies: str, **changes: Any) -> Outcome:
    """Return the outcome of an event after which Joinguard attached policies."""
    claim = Claim(result=AttachmentResult.ATTACHED, at=NOON - HOUR, seal="0" * 64)
    done = tuple(PolicyOutcome(policy_id=each, result=AttachmentResult.ATTACHED) for each in policies)
    return row(account_id, claims=dict.fromkeys(policies, claim), policies=done, **changes)


# What is requested


def test_an_account_without_any_event_and_one_that_lacks_a_policy_are_requested_once() -> None:
    w = world()

    report = w.sweep()

    assert w.requested() == [BARE, HALF]
    assert (report.members, report.covered, report.with_gaps, report.requested) == (3, 1, 2, 2)
    assert report.gaps["NEVER_SEEN"] == 3
    assert report.left_out == {"MANAGEMENT": 1}


def test_a_request_is_one_that_the_worker_reads() -> None:
    w = world()
    w.sweep()

    first, second = w.repairs.sent

    assert first.source == "joinguard.sweep"
    assert first.event_id != second.event_id
    assert not any(each in first.event_id for each in (BARE, HALF))


def test_a_sweep_that_only_reports_requests_nothing() -> None:
    w = world(mode="report")

    report = w.sweep()

    assert w.requested() == []
    assert report.not_requested == {NotRequested.REPORT_ONLY: 2}
    assert report.with_gaps == 2


def test_accounts_that_are_only_observed_are_counted_and_left_alone() -> None:
    w = world(attach_to=HALF)

    report = w.sweep()

    assert w.requested() == [HALF]
    assert (report.members, report.observed, report.with_gaps) == (3, 2, 1)


@pytest.mark.parametrize("state", ["SUSPENDED", "PENDING_CLOSURE", "CLOSED", "PENDING_ACTIVATION"])
def test_an_account_that_is_not_active_is_left_out_and_counted(state: str) -> None:
    w = world()
    w.organization.accounts[BARE].state = state

    report = w.sweep()

    assert w.requested() == [HALF]
    assert report.left_out == {"MANAGEMENT": 1, state: 1}


def test_an_account_whose_event_may_be_on_its_way_is_for_the_next_sweep() -> None:
    w = world()
    w.organization.accounts[BARE].joined_at = NOON - ON_ITS_WAY + timedelta(minutes=1)

    assert w.sweep().not_requested == {NotRequested.JOINED_JUST_NOW: 1}
    w.clock.advance(1800)
    w.sweep()

    assert w.requested() == [HALF, BARE]


@pytest.mark.parametrize(("minutes", "waits"), [(5, True), (RECEIVED_AGAIN.total_seconds() / 60 + 5, False)])
def test_an_account_whose_event_is_retried_waits_unless_its_message_is_gone(minutes: float, *, waits: bool) -> None:
    w = world()
    at = NOON - timedelta(minutes=minutes)
    w.outcomes.rows[BARE] = [row(BARE, OutcomeStatus.RETRYING, updated_at=at)]

    report = w.sweep()

    assert (BARE in w.requested()) is not waits
    assert report.not_requested.get(NotRequested.WAITING, 0) == waits


@pytest.mark.parametrize(("days", "is_there"), [(1, True), (15, False)])
def test_an_account_with_a_dead_letter_is_left_out_as_long_as_that_is_kept(days: int, *, is_there: bool) -> None:
    w = world()
    failed = tuple(
        PolicyOutcome(policy_id=each, result=AttachmentResult.FAILED, fault=Fault(code="X", message="x"))
        for each in POLICIES
    )
    w.outcomes.rows[BARE] = [row(BARE, OutcomeStatus.FAILED, policies=failed, updated_at=NOON - timedelta(days=days))]

    report = w.sweep()

    assert (BARE in w.requested()) is not is_there
    assert report.not_requested.get(NotRequested.DEAD_LETTER, 0) == is_there


def test_a_dead_letter_about_one_policy_does_not_keep_another_from_being_requested() -> None:
    w = world()
    failed = PolicyOutcome(policy_id=A, result=AttachmentResult.FAILED, fault=Fault(code="X", message="x"))
    w.outcomes.rows[BARE] = [attached(BARE, B), row(BARE, OutcomeStatus.FAILED, event_id="event-2", policies=(failed,))]

    w.sweep()

    assert BARE in w.requested()


def test_a_request_that_waits_in_the_queue_is_not_repeated_and_one_that_was_lost_is() -> None:
    w = world()
    w.sweep()
    w.clock.advance(1800)
    report = w.sweep()
    assert report.not_requested == {NotRequested.WAITING: 2}
    w.clock.advance(1800)
    assert w.sweep().not_requested == {NotRequested.WAITING: 2}
    assert w.requested() == [BARE, HALF]

    w.repairs.waiting.clear()
    w.clock.advance(1800)
    w.sweep()

    assert w.requested() == [BARE, HALF, BARE, HALF]


def test_a_request_that_was_handled_does_not_wait_although_others_do() -> None:
    w = world()
    w.sweep()
    sent = next(each for each in w.repairs.sent if each.account_id == BARE)
    w.outcomes.rows[BARE] = [
        attached(BARE, A, B, event_id=sent.event_id, source="joinguard.sweep", event_name="JoinRequest")
    ]
    w.clock.advance(1800)

    w.sweep()

    assert w.requested() == [BARE, HALF, BARE]


def test_an_account_that_two_sweeps_in_a_row_request_is_counted() -> None:
    """The first request was handled, and did not help: then something keeps the policies from being attached."""
    w = world()
    first = w.sweep()
    w.repairs.waiting.clear()
    w.organization.attach(A, HALF)
    w.organization.attach(B, HALF)
    w.clock.advance(1800)

    second = w.sweep()

    assert (first.requested_again, second.requested, second.requested_again) == (0, 1, 1)


# What a request would not help


def test_a_disabled_policy_type_is_one_fault_and_no_requests() -> None:
    w = world()
    w.organization.enabled = ()

    report = w.sweep()

    assert [(each.kind, each.what) for each in report.faults] == [("TYPE_DISABLED", SCP)]
    assert w.requested() == []
    assert report.not_requested == {NotRequested.LASTING: 2}


def test_a_policy_that_is_gone_is_a_fault_and_the_others_are_requested() -> None:
    w = world()
    del w.organization.contents[A]
    del w.organization.targets[A]

    report = w.sweep()

    assert [(each.kind, each.what) for each in report.faults] == [("NO_POLICY", A)]
    assert w.requested() == [BARE, HALF]


def test_a_policy_whose_content_is_not_the_pinned_one_is_a_fault() -> None:
    pinned = CompiledGuardrails(
        policies=tuple(CompiledPolicy(id=each, type=SCP, sha256="a" * 64) for each in POLICIES),
        rules=(CompiledRule(id="everyone", attach=POLICIES, match="all"),),
    )
    w = world(guardrails=pinned)

    report = w.sweep()

    assert {(each.kind, each.what) for each in report.faults} == {("POLICY_CHANGED", A), ("POLICY_CHANGED", B)}


# Pauses


def paused(scope: str, *, until: datetime = NOON + HOUR) -> KnownPauses:
    return KnownPauses(
        (
            Pause(
                id="pause-1",
                scope=scope,
                owner="the network team",
                begun_at=NOON - HOUR,
                until=until,
                reason="they fight",
                actor=Pseudonym(value=f"prin-{'0' * 32}", key_version="1"),
                actor_id="AROA",
                act_id="act-1",
            ),
        )
    )


@pytest.mark.parametrize(("scope", "number"), [(BARE, 1), ("ou-root-prod0000", 1), ("organization", 2)])
def test_nothing_is_requested_for_a_paused_account_until_the_pause_ends(scope: str, number: int) -> None:
    w = world()
    w.organization.ous["ou-root-prod0000"] = ROOT_OU
    w.organization.accounts[BARE].ou = "ou-root-prod0000"
    w.pauses.known = paused(scope)

    assert w.sweep().not_requested == {NotRequested.PAUSED: number}
    assert BARE not in w.requested()
    w.clock.advance(3600)
    w.sweep()

    assert BARE in w.requested()


def test_a_sweep_decides_nothing_if_the_pauses_cannot_be_read() -> None:
    w = world()
    w.steps.fail("pauses", RetryableError(fault("DynamoDB.Broken", "no answer")))

    swept = w.invoke()

    assert (swept.step, w.requested()) == (Step.UNFINISHED, [])
    assert w.invoke().step is Step.COMPLETE


# Too much at once


def lost_by(w: SweepWorld, number: int) -> list[str]:
    """Make some members of a hundred lose a policy that Joinguard attached."""
    ids = w.account_ids(100)
    for each in ids:
        w.organization.accounts[each] = Member()
    w.organization.attach(A, *ids)
    w.organization.attach(B, *ids[number:])
    w.outcomes.rows |= {each: [attached(each, A, B)] for each in ids}
    return ids[:number]


def test_a_few_accounts_that_lost_a_policy_get_it_back() -> None:
    w = SweepWorld()
    lost = lost_by(w, FEW)

    report = w.sweep()

    assert w.requested() == lost
    assert report.gaps["DRIFTED"] == report.drifted == FEW


def test_a_sweep_halts_if_many_accounts_lost_policies_at_once() -> None:
    w = SweepWorld()
    lost_by(w, FEW + 1)
    bare = "999999999998"
    w.organization.accounts[bare] = Member()

    report = w.sweep()

    assert w.requested() == []
    assert report.halted == f"{FEW + 1} of 101 members lack policies that Joinguard attached"
    assert report.not_requested == {NotRequested.HALTED: FEW + 2}


def test_many_accounts_that_never_had_their_policies_do_not_halt_it() -> None:
    w = SweepWorld()
    for each in w.account_ids(100):
        w.organization.accounts[each] = Member()

    assert w.sweep().halted is None
    assert len(w.requested()) == 100


def test_departures_do_not_halt_a_sweep_because_the_worker_asks_organizations() -> None:
    w = SweepWorld()
    ids = w.account_ids(100)
    w.organization.accounts |= {each: Member() for each in ids}
    w.organization.attach(A, *ids)
    w.organization.attach(B, *ids[:-1])
    w.sweep()
    w.clock.advance(1800)
    w.repairs.waiting.clear()
    for each in ids[:50]:
        del w.organization.accounts[each]

    report = w.sweep()

    assert (report.departed, report.halted) == (50, None)
    assert w.told_of() == ids[:50]
    assert w.requested() == [ids[-1], ids[-1]]


# Who came and went


def test_a_member_of_whom_no_event_told_is_a_missed_event_once() -> None:
    w = world()
    first = w.sweep()
    told, missed = "555555555555", "666666666666"
    w.organization.accounts |= {each: Member(joined_at=w.clock.now()) for each in (told, missed)}
    w.clock.advance(1800)
    w.outcomes.rows[told] = [row(told, updated_at=w.clock.now())]

    second = w.sweep()
    w.clock.advance(1800)
    third = w.sweep()

    assert [each.missed_events for each in (first, second, third)] == [0, 1, 0]
    assert [each.is_first for each in (first, second, third)] == [True, False, False]


def test_a_member_that_joined_just_now_is_missed_only_by_the_sweep_after() -> None:
    w = world()
    w.sweep()
    w.clock.advance(1800)
    w.organization.accounts["555555555555"] = Member(joined_at=w.clock.now() - timedelta(minutes=1))

    assert w.sweep().missed_events == 0
    w.clock.advance(1800)
    assert w.sweep().missed_events == 1


def test_the_outcome_of_an_earlier_membership_tells_nothing_of_a_join() -> None:
    w = world()
    w.sweep()
    w.clock.advance(1800)
    w.outcomes.rows["555555555555"] = [row("555555555555")]
    w.organization.accounts["555555555555"] = Member(joined_at=NOON + timedelta(minutes=5))

    assert w.sweep().missed_events == 1


def test_a_departure_is_found_once_and_the_worker_is_told_of_it() -> None:
    w = world()
    begun = w.sweep().begun_at
    del w.organization.accounts[BARE]
    w.clock.advance(1800)

    second = w.sweep()
    w.clock.advance(1800)
    third = w.sweep()

    assert (second.departed, third.departed) == (1, 0)
    assert w.told_of() == [BARE]
    [told] = [each for each in w.repairs.sent if each.account_id == BARE and each.source == DEPARTURE]
    assert begun < told.requested_at == second.decided_at


def test_a_sweep_that_only_reports_counts_a_departure_once() -> None:
    w = world(mode="report")
    w.sweep()
    del w.organization.accounts[BARE]
    found = []
    for _ in range(2):
        w.clock.advance(1800)
        found.append(w.sweep().departed)

    assert found == [1, 0]
    assert w.told_of() == []


def test_an_account_that_a_listing_left_out_once_is_no_missed_event() -> None:
    w = world()
    w.sweep()
    left_out = w.organization.accounts.pop(COVERED)
    w.clock.advance(1800)
    w.sweep()
    w.organization.accounts[COVERED] = left_out
    w.clock.advance(1800)

    assert w.sweep().missed_events == 0


# Removals


def with_removals() -> CompiledGuardrails:
    """Return guardrails that remove B from accounts outside an OU."""
    below = CompiledSelector(ou=(OuRange(id="ou-root-prod0000", max_levels=None),))
    return CompiledGuardrails(
        policies=tuple(CompiledPolicy(id=each, type=SCP) for each in POLICIES),
        rules=(
            CompiledRule(id="a", attach=(A,), match="all"),
            CompiledRule(id="b", attach=(B,), match=(below,), when_no_longer="remove"),
        ),
        policies_per_account={SCP: 10},
    )


@pytest.mark.parametrize("removes", [True, False])
def test_an_account_that_carries_what_it_no_longer_needs_is_requested_if_policies_are_removed(*, removes: bool) -> None:
    w = world(guardrails=with_removals(), removes=removes)
    w.outcomes.rows[COVERED] = [attached(COVERED, A, B)]

    report = w.sweep()

    assert (COVERED in w.requested()) is removes
    assert report.with_excess == removes


def test_what_others_attached_is_no_excess() -> None:
    w = world(guardrails=with_removals(), removes=True)

    assert w.sweep().with_excess == 0


def test_what_a_request_to_remove_kept_is_not_requested_again() -> None:
    w = world(guardrails=with_removals(), removes=True)
    kept = PolicyOutcome(policy_id=B, result=AttachmentResult.KEPT, fault=Fault(code="LAST_POLICY", message="x"))
    removal = row(COVERED, event_id="r", source="joinguard.removal", policies=(kept,), updated_at=NOON)
    w.outcomes.rows[COVERED] = [attached(COVERED, A, B), removal]

    assert w.sweep().with_excess == 0


# When


def test_a_sweep_begins_when_it_is_due() -> None:
    w = world()
    assert w.invoke().step is Step.COMPLETE
    w.clock.advance(5 * 60)
    assert w.invoke().step is Step.IDLE
    w.clock.advance(24.5 * 60)
    assert w.invoke().step is Step.COMPLETE


def test_an_operator_begins_a_sweep_that_is_not_due() -> None:
    w = world()
    w.invoke()

    assert w.invoke(at_once=True).step is Step.COMPLETE


def test_a_second_invocation_does_nothing_while_the_first_one_is_at_work() -> None:
    w = world()
    inner = []

    def second(name: str, when: str) -> None:
        if (name, when) == ("ListAccounts", "before"):
            inner.append(w.invoke())

    w.steps.on_call = second
    w.sweep()

    assert [each.step for each in inner] == [Step.RUNNING]
    assert w.requested() == [BARE, HALF]


def test_an_invocation_whose_successor_has_taken_hold_changes_nothing_more() -> None:
    """A process that was frozen for longer than its hold."""
    w = world()
    others: list[None] = []

    def freeze(name: str, when: str) -> None:
        if (name, when) == ("ListAccounts", "after") and not others:
            others.append(None)
            w.clock.advance(3600)
            w.sweep()

    w.steps.on_call = freeze
    swept = w.invoke()

    assert swept.step is Step.UNFINISHED
    assert swept.fault
    assert swept.fault.code in {"SWEEP_LEASE", "OUT_OF_TIME"}
    assert w.requested() == [BARE, HALF]


# Going on


def test_a_sweep_goes_on_where_the_time_ended_and_reads_nothing_twice() -> None:
    whole, short = SweepWorld(), SweepWorld()
    for w in (whole, short):
        w.organization.accounts |= {each: Member() for each in w.account_ids(300)}
        w.organization.attach(A, *w.account_ids(300)[:200])
    whole.sweep()
    steps = []
    for _ in range(5):
        steps.append(short.invoke(seconds=1).step)
        short.clock.advance(300)
    steps.append(short.invoke().step)

    assert steps == [*[Step.UNFINISHED] * 5, Step.COMPLETE]
    assert short.organization.calls == whole.organization.calls
    assert short.requested() == whole.requested()


def begun(accounts: int) -> SweepWorld:
    """Return a sweep that has read some pages of accounts."""
    w = SweepWorld()
    w.organization.page_size = 5
    w.organization.accounts |= {each: Member() for each in w.account_ids(accounts)}
    assert w.invoke(seconds=4).step is Step.UNFINISHED
    assert 0 < w.organization.calls["ListAccounts"] <= accounts // 5
    w.clock.advance(300)
    return w


def test_a_token_that_aws_does_not_know_any_more_starts_the_listing_anew() -> None:
    w = begun(300)
    w.organization.generation += 1

    w.sweep()

    assert w.requested() == w.account_ids(300)
    assert w.organization.calls["ListAccounts"] > 61


def test_empty_pages_are_followed() -> None:
    w = SweepWorld()
    w.organization.empty_pages = True
    w.organization.accounts |= {each: Member() for each in w.account_ids(50)}

    assert w.sweep().members == 50


def test_what_was_read_a_day_ago_is_read_again() -> None:
    w = begun(300)
    del w.organization.accounts[w.account_ids(1)[0]]
    w.clock.advance(25 * 3600)

    report = w.sweep()

    assert (report.members, report.departed) == (299, 0)


def test_new_guardrails_begin_a_sweep_anew() -> None:
    w = SweepWorld()
    w.organization.accounts |= {each: Member() for each in w.account_ids(300)}
    assert w.invoke(seconds=1).step is Step.UNFINISHED
    w.guardrails = type(w.guardrails).for_everyone((A,))
    w.clock.advance(300)

    assert w.sweep().gaps["NEVER_SEEN"] == 300
    assert not [each for each in w.store.pieces if each[1] == "read"]


def test_what_a_sweep_kept_is_deleted_when_it_is_not_needed_any_more() -> None:
    w = world()
    for _ in range(3):
        w.sweep()
        w.clock.advance(1800)

    assert len({sweep_id for sweep_id, _, _ in w.store.pieces}) == 1


#: What a table can hold that an earlier version wrote, or somebody else.
UNREADABLE = [b"", b"x", zlib.compress(b"x"), zlib.compress(b'{"a": 1}'), zlib.compress(b"[1, 2]")]


@pytest.mark.parametrize("piece", UNREADABLE, ids=range(len(UNREADABLE)))
def test_pages_that_are_unreadable_are_read_again(piece: bytes) -> None:
    w = begun(300)
    kept = [each for each in w.store.pieces if each[1] == "read"]
    w.store.pieces |= dict.fromkeys(kept, piece)

    w.sweep()

    assert kept
    assert w.requested() == w.account_ids(300)


@pytest.mark.parametrize("piece", UNREADABLE, ids=range(len(UNREADABLE)))
def test_a_sweep_after_one_whose_decision_is_unreadable_is_like_the_first(piece: bytes) -> None:
    w = world()
    w.sweep()
    w.store.pieces = dict.fromkeys(w.store.pieces, piece)
    w.clock.advance(1800)

    assert w.sweep().is_first


@pytest.mark.parametrize("piece", UNREADABLE, ids=range(len(UNREADABLE)))
def test_a_decision_that_is_unreadable_ends_the_sweep_and_the_next_one_begins_anew(piece: bytes) -> None:
    w = world()
    w.steps.fail("send", RetryableError(fault("SQS.Broken", "no answer")))
    assert w.invoke().step is Step.UNFINISHED
    w.store.pieces = {each: piece if each[1] == "decided" else kept for each, kept in w.store.pieces.items()}
    w.clock.advance(300)

    why = w.invoke().fault

    assert why
    assert why.code == "SWEEP_STATE"
    w.clock.advance(300)
    w.sweep()
    assert w.requested() == [BARE, HALF]


# Unreadable is not absent


@pytest.mark.parametrize("operation", ["ListAccounts", "ListPolicies", "ListRoots", "DescribeOrganization"])
@pytest.mark.parametrize("error", [PermanentError, RetryableError])
def test_half_a_snapshot_decides_nothing(operation: str, error: type[PermanentError | RetryableError]) -> None:
    w = world()
    w.sweep()
    w.clock.advance(1800)
    sent = w.requested()

    def fail(name: str, when: str) -> None:
        if (name, when) == (operation, "before"):
            raise error(fault("Broken", "no answer"))

    w.steps.on_call = fail
    swept = w.invoke()

    assert (swept.step, swept.fault and swept.fault.code) == (Step.UNFINISHED, "Broken")
    assert w.requested() == sent
    assert len(w.evidence()) == 1


def test_targets_that_cannot_be_read_are_unclear_and_not_missing() -> None:
    w = world()

    def fail(name: str, when: str) -> None:
        if (name, when) == ("ListTargetsForPolicy", "before"):
            raise PermanentError(fault("AccessDeniedException", "no"))

    w.steps.on_call = fail
    report = w.sweep()

    assert (report.with_gaps, report.unclear, report.covered) == (0, 3, 0)
    assert [(each.kind, each.what) for each in report.faults] == [
        ("UNREAD", f"targets of {each}: AccessDeniedException") for each in (A, B)
    ]
    assert w.requested() == []


def test_a_pinned_policy_whose_content_cannot_be_read_is_a_fault() -> None:
    """Otherwise a sweep that may not read contents would look like one that found none changed."""
    pinned = CompiledGuardrails(
        policies=(CompiledPolicy(id=A, type=SCP, sha256="a" * 64),),
        rules=(CompiledRule(id="everyone", attach=(A,), match="all"),),
    )
    w = world(guardrails=pinned)

    def fail(name: str, when: str) -> None:
        if (name, when) == ("DescribePolicy", "before"):
            raise PermanentError(fault("AccessDeniedException", "no"))

    w.steps.on_call = fail

    assert [(each.kind, each.what) for each in w.sweep().faults] == [("POLICY_UNREAD", A)]


def test_an_organization_that_is_not_the_stacks_decides_nothing() -> None:
    w = world()
    w.organization.describe_organization = lambda: {  # type: ignore[method-assign]
        "Organization": {"Id": "o-another0000", "MasterAccountId": MANAGEMENT}
    }

    swept = w.invoke()

    assert swept.fault
    assert swept.fault.code == "WRONG_ORGANIZATION"
    assert w.requested() == []


# Evidence


def test_the_evidence_of_a_sweep_says_who_is_new_who_left_and_who_lacks_what_in_pseudonyms() -> None:
    w = world()
    w.sweep()
    del w.organization.accounts[HALF]
    w.organization.accounts["555555555555"] = Member(joined_at=NOON)
    w.clock.advance(1800)
    w.sweep()

    first, second = w.evidence()
    assert (len(first.appeared), len(first.departed), len(first.gaps)) == (3, 0, 3)
    assert (len(second.appeared), len(second.departed)) == (1, 1)
    assert not any(each in texts(w) for each in (BARE, COVERED, HALF, MANAGEMENT, "555555555555", "@"))


def test_evidence_that_somebody_else_put_there_is_kept_and_ours_is_written_beside_it() -> None:
    w = world()
    sweep_id = request_id(w._sweeper().dependencies.pseudonyms, "sweep", NOON.isoformat())  # noqa: SLF001 - to know the key
    key = f"sweeps/2026/11/24/{sweep_id}.json"
    w.archive.bodies[key] = b"forged"

    swept = w.invoke()

    assert (swept.step, swept.conflict) == (Step.COMPLETE, key)
    assert w.archive.bodies[key] == b"forged"
    assert len(w.archive.bodies) == 2


# Killed at any call


def after(what: Callable[[SweepWorld], None]) -> SweepWorld:
    """Let the schedule sweep 45 bare accounts after something happened."""
    w = SweepWorld()
    w.organization.page_size = 9
    w.organization.accounts |= {each: Member() for each in w.account_ids(45)}
    what(w)
    while w.invoke().step not in {Step.COMPLETE, Step.IDLE}:
        w.clock.advance(300)
    return w


def calls_of_a_sweep() -> list[str]:
    """Return each call that a sweep makes, in order."""
    seen: list[str] = []

    def watch(w: SweepWorld) -> None:
        w.steps.on_call = lambda name, when: seen.append(name) if when == "before" else None

    after(watch)
    return seen


CALLS = calls_of_a_sweep()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(len(CALLS)), ids=lambda number: f"{number}-{CALLS[number]}")
def test_a_sweep_that_is_killed_at_any_call_misses_nobody_and_requests_nobody_anew(number: int, when: str) -> None:
    def kill(w: SweepWorld) -> None:
        left = [number]

        def die(_: str, at: str) -> None:
            if at == when:
                left[0] -= 1
                if left[0] == -1:
                    raise Killed

        w.steps.on_call = die
        with pytest.raises(Killed):
            w.invoke()
        w.steps.on_call = lambda _name, _when: None
        w.clock.advance(1200)

    w = after(kill)

    assert sorted({each.account_id for each in w.repairs.sent}) == w.account_ids(45)
    # A message is there twice only if the process died while SQS accepted it, and the worker takes it for a redelivery.
    assert len({(each.account_id, each.event_id) for each in w.repairs.sent}) == 45
    assert len(w.repairs.sent) <= 55
    assert len(w.evidence()) == 1
    assert [each.report.requested for each in w.evidence()] == [45]


def test_a_sweep_with_ous_reads_them() -> None:
    guardrails = with_removals()
    w = SweepWorld(guardrails=guardrails)
    w.organization.ous["ou-root-prod0000"] = ROOT_OU
    w.organization.accounts[BARE] = Member(ou="ou-root-prod0000")
    w.organization.attach(A, BARE)

    w.sweep()

    assert w.requested() == [BARE]


def test_a_dead_letter_of_a_time_when_less_was_required_does_not_hide_what_is_missing_now() -> None:
    w = world()
    failed = PolicyOutcome(policy_id=A, result=AttachmentResult.FAILED, fault=Fault(code="X", message="x"))
    sha256 = w.guardrails.sha256
    w.outcomes.rows[BARE] = [row(BARE, OutcomeStatus.FAILED, policies=(failed,), guardrails=sha256)]

    w.sweep()

    assert BARE in w.requested()


def test_a_sweep_without_rules_on_ous_reads_no_ou() -> None:
    w = world()
    w.organization.ous["ou-root-prod0000"] = ROOT_OU

    w.sweep()

    assert w.organization.calls["ListOrganizationalUnitsForParent"] == 0


# What the snapshot does not show yet, and what rows claim


def test_what_a_worker_attached_while_the_sweep_was_reading_is_no_gap() -> None:
    w = SweepWorld()
    lost_by(w, FEW + 1)
    for each in w.account_ids(FEW + 1):
        w.outcomes.rows[each] = [attached(each, A, B, updated_at=NOON + timedelta(seconds=1))]
    w.clock.advance(0)

    report = w.sweep()

    assert (report.with_gaps, report.drifted, report.halted, report.covered) == (0, 0, None, 100)
    assert w.requested() == []


def test_accounts_whose_restores_wait_for_a_person_halt_the_sweep_and_are_not_requested() -> None:
    w = SweepWorld()
    lost = lost_by(w, FEW + 1)
    why = Fault(code="RESTORES_HALTED", message="x")
    for each in lost:
        result = PolicyOutcome(policy_id=B, result=AttachmentResult.FAILED, fault=why)
        failed = row(each, OutcomeStatus.FAILED, event_id="detach-1", policies=(result,), updated_at=NOON, fault=why)
        w.outcomes.rows[each].append(failed)

    assert w.sweep().halted
    for each in lost[1:]:
        w.outcomes.rows[each] = [attached(each, A, B)]
        w.organization.attach(B, each)
    w.organization.targets[A].remove(lost[0])
    w.clock.advance(1800)
    report = w.sweep()

    assert report.halted is None
    assert report.not_requested == {NotRequested.DEAD_LETTER: 1}
    assert w.requested() == []


def test_a_row_of_the_future_hides_no_account() -> None:
    w = world()
    later = NOON + timedelta(days=3650)
    w.outcomes.rows[BARE] = [row(BARE, OutcomeStatus.RETRYING, updated_at=later)]
    w.outcomes.rows[HALF] = [row(HALF, OutcomeStatus.FAILED, updated_at=later)]

    w.sweep()

    assert w.requested() == [BARE, HALF]


def test_a_request_that_was_lost_is_repeated_although_the_queue_is_never_empty() -> None:
    w = world()
    w.sweep()
    for _ in range(5):
        w.clock.advance(86_400)
        w.sweep()

    assert w.requested().count(BARE) == 2


def test_a_removal_that_is_requested_is_not_requested_again() -> None:
    w = world(guardrails=with_removals(), removes=True)
    requested = PolicyOutcome(policy_id=B, result=AttachmentResult.REMOVAL_REQUESTED)
    done = row(COVERED, event_id="e", source="joinguard.sweep", policies=(requested,), updated_at=NOON)
    w.outcomes.rows[COVERED] = [attached(COVERED, A, B), done]

    assert w.sweep().with_excess == 0


def test_a_sweep_says_how_long_the_last_one_took_or_the_first_one_takes() -> None:
    w = begun(300)
    assert w.invoke(seconds=1).takes >= timedelta(seconds=300)
    w.sweep()
    w.clock.advance(300)

    swept = w.invoke()

    assert swept.last
    assert swept.takes == swept.last.decided_at - swept.last.begun_at
