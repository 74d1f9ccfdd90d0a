"""`verify` and `proof`: with an installation, with a download of the bucket, and with nothing but a proof."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from tlog_scales import signing
from tlog_scales.tlog import Checkpoint as TheirCheckpoint
from tlog_scales.tlog import InclusionProof

from handlers.core.errors import Cause, RetryableError, fault
from handlers.core.evidence.merkle import leaf_hash
from handlers.core.evidence.proofs import Proof
from handlers.operate.__main__ import cli
from handlers.operate.context import InstalledLog
from handlers.operate.errors import OperateError
from handlers.operate.sealed_folder import SealedFolder
from handlers.operate.sorted_records import SortedRecords
from handlers.operate.verifying import FileProgress
from schemas.keys import LOG, batch_key, checkpoint_key
from schemas.outcome import AttachmentResult, Claim, OutcomeStatus
from schemas.verification import Verification
from tests.fakes import ACCOUNT, POLICIES
from tests.operator_cli import OperatorCli, operator_cli
from tests.sealing import ORIGIN, verified
from tests.verifying import VerifyWorld, download, key_file

if TYPE_CHECKING:
    from pathlib import Path

PSEUDONYM = VerifyWorld().pseudonyms.of(ACCOUNT).value


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def world() -> VerifyWorld:
    return VerifyWorld.with_batches(3, 0, 300, 2)


def installed(world: VerifyWorld) -> OperatorCli:
    """Return the tool with an installation whose account carries its policies."""
    tool = operator_cli()
    tool.queues.clock = world.clock
    tool.log = InstalledLog(ORIGIN, world.sealed_bucket, world.signer.public_key)
    for policy in POLICIES:
        tool.reader.policy(policy, policy)
        tool.reader.attach(policy, tool.reader.member(ACCOUNT))
    for row in world.rows.rows:
        tool.queues.rows[row.account_id, row.event_id] = [(row.updated_at, row)]
    return tool


# ---------------------------------------------------------------- an installation


def test_an_installation_as_it_was_sealed(world: VerifyWorld) -> None:
    result = installed(world).run("verify", "--json")

    assert result.exit_code == 0, result.output
    found = Verification.model_validate_json(result.stdout)
    assert (found.valid, found.checkpoints, found.left_out, found.findings) == (305, 4, {}, ())
    assert found.keys == (str(world.sealer.verifier_key),)


def test_findings_are_shown_with_their_meaning_and_the_next_step(world: VerifyWorld) -> None:
    key = next(key for key in world.bucket.versions if key.startswith("evidence/"))
    world.bucket.delete(key)

    result = installed(world).run("verify")

    assert result.exit_code == 1
    output = " ".join(result.output.split())
    assert "1 finding" in output
    assert "missing" in output
    assert "a delete marker" in output
    assert "→ missing: find out in the bucket's access logs who deleted it" in output


def test_a_policy_that_somebody_detached_is_found(world: VerifyWorld) -> None:
    tool = installed(world)
    tool.reader.attachments[POLICIES[0]].remove(ACCOUNT)

    result = tool.run("verify", "--json")

    assert result.exit_code == 1
    [found] = json.loads(result.stdout)["findings"]
    assert (found["kind"], found["what"]) == ("disagrees", PSEUDONYM)
    assert f"says that it carries {POLICIES[0]}" in found["meaning"]
    assert ACCOUNT not in result.stdout


def test_a_policy_that_somebody_attached_again_is_found(world: VerifyWorld) -> None:
    tool = installed(world)
    [(at, row)] = tool.queues.rows[ACCOUNT, "event-0"]
    claim = Claim(result=AttachmentResult.REMOVED, at=at, seal="0" * 64)
    tool.queues.rows[ACCOUNT, "event-0"] = [(at, row.model_copy(update={"claims": {POLICIES[0]: claim}}))]

    result = tool.run("verify", "--json")

    [found, claimed] = sorted(json.loads(result.stdout)["findings"], key=lambda each: each["what"] != PSEUDONYM)
    assert claimed["what"] == "event-0", "no evidence says that Joinguard removed it"
    assert (found["kind"], found["what"]) == ("disagrees", PSEUDONYM)
    assert f"removed {POLICIES[0]}" in found["meaning"]
    assert "carries it again" in found["meaning"]


def test_a_policy_that_a_later_event_is_about_is_no_finding(world: VerifyWorld) -> None:
    tool = installed(world)
    tool.reader.attachments[POLICIES[0]].remove(ACCOUNT)
    [(at, row)] = tool.queues.rows[ACCOUNT, "event-0"]
    failed = [each.model_copy(update={"result": AttachmentResult.FAILED}) for each in row.policies]
    later = {"policies": tuple(failed), "updated_at": world.clock.now() + timedelta(seconds=1)}
    tool.queues.rows[ACCOUNT, "event-0"] = [(at, row.model_copy(update=later))]

    found = json.loads(tool.run("verify", "--json").stdout)["findings"]

    assert [each["what"] for each in found] == ["event-0"], "only that the row differs from its evidence"


@pytest.mark.parametrize(("minutes", "is_found"), [(0, False), (59, False), (61, True), (-17, True)])
def test_an_attempt_without_evidence_explains_what_an_account_lacks_for_an_hour(
    world: VerifyWorld, minutes: int, *, is_found: bool
) -> None:
    tool = installed(world)
    # The rows of earlier joins say that the account carries it.
    world.clock.advance(2 * 3600)
    tool.reader.attachments[POLICIES[0]].remove(ACCOUNT)
    [(at, row)] = tool.queues.rows[ACCOUNT, "event-0"]
    made_up = {
        "event_id": "event-z",
        "status": OutcomeStatus.RETRYING,
        "policies": tuple(each.model_copy(update={"result": AttachmentResult.FAILED}) for each in row.policies),
        "updated_at": world.clock.now() - timedelta(minutes=minutes),
        "done_at": None,
        "evidence_key": None,
        "evidence_sha256": None,
    }
    tool.queues.rows[ACCOUNT, "event-z"] = [(at, row.model_copy(update=made_up))]

    found = json.loads(tool.run("verify", "--json").stdout)["findings"]

    assert bool([each for each in found if each["what"] == PSEUDONYM]) == is_found


def test_an_organization_that_may_not_be_read_is_left_out(world: VerifyWorld) -> None:
    tool = installed(world)
    tool.reader.refused["identity"] = "AccessDeniedException"

    result = tool.run("verify", "--json")

    assert result.exit_code == 0
    assert "AccessDeniedException" in json.loads(result.stdout)["left_out"]["attached"]


def test_outcomes_that_may_not_be_read_are_left_out(world: VerifyWorld) -> None:
    tool = installed(world)
    denied = RetryableError(fault("DynamoDB.AccessDeniedException", "no"), cause=Cause.ACCESS_DENIED)
    tool.queues.rows = Denied(denied)  # type: ignore[assignment]

    result = tool.run("verify", "--json")

    found = json.loads(result.stdout)
    assert (found["findings"], "outcomes" in found["left_out"]) == ([], True)


class Denied:
    """A table that may not be read."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def values(self) -> None:
        raise self._error

    items = values


