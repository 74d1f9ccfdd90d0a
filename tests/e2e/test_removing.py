"""Removing, end to end: an account no longer needs a policy, and the second worker takes it away, or says why not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.deploy.health import checks
from infra.deploy.stages import Stage, Target
from infra.local.events import resource_untagged
from infra.local.waiting import until
from schemas.outcome import AttachmentResult, OutcomeStatus
from schemas.plan import ApprovedPlan
from tests.e2e.test_main_job import event_id
from tests.e2e.test_operate import operate, session_of
from tests.removing import removing_stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from schemas.compiled_guardrails import CompiledGuardrails
    from tests.e2e.conftest import Pipeline
    from tests.removing import Removing


@pytest.fixture(scope="module")
def stage(shared: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Removing]:
    with removing_stage(shared, tmp_path_factory.mktemp("removing")) as made:
        yield made


def joined(stage: Removing) -> str:
    """Return an account that joined with a tag because of which it got the policy from us."""
    account_id = stage.account(environment="prod")
    stage.pipeline.handle(stage.pipeline.invited(account_id))
    assert stage.attached(account_id) == {stage.lock}
    return account_id


def untag(stage: Removing, account_id: str) -> str:
    """Take the tag from an account, report it, and return the event's id."""
    stage.client.untag_resource(ResourceId=account_id, TagKeys=["environment"])
    event = resource_untagged(account_id, stage.pipeline.at.management_account_id)
    stage.pipeline.watch.put(event)
    return event_id(event)


def test_what_an_account_no_longer_needs_is_removed_and_what_others_attached_is_kept(
    pipeline: Pipeline, stage: Removing
) -> None:
    account_id = joined(stage)
    stage.attach(stage.handmade, account_id)

    event = untag(stage, account_id)

    removal = stage.removal(account_id)
    assert stage.attached(account_id) == {stage.handmade}
    assert removal.status is OutcomeStatus.ENFORCED
    results = {each.policy_id: (each.result, each.fault and each.fault.code) for each in removal.policies}
    assert results == {
        stage.lock: (AttachmentResult.REMOVED, None),
        stage.handmade: (AttachmentResult.KEPT, "NOT_OURS"),
    }
    [evidence] = pipeline.watch.evidence(removal.event_id)
    assert {each.policy_id: each.result for each in evidence.policies} == {
        each.policy_id: each.result for each in removal.policies
    }
    assert evidence.guardrails == removal.guardrails
    assert account_id not in evidence.model_dump_json()
    # The account is evaluated again, as soon as AWS has told all its servers what was removed. The request came before
    # the outcome.
    assert stage.delayed_joins() == 1
    assert pipeline.outcome(event).status is OutcomeStatus.ENFORCED
    assert pipeline.watch.dead_letter_count() == 0
    assert pipeline.relay.counted()["DetachPolicy"] == 1


def test_an_account_that_still_needs_its_policies_keeps_them(pipeline: Pipeline, stage: Removing) -> None:
    account_id = joined(stage)
    request = stage.request(account_id)

    stage.send(request.model_dump_json())

    removal = stage.removal(account_id)
    assert (removal.event_id, removal.status, removal.policies) == (request.event_id, OutcomeStatus.ENFORCED, ())
    assert stage.attached(account_id) == {stage.lock}
    assert "DetachPolicy" not in pipeline.relay.counted()
    assert stage.delayed_joins() == 0


def test_above_the_limit_nothing_is_removed_until_the_message_is_redriven(pipeline: Pipeline, stage: Removing) -> None:
    account_id = joined(stage)
    stage.deploy(removals=0)
    try:
        untag(stage, account_id)

        removal = stage.removal(account_id)
        assert (removal.status, removal.fault and removal.fault.code) == (OutcomeStatus.FAILED, "REMOVAL_LIMIT")
        assert [each.result for each in removal.policies] == [AttachmentResult.FAILED]
        assert stage.attached(account_id) == {stage.lock}
        until(lambda: pipeline.watch.dead_letter_count() == 1, "the dead letter")
        [dead_letter] = pipeline.watch.dead_letters()
        assert dead_letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "REMOVAL_LIMIT"
        assert "DetachPolicy" not in pipeline.relay.counted()
    finally:
        stage.deploy()

    # Whether the limit was raised since is not known: the message waits until tomorrow, unless an operator insists.
    held = operate(pipeline, "redrive", "--all", "--wait", "30s", "--confirm", "--reason", "the removal is meant")
    assert "every message is left out" in held.stderr
    assert stage.attached(account_id) == {stage.lock}

    # A redriven message comes to the joins queue, whose worker passes it on.
    done = operate(pipeline, "redrive", "--all", "--force", "--wait", "30s", "--confirm", "--reason", "it is meant")

    assert done.returncode == 0, done.stderr
    assert stage.attached(account_id) == set()
    again = stage.removal(account_id)
    assert (again.event_id, again.status) == (removal.event_id, OutcomeStatus.ENFORCED)
    assert [each.status for each in pipeline.watch.evidence(again.event_id)] == ["FAILED", "ENFORCED"]


