"""Pauses with the template's roles, against the embedded AWS.

It does not evaluate `dynamodb:LeadingKeys`, so that no test here shows that the roles reach no other item of the table;
tests/infra/test_template.py compares the condition.
"""

from __future__ import annotations

import csv
import io
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from infra.deploy.health.check import Check, attempt
from infra.deploy.health.deployed import Deployed, read_contents, read_stack
from infra.deploy.health.pauses import pauses
from infra.local.installation import STACK
from tests.e2e.test_operate import operate, session_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Done, Pipeline

CONFIRM = ("--confirm", "--reason", "INC-123")
TERMS = ("--until", "4h", "--owner", "network team")


@pytest.fixture(autouse=True)
def _no_pauses(pipeline: Pipeline) -> Iterator[None]:
    yield
    forget(pipeline)


def forget(pipeline: Pipeline) -> None:
    item = {"name": {"S": "Pauses"}}
    pipeline.client("dynamodb").delete_item(TableName=pipeline.resource("Reconciliation"), Key=item)


def listed(pipeline: Pipeline, **role: str) -> dict[str, Any]:
    done = operate(pipeline, "pauses", "--json", "--reveal", **role)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_ou_and_an_account_are_paused_and_coverage_and_enforce_say_so(pipeline: Pipeline) -> None:
    organizations = pipeline.client("organizations")
    root = organizations.list_roots()["Roots"][0]["Id"]
    ou = organizations.create_organizational_unit(ParentId=root, Name="Migration")["OrganizationalUnit"]["Id"]
    inside, alone, other = (pipeline.account() for _ in range(3))
    organizations.move_account(AccountId=inside, SourceParentId=root, DestinationParentId=ou)
    reads, acts = session_of(pipeline, "OperatorReads"), session_of(pipeline, "OperatorActs")

    planned = operate(pipeline, "pause", "--ou", "/Migration", *TERMS, "--json", **reads)
    assert (planned.returncode, json.loads(planned.stdout)["accounts"]) == (0, 1), planned.stderr
    of_ou = operate(pipeline, "pause", "--ou", "/Migration", *TERMS, *CONFIRM, **acts)
    of_account = operate(pipeline, "pause", "--account", alone, *TERMS, *CONFIRM, **acts)
    assert (of_ou.returncode, of_account.returncode) == (0, 0), of_ou.stderr + of_account.stderr

    found = listed(pipeline, **reads)
    assert {(each["scope"], each["owner"], each["record"]) for each in found["in_force"]} == {
        (ou, "network team", "valid"),
        (alone, "network team", "valid"),
    }
    table = operate(pipeline, "coverage", "--csv", "--reveal", **reads)
    rows = list(csv.DictReader(io.StringIO(table.stdout)))
    paused = {each["account"]: each["paused"] for each in rows if each["account"] in {inside, alone, other}}
    assert paused == {inside: "yes", alone: "yes", other: ""}
    gaps = operate(pipeline, "enforce", "--gaps", "--reveal", "--json", **reads)
    fields = json.loads(gaps.stdout)
    assert {inside, alone} <= {each["account"] for each in fields["left_out"] if "paused until" in each["why"]}
    assert other in {each["account"] for each in fields["requests"]}

    for each in found["in_force"]:
        assert operate(pipeline, "resume", each["id"], *CONFIRM, **acts).returncode == 0
    assert listed(pipeline, **reads)["in_force"] == []


def test_a_joins_policies_are_attached_although_everything_is_paused(pipeline: Pipeline) -> None:
    acts = session_of(pipeline, "OperatorActs")
    assert operate(pipeline, "pause", "--organization", *TERMS, *CONFIRM, **acts).returncode == 0
    account_id = pipeline.account()

    pipeline.handle(pipeline.invited(account_id))

    assert pipeline.watch.attached(account_id) >= set(pipeline.at.policy_ids)


def test_who_only_reads_cannot_pause(pipeline: Pipeline) -> None:
    reads = session_of(pipeline, "OperatorReads")

    refused = operate(pipeline, "pause", "--organization", *TERMS, *CONFIRM, **reads)

    assert refused.returncode == 1
    assert "AccessDenied" in refused.stderr
    assert listed(pipeline, **reads)["in_force"] == []


def pause_organization(pipeline: Pipeline) -> Done:
    return operate(pipeline, "pause", "--organization", *TERMS, *CONFIRM, **session_of(pipeline, "OperatorActs"))


@pytest.mark.parametrize("sid", ["PauseAndResume", "RecordActions"])
def test_without_a_statement_of_the_acting_role_nothing_is_paused(pipeline: Pipeline, sid: str) -> None:
    iam, role = pipeline.client("iam"), pipeline.resource("OperatorActs")
    document = iam.get_role_policy(RoleName=role, PolicyName="act")["PolicyDocument"]
    less = document | {"Statement": [each for each in document["Statement"] if each["Sid"] != sid]}
    assert len(less["Statement"]) == len(document["Statement"]) - 1
    iam.put_role_policy(RoleName=role, PolicyName="act", PolicyDocument=json.dumps(less))
    try:
        refused = pause_organization(pipeline)
    finally:
        iam.put_role_policy(RoleName=role, PolicyName="act", PolicyDocument=json.dumps(document))

    assert refused.returncode == 1
    assert "AccessDenied" in refused.stderr
    assert listed(pipeline)["in_force"] == []
    assert pause_organization(pipeline).returncode == 0


