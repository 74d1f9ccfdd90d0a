"""`export` under the role of readers: whatever the workers, the sweep and operators left becomes valid events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from schemas.sealed import sealed_kind
from tests.e2e.test_operate import fail, operate, session_of
from tests.sweeps import Sweeps
from tests.unit.test_ocsf import schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Pipeline


@pytest.fixture
def sweeps(pipeline: Pipeline) -> Iterator[Sweeps]:
    made = Sweeps(pipeline)
    made.forget()
    yield made
    made.forget()


def keys(pipeline: Pipeline) -> tuple[set[str], bool]:
    """Return the keys of all records in the bucket, and whether another test put other objects there."""
    s3, bucket = pipeline.client("s3"), pipeline.at.evidence_bucket
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    listed = {each["Key"] for page in pages for each in page.get("Contents", []) if sealed_kind(each["Key"])}
    planted = {
        each for each in listed if b"schema_version" not in s3.get_object(Bucket=bucket, Key=each)["Body"].read()
    }
    return listed - planted, bool(planted)


def test_a_reader_exports_every_record_and_nothing_that_names_an_account(
    pipeline: Pipeline, sweeps: Sweeps, tmp_path: Path
) -> None:
    account_id, event = fail(pipeline)
    reason = ("--confirm", "--reason", "not needed, INC-123")
    acts = session_of(pipeline, "OperatorActs")
    assert operate(pipeline, "drop", "--id", event["detail"]["eventID"], *reason, **acts).returncode == 0
    sweeps.run()
    file = tmp_path / "events.ndjson"

    reads = session_of(pipeline, "OperatorReads")
    done = operate(pipeline, "export", "--from", "2026-01-01", str(file), "--json", **reads)

    records, has_others = keys(pipeline)
    assert done.returncode == int(has_others), done.stderr
    exported = [json.loads(line) for line in file.read_text().splitlines()]
    for each in exported:
        schema_of(each["class_uid"]).validate(each)
    assert {each["metadata"]["original_event_uid"] for each in exported} == records
    assert {each["metadata"]["log_name"] for each in exported} == {"acts", "evidence", "sweeps"}
    assert json.loads(done.stdout)["events"] == len({each["metadata"]["uid"] for each in exported})
    assert account_id not in file.read_text()
    assert "arn:" not in file.read_text()
