"""The main job, end to end: real template, real zip, IAM enforced, a relay that counts calls to Organizations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from infra.local.installation import configure
from infra.local.waiting import until
from schemas.outcome import AttachmentResult, OutcomeStatus
from tests.e2e.conftest import UNPACED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Pipeline

READ, ATTACH = "ListPoliciesForTarget", "AttachPolicy"


def event_id(event: dict[str, dict[str, str]]) -> str:
    return event["detail"]["eventID"]


def test_a_first_join_takes_one_read_and_one_attachment_per_policy(pipeline: Pipeline) -> None:
    account_id = pipeline.account()
    event = pipeline.invited(account_id)

    pipeline.handle(event)

    assert pipeline.relay.counted() == {READ: 1, ATTACH: 2}
    assert pipeline.watch.attached(account_id) == set(pipeline.at.policy_ids)
    outcome = pipeline.outcome(event_id(event))
    assert (outcome.status, outcome.account_id, outcome.attempts) == (OutcomeStatus.ENFORCED, account_id, 1)
    assert [policy.result for policy in outcome.policies] == [AttachmentResult.ATTACHED] * 2


def test_the_second_event_of_a_join_takes_one_read(pipeline: Pipeline) -> None:
    account_id = pipeline.account()
    pipeline.handle(pipeline.invited(account_id))
    pipeline.relay.counted()
    second = pipeline.created(account_id)

    pipeline.handle(second)

    assert pipeline.relay.counted() == {READ: 1}
    outcome = pipeline.outcome(event_id(second))
    assert outcome.status is OutcomeStatus.ENFORCED
    assert {policy.result for policy in outcome.policies} == {AttachmentResult.ALREADY_ATTACHED}


def test_a_redelivery_of_an_enforced_event_makes_no_call_and_writes_no_evidence(pipeline: Pipeline) -> None:
    event = pipeline.invited(pipeline.account())
    pipeline.handle(event)
    before = pipeline.outcome(event_id(event)), pipeline.watch.evidence(event_id(event))
    pipeline.relay.counted()

    pipeline.handle(event)

    assert pipeline.relay.counted() == {}
    assert (pipeline.outcome(event_id(event)), pipeline.watch.evidence(event_id(event))) == before
    assert len(before[1]) == 1


def test_evidence_is_locked_for_seven_years_and_names_no_account(pipeline: Pipeline) -> None:
    account_id = pipeline.account()
    event = pipeline.invited(account_id)
    pipeline.handle(event)
    key = pipeline.outcome(event_id(event)).evidence_key

    stored = pipeline.client("s3").get_object(Bucket=pipeline.at.evidence_bucket, Key=key, ChecksumMode="ENABLED")

    assert stored["ObjectLockMode"] == "GOVERNANCE"
    years = (stored["ObjectLockRetainUntilDate"] - stored["LastModified"]).days / 365.25
    assert years == pytest.approx(7, abs=0.01)
    assert stored["ChecksumSHA256"]
    text = stored["Body"].read().decode()
    for secret in (account_id, pipeline.at.management_account_id, "arn:", "@"):
        assert secret not in text
    [evidence] = pipeline.watch.evidence(event_id(event))
    assert evidence.status is OutcomeStatus.ENFORCED
    assert evidence.account is not None


def test_the_log_has_one_line_per_record_and_names_no_account(pipeline: Pipeline) -> None:
    account_id = pipeline.account()
    event = pipeline.invited(account_id)
    pipeline.handle(event)

    texts = pipeline.log()

    assert not [text for text in texts if account_id in text or "arn:" in text]
    lines = [json.loads(text) for text in texts if event_id(event) in text]
    assert [(line["message"], line["status"]) for line in lines] == [("handled", "ENFORCED")]


def test_a_handshake_that_is_not_a_join_is_ignored_with_the_reason(pipeline: Pipeline) -> None:
    account_id = pipeline.account()
    event = pipeline.invited(account_id, action="APPROVE_ALL_FEATURES")

    pipeline.handle(event)

    outcome = pipeline.outcome(event_id(event))
    assert outcome.status is OutcomeStatus.IGNORED
    assert outcome.fault is not None
    assert "APPROVE_ALL_FEATURES" in outcome.fault.message
    assert pipeline.relay.counted() == {}
    assert pipeline.watch.dead_letter_count() == 0


def test_a_malformed_message_becomes_a_dead_letter_at_once_byte_for_byte(pipeline: Pipeline) -> None:
    body = '{"source": "aws.organizations", "détail": "\u2603'

    pipeline.handle(body)

    [dead_letter] = pipeline.watch.dead_letters()
    assert dead_letter["Body"] == body
    assert dead_letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "INVALID_EVENT"
    assert dead_letter["MessageAttributes"]["ATTEMPTS"]["StringValue"] == "1"
    assert pipeline.relay.counted() == {}


def test_a_truncated_event_has_a_dead_letter_and_neither_outcome_nor_evidence(pipeline: Pipeline) -> None:
    event = pipeline.invited(pipeline.account())

    pipeline.handle(json.dumps(event)[:-1])

    assert pipeline.watch.dead_letter_count() == 1
    assert pipeline.watch.outcome(event_id(event)) is None
    assert pipeline.watch.evidence(event_id(event)) == []


def test_a_deployment_without_changes_leaves_the_installation_as_it_is(pipeline: Pipeline) -> None:
    outputs = configure(pipeline.aws, {})

    assert outputs["QueueUrl"] == pipeline.at.queue_url
    event = pipeline.invited(pipeline.account())
    pipeline.handle(event)
    assert pipeline.outcome(event_id(event)).status is OutcomeStatus.ENFORCED


def test_reading_dead_letters_leaves_them_visible(pipeline: Pipeline) -> None:
    """Messages left in flight would become visible later, in the middle of another test."""
    for number in range(11):
        pipeline.watch.put(f"{{broken {number}")
    pipeline.watch.until_quiet()

    reads = [sorted(dead_letter["Body"] for dead_letter in pipeline.watch.dead_letters()) for _ in range(2)]

    assert reads[0] == reads[1]
    assert len(reads[0]) == 11
    url = pipeline.at.dead_letter_queue_url
    attributes = pipeline.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_a_join_that_organizations_rejects_has_a_dead_letter_with_the_reason_and_an_outcome(pipeline: Pipeline) -> None:
    account_id = pipeline.account()
    event = pipeline.invited(account_id)
    pipeline.relay.fail_next(ATTACH, (400, "PolicyTypeNotEnabledException"))

    pipeline.handle(event)

    [dead_letter] = pipeline.watch.dead_letters()
    assert dead_letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "PolicyTypeNotEnabledException"
    outcome = pipeline.outcome(event_id(event))
    assert outcome.status is OutcomeStatus.FAILED
    assert [policy.result for policy in outcome.policies] == [AttachmentResult.FAILED, AttachmentResult.ATTACHED]
    assert event_id(event) in pipeline.watch.failing()

    pipeline.watch.redrive(dead_letter)
    pipeline.watch.until_quiet()

    assert pipeline.outcome(event_id(event)).status is OutcomeStatus.ENFORCED
    assert pipeline.watch.attached(account_id) == set(pipeline.at.policy_ids)
    assert [each.status for each in pipeline.watch.evidence(event_id(event))] == ["FAILED", "ENFORCED"]
    assert event_id(event) not in pipeline.watch.failing()


def test_transient_faults_are_retried_within_one_receive(pipeline: Pipeline) -> None:
    event = pipeline.invited(pipeline.account())
    pipeline.relay.fail_next(READ, (400, "TooManyRequestsException"))
    pipeline.relay.fail_next(
        ATTACH, (400, "ConcurrentModificationException"), (400, "PolicyChangesInProgressException"), (500, "Unknown")
    )

    pipeline.handle(event)

    assert pipeline.relay.counted() == {READ: 2, ATTACH: 5}
    outcome = pipeline.outcome(event_id(event))
    assert (outcome.status, outcome.attempts) == (OutcomeStatus.ENFORCED, 1)


def test_the_worker_runs_under_the_templates_role(pipeline: Pipeline) -> None:
    """Without one of the role's permissions, the worker fails."""
    iam = pipeline.client("iam")
    role = pipeline.resource("AttachPoliciesRole")
    document = iam.get_role_policy(RoleName=role, PolicyName="attach-policies")["PolicyDocument"]
    less = document | {"Statement": [each for each in document["Statement"] if not each["Sid"].startswith("Attach")]}
    event = pipeline.invited(pipeline.account())

    iam.put_role_policy(RoleName=role, PolicyName="attach-policies", PolicyDocument=json.dumps(less))
    try:
        pipeline.watch.put(event)
        until(lambda: pipeline.watch.failing() == [event_id(event)], "the first attempt to fail")
        until(lambda: pipeline.outcome(event_id(event)).fault, "the reason")
    finally:
        iam.put_role_policy(RoleName=role, PolicyName="attach-policies", PolicyDocument=json.dumps(document))

    outcome = pipeline.outcome(event_id(event))
    # A permission that was changed seconds ago may not be effective yet.
    assert outcome.status is OutcomeStatus.RETRYING
    assert outcome.fault is not None
    assert outcome.fault.code == "AccessDeniedException"


