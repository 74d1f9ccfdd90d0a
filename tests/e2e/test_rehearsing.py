"""A rehearsal passes the bus, the rule, its target, the queue and the worker, in the embedded AWS with IAM enforced.

The stand-in's schedules put events of another source than the template says, so the operator's tool sends them here.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from infra.local.waiting import until
from schemas.evidence import RehearsalEvidence
from schemas.keys import REHEARSAL_ROW
from schemas.outcome import OutcomeStatus
from tests.e2e.test_observing import observing
from tests.e2e.test_operate import audit_records, operate, session_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Done, Pipeline

__all__ = ["observing"]
#: On machines of any speed, wait until it comes through.
WAIT = ("--timeout", "15m")
REHEARSAL = {"Source": "joinguard.rehearsal", "DetailType": "Joinguard Rehearsal", "Detail": "{}"}


def rehearse(pipeline: Pipeline, *arguments: str) -> Done:
    return operate(pipeline, "rehearse", "--json", *arguments, **session_of(pipeline, "OperatorActs"))


def evidence_of(pipeline: Pipeline, event_id: str) -> list[RehearsalEvidence]:
    s3, bucket = pipeline.client("s3"), pipeline.at.evidence_bucket
    keys = [
        each["Key"]
        for each in s3.list_objects_v2(Bucket=bucket, Prefix="evidence/rehearsal/").get("Contents", [])
        if f"/{event_id}/" in each["Key"]
    ]
    bodies = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys]
    return [RehearsalEvidence.model_validate_json(body) for body in bodies]


def test_an_operators_rehearsal_passes_every_hop_and_calls_nothing_of_the_organization(pipeline: Pipeline) -> None:
    recorded = len(audit_records(pipeline))

    done = rehearse(pipeline, *WAIT)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [*found["passed"]] == ["bus", "queue", "worker", "evidence", "outcome"]
    row = pipeline.outcome(REHEARSAL_ROW[1])
    assert row.rehearsal
    assert (row.status, row.rehearsal.event_id) == (OutcomeStatus.IGNORED, found["event_id"])
    assert len(evidence_of(pipeline, found["event_id"])) == 1
    assert pipeline.relay.counted() == {}
    assert len(audit_records(pipeline)) == recorded
    assert pipeline.watch.dead_letter_count() == 0
    assert pipeline.watch.failing() == []


def test_rehearsals_do_not_make_the_table_grow(pipeline: Pipeline) -> None:
    for _ in range(2):
        assert rehearse(pipeline, *WAIT).returncode == 0

    [row] = pipeline.aws.resource("dynamodb").Table(pipeline.at.outcomes_table).scan()["Items"]
    assert (row["account_id"], row["event_id"]) == REHEARSAL_ROW


def test_a_stage_that_only_observes_rehearses_too(observing: Pipeline) -> None:
    assert rehearse(observing, *WAIT).returncode == 0
    assert observing.relay.counted() == {}


def test_a_join_in_the_detail_of_a_rehearsal_changes_nothing(pipeline: Pipeline) -> None:
    """Whoever may put rehearsals on the bus can make the worker do nothing else."""
    account_id = pipeline.account()
    join = pipeline.invited(account_id)
    entry = {"Source": "joinguard.rehearsal", "DetailType": join["detail-type"], "Detail": json.dumps(join["detail"])}
    bus = pipeline.aws.client("events", **keys(pipeline, "OperatorActs"))

    [answer] = bus.put_events(Entries=[entry])["Entries"]

    until(lambda: evidence_of(pipeline, answer["EventId"]), "the rehearsal to come through")
    pipeline.watch.until_quiet()
    assert pipeline.watch.attached(account_id) == set()
    assert pipeline.relay.counted() == {}
    assert pipeline.watch.outcome(join["detail"]["eventID"]) is None


@pytest.fixture
def without_target(pipeline: Pipeline) -> Iterator[Pipeline]:
    events, rule = pipeline.client("events"), pipeline.resource("MemberAccountInitialization").rpartition("/")[2]
    targets = events.list_targets_by_rule(Rule=rule)["Targets"]
    events.remove_targets(Rule=rule, Ids=[each["Id"] for each in targets])
    yield pipeline
    events.put_targets(Rule=rule, Targets=targets)


def test_a_rehearsal_is_lost_before_the_queue_if_the_rule_has_no_target(without_target: Pipeline) -> None:
    done = rehearse(without_target, "--timeout", "1s")

    assert done.returncode == 1
    assert json.loads(done.stdout)["lost_at"] == "queue"
    assert "the joins queue has no visible message" in done.stderr


def test_a_rehearsal_is_lost_before_the_evidence_if_the_worker_may_not_write_it(pipeline: Pipeline) -> None:
    iam, role = pipeline.client("iam"), pipeline.resource("AttachPoliciesRole")
    before = iam.get_role_policy(RoleName=role, PolicyName="attach-policies")["PolicyDocument"]
    less = before | {"Statement": [each for each in before["Statement"] if each["Sid"] != "WriteEvidence"]}
    iam.put_role_policy(RoleName=role, PolicyName="attach-policies", PolicyDocument=json.dumps(less))
    done: list[Done] = []

    def is_lost_there() -> bool:
        done.append(rehearse(pipeline, "--timeout", "1s"))
        return bool(json.loads(done[-1].stdout)["lost_at"] == "evidence")

    try:
        until(is_lost_there, "the worker to receive a rehearsal")
    finally:
        iam.put_role_policy(RoleName=role, PolicyName="attach-policies", PolicyDocument=json.dumps(before))

    assert {each.returncode for each in done} == {1}
    assert "has not written the evidence" in done[-1].stderr


def keys(pipeline: Pipeline, role: str) -> dict[str, str]:
    return {name.lower(): value for name, value in session_of(pipeline, role).items()}


def as_role(pipeline: Pipeline, role: str) -> dict[str, str]:
    """Return credentials of a role that only a service may assume; the test adds itself to its trust for a moment."""
    iam, sts, name = pipeline.client("iam"), pipeline.client("sts"), pipeline.resource(role)
    found = iam.get_role(RoleName=name)["Role"]
    trust = found["AssumeRolePolicyDocument"]
    ours = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    both = trust | {"Statement": [*trust["Statement"], ours]}
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(both))
    try:
        session = sts.assume_role(RoleArn=found["Arn"], RoleSessionName="test")["Credentials"]
    finally:
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
    return {
        "aws_access_key_id": session["AccessKeyId"],
        "aws_secret_access_key": session["SecretAccessKey"],
        "aws_session_token": session["SessionToken"],
    }


def schedule_of(pipeline: Pipeline) -> Any:
    return pipeline.client("scheduler").get_schedule(Name=pipeline.resource("Rehearsal"))


def test_what_the_schedule_puts_on_the_bus_comes_through_with_the_schedules_role(pipeline: Pipeline) -> None:
    """In a local installation, the schedule is disabled: it would disturb other tests."""
    schedule = schedule_of(pipeline)
    target = schedule["Target"]
    entry = {name: target["EventBridgeParameters"][name] for name in ("Source", "DetailType")}
    bus = pipeline.aws.client("events", **as_role(pipeline, "RehearsalRole"))

    [answer] = bus.put_events(Entries=[entry | {"Detail": target["Input"]}])["Entries"]

    until(lambda: evidence_of(pipeline, answer["EventId"]), "the rehearsal to come through")
    assert (schedule["State"], schedule["ScheduleExpression"]) == ("DISABLED", "rate(15 minutes)")
    assert target["RoleArn"].rpartition("/")[2] == pipeline.resource("RehearsalRole")


@pytest.mark.parametrize(
    ("service", "call", "arguments"),
    [
        ("events", "put_events", {"Entries": [REHEARSAL | {"EventBusName": "other"}]}),
        ("events", "disable_rule", {"Name": "MemberAccountInitialization"}),
        ("sqs", "list_queues", {}),
        ("organizations", "list_accounts", {}),
        ("lambda", "list_functions", {}),
        ("dynamodb", "list_tables", {}),
    ],
)
def test_the_schedules_role_may_do_nothing_else(
    pipeline: Pipeline, service: str, call: str, arguments: dict[str, Any]
) -> None:
    client = pipeline.aws.client(service, **as_role(pipeline, "RehearsalRole"))

    with pytest.raises(ClientError) as refused:
        getattr(client, call)(**arguments)

    assert "AccessDenied" in refused.value.response["Error"]["Code"]


def test_without_its_one_action_the_schedules_role_cannot_rehearse(pipeline: Pipeline) -> None:
    iam, role = pipeline.client("iam"), pipeline.resource("RehearsalRole")
    before = iam.get_role_policy(RoleName=role, PolicyName="rehearse")["PolicyDocument"]
    nothing = before | {"Statement": [each | {"Action": "events:DescribeRule"} for each in before["Statement"]]}
    bus = pipeline.aws.client("events", **as_role(pipeline, "RehearsalRole"))
    iam.put_role_policy(RoleName=role, PolicyName="rehearse", PolicyDocument=json.dumps(nothing))
    try:
        with pytest.raises(ClientError, match="AccessDenied"):
            bus.put_events(Entries=[REHEARSAL])
    finally:
        iam.put_role_policy(RoleName=role, PolicyName="rehearse", PolicyDocument=json.dumps(before))


def test_whoever_only_reads_cannot_rehearse_and_is_told_which_role_can(pipeline: Pipeline) -> None:
    done = operate(pipeline, "rehearse", **session_of(pipeline, "OperatorReads"))

    assert done.returncode == 1
    assert "OperatorActs" in done.stderr


def test_the_worker_logs_the_seconds_of_each_hop_and_no_account_id(pipeline: Pipeline) -> None:
    since = time.time()
    event_id = json.loads(rehearse(pipeline, *WAIT).stdout)["event_id"]
    lines: list[str] = []

    def is_logged() -> bool:
        lines[:] = [line for line in pipeline.log(since) if event_id in line]
        return bool(lines)

    until(is_logged, "the worker's line about the rehearsal")
    line = json.loads(lines[0])
    assert (line["event_name"], [*line["seconds_by_hop"]]) == ("Rehearsal", ["queue", "worker", "evidence", "outcome"])
    assert pipeline.at.management_account_id not in lines[0]
