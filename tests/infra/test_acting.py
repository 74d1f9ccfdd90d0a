"""Only one stage of an organization attaches policies; the embedded AWS is one account, so the others are stubbed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from infra.deploy.acting import Other, others
from infra.deploy.preflight import problems, warnings
from infra.deploy.stages import Stage, Target
from tests.prepared import ACCOUNT, ACCOUNT_ID
from tests.stubs import StubbedSession

if TYPE_CHECKING:
    from collections.abc import Iterable

MAIN: Final = "MemberAccountInitialization"
FORWARDER: Final = f"{MAIN}Forwarder"
ELSEWHERE: Final = "333333333333"
MEMBER: Final = replace(ACCOUNT, account_id="222222222222")


def target(session: StubbedSession, region: str = "us-east-1", **parameters: str) -> Target:
    any_session: Any = session
    return Target(any_session, Stage(name="test", region=region, parameters=parameters), poll_seconds=1)


def rules(session: StubbedSession, *names: str, state: str = "ENABLED", region: str = "us-east-1") -> None:
    listed = [
        {"Name": each, "Arn": f"arn:aws:events:{region}:{ACCOUNT_ID}:rule/{each}", "State": state} for each in names
    ]
    session.answer("events", "list_rules", {"Rules": listed}, NamePrefix=MAIN)


def forwards_to(session: StubbedSession, rule: str, region: str, account_id: str = ACCOUNT_ID) -> None:
    bus = f"arn:aws:events:{region}:{account_id}:event-bus/default"
    session.answer("events", "list_targets_by_rule", {"Targets": [{"Id": "main-stack", "Arn": bus}]}, Rule=rule)


def stack(session: StubbedSession, name: str, attach_to: str | None) -> None:
    parameters = [{"ParameterKey": "AttachTo", "ParameterValue": attach_to}] if attach_to else []
    described = {
        "StackName": name,
        "StackId": f"arn:x/{name}/1",
        "StackStatus": "CREATE_COMPLETE",
        "CreationTime": "2026-11-24T12:00:00Z",
        "Parameters": parameters,
    }
    session.answer("cloudformation", "describe_stacks", {"Stacks": [described]}, StackName=name)


def about_stages(found: Iterable[str]) -> list[str]:
    return [each for each in found if "attaches policies" in each]


def refused(session: StubbedSession, **parameters: str) -> list[str]:
    """Return the problems of a stage that are about other stages."""
    session.fail("organizations", "list_roots", "AccessDeniedException")
    return about_stages(problems(target(session, **parameters), ACCOUNT))


@pytest.mark.parametrize("attach_to", ["all", ELSEWHERE, None], ids=["all", "one account", "an older version"])
def test_a_second_stage_that_attaches_is_refused_with_both_ways_out(attach_to: str | None) -> None:
    session = StubbedSession()
    rules(session, MAIN, f"{MAIN}-test")
    stack(session, "joinguard", attach_to)

    [problem] = refused(session)

    assert problem == (
        "stage prod (in us-east-1) attaches policies in this organization, and only one stage may. Set AttachTo to "
        '"none" in stage test, which then only observes; or set it in stage prod and deploy that stage first'
    )
    session.assert_used()


def test_a_stage_that_only_observes_may_be_beside_any_other() -> None:
    session = StubbedSession()

    assert refused(session, AttachTo="none") == []
    assert about_stages(warnings(target(session, AttachTo="none"), MEMBER)) == []


@pytest.mark.parametrize(
    ("rule", "state", "attach_to"),
    [(f"{MAIN}-other", "ENABLED", "none"), (f"{MAIN}-other", "DISABLED", "all"), (f"{MAIN}ial", "ENABLED", "all")],
    ids=["a stage that observes", "a stage whose rule is disabled", "another rule"],
)
def test_a_stage_that_attaches_nothing_is_no_problem(rule: str, state: str, attach_to: str) -> None:
    session = StubbedSession()
    rules(session, rule, state=state)
    stack(session, "joinguard-other", attach_to)

    assert refused(session) == []


def test_a_stage_in_another_region_is_found_through_its_forwarder() -> None:
    session = StubbedSession()
    rules(session, FORWARDER, f"{FORWARDER}-test")
    forwards_to(session, FORWARDER, "eu-central-1")
    forwards_to(session, f"{FORWARDER}-test", "eu-central-1")
    stack(session, "joinguard", "all")
    rules(session)

    found = list(others(target(session, "eu-central-1"), ACCOUNT, "us-east-1"))

    assert found == [Other("prod", "in eu-central-1", attaches=True)]
    session.assert_used()


def test_a_stage_that_was_moved_to_another_region_attaches_in_the_old_one_too() -> None:
    session = StubbedSession()
    session.answer("events", "describe_rule", {}, Name=f"{FORWARDER}-test")
    rules(session, f"{MAIN}-test")
    stack(session, "joinguard-test", "all")
    rules(session, f"{MAIN}-test", region="eu-central-1")
    session.fail("organizations", "list_roots", "AccessDeniedException")

    [problem] = about_stages(problems(target(session, "eu-central-1"), replace(ACCOUNT, region="eu-central-1")))

    assert problem.startswith("stage test is also installed in us-east-1, where it attaches policies")
    assert problem.endswith("run `make destroy STAGE=test` first")


def test_a_forwarder_whose_target_was_removed_belongs_to_no_other_stage() -> None:
    session = StubbedSession()
    rules(session, FORWARDER)
    session.answer("events", "list_targets_by_rule", {}, Rule=FORWARDER)

    assert refused(session) == []
    session.assert_used()


def test_a_stage_in_another_account_cannot_be_read_and_is_a_warning() -> None:
    session = StubbedSession()
    rules(session, f"{FORWARDER}-far")
    forwards_to(session, f"{FORWARDER}-far", "eu-west-1", ELSEWHERE)

    [warning] = about_stages(warnings(target(session), ACCOUNT))

    assert warning.startswith(f"it is not known whether stage far (in eu-west-1 of account {ELSEWHERE}) attaches")


def test_a_rule_without_its_stack_is_a_warning() -> None:
    session = StubbedSession()
    rules(session, f"{MAIN}-gone")
    session.fail("cloudformation", "describe_stacks", "ValidationError", "does not exist")

    [warning] = about_stages(warnings(target(session), ACCOUNT))

    assert "stage gone (in us-east-1)" in warning


def test_rules_that_cannot_be_listed_are_a_warning_and_not_a_problem() -> None:
    session = StubbedSession()
    session.fail("events", "list_rules", "AccessDeniedException")
    session.fail("events", "list_rules", "AccessDeniedException")

    assert refused(session) == []
    [warning] = about_stages(warnings(target(session), ACCOUNT))

    assert "AccessDeniedException" in warning


def test_a_member_account_is_told_that_it_does_not_see_the_management_accounts_stages() -> None:
    session = StubbedSession()
    rules(session)

    [warning] = about_stages(warnings(target(session), replace(MEMBER, management_account_id=ELSEWHERE)))

    assert warning.startswith(f"it is not known whether a stage in account {ELSEWHERE} attaches policies")
