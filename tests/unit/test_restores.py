"""When the worker stops putting a policy back: never too late, never too early, and not for ever."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.errors import NotYetEffectiveError, RetryableError, fault
from handlers.core.guardrails.facts import Facts, Unknown
from handlers.core.guardrails.limits import FEW
from handlers.core.guardrails.pauses import KnownPauses
from handlers.core.joins.claims import claims_of
from handlers.core.joins.restores import STABLE, Observation, Seen, restores_since_stable
from handlers.core.joins.run import FIRST_RECEIVES
from handlers.core.timing import Budget
from infra.local.events import policy_detached
from schemas.outcome import AttachmentResult, OutcomeStatus
from schemas.pause import Pause
from schemas.pseudonym import Pseudonym
from tests.fakes import ACCOUNT, MANAGEMENT, NOON, POLICIES, Killed, World, joined, message
from tests.messages import requested
from tests.removals import BASE, REGIONS, TwoWorkers
from tests.unit.test_crash import AFTER_THE_LEASE, kill

if TYPE_CHECKING:
    from handlers.core.joins.worker import Handled

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
FIRST, SECOND = POLICIES
ENFORCED, FAILED, IGNORED = OutcomeStatus.ENFORCED, OutcomeStatus.FAILED, OutcomeStatus.IGNORED
MAX_RESTORES = 3


class Guarded(World):
    """An account that carries its policies, and what happens to them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.handle(joined())
        self.number = 0

    def detach(self, policy_id: str = FIRST, *, by: str = "someone") -> dict[str, Any]:
        """Detach a policy as others do; return the event."""
        self.organizations.attached[ACCOUNT].remove(policy_id)
        return self.event(policy_id, by=by)

    def event(self, policy_id: str = FIRST, *, by: str = "someone") -> dict[str, Any]:
        self.number += 1
        event = policy_detached(ACCOUNT, MANAGEMENT, policy_id, by=by)
        detail = {"eventID": f"detach-{self.number}", "eventTime": self.clock.now().isoformat()}
        return event | {"detail": event["detail"] | detail}

    def sweep(self) -> Handled:
        """Handle a request of the sweep."""
        self.number += 1
        request = requested(source="joinguard.sweep", event_id=f"sweep-{self.number}")
        return self.receive(request | {"requested_at": self.clock.now().isoformat()})

    def receive(self, event: dict[str, Any], *, receives: int = 1, redrives: int = 0) -> Handled:
        """Deliver an event now."""
        budget = Budget(self.clock, milliseconds=60_000, records=1)
        attributes = {"REDRIVES": {"DataType": "Number", "StringValue": str(redrives)}} if redrives else {}
        made = message(event, receives=receives)
        object.__setattr__(made, "sent_at", self.clock.now())
        object.__setattr__(made, "attributes", attributes)
        return self.enforcer.handle(made, budget)

    def after(self, time: timedelta) -> None:
        self.clock.advance(time.total_seconds())

    def restores(self, policy_id: str = FIRST) -> int:
        """Return how often a policy was attached, without the first time."""
        return [policy for _, policy, _ in self.organizations.changes].count(policy_id) - 1


def code_of(handled: Handled, policy_id: str = FIRST) -> str | None:
    return next((each.fault.code for each in handled.policies if each.policy_id == policy_id and each.fault), None)


def stopped(world: Guarded) -> Handled:
    """Detach a policy until it is left off; return the result of the last event."""
    handled = world.receive(world.detach())
    for _ in range(MAX_RESTORES):
        world.after(MINUTE)
        handled = world.receive(world.detach())
    return handled


# What the worker does


def test_a_policy_that_was_detached_is_put_back_at_once() -> None:
    world = Guarded()
    world.after(DAY)

    handled = world.receive(world.detach())

    assert handled.status is ENFORCED
    assert world.attached() == set(POLICIES)
    assert handled.restored == 1
    outcome, evidence = world.ledger.outcome("detach-1"), world.archive.objects[handled.evidence_key or ""]
    assert outcome.called
    assert outcome.called == evidence.called
    assert outcome.called.policy_id == FIRST
    assert outcome.called.principal
    assert outcome.called.principal.value.startswith("prin-")
    assert "someone" not in evidence.model_dump_json()