def test_a_period_is_given_by_its_first_and_last_day(world: VerifyWorld) -> None:
    def valid(*options: str) -> int:
        return int(json.loads(installed(world).run("verify", "--quick", "--json", *options).stdout)["valid"])

    assert valid("--from", "2026-11-24", "--to", "2026-11-24") == 305
    assert valid("--to", "2026-11-23") == 0
    world.clock.advance(86_400)
    assert valid("--from", "2026-11-25") == 0


def test_the_progress_can_be_kept_in_another_file(tmp_path: Path, cache: Path) -> None:
    world = VerifyWorld.with_batches(1100)
    world.sealed_bucket.interrupt_after = 1095

    installed(world).run("verify", "--resume", str(tmp_path / "progress.json"))

    kept = json.loads((tmp_path / "progress.json").read_text())
    assert (kept["size"], kept["keys"]) == (1101, [str(world.sealer.verifier_key)])
    assert not cache.exists()


def test_a_quick_verification_says_what_it_leaves_out(world: VerifyWorld) -> None:
    result = installed(world).run("verify", "--quick", "--json")

    found = json.loads(result.stdout)
    assert (result.exit_code, found["is_quick"]) == (0, True)
    assert set(found["left_out"]) == {"bytes", "retention", "configurations", "outcomes", "attached"}


