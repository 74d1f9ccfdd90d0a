"""The operator's tool as an operator uses it, against the embedded AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from infra.deploy.build import ROOT
from infra.local.installation import STACK
from schemas.act import Act
from schemas.outcome import OutcomeStatus

if TYPE_CHECKING:
    from tests.e2e.conftest import Pipeline

Done = subprocess.CompletedProcess[str]


def operate(pipeline: Pipeline, *arguments: str, **environment: str) -> Done:
    told = {
        "AWS_ENDPOINT_URL": pipeline.aws.endpoint,
        "AWS_ACCESS_KEY_ID": pipeline.aws.access_key_id,
        "AWS_SECRET_ACCESS_KEY": pipeline.aws.secret_access_key,
        "AWS_DEFAULT_REGION": pipeline.aws.region,
        "AWS_CONFIG_FILE": "/dev/null",
    }
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "handlers.operate", "--stack", STACK, *arguments],
        cwd=ROOT,
        env=os.environ | told | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def taking(pipeline: Pipeline, role: str) -> dict[str, str]:
    """Return the credentials of one of the template's operator roles."""
    arn = pipeline.aws.client("iam").get_role(RoleName=pipeline.resource(role))["Role"]["Arn"]
    taken = pipeline.aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="night-shift")["Credentials"]
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


def acts(pipeline: Pipeline) -> list[Act]:
    s3 = pipeline.aws.client("s3")
    found = s3.list_objects_v2(Bucket=pipeline.at.evidence_bucket, Prefix="acts/").get("Contents", [])
    bodies = [s3.get_object(Bucket=pipeline.at.evidence_bucket, Key=each["Key"])["Body"].read() for each in found]
    return [Act.model_validate_json(body) for body in bodies]


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
    assert (group["code"], group["letters"], group["redrives"]) == ("PolicyTypeNotEnabledException", 1, 0)
    assert "enable service control policies" in group["next step"]
    shown = operate(pipeline, "show", group["ids"][0])
    assert event["detail"]["eventID"] in shown.stdout
    assert "nothing speaks against a redrive" in shown.stdout

    dry = operate(pipeline, "redrive", "--code", "PolicyTypeNotEnabledException")
    assert dry.returncode == 0
    assert "1 letters are to be redriven" in dry.stdout
    assert "Nothing was done" in dry.stderr
    assert pipeline.watch.dead() == 1

    done = operate(pipeline, "redrive", "--code", "PolicyTypeNotEnabledException", "--confirm", "--reason", "enabled")
    assert done.returncode == 0, done.stderr
    pipeline.watch.until_quiet()

    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.ENFORCED
    assert pipeline.watch.attached(account_id) == set(pipeline.at.policy_ids)
    assert listed(pipeline) == []
    table = operate(pipeline, "outcome", account_id, "--json")
    assert [each["status"] for each in json.loads(table.stdout)] == ["ENFORCED"]


def test_a_letter_that_came_back_shows_what_was_done_to_it(pipeline: Pipeline) -> None:
    _, event = fail(pipeline)
    pipeline.relay.fail_next("AttachPolicy", (400, "PolicyTypeNotEnabledException"))
    operate(pipeline, "redrive", "--confirm", "--reason", "tried too early")
    pipeline.watch.until_quiet()

    [group] = listed(pipeline)
    shown = json.loads(operate(pipeline, "show", group["ids"][0], "--json").stdout)

    assert group["redrives"] == 1
    assert shown["outcome"]["event_id"] == event["detail"]["eventID"]
    assert [each.partition("Z ")[2].partition(" by ")[0] for each in shown["history"]] == ["redrive"]
    assert "tried too early" in shown["history"][0]
    assert len(shown["evidence"]) == 2


def test_every_act_is_on_record_before_and_after_and_names_nobody_in_clear(pipeline: Pipeline) -> None:
    account_id, _ = fail(pipeline)
    before = len(acts(pipeline))

    operate(pipeline, "redrive", "--confirm", "--reason", f"mended {account_id} for a@example.com")
    pipeline.watch.until_quiet()

    made = sorted(acts(pipeline), key=lambda act: act.recorded_at)[before:]
    assert [(act.action, act.phase) for act in made] == [("redrive", "intended"), ("redrive", "done")]
    assert made[1].results == {"chosen": 1, "sent": 1, "deleted": 1}
    assert len(made[0].letters) == 1
    for act in made:
        text = act.model_dump_json()
        assert account_id not in text
        assert pipeline.at.management_account_id not in text.replace(act.actor_id, "")
        assert "@" not in text


def test_what_would_only_come_back_is_left_out_unless_forced(pipeline: Pipeline) -> None:
    pipeline.handled("{broken")

    plan = operate(pipeline, "redrive", "--confirm", "--reason", "x")

    assert plan.returncode == 1
    assert "left out" in plan.stdout
    assert "nothing to do" in plan.stderr
    assert pipeline.watch.dead() == 1