def test_a_policy_that_is_detached_again_and_again_is_left_off_and_the_reason_names_who() -> None:
    world = Guarded()

    handled = stopped(world)

    assert handled.status is FAILED
    assert code_of(handled) == "RESTORES_STOPPED"
    assert world.restores() == MAX_RESTORES
    assert world.attached() == {SECOND}
    [(_, why)] = world.dead_letters.dead_letters
    principal = world.ledger.outcome("detach-4").called
    assert principal
    assert principal.principal
    assert why.code == "RESTORES_STOPPED"
    assert "put back 3 times since 2026-11-24T12:00Z" in why.message
    assert f"by {principal.principal.value}, event detach-4" in why.message


def test_other_policies_of_the_account_are_attached_all_the_same() -> None:
    world = Guarded()
    stopped(world)
    world.after(MINUTE)

    handled = world.receive(world.detach(SECOND))

    assert world.attached() == {SECOND}
    assert {each.policy_id: each.result for each in handled.policies}[SECOND] is AttachmentResult.ATTACHED
    assert code_of(handled) == "RESTORES_STOPPED"


def test_the_sweep_counts_as_an_event_does() -> None:
    world = Guarded()
    for _ in range(MAX_RESTORES):
        world.detach()
        world.after(MINUTE)
        assert world.sweep().status is ENFORCED
    lost = world.detach(by="a controller")

    assert code_of(world.sweep()) == "RESTORES_STOPPED"
    assert code_of(world.receive(lost)) == "RESTORES_STOPPED"
    assert "no event says who" in world.dead_letters.dead_letters[0][1].message
    world.after(MINUTE)
    assert "detached last by prin-" in (world.sweep().fault or fault("", "")).message


def test_while_it_is_left_off_it_stays_so_however_long() -> None:
    world = Guarded()
    stopped(world)

    for days in (1, 30, 300):
        world.after(days * DAY)
        assert code_of(world.sweep()) == "RESTORES_STOPPED"

    assert world.restores() == MAX_RESTORES


def test_a_policy_that_stayed_for_a_stable_period_begins_anew() -> None:
    world = Guarded()
    for _ in range(MAX_RESTORES):
        world.receive(world.detach())
        world.after(MINUTE)
    world.after(STABLE)

    assert world.receive(world.detach()).status is ENFORCED
    assert world.restores() == MAX_RESTORES + 1


def test_an_event_that_arrives_late_does_not_make_a_period_stable() -> None:
    world = Guarded()
    for _ in range(MAX_RESTORES):
        world.receive(world.detach())
        world.after(MINUTE)
    late = world.detach()
    world.after(STABLE)

    assert code_of(world.receive(late)) == "RESTORES_STOPPED"


def test_after_a_stable_period_the_whole_count_is_allowed_again() -> None:
    world = Guarded()
    for _ in range(2):
        for _ in range(MAX_RESTORES):
            assert world.receive(world.detach()).status is ENFORCED
            world.after(MINUTE)
        world.after(STABLE)
    assert world.receive(world.detach()).status is ENFORCED
    for _ in range(MAX_RESTORES - 1):
        world.after(MINUTE)
        assert world.receive(world.detach()).status is ENFORCED
    world.after(MINUTE)

    assert code_of(world.receive(world.detach())) == "RESTORES_STOPPED"


def test_a_restore_that_came_late_does_not_make_the_period_before_it_stable() -> None:
    world = Guarded()
    for _ in range(MAX_RESTORES - 1):
        world.receive(world.detach())
        world.after(MINUTE)
    late = world.detach()
    world.after(STABLE)
    assert world.receive(late).status is ENFORCED
    world.after(MINUTE)

    assert code_of(world.receive(world.detach())) == "RESTORES_STOPPED"


def test_an_operator_who_redrives_the_message_decides_and_the_count_stays() -> None:
    world = Guarded()
    stopped(world)
    [(dead, _)] = world.dead_letters.dead_letters
    event = json.loads(dead.body)
    world.after(MINUTE)

    assert world.receive(event, redrives=1).status is ENFORCED
    assert world.attached() == set(POLICIES)
    world.after(MINUTE)
    assert code_of(world.receive(world.detach())) == "RESTORES_STOPPED", "it is left off at once"


def test_an_operators_own_request_is_not_asked_for_either() -> None:
    world = Guarded()
    stopped(world)

    handled = world.receive(requested(event_id="operator-1", requested_at=world.clock.now().isoformat()))

    assert handled.status is ENFORCED
    assert world.attached() == set(POLICIES)


