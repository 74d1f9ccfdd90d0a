"""The Enforcer: the result of a message, and the calls that it costs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from handlers.core.errors import NotYetEffectiveError, PermanentError, RetryableError, fault
from schemas.outcome import AttachmentResult, OutcomeStatus
from tests.fakes import ACCOUNT, MANAGEMENT, POLICIES, World, joined, of_age
from tests.messages import moved, requested, tagged, untagged


def permanent(code: str = "PolicyNotFoundException") -> PermanentError:
    return PermanentError(fault(code, "no such policy"))


def transient(code: str = "TooManyRequestsException", *, soon: bool = True) -> RetryableError:
    return RetryableError(fault(code, "slow down"), soon=soon)


def test_a_first_join_costs_one_read_and_one_attachment_per_policy() -> None:
    world = World()

    handled = world.handle(joined())

    assert handled.status is OutcomeStatus.ENFORCED
    assert handled.seconds_to_guardrail == 5
    assert (world.steps.count("read"), world.steps.count("attach")) == (1, 2)
    assert world.attached() == set(POLICIES)


def test_intent_comes_before_effect_and_evidence_before_outcome() -> None:
    world = World()

    world.handle(joined())

    order = [step for step in world.steps.log if step != "pseudonym"]
    assert order == ["begin", "read", "intend", "attach", "attach", "announce", "record", "settle"]


def test_policies_are_attached_in_the_order_of_the_settings() -> None:
    world = World(policies=("p-bbbbbbbb", "p-aaaaaaaa"))

    world.handle(joined())

    assert world.organizations.attached[ACCOUNT] == ["p-FullAWSAccess", "p-bbbbbbbb", "p-aaaaaaaa"]


def test_another_event_of_the_same_join_costs_one_read() -> None:
    world = World()
    world.handle(joined())
    world.steps.log.clear()

    handled = world.handle(joined(event_id="event-2"))

    assert handled.status is OutcomeStatus.ENFORCED
    assert {policy.result for policy in handled.policies} == {AttachmentResult.ALREADY_ATTACHED}
    assert (world.steps.count("read"), world.steps.count("attach")) == (1, 0)
    assert len(world.archive.objects) == 2


def test_a_redelivery_of_an_enforced_event_makes_no_organizations_call_and_writes_no_evidence() -> None:
    world = World()
    world.handle(joined())
    world.steps.log.clear()

    handled = world.handle(joined())

    assert handled.status is OutcomeStatus.ENFORCED
    assert handled.seconds_to_guardrail is None
    assert set(world.steps.log) <= {"pseudonym", "begin"}
    assert len(world.archive.objects) == 1


def test_an_account_that_left_and_joined_again_is_new_work() -> None:
    world = World()
    world.handle(joined())
    world.organizations.attached[ACCOUNT] = ["p-FullAWSAccess"]

    handled = world.handle(joined(event_id="event-2"))

    assert handled.status is OutcomeStatus.ENFORCED
    assert world.attached() == set(POLICIES)


CHANGES = {"moved": moved, "tagged": tagged, "untagged": untagged}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_moved_or_tagged_account_is_read_once_and_gets_what_it_lacks(change: Callable[[], dict[str, Any]]) -> None:
    world = World()
    world.organizations.attached[ACCOUNT].append(POLICIES[0])

    handled = world.handle(of_age(5, change()))

    assert handled.status is OutcomeStatus.ENFORCED
    assert (world.steps.count("read"), world.steps.count("attach")) == (1, 1)
    assert world.attached() == set(POLICIES)
    assert (
        world.ledger.outcome("event-1").event_name == change()["detail"]["eventName"] == world.evidence()[0].event_name
    )
    world.steps.log.clear()
    assert world.handle(of_age(5, change())).status is OutcomeStatus.ENFORCED
    assert set(world.steps.log) <= {"pseudonym", "begin"}, "a redelivery makes no call"


def test_only_joins_count_for_the_time_from_join_to_guardrail() -> None:
    others = [*(of_age(5, change()) for change in CHANGES.values()), requested()]

    assert [World().handle(each).seconds_to_guardrail for each in others] == [None] * len(others)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_account_that_left_after_a_change_is_not_awaited_for_as_long_as_one_that_joined(
    change: Callable[[], dict[str, Any]],
) -> None:
    """Organizations knew it when it was changed, so it is not about to appear."""
    world = World()
    del world.organizations.attached[ACCOUNT]

    statuses = [world.handle(of_age(5, change()), receives=number).status for number in range(1, 5)]

    assert statuses == [*[OutcomeStatus.RETRYING] * 3, OutcomeStatus.FAILED]
    assert World().handle(joined("444444444444"), receives=4).status is OutcomeStatus.RETRYING


def test_tags_of_an_ou_are_ignored_without_a_call() -> None:
    world = World()

    handled = world.handle(of_age(5, tagged(resourceId="ou-exam-12345678")))

    assert handled.status is OutcomeStatus.IGNORED
    assert (world.steps.count("read"), world.steps.count("attach")) == (0, 0)
    assert world.dead_letters.dead_letters == []


def test_a_move_of_the_management_account_is_no_dead_letter() -> None:
    world = World()

    assert world.handle(of_age(5, moved(accountId=MANAGEMENT))).status is OutcomeStatus.IGNORED
    assert world.dead_letters.dead_letters == []


def test_a_policy_that_fails_does_not_keep_the_others_from_being_attached() -> None:
    world = World()
    world.steps.fail("attach", permanent())

    handled = world.handle(joined())

    assert handled.status is OutcomeStatus.FAILED
    assert world.attached() == {POLICIES[1]}
    assert [policy.result for policy in handled.policies] == [AttachmentResult.FAILED, AttachmentResult.ATTACHED]
    [(message, reason)] = world.dead_letters.dead_letters
    assert reason.code == "PolicyNotFoundException"
    assert POLICIES[0] in reason.message
    assert message.message_id == "message-1"
    assert world.inbox.postponed == []


@pytest.mark.parametrize("call", ["read", "attach"])
def test_a_permission_or_policy_that_is_not_effective_yet_is_retried_in_the_first_receives(call: str) -> None:
    world = World()
    denied = NotYetEffectiveError(fault("AccessDeniedException", "not allowed"))
    statuses = []
    for receives in range(1, 5):
        world.steps.fail(call, *[denied] * len(POLICIES if call == "attach" else ("read",)))
        statuses.append(world.handle(joined(), receives=receives).status)

    assert statuses == [*[OutcomeStatus.RETRYING] * 3, OutcomeStatus.FAILED]
    assert [reason.code for _, reason in world.dead_letters.dead_letters] == ["AccessDeniedException"]


def test_a_worker_that_observes_reads_and_records_what_it_would_attach_and_attaches_nothing() -> None:
    world = World(attach_to="none")
    world.organizations.attached[ACCOUNT].append(POLICIES[0])

    handled = world.handle(joined())

    assert handled.status is OutcomeStatus.OBSERVED
    expected = [(POLICIES[0], "ALREADY_ATTACHED"), (POLICIES[1], "WOULD_ATTACH")]
    assert [(each.policy_id, each.result) for each in handled.policies] == expected
    assert handled.seconds_to_guardrail is None
    assert (world.steps.count("read"), world.steps.count("attach"), world.steps.count("intend")) == (1, 0, 0)
    assert world.organizations.changes == []
    [evidence] = world.evidence()
    assert evidence.status is OutcomeStatus.OBSERVED
    assert [(each.policy_id, each.result) for each in evidence.policies] == expected
    assert world.ledger.outcome("event-1").status is OutcomeStatus.OBSERVED
    assert world.dead_letters.dead_letters == []


def test_an_account_that_carries_everything_is_observed_too_where_nothing_is_attached() -> None:
    world = World(attach_to="none")
    world.organizations.attached[ACCOUNT] += POLICIES

    assert world.handle(joined()).status is OutcomeStatus.OBSERVED


@pytest.mark.parametrize(("attach_to", "attached"), [(ACCOUNT, set(POLICIES)), ("333333333333", set[str]())])
def test_a_worker_that_is_limited_to_accounts_attaches_to_these_alone(attach_to: str, attached: set[str]) -> None:
    world = World(attach_to=attach_to)

    handled = world.handle(joined())

    assert world.attached() == attached
    assert handled.status is (OutcomeStatus.ENFORCED if attached else OutcomeStatus.OBSERVED)


def test_an_observed_event_that_comes_again_is_enforced_by_a_worker_that_attaches() -> None:
    world = World(attach_to="none")
    world.handle(joined())
    world.deploy(attach_to="all")

    handled = world.handle(joined())

    assert handled.status is OutcomeStatus.ENFORCED
    assert world.attached() == set(POLICIES)


def test_an_attachment_whose_answer_was_lost_is_claimed_by_the_attempt_that_only_observes() -> None:
    world = World()
    lost = RetryableError(fault("Cut", "no answer"), ambiguous=True)
    world.steps.fail("attach", lost, RetryableError(fault("Cut", "not sent")))
    world.handle(joined())
    world.deploy(attach_to="none")

    handled = world.handle(joined(), receives=2)

    assert handled.status is OutcomeStatus.OBSERVED
    assert [each.result for each in handled.policies] == [AttachmentResult.ATTACHED, AttachmentResult.WOULD_ATTACH]
    assert len(world.organizations.changes) == 1


def test_an_account_that_cannot_be_read_fails_where_the_worker_only_observes() -> None:
    world = World(attach_to="none")

    handled = world.handle(joined("444444444444", age=3600))

    assert handled.status is OutcomeStatus.FAILED
    assert [reason.code for _, reason in world.dead_letters.dead_letters] == ["TargetNotFoundException"]


def test_an_event_with_a_transient_and_a_permanent_failure_is_retried() -> None:
    world = World()
    world.steps.fail("attach", permanent(), transient(soon=False))

    handled = world.handle(joined())

    assert handled.status is OutcomeStatus.RETRYING
    assert handled.fault is not None
    assert handled.fault.code == "TooManyRequestsException"
    assert world.dead_letters.dead_letters == []
    assert len(world.inbox.postponed) == 1


def test_transient_failures_are_retried_while_there_is_time() -> None:
    world = World()
    world.steps.fail("read", transient(), transient())
    world.steps.fail("attach", transient(), transient(), transient())

    handled = world.handle(joined())

    assert handled.status is OutcomeStatus.ENFORCED
    assert handled.retried_calls == 5
    assert 0 < sum(world.clock.slept) < 60


def test_an_event_that_still_fails_at_the_end_of_its_time_is_delivered_again() -> None:
    world = World()
    world.steps.fail("read", *[transient()] * 500)

    handled = world.handle(joined(), seconds=20)

    assert handled.status is OutcomeStatus.RETRYING
    assert sum(world.clock.slept) <= 12
    assert world.archive.objects == {}
    assert world.ledger.outcome("event-1").status is OutcomeStatus.RETRYING


@pytest.mark.parametrize(("receives", "least", "most"), [(1, 15, 30), (2, 30, 60), (3, 60, 120), (5, 240, 480)])
def test_a_message_stays_invisible_longer_after_each_receive(receives: int, least: int, most: int) -> None:
    world = World()
    world.steps.fail("read", transient(soon=False))

    handled = world.handle(joined(), receives=receives)

    [seconds] = world.inbox.postponed
    assert least <= seconds <= most
    assert handled.again_in == seconds


def test_an_unknown_account_is_retried_while_the_event_is_young() -> None:
    world = World()
    del world.organizations.attached[ACCOUNT]

    young_result = world.handle(joined(age=29 * 60))
    old = World()
    del old.organizations.attached[ACCOUNT]
    old_result = old.handle(joined(age=31 * 60))

    assert young_result.status is OutcomeStatus.RETRYING
    assert world.dead_letters.dead_letters == []
    assert old_result.status is OutcomeStatus.FAILED
    assert old.dead_letters.dead_letters[0][1].code == "TargetNotFoundException"


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (joined(parties=[], resources=[{"type": "ORGANIZATION", "value": "o-someoneelse"}]), "WRONG_ORGANIZATION"),
        (joined(MANAGEMENT), "MANAGEMENT_ACCOUNT"),
    ],
    ids=["another organization", "the management account"],
)
def test_joins_of_another_organization_or_the_management_account_fail(event: dict[str, object], code: str) -> None:
    world = World()

    handled = world.handle(event)

    assert handled.status is OutcomeStatus.FAILED
    assert (world.steps.count("read"), world.steps.count("attach")) == (0, 0)
    assert world.dead_letters.dead_letters[0][1].code == code
    assert world.ledger.outcome("event-1").status is OutcomeStatus.FAILED
    assert [evidence.status for evidence in world.evidence()] == [OutcomeStatus.FAILED]


def test_an_event_that_is_not_a_join_is_ignored_and_has_evidence_once() -> None:
    world = World()
    event = joined(action="ENABLE_ALL_FEATURES")

    handled = world.handle(event)
    again = world.handle(event)

    assert handled.status is again.status is OutcomeStatus.IGNORED
    assert handled.fault is not None
    assert "ENABLE_ALL_FEATURES" in handled.fault.message
    assert [evidence.status for evidence in world.evidence()] == [OutcomeStatus.IGNORED]
    assert world.steps.count("read") == 0


def test_an_unreadable_message_is_sent_to_the_dead_letters_with_its_body() -> None:
    world = World()

    handled = world.handle("{not json")

    assert handled.status is OutcomeStatus.FAILED
    [(message, reason)] = world.dead_letters.dead_letters
    assert (message.body, reason.code) == ("{not json", "INVALID_EVENT")
    assert world.steps.log == ["send"]


@pytest.mark.parametrize("broken", ["begin", "intend", "record", "settle", "send", "pseudonym"])
def test_an_event_whose_records_cannot_be_written_is_retried_until_it_is_enforced(broken: str) -> None:
    world = World()
    if broken == "send":
        world.steps.fail("attach", permanent())
    world.steps.fail(broken, transient("Service.Down", soon=False))

    first = world.handle(joined())
    world.clock.advance(120)
    second = world.handle(joined(), receives=2)

    assert first.status is OutcomeStatus.RETRYING
    assert len(world.inbox.postponed) == 1
    assert second.status is OutcomeStatus.ENFORCED
    assert world.attached() == set(POLICIES)
    assert world.ledger.outcome("event-1").intents == {}


def test_a_message_whose_visibility_cannot_be_set_is_retried() -> None:
    world = World()
    world.steps.fail("read", transient(soon=False))
    world.steps.fail("postpone", transient())

    handled = world.handle(joined())

    assert (handled.status, handled.again_in) == (OutcomeStatus.RETRYING, None)


def test_a_record_that_cannot_finish_in_the_time_left_is_not_started() -> None:
    world = World()

    handled = world.handle(joined(), seconds=11)

    assert handled.status is OutcomeStatus.RETRYING
    assert handled.fault is not None
    assert handled.fault.code == "OUT_OF_TIME"
    assert world.steps.log == ["postpone"]
    assert world.inbox.postponed == [0]


def test_an_event_whose_lease_another_worker_holds_is_not_handled() -> None:
    world = World()
    world.steps.fail("settle", transient(soon=False))
    world.handle(joined())

    handled = world.handle(joined(), receives=2)

    assert handled.fault is not None
    assert handled.fault.code == "ATTEMPT_IN_PROGRESS"
    assert world.steps.count("read") == 1


def test_a_redriven_failure_is_attempted_again_and_can_be_enforced() -> None:
    world = World()
    world.steps.fail("attach", permanent())
    world.handle(joined())

    handled = world.handle(joined())

    assert handled.status is OutcomeStatus.ENFORCED
    assert [evidence.status for evidence in world.evidence()] == [OutcomeStatus.FAILED, OutcomeStatus.ENFORCED]
    assert world.ledger.outcome("event-1").attempts == 2


def test_results_and_evidence_have_no_account_id_email_address_or_arn() -> None:
    world = World()
    leak = f"arn:aws:sts::{MANAGEMENT}:assumed-role/x/y a@example.com: {ACCOUNT} is odd"
    world.steps.fail("attach", PermanentError(fault("AccessDeniedException", leak, leak)))

    handled = world.handle(joined())

    texts = [
        repr(handled),
        *[evidence.model_dump_json() for evidence in world.evidence()],
        *map(repr, world.archive.objects),
    ]
    for text in texts:
        assert not re.search(r"\b[0-9]{12}\b", text)
        assert "arn:" not in text
        assert "@example" not in text
