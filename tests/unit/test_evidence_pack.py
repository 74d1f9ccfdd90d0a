"""The data of an evidence pack, from histories with joins, failures, drift, gaps, and records that are missing."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.core.errors import RetryableError, fault
from handlers.core.evidence.pack.controls import CONTROLS
from handlers.core.guardrails.reading import GUARDRAILS_KEY
from handlers.operate.__main__ import cli
from handlers.operate.errors import OperateError
from handlers.operate.pack.gather import Request, gather
from handlers.operate.pack.sealed import Verify
from handlers.operate.pack.sections import sections
from handlers.operate.pack.words import answers, verdict
from handlers.operate.planning import read_guardrails
from infra.deploy.build import ROOT
from schemas.compiled_guardrails import CompiledException, CompiledGuardrails, CompiledPolicy, CompiledRule
from schemas.outcome import AttachmentResult, Fault, Outcome, OutcomeStatus
from schemas.pack import ChangeKind, FailureEnd, MemberState, NoProof, Pack, Period, WrongEvidence
from schemas.sealed import ObjectKind
from tests.fakes import ACCOUNT, MANAGEMENT, POLICIES
from tests.histories import History, at, quarter

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.pack import Member

QUARTER = Period(first=date(2026, 7, 1), last=date(2026, 9, 30))
OTHER = "333333333333"


def pack_of(history: History, *, of: Period = QUARTER, **options: Any) -> Pack:
    request = Request(
        folder=Path("unused"),
        period=of,
        **{"reveals": False, "verify": Verify.NOT, "document": Path("no document"), **options},
    )
    return gather(request, history.tool)[0]


def without_organization(history: History) -> History:
    """Return the history of an installation whose operator may not read the organization."""
    history.tool.reader.refused["accounts"] = "AccessDeniedException"
    return history


def only(pack: Pack) -> Member:
    [member] = pack.members
    return member


def codes(pack: Pack) -> set[str]:
    return {each.code for each in pack.unproven if not each.is_general}


# ---------------------------------------------------------------- members


def test_an_account_that_joined_and_got_its_policies_is_guarded_and_measured() -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(3), seconds=12)

    pack = pack_of(history)

    member = only(pack)
    assert (member.joined_at, member.joined_by, member.is_new) == (at(3), "AcceptHandshake", True)
    assert (member.seconds, member.state) == (12, MemberState.COVERED)
    assert member.required == member.carried == POLICIES
    assert member.evidence_key in history.objects
    assert (pack.summary.joined, pack.summary.guarded, pack.summary.not_guarded) == (1, 1, 0)


def test_three_events_of_one_join_are_one_membership_that_begins_with_the_first() -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(3), event="CreateAccountResult", seconds=9)
    history.attempt(ACCOUNT, at(3, 12.001), event="AccountJoinedOrganization", seconds=1)
    history.attempt(ACCOUNT, at(3, 12.002), event="AcceptHandshake", seconds=1)

    member = only(pack_of(history))

    assert (member.joined_at, member.joined_by) == (at(3), "CreateAccountResult")
    assert member.seconds == pytest.approx(4.6), "the second event is the first after which it carries everything"


def test_an_account_that_left_and_joined_again_has_two_memberships() -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(3), seconds=5)
    history.depart(ACCOUNT, at(10))
    history.attempt(ACCOUNT, at(20), seconds=7)

    first, second = pack_of(history).members

    assert (first.left_at, first.left_by, first.state, first.seconds) == (at(10), "removed", MemberState.LEFT, 5)
    assert (second.left_at, second.state, second.seconds) == (None, MemberState.COVERED, 7)


def test_a_departure_and_a_join_in_the_same_second_are_the_end_and_the_beginning() -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(3))
    history.depart(ACCOUNT, at(10))
    history.attempt(ACCOUNT, at(10))

    first, second = pack_of(history).members

    assert (first.left_at, second.joined_at, second.left_at) == (at(10), at(10), None)


def test_a_departure_that_the_sweep_reports_too_ends_one_membership() -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(3))
    history.depart(ACCOUNT, at(10), "left")
    history.sweep(at(10, 13), members=0, departed=[ACCOUNT])

    member = only(pack_of(history))

    assert (member.left_at, member.left_by) == (at(10), "left")


def test_an_account_that_left_before_it_was_guarded_is_not_counted_as_guarded() -> None:
    history = without_organization(History())
    history.fail(ACCOUNT, at(3))
    history.depart(ACCOUNT, at(4))
    history.attempt(ACCOUNT, at(5), event="JoinRequest", source="joinguard.operator")

    pack = pack_of(history)

    assert pack.members[0].guarded_at is None
    assert pack.summary.not_guarded == 1


def test_members_of_the_organization_that_no_record_names_are_listed_with_what_they_carry() -> None:
    history = History()
    reader = history.tool.reader
    for each in POLICIES:
        reader.policy(each, each)
        reader.attach(each, ACCOUNT)
    reader.member(ACCOUNT)
    reader.members[ACCOUNT] = replace(reader.members[ACCOUNT], joined_at=at(-100))
    history.sweep(at(91), members=1)

    member = only(pack_of(history))

    assert (member.joined_at, member.joined_by, member.is_new) == (at(-100), "organization", False)
    assert (member.required_now, member.carried_now) == (POLICIES, POLICIES)
    assert (member.required, member.carried, member.known_at) == (None, None, None)
    assert member.state is MemberState.COVERED, "the sweep found everybody covered"


@pytest.mark.parametrize("now", [at(99), at(10)], ids=["after the period", "within it"])
@pytest.mark.parametrize("attached", [POLICIES, ()])
def test_what_the_organization_shows_now_is_named_as_that_and_decides_no_state(
    now: datetime, attached: tuple[str, ...]
) -> None:
    history = History()
    history.tool.queues.clock.time = now
    for each in POLICIES:
        history.tool.reader.policy(each, each)
    for each in attached:
        history.tool.reader.attach(each, ACCOUNT)
    history.tool.reader.member(ACCOUNT)

    member = only(pack_of(history))

    assert (member.state, member.required, member.carried) == (MemberState.UNCLEAR, None, None)
    assert (member.required_now, member.carried_now) == (POLICIES, attached)


def test_accounts_that_joined_after_the_period_or_are_closed_or_manage_are_no_members() -> None:
    history = History()
    reader = history.tool.reader
    reader.member(ACCOUNT)
    reader.members[ACCOUNT] = replace(reader.members[ACCOUNT], joined_at=at(95))
    reader.member(OTHER, state="SUSPENDED")
    history.fail(MANAGEMENT, at(5), code="MANAGEMENT_ACCOUNT")

    assert pack_of(history).members == ()


def test_a_join_that_no_event_reported_is_dated_by_the_organization_or_the_sweep_and_said() -> None:
    history = History()
    reader = history.tool.reader
    for account, joined_at in ((ACCOUNT, at(5, 10)), (OTHER, None)):
        reader.member(account)
        reader.members[account] = replace(reader.members[account], joined_at=joined_at)
    history.sweep(at(4), members=0)
    history.sweep(at(5), members=2, appeared=[ACCOUNT, OTHER], missed_events=2)
    for each in (ACCOUNT, OTHER):
        history.attempt(each, at(5, 12.1), event="JoinRequest", source="joinguard.sweep", seconds=10)

    pack = pack_of(history)

    dated, found = pack.members
    assert (dated.joined_at, dated.joined_by, dated.seconds) == (at(5, 10), "organization", 7570)
    assert (found.joined_at, found.joined_by, found.seconds) == (at(5), "sweep", None)
    assert (pack.latency.measured, pack.latency.not_measured) == (1, 1)
    assert "JOINS_WITHOUT_EVENT" in codes(pack)


def test_the_first_sweep_names_everybody_and_that_is_no_join() -> None:
    history = without_organization(History())
    history.sweep(at(2), members=1, appeared=[ACCOUNT], is_first=True)

    member = only(pack_of(history))

    assert (member.joined_at, member.is_new, member.state) == (None, False, MemberState.COVERED)


def test_an_account_that_is_only_observed_is_not_guarded() -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(3), status=OutcomeStatus.OBSERVED, results=[AttachmentResult.WOULD_ATTACH] * 2)

    pack = pack_of(history)

    assert only(pack).state is MemberState.OBSERVED
    assert (pack.summary.guarded, pack.summary.observed) == (0, 1)


def test_a_removed_policy_is_not_carried_any_more() -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(3))
    history.remove(ACCOUNT, at(9), POLICIES[1], exceptions=("EXC-1",))

    pack = pack_of(history)

    assert only(pack).carried == POLICIES[:1]
    [change] = pack.changes
    assert (change.kind, change.policy_id, change.who) == (ChangeKind.REMOVED, POLICIES[1], None)
    assert "EXC-1" in change.why


# ---------------------------------------------------------------- time to guardrail


def test_percentiles_are_by_nearest_rank_and_ranges_hold_every_measured_join() -> None:
    history = without_organization(History())
    for number in range(1, 21):
        history.attempt(f"{number:012d}", at(number), seconds=number * 10)

    latency = pack_of(history).latency

    assert (latency.p50, latency.p95, latency.longest) == (100, 190, 200)
    assert sum(each.joins for each in latency.ranges) == latency.measured == 20
    assert [(each.up_to, each.joins) for each in latency.ranges if each.joins] == [
        (10, 1),
        (20, 1),
        (30, 1),
        (60, 3),
        (120, 6),
        (300, 8),
    ]


def test_of_three_joins_the_second_is_the_median() -> None:
    history = without_organization(History())
    for number, seconds in enumerate((3, 60, 7), 1):
        history.attempt(f"{number:012d}", at(number), seconds=seconds)

    latency = pack_of(history).latency

    assert (latency.p50, latency.p95) == (7, 60)


def test_a_join_that_takes_days_is_in_the_range_without_an_end() -> None:
    history = without_organization(History())
    event = history.fail(ACCOUNT, at(3))
    history.attempt(ACCOUNT, at(3), event_id=event, attempt=2, seconds=3 * 86_400)

    assert pack_of(history).latency.ranges[-1].up_to is None


# ---------------------------------------------------------------- failures and actions


def test_a_failure_that_was_redriven_says_how_it_ended_and_by_which_action() -> None:
    history = without_organization(History())
    event = history.fail(ACCOUNT, at(3))
    action = history.act(at(4), events=[event])
    history.attempt(ACCOUNT, at(3), event_id=event, attempt=2, seconds=86_460)

    pack = pack_of(history)

    [failure] = pack.failures
    assert (failure.code, failure.policies) == ("PolicyNotFoundException", POLICIES[1:])
    assert (failure.end, failure.ended_at) == (FailureEnd.ENFORCED, at(4, 12 + 1 / 60))
    assert failure.actions == (action,)
    [done] = pack.actions
    assert (done.action_id, done.reason, done.ended) == (action, "the policy is there again, INC-17", "completed")


def test_a_failure_that_nobody_touched_is_open_and_another_event_of_the_account_ends_one() -> None:
    history = without_organization(History())
    history.fail(ACCOUNT, at(3))
    history.fail(OTHER, at(3))
    history.attempt(OTHER, at(5), event="JoinRequest", source="joinguard.operator")

    first, second = pack_of(history).failures

    assert (first.end, first.ended_at) == (FailureEnd.OPEN, None)
    assert second.end is FailureEnd.ENFORCED_BY_ANOTHER_EVENT


def test_a_failure_of_an_event_whose_id_holds_an_account_id_is_matched_and_not_named() -> None:
    history = without_organization(History())
    event = history.fail(ACCOUNT, at(3), event_id=f"create-{ACCOUNT}")
    action = history.act(at(4), events=[event])

    [failure] = pack_of(history).failures

    assert ACCOUNT not in failure.event_id
    assert failure.actions == (action,)


def test_an_action_after_the_period_is_shown_only_if_it_concerns_a_failure_of_the_period() -> None:
    history = without_organization(History())
    event = history.fail(ACCOUNT, at(90))
    concerning = history.act(at(95), events=[event])
    history.act(at(96), "pause")

    pack = pack_of(history)

    assert [(each.action_id, each.in_period) for each in pack.actions] == [(concerning, False)]


def test_an_action_without_its_second_record_was_cut_off_and_is_not_hidden() -> None:
    history = without_organization(History())
    history.act(at(4), "drop", ended=None)

    pack = pack_of(history)

    assert pack.actions[0].ended is None
    assert "ACTIONS_CUT_OFF" in codes(pack)


# ---------------------------------------------------------------- drift


@pytest.mark.parametrize(
    ("is_restored", "kind", "why"),
    [
        (True, ChangeKind.RESTORED, "attached again by Joinguard"),
        (False, ChangeKind.DETACHED, "it was put back 3 times"),
    ],
)
def test_what_somebody_detached_is_shown_with_who_and_what_followed(
    kind: ChangeKind, why: str, *, is_restored: bool
) -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(2))
    history.detach(ACCOUNT, at(3), is_restored=is_restored, who="arn:aws:iam::999999999999:user/mallory")

    pack = pack_of(history)

    [change] = pack.changes
    assert (change.kind, change.why, change.policy_id) == (kind, why, POLICIES[0])
    assert change.who == history.tool.pseudonyms.principal("arn:aws:iam::999999999999:user/mallory").value
    assert only(pack).state is (MemberState.COVERED if is_restored else MemberState.GAP)


# ---------------------------------------------------------------- sweeps


def test_a_gap_lasts_from_the_sweep_that_finds_it_to_the_one_that_does_not() -> None:
    history = without_organization(History())
    gap = (ACCOUNT, POLICIES[0], "DRIFTED")
    history.sweep(at(2), members=1)
    history.sweep(at(3), members=1, gaps=[gap])
    history.sweep(at(4), members=1, gaps=[(*gap[:2], "FAILED")])
    history.sweep(at(5), members=1)

    pack = pack_of(history)

    [found] = pack.gaps
    assert (found.first_seen, found.last_seen, found.closed_at, found.cause) == (at(3), at(4), at(5), "FAILED")
    assert [each.most_gaps for each in pack.days[:6]] == [None, 0, 1, 1, 0, None]
    assert only(pack).state is MemberState.COVERED


def test_a_gap_that_the_last_sweep_finds_is_open_and_the_account_lacks_the_policy() -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(2))
    history.sweep(at(3), members=1, gaps=[(ACCOUNT, POLICIES[1], "DRIFTED")])

    pack = pack_of(history)

    assert pack.gaps[0].closed_at is None
    member = only(pack)
    assert (member.state, member.carried) == (MemberState.GAP, POLICIES[:1])
    assert pack.summary.gaps_at_end == 1


def test_an_attempt_after_the_last_sweep_closes_the_gap_of_the_member() -> None:
    history = without_organization(History())
    history.sweep(at(3), members=1, gaps=[(ACCOUNT, POLICIES[1], "DRIFTED")])
    history.attempt(ACCOUNT, at(3, 13), event="JoinRequest", source="joinguard.sweep")

    assert only(pack_of(history)).state is MemberState.COVERED


def test_a_sweep_that_does_not_name_all_gaps_closes_none_and_covers_nobody() -> None:
    history = without_organization(History())
    history.sweep(at(3), members=9, gaps=[(ACCOUNT, POLICIES[0], "DRIFTED")])
    history.sweep(at(4), members=9, appeared=[OTHER], is_first=True, counted_gaps=5, with_gaps=4)

    pack = pack_of(history)

    assert pack.gaps[0].closed_at is None
    assert {each.account: each.state for each in pack.members} == {
        history.pseudonym(ACCOUNT).value: MemberState.GAP,
        history.pseudonym(OTHER).value: MemberState.UNCLEAR,
    }
    assert {"GAPS_CUT", "MEMBERS_DIFFER", "MEMBERS_UNCLEAR"} <= codes(pack)


def test_sweeps_of_a_day_are_in_the_order_of_their_time_whatever_their_keys() -> None:
    history = without_organization(History())
    history.sweep(at(3, 20), members=2)
    history.sweep(at(3, 4), members=1, gaps=[(ACCOUNT, POLICIES[0], "DRIFTED")])

    pack = pack_of(history)

    assert (pack.days[2].sweeps, pack.days[2].members, pack.days[2].most_gaps) == (2, 2, 1)
    assert pack.gaps[0].closed_at == at(3, 20)


# ---------------------------------------------------------------- exceptions and configuration


def exceptions() -> CompiledGuardrails:
    return CompiledGuardrails(
        policies=tuple(CompiledPolicy(id=each, type="SERVICE_CONTROL_POLICY", sha256="ab" * 32) for each in POLICIES),
        rules=(CompiledRule(id="everyone", attach=POLICIES, match="all"),),
        exceptions=(
            CompiledException(id="EXC-1", accounts=(ACCOUNT,), policies=POLICIES[:1], expires=date(2026, 7, 31)),
            CompiledException(id="EXC-0", accounts=(OTHER,), policies=POLICIES[:1], expires=date(2026, 6, 30)),
            CompiledException(
                id="EXC-2",
                accounts=(OTHER,),
                policies=POLICIES[:1],
                starts=date(2026, 10, 1),
                expires=date(2026, 12, 31),
            ),
        ),
    )


def test_exceptions_of_the_period_have_their_accounts_and_end_and_ended_or_later_ones_are_left_out() -> None:
    history = without_organization(History())
    history.tool.in_force = exceptions()
    history.deploy(at(-5), history.tool.in_force.sha256())
    history.remove(ACCOUNT, at(9), POLICIES[1], exceptions=("EXC-1",))

    pack = pack_of(history)

    [found] = pack.exceptions
    assert (found.id, found.policies, found.expires) == ("EXC-1", POLICIES[:1], date(2026, 7, 31))
    assert found.accounts == (history.pseudonym(ACCOUNT).value,)
    assert found.attempts == 1
    assert "EXCEPTIONS_WITHOUT_OWNER" in codes(pack)


def test_the_owner_of_an_exception_is_that_of_the_document_that_was_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = Path("infra/guardrails/prod.yaml")
    document.parent.mkdir(parents=True)
    document.write_text(
        f"""\
