"""The approval of plans that remove more policies than the guardrails allow in a day, without AWS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner

from handlers.core.guardrails.plan import Plan
from handlers.core.guardrails.scope import Scope
from handlers.operate.plan_output import Labels, Report
from infra.deploy import approving
from infra.deploy.__main__ import cli
from infra.deploy.approving import Approval, approve
from infra.deploy.stack import DeployError
from infra.deploy.stages import Stage, Target
from schemas.compiled_guardrails import OuRange
from schemas.plan import ApprovedPlan
from tests.stubs import StubbedSession
from tests.unit.test_plan import PROD, A, B, Made, account, guardrails, plan, rule

REMOVES: Final = {"RemovePolicies": "true"}
EARLIER: Final = f"joinguard/plans/{'0' * 64}.json"
OWNER: Final = "111111111111"


def target(session: StubbedSession, *, document: str | None = "prod.yaml", **parameters: str) -> Target:
    any_session: Any = session
    path = Path(document) if document else None
    stage = Stage(name="prod", region="us-east-1", parameters=parameters, document=path)
    return Target(any_session, stage, poll_seconds=1)


def deployed(approved: str = "") -> StubbedSession:
    """Return a session in which the stage's stack has an approved plan."""
    session = StubbedSession()
    stack = {
        "StackName": "joinguard",
        "StackId": "arn:x/joinguard/1",
        "CreationTime": "2026-11-26T00:00:00Z",
        "StackStatus": "UPDATE_COMPLETE",
        "Parameters": [{"ParameterKey": "ApprovedPlanKey", "ParameterValue": approved}],
    }
    session.answer("cloudformation", "describe_stacks", {"Stacks": [stack]})
    return session


def planned(removals: int = 2, limit: int = 1, *, undecided: bool = False, scope: str = "all") -> Plan:
    """Return a plan of an organization in which accounts of the root carry what only those in an OU need."""
    in_prod, tagged = {"ou": (OuRange(id=PROD),)}, {"tags": {"environment": ("prod",)}}
    rules = [rule("prod", A, when=in_prod, when_no_longer="remove"), rule("tagged", B, when=tagged)]
    accounts = [account(number, tags=None if undecided else {}) for number in range(1, removals + 1)]
    made = Made(accounts, {A: {each.id for each in accounts}})
    return plan(guardrails(*rules, max_removals=limit), made, scope=Scope.parse(scope))


def report(made: Plan) -> Report:
    return Report(made, Labels({A: "deny-leave", B: "region-lock"}, {}), problems=(), notes=(), removes=True)


def approved(made: Plan | None, digest: str | None = None, *, earlier: str = "", **parameters: str) -> Approval:
    on_stage = target(deployed(earlier), **(parameters or REMOVES))
    return approve(on_stage, report(made) if made else None, digest, lambda _: None)


@pytest.mark.parametrize("length", [12, 40, 64])
def test_the_digest_of_the_plan_or_its_beginning_approves_exactly_the_changes_of_that_plan(length: int) -> None:
    made = planned()

    assert approved(made, made.digest[:length]) == Approval(plan=made.changes)


def test_a_plan_above_the_limit_is_refused_with_the_number_the_limit_the_digest_and_the_next_step() -> None:
    made = planned()

    with pytest.raises(DeployError) as refused:
        approved(made)

    assert "the plan has at most 2 removals, more than limits.removals (1), so it needs" in str(refused.value)
    assert f"make deploy STAGE=prod ARGS='--approve {made.digest}'" in str(refused.value)


@pytest.mark.parametrize("limit", [1, 2], ids=["needs approval", "needs none"])
def test_the_digest_of_another_plan_is_refused_with_that_of_this_one(limit: int) -> None:
    made = planned(limit=limit)

    with pytest.raises(DeployError) as refused:
        approved(made, planned(removals=3).digest)

    assert f"is not the digest of this plan, which is {made.digest}" in str(refused.value)
    assert "has changed since that one was made, or the digest was mistyped" in str(refused.value)
    assert f"--approve {made.digest}" in str(refused.value)


def test_a_plan_within_the_limit_needs_no_approval_and_can_have_one() -> None:
    made = planned(limit=2)

    assert approved(made) == Approval()
    assert approved(made, made.digest) == Approval(plan=made.changes)


@pytest.mark.parametrize("has_digest", [True, False])
def test_a_plan_for_which_not_everything_could_be_read_cannot_be_approved_above_the_limit(*, has_digest: bool) -> None:
    made = planned(undecided=True)
    within = planned(undecided=True, limit=2)

    with pytest.raises(
        DeployError, match=r"cannot be approved, because not everything .* about the policies region-lock"
    ):
        approved(made, made.digest if has_digest else None)

    assert approved(within, within.digest if has_digest else None).plan == (within.changes if has_digest else None)


def test_accounts_that_the_stage_only_observes_do_not_count() -> None:
    assert approved(planned(scope="000000000001")) == Approval()


def test_without_a_new_plan_an_earlier_approval_continues() -> None:
    assert approved(None, earlier=EARLIER) == Approval(earlier=EARLIER)
    assert approved(None) == Approval()


def test_with_a_new_plan_an_earlier_approval_ends_and_that_is_said() -> None:
    notes: list[str] = []

    ended = approve(target(deployed(EARLIER), **REMOVES), report(planned(limit=2)), None, notes.append)

    assert ended == Approval()
    assert notes == ["with this deployment, the approval of plan 000000000000 ends"]


