"""What operators see of removals, and what happens to a removal's dead letter."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from handlers.core.errors import PermanentError, fault
from handlers.core.guardrails.evaluate import Guardrails, Requirements
from handlers.core.guardrails.reading import read_or_unreadable
from handlers.operate.advice import sentences
from schemas.outcome import AttachmentResult, Outcome, OutcomeStatus, PolicyOutcome
from schemas.plan import ApprovedPlan
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT, MANAGEMENT, NOON, ORGANIZATION
from tests.operator_cli import REQUIREMENTS, FakeOrganization, OperatorCli, operator_cli, preflight
from tests.removals import BASE, EDGE, KEPT, REGIONS, TwoWorkers, document
from tests.unit.test_remove import exception

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from handlers.core.redrive.dead_letter import DeadLetter

EVENT_ID = "removal-aaaaaaaa"
REMOVES = dataclasses.replace(REQUIREMENTS, removes=True)


def removal_letter(code: str = "UNKNOWN_ATTEMPT", **changes: Any) -> DeadLetter:
    body = {
        "source": "joinguard.removal",
        "event_id": EVENT_ID,
        "requested_at": NOON.isoformat(),
        "account_id": ACCOUNT,
        "organization_id": ORGANIZATION,
        "reason": "after event event-1",
    }
    return dead_letter(1, code=code, body=json.dumps(body), **changes)


def test_a_redriven_removal_is_tracked_by_its_own_event() -> None:
    tool = operator_cli(removal_letter())
    tool.removes = True

    result = tool.run("redrive", "--all", "--confirm", "--reason", "x")

    assert result.exit_code == 0, result.output
    assert [each.body for each in tool.queues.joins] == [removal_letter().body]
    assert tool.queues.joins[0].outcome_key == (ACCOUNT, EVENT_ID)


@pytest.mark.parametrize(
    ("organization", "removes", "problem"),
    [
        ({}, True, None),
        # What prevents attaching does not prevent removing.
        ({"policies": ()}, True, None),
        ({"enabled": False}, True, None),
        ({"attached": [f"p-other{n:04d}" for n in range(10)]}, True, None),
        # What an account carries that has left is not removed, and the message ends well.
        ({"state": None}, True, None),
        ({}, False, "the stage removes no policies; set RemovePolicies"),
    ],
    ids=["nothing", "no policy", "no policy type", "no place", "no member", "switched off"],
)
def test_pre_flight_finds_out_why_a_removal_would_fail_again(
    organization: dict[str, Any], problem: str | None, *, removes: bool
) -> None:
    checks = preflight(FakeOrganization(**organization), requirements=REMOVES if removes else REQUIREMENTS)

    found = sentences(checks.would_fail(removal_letter()))

    assert found == "" if problem is None else problem in found


def approved(account_id: str, *, in_force: bool = True) -> Callable[[], ApprovedPlan | None]:
    guardrails = LIMITED.guardrails.sha256 if in_force else "0" * 64
    return lambda: ApprovedPlan.of(ORGANIZATION, guardrails, {}, {REGIONS: [account_id]})


def limited(removals: int) -> Requirements:
    return Requirements(Guardrails(document(removals=removals)), ORGANIZATION, MANAGEMENT, removes=True)


LIMITED = limited(1)
TODAY, YESTERDAY = NOON - timedelta(hours=11), NOON - timedelta(hours=13)


@pytest.mark.parametrize(
    ("sent_at", "requirements", "plan", "fails"),
    [
        (TODAY, LIMITED, lambda: None, True),
        (YESTERDAY, LIMITED, lambda: None, False),
        (TODAY, LIMITED, approved(ACCOUNT), False),
        (TODAY, LIMITED, approved("333333333333"), True),
        (TODAY, LIMITED, approved(ACCOUNT, in_force=False), True),
        (YESTERDAY, limited(0), lambda: None, True),
    ],
    ids=["today", "yesterday", "approved", "other account", "other guardrails", "each needs an approval"],
)
def test_pre_flight_knows_the_limit_of_the_day_and_the_approved_plan(
    sent_at: datetime, requirements: Requirements, plan: Callable[[], ApprovedPlan | None], *, fails: bool
) -> None:
    checks = preflight(requirements=requirements, approved_plan=plan)

    found = sentences(checks.would_fail(removal_letter("REMOVAL_LIMIT", sent_at=sent_at)))

    assert ("no approved plan removes the policy" in found) is fails
    assert not checks.unknown


def test_the_reason_says_whether_waiting_helps() -> None:
    today = preflight(requirements=LIMITED).would_fail(removal_letter("REMOVAL_LIMIT", sent_at=TODAY))
    never = preflight(requirements=limited(0)).would_fail(removal_letter("REMOVAL_LIMIT", sent_at=TODAY))

    assert "redrive tomorrow (UTC)" in sentences(today)
    assert "tomorrow" not in sentences(never)
    assert "limits.removals is 0; deploy with --approve" in sentences(never)


def test_guardrails_that_cannot_be_read_prevent_no_redrive() -> None:
    class Artifacts:
        def read(self, key: str) -> bytes:
            raise PermanentError(fault("AccessDenied", f"no {key}"))

    guardrails = read_or_unreadable(Artifacts(), "x")
    checks = preflight(requirements=Requirements(guardrails, ORGANIZATION, MANAGEMENT, removes=True))

    assert not checks.would_fail(removal_letter("REMOVAL_LIMIT", sent_at=TODAY))
    assert "AccessDenied" in sentences(checks.unknown)


def test_an_approved_plan_is_read_once_for_all_messages() -> None:
    reads: list[str] = []

    def plan() -> ApprovedPlan | None:
        reads.append("plan")
        return None

    checks = preflight(requirements=LIMITED, approved_plan=plan)
    for _ in range(3):
        assert checks.would_fail(removal_letter("REMOVAL_LIMIT", sent_at=TODAY))

    assert reads == ["plan"]


def test_an_approved_plan_that_cannot_be_read_is_not_known() -> None:
    def unreadable() -> ApprovedPlan | None:
        raise PermanentError(fault("AccessDenied", "not allowed"))

    checks = preflight(requirements=LIMITED, approved_plan=unreadable)

    assert not checks.would_fail(removal_letter("REMOVAL_LIMIT", sent_at=TODAY))
    assert "whether a plan was approved that removes the policy: AccessDenied" in sentences(checks.unknown)


def test_a_drop_names_the_accounts_that_keep_policies() -> None:
    result = operator_cli(removal_letter(), dead_letter(2, account="333333333333")).run("drop", "--older-than", "1s")

    text = " ".join(result.stderr.split())
    assert f"1 account keeps the policies that these messages would remove: {ACCOUNT};" in text
    assert "1 account stays without the policies that these messages ask for: 333333333333;" in text


@pytest.mark.parametrize(
    ("code", "step"),
    [("REMOVAL_LIMIT", "redrive tomorrow (UTC), or deploy with --approve"), ("REMOVALS_OFF", "set RemovePolicies")],
)
def test_show_names_the_next_step(code: str, step: str) -> None:
    result = operator_cli(removal_letter(code)).run("show", "m-1")

    assert step in " ".join(result.output.split())
    assert "joinguard.removal" in result.output


def outcome(*policies: PolicyOutcome) -> Outcome:
    return Outcome(
        account_id=ACCOUNT,
        event_id=EVENT_ID,
        event_name="RemovalRequest",
        source="joinguard.removal",
        status=OutcomeStatus.ENFORCED,
        policies=policies,
        attempts=1,
        event_time=NOON,
        received_at=NOON,
        updated_at=NOON,
    )


def test_outcome_says_what_was_removed_by_which_exception_and_what_is_kept_and_why() -> None:
    world = TwoWorkers()
    world.join()
    world.organizations.attached[ACCOUNT].append(EDGE)
    world.use(document(exception(KEPT, REGIONS)))
    world.organizations.managed.add(REGIONS)
    world.retire()
    handled = world.remove()
    tool = operator_cli()
    tool.queues.rows[ACCOUNT, EVENT_ID] = [(NOON, outcome(*handled.policies))]

    result = tool.run("outcome", ACCOUNT)

    text = " ".join(result.stdout.split())
    assert f"{KEPT} REMOVED (EXC-17)" in text
    assert f"{REGIONS} KEPT (AWS_MANAGED, EXC-17)" in text


def with_retired_account(*, removes: bool) -> OperatorCli:
    tool = operator_cli()
    tool.in_force, tool.removes = document(), removes
    tool.organizations.attached = (BASE, REGIONS)
    tool.organizations.tags = {"environment": "test"}
    return tool


@pytest.mark.parametrize("removes", [False, True])
def test_outcome_names_what_an_account_no_longer_needs(*, removes: bool) -> None:
    result = with_retired_account(removes=removes).run("outcome", ACCOUNT)

    assert result.exit_code == 0, "nothing is missing"
    assert f"carries every required policy; does not need {REGIONS}" in " ".join(result.stdout.split())
    assert ("requests the removal of what Joinguard attached" in result.stderr) is removes


@pytest.mark.parametrize(("code", "again"), [("NOT_OURS", False), ("LAST_POLICY", True)])
def test_outcome_says_why_the_last_request_kept_a_policy(code: str, *, again: bool) -> None:
    tool = with_retired_account(removes=True)
    kept = PolicyOutcome(policy_id=REGIONS, result=AttachmentResult.KEPT, fault=fault(code, "why"))
    removed = PolicyOutcome(policy_id=REGIONS, result=AttachmentResult.REMOVED)
    tool.queues.rows[ACCOUNT, EVENT_ID] = [(NOON, outcome(kept))]
    earlier = outcome(removed).model_copy(
        update={"event_id": "removal-earlier", "updated_at": NOON - timedelta(days=1)}
    )
    tool.queues.rows[ACCOUNT, earlier.event_id] = [(NOON, earlier)]

    result = tool.run("outcome", ACCOUNT)

    assert f"does not need {REGIONS} (kept: {code})" in " ".join(result.stdout.split())
    assert ("requests the removal" in result.stderr) is again


def test_enforce_says_that_a_removal_was_requested_and_where_to_look() -> None:
    tool = with_retired_account(removes=True)
    requested = PolicyOutcome(policy_id=REGIONS, result=AttachmentResult.REMOVAL_REQUESTED)
    tool.queues.results = (requested,)

    result = tool.run("enforce", ACCOUNT, "--confirm", "--reason", "x")

    assert f"1 removal requested: `outcome {ACCOUNT}` shows what became of it" in " ".join(result.stderr.split())


def test_outcome_lists_what_may_be_removed_for_programs() -> None:
    result = with_retired_account(removes=True).run("outcome", ACCOUNT, "--json")

    assert json.loads(result.stdout)["removable"] == [REGIONS]


def test_a_result_that_is_not_kept_shows_no_code() -> None:
    tool = operator_cli()
    tool.queues.rows[ACCOUNT, EVENT_ID] = [
        (NOON, outcome(PolicyOutcome(policy_id=REGIONS, result=AttachmentResult.REMOVED)))
    ]

    assert f"{REGIONS} REMOVED" in tool.run("outcome", ACCOUNT).stdout
    assert f"{REGIONS} REMOVED (" not in tool.run("outcome", ACCOUNT).stdout
