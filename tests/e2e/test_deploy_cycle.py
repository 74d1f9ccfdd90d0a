"""Deploy, destroy, deploy, fail, deploy: the life of an installation against the embedded AWS.

What the stand-in lacks or does otherwise than AWS, and where it is tested instead (tests/infra/test_adoption.py and
tests/infra/test_stack_states.py, with stubbed answers):
- Its CloudFormation has neither SCPs nor trails, and imports no bucket policies, so the template of the second
  deployment has none.
- It accepts a new creation over a stack whose creation failed, which AWS refuses.
- It imports a resource whatever the template's properties are.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from handlers.core.guardrails.evaluate import Guardrails
from infra.deploy.build import ROOT
from infra.deploy.stack import events, find, outputs
from infra.deploy.template import dump
from infra.local.complete import complete, for_stand_in
from infra.local.installation import create_policy
from infra.local.standin import running
from schemas.configuration import Configuration
from tests.e2e.test_deploy import DENY, Console, create_trail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Done


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with running() as aws:
        create_trail(aws)
        yield Console(aws, tmp_path_factory.mktemp("stages"), create_policy(aws, "deny-x", DENY))


def changed(console: Console, *, broken: bool = False, without: str = "") -> Path:
    """Write a template whose creation fails after everything else, or one without the resources of a type."""
    template = json.loads(for_stand_in((ROOT / "infra" / "template.yaml").read_text()))
    resources: dict[str, Any] = template["Resources"]
    template["Resources"] = {name: each for name, each in resources.items() if each["Type"] != without}
    if broken:
        # Nobody signals this condition, so it fails after a second.
        template["Resources"]["Handle"] = {"Type": "AWS::CloudFormation::WaitConditionHandle"}
        template["Resources"]["Broken"] = {
            "Type": "AWS::CloudFormation::WaitCondition",
            "DependsOn": ["Outcomes", "Evidence", "EvidencePolicy", "DeadLetters", "AttachPoliciesMapping"],
            "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": "1", "Count": 1},
        }
    path = console.folder / f"template-{broken}-{len(without)}.json"
    path.write_text(dump(template))
    return path


def deploy(console: Console, stage: str, template: Path | None = None, *arguments: str) -> Done:
    options = console.options()
    if template:
        options[-1] = str(template)
    return console.run("deploy", "--stage", stage, "--yes", *options, *arguments)


def destroy(console: Console, stage: str, *arguments: str) -> Done:
    reason = ["--confirm", "--reason", "the rehearsal, part 1", "--pause", "1"]
    return console.run("destroy", "--stage", stage, *reason, *arguments)


def resources(console: Console, stack: str) -> dict[str, str]:
    found = console.aws.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
    return {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found}


#: The keys of the stack, which outlive it.
KEYS: Final = ("DataKey", "PseudonymKey", "SealKey")


def protected(console: Console, ids: dict[str, str]) -> set[str]:
    """Return the keys whose policies deny to end them."""
    kms = console.aws.client("kms")
    policies = {name: kms.get_key_policy(KeyId=ids[name])["Policy"] for name in KEYS}
    return {name for name, policy in policies.items() if "NobodyEndsTheKey" in policy}


def configurations(console: Console, bucket: str) -> list[Configuration]:
    """Return the records of configurations; fail if one holds an account id, an e-mail address or an ARN."""
    s3 = console.aws.client("s3")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix="configuration/").get("Contents", [])]
    bodies = [s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in keys]
    for text in (*keys, *bodies):
        assert console.aws.access_key_id not in text
        assert "@" not in text
        assert "arn:" not in text
    return [Configuration.model_validate_json(body) for body in bodies]


def stores(console: Console) -> set[str]:
    """Return every table, bucket and queue."""
    return {
        *console.aws.client("dynamodb").list_tables()["TableNames"],
        *(bucket["Name"] for bucket in console.aws.client("s3").list_buckets()["Buckets"]),
        *console.aws.client("sqs").list_queues().get("QueueUrls", []),
    }


def test_deploy_destroy_deploy_adopts_what_was_kept(console: Console) -> None:
    stage = console.stage("cycle", AttachTo="all")
    first = deploy(console, stage, None, "--reason", "the first one for someone@example.com")
    assert first.returncode == 0, first.stderr
    complete(console.aws, "joinguard-cycle")
    before = resources(console, "joinguard-cycle")
    table = console.aws.client("dynamodb").describe_table(TableName=before["Outcomes"])["Table"]
    assert table["DeletionProtectionEnabled"], "protected after the creation"
    assert protected(console, before) == {*KEYS}
    [configured] = configurations(console, before["Evidence"])
    parameters = find(console.aws.client("cloudformation"), "joinguard-cycle").parameters  # type: ignore[union-attr]
    assert configured.policies[0].policy_id == console.policy_id
    assert configured.guardrails == Guardrails.for_everyone([console.policy_id]).sha256
    assert configured.code is not None
    assert configured.code in parameters["CodeKey"]
    assert (configured.attaches_to, configured.reason) == ("all", "the first one for [e-mail]")

    gone = destroy(console, stage)
    assert gone.returncode == 0, gone.stderr
    assert console.stacks().get("joinguard-cycle", "DELETE_COMPLETE") == "DELETE_COMPLETE"

    again = deploy(console, stage, changed(console, without="AWS::S3::BucketPolicy"))
    assert again.returncode == 0, again.stderr
    assert "IMPORT of stack joinguard-cycle" in again.stdout
    after = resources(console, "joinguard-cycle")
    kept = {
        "AccessLogs",
        "AttachPoliciesLogs",
        *KEYS,
        "DeadLetters",
        "Evidence",
        "Outcomes",
        "Undelivered",
    }
    assert {name for name in after if after[name] == before.get(name) and name in kept} == kept
    assert protected(console, after) == {*KEYS}
    assert outputs(console.aws.client("cloudformation"), "joinguard-cycle")["EvidenceBucket"] == before["Evidence"]

    template, recorded = changed(console, without="AWS::S3::BucketPolicy"), configurations(console, before["Evidence"])
    unchanged = deploy(console, stage, template)
    assert "nothing to change" in unchanged.stderr
    assert configurations(console, before["Evidence"]) == recorded
    assert deploy(console, stage, template, "--record", "--reason", "lost").returncode == 0
    assert [each.reason for each in configurations(console, before["Evidence"]) if each not in recorded] == ["lost"]


def test_a_second_stage_is_deployed_only_if_it_observes(console: Console) -> None:
    """Continues with the installation of the test before."""
    attaching = deploy(console, console.stage("second", AttachTo="222222222222"))
    assert attaching.returncode == 1
    assert "stage cycle (in us-east-1) attaches policies in this organization" in attaching.stderr
    assert "joinguard-second" not in console.stacks()

    observing = deploy(console, console.stage("second"))
    assert observing.returncode == 0, observing.stderr


def test_the_keys_of_a_temporary_stage_are_deleted_and_nothing_that_they_encrypt_is_adopted(console: Console) -> None:
    stage = console.stage("cheap", DeletionProtection="false")
    assert deploy(console, stage).returncode == 0
    complete(console.aws, "joinguard-cheap")
    before, kms = resources(console, "joinguard-cheap"), console.aws.client("kms")
    assert protected(console, before) == set()
    # The stand-in's CloudFormation ignores encryption, and its tables have no key at all.
    by_key = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": before["DataKey"]}
    console.aws.client("s3").put_bucket_encryption(
        Bucket=before["Evidence"],
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": by_key}]},
    )

    def states() -> set[str]:
        return {kms.describe_key(KeyId=before[name])["KeyMetadata"]["KeyState"] for name in KEYS}

    shown = console.run("destroy", "--stage", stage, "--delete-keys")
    later = re.findall(r"^│ deleted after 30 days (\w+)", shown.stdout, re.MULTILINE)
    assert sorted(later) == [*KEYS]
    assert "Nothing was changed" in shown.stderr
    assert "--delete-keys deletes the keys after 30 days" in console.run("destroy", "--stage", stage).stderr
    refused = destroy(console, console.stage("cheap", DeletionProtection="true"), "--delete-keys")
    assert (refused.returncode, states()) == (1, {"Enabled"})
    assert "nobody could read its evidence" in refused.stderr

    stage = console.stage("cheap", DeletionProtection="false")
    gone = destroy(console, stage, "--delete-keys")
    assert gone.returncode == 0, gone.stderr
    assert states() == {"PendingDeletion"}
    assert all(before[name] in gone.stderr for name in KEYS)
    assert "aws kms cancel-key-deletion" in gone.stderr

    again = deploy(console, stage, changed(console, without="AWS::S3::BucketPolicy"))
    assert again.returncode == 0, again.stderr
    assert "of an earlier stack cannot be adopted" in again.stderr
    after = resources(console, "joinguard-cheap")
    made_anew = {*KEYS, "Evidence"}
    assert {name for name in made_anew if after[name] == before[name]} == set()
    assert {name for name in ("AccessLogs", "DeadLetters", "Undelivered") if after[name] != before[name]} == set()


def test_a_guardrails_document_is_locked_planned_deployed_and_recorded(console: Console) -> None:
    stage = console.stage("ruled", PolicyIds="")
    document = console.folder.parent / "guardrails" / "ruled.yaml"
    document.parent.mkdir(exist_ok=True)
    rules = "rules:\n  - {id: everyone, attach: [deny-x], match: all}\n"
    nobody = "  - {id: nobody, attach: [deny-x], match: [{name: nobody-at-all}]}\n"
    document.write_text(f"version: 1\npolicies: [deny-x]\n{rules}{nobody}")

    unlocked = deploy(console, stage)
    assert "has no lock file yet" in unlocked.stderr
    locked = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "handlers.operate", "--region", "us-east-1", "lock", str(document)],
        cwd=ROOT,
        env=os.environ | console.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert locked.returncode == 0, locked.stderr
    useless = deploy(console, stage)
    assert "rule nobody: selects no account; correct match, or add allow_empty: true" in useless.stderr
    assert {unlocked.returncode, useless.returncode} == {1}
    assert "joinguard-ruled" not in console.stacks()

    document.write_text(f"version: 1\npolicies: [deny-x]\n{rules}")
    subprocess.run(locked.args, cwd=ROOT, env=os.environ | console.environment(), capture_output=True, check=True)  # noqa: S603 - as above
    done = deploy(console, stage)
    assert done.returncode == 0, done.stderr
    digest = re.search(r"guardrails plan ([0-9a-f]{64}): ", done.stderr)
    assert digest is not None
    evidence = resources(console, "joinguard-ruled")["Evidence"]
    [configured] = configurations(console, evidence)
    assert configured.plan == digest[1]
    assert configured.policies[0].sha256 is not None
    assert configured.document_digest is not None
    parameters = find(console.aws.client("cloudformation"), "joinguard-ruled").parameters  # type: ignore[union-attr]
    assert parameters["GuardrailsKey"] == f"joinguard/guardrails/{configured.guardrails}.json"

    again = deploy(console, stage)
    assert "nothing to change" in again.stderr
    assert "guardrails plan" not in again.stderr

    document.rename(document.with_suffix(".yml"))
    dropped = deploy(console, stage)
    document.with_suffix(".yml").rename(document)
    assert dropped.returncode == 1
    assert "stack joinguard-ruled has the guardrails of a document, and stage ruled has no document" in dropped.stderr
    assert "add --without-guardrails" in dropped.stderr


def test_an_approved_plan_is_applied_only_with_the_document_and_the_policies_that_it_was_made_of(
    console: Console,
) -> None:
    stage = console.stage("approved", PolicyIds="")
    document = console.folder.parent / "guardrails" / "approved.yaml"
    document.parent.mkdir(exist_ok=True)
    text = "version: 1\npolicies: [deny-x]\nrules:\n  - {id: everyone, attach: [deny-x], match: all}\n"

    def lock() -> None:
        command = [sys.executable, "-m", "handlers.operate", "--region", "us-east-1", "lock", str(document)]
        subprocess.run(command, cwd=ROOT, env=os.environ | console.environment(), capture_output=True, check=True)  # noqa: S603 - our own command

    document.write_text(text)
    lock()
    planned = console.run("deploy", "--stage", stage, *console.options(), "--plan-only")
    assert planned.returncode == 0, planned.stderr
    apply = ("deploy", "--stage", stage, "--pause", "1", "--apply", planned.stdout.strip(), "--yes")

    document.write_text(text.replace("id: everyone", "id: all"))
    lock()
    other = console.run(*apply)
    assert other.returncode == 1
    assert "was made with other guardrails than the document of stage approved here" in other.stderr

    document.write_text(text)
    lock()
    organizations = console.aws.client("organizations")
    found = organizations.list_policies(Filter="SERVICE_CONTROL_POLICY")["Policies"]
    [policy_id] = [each["Id"] for each in found if each["Name"] == "deny-x"]
    before = organizations.describe_policy(PolicyId=policy_id)["Policy"]["Content"]
    organizations.update_policy(PolicyId=policy_id, Content=json.dumps(json.loads(before) | {"Id": "changed"}))
    try:
        stale = console.run(*apply)
    finally:
        organizations.update_policy(PolicyId=policy_id, Content=before)
    assert stale.returncode == 1
    assert "the content of deny-x" in stale.stderr
    assert console.stacks()["joinguard-approved"] == "REVIEW_IN_PROGRESS"

    applied = console.run(*apply)
    assert applied.returncode == 0, applied.stderr
    [configured] = configurations(console, resources(console, "joinguard-approved")["Evidence"])
    digest = re.search(r"guardrails plan ([0-9a-f]{64}): ", planned.stderr)
    assert digest is not None
    assert configured.plan == digest[1]


def test_a_failed_creation_leaves_nothing_and_the_next_deployment_succeeds(console: Console) -> None:
    stage, before = console.stage("failing"), stores(console)

    failed = deploy(console, stage, changed(console, broken=True))
    assert failed.returncode == 1
    assert "create of stack joinguard-failing failed: Broken" in failed.stderr
    assert "ROLLBACK_COMPLETE: its creation failed, and what it had made was deleted" in failed.stderr
    assert "redential" not in failed.stderr
    left = {name for name in stores(console) - before if "joinguard-code-" not in name}
    assert not left, "with Retain, the rollback would keep them"

    again = deploy(console, stage)
    assert again.returncode == 0, again.stderr
    assert "stack joinguard-failing is ROLLBACK_COMPLETE" in again.stderr
    assert "Deleting it before the new creation" in again.stderr
    assert console.stacks()["joinguard-failing"] in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}


def test_a_change_set_that_nobody_executed_is_replaced(console: Console) -> None:
    stage = console.stage("reviewed")
    console.aws.client("cloudformation").create_change_set(
        StackName="joinguard-reviewed",
        ChangeSetName="by-hand",
        ChangeSetType="CREATE",
        TemplateBody=dump({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}),
    )

    done = deploy(console, stage)

    assert done.returncode == 0, done.stderr
    assert "REVIEW_IN_PROGRESS: it has only a change set that nobody executed" in done.stderr


@pytest.fixture(scope="module")
def installed(console: Console) -> str:
    """Return the stage of an installation that the tests of `destroy` share; the last of them deletes it."""
    stage = console.stage("ending")
    done = deploy(console, stage)
    assert done.returncode == 0, done.stderr
    complete(console.aws, "joinguard-ending")
    return stage


def rule_state(console: Console, stack: str) -> str:
    at = outputs(console.aws.client("cloudformation"), stack)
    return str(console.aws.client("events").describe_rule(Name=at["RuleName"])["State"])


def test_destroy_refuses_while_joins_wait_and_changes_nothing(console: Console, installed: str) -> None:
    at = outputs(console.aws.client("cloudformation"), "joinguard-ending")
    sqs = console.aws.client("sqs")
    # Delayed, so that the worker does not take it.
    sqs.send_message(QueueUrl=at["QueueUrl"], MessageBody="{}", DelaySeconds=900)
    sqs.send_message(QueueUrl=at["DeadLetterQueueUrl"], MessageBody="x")

    refused = destroy(console, installed)

    assert refused.returncode == 1
    assert "messages wait: 1 joins, 0 repairs, 1 dead letters, 0 undelivered events" in refused.stderr
    assert "--discard-joins" in refused.stderr
    assert console.stacks()["joinguard-ending"] == "UPDATE_COMPLETE"
    assert rule_state(console, "joinguard-ending") == "ENABLED"


def test_destroy_lists_every_resource_and_what_the_tooling_made(console: Console, installed: str) -> None:
    there = resources(console, "joinguard-ending")

    shown = console.run("destroy", "--stage", installed)

    fates = dict(reversed(words) for words in re.findall(r"^│ (kept|deleted) ([\w ]+?) +│", shown.stdout, re.MULTILINE))
    assert set(there) | {"code bucket"} == set(fates)
    assert {name for name in ("Evidence", "EvidencePolicy", "JoinsPolicy", "code bucket") if fates[name] == "kept"} == {
        "Evidence",
        "EvidencePolicy",
        "JoinsPolicy",
        "code bucket",
    }
    assert fates["AttachPolicies"] == fates["Joins"] == "deleted"
    assert "Nothing was changed" in shown.stderr


def test_destroy_keeps_the_protection_of_what_it_keeps_and_its_reason(console: Console, installed: str) -> None:
    at = outputs(console.aws.client("cloudformation"), "joinguard-ending")
    there = resources(console, "joinguard-ending")
    [stack_id] = {
        each["StackId"]
        for each in console.aws.client("cloudformation").describe_stacks(StackName="joinguard-ending")["Stacks"]
    }

    console.aws.client("sqs").send_message(QueueUrl=at["DeadLetterQueueUrl"], MessageBody="y")

    gone = destroy(console, installed, "--discard-joins")

    assert gone.returncode == 0, gone.stderr
    assert there["AttachPoliciesLogs"] in gone.stderr
    bucket = console.aws.client("s3").get_bucket_policy(Bucket=at["EvidenceBucket"])["Policy"]
    assert "NobodyDeletes" in bucket
    for queue in ("DeadLetterQueueUrl", "UndeliveredQueueUrl"):
        found = console.aws.client("sqs").get_queue_attributes(QueueUrl=at[queue], AttributeNames=["Policy"])
        assert "NobodyElseSends" in found["Attributes"]["Policy"]
    lines = [
        json.loads(event["message"])
        for event in console.aws.client("logs").filter_log_events(
            logGroupName=there["AttachPoliciesLogs"], logStreamNamePrefix="destroy/"
        )["events"]
    ]
    # The refused attempt left no record.
    assert [(line["action"], line["phase"], line["reason"]) for line in lines] == [
        ("destroy", "intended", "the rehearsal, part 1"),
        ("destroy", "done", "the rehearsal, part 1"),
    ]
    assert lines[0]["waiting"]["dead letters"] >= 1
    skipped = {
        event["LogicalResourceId"]
        for event in events(console.aws.client("cloudformation"), stack_id)
        if event["ResourceStatus"] == "DELETE_SKIPPED"
    }
    assert {"Evidence", "EvidencePolicy", "JoinsPolicy", "DeadLettersPolicy", "AccessLogsPolicy"} <= skipped


def test_destroying_what_is_gone_says_so(console: Console) -> None:
    done = destroy(console, console.stage("never"))

    assert done.returncode == 1
    assert "there is no stack joinguard-never" in done.stderr


def test_a_plan_is_made_in_one_job_and_applied_in_another(console: Console) -> None:
    stage = console.stage("planned")
    planned = console.run("deploy", "--stage", stage, *console.options(), "--plan-only")
    assert planned.returncode == 0, planned.stderr
    change_set = planned.stdout.strip()
    assert change_set.startswith("arn:aws:cloudformation:")
    assert "CREATE of stack joinguard-planned" in planned.stderr
    assert console.stacks()["joinguard-planned"] == "REVIEW_IN_PROGRESS"

    other = console.run("deploy", "--stage", console.stage("other"), "--apply", change_set, "--yes")
    assert other.returncode == 1
    assert "joinguard-planned" in other.stderr or "has no change set" in other.stderr

    applied = console.run("deploy", "--stage", stage, "--pause", "1", "--apply", change_set, "--yes")
    assert applied.returncode == 0, applied.stderr
    assert console.stacks()["joinguard-planned"] == "UPDATE_COMPLETE"
    assert "DeadLetterQueueUrl" in applied.stdout

    twice = console.run("deploy", "--stage", stage, "--pause", "1", "--apply", change_set, "--yes")
    assert twice.returncode == 1

    complete(console.aws, "joinguard-planned")
    nothing = console.run("deploy", "--stage", stage, *console.options(), "--plan-only")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "nothing to change" in nothing.stderr


def test_planning_and_applying_at_once_is_refused(console: Console) -> None:
    done = console.run("deploy", "--stage", console.stage("planned"), "--plan-only", "--apply", "arn:x")

    assert done.returncode == 2
    assert "exclude each other" in done.stderr
