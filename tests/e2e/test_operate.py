"""The operator's tool as an operator uses it, against the embedded AWS."""

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

#: However slow the machine is: see what becomes of what is put back.
PATIENTLY: Final = ("--wait", "1h")
#: The stand-in has one server, which knows at once what it has.
OPTIONS: Final = ("--stack", STACK, "--poll", "0")


def credentials(pipeline: Pipeline) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": pipeline.aws.endpoint,
        "AWS_ACCESS_KEY_ID": pipeline.aws.access_key_id,
        "AWS_SECRET_ACCESS_KEY": pipeline.aws.secret_access_key,
        "AWS_DEFAULT_REGION": pipeline.aws.region,
        "AWS_CONFIG_FILE": "/dev/null",
        # Goes with the stand-in.
        "XDG_CONFIG_HOME": str(pipeline.aws.log.parent),
    }


def operate(pipeline: Pipeline, *arguments: str, **environment: str) -> Done:
    """Run a command in this process; see `operate_in_a_process` for what takes one of its own to show."""
    runner = CliRunner()
    done = runner.invoke(
        cli,
        [*OPTIONS, *arguments],
        env=credentials(pipeline) | environment,
        prog_name="joinguard",
        catch_exceptions=False,
    )
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def started(pipeline: Pipeline, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "handlers.operate", *OPTIONS, *arguments],
        cwd=ROOT,
        env=os.environ | credentials(pipeline) | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def operate_in_a_process(pipeline: Pipeline, *arguments: str, **environment: str) -> Done:
    """Run a command as a shell does."""
    with started(pipeline, *arguments, **environment) as process:
        output, talk = process.communicate(timeout=HANGS_AFTER)
    return subprocess.CompletedProcess(arguments, process.returncode, output, talk)


def taking(pipeline: Pipeline, role: str) -> dict[str, str]:
    """Return the credentials of one of the template's operator roles."""
    arn = pipeline.client("iam").get_role(RoleName=pipeline.resource(role))["Role"]["Arn"]
    taken = pipeline.client("sts").assume_role(RoleArn=arn, RoleSessionName="night-shift")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": taken["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": taken["SecretAccessKey"],
        "AWS_SESSION_TOKEN": taken["SessionToken"],
    }


