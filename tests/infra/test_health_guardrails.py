"""What `make status` says of the guardrails in force."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import pytest
from botocore.response import StreamingBody

from infra.deploy.health.check import Check
from infra.deploy.health.deployed import Deployed
from infra.deploy.health.guardrails import guardrails
from schemas.compiled_guardrails import (
    CompiledException,
    CompiledGuardrails,
    CompiledPolicy,
    CompiledRule,
    CompiledSelector,
)
from tests.prepared import stub

ACCOUNT, POLICY = "222222222222", "p-regionlock"


ENDED = date(2020, 1, 1)


def document(expires: date | None = None, *accounts: str) -> CompiledGuardrails:
    excepted = accounts or (ACCOUNT,)
    exceptions = (
        (CompiledException(id="EXC-17", accounts=excepted, policies=(POLICY,), expires=expires),) if expires else ()
    )
    return CompiledGuardrails(
        policies=(CompiledPolicy(id=POLICY, type="SERVICE_CONTROL_POLICY"),),
        rules=(CompiledRule(id="everyone", attach=(POLICY,), match="all"),),
        exceptions=exceptions,
    )


def checked(  # noqa: PLR0913 - what the checks depend on
    compiled: CompiledGuardrails | None,
    *attached: str,
    content: bytes | None = None,
    answers: Sequence[str] = ("",),
    denied: Sequence[str] = (),
    stage: str = "prod",
    given: Mapping[str, str] | None = None,
) -> list[Check]:
    """Return the checks; each answer about an account's policies is an error's code, or empty for a success."""
    s3, organizations = stub("s3"), stub("organizations")
    parameters = {"CodeBucket": "code", **(given or {})}
    if compiled:
        key = parameters["GuardrailsKey"] = f"joinguard/guardrails/{compiled.sha256()}.json"
        body = content or compiled.canonical()
        streamed: Any = StreamingBody(io.BytesIO(body), len(body))
        s3.add_response("get_object", {"Body": streamed}, {"Bucket": "code", "Key": key})
    policies: list[Any] = [{"Id": each} for each in attached]
    for code in answers:
        if code:
            organizations.add_client_error("list_policies_for_target", code, http_status_code=400)
        else:
            organizations.add_response("list_policies_for_target", {"Policies": policies})
    for operation in denied:
        organizations.add_client_error(operation, "AccessDeniedException", http_status_code=400)
    stack = Deployed("joinguard", "arn:aws:cloudformation:us-east-1:1:stack/joinguard/1", "", "", parameters)
    with s3, organizations:
        return list(guardrails(s3.client, organizations.client, stack, stage))


def test_the_short_form_has_no_such_check() -> None:
    assert checked(None) == []


@pytest.mark.parametrize("expires", [None, date(2099, 12, 31)], ids=["no exception", "an exception in force"])
def test_guardrails_in_force_are_named_by_their_hash(expires: date | None) -> None:
    compiled = document(expires)

    [check] = checked(compiled)

    assert check.well
    number = "1 exception" if expires else "0 exceptions"
    assert check.found == f"{compiled.sha256()[:12]}, 1 rule, {number}"


def test_an_exception_that_is_over_and_undone_needs_nobody() -> None:
    [check] = checked(document(date(2020, 1, 1)), POLICY)

    assert check.well


def test_an_exception_that_is_over_and_not_undone_names_its_accounts_and_the_command() -> None:
    [check] = checked(document(date(2020, 1, 1)), "p-FullAWSAccess")

    assert check.state == "wrong"
    assert f"exception EXC-17 is over, and {ACCOUNT} lacks its policies" in check.found
    assert "run `make enforce ARGS=ACCOUNT` for each" in check.next_step


def test_several_accounts_that_lack_a_policy_are_named_with_the_stages_command() -> None:
    [check] = checked(document(ENDED, "333333333333", ACCOUNT), answers=("", ""), stage="test")

    assert f"333333333333, {ACCOUNT} lack its policies" in check.found
    assert "run `make enforce STAGE=test ARGS=ACCOUNT` for each" in check.next_step


KEY = f"joinguard/plans/{'3cbc29f67872':0<64}.json"


@pytest.mark.parametrize(
    ("given", "approved"),
    [
        ({}, "no approved plan"),
        ({"ApprovedPlanKey": "", "ApprovedPlanUntil": ""}, "no approved plan"),
        ({"ApprovedPlanKey": KEY}, "plan 3cbc29f67872 approved"),
        (
            {"ApprovedPlanKey": KEY, "ApprovedPlanUntil": "2099-12-03"},
            "plan 3cbc29f67872 approved until 2099-12-03",
        ),
        (
            {"ApprovedPlanKey": KEY, "ApprovedPlanUntil": "2020-12-03"},
            "the approval of plan 3cbc29f67872 ended on 2020-12-03",
        ),
    ],
)
def test_a_stage_that_removes_says_its_limit_and_which_plan_is_approved(given: dict[str, str], approved: str) -> None:
    limited = document().model_copy(update={"max_removals": 2})

    [_, check] = checked(limited, given={"RemovePolicies": "true", **given})

    assert (check.what, check.found) == ("removals", f"on, limit 2 a day, {approved}")
    assert check.well
    assert check.always_shown


def test_a_stage_that_removes_nothing_says_nothing_of_removals() -> None:
    off = {"RemovePolicies": "false", "ApprovedPlanKey": KEY}

    assert [each.what for each in checked(document(), given=off)] == ["guardrails"]


def test_an_account_that_has_left_hides_no_other() -> None:
    compiled = document(ENDED, "333333333333", ACCOUNT)

    [check] = checked(compiled, answers=("TargetNotFoundException", ""))

    assert check.state == "wrong"
    assert f"and {ACCOUNT} lacks its policies" in check.found


def test_an_account_that_cannot_be_read_is_unknown_and_hides_no_other() -> None:
    compiled = document(ENDED, "333333333333", ACCOUNT)

    [unknown] = checked(compiled, POLICY, answers=("AccessDeniedException", ""))
    [wrong] = checked(compiled, answers=("AccessDeniedException", ""))

    assert (unknown.state, wrong.state) == ("unknown", "wrong")
    for check in (unknown, wrong):
        assert "333333333333 cannot be read: AccessDeniedException" in check.found


def test_more_accounts_than_are_read_are_not_well() -> None:
    compiled = document(ENDED, *(f"2222222222{number}" for number in range(10, 62)))

    [check] = checked(compiled, POLICY, answers=[""] * 50)

    assert check.state == "unknown"
    assert "2 accounts of exceptions that are over were not read" in check.found
    assert "take exceptions that are over out of the document" in check.next_step
    assert "`make enforce ARGS=ACCOUNT`" in check.next_step


def test_facts_that_cannot_be_read_leave_it_open() -> None:
    compiled = CompiledGuardrails(
        policies=(CompiledPolicy(id=POLICY, type="SERVICE_CONTROL_POLICY"),),
        rules=(CompiledRule(id="web", attach=(POLICY,), match=(CompiledSelector(name=("web-*",)),)),),
        exceptions=document(ENDED).exceptions,
    )

    [check] = checked(compiled, denied=("describe_account",))

    assert check.state == "unknown"
    assert f"the facts of {ACCOUNT} cannot be read" in check.found


def test_replaced_guardrails_are_not_believed() -> None:
    [check] = checked(document(), content=document(date(2020, 1, 1)).canonical())

    assert (check.state, check.next_step) == ("wrong", "run `make deploy`")
    assert "does not have the SHA-256 in its key" in check.found