def test_a_stack_of_an_earlier_version_has_no_log() -> None:
    result = operator_cli().run("verify")

    assert "no sealed log" in str(result.exception)


@pytest.mark.parametrize("form", ["a file", "a folder"])
def test_a_log_that_was_rewritten_is_found_by_a_checkpoint_in_a_file_or_a_folder(
    world: VerifyWorld, tmp_path: Path, form: str
) -> None:
    kept = tmp_path / "kept" / "000"
    kept.parent.mkdir()
    kept.write_bytes(world.copies.notes[1])
    against = str(kept if form == "a file" else kept.parent)
    assert installed(world).run("verify", "--against", against).exit_code == 0

    [first, second, *_] = world.batches()
    world.write_log([[first.model_copy(update={"objects": 0})], [second.model_copy(update={"first": 1})]])

    result = installed(world).run("verify", "--against", against, "--json")
    assert (result.exit_code, str(kept) in result.stdout) == (1, True)


def test_an_interrupted_verification_goes_on_where_it_was(cache: Path) -> None:
    world = VerifyWorld.with_batches(1100)
    world.sealed_bucket.interrupt_after = 1095
    assert installed(world).run("verify").exit_code == 1
    [kept] = (cache / "joinguard").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    world.sealed_bucket.interrupt_after = None
    world.sealed_bucket.fetched.clear()

    result = installed(world).run("verify", "--json")

    assert (result.exit_code, json.loads(result.stdout)["valid"]) == (0, 1100)
    assert len([each for each in world.sealed_bucket.fetched if each.startswith("evidence/")]) < 60
    assert not list((cache / "joinguard").iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"keys": 1}'])
def test_a_file_that_holds_no_progress_is_no_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "progress").write_bytes(content)

    assert FileProgress(tmp_path / "progress").load() is None


# ---------------------------------------------------------------- a download


def test_a_download_is_verified_without_aws(world: VerifyWorld, tmp_path: Path) -> None:
    folder, key = download(world, tmp_path), key_file(world, tmp_path)
    tool = operator_cli()
    tool.queues.clock, tool.is_missing = world.clock, True

    result = tool.run("verify", "--offline", str(folder), "--key", key, "--json")

    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["valid"], found["checkpoints"], found["found"]["missing"]) == (305, 4, 0)
    assert set(found["left_out"]) == {"versions", "outcomes", "attached", "retention", "end of the log"}


def test_a_download_that_lacks_the_last_batches_says_how_far_it_goes(world: VerifyWorld, tmp_path: Path) -> None:
    """Nothing in a folder can show that the log went on; a checkpoint that was kept elsewhere does."""
    kept = tmp_path / "kept"
    kept.write_bytes(world.notes()[-1])
    folder, key = download(world, tmp_path), key_file(world, tmp_path)
    last = world.batches()[-1]
    for removed in (batch_key(last.number), checkpoint_key(last.number)):
        (folder / removed).unlink()
    tool = operator_cli()
    tool.queues.clock = world.clock

    alone = tool.run("verify", "--offline", str(folder), "--key", key)
    compared = tool.run("verify", "--offline", str(folder), "--key", key, "--against", str(kept), "--json")

    sealed = world.batches()[-2].sealed_at
    assert f"until    {sealed:%Y-%m-%d %H:%M:%S}Z" in alone.stdout
    assert "left out: end of the log" in alone.stderr
    found = json.loads(compared.stdout)
    assert "end of the log" not in found["left_out"]
    [cut] = [each for each in found["findings"] if each["what"] == str(kept)]
    assert "it was cut" in cut["meaning"]
    assert "download it again" in cut["next_step"]
    assert "agreed" not in found