def listed(pipeline: Pipeline, *arguments: str) -> list[dict[str, Any]]:
    done = operate(pipeline, "list", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def records_of_actions(pipeline: Pipeline) -> list[AuditRecord]:
    s3 = pipeline.client("s3")
    found = s3.list_objects_v2(Bucket=pipeline.at.evidence_bucket, Prefix="acts/").get("Contents", [])
    bodies = [s3.get_object(Bucket=pipeline.at.evidence_bucket, Key=each["Key"])["Body"].read() for each in found]
    return [AuditRecord.model_validate_json(body) for body in bodies]


def fail(pipeline: Pipeline, code: str = "PolicyTypeNotEnabledException") -> tuple[str, dict[str, Any]]:
    """Let a join end in the dead letters."""
    account_id = pipeline.account()
    event = pipeline.invited(account_id)
    pipeline.relay.fail_next("AttachPolicy", (400, code))
    pipeline.handled(event)
    return account_id, event


def test_from_the_page_to_enforced(pipeline: Pipeline) -> None:
    """Five minutes at 3 a.m.: what failed, why, is the cause gone, put it back, done."""
    account_id, event = fail(pipeline)

    [group] = listed(pipeline)
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

    acting = ("--code", "PolicyTypeNotEnabledException", *PATIENTLY, "--confirm", "--reason", "enabled")
    done = operate_in_a_process(pipeline, "redrive", *acting)
    assert done.returncode == 0, done.stderr
    assert "1 sent and deleted; 1 enforced" in done.stderr

    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.ENFORCED
    assert pipeline.watch.attached(account_id) == set(pipeline.at.policy_ids)
    assert listed(pipeline) == []
    told = json.loads(operate(pipeline, "outcome", account_id, "--json").stdout)
    assert [each["status"] for each in told["events"]] == ["ENFORCED"]
    assert told["verdict"] == "carries every required policy"
    assert [each["verdict"] for each in told["events"][0]["evidence"]] == ["not_compared", "valid"]


def test_a_letter_that_came_back_shows_what_was_done_to_it(pipeline: Pipeline) -> None:
    _, event = fail(pipeline)
    pipeline.relay.fail_next("AttachPolicy", (400, "PolicyTypeNotEnabledException"))
    early = operate(pipeline, "redrive", "--all", *PATIENTLY, "--confirm", "--reason", "tried too early")
    assert early.returncode == 1
    assert "1 failed" in early.stderr

    [group] = listed(pipeline)
    shown = json.loads(operate(pipeline, "show", group["ids"][0], "--json").stdout)

    assert group["redrives"] == 1
    assert shown["outcome"]["event_id"] == event["detail"]["eventID"]
    assert [each["action"] for each in shown["history"]] == ["redrive"]
    assert "tried too early" in shown["history"][0]["reason"]
    assert len(shown["evidence"]) == 2
    assert all(each["policies"][pipeline.at.policy_ids[0]] == "FAILED" for each in shown["evidence"])
    [failing] = json.loads(operate(pipeline, "outcomes", "--json").stdout)
    assert failing["fault"]["code"] == "PolicyTypeNotEnabledException"


def test_every_act_is_on_record_before_and_after_and_names_nobody_in_clear(pipeline: Pipeline) -> None:
    account_id, event = fail(pipeline)
    before = len(records_of_actions(pipeline))

    operate(pipeline, "redrive", "--all", *PATIENTLY, "--confirm", "--reason", f"mended {account_id} for a@example.com")

    made = sorted(records_of_actions(pipeline), key=lambda act: act.recorded_at)[before:]
    assert [(act.action, act.phase, act.ended) for act in made] == [
        ("redrive", "intended", None),
        ("redrive", "done", "completed"),
    ]
    assert made[1].results == {"sent": 1, "deleted": 1, "refused": 0, "enforced": 1}
    assert [(each.event_id, each.result) for each in made[1].letters] == [
        (event["detail"]["eventID"], "deleted, enforced")
    ]
    for act in made:
        text = act.model_dump_json()
        assert account_id not in text
        assert pipeline.at.management_account_id not in text
        assert "@" not in text


def test_what_would_only_come_back_is_left_out_unless_forced(pipeline: Pipeline) -> None:
    pipeline.handled("{broken")

    plan = operate(pipeline, "redrive", "--all", "--confirm", "--reason", "x")

    assert plan.returncode == 1
    assert "left out" in plan.stdout
    assert "Nothing to do" in plan.stderr
    assert pipeline.watch.dead_letter_count() == 1


def test_a_worker_that_may_not_attach_is_known_before_anything_is_sent(pipeline: Pipeline) -> None:
    """IAM's simulator; the stand-in's reads the role as it really is, for the first policy."""
    fail(pipeline, "AccessDeniedException")
    iam, role = pipeline.client("iam"), pipeline.resource("AttachPoliciesRole")
    before = iam.get_role_policy(RoleName=role, PolicyName="attach-policies")["PolicyDocument"]
    less = before | {"Statement": [each for each in before["Statement"] if each["Sid"] != "AttachThesePolicies"]}
    iam.put_role_policy(RoleName=role, PolicyName="attach-policies", PolicyDocument=json.dumps(less))
    try:
        plan = operate(pipeline, "redrive")
    finally:
        iam.put_role_policy(RoleName=role, PolicyName="attach-policies", PolicyDocument=json.dumps(before))
    restored = operate_in_a_process(pipeline, "redrive", PYTHONIOENCODING="ascii")

    assert "0 messages to be redriven" in plan.stdout
    assert "the worker's role may not attach" in plan.stdout
    assert "1 message to be redriven" in restored.stdout


def test_a_dropped_letter_can_be_restored(pipeline: Pipeline) -> None:
    account_id, event = fail(pipeline)
    assert operate(pipeline, "drop", "--confirm", "--reason", "x").returncode == 2

    dropped = operate(pipeline, "drop", "--account", account_id, "--confirm", "--reason", "a test")
    assert dropped.returncode == 0, dropped.stderr
    assert pipeline.watch.dead_letter_count() == 0
    key = dropped.stderr.partition("`restore ")[2].partition("`")[0]
    kept = pipeline.client("s3").get_object(Bucket=pipeline.at.evidence_bucket, Key=key)
    days = (kept["ObjectLockRetainUntilDate"] - datetime.now(UTC)).days
    assert (kept["ObjectLockMode"], days) == ("GOVERNANCE", 89), "locked, and not for seven years"

    restored = operate(pipeline, "restore", key, "--confirm", "--reason", "needed after all")
    assert restored.returncode == 0, restored.stderr
    [group] = listed(pipeline)
    assert group["reasons"][0]["code"] == "PolicyTypeNotEnabledException"
    operate(
        pipeline, "redrive", "--event", event["detail"]["eventID"], *PATIENTLY, "--confirm", "--reason", "after all"
    )

    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.ENFORCED


def test_a_broken_body_is_edited_checked_and_sent(pipeline: Pipeline) -> None:
    event = pipeline.invited(pipeline.account())
    body = json.dumps(event)
    pipeline.handled(body[:-2])
    [group] = listed(pipeline)
    message_id = group["ids"][0]

    unchanged = operate(pipeline, "edit", message_id, "--confirm", "--reason", "x", EDITOR="true")
    assert unchanged.returncode == 1
    assert "is not JSON" in unchanged.stderr

    mended = operate(
        pipeline,
        "edit",
        message_id,
        *PATIENTLY,
        "--confirm",
        "--reason",
        "cut off",
        EDITOR='sh -c \'printf "}}" >> "$0"\'',
    )
    assert mended.returncode == 0, mended.stderr
    assert "enforced" in mended.stderr

    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.ENFORCED
    assert pipeline.watch.dead_letter_count() == 0


def test_an_account_that_no_event_told_about_is_enforced_by_hand(pipeline: Pipeline) -> None:
    account_id = pipeline.account()

    assert "lacks" in operate(pipeline, "outcome", account_id).stdout
    assert "Nothing was done" in operate(pipeline, "enforce", account_id).stderr
    stranger = operate(pipeline, "enforce", "999999999999", "--confirm", "--reason", "x")
    assert (stranger.returncode, "not a member" in stranger.stderr) == (1, True)
    done = operate(pipeline, "enforce", account_id, "--confirm", "--reason", "its event was lost", "--json")
    assert done.returncode == 0, done.stderr
    pipeline.watch.until_quiet()

    assert pipeline.watch.attached(account_id) == set(pipeline.at.policy_ids)
    event_id = json.loads(done.stdout)["event_id"]
    assert event_id in {dead_letter.event_id for act in records_of_actions(pipeline) for dead_letter in act.letters}, (
        "the act names its event"
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["--stack", "nowhere", "list"], {}, "cannot read stack nowhere in us-east-1 of account 111111111111"),
        (["--profile", "nobody", "list"], {}, "nobody"),
        (["list"], {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}, "cannot call AWS"),
        (["list"], {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "cannot call AWS"),
        (["list"], {"AWS_ENDPOINT_URL": "foo"}, "cannot call AWS"),
        (["list"], {"AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:9"}, "Messages in flight become visible again"),
        (["redrive"], {"AWS_ENDPOINT_URL_ORGANIZATIONS": "http://127.0.0.1:9"}, "does not answer"),
        (["outcomes"], {"AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9"}, "DynamoDB"),
        (["restore", "backups/none", "--confirm", "--reason", "x"], {}, "The object does not exist"),
        (["redrive", "--all", "--native"], {}, "SQS"),
    ],
)
def test_whatever_is_wrong_gets_one_clear_line(
    pipeline: Pipeline, arguments: list[str], environment: dict[str, str], told: str
) -> None:
    """The last: the stand-in has no move task."""
    if arguments == ["redrive"]:
        fail(pipeline)

    done = operate(pipeline, *arguments, **environment)

    assert told in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if arguments == ["redrive"] else 1)