def test_a_policy_that_joinguard_never_attached_is_attached_without_a_count() -> None:
    world = World()
    sweep = requested(source="joinguard.sweep", requested_at=NOON.isoformat())

    handled = world.handle(sweep)

    assert (handled.status, handled.restored) == (ENFORCED, 0)
    assert "member" not in world.steps.log


def test_an_account_that_came_back_begins_anew() -> None:
    world = Guarded()
    stopped(world)
    world.after(MINUTE)
    world.organizations.joined_at[ACCOUNT] = world.clock.now()
    world.after(MINUTE)

    assert world.sweep().status is ENFORCED
    assert world.attached() == set(POLICIES)


def test_nothing_is_put_back_while_it_is_not_known_how_often() -> None:
    world = Guarded()
    event = world.detach()
    world.steps.fail("member", RetryableError(fault("ServiceException", "down")))

    assert world.receive(event).status is OutcomeStatus.RETRYING
    assert world.attached() == {SECOND}
    assert world.receive(event, receives=2).status is ENFORCED


def test_a_made_up_claim_keeps_no_policy_off() -> None:
    world = Guarded()
    forged = claims_of(ACCOUNT, {FIRST: NOON}, AttachmentResult.ATTACHED, world.enforcer.dependencies.pseudonyms)
    for number in range(9):
        world.receive(world.event())
        row = world.ledger.rows[ACCOUNT, f"detach-{number + 1}"]
        row["claims"] = {FIRST: forged[FIRST].model_copy(update={"seal": "0" * 64})}

    assert world.receive(world.detach()).status is ENFORCED


def test_an_event_that_comes_again_waits_for_the_event_of_the_next_loss_and_then_counts_it_itself() -> None:
    """The policy is gone again while the message waits because of another policy."""
    world = Guarded()
    world.organizations.attached[ACCOUNT].remove(SECOND)
    event = world.detach()
    world.steps.fail("attach", None, RetryableError(fault("FinalizingOrganizationException", "wait")))
    assert world.receive(event).status is OutcomeStatus.RETRYING
    world.organizations.attached[ACCOUNT].remove(FIRST)

    assert code_of(world.receive(event, receives=2)) == "GONE_AGAIN"
    assert world.receive(event, receives=FIRST_RECEIVES + 1).status is ENFORCED
    assert world.restores() == 2


def test_an_event_that_comes_again_is_stopped_as_others_are() -> None:
    world = Guarded()
    for _ in range(MAX_RESTORES - 1):
        assert world.receive(world.detach()).status is ENFORCED
    world.organizations.attached[ACCOUNT].remove(SECOND)
    event = world.detach()
    world.steps.fail("attach", None, RetryableError(fault("FinalizingOrganizationException", "wait")))
    assert world.receive(event).status is OutcomeStatus.RETRYING
    world.organizations.attached[ACCOUNT].remove(FIRST)

    assert code_of(world.receive(event, receives=FIRST_RECEIVES + 1)) == "RESTORES_STOPPED"


def test_what_our_own_worker_removed_is_ignored_without_a_call_to_organizations() -> None:
    world = TwoWorkers()
    world.join()
    world.retire()
    world.remove()
    event = policy_detached(ACCOUNT, MANAGEMENT, REGIONS)
    event["detail"] |= {"eventID": "detach-1", "eventTime": NOON.isoformat()}
    world.steps.log.clear()

    handled = world.handle(event)

    assert handled.status is IGNORED
    assert handled.fault
    assert handled.fault.code == "REMOVED_BY_US"
    assert not {"read", "tags", "describe", "member"} & set(world.steps.log)


def test_a_removal_that_is_not_recorded_yet_is_waited_for() -> None:
    world = TwoWorkers()
    world.join()
    world.retire()
    world.steps.fail("record", RetryableError(fault("S3.SlowDown", "later")))
    world.remove()
    event = policy_detached(ACCOUNT, MANAGEMENT, REGIONS)
    event["detail"] |= {"eventID": "detach-1", "eventTime": NOON.isoformat()}

    assert world.handle(event).status is OutcomeStatus.RETRYING
    world.remove(receives=2)
    assert world.handle(event, receives=2).status is IGNORED


def test_a_detached_policy_requests_no_removal() -> None:
    world = TwoWorkers()
    world.join()
    world.tag(environment="test")
    world.organizations.attached[ACCOUNT].remove(BASE)
    event = policy_detached(ACCOUNT, MANAGEMENT, BASE)
    event["detail"] |= {"eventID": "detach-1", "eventTime": NOON.isoformat()}

    assert world.handle(event).status is ENFORCED
    assert BASE in world.attached()
    assert not world.removals.bodies


