"""The checks before a deployment, in accounts and with permissions that the embedded AWS does not have."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from botocore.exceptions import ClientError

from handlers.operate.errors import OperateError
from infra.deploy import guardrails, installing
from infra.deploy.preflight import Account, problems, read_account
from infra.deploy.stack import DeployError
from infra.deploy.stages import Stage, Target
from tests.stubs import StubbedSession

if TYPE_CHECKING:
    from pathlib import Path

MANAGEMENT: Final = "111111111111"
POLICY: Final = "p-aaaaaaaa"
HERE: Final = Account(MANAGEMENT, "aws", "us-east-1", "o-exampleorgid", MANAGEMENT, all_features=True)
MEMBER: Final = replace(HERE, account_id="222222222222")
DEFAULT: Final = {"PolicyIds": POLICY}


def target(session: StubbedSession, **parameters: str) -> Target:
    any_session: Any = session
    return Target(any_session, Stage(name="test", region="us-east-1", parameters=parameters), poll_seconds=1)


def roots(session: StubbedSession, scps: str = "ENABLED") -> None:
    types = [{"Type": "SERVICE_CONTROL_POLICY", "Status": scps}]
    session.answer("organizations", "list_roots", {"Roots": [{"Id": "r-abcd", "PolicyTypes": types}]})


def organization(session: StubbedSession, *, scps: str = "ENABLED", kind: str = "SERVICE_CONTROL_POLICY") -> None:
    """Set the answers of an organization with one policy."""
    roots(session, scps)
    summary = {"Id": POLICY, "Type": kind}
    session.answer("organizations", "describe_policy", {"Policy": {"PolicySummary": summary}}, PolicyId=POLICY)


def found(session: StubbedSession, account: Account, **parameters: str) -> list[str]:
    return list(problems(target(session, **parameters or DEFAULT), account))


def test_an_account_that_can_work_has_no_problems() -> None:
    session = StubbedSession()
    organization(session)

    assert found(session, HERE) == []
    session.assert_used()


@pytest.mark.parametrize(
    ("account", "parameters", "message"),
    [
        (replace(HERE, all_features=False), DEFAULT, "run aws organizations enable-all-features"),
        (replace(HERE, partition="aws-iso"), DEFAULT, "partition aws-iso is not supported"),
        (MEMBER, DEFAULT, "join events exist only in the management account. Run `make forwarder`"),
    ],
    ids=["consolidated billing", "an unknown partition", "a member account without a forwarder"],
)
def test_an_account_that_cannot_work_has_one_problem(
    account: Account, parameters: dict[str, str], message: str
) -> None:
    session = StubbedSession()
    organization(session)

    [problem] = found(session, account, **parameters)

    assert message in problem


def test_a_stage_that_removes_policies_needs_a_guardrails_document() -> None:
    session = StubbedSession()
    organization(session)

    [problem] = found(session, HERE, RemovePolicies="true", **DEFAULT)

    assert "RemovePolicies needs a guardrails document" in problem


def test_a_member_account_needs_the_management_accounts_forwarder_and_policies() -> None:
    session = StubbedSession()
    organization(session)
    assert found(session, MEMBER, ForwarderAccountId=MANAGEMENT, **DEFAULT) == []
    roots(session)

    [problem] = found(session, MEMBER, ForwarderAccountId=MANAGEMENT, CreatePolicies="true")

    assert "CreatePolicies works only in the management account" in problem


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"scps": "PENDING_ENABLE"}, "enable-policy-type --root-id r-abcd --policy-type SERVICE_CONTROL_POLICY"),
        ({"kind": "TAG_POLICY"}, f"policy {POLICY} is a TAG_POLICY, not a service control policy"),
    ],
    ids=["SCPs are not enabled", "a policy of another type"],
)
def test_policies_that_cannot_be_attached_are_a_problem(answers: dict[str, str], message: str) -> None:
    session = StubbedSession()
    organization(session, **answers)

    [problem] = found(session, HERE)

    assert message in problem


@pytest.mark.parametrize(
    ("account", "message"),
    [
        (HERE, "cannot read from Organizations"),
        (MEMBER, "account 222222222222 is not a delegated administrator"),
    ],
    ids=["management account", "member account"],
)
def test_a_refusal_of_organizations_has_the_accounts_next_step(account: Account, message: str) -> None:
    session = StubbedSession()
    session.fail("organizations", "list_roots", "AccessDeniedException")

    [problem] = found(session, account, ForwarderAccountId=MANAGEMENT, **DEFAULT)

    assert message in problem
    assert ("make delegation-policy" in problem) is (account is MEMBER)


def test_deploy_names_the_command_that_writes_a_stale_lock_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*_: object) -> None:
        raise OperateError("the lock file is stale; run `joinguard lock`")

    monkeypatch.setattr(guardrails, "load", stale)
    monkeypatch.setattr(guardrails, "_reader", lambda *_: None)
    on_stage = target(StubbedSession())
    with_document = replace(on_stage, stage=on_stage.stage.model_copy(update={"document": tmp_path / "test.yaml"}))

    with pytest.raises(DeployError, match="run `make lock STAGE=test`"):
        guardrails.compile_for(with_document, "us-east-1", pytest.fail)


def identity(session: StubbedSession, account_id: str = MANAGEMENT) -> None:
    arn = f"arn:aws-us-gov:iam::{account_id}:user/x"
    session.answer("sts", "get_caller_identity", {"Account": account_id, "Arn": arn, "UserId": "x"})


def organization_of(session: StubbedSession) -> None:
    described = {"Id": "o-exampleorgid", "MasterAccountId": MANAGEMENT, "FeatureSet": "ALL"}
    session.answer("organizations", "describe_organization", {"Organization": described})


def test_the_account_is_that_of_the_credentials() -> None:
    session = StubbedSession()
    identity(session)
    organization_of(session)

    assert read_account(target(session)) == replace(HERE, partition="aws-us-gov")


def test_rejected_credentials_are_an_error_with_the_next_step() -> None:
    session = StubbedSession()
    session.fail("sts", "get_caller_identity", "ExpiredToken")

    with pytest.raises(DeployError, match=r"AWS rejected the credentials: .*ExpiredToken.*Log in"):
        read_account(target(session))


def test_an_account_without_an_organization_is_an_error_with_the_next_step() -> None:
    session = StubbedSession()
    identity(session)
    session.fail("organizations", "describe_organization", "AWSOrganizationsNotInUseException")

    with pytest.raises(DeployError, match=r"cannot read the account's organization: .*NotInUse.*Deploy from"):
        read_account(target(session))


def test_the_forwarder_is_refused_in_a_member_account() -> None:
    session = StubbedSession()
    identity(session, MEMBER.account_id)
    organization_of(session)

    with pytest.raises(DeployError, match="only in the management account"):
        installing.plan_forwarder(target(session), None, pytest.fail)


def test_a_forwarder_to_another_account_keeps_its_target_when_it_is_updated() -> None:
    """Otherwise a new AlarmEmail would send the events to the management account's own bus."""
    session, bus = StubbedSession(), f"arn:aws-us-gov:events:us-gov-west-1:{MEMBER.account_id}:event-bus/default"
    identity(session)
    organization_of(session)
    stack = {
        "StackName": "joinguard-test-forwarder",
        "StackId": "arn:aws:cloudformation:us-gov-west-1:111111111111:stack/joinguard-test-forwarder/1",
        "CreationTime": datetime(2026, 11, 26, tzinfo=UTC),
        "StackStatus": "UPDATE_COMPLETE",
        "Parameters": [{"ParameterKey": "TargetBusArn", "ParameterValue": bus}],
    }
    for _ in range(2):
        session.answer("cloudformation", "describe_stacks", {"Stacks": [stack]})
    given: dict[str, str] = {}
    session.client("cloudformation").meta.events.register(
        "before-parameter-build.cloudformation.CreateChangeSet",
        lambda params, **_: given.update({p["ParameterKey"]: p["ParameterValue"] for p in params["Parameters"]}),
    )
    session.fail("cloudformation", "create_change_set", "AccessDenied")

    with pytest.raises(ClientError, match="AccessDenied"):
        installing.plan_forwarder(target(session, AlarmEmail="a@example.com", RetentionDays="1"), None, pytest.fail)

    assert given == {"TargetBusArn": bus, "NameSuffix": "-test", "AlarmEmail": "a@example.com"}


def test_a_permissions_boundary_that_does_not_exist_is_a_problem() -> None:
    session = StubbedSession()
    organization(session)
    session.fail("iam", "get_policy", "NoSuchEntity")
    boundary = f"arn:aws:iam::{MANAGEMENT}:policy/boundary"

    [problem] = found(session, HERE, PermissionsBoundaryArn=boundary, **DEFAULT)

    assert f"there is no policy {boundary}; correct PermissionsBoundaryArn" in problem


def test_a_permissions_boundary_that_may_not_be_read_is_left_to_cloudformation() -> None:
    session = StubbedSession()
    organization(session)
    session.fail("iam", "get_policy", "AccessDenied")

    assert found(session, HERE, PermissionsBoundaryArn=f"arn:aws:iam::{MANAGEMENT}:policy/b", **DEFAULT) == []


def test_a_bucket_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    session = StubbedSession()
    session.fail("s3", "head_bucket", "403", "Forbidden")

    with pytest.raises(DeployError, match=r"bucket joinguard-code-111111111111-us-east-1 is another account's"):
        installing.parameters_for(target(session, **DEFAULT), HERE, tmp_path / "no.zip")
