"""The operator's tool, used as operators use it, against the embedded AWS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from click.testing import CliRunner

from handlers.operate.__main__ import cli
from infra.deploy.build import ROOT
from infra.local.installation import STACK
from infra.local.waiting import HANGS_AFTER, until
from schemas.audit import AuditRecord
from schemas.outcome import OutcomeStatus

if TYPE_CHECKING:
    from tests.e2e.conftest import Done, Pipeline

#: On machines of any speed, wait for the results of a redrive.
WAIT: Final = ("--wait", "1h")
#: The stand-in has one server, so short polls are complete.
OPTIONS: Final = ("--stack", STACK, "--poll", "0")


def credentials(pipeline: Pipeline) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": pipeline.aws.endpoint,
        "AWS_ACCESS_KEY_ID": pipeline.aws.access_key_id,
        "AWS_SECRET_ACCESS_KEY": pipeline.aws.secret_access_key,
        "AWS_DEFAULT_REGION": pipeline.aws.region,
        "AWS_CONFIG_FILE": "/dev/null",
        # Deleted with the stand-in.
        "XDG_CONFIG_HOME": str(pipeline.aws.log.parent),
        "XDG_CACHE_HOME": str(pipeline.aws.log.parent),
    }


def operate(pipeline: Pipeline, *arguments: str, **environment: str) -> Done:
    """Run a command in this process."""
    runner = CliRunner()
    done = runner.invoke(
        cli,
        [*OPTIONS, *arguments],
        env=credentials(pipeline) | environment,
        prog_name="joinguard",
        catch_exceptions=False,
    )
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def start(pipeline: Pipeline, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "handlers.operate", *OPTIONS, *arguments],
        cwd=ROOT,
        env=os.environ | credentials(pipeline) | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def operate_in_a_process(pipeline: Pipeline, *arguments: str, **environment: str) -> Done:
    """Run a command in its own process, as a shell does."""
    with start(pipeline, *arguments, **environment) as process:
        stdout, stderr = process.communicate(timeout=HANGS_AFTER)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def session_of(pipeline: Pipeline, role: str) -> dict[str, str]:
    """Return the credentials of a session of one of the template's operator roles."""
    arn = pipeline.client("iam").get_role(RoleName=pipeline.resource(role))["Role"]["Arn"]
    found = pipeline.client("sts").assume_role(RoleArn=arn, RoleSessionName="night-shift")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
        "AWS_SESSION_TOKEN": found["SessionToken"],
    }