def test_a_kept_checkpoint_says_how_much_of_a_download_is_there_for_sure(world: VerifyWorld, tmp_path: Path) -> None:
    first, last = tmp_path / "first", tmp_path / "last"
    first.write_bytes(world.notes()[0])
    last.write_bytes(world.notes()[-1])
    folder, key = download(world, tmp_path), key_file(world, tmp_path)
    tool = operator_cli()
    tool.queues.clock = world.clock
    offline = ("verify", "--offline", str(folder), "--key", key)

    of_first = tool.run(*offline, "--against", str(first))
    of_last = tool.run(*offline, "--against", str(first), "--against", str(last))

    sizes = [len(world.leaves()[: world.batches()[1].first]), len(world.leaves())]
    assert f"up to leaf {sizes[0]} of {sizes[1]}\n" in of_first.stdout
    assert "left out: end of the log" in of_first.stderr
    assert f"up to leaf {sizes[1]} of {sizes[1]}\n" in of_last.stdout
    assert "left out: end of the log" not in of_last.stderr


def test_a_batch_in_a_download_without_its_checkpoint_is_found_at_once(world: VerifyWorld, tmp_path: Path) -> None:
    """In a bucket, the function may be about to write it; a folder does not become complete."""
    folder, key = download(world, tmp_path), key_file(world, tmp_path)
    last = world.batches()[-1]
    (folder / checkpoint_key(last.number)).unlink()
    tool = operator_cli()
    tool.queues.clock.time = last.sealed_at + timedelta(minutes=1)

    result = tool.run("verify", "--offline", str(folder), "--key", key, "--json")

    [missing] = [each for each in json.loads(result.stdout)["findings"] if each["kind"] == "missing"]
    assert missing["what"] == checkpoint_key(last.number)
    assert f"the {last.objects} objects that it names were not compared" in missing["meaning"]
    assert "download the folder log/ again" in missing["next_step"]


@pytest.mark.parametrize("content", ['{"my": "notes"}', "NAME+ID+KEY", "\0"])
def test_a_file_that_is_no_progress_is_not_replaced(world: VerifyWorld, tmp_path: Path, content: str) -> None:
    file = tmp_path / "notes.json"
    file.write_text(content)

    result = installed(world).run("verify", "--resume", str(file))

    assert isinstance(result.exception, OperateError)
    assert f"{file} is there, and is not the progress of a verification" in str(result.exception)
    assert file.read_text() == content


def test_the_period_is_shown(world: VerifyWorld) -> None:
    tool = installed(world)

    result = tool.run("verify", "--from", "2020-01-01", "--to", "2020-01-02")

    assert "objects that S3 stored from 2020-01-01 until 2020-01-02 (UTC); none\n" in result.stdout
    assert "period" not in tool.run("verify").stdout


@pytest.mark.parametrize("change", ["missing", "changed", "inserted"])
def test_what_was_changed_in_a_download_is_found(world: VerifyWorld, tmp_path: Path, change: str) -> None:
    folder, key = download(world, tmp_path), key_file(world, tmp_path)
    name = next(key for key in world.bucket.versions if key.startswith("evidence/"))
    path = folder / name
    if change == "missing":
        path.unlink()
    elif change == "changed":
        path.write_bytes(path.read_bytes()[::-1])
    else:
        name = name.replace("0001.json", "0002.json")
        (folder / name).write_bytes(path.read_bytes())
    tool = operator_cli()
    tool.queues.clock = world.clock

    result = tool.run("verify", "--offline", str(folder), "--key", key, "--json")

    assert result.exit_code == 1
    assert (change, name) in [(each["kind"], each["what"]) for each in json.loads(result.stdout)["findings"]]