version: 1
policies: [{{ id: {POLICIES[0]} }}]
rules: [{{ id: everyone, attach: [{POLICIES[0]}], match: all }}]
exceptions:
  - id: EXC-1
    accounts: ["{ACCOUNT}"]
    policies: [{POLICIES[0]}]
    owner: payments@example.com
    approved_by: ciso@example.com
    reason: the migration of {ACCOUNT}, CHG-4711
    expires: 2026-12-31
"""
    )
    history = without_organization(History())
    history.tool.reader.policy(POLICIES[0], "deny-leave")
    assert history.tool.run("lock").exit_code == 0
    history.tool.in_force = read_guardrails(document, at(5))
    history.deploy(at(-5), history.tool.in_force.sha256())

    pack = pack_of(history, document=document)

    [found] = pack.exceptions
    assert (found.owner, found.approved_by) == ("payments@example.com", "ciso@example.com")
    assert found.reason == "the migration of [account], CHG-4711"
    assert found.expires == date(2026, 12, 31)
    assert "EXCEPTIONS_WITHOUT_OWNER" not in codes(pack)


def test_policies_have_the_names_of_the_organization() -> None:
    pack = pack_of(quarter())

    assert pack.policy_names == {each: each.replace("p-", "deny-") for each in POLICIES}
    [members] = [each for each in sections(pack) if each.id == "members"]
    assert "p-aaaaaaaa (deny-aaaaaaaa)" in members.tables[0].rows[0][2]


def test_exceptions_of_earlier_guardrails_are_read_from_what_was_deployed() -> None:
    history = without_organization(History())
    earlier = exceptions()

    class Artifacts:
        def read(self, key: str) -> bytes:
            if key == GUARDRAILS_KEY.format(earlier.sha256()):
                return earlier.canonical()
            raise RetryableError(fault("S3.NoSuchKey", "no such key"))

    history.tool.artifacts = Artifacts()
    history.deploy(at(-5), earlier.sha256())
    history.deploy(at(20), "12" * 32)

    pack = pack_of(history)

    assert [each.id for each in pack.exceptions] == ["EXC-1"]
    assert "GUARDRAILS_UNREAD" in codes(pack), "the later ones are not there"


def test_an_exception_of_which_only_an_attempt_tells_is_listed() -> None:
    history = without_organization(History())
    history.deploy(at(-5), "12" * 32)
    history.remove(ACCOUNT, at(9), POLICIES[1], exceptions=("EXC-9",))

    pack = pack_of(history)

    assert [(each.id, each.expires, each.attempts) for each in pack.exceptions] == [("EXC-9", None, 1)]


def test_the_configuration_before_the_period_is_in_force_at_its_beginning() -> None:
    history = without_organization(History())
    history.deploy(at(-50), reason="long ago")
    history.deploy(at(-20), reason="before")
    history.deploy(at(40), reason="within", approved_plan="9a" * 32)
    history.deploy(at(95), reason="after")

    pack = pack_of(history)

    assert [(each.record.reason, each.until) for each in pack.deployments] == [("before", at(40)), ("within", None)]
    assert "CONFIGURATION_UNKNOWN" not in codes(pack)


# ---------------------------------------------------------------- what is not there


def test_an_empty_period_makes_a_pack_that_says_so() -> None:
    pack = pack_of(without_organization(History()))

    assert not (pack.members)
    assert not (pack.failures)
    assert not (pack.gaps)
    assert pack.latency.p95 is None
    assert pack.summary.days_without_sweep == len(pack.days) == 92
    assert {"NOT_VERIFIED", "ORGANIZATION_UNREAD", "DAYS_WITHOUT_SWEEP", "CONFIGURATION_UNKNOWN"} <= codes(pack)
    assert sections(pack)


def test_a_period_that_is_not_over_ends_now() -> None:
    history = without_organization(History())
    history.tool.queues.clock.time = at(10)

    pack = pack_of(history)

    assert len(pack.days) == 10
    assert "PERIOD_OPEN" in codes(pack)


def test_only_the_days_of_the_period_count_in_utc() -> None:
    history = without_organization(History())
    for number, when in enumerate((at(0, 23.99), at(1, 0), at(2, 23.99), at(3, 0)), 1):
        history.attempt(f"{number:012d}", when)

    pack = pack_of(history, of=Period(first=date(2026, 7, 1), last=date(2026, 7, 2)))

    assert [each.joined_at for each in pack.members if each.is_new] == [at(1, 0), at(2, 23.99)]


def test_evidence_that_an_outcome_names_and_that_is_gone_or_another_is_named() -> None:
    history = without_organization(History())
    for account, when in ((ACCOUNT, at(3)), (OTHER, at(4)), ("444444444444", at(5))):
        history.attempt(account, when)
    gone, changed, _ = sorted(history.objects)
    del history.objects[gone]
    history.objects[changed] = history.objects[changed].replace(b'"attempt":1', b'"attempt":2')

    pack = pack_of(history)

    assert [(each.what, each.evidence_key) for each in pack.disagreements] == [("MISSING", gone), ("DIFFERS", changed)]
    assert pack.summary.disagreements == 2


def destroyed() -> tuple[History, str, str]:
    """Return a history after the evidence of an account was destroyed, and its keys: one is gone, one overwritten."""
    history = History()
    history.tool.queues.clock.time = at(10)
    history.tool.reader.member(ACCOUNT)
    history.attempt(ACCOUNT, at(3), event="AcceptHandshake", seconds=3.4)
    history.attempt(ACCOUNT, at(3, 12.001), event="CreateAccountResult", seconds=2)
    history.attempt(OTHER, at(4), seconds=60)
    for each in POLICIES:
        history.tool.reader.policy(each, each)
        history.tool.reader.attach(each, ACCOUNT)
    gone, overwritten, _ = sorted(history.objects)
    del history.objects[gone]
    history.objects[overwritten] = b"overwritten"
    return history, gone, overwritten


def test_every_wrong_object_is_listed_and_counted_as_outcome_does() -> None:
    history, gone, overwritten = destroyed()

    pack = pack_of(history)

    assert [(each.what, each.evidence_key) for each in pack.disagreements] == [
        (WrongEvidence.MISSING, gone),
        (WrongEvidence.UNREADABLE, overwritten),
    ]
    assert pack.summary.disagreements == 2
    printed = json.loads(history.tool.run("outcome", ACCOUNT, "--json").stdout)
    assert sorted(
        (each["verdict"].upper(), each["key"]) for event in printed["events"] for each in event["evidence"]
    ) == [(each.what, each.evidence_key) for each in pack.disagreements]
    assert "2 objects of the period's evidence are missing or wrong: 1 missing, 1 unreadable." in {
        each.text for each in answers(pack)
    }


def test_an_object_beside_evidence_that_no_part_of_joinguard_writes_is_listed() -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(3))
    [key] = history.objects
    planted = f"{key.rpartition('/')[0]}/x/y.json"
    history.objects[planted] = history.objects[key]

    pack = pack_of(history)

    assert [(each.what, each.evidence_key) for each in pack.disagreements] == [(WrongEvidence.UNREADABLE, planted)]


def test_an_account_whose_evidence_was_destroyed_is_not_shown_to_be_guarded() -> None:
    history, *_ = destroyed()

    pack = pack_of(history)

    member = next(each for each in pack.members if each.account == history.pseudonym(ACCOUNT).value)
    assert (member.guarded_at, member.seconds, member.evidence_key) == (None, None, None)
    assert member.no_proof is NoProof.EVIDENCE_WRONG
    assert (member.state, member.carried, member.carried_now) == (MemberState.UNCLEAR, None, POLICIES)
    assert (pack.latency.measured, pack.latency.not_measured, pack.latency.longest) == (1, 0, 60)
    assert verdict(pack) == (
        "1 of 2 accounts that joined got all their policies; of 1 account, no record shows that.",
        False,
    )
    [joins] = [each for each in sections(pack) if each.id == "joins"]
    [row] = joins.tables[0].rows
    [members] = [each for each in sections(pack) if each.id == "members"]
    assert "no proof" in next(each for each in members.tables[1].rows if each[0] == member.account)
    assert (row[0], row[-1]) == (member.account, "its evidence is missing, unreadable, or not what was written")


def test_evidence_that_differs_from_the_outcome_shows_no_guardrails() -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(3))
    [key] = history.objects
    history.objects[key] = history.objects[key].replace(
        b'"recorded_at":"2026-07-03T12:00:08Z"', b'"recorded_at":"2026-07-03T12:00:01Z"'
    )

    pack = pack_of(history)

    assert [each.what for each in pack.disagreements] == [WrongEvidence.DIFFERS]
    assert (only(pack).guarded_at, only(pack).no_proof) == (None, NoProof.EVIDENCE_WRONG)


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_success_whose_evidence_is_gone_or_another_ends_no_failure(*, is_gone: bool) -> None:
    history = without_organization(History())
    event = history.fail(ACCOUNT, at(3))
    history.attempt(ACCOUNT, at(3), event_id=event, attempt=2, seconds=60)
    history.fail(OTHER, at(3))
    history.attempt(OTHER, at(5), event="JoinRequest", source="joinguard.operator")
    for key in [each for each in history.objects if each.endswith("0002.json") or "/07/05/" in each]:
        body = history.objects.pop(key)
        if not is_gone:
            history.objects[key] = body + b" "

    pack = pack_of(history)

    assert [each.end for each in pack.failures] == [FailureEnd.OPEN, FailureEnd.OPEN]


def joined_late(history: History) -> None:
    history.fail(ACCOUNT, at(91))
    history.attempt(ACCOUNT, at(94), event="JoinRequest", source="joinguard.sweep")


def not_read(history: History) -> None:
    history.attempt(ACCOUNT, at(3))
    history.tool.bucket.is_unreadable = True


def observed(history: History) -> None:
    history.attempt(ACCOUNT, at(3), status=OutcomeStatus.OBSERVED, results=[AttachmentResult.WOULD_ATTACH] * 2)


def failed(history: History) -> None:
    history.fail(ACCOUNT, at(3))


def left(history: History) -> None:
    history.fail(ACCOUNT, at(3))
    history.depart(ACCOUNT, at(4))


def appeared(history: History) -> None:
    history.sweep(at(3), members=0, is_first=True)
    history.sweep(at(4), members=1, appeared=[ACCOUNT])


@pytest.mark.parametrize(
    ("happened", "why"),
    [
        (joined_late, NoProof.AFTER_PERIOD),
        (not_read, NoProof.EVIDENCE_UNREAD),
        (observed, NoProof.OBSERVED),
        (failed, NoProof.FAILED),
        (left, NoProof.LEFT),
        (appeared, NoProof.NO_RECORD),
    ],
)
def test_why_no_record_shows_that_an_account_got_its_policies_is_said(
    happened: Callable[[History], None], why: NoProof
) -> None:
    history = without_organization(History())
    happened(history)

    pack = pack_of(history)

    assert (only(pack).guarded_at, only(pack).no_proof) == (None, why)
    assert (pack.summary.guarded, pack.latency.not_measured) == (0, 0)


def test_texts_use_the_singular_for_one() -> None:
    history = History()
    history.tool.reader.member(ACCOUNT)
    history.tool.reader.members[ACCOUNT] = replace(history.tool.reader.members[ACCOUNT], joined_at=at(5))
    history.act(at(4), ended=None)

    pack = pack_of(history, of=Period(first=date(2026, 7, 4), last=date(2026, 7, 5)))

    said = {each.code: each.text for each in pack.unproven}
    assert said["MEMBERS_UNCLEAR"].startswith("Of 1 member, no record shows")
    assert said["JOINS_WITHOUT_EVENT"].startswith("1 account joined, and no event told of that.")
    assert said["ACTIONS_CUT_OFF"] == "1 action of operators has no record of the end."
    assert said["DAYS_WITHOUT_SWEEP"] == "On 2 of 2 days, no sweep compared the accounts."
    words = " ".join(
        [*said.values(), *(each.text for each in answers(pack)), *(one for each in sections(pack) for one in each.lead)]
    )
    assert re.findall(r"\b1 (?:accounts|members|memberships|actions|objects|days|outcomes|sweeps|joins)\b", words) == []
    assert "1 membership overlaps the period" in words


def test_a_join_whose_evidence_is_gone_is_still_a_join() -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(3))
    history.objects.clear()

    pack = pack_of(history)

    assert (pack.summary.joined, pack.summary.disagreements) == (1, 1)


def test_what_is_no_evidence_is_counted_and_not_taken_for_missing() -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(3))
    [key] = history.objects
    history.objects[key] = b"no evidence"
    history.objects["evidence/2026/07/03/a strange key"] = b"{}"

    pack = pack_of(history)

    [source] = [each for each in pack.sources if each.source == ObjectKind.EVIDENCE]
    assert (source.read, source.unread) == (0, 2)
    assert "SOURCE_UNREAD" in codes(pack)
    assert [each.what for each in pack.disagreements] == [WrongEvidence.UNREADABLE]


def test_a_bucket_that_cannot_be_listed_is_said_for_every_day() -> None:
    history = without_organization(History())
    history.attempt(ACCOUNT, at(3))
    history.tool.bucket.is_unreadable = True

    pack = pack_of(history)

    unread = {each.source: each.unread for each in pack.sources}
    assert unread[ObjectKind.EVIDENCE] == unread[ObjectKind.SWEEP] == 92
    assert pack.disagreements == ()
    assert "SOURCE_UNREAD" in codes(pack)


def test_a_table_that_cannot_be_read_to_its_end_is_said() -> None:
    history = without_organization(History())
    history.tool.queues.unreadable = [(ACCOUNT, "event-9")]

    assert "SOURCE_UNREAD" in codes(pack_of(history))


# ---------------------------------------------------------------- pseudonyms and ids


def test_accounts_are_revealed_where_the_organization_can_be_read() -> None:
    history = quarter()

    hidden, revealed = pack_of(history), pack_of(history, reveals=True)

    assert all(each.account.startswith("acct-") for each in hidden.members)
    assert all(each.account.isdigit() for each in revealed.members)
    assert {history.pseudonym(each.account).value for each in revealed.members} == {
        each.account for each in hidden.members
    }
    assert revealed.reveals
    assert not hidden.reveals


def test_ids_are_refused_where_the_organization_cannot_be_read() -> None:
    with pytest.raises(OperateError, match=r"--reveal names accounts .*AccessDeniedException.*leave --reveal out"):
        pack_of(without_organization(quarter()), reveals=True)


def test_an_account_of_which_only_the_pseudonym_is_known_is_counted() -> None:
    history = History()
    history.attempt(ACCOUNT, at(3))
    history.tool.queues.rows.clear()

    pack = pack_of(history, reveals=True)

    assert only(pack).account == history.pseudonym(ACCOUNT).value
    assert pack.not_revealed == 1
    assert "NOT_REVEALED" in codes(pack)


@given(st.text(max_size=40), st.text(max_size=20))
def test_no_text_of_others_brings_an_account_id_into_the_pack(before: str, after: str) -> None:
    history = without_organization(History())
    text = f"{before} {ACCOUNT} {after}"[:1000]
    history.fail(ACCOUNT, at(3), event_id="event-1")
    history.act(at(4), reason=text, results={text: 1})
    history.deploy(at(5), reason=text)
    history.sweep(at(6), members=1, halted=text)

    assert ACCOUNT not in pack_of(history).model_dump_json()


# ---------------------------------------------------------------- controls


@pytest.mark.parametrize("test", sorted({test for each in CONTROLS for test in each.tests}))
def test_each_test_that_a_control_names_exists(test: str) -> None:
    path, name = test.split("::")

    defined = {
        node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)
    }
    assert name in defined


def test_each_command_and_section_that_a_control_names_exists() -> None:
    named = {command for each in CONTROLS for command in each.commands}
    shown = {each.id for each in sections(pack_of(without_organization(History())))}

    assert named <= set(cli.commands)
    assert {section for each in CONTROLS for section in each.sections} <= shown
    assert {"CC6.1", "CC6.6", "CC7.2", "CC8.1"} <= {each.reference for each in CONTROLS}
    assert all(re.fullmatch(r"CC\d\.\d|A\.\d\.\d+", each.reference) for each in CONTROLS)


def test_a_redelivered_outcome_that_is_still_retried_is_a_join_that_is_not_guarded() -> None:
    history = without_organization(History())
    history.tool.queues.rows[ACCOUNT, "event-1"] = [
        (
            at(3),
            Outcome(
                account_id=ACCOUNT,
                event_id="event-1",
                event_name="AcceptHandshake",
                source="aws.organizations",
                status=OutcomeStatus.RETRYING,
                attempts=3,
                event_time=at(3),
                received_at=at(3),
                updated_at=at(3, 13),
                fault=Fault(code="TooManyRequestsException", message="slow down"),
            ),
        )
    ]

    pack = pack_of(history)

    assert (pack.summary.joined, pack.summary.not_guarded) == (1, 1)
    assert pack.disagreements == (), "an attempt that changed nothing has no evidence"


def test_the_time_of_the_pack_is_that_of_the_clock() -> None:
    assert pack_of(without_organization(History())).made_at == datetime(2026, 10, 7, 9, 30, tzinfo=UTC)