def test_a_stack_of_somebody_else_is_told_apart(pipeline: Pipeline) -> None:
    cloudformation = pipeline.client("cloudformation")
    template = {"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}}
    cloudformation.create_stack(StackName="another", TemplateBody=json.dumps(template))
    try:
        done = operate(pipeline, "--stack", "another", "list")
    finally:
        cloudformation.delete_stack(StackName="another")

    assert done.returncode == 1
    assert "is not an installation of Joinguard" in done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_a_polite_end_and_a_lost_terminal_give_everything_back(
    pipeline: Pipeline, how: signal.Signals
) -> None:
    for _ in range(4):
        fail(pipeline)
    acting = ("--rate", "0.01", "--breaker", "50", "--confirm", "--reason", "x")
    with started(pipeline, "redrive", "--all", *acting) as process:
        until(lambda: pipeline.watch.dead_letter_count() == 3, "the first of four letters to be redriven")
        process.send_signal(how)
        output, told = process.communicate(timeout=HANGS_AFTER)

    assert process.returncode == 1, output + told
    assert "interrupted: 1 sent" in told
    sqs = pipeline.client("sqs")
    asked = sqs.get_queue_attributes(QueueUrl=pipeline.at.dead_letter_queue_url, AttributeNames=["All"])["Attributes"]
    assert (asked["ApproximateNumberOfMessages"], asked["ApproximateNumberOfMessagesNotVisible"]) == ("3", "0")
    assert max(records_of_actions(pipeline), key=lambda act: act.recorded_at).ended == "interrupted"


def test_who_looks_can_look_and_do_nothing_else(pipeline: Pipeline) -> None:
    """Under IAM enforcement, with the role of the template."""
    account_id, _ = fail(pipeline)
    role = taking(pipeline, "OperatorReads")

    [group] = json.loads(operate(pipeline, "list", "--json", **role).stdout)
    shown = operate(pipeline, "show", group["ids"][0], **role)
    assert shown.returncode == 0, shown.stderr
    assert "ready to redrive yes" in " ".join(shown.stdout.split())
    assert "unknown" not in shown.stdout, "IAM tells it whether the worker may attach"
    assert operate(pipeline, "outcome", account_id, **role).returncode == 0
    assert operate(pipeline, "outcomes", **role).returncode == 0
    assert operate(pipeline, "redrive", **role).returncode == 0, "a plan is a look"
    for act in (["redrive", "--all"], ["drop", "--limit", "1", "--account", account_id], ["enforce", account_id]):
        refused = operate(pipeline, *act, "--confirm", "--reason", "x", **role)
        assert refused.returncode == 1
        assert "AccessDenied" in refused.stderr
        assert "Use the stack's role" in refused.stderr
    assert pipeline.watch.dead_letter_count() == 1


def test_who_looks_does_not_read_backups(pipeline: Pipeline) -> None:
    account_id, _ = fail(pipeline)
    dropped = operate(pipeline, "drop", "--account", account_id, "--confirm", "--reason", "x")
    key = dropped.stderr.partition("`restore ")[2].partition("`")[0]

    refused = operate(pipeline, "restore", key, **taking(pipeline, "OperatorReads"))

    assert refused.returncode == 1
    assert "S3.AccessDenied" in refused.stderr
    assert account_id not in refused.stdout + refused.stderr


def test_who_acts_can_do_all_of_it(pipeline: Pipeline) -> None:
    account_id, event = fail(pipeline)
    role = taking(pipeline, "OperatorActs")

    dropped = operate(pipeline, "drop", "--account", account_id, "--confirm", "--reason", "x", **role)
    assert dropped.returncode == 0, dropped.stderr
    key = dropped.stderr.partition("`restore ")[2].partition("`")[0]
    restored = operate(pipeline, "restore", key, "--confirm", "--reason", "x", **role)
    assert restored.returncode == 0, restored.stderr
    done = operate(pipeline, "redrive", "--all", *PATIENTLY, "--confirm", "--reason", "x", **role)
    assert done.returncode == 0, done.stderr
    assert "1 enforced" in done.stderr
    assert operate(pipeline, "enforce", account_id, "--confirm", "--reason", "x", **role).returncode == 0
    pipeline.handled(json.dumps(pipeline.invited(account_id))[:-2])
    [group] = listed(pipeline)
    mended = {"EDITOR": 'sh -c \'printf "}}" >> "$0"\''}
    edited = operate(pipeline, "edit", group["ids"][0], *PATIENTLY, "--confirm", "--reason", "x", **role, **mended)
    assert edited.returncode == 0, edited.stderr
    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.ENFORCED