def test_a_download_without_a_log_is_refused(world: VerifyWorld, tmp_path: Path) -> None:
    result = operator_cli().run("verify", "--offline", str(tmp_path), "--key", key_file(world, tmp_path))

    assert "has no folder log" in str(result.exception)


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "one or more keys"), ("hello", "no verifier key"), ("other+00000000+AAAA", "verifier key")],
)
def test_a_file_without_a_key_is_refused(world: VerifyWorld, tmp_path: Path, content: str, says: str) -> None:
    folder = download(world, tmp_path)
    (tmp_path / "key.txt").write_text(content)

    result = operator_cli().run("verify", "--offline", str(folder), "--key", str(tmp_path / "key.txt"))

    assert says in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--offline", "."], "Add --key FILE"),
        (["--from", "2026-11-02", "--to", "2026-11-01"], "--to 2026-11-01 is before --from 2026-11-02"),
        (["--from", "2027-01-01"], "--from 2027-01-01 is in the future. Use a day that has begun (UTC)"),
        (["--from", "today"], "is not a day"),
        (["--to", "9999-12-31"], "is not a day"),
        (["--quick", "--resume", "progress"], "--quick and --offline keep no progress"),
        (["--offline", ".", "--key", "/dev/null", "--resume", "progress"], "--quick and --offline keep no progress"),
        (["--object", "/dev/null"], "Add --proof FILE"),
        (["--key", "nowhere"], "does not exist"),
    ],
)
def test_wrong_use(arguments: list[str], says: str) -> None:
    result = operator_cli().run("verify", *arguments)

    assert (result.exit_code, says in result.output) == (2, True)


@pytest.mark.parametrize(
    "ignored",
    [
        ["--from", "2026-11-01"],
        ["--to", "2026-11-01"],
        ["--quick"],
        ["--offline", "."],
        ["--against", "/dev/null"],
        ["--resume", "progress"],
    ],
    ids=lambda each: each[0],
)
def test_a_proof_is_checked_with_no_option_that_would_be_ignored(ignored: list[str]) -> None:
    result = operator_cli().run("verify", "--proof", "/dev/null", "--key", "/dev/null", *ignored)

    assert (result.exit_code, f"--proof excludes {ignored[0]}: it checks" in result.output) == (2, True), result.output