def exception(stage: Removing, account_id: str, expires: date) -> str:
    """Return an exception that takes the policy from an account."""
    return (
        f'{{ id: EXC-9, accounts: ["{account_id}"], policies: [{stage.names["lock"]}], owner: team@example.com, '
        f"approved_by: ciso@example.com, reason: CHG-9, expires: {expires} }}"
    )


def test_an_exception_that_begins_takes_a_policy_off_and_its_end_brings_it_back(
    pipeline: Pipeline, stage: Removing
) -> None:
    account_id, today = joined(stage), datetime.now(UTC).date()
    stage.deploy(exceptions=exception(stage, account_id, today + timedelta(days=2)))
    try:
        begun = operate(pipeline, "enforce", account_id, "--confirm", "--reason", "EXC-9 begins")
        removal = stage.removal(account_id)
        without = stage.attached(account_id)
        stage.deploy(exceptions=exception(stage, account_id, today - timedelta(days=2)))
        ended = operate(pipeline, "enforce", account_id, "--confirm", "--reason", "EXC-9 is over")
    finally:
        stage.deploy()

    assert (begun.returncode, ended.returncode) == (0, 0), begun.stderr + ended.stderr
    [policy] = removal.policies
    assert (policy.result, policy.exceptions, without) == (AttachmentResult.REMOVED, ("EXC-9",), set())
    assert stage.attached(account_id) == {stage.lock}


def test_an_approved_plan_removes_above_the_limit_what_it_names_and_nothing_else(
    pipeline: Pipeline, stage: Removing
) -> None:
    named, other = joined(stage), joined(stage)

    def plan(guardrails: CompiledGuardrails) -> ApprovedPlan:
        return ApprovedPlan.of(pipeline.at.organization_id, guardrails.sha256(), {}, {stage.lock: [named]})

    stage.deploy(removals=0, approved=plan)
    try:
        for account_id in (named, other):
            untag(stage, account_id)

        removed, refused = stage.removal(named), stage.removal(other)
    finally:
        stage.deploy()

    assert (removed.status, stage.attached(named)) == (OutcomeStatus.ENFORCED, set())
    [evidence] = pipeline.watch.evidence(removed.event_id)
    assert evidence.approved_plan is not None
    assert (refused.status, stage.attached(other)) == (OutcomeStatus.FAILED, {stage.lock})
    [evidence] = pipeline.watch.evidence(refused.event_id)
    assert evidence.approved_plan is None


#: What `make status` checks only in a stage that removes policies.
CHECKED = {
    "removals waiting",
    "policy of queue Removals",
    "removing worker's mapping",
    "removing worker's function",
    "removing worker's role",
    "removing worker's permissions boundary",
}


def test_status_reads_every_part_of_the_second_worker_under_the_operators_role(
    pipeline: Pipeline, stage: Removing
) -> None:
    """A local stack differs from its template where the stand-in does, so only what can be read is compared."""
    keys = session_of(pipeline, "OperatorReads")
    session = boto3.Session(
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=keys["AWS_SESSION_TOKEN"],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", pipeline.aws.endpoint)
        found = {check.what: check for check in checks(Target(session, Stage(name="prod", region="us-east-1"), 1))}

    assert found.keys() >= CHECKED
    assert {name: found[name].found for name in CHECKED if found[name].state == "unknown"} == {}
    assert found["removals waiting"].found == "0"
    assert found["removing worker's mapping"].well
    assert stage


@pytest.mark.usefixtures("stage")
def test_only_the_worker_that_attaches_may_send_requests(pipeline: Pipeline) -> None:
    """The root user's keys are excepted in the embedded AWS, so a user with every permission tries."""
    iam = pipeline.client("iam")
    iam.create_user(UserName="administrator")
    iam.attach_user_policy(UserName="administrator", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    keys = iam.create_access_key(UserName="administrator")["AccessKey"]
    sqs = pipeline.aws.client(
        "sqs", aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"]
    )

    with pytest.raises(ClientError, match="AccessDenied"):
        sqs.send_message(QueueUrl=pipeline.resource("Removals"), MessageBody="x")
