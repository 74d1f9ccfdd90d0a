"""What an evidence pack takes along of the sealed log: the verification, the checkpoint that it is about, proofs."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pypdf import PdfReader

from handlers.core.errors import Cause, RetryableError, fault
from handlers.core.evidence.checkpoint import VerifierKey
from handlers.operate.context import InstalledLog
from schemas.keys import LOG
from schemas.pack import NoProof, Pack, ProofState
from tests.histories import History, accounts, at, period
from tests.operator_cli import operator_cli
from tests.sealed_histories import SealedHistory
from tests.sealing import LOCKED, ORIGIN, Stored
from tests.verifying import FakeSealedBucket

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def sealed() -> SealedHistory:
    """Return a history with joins, a failure, an action, sweeps and a configuration, in several tiles of the log."""
    history = History()
    history.deploy(at(-20))
    for number, each in enumerate(accounts(300)):
        history.tool.reader.member(each)
        history.attempt(each, at(1 + number % 80))
    history.act(at(30), events=[history.fail("500000000000", at(20))])
    history.sweep(at(40), members=300)
    for policy in history.required:
        history.tool.reader.policy(policy, policy)
        history.tool.reader.attach(policy, *accounts(300))
    return SealedHistory(history)


def evidence(sealed: SealedHistory) -> str:
    return next(key for key in sealed.history.objects if key.startswith("evidence/2026/08"))


def make(sealed: SealedHistory, folder: Path, *options: str) -> Result:
    result = sealed.history.tool.run("evidence", str(folder), *period(), *options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def pack_in(folder: Path) -> Pack:
    return Pack.model_validate_json((folder / "pack.json").read_bytes())


def first_screen(folder: Path) -> str:
    """Return the answers of the page."""
    return (folder / "report.html").read_text().partition('<ul class="answers">')[2].partition("</ul>")[0]


def figure(folder: Path) -> tuple[str, str, str]:
    """Return what the figure "Verification" means, its value and its note."""
    found = re.search(
        '<div class="([a-z]+)"><dt>Verification</dt><dd>([^<]*)<span>([^<]*)', (folder / "report.html").read_text()
    )
    assert found
    tone, value, note = found.groups()
    return tone, value, note


def is_not_called_verified(folder: Path) -> None:
    tone, value, _ = figure(folder)
    assert (tone in {"look", "bad"}, value != "verified") == (True, True)
    good = re.findall('<li class="good">.*</li>', first_screen(folder))
    assert [each for each in good if "verified" in each] == []


def not_proven(folder: Path) -> dict[str, str]:
    return {each.code: each.text for each in pack_in(folder).unproven}


# ---------------------------------------------------------------- the verification


def test_a_pack_verifies_the_period_as_verify_does(sealed: SealedHistory, tmp_path: Path) -> None:
    printed = json.loads(sealed.history.tool.run("verify", *period(), "--json").stdout)

    result = make(sealed, tmp_path / "q3")

    assert result.exit_code == 0, result.output
    found = pack_in(tmp_path / "q3").verification
    assert found
    assert found.model_dump(mode="json", exclude_none=True) == printed
    ended = f"{found.ended_at:%Y-%m-%d %H:%M:%S} UTC"
    said = f"The record was verified: {found.valid} objects as sealed, and none missing."
    assert f"{said} The verification ended on {ended}." in first_screen(tmp_path / "q3")
    assert figure(tmp_path / "q3") == ("good", "verified", f"{found.valid} objects as sealed; ended {ended}")
    assert ended in PdfReader(tmp_path / "q3" / "report.pdf").pages[0].extract_text().replace("\n", " ")
    assert {"NOT_VERIFIED", "VERIFIED_IN_PART", "NO_CHECKPOINT", "OBJECTS_NOT_SEALED"}.isdisjoint(
        not_proven(tmp_path / "q3")
    )


def test_findings_come_first_and_are_exit_status_1(sealed: SealedHistory, tmp_path: Path) -> None:
    key = evidence(sealed)
    sealed.change(key, sealed.history.objects[key] + b" ")

    result = make(sealed, tmp_path / "q3")

    assert result.exit_code == 1
    assert re.search(r"has \d findings?: 1 changed", result.stderr)
    pack, page = pack_in(tmp_path / "q3"), (tmp_path / "q3" / "report.html").read_text()
    assert {each.key: each.proof for each in pack.objects if each.proof != ProofState.PROVED} == {
        key: ProofState.DIFFERS
    }
    differ, findings, answer, *_ = re.findall("<li[^>]*>.*</li>", first_screen(tmp_path / "q3"))
    assert "1 object of which the pack was made is not what was sealed" in differ
    assert re.search('has . findings?: 1 changed.*<a href="#integrity">', findings)
    assert "accounts that joined" in answer
    assert key in page.partition('id="findings"')[2]
    assert "1 changed" in PdfReader(tmp_path / "q3" / "report.pdf").pages[0].extract_text().replace("\n", " ")


def test_a_quick_verification_is_a_choice_and_said(sealed: SealedHistory, tmp_path: Path) -> None:
    result = make(sealed, tmp_path / "q3", "--quick")

    assert result.exit_code == 0
    assert "VERIFIED_QUICKLY" in not_proven(tmp_path / "q3")
    assert "no bytes were compared" in first_screen(tmp_path / "q3")
    is_not_called_verified(tmp_path / "q3")
    assert not [key for key in sealed.sealed_bucket.fetched if not key.startswith(LOG)]


def test_without_a_verification_the_pack_says_so_and_has_proofs(sealed: SealedHistory, tmp_path: Path) -> None:
    result = make(sealed, tmp_path / "q3", "--no-verification")

    assert result.exit_code == 0
    assert pack_in(tmp_path / "q3").verification is None
    assert "was not verified" in first_screen(tmp_path / "q3")
    is_not_called_verified(tmp_path / "q3")
    assert "joinguard verify --from 2026-07-01" in first_screen(tmp_path / "q3")
    assert "NOT_VERIFIED" in not_proven(tmp_path / "q3")
    assert (tmp_path / "q3" / "proofs" / "checkpoint").read_bytes() == sealed.last_note


def test_one_way_to_verify_is_chosen(sealed: SealedHistory, tmp_path: Path) -> None:
    result = make(sealed, tmp_path / "q3", "--quick", "--no-verification")

    assert (result.exit_code, "exclude each other. Keep one" in result.output) == (2, True)


def test_findings_name_no_account(sealed: SealedHistory, tmp_path: Path) -> None:
    key = "evidence/2026/08/01/300000000001/0001.json"
    sealed.bucket.versions[key] = [Stored("another", b"?", at(32), sealed.clock.now() + LOCKED)]

    make(sealed, tmp_path / "q3")

    pack = pack_in(tmp_path / "q3")
    assert pack.verification
    assert [each.what for each in pack.verification.findings if "[account]" in each.what]
    assert "300000000001" not in pack.model_dump_json()


def test_a_key_of_somebody_else_beside_evidence_names_no_account(sealed: SealedHistory, tmp_path: Path) -> None:
    key = f"{evidence(sealed).rpartition('/')[0]}/300000000001"
    sealed.history.objects[key] = b"?"

    make(sealed, tmp_path / "q3")

    pack = pack_in(tmp_path / "q3")
    assert [each.evidence_key for each in pack.disagreements if "[account]" in each.evidence_key]
    assert "300000000001" not in pack.model_dump_json()


@pytest.mark.parametrize(
    "key",
    [
        "evidence/2026/08/01/b6c5c64e-9d0f-4f0e-9c1d-0d6f5a3b7e21/acct-0123456789012345678901234567890a/0001.json",
        "evidence/2026/08/01/b6c5c64e-9d0f-4f0e-9c1d-0d6f5a3b7e21/acct-a0b1c2d3e4f5a6b7c8d9e0f123456789/0001.json",
    ],
    ids=["twelve digits of a pseudonym", "twelve digits of a pseudonym and a number"],
)
def test_the_key_of_a_finding_is_whole(sealed: SealedHistory, tmp_path: Path, key: str) -> None:
    """Digests can have twelve digits in a row, and nobody finds an object whose key lacks them."""
    sealed.bucket.versions[key] = [Stored("another", b"?", at(32), sealed.clock.now() + LOCKED)]

    make(sealed, tmp_path / "q3")

    found = pack_in(tmp_path / "q3").verification
    assert found
    assert key in {each.what for each in found.findings}
    assert key in (tmp_path / "q3" / "report.html").read_text().partition('id="findings"')[2]


def test_a_period_without_a_sealed_object_is_not_called_verified(sealed: SealedHistory, tmp_path: Path) -> None:
    days = ("--from", "2026-01-01", "--to", "2026-01-31")

    result = sealed.history.tool.run("evidence", str(tmp_path / "empty"), *days)

    assert result.exit_code == 0, result.output
    assert "Nothing of the record was verified" in first_screen(tmp_path / "empty")
    is_not_called_verified(tmp_path / "empty")


def test_a_pack_of_no_objects_has_no_proofs_and_says_so(sealed: SealedHistory, tmp_path: Path) -> None:
    sealed.history.objects.clear()

    make(sealed, tmp_path / "empty", "--no-verification")

    page = (tmp_path / "empty" / "report.html").read_text()
    assert pack_in(tmp_path / "empty").objects == ()
    assert "The pack was made of no objects, so proofs/proofs.zip is empty." in page
    assert "For each" not in page
    with zipfile.ZipFile(tmp_path / "empty" / "proofs" / "proofs.zip") as archive:
        assert archive.namelist() == []


def test_a_verification_that_left_out_a_part_is_one_in_part(sealed: SealedHistory, tmp_path: Path) -> None:
    sealed.sealed_bucket.archived = {evidence(sealed)}

    make(sealed, tmp_path / "q3")

    assert "The record was verified in part: " in first_screen(tmp_path / "q3")
    assert "left out: bytes of archived objects." in first_screen(tmp_path / "q3")
    is_not_called_verified(tmp_path / "q3")


def test_what_the_organization_did_not_say_leaves_the_record_verified(sealed: SealedHistory, tmp_path: Path) -> None:
    sealed.history.tool.reader.refused["accounts"] = "AccessDeniedException"

    make(sealed, tmp_path / "q3")

    verified = pack_in(tmp_path / "q3").verification
    assert verified
    assert verified.left_out.keys() == {"attached"}
    assert figure(tmp_path / "q3")[:2] == ("good", "verified")


def test_evidence_that_is_not_what_was_sealed_shows_no_guardrails(sealed: SealedHistory, tmp_path: Path) -> None:
    key = evidence(sealed)
    body = sealed.history.objects[key]
    row = next(row for [(_, row)] in sealed.history.tool.queues.rows.values() if row.evidence_key == key)
    # Somebody who may write to both replaces the object after the verification, and makes the row agree.
    changed = body + b" "
    sealed.history.objects[key] = changed
    sealed.history.tool.queues.rows[row.account_id, row.event_id] = [
        (row.updated_at, row.model_copy(update={"evidence_sha256": sha256(changed).hexdigest()}))
    ]

    make(sealed, tmp_path / "q3", "--quick")

    pack = pack_in(tmp_path / "q3")
    assert pack.disagreements == ()
    [member] = [each for each in pack.members if each.account == sealed.history.pseudonym(row.account_id).value]
    assert (member.guarded_at, member.no_proof) == (None, NoProof.EVIDENCE_WRONG)
    is_not_called_verified(tmp_path / "q3")
    assert figure(tmp_path / "q3")[:2] == ("bad", "altered")


def test_a_sweep_that_is_not_what_was_sealed_covers_nobody(sealed: SealedHistory, tmp_path: Path) -> None:
    key = next(each for each in sealed.history.objects if each.startswith("sweeps/"))
    make(sealed, tmp_path / "before", "--no-verification")
    sealed.history.objects[key] += b" "

    make(sealed, tmp_path / "q3", "--no-verification")

    before, after = pack_in(tmp_path / "before").summary, pack_in(tmp_path / "q3").summary
    assert (before.covered_at_end, after.covered_at_end, after.gaps_at_end) == (301, 300, 1), "one join failed"


def without_checkpoints(sealed: SealedHistory) -> str:
    for key in [each for each in sealed.bucket.versions if each.startswith("log/checkpoints/")]:
        del sealed.bucket.versions[key]
    return "NOT_SIGNED"


def rewritten(sealed: SealedHistory) -> str:
    for key in ("log/tile/entries/000", "log/batches/000/000/000"):
        sealed.bucket.versions[key][0].body = b"?"
    return "LOG_CHANGED"


def denied(sealed: SealedHistory) -> str:
    sealed.history.tool.log = InstalledLog(
        ORIGIN, sealed.sealed_bucket, raises("KMS.AccessDenied", Cause.ACCESS_DENIED)
    )
    return "KMS.AccessDenied"


def earlier_version(sealed: SealedHistory) -> str:
    sealed.history.tool.log = None
    return "has no sealed log"


def raises(code: str, cause: Cause) -> Any:
    def public_key() -> bytes:
        raise RetryableError(fault(code, "no"), cause=cause)

    return public_key


@pytest.mark.parametrize("broken", [without_checkpoints, rewritten, denied, earlier_version])
def test_why_the_log_could_not_be_verified_is_said(sealed: SealedHistory, tmp_path: Path, broken: Any) -> None:
    reason = broken(sealed)

    result = make(sealed, tmp_path / "q3")

    assert result.exit_code == 1
    assert reason in not_proven(tmp_path / "q3")["NOT_VERIFIED"]
    assert reason in result.stderr.replace("\n", " ")
    is_not_called_verified(tmp_path / "q3")
    said, *_ = re.findall("<li[^>]*>.*</li>", first_screen(tmp_path / "q3"))
    assert "could not be verified: " in said
    assert reason in said
    assert not (tmp_path / "q3" / "proofs").exists()


def test_credentials_that_are_not_valid_end_the_command(sealed: SealedHistory, tmp_path: Path) -> None:
    expired = raises("KMS.ExpiredToken", Cause.CREDENTIALS_EXPIRED)
    sealed.history.tool.log = InstalledLog(ORIGIN, sealed.sealed_bucket, expired)

    result = sealed.history.tool.run("evidence", str(tmp_path / "q3"), *period())

    assert isinstance(result.exception, RetryableError)
    assert not (tmp_path / "q3").exists()


def test_the_organization_is_read_once(sealed: SealedHistory, tmp_path: Path) -> None:
    calls = sealed.history.tool.reader.calls

    make(sealed, tmp_path / "once", "--no-verification")
    once = calls.copy()
    make(sealed, tmp_path / "verified")

    assert once
    assert calls == Counter({name: 2 * number for name, number in once.items()})


# ---------------------------------------------------------------- proofs


def test_each_object_has_a_proof_that_verify_accepts_without_aws(sealed: SealedHistory, tmp_path: Path) -> None:
    make(sealed, tmp_path / "q3")
    proofs, alone = tmp_path / "q3" / "proofs", operator_cli()
    alone.is_missing = True
    with zipfile.ZipFile(proofs / "proofs.zip") as archive:
        archive.extractall(tmp_path / "split")

    with (tmp_path / "q3" / "csv" / "objects.csv").open(newline="") as file:
        listed = {row["key"]: row["proof"] for row in csv.DictReader(file)}
    assert set(listed.values()) == {"PROVED"}
    assert {key.partition("/")[0] for key in listed} == {"evidence", "acts", "sweeps", "configuration"}
    assert len(listed) == len(sealed.history.objects)
    for key in sorted(listed)[::20]:
        (tmp_path / "object").write_bytes(sealed.history.objects[key])
        proof = str(tmp_path / "split" / f"{key}.tlog-proof")
        checked = alone.run(
            "verify", "--proof", proof, "--key", str(proofs / "log.key"), "--object", str(tmp_path / "object"), "--json"
        )
        found = json.loads(checked.stdout)
        assert (checked.exit_code, found["valid"], found["leaf"]["key"]) == (0, True, key)


def test_the_key_is_the_log_s_and_the_pack_says_to_compare_it(sealed: SealedHistory, tmp_path: Path) -> None:
    make(sealed, tmp_path / "q3")

    *says, line = (tmp_path / "q3" / "proofs" / "log.key").read_text().splitlines()
    assert VerifierKey.parse(line) == sealed.sealer.verifier_key
    assert "noted at the first deployment" in " ".join(says).replace("# ", "")
    page = (tmp_path / "q3" / "report.html").read_text()
    assert "noted at the first deployment" in page
    assert line in page


def test_a_key_of_somebody_else_refuses_the_proofs_of_a_pack(sealed: SealedHistory, tmp_path: Path) -> None:
    make(sealed, tmp_path / "q3")
    with zipfile.ZipFile(tmp_path / "q3" / "proofs" / "proofs.zip") as archive:
        (tmp_path / "proof").write_bytes(archive.read(archive.namelist()[0]))
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    (tmp_path / "noted.key").write_text(str(VerifierKey(ORIGIN, other)))

    result = operator_cli().run("verify", "--proof", str(tmp_path / "proof"), "--key", str(tmp_path / "noted.key"))

    assert "no signature of this checkpoint is by the log's key" in str(result.exception)


class CountingBucket(FakeSealedBucket):
    """A bucket that counts how often each tile is read by itself."""

    reads: Counter[str]

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        self.reads[key] += 1
        return super().read(key, limit=limit)


def test_each_tile_is_read_once(sealed: SealedHistory, tmp_path: Path) -> None:
    bucket = CountingBucket(sealed.bucket)
    bucket.reads = Counter()
    sealed.history.tool.log = InstalledLog(ORIGIN, bucket, sealed.signer.public_key)

    make(sealed, tmp_path / "q3", "--no-verification")

    tiles = {key: number for key, number in bucket.reads.items() if key.startswith(f"{LOG}tile/")}
    assert len(tiles) >= 2
    assert set(tiles.values()) == {1}


def test_a_tile_that_was_deleted_takes_proofs_and_not_the_pack(sealed: SealedHistory, tmp_path: Path) -> None:
    bucket = CountingBucket(sealed.bucket)
    bucket.reads = Counter()
    sealed.history.tool.log = InstalledLog(ORIGIN, bucket, sealed.signer.public_key)
    tile = f"{LOG}tile/0/000"
    sealed.bucket.delete(tile)

    result = make(sealed, tmp_path / "q3")

    assert result.exit_code == 1
    assert "could not be made (S3.NoSuchKey" in not_proven(tmp_path / "q3")["PROOFS_MISSING"]
    assert ProofState.NOT_PROVED in {each.proof for each in pack_in(tmp_path / "q3").objects}
    assert bucket.reads[tile] == 1
    assert tile in (tmp_path / "q3" / "report.html").read_text()


def test_an_object_that_is_not_sealed_yet_has_no_proof_and_is_named(sealed: SealedHistory, tmp_path: Path) -> None:
    later = sealed.history.attempt("600000000000", at(91, 23))

    make(sealed, tmp_path / "q3", "--no-verification")

    [key] = [each.key for each in pack_in(tmp_path / "q3").objects if each.proof is ProofState.NOT_SEALED]
    assert later in key
    assert "1 has no proof" in not_proven(tmp_path / "q3")["OBJECTS_NOT_SEALED"]


def test_the_same_log_makes_the_same_archive(sealed: SealedHistory, tmp_path: Path) -> None:
    make(sealed, tmp_path / "a")
    make(sealed, tmp_path / "b")

    first, second = ((tmp_path / name / "proofs" / "proofs.zip").read_bytes() for name in "ab")
    assert first == second
