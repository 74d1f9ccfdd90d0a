"""The sealed log in the embedded AWS: the real function, under its role, with a key that never leaves KMS."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from infra.deploy.queues import messages_in
from infra.local.installation import configure
from infra.local.waiting import until
from schemas.sealed import SealState
from tests.e2e.test_least_privilege import replace_process
from tests.sealing import assert_extends
from tests.seals import Seals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Pipeline


@pytest.fixture
def seals(pipeline: Pipeline) -> Seals:
    return Seals(pipeline)


def test_evidence_of_a_join_is_announced_and_sealed(seals: Seals) -> None:
    pipeline, sqs = seals.pipeline, seals.pipeline.client("sqs")
    queue = pipeline.resource("Announcements")
    sqs.purge_queue(QueueUrl=queue)
    join = pipeline.invited(pipeline.account())
    pipeline.handle(join)
    key = pipeline.outcome(join["detail"]["eventID"]).evidence_key
    assert key
    announced: list[str] = []

    def is_announced() -> bool:
        received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=0)
        announced.extend(json.loads(each["Body"])["detail"]["object"]["key"] for each in received.get("Messages", []))
        return key in announced

    until(is_announced, "the evidence to be announced")
    seals.seal()

    leaf = seals.objects()[key]
    stored = pipeline.client("s3").head_object(Bucket=pipeline.at.evidence_bucket, Key=key, VersionId=leaf.version_id)
    assert leaf.sha256 == sha256(seals.archive.read(key)).hexdigest()
    assert (leaf.size, leaf.kind, leaf.lock) == (stored["ContentLength"], "evidence", "GOVERNANCE")
    assert leaf.retain_until == stored["ObjectLockRetainUntilDate"]
    assert messages_in(sqs, queue) == 0
    # The log's own objects are not announced.
    assert all(each.startswith("evidence/") for each in announced)


def test_everything_in_the_bucket_is_sealed_once(seals: Seals) -> None:
    seals.seal()

    assert seals.objects().keys() == {*seals.in_the_bucket()}


def test_an_idle_log_grows_and_each_checkpoint_extends_the_one_before(seals: Seals) -> None:
    seals.seal()
    seals.seal()

    checkpoints = seals.checkpoints()
    older, newer = checkpoints[-2:]
    assert newer.size == older.size + 1
    assert len(seals.batches()) == len(checkpoints)
    assert_extends(seals.archive.read, older, newer)


def test_the_log_is_locked_like_evidence(seals: Seals) -> None:
    seals.seal()
    s3, bucket = seals.pipeline.client("s3"), seals.pipeline.at.evidence_bucket

    for key in seals.archive.under("log/"):
        assert s3.head_object(Bucket=bucket, Key=key)["ObjectLockMode"] == "GOVERNANCE"


def test_a_log_that_is_not_what_was_signed_is_not_continued(seals: Seals) -> None:
    seals.seal()
    s3, bucket = seals.pipeline.client("s3"), seals.pipeline.at.evidence_bucket
    checkpoints = seals.checkpoints()
    signed, size = len(checkpoints), checkpoints[-1].size
    [tile] = [key for key in seals.archive.under("log/tile/0/") if key.endswith(f".p/{size % 256}")]
    before = seals.archive.read(tile)
    s3.put_object(Bucket=bucket, Key=tile, Body=bytes(len(before)))
    try:
        answer = seals.invoke()

        assert "LOG_CHANGED" in answer["errorMessage"]
        assert len(seals.notes()) == signed
    finally:
        s3.put_object(Bucket=bucket, Key=tile, Body=before)
    seals.seal()


@pytest.fixture
def copies(seals: Seals) -> Iterator[str]:
    """Let checkpoints be copied to a bucket, which has no policy because it is in the same account."""
    pipeline, bucket = seals.pipeline, "copies-of-checkpoints"
    pipeline.client("s3").create_bucket(Bucket=bucket)
    configure(pipeline.aws, {"CheckpointBucket": bucket})
    replace_process(pipeline, "Sealer")
    # Another test may have copied checkpoints to a topic.
    seals.index.save((seals.index.state() or SealState()).model_copy(update={"copied": 0}))
    yield bucket
    configure(pipeline.aws, {"CheckpointBucket": ""})


def test_all_checkpoints_are_copied(seals: Seals, copies: str) -> None:
    seals.seal()

    s3, folder = seals.pipeline.client("s3"), f"joinguard/{seals.pipeline.at.organization_id}/log/checkpoints/"
    listed = s3.list_objects_v2(Bucket=copies, Prefix=folder)["Contents"]
    found = [s3.get_object(Bucket=copies, Key=each["Key"])["Body"].read() for each in listed]
    assert found == seals.notes()