def test_a_request_in_the_second_queue_is_handled_as_a_join_is(pipeline: Pipeline) -> None:
    account_id = pipeline.account()
    request = pipeline.requested(account_id)

    pipeline.watch.request(request.model_dump_json())
    pipeline.watch.until_quiet()

    assert pipeline.relay.counted() == {READ: 1, ATTACH: 2}
    assert pipeline.watch.attached(account_id) == set(pipeline.at.policy_ids)
    outcome = pipeline.outcome(request.event_id)
    assert (outcome.status, outcome.source, outcome.attempts) == (OutcomeStatus.ENFORCED, "joinguard.sweep", 1)


def test_a_request_that_fails_is_redriven_through_the_first_queue(pipeline: Pipeline) -> None:
    account_id = pipeline.account()
    request = pipeline.requested(account_id)
    pipeline.relay.fail_next(ATTACH, (400, "PolicyTypeNotEnabledException"))

    pipeline.watch.request(request.model_dump_json())
    pipeline.watch.until_quiet()

    [dead_letter] = pipeline.watch.dead_letters()
    assert dead_letter["Body"] == request.model_dump_json()
    assert dead_letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "PolicyTypeNotEnabledException"
    assert pipeline.outcome(request.event_id).status is OutcomeStatus.FAILED
    assert len(pipeline.watch.attached(account_id)) == 1
    pipeline.watch.redrive(dead_letter)
    pipeline.watch.until_quiet()
    assert pipeline.outcome(request.event_id).status is OutcomeStatus.ENFORCED
    assert pipeline.watch.attached(account_id) == set(pipeline.at.policy_ids)
    assert pipeline.watch.dead_letter_count() == 0


