"""The record of the configuration that a deployment put in force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest

from handlers.core.guardrails.compile import compiled, locked
from handlers.operate.guardrails_document import load
from handlers.operate.guardrails_files import lock_path, rendered
from infra.deploy.recording import record_configuration
from infra.deploy.stack import DeployError, Plan
from infra.deploy.stages import Stage, Target
from schemas.configuration import Configuration
from schemas.guardrails import LockedPolicy
from tests.fakes import NOON
from tests.integration.conftest import client
from tests.integration.test_s3_artifacts import BUCKET, OUTPUTS, stack

TEXT = "version: 1\npolicies: [p-aaaaaaaa]\nrules: [{id: all, attach: [p-aaaaaaaa], match: all}]\n"


@pytest.fixture
def deployed(aws: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ARG001 - used for its effect
    """Return a document with its lock file, and the key under which its compiled guardrails are in force."""
    document = tmp_path / "prod.yaml"
    document.write_text(TEXT)
    policies = [LockedPolicy(policy="p-aaaaaaaa", id="p-aaaaaaaa", type="SERVICE_CONTROL_POLICY", sha256="0" * 64)]
    lock = locked(load(document, NOON).document, policies, {})
    lock_path(document).write_text(rendered(lock))
    guardrails = compiled(load(document, NOON).document, lock)
    s3 = client("s3")
    for bucket in (BUCKET, OUTPUTS["EvidenceBucket"]):
        s3.create_bucket(Bucket=bucket)
    key = f"joinguard/guardrails/{guardrails.sha256()}.json"
    s3.put_object(Bucket=BUCKET, Key=key, Body=guardrails.canonical())
    made = client("kms").create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]
    monkeypatch.setitem(OUTPUTS, "PseudonymKeyId", made)
    return document, key


def recorded(
    document: Path, key: str, monkeypatch: pytest.MonkeyPatch, executed: Plan | None = None, **parameters: str
) -> Configuration:
    stage = Stage(name="prod", region="us-east-1", document=document)
    with stack(monkeypatch, GuardrailsKey=key, **parameters):
        at = record_configuration(Target(boto3.Session(), stage, poll_seconds=1), "why", executed)
    body = client("s3").get_object(Bucket=OUTPUTS["EvidenceBucket"], Key=at)["Body"].read()
    return Configuration.model_validate_json(body)


def test_the_record_has_a_digest_of_the_document_that_is_in_force(
    deployed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = recorded(*deployed, monkeypatch)

    assert configuration.document_digest
    assert configuration.guardrails in deployed[1]


@pytest.mark.parametrize(
    ("description", "plan", "commit"),
    [
        (f"guardrails plan {'b' * 64}", "b" * 64, None),
        (f"guardrails plan {'b' * 64}; commit {'c' * 40}", "b" * 64, "c" * 40),
        (f"commit {'c' * 40}", None, "c" * 40),
        (f"somebody says {'b' * 64}", None, None),
        ("", None, None),
    ],
)
def test_only_the_description_of_our_change_sets_names_a_plan_and_a_commit(
    description: str, plan: str | None, commit: str | None, deployed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    executed = Plan("joinguard", "UPDATE", "arn:x/joinguard/set", (), description)

    configuration = recorded(*deployed, monkeypatch, executed=executed)

    assert (configuration.plan, configuration.commit) == (plan, commit)


def test_a_stack_that_is_being_changed_is_not_recorded_as_one_without_policies(
    deployed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(name="prod", region="us-east-1")
    with (
        stack(monkeypatch, status="UPDATE_IN_PROGRESS", GuardrailsKey=deployed[1]),
        pytest.raises(DeployError, match=r"UPDATE_IN_PROGRESS.*run `make deploy STAGE=prod ARGS=--record`"),
    ):
        record_configuration(Target(boto3.Session(), stage, poll_seconds=1), "why", None)

    assert "Contents" not in client("s3").list_objects_v2(Bucket=OUTPUTS["EvidenceBucket"])


@pytest.mark.parametrize("change", ["another document", "no lock file", "no document any more"])
def test_a_change_set_that_is_executed_from_other_files_is_not_recorded_as_made_of_them(
    change: str, deployed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document, key = deployed
    if change == "another document":
        document.write_text(TEXT.replace("match: all", 'match: [{account: "111122223333"}]'))
    elif change == "no lock file":
        lock_path(document).unlink()
    else:
        document.unlink()

    configuration = recorded(document, key, monkeypatch)

    assert configuration.document_digest is None
    assert configuration.guardrails in key


@pytest.mark.parametrize(
    ("parameters", "removes", "approved"),
    [
        ({}, False, None),
        ({"RemovePolicies": "false", "ApprovedPlanKey": ""}, False, None),
        ({"RemovePolicies": "true", "ApprovedPlanKey": ""}, True, None),
        ({"RemovePolicies": "true", "ApprovedPlanKey": f"joinguard/plans/{'c' * 64}.json"}, True, "c" * 64),
    ],
    ids=["an earlier template", "no removals", "removals", "an approved plan"],
)
def test_the_record_says_whether_policies_are_removed_and_which_plan_was_approved(
    parameters: dict[str, Any],
    *,
    removes: bool,
    approved: str | None,
    deployed: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document, key = deployed

    configuration = recorded(document, key, monkeypatch, **parameters)

    assert configuration.schema_version == "joinguard/configuration/2"
    assert (configuration.removes, configuration.approved_plan) == (removes, approved)


def test_a_record_of_version_1_can_be_read(deployed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = recorded(*deployed, monkeypatch).model_dump(mode="json", exclude_none=True)
    earlier = {key: value for key, value in now.items() if key not in {"removes", "approved_plan"}}

    read = Configuration.model_validate(earlier | {"schema_version": "joinguard/configuration/1"})

    assert (read.removes, read.approved_plan) == (None, None)