def list_groups(pipeline: Pipeline, *arguments: str) -> list[dict[str, Any]]:
    done = operate(pipeline, "list", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["groups"]
    return found


def audit_records(pipeline: Pipeline) -> list[AuditRecord]:
    s3 = pipeline.client("s3")
    found = s3.list_objects_v2(Bucket=pipeline.at.evidence_bucket, Prefix="acts/").get("Contents", [])
    bodies = [s3.get_object(Bucket=pipeline.at.evidence_bucket, Key=each["Key"])["Body"].read() for each in found]
    return [AuditRecord.model_validate_json(body) for body in bodies]


def fail(pipeline: Pipeline, code: str = "PolicyTypeNotEnabledException") -> tuple[str, dict[str, Any]]:
    """Let a join fail; return the account and the event."""
    account_id = pipeline.account()
    event = pipeline.invited(account_id)
    pipeline.relay.fail_next("AttachPolicy", (400, code))
    pipeline.handle(event)
    return account_id, event


def test_an_operator_gets_from_the_page_to_an_enforced_join(pipeline: Pipeline) -> None:
    """List the messages, show one, plan a redrive, redrive, check the outcome."""
    account_id, event = fail(pipeline)

    [group] = list_groups(pipeline)
    [reason] = group["reasons"]
    assert (reason["code"], group["messages"], group["redrives"]) == ("PolicyTypeNotEnabledException", 1, 0)
    assert "enable service control policies" in reason["next_step"]
    shown = operate(pipeline, "show", group["ids"][0][:8])
    assert event["detail"]["eventID"] in shown.stdout
    assert "ready to redrive yes" in " ".join(shown.stdout.split())

    dry = operate(pipeline, "redrive", "--code", "PolicyTypeNotEnabledException")
    assert dry.returncode == 0
    assert "1 message to be redriven" in dry.stdout
    assert "Nothing was done" in dry.stderr
    assert pipeline.watch.dead_letter_count() == 1

    approved = ("--code", "PolicyTypeNotEnabledException", *WAIT, "--confirm", "--reason", "enabled")
    done = operate_in_a_process(pipeline, "redrive", *approved)
    assert done.returncode == 0, done.stderr
    assert "1 sent and deleted; 1 enforced" in done.stderr

    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.ENFORCED
    assert pipeline.watch.attached(account_id) == set(pipeline.at.policy_ids)
    assert list_groups(pipeline) == []
    found = json.loads(operate(pipeline, "outcome", account_id, "--json").stdout)
    assert [each["status"] for each in found["events"]] == ["ENFORCED"]
    assert found["verdict"] == "carries every required policy"
    assert [each["verdict"] for each in found["events"][0]["evidence"]] == ["not_compared", "valid"]


def test_show_lists_the_history_of_a_message_that_failed_again(pipeline: Pipeline) -> None:
    _, event = fail(pipeline)
    pipeline.relay.fail_next("AttachPolicy", (400, "PolicyTypeNotEnabledException"))
    redriven = operate(pipeline, "redrive", "--all", *WAIT, "--confirm", "--reason", "tried too early")
    assert redriven.returncode == 1
    assert "1 failed" in redriven.stderr

    [group] = list_groups(pipeline)
    shown = json.loads(operate(pipeline, "show", group["ids"][0], "--json").stdout)

    assert group["redrives"] == 1
    assert shown["outcome"]["event_id"] == event["detail"]["eventID"]
    assert [each["action"] for each in shown["history"]] == ["redrive"]
    assert "tried too early" in shown["history"][0]["reason"]
    assert len(shown["evidence"]) == 2
    assert all(each["policies"][pipeline.at.policy_ids[0]] == "FAILED" for each in shown["evidence"])
    [failing] = json.loads(operate(pipeline, "outcomes", "--json").stdout)
    assert failing["fault"]["code"] == "PolicyTypeNotEnabledException"


def test_every_action_has_an_audit_record_before_and_after_without_names(pipeline: Pipeline) -> None:
    account_id, event = fail(pipeline)
    before = len(audit_records(pipeline))

    operate(pipeline, "redrive", "--all", *WAIT, "--confirm", "--reason", f"corrected {account_id} for a@example.com")

    records = sorted(audit_records(pipeline), key=lambda each: each.recorded_at)[before:]
    assert [(each.action, each.phase, each.ended) for each in records] == [
        ("redrive", "intended", None),
        ("redrive", "done", "completed"),
    ]
    assert records[1].results == {"sent": 1, "deleted": 1, "refused": 0, "enforced": 1}
    assert [(each.event_id, each.result) for each in records[1].letters] == [
        (event["detail"]["eventID"], "deleted, enforced")
    ]
    for record in records:
        text = record.model_dump_json()
        assert account_id not in text
        assert pipeline.at.management_account_id not in text
        assert "@" not in text


def test_a_message_that_would_fail_again_is_left_out(pipeline: Pipeline) -> None:
    pipeline.handle("{broken")

    plan = operate(pipeline, "redrive", "--all", "--confirm", "--reason", "x")

    assert plan.returncode == 1
    assert "left out" in plan.stdout
    assert "Nothing to do" in plan.stderr
    assert pipeline.watch.dead_letter_count() == 1


def test_a_missing_permission_of_the_worker_is_found_before_anything_is_sent(pipeline: Pipeline) -> None:
    """The stand-in's IAM simulator evaluates the role's real policy, for the first resource."""
    fail(pipeline)
    iam, role = pipeline.client("iam"), pipeline.resource("AttachPoliciesRole")
    before = iam.get_role_policy(RoleName=role, PolicyName="attach-policies")["PolicyDocument"]
    less = before | {"Statement": [each for each in before["Statement"] if not each["Sid"].startswith("Attach")]}
    iam.put_role_policy(RoleName=role, PolicyName="attach-policies", PolicyDocument=json.dumps(less))
    try:
        plan = operate(pipeline, "redrive")
    finally:
        iam.put_role_policy(RoleName=role, PolicyName="attach-policies", PolicyDocument=json.dumps(before))
    restored = operate_in_a_process(pipeline, "redrive", PYTHONIOENCODING="ascii")

    assert "0 messages to be redriven" in plan.stdout
    assert "the worker's role may not attach" in plan.stdout
    assert "1 message to be redriven" in restored.stdout


def test_a_dropped_message_can_be_restored(pipeline: Pipeline) -> None:
    account_id, event = fail(pipeline)
    assert operate(pipeline, "drop", "--confirm", "--reason", "x").returncode == 2

    dropped = operate(pipeline, "drop", "--account", account_id, "--confirm", "--reason", "a test")
    assert dropped.returncode == 0, dropped.stderr
    assert pipeline.watch.dead_letter_count() == 0
    key = dropped.stderr.partition("`restore ")[2].partition("`")[0]
    backup = pipeline.client("s3").get_object(Bucket=pipeline.at.evidence_bucket, Key=key)
    # A body that nobody reads keeps its connection, until the garbage collector warns in another test.
    backup["Body"].close()
    days = (backup["ObjectLockRetainUntilDate"] - datetime.now(UTC)).days
    assert (backup["ObjectLockMode"], days) == ("GOVERNANCE", 89), "locked for BackupDays, not for seven years"

    restored = operate(pipeline, "restore", key, "--confirm", "--reason", "needed after all")
    assert restored.returncode == 0, restored.stderr
    [group] = list_groups(pipeline)
    assert group["reasons"][0]["code"] == "PolicyTypeNotEnabledException"
    operate(pipeline, "redrive", "--event", event["detail"]["eventID"], *WAIT, "--confirm", "--reason", "after all")

    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.ENFORCED


def test_a_malformed_body_is_edited_checked_and_sent(pipeline: Pipeline) -> None:
    event = pipeline.invited(pipeline.account())
    body = json.dumps(event)
    pipeline.handle(body[:-2])
    [group] = list_groups(pipeline)
    message_id = group["ids"][0]

    unchanged = operate(pipeline, "edit", message_id, "--confirm", "--reason", "x", EDITOR="true")
    assert unchanged.returncode == 1
    assert "is not JSON" in unchanged.stderr

    corrected = operate(
        pipeline,
        "edit",
        message_id,
        *WAIT,
        "--confirm",
        "--reason",
        "truncated",
        EDITOR='sh -c \'printf "}}" >> "$0"\'',
    )
    assert corrected.returncode == 0, corrected.stderr
    assert "enforced" in corrected.stderr

    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.ENFORCED
    assert pipeline.watch.dead_letter_count() == 0


def test_an_operator_enforces_an_account_whose_event_is_missing(pipeline: Pipeline) -> None:
    account_id = pipeline.account()

    assert "lacks" in operate(pipeline, "outcome", account_id).stdout
    assert "Nothing was done" in operate(pipeline, "enforce", account_id).stderr
    stranger = operate(pipeline, "enforce", "999999999999", "--confirm", "--reason", "x")
    assert (stranger.returncode, "not a member" in stranger.stderr) == (1, True)
    done = operate(pipeline, "enforce", account_id, "--confirm", "--reason", "its event was lost", "--json")
    assert done.returncode == 0, done.stderr
    pipeline.watch.until_quiet()

    assert pipeline.watch.attached(account_id) == set(pipeline.at.policy_ids)
    [request] = json.loads(done.stdout)["requests"]
    event_id = request["event_id"]
    assert event_id in {each.event_id for record in audit_records(pipeline) for each in record.letters}, (
        "the audit record names the event"
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (["--stack", "nowhere", "list"], {}, "cannot read stack nowhere in us-east-1 of account 111111111111"),
        (["--stack", "nowhere", "list"], {}, "Add --stack, --region or --profile, or run `make deploy`"),
        (["--profile", "nobody", "list"], {}, "(nobody) could not be found. Add --profile with a profile of your"),
        (["list"], {"AWS_SECRET_ACCESS_KEY": ""}, "Set both the access key ID and the secret access key"),
        (["list"], {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}, "cannot call AWS"),
        (["list"], {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "cannot call AWS"),
        (["list"], {"AWS_ENDPOINT_URL": "foo"}, "cannot call AWS: Invalid endpoint: foo. Correct AWS_ENDPOINT_URL"),
        (["--region", "b d", "list"], {}, "Correct --region"),
        (["list"], {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Check the network, the Region, and AWS_ENDPOINT_URL"),
        (["list"], {"AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:9"}, "Messages in flight become visible again"),
        (["redrive"], {"AWS_ENDPOINT_URL_ORGANIZATIONS": "http://127.0.0.1:9"}, "does not answer"),
        (["outcomes"], {"AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9"}, "DynamoDB"),
        (
            ["restore", "backups/none", "--confirm", "--reason", "x"],
            {},
            "no backup has the key backups/none",
        ),
        (["redrive", "--all", "--native"], {}, "SQS"),
    ],
)
def test_every_error_is_one_clear_line(
    pipeline: Pipeline, arguments: list[str], environment: dict[str, str], expected: str
) -> None:
    """`--native` fails because the stand-in has no move task."""
    if arguments == ["redrive"]:
        fail(pipeline)

    done = operate(pipeline, *arguments, **environment)

    assert expected in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if arguments == ["redrive"] else 1)


def test_a_foreign_stack_is_refused(pipeline: Pipeline) -> None:
    cloudformation = pipeline.client("cloudformation")
    template = {"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}}
    cloudformation.create_stack(StackName="another", TemplateBody=json.dumps(template))
    try:
        done = operate(pipeline, "--stack", "another", "list")
    finally:
        cloudformation.delete_stack(StackName="another")

    assert done.returncode == 1
    assert "is not an installation of Joinguard" in done.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_and_releases_all_messages(pipeline: Pipeline, sent: signal.Signals) -> None:
    for _ in range(4):
        fail(pipeline)
    approved = ("--rate", "0.01", "--breaker", "50", "--confirm", "--reason", "x")
    with start(pipeline, "redrive", "--all", *approved) as process:
        until(lambda: pipeline.watch.dead_letter_count() == 3, "the first of four messages to be redriven")
        process.send_signal(sent)
        stdout, stderr = process.communicate(timeout=HANGS_AFTER)

    assert process.returncode == 130, stdout + stderr
    assert "1 of 4 sent" in stderr
    assert stderr.endswith("interrupted\n")
    sqs = pipeline.client("sqs")
    counts = sqs.get_queue_attributes(QueueUrl=pipeline.at.dead_letter_queue_url, AttributeNames=["All"])["Attributes"]
    assert (counts["ApproximateNumberOfMessages"], counts["ApproximateNumberOfMessagesNotVisible"]) == ("3", "0")
    assert max(audit_records(pipeline), key=lambda each: each.recorded_at).ended == "interrupted"


def test_operator_reads_can_read_and_do_nothing_else(pipeline: Pipeline) -> None:
    """IAM is enforced, with the template's role."""
    account_id, _ = fail(pipeline)
    role = session_of(pipeline, "OperatorReads")

    [group] = json.loads(operate(pipeline, "list", "--json", **role).stdout)["groups"]
    shown = operate(pipeline, "show", group["ids"][0], **role)
    assert shown.returncode == 0, shown.stderr
    assert "ready to redrive yes" in " ".join(shown.stdout.split())
    assert "unknown" not in shown.stdout, "the role may use IAM's simulator"
    lacking = operate(pipeline, "outcome", account_id, **role)
    assert (lacking.returncode, "lacks" in lacking.stdout) == (1, True)
    assert operate(pipeline, "outcomes", **role).returncode == 0
    assert operate(pipeline, "outcomes", "--status", "any", "--csv", **role).returncode == 0
    assert operate(pipeline, "actions", "--by", "night-shift", **role).returncode == 0
    assert operate(pipeline, "backups", **role).returncode == 0
    assert operate(pipeline, "close", "--older-than", "1d", **role).returncode == 0
    assert operate(pipeline, "redrive", **role).returncode == 0, "a plan only reads"
    for command in (["redrive", "--all"], ["drop", "--limit", "1", "--account", account_id], ["enforce", account_id]):
        refused = operate(pipeline, *command, "--confirm", "--reason", "x", **role)
        assert refused.returncode == 1
        assert "AccessDenied" in refused.stderr
        assert "Use the stack's role" in refused.stderr
    assert pipeline.watch.dead_letter_count() == 1


def test_operator_reads_cannot_read_backups(pipeline: Pipeline) -> None:
    account_id, _ = fail(pipeline)
    dropped = operate(pipeline, "drop", "--account", account_id, "--confirm", "--reason", "x")
    key = dropped.stderr.partition("`restore ")[2].partition("`")[0]

    refused = operate(pipeline, "restore", key, **session_of(pipeline, "OperatorReads"))

    assert refused.returncode == 1
    assert "S3.AccessDenied" in refused.stderr
    assert account_id not in refused.stdout + refused.stderr


def test_operator_acts_can_run_every_command(pipeline: Pipeline) -> None:
    account_id, event = fail(pipeline)
    role = session_of(pipeline, "OperatorActs")

    dropped = operate(pipeline, "drop", "--account", account_id, "--confirm", "--reason", "x", **role)
    assert dropped.returncode == 0, dropped.stderr
    key = dropped.stderr.partition("`restore ")[2].partition("`")[0]
    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.CLOSED
    restored = operate(pipeline, "restore", key, "--confirm", "--reason", "x", **role)
    assert restored.returncode == 0, restored.stderr
    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.FAILED
    done = operate(pipeline, "redrive", "--all", *WAIT, "--confirm", "--reason", "x", **role)
    assert done.returncode == 0, done.stderr
    assert "1 enforced" in done.stderr
    assert operate(pipeline, "enforce", account_id, "--confirm", "--reason", "x", **role).returncode == 0
    pipeline.handle(json.dumps(pipeline.invited(account_id))[:-2])
    [group] = list_groups(pipeline)
    editor = {"EDITOR": 'sh -c \'printf "}}" >> "$0"\''}
    edited = operate(pipeline, "edit", group["ids"][0], *WAIT, "--confirm", "--reason", "x", **role, **editor)
    assert edited.returncode == 0, edited.stderr
    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.ENFORCED
    reads = session_of(pipeline, "OperatorReads")
    ours = json.loads(operate(pipeline, "actions", "--by", "Night-Shift", "--json", **reads).stdout)
    assert {each["action"] for each in ours} >= {"drop", "restore", "redrive", "enforce", "edit"}
    assert all(each["you"] for each in ours), "the session of the other role has the same name"