def test_a_policy_that_is_not_in_the_guardrails_is_nothing_of_ours() -> None:
    world = Guarded()
    world.steps.log.clear()

    handled = world.receive(world.event("p-foreign1"))

    assert handled.status is IGNORED
    assert handled.fault
    assert handled.fault.code == "NOT_GUARDED"
    assert "read" not in world.steps.log


def test_an_answer_of_aws_that_is_older_than_the_event_is_not_believed_at_first() -> None:
    world = Guarded()
    world.after(MINUTE)
    event = world.event()

    assert world.receive(event).status is OutcomeStatus.RETRYING
    world.organizations.attached[ACCOUNT].remove(FIRST)
    assert world.receive(event, receives=2).status is ENFORCED
    assert world.attached() == set(POLICIES)


def test_a_policy_that_somebody_else_attached_again_is_accepted_after_the_first_receives() -> None:
    world = Guarded()

    assert world.receive(world.event(), receives=FIRST_RECEIVES + 1).status is ENFORCED


def test_a_policy_that_another_event_put_back_is_believed_at_once() -> None:
    world = Guarded()
    event = world.detach()
    world.after(MINUTE)
    world.sweep()

    assert world.receive(event).status is ENFORCED
    assert world.restores() == 1


def test_a_stage_that_only_observes_says_what_it_would_put_back() -> None:
    world = Guarded()
    world.deploy(attach_to="none")
    world.after(MINUTE)

    listed = world.receive(world.event())
    gone = world.receive(world.detach())

    assert listed.status is gone.status is OutcomeStatus.OBSERVED
    assert listed.fault is None
    assert [each.result for each in gone.policies if each.policy_id == FIRST] == [AttachmentResult.WOULD_ATTACH]
    assert world.restores() == 0


def test_a_refused_attachment_is_no_restore() -> None:
    world = Guarded()
    event = world.detach()
    world.steps.fail("attach", NotYetEffectiveError(fault("AccessDeniedException", "no")))

    assert world.receive(event, receives=FIRST_RECEIVES + 1).restored == 0


# The state machine


def test_the_first_attachment_restores_nothing() -> None:
    first = Observation(NOON, Seen.ATTACHED, restores=True)

    assert restores_since_stable([first], NOON + DAY) == ()


def test_a_moment_before_the_period_is_over_the_count_stays() -> None:
    seen = [Observation(NOON, Seen.ATTACHED), Observation(NOON + DAY, Seen.ATTACHED, restores=True)]

    assert restores_since_stable(seen, NOON + DAY + STABLE - MINUTE) == (NOON + DAY,)
    assert restores_since_stable(seen, NOON + DAY + STABLE) == ()


def test_a_policy_that_others_attached_begins_a_period() -> None:
    attached = [Observation(NOON, Seen.ATTACHED), Observation(NOON + DAY, Seen.ATTACHED, restores=True)]
    seen = [*attached, Observation(NOON + 2 * DAY, Seen.MISSING), Observation(NOON + 3 * DAY, Seen.PRESENT)]

    assert restores_since_stable(seen, NOON + 3 * DAY + STABLE - MINUTE) == (NOON + DAY,)
    assert restores_since_stable(seen, NOON + 3 * DAY + STABLE) == ()


moments = st.integers(1, 6 * 24 * 60).map(lambda minutes: timedelta(minutes=minutes))


