"""The queries of infra/queries on the objects that real joins leave, with the tables that the template creates.

The embedded AWS has the catalog and no engine like Athena's, so DuckDB runs the queries, which sqlglot translates.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from infra.local.events import policy_detached
from schemas.outcome import OutcomeStatus
from tests.e2e.test_operate import fail, operate, session_of
from tests.tables import database, rows

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from infra.local.events import Event
    from tests.e2e.conftest import Pipeline

REASON = ("--confirm", "--reason", "the cause is fixed, INC-123")


def event_id(event: Event) -> str:
    return str(event["detail"]["eventID"])


def tables(pipeline: Pipeline) -> dict[str, dict[str, str]]:
    """Return the columns of each table in the catalog with their types."""
    found = pipeline.client("glue").get_tables(DatabaseName=pipeline.resource("RecordsDatabase"))["TableList"]
    return {
        table["Name"]: {each["Name"]: each["Type"] for each in table["StorageDescriptor"]["Columns"]} for table in found
    }


def download(pipeline: Pipeline, folder: Path) -> None:
    """Download the records; other tests put objects that are none into the bucket."""
    s3, bucket = pipeline.client("s3"), pipeline.at.evidence_bucket
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", []):
            path, body = folder / each["Key"], s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
            if body.startswith(b"{"):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(body)


@pytest.fixture
def days() -> tuple[str, str]:
    # A run can last until the next day, and an event is some seconds older than it.
    return "2026/01/01", f"{datetime.now(UTC).year + 1}/01/01"


def pseudonym(pipeline: Pipeline, event: Event) -> str:
    [evidence, *_] = pipeline.watch.evidence(event_id(event))
    assert evidence.account is not None
    return evidence.account.value


def queried(pipeline: Pipeline, folder: Path) -> duckdb.DuckDBPyConnection:
    download(pipeline, folder)
    return database(folder, tables(pipeline))


def of_accounts(found: list[dict[str, Any]], *accounts: str) -> list[dict[str, Any]]:
    """Return the first row of each account; other tests share the bucket."""
    return [next(row for row in found if row["account"] == each) for each in accounts]


def test_an_auditor_sees_what_each_account_carried_and_since_when(
    pipeline: Pipeline, tmp_path: Path, days: tuple[str, str]
) -> None:
    policies = list(pipeline.at.policy_ids)
    account_id = pipeline.account()
    first, second = pipeline.invited(account_id), pipeline.created(account_id)
    pipeline.handle(first)
    pipeline.handle(second)
    _, failed = fail(pipeline)
    _, redriven = fail(pipeline)
    done = operate(pipeline, "redrive", "--id", event_id(redriven), *REASON, **session_of(pipeline, "OperatorActs"))
    assert done.returncode == 0, done.stderr
    pipeline.watch.until_quiet()

    found = rows(queried(pipeline, tmp_path), "joins", *days)

    names = [pseudonym(pipeline, each) for each in (first, failed, redriven)]
    enforced, lacking, later = of_accounts(found, *names)
    for row, event in ((enforced, first), (later, redriven)):
        outcome = pipeline.outcome(event_id(event))
        assert outcome.status is OutcomeStatus.ENFORCED
        assert (row["status"], row["required"], row["carried"], row["missing"]) == ("ENFORCED", policies, policies, [])
        assert row["joined_at"] == outcome.event_time
        assert row["seconds"] == pytest.approx((row["carried_at"] - row["joined_at"]).total_seconds(), abs=0.01)
    assert pipeline.outcome(event_id(failed)).status is OutcomeStatus.FAILED
    assert (lacking["status"], lacking["carried"], lacking["missing"]) == ("FAILED", policies[1:], policies[:1])
    assert (lacking["carried_at"], lacking["seconds"]) == (None, None)
    assert len([row for row in found if row["account"] == names[0]]) == 1, "two events are one join"
    assert found.index(lacking) < found.index(enforced), "those that lack something come first"
    assert account_id not in str(found)


def test_an_auditor_sees_who_did_what_by_hand_and_what_became_of_it(
    pipeline: Pipeline, tmp_path: Path, days: tuple[str, str]
) -> None:
    acts = session_of(pipeline, "OperatorActs")
    _, redriven = fail(pipeline)
    _, dropped = fail(pipeline)
    for command, event in (("redrive", redriven), ("drop", dropped)):
        done = operate(pipeline, command, "--id", event_id(event), *REASON, **acts)
        assert done.returncode == 0, done.stderr
    pipeline.watch.until_quiet()

    found = rows(queried(pipeline, tmp_path), "actions", *days, days[1])

    [redrive] = [row for row in found if row["event_id"] == event_id(redriven)]
    [drop] = [row for row in found if row["event_id"] == event_id(dropped)]
    for row, event, result, status in (
        (redrive, redriven, "deleted, enforced", "ENFORCED"),
        (drop, dropped, "dropped", "FAILED"),
    ):
        assert (row["result"], row["status"], row["ended"]) == (result, status, "completed")
        assert (row["account"], row["event"]) == (pseudonym(pipeline, event), "AcceptHandshake")
        assert (row["reason"], row["error_code"]) == (REASON[2], "PolicyTypeNotEnabledException")
        assert row["begun_at"] <= row["ended_at"]
    assert redrive["who"] == drop["who"]
    assert redrive["who"].startswith("name-")
    assert redrive["principal"].startswith("prin-")


def test_an_auditor_sees_what_came_off_who_called_it_and_when_it_was_put_back(
    pipeline: Pipeline, tmp_path: Path, days: tuple[str, str]
) -> None:
    account_id, policy_id = pipeline.account(), pipeline.at.policy_ids[0]
    pipeline.handle(pipeline.invited(account_id))
    pipeline.client("organizations").detach_policy(PolicyId=policy_id, TargetId=account_id)
    detached = policy_detached(account_id, pipeline.at.management_account_id, policy_id)
    pipeline.handle(detached)
    assert pipeline.watch.attached(account_id) == set(pipeline.at.policy_ids)

    found = rows(queried(pipeline, tmp_path), "removals", *days)

    [row] = of_accounts(found, pseudonym(pipeline, detached))
    [evidence] = pipeline.watch.evidence(event_id(detached))
    assert evidence.called is not None
    assert evidence.called.principal is not None
    assert (row["policy"], row["cause"], row["who"]) == (policy_id, "DetachPolicy", evidence.called.principal.value)
    assert (row["off_at"], row["put_back_at"]) == (evidence.event_time, evidence.recorded_at)
    assert row["seconds_without"] >= 0
