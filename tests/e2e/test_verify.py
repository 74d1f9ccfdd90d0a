"""`verify` and `proof` against the embedded AWS: the real function has sealed what the workers wrote."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from schemas.keys import checkpoint_key
from tests.e2e.test_operate import operate, session_of
from tests.seals import Seals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Pipeline


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def seals(pipeline: Pipeline) -> Seals:
    return Seals(pipeline)


def joined(seals: Seals) -> tuple[str, str]:
    """Let an account join, and seal its evidence; return the account and the key."""
    pipeline = seals.pipeline
    join = pipeline.invited(account_id := pipeline.account())
    pipeline.handle(join)
    seals.seal()
    return account_id, pipeline.outcome(join["detail"]["eventID"]).evidence_key or ""


def verify(seals: Seals, *options: str) -> dict[str, Any]:
    done = operate(seals.pipeline, "verify", "--json", *options, **session_of(seals.pipeline, "OperatorReads"))
    found: dict[str, Any] = json.loads(done.stdout or "null")
    assert found, done.stderr
    assert done.returncode == bool(found["findings"])
    return found


def named(found: dict[str, Any], *others: str) -> set[tuple[str, str]]:
    """Return the findings about objects or records; those of other tests, in the same bucket, are left out."""
    return {(each["kind"], each["what"]) for each in found["findings"] if each["what"] in others}


def test_what_the_workers_wrote_and_the_function_sealed_is_valid(seals: Seals) -> None:
    account_id, key = joined(seals)

    found = verify(seals)

    assert named(found, key) == set()
    assert found["valid"] >= 1
    assert found["checkpoints"] == len(seals.notes())
    assert found["keys"] == [str(seals.key)]
    assert account_id not in json.dumps(found)
    # Nothing was deployed by `make deploy` here, and events of other tests may be tried again.
    assert set(found["left_out"]) <= {"configurations", "outcomes that are tried again"}, "the role may read everything"


@contextmanager
def marked(seals: Seals, key: str) -> Iterator[None]:
    """Set a delete marker, which the bucket's policy denies to everybody, and remove it."""
    s3, bucket = seals.pipeline.client("s3"), seals.pipeline.at.evidence_bucket
    marker = s3.delete_object(Bucket=bucket, Key=key)["VersionId"]
    yield
    s3.delete_object(Bucket=bucket, Key=key, VersionId=marker)


def test_a_delete_marker_on_evidence_and_on_a_checkpoint_is_found(seals: Seals) -> None:
    _, key = joined(seals)
    last = checkpoint_key(len(seals.notes()) - 1)

    with marked(seals, key), marked(seals, last):
        assert ("missing", key) in named(verify(seals), key)
        assert ("missing", key) in named(verify(seals, "--quick"), key)
        assert ("missing", last) in named(verify(seals, "--quick"), last)
    assert named(verify(seals), key, last) == set()


def test_a_policy_that_somebody_detached_without_an_event_is_found(seals: Seals) -> None:
    pipeline = seals.pipeline
    account_id, _ = joined(seals)
    pipeline.client("organizations").detach_policy(PolicyId=pipeline.at.policy_ids[0], TargetId=account_id)

    found = verify(seals)

    assert [each for each in found["findings"] if pipeline.at.policy_ids[0] in each["meaning"]]


def test_a_row_that_somebody_closes_by_hand_is_found(seals: Seals) -> None:
    pipeline = seals.pipeline
    join = pipeline.invited(account_id := pipeline.account())
    pipeline.handle(join)
    seals.seal()
    event_id = join["detail"]["eventID"]
    assert named(verify(seals), event_id) == set()

    pipeline.client("dynamodb").update_item(
        TableName=pipeline.at.outcomes_table,
        Key={"account_id": {"S": account_id}, "event_id": {"S": event_id}},
        UpdateExpression="SET #status = :closed",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":closed": {"S": "CLOSED"}},
    )

    assert named(verify(seals), event_id) == {("disagrees", event_id)}


def test_a_proof_is_verified_without_aws(seals: Seals, tmp_path: Path) -> None:
    _, key = joined(seals)
    proof, keys, body = (tmp_path / name for name in ("object.tlog-proof", "key.txt", "object.json"))

    reads = session_of(seals.pipeline, "OperatorReads")
    made = operate(seals.pipeline, "proof", key, "--out", str(proof), **reads)

    assert made.returncode == 0, made.stderr
    keys.write_text(f"{seals.key}\n")
    body.write_bytes(seals.archive.read(key))
    checked = operate(seals.pipeline, "verify", "--proof", str(proof), "--key", str(keys), "--object", str(body))
    assert checked.returncode == 0, checked.stderr


def test_a_download_is_verified_without_aws(seals: Seals, tmp_path: Path) -> None:
    _, key = joined(seals)
    s3, bucket = seals.pipeline.client("s3"), seals.pipeline.at.evidence_bucket
    for prefix in ("log/", "evidence/", "acts/", "configuration/", "sweeps/"):
        for each in seals.archive.under(prefix):
            path = tmp_path / "bucket" / each
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, each, str(path))
    (tmp_path / "key.txt").write_text(f"{seals.key}\n")
    offline = ("--offline", str(tmp_path / "bucket"), "--key", str(tmp_path / "key.txt"))

    found = verify(seals, *offline)
    assert named(found, key) == set()
    assert found["size"] == seals.checkpoints()[-1].size

    (tmp_path / "bucket" / key).write_bytes(b"{}")
    assert ("changed", key) in named(verify(seals, *offline), key)