@pytest.fixture
def paced(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Yield the pipeline with AWS's rate."""
    configure(pipeline.aws, {"AttachmentsPerSecond": "2"})
    yield pipeline
    configure(pipeline.aws, UNPACED)


def test_a_live_join_does_not_wait_behind_requests(paced: Pipeline) -> None:
    requests = [paced.requested(paced.account()) for _ in range(12)]
    for each in requests:
        paced.watch.request(each.model_dump_json())
    event = paced.invited(paced.account())

    def left() -> int:
        outcomes = [paced.watch.outcome(each.event_id) for each in requests]
        return sum(each is None or each.status is not OutcomeStatus.ENFORCED for each in outcomes)

    def is_enforced() -> bool:
        found = paced.watch.outcome(event_id(event))
        return found is not None and found.status is OutcomeStatus.ENFORCED

    until(lambda: left() < len(requests), "the first request to be handled")
    paced.watch.put(event)
    until(is_enforced, "the join to be handled")

    assert left() >= len(requests) / 2
    paced.watch.until_quiet()
    assert left() == 0


def test_a_move_attaches_what_is_missing_and_asks_since_when_the_account_is_a_member(pipeline: Pipeline) -> None:
    account_id = pipeline.account()
    pipeline.handle(pipeline.invited(account_id))
    pipeline.client("organizations").detach_policy(PolicyId=pipeline.at.policy_ids[0], TargetId=account_id)
    pipeline.relay.counted()
    event = pipeline.moved(account_id)

    pipeline.handle(event)

    # What is put back again and again is left off in the end, and only restores in this membership count.
    assert pipeline.relay.counted() == {READ: 1, ATTACH: 1, "DescribeAccount": 1}
    assert pipeline.watch.attached(account_id) == set(pipeline.at.policy_ids)
    outcome = pipeline.outcome(event_id(event))
    assert (outcome.status, outcome.event_name) == (OutcomeStatus.ENFORCED, "MoveAccount")
    assert [each.event_name for each in pipeline.watch.evidence(event_id(event))] == ["MoveAccount"]


def test_a_tag_of_an_account_that_carries_everything_takes_one_read(pipeline: Pipeline) -> None:
    account_id = pipeline.account()
    pipeline.handle(pipeline.invited(account_id))
    pipeline.relay.counted()
    event = pipeline.tagged(account_id)

    pipeline.handle(event)

    assert pipeline.relay.counted() == {READ: 1}
    assert pipeline.outcome(event_id(event)).status is OutcomeStatus.ENFORCED


def test_tags_of_an_ou_and_a_move_of_the_management_account_are_ignored_without_a_call(pipeline: Pipeline) -> None:
    for event in (pipeline.tagged("ou-exam-12345678"), pipeline.moved(pipeline.at.management_account_id)):
        pipeline.handle(event)
        assert pipeline.outcome(event_id(event)).status is OutcomeStatus.IGNORED

    assert pipeline.relay.counted() == {}
    assert pipeline.watch.dead_letter_count() == 0


def rule_matches(pipeline: Pipeline, event: object) -> bool:
    """Test the pattern itself: the stand-in, like AWS, accepts aws.* events only from AWS's services."""
    events = pipeline.client("events")
    rule = pipeline.resource("MemberAccountInitialization").rpartition("/")[2]
    pattern = events.describe_rule(Name=rule)["EventPattern"]
    return bool(events.test_event_pattern(EventPattern=pattern, Event=json.dumps(event))["Result"])


def test_the_rule_matches_joins_and_nothing_else(pipeline: Pipeline) -> None:
    join = pipeline.invited("222222222222")
    failed = join | {"detail": join["detail"] | {"errorCode": "AccessDenied"}}

    assert rule_matches(pipeline, join)
    assert rule_matches(pipeline, pipeline.created("222222222222"))
    assert not rule_matches(pipeline, failed)
    assert not rule_matches(pipeline, pipeline.moved("222222222222"))
    assert not rule_matches(pipeline, pipeline.tagged("222222222222"))
    assert not rule_matches(pipeline, join | {"source": "aws.iam"})


@pytest.fixture
def watching(pipeline: Pipeline) -> Iterator[Pipeline]:
    configure(pipeline.aws, {"WatchMoves": "true", "WatchTags": "true"})
    yield pipeline
    configure(pipeline.aws, {"WatchMoves": "false", "WatchTags": "false"})


def test_a_rule_that_watches_changes_matches_joins_moves_and_tags_of_accounts(watching: Pipeline) -> None:
    moved, tagged = watching.moved("222222222222"), watching.tagged("222222222222")

    assert rule_matches(watching, watching.invited("222222222222"))
    assert rule_matches(watching, watching.created("222222222222"))
    assert rule_matches(watching, moved)
    assert rule_matches(watching, tagged)
    assert not rule_matches(watching, moved | {"detail": moved["detail"] | {"errorCode": "AccountNotFoundException"}})
    for resource in ("ou-exam-12345678", "r-exam", "p-aaaaaaaa", "rp-aaaaaaaa"):
        assert not rule_matches(watching, watching.tagged(resource))
