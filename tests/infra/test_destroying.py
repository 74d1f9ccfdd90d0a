"""What `make destroy` refuses, stops and records; tests/e2e/test_deploy_cycle.py shows the rest on a whole stack.

Messages that arrive during the drain, missing resources and older templates are stubbed.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.stub import ANY

from handlers.aws.kms_pseudonyms import KmsPseudonyms
from infra.deploy import installing
from infra.deploy.build import ROOT
from infra.deploy.destroying import (
    Installed,
    Order,
    besides,
    carry_out,
    delete_installed,
    fates,
    read_installed,
    record,
    refuse_while_joins_wait,
    stop_intake,
    unprotected,
    waiting,
)
from infra.deploy.keys import keys_to_delete, schedule_deletion
from infra.deploy.stack import DeployError, Stack
from infra.deploy.template import load
from schemas.audit import AuditRecord
from tests.prepared import ACCOUNT_ID, ORGANIZATION_ID, stub, target

if TYPE_CHECKING:
    from tests.prepared import Stub

TEXT = (ROOT / "infra" / "template.yaml").read_text()
STACK_ID = "arn:aws:cloudformation:us-east-1:111111111111:stack/joinguard/1"
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
REASON = f"{ACCOUNT_ID} moved, asks me@example.com"
QUEUES = {name: f"https://sqs/{name}" for name in ("Joins", "Repairs", "Removals", "DeadLetters", "Undelivered")}
IDS = {**QUEUES, "MemberAccountInitialization": "MemberAccountInitialization", "AttachPoliciesLogs": "logs-1"}


def installed(template: str = TEXT, **ids: str) -> Installed:
    return Installed(Stack("joinguard", STACK_ID, "UPDATE_COMPLETE"), load(template), ids or IDS)


def messages(sqs: Stub, *counts: tuple[int, int, int]) -> None:
    """Prepare the counts of each queue: visible, in flight, delayed."""
    names = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    ]
    for url, numbers in zip(QUEUES.values(), counts, strict=True):
        attributes = dict(zip(names, map(str, numbers), strict=True))
        sqs.add_response("get_queue_attributes", {"Attributes": attributes}, {"QueueUrl": url, "AttributeNames": names})


def described(cloudformation: Stub, status: str) -> None:
    stack = {"StackName": "joinguard", "StackId": STACK_ID, "CreationTime": NOON, "StackStatus": status}
    cloudformation.add_response("describe_stacks", {"Stacks": [stack]})


def test_messages_in_flight_and_delayed_wait_too() -> None:
    sqs = stub("sqs")
    messages(sqs, (1, 2, 4), (128, 256, 512), (0, 32, 64), (8, 0, 0), (0, 16, 0))

    assert waiting(target({"sqs": sqs}), installed()) == {
        "joins": 7,
        "repairs": 896,
        "removals": 96,
        "dead letters": 8,
        "undelivered events": 16,
    }


def test_a_queue_that_somebody_deleted_does_not_keep_the_stack_from_being_deleted() -> None:
    sqs = stub("sqs")
    sqs.add_client_error("get_queue_attributes", "QueueDoesNotExist")

    assert waiting(target({"sqs": sqs}), installed(Joins=QUEUES["Joins"])) == {}


def test_joins_and_removals_that_arrive_meanwhile_are_handled_before_anything_is_deleted() -> None:
    sqs, rules = stub("sqs"), stub("events")
    rules.add_response("disable_rule", {}, {"Name": "MemberAccountInitialization"})
    # A join makes a removal, and what is removed makes a join again, with a delay.
    nothing, join, removal, delayed = (0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1)
    for joins, removals in (
        *((nothing, nothing), (join, nothing)),
        *[(nothing, removal)] * 3,
        (delayed, nothing),
        *[(nothing, nothing)] * 3,
    ):
        messages(sqs, joins, nothing, removals, nothing, nothing)

    stop_intake(target({"sqs": sqs, "events": rules}), installed(), discard_joins=False, drain_seconds=60)

    sqs.assert_no_pending_responses()
    rules.assert_no_pending_responses()


@pytest.mark.parametrize(("joins", "repairs", "removals"), [(3, 0, 0), (0, 3, 0), (0, 0, 3)])
def test_messages_that_are_not_handled_in_time_turn_the_intake_on_again(
    joins: int, repairs: int, removals: int
) -> None:
    sqs, rules = stub("sqs"), stub("events")
    rules.add_response("disable_rule", {}, {"Name": "MemberAccountInitialization"})
    messages(sqs, (0, joins, 0), (0, repairs, 0), (0, removals, 0), (2, 0, 0), (0, 0, 0))
    rules.add_response("enable_rule", {}, {"Name": "MemberAccountInitialization"})
    counted = f"{joins} joins, {repairs} repairs, {removals} removals, 2 dead letters, 0 undelivered events"

    with pytest.raises(DeployError, match=counted) as raised:
        stop_intake(target({"sqs": sqs, "events": rules}), installed(), discard_joins=False, drain_seconds=0)

    rules.assert_no_pending_responses()
    assert "Nothing was deleted and the rule is enabled again" in str(raised.value)
    assert "make enforce" in str(raised.value)


@pytest.mark.parametrize(
    ("what", "refused"), [("joins", True), ("repairs", True), ("removals", True), ("dead letters", False)]
)
def test_messages_that_the_workers_have_to_handle_keep_the_stack_from_being_deleted(
    what: str, *, refused: bool
) -> None:
    counts = {"joins": 0, "repairs": 0, "removals": 0, "dead letters": 0} | {what: 2}
    expectation = pytest.raises(DeployError, match=f"messages wait: .*2 {what}") if refused else nullcontext()

    with expectation:
        refuse_while_joins_wait(counts, "prod")


def test_a_wait_that_fails_turns_the_intake_on_again() -> None:
    sqs, rules = stub("sqs"), stub("events")
    rules.add_response("disable_rule", {}, {"Name": "MemberAccountInitialization"})
    sqs.add_client_error("get_queue_attributes", "AccessDeniedException")
    rules.add_response("enable_rule", {}, {"Name": "MemberAccountInitialization"})

    with pytest.raises(DeployError, match=r"AccessDeniedException.*the rule is enabled again"):
        stop_intake(target({"sqs": sqs, "events": rules}), installed(), discard_joins=False, drain_seconds=60)

    rules.assert_no_pending_responses()


def test_an_interrupted_wait_turns_the_intake_on_again() -> None:
    sqs, rules = stub("sqs"), stub("events")
    rules.add_response("disable_rule", {}, {"Name": "MemberAccountInitialization"})
    rules.add_response("enable_rule", {}, {"Name": "MemberAccountInitialization"})

    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    sqs.client.meta.events.register("provide-client-params.sqs.GetQueueAttributes", interrupt)

    with pytest.raises(DeployError, match=r"interrupted\. Nothing was deleted and the rule is enabled again"):
        stop_intake(target({"sqs": sqs, "events": rules}), installed(), discard_joins=False, drain_seconds=60)

    rules.assert_no_pending_responses()


def test_the_sweep_requests_nothing_while_the_queues_are_drained() -> None:
    functions, rules = stub("lambda"), stub("events")
    calls: list[str] = []
    for each in (functions, rules):
        each.client.meta.events.register("before-parameter-build", lambda model, **_: calls.append(model.name))
    stopped = {"FunctionName": "sweep-1", "ReservedConcurrentExecutions": 0}
    functions.add_response("put_function_concurrency", {}, stopped)
    rules.add_response("disable_rule", {})

    here = installed(TEXT, **IDS, Sweeper="sweep-1")
    stop_intake(target({"lambda": functions, "events": rules}), here, discard_joins=True, drain_seconds=0)

    assert calls == ["PutFunctionConcurrency", "DisableRule"]


def test_a_drain_that_fails_lets_the_sweep_run_again() -> None:
    functions, rules, sqs = stub("lambda"), stub("events"), stub("sqs")
    functions.add_response("put_function_concurrency", {})
    rules.add_response("disable_rule", {})
    sqs.add_client_error("get_queue_attributes", "AccessDeniedException")
    rules.add_response("enable_rule", {})
    functions.add_response("delete_function_concurrency", {}, {"FunctionName": "sweep-1"})
    clients = {"lambda": functions, "events": rules, "sqs": sqs}

    with pytest.raises(DeployError, match="Nothing was deleted"):
        stop_intake(target(clients), installed(TEXT, **IDS, Sweeper="sweep-1"), discard_joins=False, drain_seconds=60)

    functions.assert_no_pending_responses()
    rules.assert_no_pending_responses()


def test_a_sweep_that_somebody_deleted_needs_no_stop() -> None:
    functions, rules = stub("lambda"), stub("events")
    functions.add_client_error("put_function_concurrency", "ResourceNotFoundException")
    rules.add_response("disable_rule", {})
    clients = {"lambda": functions, "events": rules}

    stop_intake(target(clients), installed(TEXT, **IDS, Sweeper="sweep-1"), discard_joins=True, drain_seconds=0)

    rules.assert_no_pending_responses()


def test_a_rule_that_somebody_deleted_is_no_intake() -> None:
    rules = stub("events")
    rules.add_client_error("disable_rule", "ResourceNotFoundException")

    stop_intake(target({"events": rules}), installed(), discard_joins=True, drain_seconds=0)


def test_a_template_of_an_older_version_would_leave_queues_and_buckets_unprotected() -> None:
    ids = dict.fromkeys(load(TEXT)["Resources"], "x")
    older = TEXT.replace("    DeletionPolicy: RetainExceptOnCreate\n", "")
    for kept in ("DeadLetters", "Undelivered", "Evidence"):
        older = older.replace(f"\n  {kept}:\n", f"\n  {kept}:\n    DeletionPolicy: Retain\n")

    assert sorted(unprotected(installed(older, **ids))) == ["DeadLetters", "Evidence", "Undelivered"]
    assert unprotected(installed(TEXT, **ids)) == []


def test_each_resource_is_kept_or_deleted_for_the_reason_above_it_in_the_template() -> None:
    ids = {name: f"{name}-1" for name in load(TEXT)["Resources"]}

    found = fates(installed(TEXT, **ids), installing.TEMPLATE)

    assert {fate.name for fate in found} == set(ids)
    kept = [fate.kept for fate in found]
    assert kept == sorted(kept, reverse=True)
    assert [fate.name for fate in found if not fate.why] in ([], ["DenyLeave"])
    assert next(fate for fate in found if fate.name == "EvidencePolicy").why == "Allows access only over TLS"


@pytest.mark.parametrize("body", [TEXT, load(TEXT)], ids=["YAML", "JSON"])
def test_the_deployed_template_decides_and_not_the_present_one(body: Any) -> None:
    cloudformation = stub("cloudformation")
    described(cloudformation, "UPDATE_COMPLETE")
    text = body if isinstance(body, str) else json.dumps(body)
    cloudformation.add_response(
        "get_template", {"TemplateBody": text}, {"StackName": STACK_ID, "TemplateStage": "Original"}
    )
    summaries = [
        {
            "LogicalResourceId": name,
            "PhysicalResourceId": f"{name}-1",
            "ResourceType": "x",
            "ResourceStatus": status,
            "LastUpdatedTimestamp": NOON,
        }
        for name, status in (("Evidence", "CREATE_COMPLETE"), ("Pace", "DELETE_COMPLETE"))
    ]
    cloudformation.add_response("list_stack_resources", {"StackResourceSummaries": summaries})

    found = read_installed(target({"cloudformation": cloudformation}))

    assert found.ids == {"Evidence": "Evidence-1"}
    assert found.template["Resources"]["Evidence"]["DeletionPolicy"] == "RetainExceptOnCreate"


@pytest.mark.parametrize("status", ["UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"])
def test_a_stack_that_changes_is_left_alone(status: str) -> None:
    cloudformation = stub("cloudformation")
    described(cloudformation, status)

    with pytest.raises(DeployError, match=f"{status}.*wait until it has ended"):
        read_installed(target({"cloudformation": cloudformation}))


def test_the_forwarder_and_the_bucket_of_the_zips_are_named_with_a_next_step() -> None:
    cloudformation, s3 = stub("cloudformation"), stub("s3")
    sets = [{"ChangeSetName": "joinguard-1", "ChangeSetId": "arn:x"}]
    cloudformation.add_response("list_change_sets", {"Summaries": sets})
    described(cloudformation, "CREATE_COMPLETE")
    forwarder = (ROOT / "infra" / "forwarder.yaml").read_text()
    cloudformation.add_response("get_template", {"TemplateBody": forwarder})
    summaries = [
        {"LogicalResourceId": name, "PhysicalResourceId": f"{name}-1", "ResourceStatus": "CREATE_COMPLETE"}
        | {"ResourceType": "x", "LastUpdatedTimestamp": NOON}
        for name in load(forwarder)["Resources"]
    ]
    cloudformation.add_response("list_stack_resources", {"StackResourceSummaries": summaries})
    bucket = f"joinguard-code-{ACCOUNT_ID}-us-east-1"
    s3.add_response("head_bucket", {}, {"Bucket": bucket, "ExpectedBucketOwner": ACCOUNT_ID})

    found = {
        fate.name: fate for fate in besides(target({"cloudformation": cloudformation, "s3": s3}), ACCOUNT_ID, "aws")
    }

    assert "aws cloudformation delete-stack --region us-east-1 --stack-name joinguard-forwarder" in (
        found["joinguard-forwarder"].why
    )
    assert load(forwarder)["Resources"].keys() <= found.keys()
    assert all(found[name].kept for name in load(forwarder)["Resources"]), "destroy deletes none of them"
    assert found["ForwarderPages"].why == "The deletion of stack joinguard-forwarder deletes it"
    assert found["Unforwarded"].why == "The deletion of stack joinguard-forwarder keeps it"
    assert found["code bucket"].resource_id == bucket
    assert (found["joinguard-forwarder"].kept, found["joinguard-1"].kept) == (True, False)


def test_the_record_names_the_callers_id_and_no_account_address_or_arn() -> None:
    logs, sts = stub("logs"), stub("sts")
    sts.add_response(
        "get_caller_identity", {"UserId": "AROAX:me@example.com", "Arn": "arn:aws:sts::111111111111:assumed-role/x/me"}
    )
    written: list[dict[str, Any]] = []
    logs.client.meta.events.register(
        "before-parameter-build.cloudwatch-logs.PutLogEvents", lambda params, **_: written.append(params)
    )
    logs.add_response("create_log_stream", {}, {"logGroupName": "logs-1", "logStreamName": ANY})
    logs.add_response("put_log_events", {}, {"logGroupName": "logs-1", "logStreamName": ANY, "logEvents": ANY})

    assert record(target({"logs": logs, "sts": sts}), installed(), REASON, {"phase": "intended"}) == "logs-1"

    [params] = written
    line = json.loads(params["logEvents"][0]["message"])
    assert (line["action"], line["actor_id"], line["reason"]) == ("destroy", "AROAX", "[account] moved, asks [e-mail]")
    assert "arn:" not in params["logEvents"][0]["message"]
    assert ACCOUNT_ID not in params["logEvents"][0]["message"]


def recorded_line(mac: dict[str, Any] | None) -> dict[str, Any]:
    """Return the record of a session named Jane, with this answer of KMS; None if KMS refuses."""
    logs, sts, kms = stub("logs"), stub("sts"), stub("kms")
    arn = "arn:aws:sts::111111111111:assumed-role/Administrator/Jane"
    sts.add_response("get_caller_identity", {"UserId": "AROAX:Jane", "Arn": arn})
    if mac:
        purpose = f"joinguard/pseudonym/1/{ORGANIZATION_ID}".encode()
        request = {"KeyId": "key-1", "MacAlgorithm": "HMAC_SHA_256", "Message": purpose}
        kms.add_response("generate_mac", mac, request)
    else:
        kms.add_client_error("generate_mac", "AccessDeniedException")
    written: list[dict[str, Any]] = []
    logs.client.meta.events.register(
        "before-parameter-build.cloudwatch-logs.PutLogEvents", lambda params, **_: written.append(params)
    )
    logs.add_response("create_log_stream", {})
    logs.add_response("put_log_events", {})
    parameters = {"OrganizationId": ORGANIZATION_ID}
    found = Installed(
        Stack("joinguard", STACK_ID, "UPDATE_COMPLETE", parameters=parameters), {}, IDS | {"PseudonymKey": "key-1"}
    )
    record(target({"logs": logs, "sts": sts, "kms": kms}), found, REASON, {"phase": "intended"})
    line: dict[str, Any] = json.loads(written[0]["logEvents"][0]["message"])
    return line


def test_the_record_names_the_caller_as_audit_records_do() -> None:
    kms = stub("kms")
    secret = {"Mac": bytes(range(32)), "KeyId": f"arn:aws:kms:us-east-1:{ACCOUNT_ID}:key/key-1"}
    kms.add_response("generate_mac", secret)
    kms.activate()
    pseudonyms = KmsPseudonyms(kms.client, "key-1", ORGANIZATION_ID)

    line = recorded_line(secret)

    assert line["actor_name"] == pseudonyms.name("jane").model_dump()
    arn = "arn:aws:sts::111111111111:assumed-role/Administrator/Jane"
    assert line["actor"] == pseudonyms.principal(arn).model_dump()
    assert line["actor_id"] == "AROAX"
    assert "jane" not in json.dumps(line).lower()
    assert set(line) & set(AuditRecord.model_fields) >= {"actor", "actor_name", "actor_id", "action", "reason"}


def test_a_key_that_derives_no_pseudonym_keeps_no_stack_from_being_deleted() -> None:
    line = recorded_line(None)

    assert (line["actor"], line["actor_name"], line["actor_id"]) == (None, None, "AROAX")


def test_without_a_record_nothing_is_deleted() -> None:
    logs, sts = stub("logs"), stub("sts")
    sts.add_response("get_caller_identity", {"UserId": "AROAX:me"})
    logs.add_client_error("create_log_stream", "AccessDeniedException")

    with pytest.raises(DeployError, match="cannot write the record to log group logs-1"):
        record(target({"logs": logs, "sts": sts}), installed(), "it is over", {})


@pytest.mark.parametrize("reason", ["it is over: Zürich, 2026!", "x" * 1000, "…", REASON])
def test_any_reason_fits_into_the_token_of_the_stacks_events(reason: str) -> None:
    cloudformation = stub("cloudformation")
    tokens: list[str] = []
    cloudformation.client.meta.events.register(
        "before-parameter-build.cloudformation.DeleteStack",
        lambda params, **_: tokens.append(params["ClientRequestToken"]),
    )
    cloudformation.add_response("delete_stack", {}, {"StackName": STACK_ID, "ClientRequestToken": ANY})
    described(cloudformation, "DELETE_COMPLETE")

    delete_installed(target({"cloudformation": cloudformation}), installed(), reason)

    [token] = tokens
    assert len(token) <= 128
    assert token.replace("-", "").isascii()
    assert token.replace("-", "").isalnum()
    assert ACCOUNT_ID not in token
    assert "example" not in token


def test_a_deletion_that_fails_names_the_resource_the_reason_and_the_next_step() -> None:
    cloudformation = stub("cloudformation")
    cloudformation.add_response("delete_stack", {}, {"StackName": STACK_ID, "ClientRequestToken": ANY})
    described(cloudformation, "DELETE_FAILED")
    event = {
        "StackId": STACK_ID,
        "EventId": "1",
        "StackName": "joinguard",
        "Timestamp": NOON,
        "LogicalResourceId": "AttachPoliciesRole",
        "ResourceStatus": "DELETE_FAILED",
        "ResourceStatusReason": "must detach all policies first",
    }
    cloudformation.add_response("describe_stack_events", {"StackEvents": [event]})

    with pytest.raises(DeployError) as raised:
        delete_installed(target({"cloudformation": cloudformation}), installed(), "x")

    assert "AttachPoliciesRole: must detach all policies first" in str(raised.value)
    assert "run `make destroy` again" in str(raised.value)


KEYS = {"DataKey": "key-1", "PseudonymKey": "key-2"}


def temporary(**parameters: str) -> Installed:
    """Return an installation with keys, by default one that was deployed without protection."""
    stack = Stack("joinguard", STACK_ID, "UPDATE_COMPLETE", parameters={"DeletionProtection": "false"} | parameters)
    return Installed(stack, load(TEXT), {**KEYS, "AttachPoliciesLogs": "logs-1", "Pace": "pace-1"})


def test_only_the_keys_of_a_temporary_stage_are_deleted() -> None:
    stage = target({}, DeletionProtection="false").stage

    assert keys_to_delete(stage, temporary()) == KEYS


@pytest.mark.parametrize(
    ("stage", "deployed"), [({}, "true"), ({}, "false"), ({"DeletionProtection": "true"}, "false")]
)
def test_the_keys_of_a_stage_that_is_not_temporary_are_not_deleted(stage: dict[str, str], deployed: str) -> None:
    with pytest.raises(DeployError) as raised:
        keys_to_delete(target({}, **stage).stage, temporary(DeletionProtection=deployed))

    assert "nobody could read its evidence" in str(raised.value)
    assert "nobody could find an account's records" in str(raised.value)
    assert 'sets DeletionProtection to "false"' in str(raised.value)


def test_a_stage_file_that_was_changed_and_not_deployed_makes_no_stage_temporary() -> None:
    with pytest.raises(DeployError, match="and is deployed with it"):
        keys_to_delete(target({}, DeletionProtection="false").stage, temporary(DeletionProtection="true"))


def test_the_dry_run_says_when_the_keys_are_deleted() -> None:
    ids = {name: f"{name}-1" for name in load(TEXT)["Resources"]}
    found = {fate.name: fate.outcome for fate in fates(installed(TEXT, **ids), installing.TEMPLATE, KEYS)}

    assert {name for name, outcome in found.items() if outcome == "deleted after 30 days"} == set(KEYS)
    assert (found["Evidence"], found["Pace"]) == ("kept", "deleted")
    without = {fate.name: fate.outcome for fate in fates(installed(TEXT, **ids), installing.TEMPLATE)}
    assert {without[name] for name in KEYS} == {"kept"}


def test_the_keys_are_deleted_last_because_the_record_is_encrypted_with_one() -> None:
    calls: list[str] = []
    stubs = {each: stub(each) for each in ("cloudformation", "events", "kms", "logs", "sqs", "sts")}
    for each in stubs.values():
        each.client.meta.events.register("before-parameter-build", lambda model, **_: calls.append(model.name))
    written: list[dict[str, Any]] = []
    stubs["logs"].client.meta.events.register(
        "before-parameter-build.cloudwatch-logs.PutLogEvents",
        lambda params, **_: written.append(json.loads(params["logEvents"][0]["message"])),
    )
    for _ in range(2):
        stubs["sts"].add_response("get_caller_identity", {"UserId": "AROAX"})
        stubs["logs"].add_response("create_log_stream", {})
        stubs["logs"].add_response("put_log_events", {})
    stubs["cloudformation"].add_response("delete_stack", {})
    described(stubs["cloudformation"], "DELETE_COMPLETE")
    for key in KEYS.values():
        stubs["kms"].add_response("describe_key", {"KeyMetadata": {"KeyId": key, "KeyState": "Enabled"}})
        stubs["kms"].add_response("schedule_key_deletion", {}, {"KeyId": key, "PendingWindowInDays": 30})
    here = temporary()

    carry_out(target(stubs), here, fates(here, installing.TEMPLATE, KEYS), Order("over", keys=KEYS), lambda _: None)

    assert calls.index("DeleteStack") < calls.index("ScheduleKeyDeletion")
    assert calls[-4:] == ["DescribeKey", "ScheduleKeyDeletion"] * 2
    assert [line["phase"] for line in written] == ["intended", "done"]
    assert all(line["deleted_after_days"] == {"DataKey": 30, "PseudonymKey": 30} for line in written)
    assert written[0]["kept"]["DataKey"] == "key-1"


def test_a_key_that_cannot_be_deleted_keeps_no_other_from_it_and_is_named_with_the_command() -> None:
    kms = stub("kms")
    kms.add_response("describe_key", {"KeyMetadata": {"KeyId": "key-1", "KeyState": "Enabled"}}, {"KeyId": "key-1"})
    kms.add_client_error("schedule_key_deletion", "AccessDeniedException")
    kms.add_response("describe_key", {"KeyMetadata": {"KeyId": "key-2", "KeyState": "Disabled"}}, {"KeyId": "key-2"})
    kms.add_response("schedule_key_deletion", {}, {"KeyId": "key-2", "PendingWindowInDays": 30})

    with pytest.raises(DeployError) as raised:
        schedule_deletion(target({"kms": kms}), KEYS)

    kms.assert_no_pending_responses()
    assert "the stack is deleted, but these keys are not: DataKey (" in str(raised.value)
    assert "aws kms schedule-key-deletion --region us-east-1 --key-id key-1 --pending-window-in-days 30" in (
        str(raised.value)
    )
    assert "--key-id key-2" not in str(raised.value)


def test_keys_that_are_gone_or_will_be_need_nothing() -> None:
    kms = stub("kms")
    kms.add_response("describe_key", {"KeyMetadata": {"KeyId": "key-1", "KeyState": "PendingDeletion"}})
    kms.add_client_error("describe_key", "NotFoundException")

    schedule_deletion(target({"kms": kms}), KEYS)

    kms.assert_no_pending_responses()