@contextmanager
def without(pipeline: Pipeline, sid: str) -> Iterator[None]:
    """Take a statement from the policy of both operator roles until the block ends."""
    iam, arn = pipeline.client("iam"), pipeline.resource("OperatorsRead")

    def version() -> str:
        return str(iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"])

    def put(document: dict[str, Any]) -> None:
        """Make a document the default version, instead of the one before."""
        before = version()
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(document), SetAsDefault=True)
        iam.delete_policy_version(PolicyArn=arn, VersionId=before)

    document = iam.get_policy_version(PolicyArn=arn, VersionId=version())["PolicyVersion"]["Document"]
    less = document | {"Statement": [each for each in document["Statement"] if each["Sid"] != sid]}
    assert len(less["Statement"]) == len(document["Statement"]) - 1
    put(less)
    try:
        yield
    finally:
        put(document)


def test_without_reading_the_pauses_neither_pauses_nor_coverage_guess(pipeline: Pipeline) -> None:
    reads = session_of(pipeline, "OperatorReads")
    pipeline.account()

    with without(pipeline, "ReadPausesAndTheSweep"):
        refused = [operate(pipeline, command, **reads) for command in ("pauses", "coverage")]

    for each in refused:
        assert each.returncode == 1
        assert "DynamoDB.AccessDenied" in each.stderr


def status(pipeline: Pipeline, role: dict[str, str]) -> Check:
    cloudformation = pipeline.client("cloudformation")
    stack: Deployed = read_contents(cloudformation, read_stack(cloudformation, STACK))
    dynamodb, s3, kms = (pipeline.aws.client(each, **keys(role)) for each in ("dynamodb", "s3", "kms"))
    [check] = attempt("pauses", lambda: pauses(dynamodb, s3, kms, stack, "prod"))
    return check


def keys(role: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in role.items()}


def test_status_says_what_is_paused_and_flags_what_no_operator_paused(pipeline: Pipeline) -> None:
    reads, acts = session_of(pipeline, "OperatorReads"), session_of(pipeline, "OperatorActs")
    none = status(pipeline, reads)
    assert (none.found, none.state, none.always_shown) == ("none", "ok", False)

    account_id = pipeline.account()
    operate(pipeline, "pause", "--account", account_id, *TERMS, *CONFIRM, **acts)
    some = status(pipeline, reads)
    assert (some.state, some.always_shown) == ("ok", True)
    assert " pauses account acct-" in some.found
    assert some.found.endswith("by network team")
    assert account_id not in some.found

    operate(pipeline, "pause", "--organization", *TERMS, *CONFIRM, **acts)
    everything = status(pipeline, reads)
    assert "pauses the whole organization until" in everything.found
    assert (everything.state, everything.exit_status) == ("wrong", 0)
    assert "make resume" in everything.next_step

    plant(pipeline, "odd")
    unreadable = status(pipeline, reads)
    assert (unreadable.state, unreadable.exit_status) == ("wrong", 1)
    assert "row odd is not readable, so every account counts as paused" in unreadable.found
    assert operate(pipeline, "resume", "odd", *CONFIRM, **acts).returncode == 0

    with without(pipeline, "ReadEvidence"):
        unread = status(pipeline, reads)
    assert (unread.state, unread.exit_status) == ("unknown", 1)
    assert "OperatorReads" in unread.next_step


def test_a_pause_that_somebody_wrote_into_the_table_is_flagged(pipeline: Pipeline) -> None:
    reads, acts = session_of(pipeline, "OperatorReads"), session_of(pipeline, "OperatorActs")
    operate(pipeline, "pause", "--organization", *TERMS, *CONFIRM, **acts)
    [real] = listed(pipeline, **reads)["in_force"]
    plant(pipeline, "copied", real["id"])

    found = status(pipeline, reads)
    assert (found.state, found.exit_status) == ("wrong", 1)
    assert "pause copied: no audit record" in found.found
    verdicts = {each["id"]: each["record"] for each in listed(pipeline, **reads)["in_force"]}
    assert verdicts == {real["id"]: "valid", "copied": "missing"}


def plant(pipeline: Pipeline, name: str, original: str = "") -> None:
    """Write a row that no operator writes, or a copy of a pause under another id."""
    dynamodb, table = pipeline.client("dynamodb"), pipeline.resource("Reconciliation")
    key = {"name": {"S": "Pauses"}}
    value: Any = {"S": "what nobody wrote"}
    if original:
        copied = dynamodb.get_item(TableName=table, Key=key)["Item"][original]["M"]
        value = {"M": copied | {"id": {"S": name}}}
    dynamodb.update_item(
        TableName=table,
        Key=key,
        UpdateExpression="SET #n = :v",
        ExpressionAttributeNames={"#n": name},
        ExpressionAttributeValues={":v": value},
    )