@dataclass
class Fight:
    """A controller that detaches the policy each time, and the queue."""

    world: Guarded
    #: Whether a sweep runs every six hours.
    sweeps: bool
    #: All events of the controller, and those that are late.
    events: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(default_factory=list)

    def round(self, delay: timedelta, how: str, again: list[int]) -> None:
        """Let the controller detach the policy if it is attached, and some time pass."""
        if FIRST in self.world.attached():
            self.world.after(delay)
            self._detach(how)
        self.world.after(timedelta(hours=6))
        if self.sweeps:
            self.world.sweep()
        for number in again if self.events else ():
            self.world.receive(self.events[number % len(self.events)])
        if how != "late":
            for each in self.waiting:
                self.world.receive(each, receives=FIRST_RECEIVES + 1)
            self.waiting.clear()

    def _detach(self, how: str) -> None:
        event = self.world.detach(by="a controller")
        self.events.append(event)
        if how == "late":
            self.waiting.append(event)
        elif how == "at once":
            self.world.receive(event)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            # When it is detached after it was attached: less than a stable period.
            moments,
            # Whether the event arrives.
            st.sampled_from(["at once", "late", "lost"]),
            # Which earlier events come again.
            st.lists(st.integers(0, 40), max_size=2),
        ),
        min_size=5,
        max_size=10,
    ),
    st.booleans(),
)
def test_a_fighting_controller_ends_in_a_stop_and_not_in_a_loop(
    rounds: list[tuple[timedelta, str, list[int]]],
    sweeps: bool,  # noqa: FBT001 - drawn by Hypothesis
) -> None:
    fight = Fight(Guarded(), sweeps)

    for delay, how, again in rounds:
        fight.round(delay, how, again)
        assert fight.world.restores() <= MAX_RESTORES

    if len(rounds) > MAX_RESTORES and sweeps:
        assert fight.world.restores() == MAX_RESTORES, "it is put back until then"
        assert FIRST not in fight.world.attached()
        for _ in range(3):
            fight.world.after(30 * DAY)
            assert code_of(fight.world.sweep()) == "RESTORES_STOPPED"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(7 * 24 * 60, 60 * 24 * 60), st.booleans()), min_size=4, max_size=12))
def test_a_policy_that_is_lost_now_and_then_is_put_back_each_time(losses: list[tuple[int, bool]]) -> None:
    """Whether an event reports the loss, or only the sweep finds it."""
    world = Guarded()
    for minutes, is_reported in losses:
        world.after(timedelta(minutes=minutes))
        event = world.detach()
        world.after(MINUTE)
        handled = world.receive(event) if is_reported else world.sweep()

        assert handled.status is ENFORCED
        assert world.attached() == set(POLICIES)


# Crashes

#: The calls of one restore: pseudonym, begin, outcomes, read, member, intend, attach, pseudonym, announce, record,
#: settle.
CALLS = 13


def lost() -> tuple[Guarded, dict[str, Any]]:
    """Return an account that lost a policy twice, and the event of the second time."""
    world = Guarded()
    world.after(MINUTE)
    world.receive(world.detach())
    world.after(MINUTE)
    event = world.detach()
    world.steps.log.clear()
    return world, event


def test_the_tests_below_kill_every_call_of_a_restore() -> None:
    world, event = lost()
    world.receive(event)

    assert len(world.steps.log) == CALLS


@pytest.mark.parametrize(("call", "when"), list(product(range(1, CALLS + 1), ("before", "after"))))
def test_a_restore_that_is_killed_at_any_point_is_repaired_and_counted_once(call: int, when: str) -> None:
    world, event = lost()
    kill(world, call, when)
    with suppress(Killed):
        world.receive(event)
    world.steps.on_call = lambda _name, _when: None
    world.after(timedelta(seconds=AFTER_THE_LEASE))

    world.receive(event, receives=2)

    outcome = world.ledger.outcome("detach-2")
    assert outcome.status is ENFORCED
    assert outcome.evidence_key in world.archive.objects
    assert world.restores() == 2
    world.after(MINUTE)
    assert world.receive(world.detach()).status is ENFORCED, "two of three"
    world.after(MINUTE)
    assert code_of(world.receive(world.detach())) == "RESTORES_STOPPED"


# Pauses


def paused(scope: str) -> KnownPauses:
    """Return a pause that ends an hour after noon."""
    pause = Pause(
        id="pause-1",
        scope=scope,
        owner="the network team",
        begun_at=NOON - timedelta(hours=1),
        until=NOON + timedelta(hours=1),
        reason="they fight",
        actor=Pseudonym(value=f"prin-{'0' * 32}", key_version="1"),
        actor_id="AROA",
        act_id="act-1",
    )
    return KnownPauses((pause,))


@pytest.mark.parametrize("scope", ["organization", ACCOUNT])
def test_nothing_is_put_back_while_the_account_is_paused_and_after_that_the_sweep_does(scope: str) -> None:
    w = Guarded()
    w.pauses.known = paused(scope)

    handled = w.receive(w.detach())

    assert (handled.status, handled.fault and handled.fault.code) == (IGNORED, "PAUSED")
    assert FIRST not in w.attached()
    assert w.sweep().status is IGNORED
    w.clock.advance(3600)
    assert w.sweep().status is ENFORCED
    assert FIRST in w.attached()