def test_a_dropped_letter_can_be_restored(pipeline: Pipeline) -> None:
    account_id, event = fail(pipeline)
    assert operate(pipeline, "drop", "--confirm", "--reason", "x").returncode == 2

    dropped = operate(pipeline, "drop", "--account", account_id, "--confirm", "--reason", "a test")
    assert dropped.returncode == 0, dropped.stderr
    assert pipeline.watch.dead() == 0
    key = dropped.stderr.partition("`restore ")[2].partition("`")[0]

    restored = operate(pipeline, "restore", key, "--confirm", "--reason", "needed after all")
    assert restored.returncode == 0, restored.stderr
    pipeline.watch.until_quiet()

    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.ENFORCED


def test_a_broken_body_is_edited_checked_and_sent(pipeline: Pipeline) -> None:
    event = pipeline.invited(pipeline.account())
    body = json.dumps(event)
    pipeline.handled(body[:-2])
    [group] = listed(pipeline)
    message_id = group["ids"][0]

    unchanged = operate(pipeline, "edit", message_id, "--confirm", "--reason", "x", EDITOR="true")
    assert unchanged.returncode == 1
    assert "Invalid JSON" in unchanged.stderr

    mended = operate(
        pipeline, "edit", message_id, "--confirm", "--reason", "cut off", EDITOR='sh -c \'printf "}}" >> "$0"\''
    )
    assert mended.returncode == 0, mended.stderr
    pipeline.watch.until_quiet()

    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.ENFORCED
    assert pipeline.watch.dead() == 0


def test_an_account_that_no_event_told_about_is_enforced_by_hand(pipeline: Pipeline) -> None:
    account_id = pipeline.account()

    assert "Nothing was done" in operate(pipeline, "enforce", account_id).stderr
    assert operate(pipeline, "enforce", "123").returncode == 2
    done = operate(pipeline, "enforce", account_id, "--confirm", "--reason", "its event was lost")
    assert done.returncode == 0, done.stderr
    pipeline.watch.until_quiet()

    assert pipeline.watch.attached(account_id) == set(pipeline.at.policy_ids)


def test_a_stack_that_is_not_there_gets_one_clear_line(pipeline: Pipeline) -> None:
    done = operate(pipeline, "list", AWS_ENDPOINT_URL=pipeline.aws.endpoint)
    assert done.returncode == 0
    missing = subprocess.run(
        [sys.executable, "-m", "handlers.operate", "list"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert missing.returncode == 1
    assert "stack joinguard cannot be reached" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_sqs_own_move_task_takes_no_filter(pipeline: Pipeline) -> None:
    """The stand-in has no move task; what can be checked is that nothing is asked of it wrongly."""
    assert operate(pipeline, "redrive", "--native", "--code", "x").returncode == 2
    assert "SQS would move all" in operate(pipeline, "redrive", "--native").stderr


def test_who_looks_can_look_and_do_nothing_else(pipeline: Pipeline) -> None:
    """Under IAM enforcement, with the role of the template."""
    account_id, _ = fail(pipeline)
    role = taking(pipeline, "OperatorReads")

    [group] = json.loads(operate(pipeline, "list", "--json", **role).stdout)
    shown = operate(pipeline, "show", group["ids"][0], **role)
    assert shown.returncode == 0, shown.stderr
    assert "nothing speaks against a redrive" in shown.stdout
    assert operate(pipeline, "outcome", account_id, **role).returncode == 0
    assert operate(pipeline, "outcomes", **role).returncode == 0
    for act in (["redrive"], ["drop", "--code", group["code"]], ["enforce", account_id]):
        refused = operate(pipeline, *act, "--confirm", "--reason", "x", **role)
        assert refused.returncode == 1
        assert "Error: S3.AccessDenied" in refused.stderr
    assert pipeline.watch.dead() == 1


def test_who_acts_can_do_all_of_it(pipeline: Pipeline) -> None:
    account_id, event = fail(pipeline)
    role = taking(pipeline, "OperatorActs")

    dropped = operate(pipeline, "drop", "--account", account_id, "--confirm", "--reason", "x", **role)
    assert dropped.returncode == 0, dropped.stderr
    key = dropped.stderr.partition("`restore ")[2].partition("`")[0]
    pipeline.relay.fail_next("AttachPolicy", (400, "PolicyTypeNotEnabledException"))
    restored = operate(pipeline, "restore", key, "--confirm", "--reason", "x", **role)
    assert restored.returncode == 0, restored.stderr
    pipeline.watch.until_quiet()
    done = operate(pipeline, "redrive", "--confirm", "--reason", "x", **role)
    assert done.returncode == 0, done.stderr
    assert operate(pipeline, "enforce", account_id, "--confirm", "--reason", "x", **role).returncode == 0
    pipeline.watch.until_quiet()

    assert pipeline.outcome(event["detail"]["eventID"]).status is OutcomeStatus.ENFORCED