@pytest.mark.parametrize("has_plan", [True, False])
def test_a_stage_that_removes_no_more_ends_an_earlier_approval_and_that_is_said(*, has_plan: bool) -> None:
    notes: list[str] = []

    ended = approve(
        target(deployed(EARLIER), RemovePolicies="false"), report(planned()) if has_plan else None, None, notes.append
    )

    assert ended == Approval()
    assert notes == ["with this deployment, the approval of plan 000000000000 ends"]


def test_what_is_approved_says_the_plan_how_many_removals_and_until_when() -> None:
    made = planned(removals=1234)
    week = (datetime.now(UTC) + timedelta(days=7)).date().isoformat()

    assert str(Approval(made.changes)) == f"approved: plan {made.digest[:12]}, 1,234 removals, until {week}"
    assert not str(Approval(earlier=EARLIER))


@pytest.mark.parametrize(
    ("change_set", "words"),
    [
        (
            {"ApprovedPlanKey": EARLIER, "ApprovedPlanUntil": "2026-12-03"},
            "approved: plan 000000000000, until 2026-12-03",
        ),
        # An approval that continues keeps its end.
        ({"ApprovedPlanKey": EARLIER}, "approved: plan 000000000000, as before"),
        ({"ApprovedPlanKey": "", "ApprovedPlanUntil": ""}, ""),
        ({}, ""),
    ],
)
def test_the_parameters_of_a_change_set_say_what_it_approves(change_set: dict[str, str], words: str) -> None:
    assert approving.put_in_force(change_set) == words


def test_a_stage_that_removes_nothing_needs_no_approval_and_has_no_parameter() -> None:
    session = deployed()
    on_stage = target(session, RemovePolicies="false")

    assert approve(on_stage, report(planned()), None, pytest.fail) == Approval()
    assert approving.parameters(on_stage, "code", Approval(), owner=OWNER) == {}
    session.assert_used()


@pytest.mark.parametrize(
    ("parameters", "document", "words"),
    [
        ({}, "prod.yaml", 'its RemovePolicies is not "true"; remove --approve, or set RemovePolicies'),
        ({"RemovePolicies": "false"}, "prod.yaml", 'its RemovePolicies is not "true"'),
        (REMOVES, None, "has no guardrails document"),
    ],
)
def test_an_approval_without_removals_is_refused_with_the_reason(
    parameters: dict[str, str], document: str | None, words: str
) -> None:
    stage = target(StubbedSession(), document=document, **parameters).stage

    with pytest.raises(DeployError, match=words):
        approving.refuse_without_removals(stage, "0" * 12)
    approving.refuse_without_removals(stage, None)


def test_the_approved_plan_is_uploaded_under_its_digest_and_named_by_the_parameter() -> None:
    made, session = planned(), StubbedSession()
    key = f"joinguard/plans/{made.digest}.json"
    session.fail("s3", "head_object", "404")
    sent: dict[str, Any] = {}
    session.client("s3").meta.events.register(
        "before-parameter-build.s3.PutObject", lambda params, **_: sent.update(params)
    )
    session.answer("s3", "put_object", {})

    named = approving.parameters(target(session, **REMOVES), "code", Approval(made.changes), owner=OWNER)

    week = (datetime.now(UTC) + timedelta(days=7)).date().isoformat()
    assert named == {"ApprovedPlanKey": key, "ApprovedPlanUntil": week}
    assert (sent["Bucket"], sent["Key"], sent["ExpectedBucketOwner"]) == ("code", key, OWNER)
    assert ApprovedPlan.model_validate_json(sent["Body"]) == made.changes
    session.assert_used()


def test_the_stack_gets_the_last_day_that_the_operator_was_told() -> None:
    """A deployment can last beyond midnight."""
    made, session = planned(), StubbedSession()
    session.fail("s3", "head_object", "404")
    session.answer("s3", "put_object", {})
    approval = Approval(made.changes, until="2026-01-07")

    named = approving.parameters(target(session, **REMOVES), "code", approval, owner=OWNER)

    assert str(approval).endswith(", until 2026-01-07")
    assert named["ApprovedPlanUntil"] == "2026-01-07"


@pytest.mark.parametrize("earlier", ["", EARLIER])
def test_without_a_new_approval_the_parameter_is_the_earlier_one_or_empty(earlier: str) -> None:
    session = StubbedSession()

    named = approving.parameters(target(session, **REMOVES), "code", Approval(earlier=earlier), owner=OWNER)

    # An earlier approval keeps its end.
    assert named == {"ApprovedPlanKey": earlier, "ApprovedPlanUntil": None if earlier else ""}
    session.assert_used()


@pytest.mark.parametrize("text", ["0" * 11, "0" * 65, "no digest at all"])
def test_what_is_no_digest_is_wrong_use(text: str) -> None:
    with pytest.raises(click.BadParameter, match="take all its 64 characters, or the first 12 or more"):
        approving.Digest().convert(text, None, None)
    assert approving.Digest().convert("ABCDEF012345", None, None) == "abcdef012345"


def test_an_executed_change_set_cannot_be_approved_afterwards() -> None:
    result = CliRunner().invoke(cli, ["deploy", "--apply", "arn:x", "--approve", "0" * 12])

    assert result.exit_code == 2
    assert "use --approve with --plan-only" in result.stderr


def test_an_attach_to_that_is_not_valid_names_the_stage() -> None:
    with pytest.raises(DeployError, match="AttachTo of stage prod: 'some' is not all, none"):
        _ = target(StubbedSession(), AttachTo="some").stage.scope
