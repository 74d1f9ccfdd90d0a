"""`evidence` with the template's read-only role, against the embedded AWS: the real function has sealed the records."""

from __future__ import annotations

import json
import zipfile
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from schemas.pack import MemberState, Pack, ProofState
from tests.e2e.test_operate import operate, session_of
from tests.seals import Seals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Pipeline


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def made(pipeline: Pipeline, folder: Path, *options: str) -> tuple[Pack, dict[str, Any], int]:
    """Make the pack of today as OperatorReads; return it, what was printed, and the exit status."""
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    reads = session_of(pipeline, "OperatorReads")
    done = operate(pipeline, "evidence", str(folder), "--from", today, "--to", today, "--json", *options, **reads)
    assert done.stdout, done.stderr
    return Pack.model_validate_json((folder / "pack.json").read_bytes()), json.loads(done.stdout), done.returncode


@contextmanager
def replaced(seals: Seals, key: str) -> Iterator[None]:
    """Write another version of an object, which the bucket's policy denies to everybody, and remove it."""
    s3, bucket = seals.pipeline.client("s3"), seals.pipeline.at.evidence_bucket
    body = seals.archive.read(key).replace(b'"ENFORCED"', b'"IGNORED"')
    version = s3.put_object(Bucket=bucket, Key=key, Body=body)["VersionId"]
    yield
    s3.delete_object(Bucket=bucket, Key=key, VersionId=version, BypassGovernanceRetention=True)


def test_the_read_only_role_makes_a_pack_of_what_happened(pipeline: Pipeline, tmp_path: Path) -> None:
    seals = Seals(pipeline)
    invited, created = pipeline.account(), pipeline.account()
    join = pipeline.invited(invited)
    pipeline.handle(join)
    pipeline.handle(pipeline.created(created))
    seals.seal()

    pack, printed, status = made(pipeline, tmp_path / "pack", "--reveal")

    assert printed["reveals"]
    members = {each.account: each for each in pack.members}
    for account in (invited, created):
        assert (members[account].is_new, members[account].state) == (True, MemberState.COVERED)
        assert set(members[account].carried or ()) >= set(pipeline.at.policy_ids)
    assert {each.source: each.problem for each in pack.sources if "could not be" in (each.problem or "")} == {}
    assert {"ORGANIZATION_UNREAD", "NOT_VERIFIED", "NO_CHECKPOINT", "PROOFS_MISSING"}.isdisjoint(
        each.code for each in pack.unproven
    )
    # Other tests leave findings in the same bucket.
    assert pack.verification
    assert status == bool(pack.verification.findings)
    assert (tmp_path / "pack" / "proofs" / "checkpoint").read_bytes() == seals.notes()[-1]

    key = pipeline.outcome(join["detail"]["eventID"]).evidence_key or ""
    assert {each.key: each.proof for each in pack.objects}[key] is ProofState.PROVED
    with zipfile.ZipFile(tmp_path / "pack" / "proofs" / "proofs.zip") as archive:
        (tmp_path / "proof").write_bytes(archive.read(f"{key}.tlog-proof"))
    (tmp_path / "object").write_bytes(seals.archive.read(key))
    offline = ("--proof", str(tmp_path / "proof"), "--key", str(tmp_path / "pack" / "proofs" / "log.key"))
    checked = operate(
        pipeline, "verify", *offline, "--object", str(tmp_path / "object"), AWS_ENDPOINT_URL="http://[::1]:9"
    )
    assert checked.returncode == 0, checked.stderr

    with replaced(seals, key):
        pack, printed, status = made(pipeline, tmp_path / "tampered")
        assert status == 1
        assert printed["findings"] >= 1
        assert pack.verification
        assert key in {each.what for each in pack.verification.findings}
        assert {each.key: each.proof for each in pack.objects}[key] is ProofState.DIFFERS
        assert "not what was sealed" in page(tmp_path / "tampered").partition("accounts that joined")[0]
        assert key in page(tmp_path / "tampered").partition('id="findings"')[2]


def page(folder: Path) -> str:
    return (folder / "report.html").read_text()