@pytest.mark.parametrize(
    ("ous", "is_paused"),
    [(("r-root", "ou-root-prod0000", "ou-root-web00000"), True), (("r-root",), False), (Unknown.UNREADABLE, True)],
)
def test_a_pause_of_an_ou_holds_below_it_and_where_the_ou_is_not_known(ous: Any, *, is_paused: bool) -> None:
    w = Guarded()
    w.organizations.facts[ACCOUNT] = Facts(ACCOUNT, ous=ous)
    w.pauses.known = paused("ou-root-prod0000")

    handled = w.receive(w.detach())

    assert (handled.status is IGNORED) is is_paused
    assert (FIRST in w.attached()) is not is_paused


def test_joins_are_handled_although_everything_is_paused() -> None:
    w = World()
    w.pauses.known = paused("organization")

    assert w.handle(joined()).status is ENFORCED
    assert w.steps.count("pauses") == 0


def test_what_an_operator_sends_back_is_attached_although_the_account_is_paused() -> None:
    w = Guarded()
    w.pauses.known = paused(ACCOUNT)

    handled = w.receive(w.detach(), redrives=1)

    assert handled.status is ENFORCED


def test_nothing_is_put_back_while_the_pauses_cannot_be_read() -> None:
    w = Guarded()
    w.steps.fail("pauses", RetryableError(fault("DynamoDB.Broken", "no answer")))
    event = w.detach()

    assert w.receive(event).status is OutcomeStatus.RETRYING
    assert FIRST not in w.attached()
    w.clock.advance(AFTER_THE_LEASE)
    assert w.receive(event).status is ENFORCED


# Many accounts at once


def test_after_many_accounts_lost_policies_on_one_day_a_person_decides() -> None:
    w = Guarded()
    w.restore_limit.counted[NOON.date()] = {str(number) for number in range(FEW)}

    handled = w.receive(w.detach())

    assert code_of(handled) == "RESTORES_HALTED"
    assert FIRST not in w.attached()
    [(_, why)] = w.dead_letters.dead_letters
    assert why.code == "RESTORES_HALTED"


def test_what_an_operator_sends_back_is_attached_although_many_accounts_lost_policies() -> None:
    w = Guarded()
    w.restore_limit.counted[NOON.date()] = {str(number) for number in range(FEW)}

    assert w.receive(w.detach(), redrives=1).status is ENFORCED


def test_an_account_counts_once_a_day_however_many_policies_it_lost() -> None:
    w = Guarded()
    w.restore_limit.counted[NOON.date()] = {str(number) for number in range(FEW - 1)}

    assert w.receive(w.detach()).status is ENFORCED
    assert w.receive(w.detach(SECOND)).status is ENFORCED


def test_the_sweep_decides_for_itself_how_much_is_too_much() -> None:
    w = Guarded()
    w.restore_limit.counted[NOON.date()] = {str(number) for number in range(FEW)}
    w.detach()

    assert w.sweep().status is ENFORCED


def test_a_join_is_attached_although_many_accounts_lost_policies() -> None:
    w = World()
    w.restore_limit.counted[NOON.date()] = {str(number) for number in range(FEW)}

    assert w.handle(joined()).status is ENFORCED


def test_an_event_that_comes_again_after_the_account_left_and_came_back_puts_the_policy_back() -> None:
    w = Guarded()
    event = w.detach()
    w.steps.fail("record", RetryableError(fault("S3.Broken", "no answer")))
    assert w.receive(event).status is OutcomeStatus.RETRYING
    w.clock.advance(AFTER_THE_LEASE)
    w.organizations.attached[ACCOUNT] = ["p-FullAWSAccess"]
    w.organizations.joined_at[ACCOUNT] = w.clock.now()

    for receives in range(2, 6):
        w.clock.advance(AFTER_THE_LEASE)
        handled = w.receive(event, receives=receives)

    assert handled.status is ENFORCED
    assert w.attached() == set(POLICIES)


def test_a_policy_that_we_removed_ourselves_is_no_loss() -> None:
    removed = [Observation(NOON + DAY * day, seen) for day, seen in enumerate([Seen.ATTACHED, Seen.REMOVED] * 5)]
    back = Observation(NOON + DAY * 10, Seen.ATTACHED, restores=True)

    assert restores_since_stable([*removed, back], NOON + DAY * 11) == ()