@settings(max_examples=50)
@given(
    st.sets(st.text("-./0a", min_size=1, max_size=6).filter(lambda name: all(set(p) - {"."} for p in name.split("/"))))
)
def test_a_folder_lists_keys_in_the_order_in_which_s3_does(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    root = tmp_path_factory.mktemp("folder")
    keys = sorted((f"log/{each}" for each in names), key=str.encode)
    keys = [each for each in keys if not any(other.startswith(f"{each}/") for other in keys)]
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(b"x")

    assert [each.key for each in SealedFolder(root).listed("log/")] == keys


def test_records_are_sorted_by_the_bytes_of_their_keys() -> None:
    records = SortedRecords()
    for number, key in enumerate(["b", "\U0001f600", "\uffff", "a/b", "a-b", "a", "b"]):
        records.add(key, number, b"")

    assert [(key, number) for key, number, _ in records] == [
        ("a", 5),
        ("a-b", 4),
        ("a/b", 3),
        ("b", 0),
        ("b", 6),
        ("\uffff", 2),
        ("\U0001f600", 1),
    ]
    assert [number for number, _ in records.of("b")] == [0, 6]
    assert records.under("a", limit=2) == ["a", "a-b"]
    records.clear()
    assert list(records) == []


# ---------------------------------------------------------------- proofs


@pytest.fixture
def proof(world: VerifyWorld, tmp_path: Path) -> Path:
    """Return the file with the proof of some evidence."""
    path = tmp_path / "object.tlog-proof"
    result = installed(world).run("proof", evidence(world), "--out", str(path))
    assert result.exit_code == 0, result.output
    assert str(world.sealer.verifier_key) in result.output
    return path


def evidence(world: VerifyWorld) -> str:
    return sorted(key for key in world.bucket.versions if key.startswith("evidence/"))[150]


def test_a_proof_and_the_public_key_show_that_an_object_was_sealed(
    world: VerifyWorld, proof: Path, tmp_path: Path
) -> None:
    stored = world.bucket.current(evidence(world))
    assert stored
    (tmp_path / "object").write_bytes(stored.body or b"")
    tool, key = operator_cli(), key_file(world, tmp_path)
    tool.is_missing = True

    result = tool.run("verify", "--proof", str(proof), "--key", key, "--object", str(tmp_path / "object"), "--json")

    found = json.loads(result.stdout)
    assert (result.exit_code, found["valid"], found["leaf"]["key"]) == (0, True, evidence(world))

    result = tool.run("verify", "--proof", str(proof), "--key", key, "--object", str(tmp_path / "object"))
    first, second, *_ = result.stdout.splitlines()
    assert (result.exit_code, first) == (0, f"{tmp_path}/object is the object that was sealed")
    assert (second.startswith(evidence(world)), second.endswith(ORIGIN)) == (True, True), "a line is not broken"


def test_that_an_object_is_another_one_comes_first_with_the_next_step(
    world: VerifyWorld, proof: Path, tmp_path: Path
) -> None:
    (tmp_path / "object").write_bytes(b"another")

    result = operator_cli().run(
        "verify", "--proof", str(proof), "--key", key_file(world, tmp_path), "--object", str(tmp_path / "object")
    )

    first, *_ = result.stdout.splitlines()
    assert result.exit_code == 1
    assert first.startswith(f"{tmp_path}/object is not the object that was sealed: its SHA-256 is ")
    assert "get the object above in this version from the bucket" in " ".join(result.stderr.split())


def test_another_tool_accepts_a_proof(world: VerifyWorld, proof: Path) -> None:
    head, _, note = proof.read_text().partition("\n\n")
    name, extra, index, *hashes = head.splitlines()
    checkpoint = TheirCheckpoint.from_text(note)

    checkpoint.verify(signing.Vkey.from_string(str(world.sealer.verifier_key)))
    theirs = InclusionProof(int(index.removeprefix("index ")), checkpoint.size, [b64decode(each) for each in hashes])
    theirs.check(leaf_hash(b64decode(extra.removeprefix("extra "))), checkpoint.root_hash)
    assert name == "c2sp.org/tlog-proof@v1"


@pytest.mark.parametrize("part", ["leaf", "index", "hash"])
def test_a_proof_of_another_leaf_place_or_tree_is_refused(world: VerifyWorld, proof: Path, part: str) -> None:
    made = Proof.parse(proof.read_text())
    changes: dict[str, dict[str, Any]] = {
        "leaf": {"leaf": made.leaf.replace(b"GOVERNANCE", b"COMPLIANCE")},
        "index": {"index": made.index - 1},
        "hash": {"hashes": [bytes(32), *made.hashes[1:]]},
    }

    with pytest.raises(ValueError, match="does not lead to the root"):
        replace(made, **changes[part]).check([world.sealer.verifier_key], verified)


def test_a_proof_goes_to_stdout_and_can_be_made_from_a_download(
    world: VerifyWorld, proof: Path, tmp_path: Path
) -> None:
    tool, folder, key = operator_cli(), download(world, tmp_path), key_file(world, tmp_path)
    tool.is_missing, tool.queues.clock = True, world.clock

    result = tool.run("proof", evidence(world), "--offline", str(folder), "--key", key)

    assert (result.exit_code, result.stdout) == (0, proof.read_text())
    fields = json.loads(tool.run("proof", evidence(world), "--offline", str(folder), "--key", key, "--json").stdout)
    assert fields["proof"] == proof.read_text()


@settings(max_examples=200)
@given(st.data())
def test_no_character_of_a_proof_can_be_changed(data: st.DataObject) -> None:
    world = VerifyWorld.with_batches(3)
    tool = installed(world)
    text = tool.run("proof", next(each.key for each in world.leaves() if hasattr(each, "key"))).stdout
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.characters(max_codepoint=127)) + text[at + 1 :]

    try:
        Proof.parse(changed).check([world.sealer.verifier_key], verified)
    except ValueError:
        assert changed != text
    else:
        assert changed == text


def test_a_proof_has_one_text(proof: Path) -> None:
    """The last bits of base64 can be set without a change of the bytes."""
    text = proof.read_text()
    hashed = next(line for line in text.splitlines() if line.endswith("=") and len(line) == 44)
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    another = f"{hashed[:-2]}{digits[digits.index(hashed[-2]) + 1]}="
    assert b64decode(another) == b64decode(hashed)

    with pytest.raises(ValueError, match="last bits"):
        Proof.parse(text.replace(hashed, another))


def test_a_key_of_another_log_does_not_prove_anything(proof: Path, tmp_path: Path) -> None:
    other = VerifyWorld()
    other.signer.private = Ed25519PrivateKey.from_private_bytes(bytes(32))

    result = operator_cli().run("verify", "--proof", str(proof), "--key", key_file(other, tmp_path))

    assert "no signature of this checkpoint is by the log's key" in str(result.exception)
    assert f"check that {tmp_path}/key.txt has the key of this log" in str(result.exception)


@pytest.mark.parametrize("leaf", [b"{", b"\x00", b"[]", b'{"kind":"audit"}'])
def test_a_proof_of_something_else_says_so_in_one_line(
    world: VerifyWorld, proof: Path, tmp_path: Path, leaf: bytes
) -> None:
    proof.write_text(replace(Proof.parse(proof.read_text()), leaf=leaf).encode())

    result = operator_cli().run("verify", "--proof", str(proof), "--key", key_file(world, tmp_path))

    said = str(result.exception)
    assert f"{proof}: this leaf is not JSON with what is sealed of an object or a batch. Do not rely on it" in said
    assert ("\n" in said, "pydantic" in said) == (False, False)


def test_a_byte_order_mark_is_no_part_of_a_key_or_a_proof(world: VerifyWorld, proof: Path, tmp_path: Path) -> None:
    key = tmp_path / "bom.key"
    key.write_text(str(world.sealer.verifier_key), encoding="utf-8-sig")
    proof.write_text(proof.read_text(), encoding="utf-8-sig")

    result = operator_cli().run("verify", "--proof", str(proof), "--key", str(key))

    assert (result.exit_code, evidence(world) in result.stdout) == (0, True), result.exception


@pytest.mark.parametrize(
    "key", ["backups/x", "log/checkpoints/000/000/001", "/evidence/x", "s3://bucket/evidence/x", ""]
)
def test_only_the_key_of_an_object_that_is_sealed_can_be_proved(key: str) -> None:
    result = operator_cli().run("proof", key)

    assert result.exit_code == 2
    assert "begins with acts/, configuration/, evidence/ or sweeps/, with no slash" in " ".join(result.output.split())


@pytest.mark.parametrize("arguments", [["evidence/none"], ["KEY", "--version", "another"]])
def test_what_is_not_sealed_has_no_proof(world: VerifyWorld, arguments: list[str]) -> None:
    key, *others = arguments

    result = installed(world).run("proof", evidence(world) if key == "KEY" else key, *others)

    assert "NOT_SEALED" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["proof", "evidence/none"], "`verify --quick` says until when"),
        (["verify"], "signs its first one within half an hour"),
    ],
)
def test_the_next_step_after_a_failure_is_about_the_log(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MAKELEVEL", raising=False)
    world = VerifyWorld.with_batches(1) if arguments[0] == "proof" else VerifyWorld()

    result = CliRunner().invoke(cli, arguments, obj=installed(world))

    assert result.exit_code == 1
    assert says in result.output
    assert "in flight" not in result.output


def test_tiles_that_were_changed_lead_to_no_proof(world: VerifyWorld) -> None:
    [tile] = world.bucket.versions[f"{LOG}tile/0/000"]
    tile.body = bytes(len(tile.body or b""))

    result = installed(world).run("proof", evidence(world))

    assert "LOG_CHANGED" in str(result.exception)
