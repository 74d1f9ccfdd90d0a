"""Verifying: an unchanged bucket has no findings, and whatever was changed has one that names it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.errors import PermanentError
from handlers.core.evidence.checkpoint import Checkpoint, VerifierKey
from handlers.core.evidence.leaves import batch_bytes, bundle_bytes, read_batch, read_bundle
from handlers.core.evidence.merkle import bundle_path
from handlers.core.evidence.verify_objects import Period
from handlers.core.evidence.verifying import MAX_DESCRIBED
from handlers.core.ports import UnreadableRow
from schemas.keys import BATCHES, CHECKPOINTS, LOG, batch_key, checkpoint_key, key_beside
from schemas.outcome import OutcomeStatus
from schemas.sealed import ObjectKind, SealedBatch, SealedDeletion, SealedObject
from schemas.verification import FindingKind
from tests.fakes import ACCOUNT, NOON
from tests.sealing import ORIGIN, Stored
from tests.verifying import VerifyWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from handlers.core.evidence.verifying import Listed
    from schemas.sealed import Leaf

ACCOUNT_IN_KEY = "123456789012"


def keys(w: VerifyWorld) -> list[str]:
    """Return the keys of the evidence."""
    return sorted(each for each in w.bucket.versions if each.startswith("evidence/"))


def stored(w: VerifyWorld, key: str) -> Stored:
    [found] = w.bucket.versions[key]
    return found


def rewrite(w: VerifyWorld, key: str, body: bytes) -> None:
    """Change an object without a trace: no storage class of S3 allows it, but a copy of the bucket does."""
    stored(w, key).body = body


def body(w: VerifyWorld, key: str) -> bytes:
    return stored(w, key).body or b""


def test_a_bucket_that_nobody_changed_has_no_findings() -> None:
    w = VerifyWorld.with_batches(3, 0, 2)

    found = w.verification()

    assert found.findings == ()
    assert (found.size, found.checkpoints, found.valid, found.pending) == (8, 3, 5, 0)
    assert found.left_out == {}
    assert w.verification(is_quick=True).findings == ()


def test_a_log_of_several_tiles_has_no_findings() -> None:
    w = VerifyWorld.with_batches(300, 1, 255, 256)

    found = w.verification()

    assert found.findings == ()
    assert (found.size, found.checkpoints, found.valid) == (816, 4, 812)


# ---------------------------------------------------------------- one kind of change after the other


def a_changed_byte(w: VerifyWorld) -> list[tuple[str, str]]:
    key = keys(w)[1]
    rewrite(w, key, body(w, key).replace(b"ENFORCED", b"ENF0RCED"))
    # Neither is it what its outcome's row says.
    return [("changed", key), ("disagrees", key)]


def another_size(w: VerifyWorld) -> list[tuple[str, str]]:
    key = keys(w)[1]
    rewrite(w, key, body(w, key) + b" ")
    # Neither is it what its outcome's row says.
    return [("changed", key), ("disagrees", key)]


def another_time(w: VerifyWorld) -> list[tuple[str, str]]:
    stored(w, key := keys(w)[1]).at += timedelta(seconds=1)
    return [("changed", key)]


def a_missing_object(w: VerifyWorld) -> list[tuple[str, str]]:
    del w.bucket.versions[key := keys(w)[1]]
    return [("missing", key)]


def a_delete_marker(w: VerifyWorld) -> list[tuple[str, str]]:
    w.bucket.delete(key := keys(w)[1])
    return [("missing", key)]


def a_version_on_top(w: VerifyWorld) -> list[tuple[str, str]]:
    key = keys(w)[1]
    w.bucket.put(key, body(w, key), announced=False)
    return [("inserted", key)]


def an_object_that_no_part_of_joinguard_writes(w: VerifyWorld) -> list[tuple[str, str]]:
    w.bucket.put("evidence/readme.txt", announced=False)
    return [("inserted", "evidence/readme.txt")]


def an_object_with_the_key_of_evidence(w: VerifyWorld) -> list[tuple[str, str]]:
    key = keys(w)[1].replace("0001.json", "0002.json")
    w.bucket.put(key, announced=False)
    stored(w, key).at -= timedelta(minutes=76)
    return [("inserted", key)]


def a_shortened_retention(w: VerifyWorld) -> list[tuple[str, str]]:
    found = stored(w, key := keys(w)[1])
    assert found.retain_until
    found.retain_until -= timedelta(seconds=1)
    return [("weakened", key)]


def a_removed_retention(w: VerifyWorld) -> list[tuple[str, str]]:
    found = stored(w, key := keys(w)[1])
    found.retain_until = found.lock = None
    return [("weakened", key)]


def a_lock_in_another_mode(w: VerifyWorld) -> list[tuple[str, str]]:
    stored(w, key := keys(w)[1]).lock = "GOVERNANCE"
    return [("weakened", key)]


def a_log_object_without_retention(w: VerifyWorld) -> list[tuple[str, str]]:
    found = stored(w, key := batch_key(1))
    found.retain_until = found.lock = None
    return [("weakened", key)]


def two_missing_checkpoints_in_a_row(w: VerifyWorld) -> list[tuple[str, str]]:
    for number in (1, 2):
        del w.bucket.versions[checkpoint_key(number)]
    return [("missing", checkpoint_key(1)), ("missing", checkpoint_key(2))]


def a_missing_first_checkpoint(w: VerifyWorld) -> list[tuple[str, str]]:
    del w.bucket.versions[checkpoint_key(0)]
    return [("missing", checkpoint_key(0))]


def a_missing_last_checkpoint(w: VerifyWorld) -> list[tuple[str, str]]:
    del w.bucket.versions[checkpoint_key(3)]
    return [("missing", checkpoint_key(3))]


def a_marker_on_the_last_checkpoint(w: VerifyWorld) -> list[tuple[str, str]]:
    w.bucket.delete(checkpoint_key(3))
    return [("missing", checkpoint_key(3)), ("missing", checkpoint_key(3))]


def a_marker_on_a_tile(w: VerifyWorld) -> list[tuple[str, str]]:
    w.bucket.delete(key := f"{LOG}tile/0/000.p/4")
    return [("missing", key)]


def a_version_in_place_of_the_sealed_one(w: VerifyWorld) -> list[tuple[str, str]]:
    key = keys(w)[1]
    content = body(w, key)
    del w.bucket.versions[key]
    w.bucket.put(key, content, announced=False)
    return [("missing", key), ("inserted", key)]


def a_missing_batch(w: VerifyWorld) -> list[tuple[str, str]]:
    del w.bucket.versions[batch_key(2)]
    return [("missing", batch_key(2))]


def a_truncated_bundle(w: VerifyWorld) -> list[tuple[str, str]]:
    key = LOG + bundle_path(0, 11)
    rewrite(w, key, body(w, key)[:-1])
    return [("changed", key)]


def a_bundle_with_one_leaf_less(w: VerifyWorld) -> list[tuple[str, str]]:
    key = LOG + bundle_path(0, 11)
    rewrite(w, key, bundle_bytes(read_bundle(body(w, key))[:-1]))
    return [("changed", key)]


def a_swapped_leaf_order(w: VerifyWorld) -> list[tuple[str, str]]:
    key = LOG + bundle_path(0, 11)
    first, second, third, *others = read_bundle(body(w, key))
    rewrite(w, key, bundle_bytes([first, third, second, *others]))
    return [("changed", key)]


def a_swapped_order_in_a_batch(w: VerifyWorld) -> list[tuple[str, str]]:
    header, *leaves = read_batch(body(w, batch_key(0)))
    rewrite(w, batch_key(0), batch_bytes([header, *leaves[::-1]]))
    return [("changed", batch_key(0))]


def a_tile_with_one_bit_changed(w: VerifyWorld) -> list[tuple[str, str]]:
    content = bytearray(body(w, key := f"{LOG}tile/0/000.p/11"))
    content[40] ^= 1
    rewrite(w, key, bytes(content))
    return [("changed", key)]


def an_older_tile_with_one_bit_changed(w: VerifyWorld) -> list[tuple[str, str]]:
    content = bytearray(body(w, key := f"{LOG}tile/0/000.p/4"))
    content[40] ^= 1
    rewrite(w, key, bytes(content))
    return [("changed", key)]


def a_tile_that_no_batch_leads_to(w: VerifyWorld) -> list[tuple[str, str]]:
    w.bucket.put(key := f"{LOG}tile/0/000.p/7", announced=False)
    stored(w, key).at -= timedelta(minutes=21)
    return [("inserted", key)]


def a_second_version_of_a_checkpoint(w: VerifyWorld) -> list[tuple[str, str]]:
    w.bucket.put(key := checkpoint_key(1), body(w, checkpoint_key(1)), announced=False)
    return [("inserted", key)]


def a_checkpoint_of_another_log(w: VerifyWorld) -> list[tuple[str, str]]:
    other = VerifierKey("joinguard/o-other", w.signer.public_key())
    checkpoint = Checkpoint(other.name, w.checkpoint(1).size, w.checkpoint(1).root)
    rewrite(w, checkpoint_key(1), checkpoint.note(other, w.signer.sign(checkpoint.body())))
    return [("changed", checkpoint_key(1))]


def a_signature_by_another_key(w: VerifyWorld) -> list[tuple[str, str]]:
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    key = VerifierKey(ORIGIN, private.public_key().public_bytes_raw())
    checkpoint = w.checkpoint(1)
    rewrite(w, checkpoint_key(1), checkpoint.note(key, private.sign(checkpoint.body())))
    return [("changed", checkpoint_key(1))]


def a_signature_that_is_not_valid(w: VerifyWorld) -> list[tuple[str, str]]:
    checkpoint = w.checkpoint(1)
    rewrite(w, checkpoint_key(1), checkpoint.note(w.sealer.verifier_key, bytes(64)))
    return [("changed", checkpoint_key(1))]


def a_signature_of_another_root(w: VerifyWorld) -> list[tuple[str, str]]:
    checkpoint = Checkpoint(ORIGIN, w.checkpoint(1).size, bytes(32))
    rewrite(w, checkpoint_key(1), checkpoint.note(w.sealer.verifier_key, w.signer.sign(checkpoint.body())))
    return [("changed", checkpoint_key(1))]


def a_signature_of_an_earlier_size(w: VerifyWorld) -> list[tuple[str, str]]:
    rewrite(w, checkpoint_key(2), body(w, checkpoint_key(1)))
    return [("changed", checkpoint_key(2))]


def an_outcome_set_by_hand(w: VerifyWorld) -> list[tuple[str, str]]:
    changes = {"event_id": "event-new", "evidence_key": None, "evidence_sha256": None}
    w.rows.rows.append(w.rows.rows[0].model_copy(update=changes))
    return [("disagrees", "event-new")]


def an_outcome_with_another_status(w: VerifyWorld) -> list[tuple[str, str]]:
    w.rows.rows[0] = w.rows.rows[0].model_copy(update={"status": OutcomeStatus.IGNORED})
    return [("disagrees", "event-0")]


def an_outcome_with_other_policies(w: VerifyWorld) -> list[tuple[str, str]]:
    [first, *_] = w.rows.rows[0].policies
    w.rows.rows[0] = w.rows.rows[0].model_copy(update={"policies": (first,)})
    return [("disagrees", "event-0")]


def an_outcome_with_another_digest(w: VerifyWorld) -> list[tuple[str, str]]:
    row = w.rows.rows[0]
    w.rows.rows[0] = row.model_copy(update={"evidence_sha256": "0" * 64})
    return [("disagrees", row.evidence_key or "")]


def a_deleted_outcome(w: VerifyWorld) -> list[tuple[str, str]]:
    row = w.rows.rows.pop(0)
    return [("missing", row.evidence_key or "")]


def a_row_that_no_worker_wrote(w: VerifyWorld) -> list[tuple[str, str]]:
    w.rows.unreadable.append(UnreadableRow(ACCOUNT, "event-new"))
    return [("disagrees", "event-new")]


CHANGES: list[Callable[[VerifyWorld], list[tuple[str, str]]]] = [
    a_changed_byte,
    another_size,
    another_time,
    a_missing_object,
    a_delete_marker,
    a_version_on_top,
    an_object_that_no_part_of_joinguard_writes,
    an_object_with_the_key_of_evidence,
    a_shortened_retention,
    a_removed_retention,
    a_lock_in_another_mode,
    a_log_object_without_retention,
    two_missing_checkpoints_in_a_row,
    a_missing_first_checkpoint,
    a_missing_last_checkpoint,
    a_marker_on_the_last_checkpoint,
    a_marker_on_a_tile,
    a_version_in_place_of_the_sealed_one,
    a_missing_batch,
    a_truncated_bundle,
    a_bundle_with_one_leaf_less,
    a_swapped_leaf_order,
    a_swapped_order_in_a_batch,
    a_tile_with_one_bit_changed,
    an_older_tile_with_one_bit_changed,
    a_tile_that_no_batch_leads_to,
    a_second_version_of_a_checkpoint,
    a_checkpoint_of_another_log,
    a_signature_by_another_key,
    a_signature_that_is_not_valid,
    a_signature_of_another_root,
    a_signature_of_an_earlier_size,
    an_outcome_set_by_hand,
    an_outcome_with_another_status,
    an_outcome_with_other_policies,
    an_outcome_with_another_digest,
    a_deleted_outcome,
    a_row_that_no_worker_wrote,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.__name__.replace("_", " "))
def test_what_was_changed_has_a_finding_that_names_it(change: Callable[[VerifyWorld], list[tuple[str, str]]]) -> None:
    w = VerifyWorld.with_batches(3, 0, 2, 2, mode="COMPLIANCE")
    assert w.found() == []

    expected = change(w)

    found = w.verification()
    named = [(each.kind.value, each.what) for each in found.findings]
    # What is missing in the bucket is also missing for the outcome that names it.
    assert sorted(set(named)) == sorted(set(expected))
    assert sum(found.found.values()) == len(found.findings)
    assert all(each.meaning and each.next_step for each in found.findings)


#: What can be seen only by reading objects.
NEEDS_BYTES = {
    a_changed_byte,
    another_size,  # and its outcome
    a_shortened_retention,
    a_removed_retention,
    a_lock_in_another_mode,
    a_log_object_without_retention,
    a_swapped_order_in_a_batch,
    a_tile_with_one_bit_changed,
    an_older_tile_with_one_bit_changed,
    an_outcome_set_by_hand,
    an_outcome_with_another_status,
    an_outcome_with_other_policies,
    an_outcome_with_another_digest,
    a_deleted_outcome,
    a_row_that_no_worker_wrote,
    a_swapped_leaf_order,
}


@pytest.mark.parametrize(
    "change", [each for each in CHANGES if each not in NEEDS_BYTES], ids=lambda each: each.__name__.replace("_", " ")
)
def test_a_quick_verification_finds_whatever_the_listing_and_the_log_show(
    change: Callable[[VerifyWorld], list[tuple[str, str]]],
) -> None:
    w = VerifyWorld.with_batches(3, 0, 2, 2)

    expected = change(w)

    found = w.verification(is_quick=True)
    assert {(each.kind.value, each.what) for each in found.findings} == set(expected)
    assert found.left_out == dict.fromkeys(("configurations", "outcomes"), "a quick verification reads no evidence")
    assert not [each for each in w.sealed_bucket.fetched if each.startswith("evidence/")]


# ---------------------------------------------------------------- what the log itself says


def test_a_worker_that_found_another_object_under_its_key_wrote_beside_it() -> None:
    w = VerifyWorld()
    planted, own = w.enforce(0), body(w, w.enforce(1)).replace(b"event-1", b"event-0")
    beside = key_beside(planted, sha256(own).hexdigest())
    w.bucket.put(beside, own)
    w.seal()

    for is_quick in (False, True):
        [found] = [each for each in w.verification(is_quick=is_quick).findings if each.kind is FindingKind.INSERTED]
        assert found.what == planted
        assert beside in found.meaning


def test_one_invocation_that_fails_leaves_no_gap_and_two_do() -> None:
    w = VerifyWorld.with_batches(1)
    w.clock.advance(44 * 60)
    w.seal()
    assert w.found() == [], "one failed, and the next one was slow"

    w.clock.advance(76 * 60)
    assert w.found() == [("gap", batch_key(1))], "nothing was sealed since"
    w.seal()

    assert w.found() == [("gap", batch_key(2))]
    assert w.found(is_offline=True) == [("gap", batch_key(2))]


def test_a_log_that_is_not_compared_with_the_bucket_for_two_days_has_one_gap() -> None:
    w = VerifyWorld.with_batches(1)
    w.index.kept = w.index.kept.model_copy(update={"compared_at": NOON + timedelta(days=30)})
    for _ in range(3 * 48):
        w.clock.advance(30 * 60)
        w.seal()
    headers = [each.model_copy(update={"compared_at": NOON}) for each in w.batches()]
    w.write_log(renumbered([[each] for each in headers]))

    assert [kind for kind, _ in w.found(is_quick=True)] == ["gap", "inserted"], "the object is not in this log"


def batches(w: VerifyWorld) -> list[list[Leaf]]:
    """Return the leaves of the log, batch by batch."""
    found: list[list[Leaf]] = []
    for each in w.leaves():
        if isinstance(each, SealedBatch):
            found.append([])
        found[-1].append(each)
    return found


def renumbered(leaves: list[list[Leaf]]) -> list[list[Leaf]]:
    """Return batches whose first leaves say how many follow."""
    first, found = 0, []
    for number, (header, *others) in enumerate(leaves):
        assert isinstance(header, SealedBatch)
        new = header.model_copy(update={"number": number, "first": first, "objects": len(others)})
        found.append([new, *others])
        first += 1 + len(others)
    return found


def rewritten(change: Callable[[list[list[Leaf]]], None]) -> tuple[VerifyWorld, dict[str, bytes]]:
    """Return a bucket whose log was changed and signed anew, and the checkpoints that were kept elsewhere."""
    w = VerifyWorld.with_batches(3, 1, 2)
    kept = {"a copy": w.copies.notes[1]}
    leaves = batches(w)
    change(leaves)
    w.write_log(renumbered(leaves))
    return w, kept


def without_one(leaves: list[list[Leaf]]) -> None:
    leaves[1].pop()


def test_a_log_that_was_rewritten_and_signed_anew_is_found_by_a_checkpoint_that_was_kept_elsewhere() -> None:
    w, kept = rewritten(without_one)
    hidden = next(each for each in keys(w) if each not in {version.key for version in w.sealed()})
    del w.bucket.versions[hidden]
    w.rows.rows = [each for each in w.rows.rows if each.evidence_key != hidden]

    assert w.found() == [], "tiles, checkpoints and signatures are consistent"
    [found] = w.verification(elsewhere=kept).findings
    assert (found.kind, found.what) == (FindingKind.CHANGED, "a copy")
    assert "rewritten" in found.meaning


def test_a_log_that_was_cut_back_is_found_by_a_checkpoint_that_was_kept_elsewhere() -> None:
    w = VerifyWorld.with_batches(1, 1)
    note = w.copies.notes[1]
    w.write_log(batches(w)[:1])

    [found] = [each for each in w.verification(elsewhere={"a copy": note}).findings if each.what == "a copy"]
    assert (found.kind, "it was cut" in found.meaning) == (FindingKind.GAP, True)


def test_a_checkpoint_of_this_log_that_was_kept_elsewhere_is_no_finding() -> None:
    w = VerifyWorld.with_batches(1, 300, 1)

    assert w.verification(elsewhere={str(number): note for number, note in w.copies.notes.items()}).findings == ()


def test_something_else_that_was_kept_elsewhere_is_a_finding() -> None:
    w = VerifyWorld.with_batches(1)

    assert [each.what for each in w.verification(elsewhere={"a file": b"hello"}).findings] == ["a file"]


def test_a_version_that_the_log_names_twice_with_the_same_content_is_no_finding() -> None:
    """Somebody deleted its item from the index; nothing is lost by that, and the log keeps the second leaf forever."""
    w = VerifyWorld.with_batches(3)
    w.index.versions.clear()
    w.index.kept = w.index.kept.model_copy(update={"compared_at": None})
    w.seal()
    assert len(w.sealed()) == 6

    found = w.verification()

    assert (found.findings, found.valid) == ((), 3)


@pytest.mark.parametrize("changes", [{"sha256": "0" * 64}, {"retain_until": NOON}, {"size": 1}], ids=str)
def test_two_leaves_of_a_version_that_say_different_things_are_found(changes: dict[str, object]) -> None:
    """The first leaf counts: a lock that was shortened before the version was sealed again is found, too."""
    w, _ = rewritten(lambda leaves: leaves[2].append(leaves[0][1].model_copy(update=changes)))

    [found] = w.verification().findings
    assert (found.kind, found.what in keys(w)) == (FindingKind.DISAGREES, True)
    assert "leaves 1, 9" in found.meaning


def test_a_batch_with_a_later_time_than_the_next_one_is_found() -> None:
    def later(leaves: list[list[Leaf]]) -> None:
        header = leaves[1][0]
        assert isinstance(header, SealedBatch)
        leaves[1][0] = header.model_copy(update={"sealed_at": header.sealed_at + timedelta(minutes=46)})

    w, _ = rewritten(later)

    assert w.found() == [("gap", batch_key(1)), ("gap", batch_key(2))], "too long before it, and back after it"


@pytest.mark.parametrize("changes", [{"number": 7}, {"first": 9}, {"objects": 5}], ids=str)
def test_a_batch_that_says_something_else_than_it_is_has_a_finding(changes: dict[str, int]) -> None:
    w = VerifyWorld.with_batches(1, 1, 1)
    leaves = batches(w)
    header = leaves[1][0]
    assert isinstance(header, SealedBatch)
    leaves[1][0] = header.model_copy(update=changes)
    w.write_log(leaves)

    assert w.found() == [("changed", batch_key(1))]


def test_a_delete_marker_is_found_also_if_the_log_has_it_and_it_is_gone() -> None:
    w = VerifyWorld.with_batches(2)
    w.bucket.delete(key := keys(w)[0])
    w.index.kept = w.index.kept.model_copy(update={"compared_at": None})
    w.seal()
    assert any(isinstance(each, SealedDeletion) for each in w.leaves())

    [found] = w.verification().findings
    assert (found.kind, found.what) == (FindingKind.MISSING, key)
    assert "the version is still there. The log has it, too" in found.meaning

    w.bucket.versions[key].pop()
    [found] = w.verification().findings
    assert "restored" in found.meaning
    w.sealed_bucket.has_versions = False
    assert ("missing", key) in w.found(is_offline=True)


@pytest.mark.parametrize("prefix", ["evidence/", "log/batches/"])
def test_an_object_that_is_deleted_while_it_is_verified_is_missing(prefix: str) -> None:
    w = VerifyWorld.with_batches(2)
    key = next(each for each in w.bucket.versions if each.startswith(prefix))
    w.sealed_bucket.deletes = key

    assert ("missing", key) in w.found(is_offline=True)


def test_the_evidence_of_a_rehearsal_may_be_gone_when_its_lock_has_ended() -> None:
    w = VerifyWorld()
    key = "evidence/rehearsal/2026/11/24/event-1/0123456789abcdef.json"
    w.bucket.put(key)
    w.seal()
    assert [each.kind for each in w.verification().findings] == [FindingKind.DISAGREES], "it is not one"
    lock = stored(w, key).retain_until
    assert lock

    w.bucket.delete(key)
    assert ("missing", key) in w.found()
    del w.bucket.versions[key]
    assert w.found() == [("missing", key)]

    w.clock.time = lock
    assert {kind for kind, _ in w.found()} == {"gap"}


def test_evidence_whose_content_belongs_under_another_key_disagrees_with_its_key() -> None:
    w = VerifyWorld()
    key = w.enforce(0)
    other = key.replace("0001.json", "0002.json")
    w.bucket.put(other, body(w, key))
    w.seal()

    assert ("disagrees", other) in w.found()


@pytest.mark.parametrize(
    ("name", "is_found"),
    [
        ("0001.json", False),
        ("0002.json", True),
        ("0001-late.json", True),
        ("ACCOUNT/0001.json", True),
        ("none/0001.json", True),
        ("BESIDE", True),
    ],
)
def test_evidence_of_the_first_version_belongs_under_its_own_key(name: str, *, is_found: bool) -> None:
    w = VerifyWorld()
    key = w.enforce(0)
    first = json.loads(body(w, key)) | {"schema_version": "joinguard/evidence/1"}
    content = json.dumps(first).encode()
    folder, account, _ = key.rsplit("/", 2)
    beside = key_beside("0001.json", sha256(content).hexdigest())
    other = f"{folder}/{name.replace('ACCOUNT', account).replace('BESIDE', beside)}"
    del w.bucket.versions[key]
    w.bucket.put(other, content)
    w.bucket.queue = {name: each for name, each in w.bucket.queue.items() if each and each.key == other}
    w.seal()

    assert (("disagrees", other) in w.found(is_offline=True)) == is_found
    changes = {"evidence_key": other, "evidence_sha256": sha256(content).hexdigest()}
    w.rows.rows[0] = w.rows.rows[0].model_copy(update=changes)
    assert [each for each in w.found() if each[1] == other] == [("disagrees", other)] * 2 * is_found


def test_an_object_that_is_being_sealed_is_pending() -> None:
    w = VerifyWorld.with_batches(1)
    w.enforce(9)

    found = w.verification()

    assert (found.findings, found.pending) == ((), 1)


def test_a_batch_that_is_being_completed_is_no_finding_for_twenty_minutes() -> None:
    w = VerifyWorld.with_batches(1, 1)
    w.enforce(9)
    w.steps.fail("sign", KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        w.seal()

    assert w.found() == []
    w.clock.advance(20 * 60 + 1)
    assert w.found() == [("missing", checkpoint_key(2))]


@pytest.mark.parametrize("missing", [batch_key(1), f"{LOG}{bundle_path(0, 6)}"])
def test_one_of_the_two_copies_of_the_leaves_is_enough_to_say_what_was_changed(missing: str) -> None:
    w = VerifyWorld.with_batches(2, 2)
    del w.bucket.versions[missing]

    assert w.found() == [("missing", missing)]


@pytest.mark.parametrize("number", [4, 999_999_990])
@pytest.mark.parametrize("copied", [[0], [1], [0, 1], [1, 0]], ids=str)
def test_an_earlier_checkpoint_under_a_later_number_does_not_cut_the_log_off(number: int, copied: list[int]) -> None:
    w = VerifyWorld.with_batches(2, 2, 1, 1)
    last = w.checkpoints()[-1]
    inserted = [checkpoint_key(number + at) for at in range(len(copied))]
    for key, each in zip(inserted, copied, strict=True):
        w.bucket.put(key, body(w, checkpoint_key(each)), announced=False)
        stored(w, key).at -= timedelta(minutes=21)

    found = w.verification()

    assert (found.size, found.root) == (last.size, last.root.hex())
    assert [(each.kind.value, each.what) for each in found.findings] == [("inserted", each) for each in inserted]


def test_what_is_written_over_the_log_does_not_keep_a_verification_from_the_first_versions() -> None:
    w = VerifyWorld.with_batches(300, 2, 1)
    last = w.checkpoints()[-1]
    changed = [batch_key(1), f"{LOG}{bundle_path(0, 256)}", f"{LOG}{bundle_path(1, 50)}", checkpoint_key(2)]
    for key in changed[:3]:
        w.bucket.put(key, body(w, key)[::-1], announced=False)
    w.bucket.delete(changed[3])

    found = w.verification()

    assert (found.size, found.root) == (last.size, last.root.hex())
    kinds = ["inserted"] * 3 + ["missing"]
    assert sorted((each.kind.value, each.what) for each in found.findings) == sorted(zip(kinds, changed, strict=True))


def test_if_both_copies_of_leaves_were_changed_the_log_is_verified_up_to_there() -> None:
    w = VerifyWorld.with_batches(2, 2, 2)
    before, last = w.checkpoints()[1:]
    for key in (batch_key(2), f"{LOG}{bundle_path(0, 9)}"):
        rewrite(w, key, body(w, key).replace(b"0001.json", b"0002.json"))

    found = w.verification()

    assert (found.size, found.root, found.valid) == (before.size, before.root.hex(), 4)
    [lost, *_] = [each for each in found.findings if (each.kind, each.what) == (FindingKind.CHANGED, checkpoint_key(2))]
    assert f"signs {last.size} leaves" in lost.meaning
    assert f"only to {before.size}:" in lost.meaning


@pytest.mark.parametrize("number", [2, 999_999_999])
@pytest.mark.parametrize("size", [5, 6, 7, 300, 10**15, 2**63, 10**19 - 1])
def test_a_checkpoint_that_a_stolen_key_signed_does_not_keep_a_log_from_being_verified(number: int, size: int) -> None:
    w = VerifyWorld.with_batches(2, 2)
    last = w.checkpoints()[-1]
    forged = Checkpoint(ORIGIN, size, bytes(32))
    w.bucket.put(key := checkpoint_key(number), forged.note(w.sealer.verifier_key, w.signer.sign(forged.body())))
    stored(w, key).at -= timedelta(minutes=21)

    found = w.verification()

    assert (found.size, found.root, found.valid) == (last.size, last.root.hex(), 4)
    assert {each.what for each in found.findings} == {key}


@pytest.mark.parametrize("number", [2, 999_999_999])
@pytest.mark.parametrize("key", [batch_key, checkpoint_key], ids=["batch", "checkpoint"])
def test_an_object_of_the_log_under_another_key_does_not_end_the_verification(
    key: Callable[[int], str], number: int
) -> None:
    w = VerifyWorld.with_batches(2, 2)
    w.bucket.put(planted := key(number), announced=False)
    stored(w, planted).at -= timedelta(minutes=21)
    w.sealed_bucket.foreign.add(planted)

    found = w.verification()

    assert found.valid == 4
    assert planted in {each.what for each in found.findings}


def test_a_log_that_grows_while_it_is_listed_has_no_findings() -> None:
    w = VerifyWorld.with_batches(2, 2)
    listed = w.sealed_bucket.listed

    def growing(prefix: str) -> Iterator[Listed]:
        yield from list(listed(prefix))
        if prefix in {BATCHES, CHECKPOINTS}:
            w.seal()
            w.seal()

    w.sealed_bucket.listed = growing  # type: ignore[method-assign]

    assert w.found() == []


def test_a_log_whose_leaves_lead_to_no_signed_root_is_not_verified() -> None:
    w = VerifyWorld.with_batches(2, 2)
    for key in (batch_key(0), f"{LOG}{bundle_path(0, 6)}"):
        del w.bucket.versions[key]

    with pytest.raises(PermanentError, match="neither the entry bundles nor the batches"):
        w.verification()


@pytest.mark.parametrize("prefix", ["log/batches/", "log/checkpoints/"])
def test_an_object_with_the_highest_number_does_not_keep_a_verification_busy(prefix: str) -> None:
    w = VerifyWorld.with_batches(1, 1)
    w.bucket.put(key := f"{prefix}999/999/999", announced=False)
    stored(w, key).at -= timedelta(minutes=21)

    found = w.found()

    assert ("inserted", key) in found
    assert (("missing", batch_key(2)) in found) == (prefix == "log/batches/")
    assert len(w.sealed_bucket.fetched) < 50


@pytest.mark.parametrize("content", [b"", b"hello", b"{}\n"])
def test_something_else_under_the_key_of_the_next_batch_is_found(content: bytes) -> None:
    w = VerifyWorld.with_batches(1, 1)
    w.bucket.put(batch_key(2), content, announced=False)

    assert ("changed", batch_key(2)) in w.found()


def test_a_log_that_another_key_signed_is_not_verified() -> None:
    w = VerifyWorld.with_batches(1)
    other = VerifierKey(ORIGIN, bytes(32))

    with pytest.raises(PermanentError) as error:
        w.verification(keys=[other])

    assert error.value.fault.code == "NOT_SIGNED"
    assert f"no checkpoint (1 are there) is signed by the key {ORIGIN}+{other.id.hex()};" in str(error.value)
    assert f"of {checkpoint_key(0)}: no signature of this checkpoint is by the log's key" in str(error.value)


def test_a_key_of_another_log_is_named_with_the_log() -> None:
    w = VerifyWorld.with_batches(1)

    with pytest.raises(PermanentError, match=f"is a checkpoint of the log '{ORIGIN}', not of 'another/log'"):
        w.verification(keys=[VerifierKey("another/log", w.sealer.verifier_key.public)])


def test_a_log_whose_checkpoints_are_all_gone_is_not_a_new_one() -> None:
    w = VerifyWorld.with_batches(1)
    w.bucket.versions.pop(checkpoint_key(0))

    with pytest.raises(PermanentError, match=r"NOT_SIGNED.* batches .1., and no checkpoint is there"):
        w.verification()


def test_a_log_without_anything_is_a_new_one() -> None:
    with pytest.raises(PermanentError, match="NO_CHECKPOINT"):
        VerifyWorld().verification()


def test_checkpoints_that_an_earlier_key_signed_are_valid_if_it_is_given() -> None:
    w = VerifyWorld.with_batches(1)
    earlier = w.sealer.verifier_key
    w.signer.private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    w.seal()

    assert [each.what for each in w.verification().findings] == [checkpoint_key(0)]
    assert w.verification(keys=[earlier, w.sealer.verifier_key]).findings == ()


def test_a_period_is_about_the_objects_that_were_stored_in_it() -> None:
    w = VerifyWorld.with_batches(2, 3)
    period = Period(since=NOON + timedelta(minutes=10))
    before, after = sorted(w.bucket.versions, key=lambda key: w.bucket.versions[key][0].at)[:2], keys(w)

    assert w.verification(period=period).valid == 3
    rewrite(w, before[0], b"{}")
    assert w.verification(period=period, is_offline=True).findings == ()
    del w.bucket.versions[next(each for each in after if each not in before)]
    found = w.verification(period=period, is_offline=True)
    assert ({each.kind for each in found.findings}, found.since) == ({FindingKind.MISSING}, period.since)


def test_a_batch_with_a_time_in_the_future_is_found() -> None:
    w = VerifyWorld.with_batches(1)
    w.clock.advance(-2 * 3600)

    assert ("gap", batch_key(0)) in w.found(is_offline=True)


def test_a_digest_with_twelve_digits_in_a_row_is_no_account_id() -> None:
    w = VerifyWorld()
    key = f"acts/2026/11/25/{ACCOUNT_IN_KEY}{'a' * 20}/done.json"
    w.bucket.put(key)
    w.seal()
    del w.bucket.versions[key]

    assert w.found() == [("missing", key)]


def test_an_event_id_that_holds_an_account_id_is_not_repeated() -> None:
    w = VerifyWorld.with_batches(1)
    w.rows.rows.append(w.rows.rows[0].model_copy(update={"event_id": f"event-{ACCOUNT_IN_KEY}"}))
    w.bucket.put(f"evidence/2026/11/25/{ACCOUNT_IN_KEY}/none/0001.json", announced=False)

    found = w.verification()

    assert len(found.findings) >= 2
    assert ACCOUNT_IN_KEY not in found.model_dump_json()


def test_another_size_is_seen_in_the_listing() -> None:
    w = VerifyWorld.with_batches(2)
    rewrite(w, keys(w)[0], b"{}")

    assert w.found(is_quick=True) == [("changed", keys(w)[0])]


def test_an_object_whose_bytes_s3_did_not_return_when_it_was_sealed_is_not_ours() -> None:
    w = VerifyWorld.with_batches(2)
    leaves = batches(w)
    leaf = leaves[0][1]
    assert isinstance(leaf, SealedObject)
    leaves[0][1] = leaf.model_copy(update={"sha256": None})
    w.write_log(leaves)

    assert ("inserted", leaf.key) in w.found()


def test_an_account_id_in_the_content_of_evidence_is_not_repeated() -> None:
    w = VerifyWorld()
    key = w.enforce(1)
    changed = body(w, key).replace(b'"event-1"', f'"{ACCOUNT}"'.encode())
    w.bucket.versions.pop(key)
    w.bucket.put(key, changed)
    w.seal()

    [found] = [each for each in w.verification().findings if each.what == key and "belongs under" in each.meaning]

    assert "[account]" in found.meaning
    assert ACCOUNT not in found.meaning


def test_a_key_that_holds_an_account_id_is_not_repeated() -> None:
    w = VerifyWorld.with_batches(1)
    w.bucket.put(f"evidence/{ACCOUNT_IN_KEY}.json", announced=False)

    [found] = w.verification().findings
    assert found.kind is FindingKind.INSERTED
    assert ACCOUNT_IN_KEY not in found.model_dump_json()


def test_objects_in_the_archive_are_left_out_and_their_locks_are_compared() -> None:
    w = VerifyWorld()
    keys = [w.enforce(number) for number in range(3)]
    w.seal()
    w.sealed_bucket.archived = set(keys[:2])
    whole = w.verification()

    assert not whole.findings
    assert whole.left_out == {"bytes of archived objects": "2 must be restored in S3 before they can be read"}
    assert whole.valid == 1
    [stored] = w.bucket.versions[keys[0]]
    stored.retain_until = w.clock.now() + timedelta(days=1)
    [finding] = w.verification().findings
    assert (finding.kind, finding.what) == (FindingKind.WEAKENED, keys[0])


def test_what_only_a_batch_that_nobody_signed_names_is_not_sealed() -> None:
    """Whoever may write to the bucket can put a batch there, with any time, and has no key."""
    for days in (-1, 20_000):
        w = VerifyWorld.with_batches(2)
        forged = w.bucket.put("evidence/2026/11/25/event-z/none/0001.json", b"{}", announced=False)
        w.clock.advance(5000)
        number, size = len(w.notes()), w.checkpoints()[-1].size
        [leaf] = w.bucket.describe([(forged, ObjectKind.EVIDENCE)])
        sealed_at = w.clock.now() + timedelta(days=days)
        header = SealedBatch(number=number, first=size, objects=1, sealed_at=sealed_at, compared_at=w.clock.now())
        w.bucket.put(batch_key(number), batch_bytes([header, leaf]), announced=False)

        found = {(each.kind, each.what) for each in w.verification().findings}

        assert (FindingKind.INSERTED, forged.key) in found
        assert (FindingKind.MISSING, checkpoint_key(number)) in found


def test_an_object_that_was_not_locked_when_it_was_sealed_is_weakened() -> None:
    w = VerifyWorld()
    key = w.enforce(1)
    w.bucket.versions[key][0].retain_until = w.bucket.versions[key][0].lock = None
    w.seal()

    assert [(each.kind, each.what) for each in w.verification().findings] == [(FindingKind.WEAKENED, key)]


def test_retention_that_may_not_be_read_is_left_out() -> None:
    w = VerifyWorld.with_batches(1)
    w.sealed_bucket.knows_locks = False

    found = w.verification()

    assert found.findings == ()
    assert set(found.left_out) == {"retention"}


def test_many_findings_of_one_kind_hide_none_of_another() -> None:
    """Whoever may write to the bucket can plant any number of objects, more than a report describes."""
    w = VerifyWorld.with_batches(2)
    for number in range(MAX_DESCRIBED + 5):
        w.bucket.put(f"acts/{number:05d}.json", announced=False)
    last = keys(w)[-1]
    rewrite(w, last, body(w, last)[::-1])

    found = w.verification(is_offline=True)

    assert found.found[FindingKind.INSERTED] == MAX_DESCRIBED + 5
    kinds = [each.kind for each in found.findings]
    assert (kinds.count(FindingKind.INSERTED), kinds.count(FindingKind.CHANGED)) == (MAX_DESCRIBED, 1)
    assert "1,006 were found; the first 1,000 of each kind are described" in found.left_out["findings"]


# ---------------------------------------------------------------- resuming


def interrupted() -> VerifyWorld:
    """Return a world with a verification that was interrupted when most objects were read."""
    w = VerifyWorld.with_batches(1100, 1)
    w.sealed_bucket.interrupt_after = 1095
    with pytest.raises(KeyboardInterrupt):
        w.verification()
    w.sealed_bucket.interrupt_after = None
    w.sealed_bucket.fetched.clear()
    return w


def read(w: VerifyWorld) -> list[str]:
    return [each for each in w.sealed_bucket.fetched if each.startswith("evidence/")]


def test_what_was_read_before_an_interrupt_is_not_read_again() -> None:
    w = interrupted()
    begun_at = w.clock.now()
    w.clock.advance(60)

    found = w.verification(is_offline=True)

    assert (found.findings, found.valid, found.begun_at) == ((), 1101, begun_at)
    assert 0 < len(read(w)) < 60
    assert w.progress.kept is None, "it is complete"


def test_what_was_sealed_since_an_interrupt_is_read() -> None:
    w = interrupted()
    new = [w.enforce(number) for number in range(2000, 2010)]
    w.seal()
    rewrite(w, new[0], body(w, new[0])[::-1])

    assert ("changed", new[0]) in w.found(is_offline=True)
    assert set(new) <= set(read(w))


def test_what_was_wrong_before_an_interrupt_is_read_again() -> None:
    w = VerifyWorld.with_batches(1100)
    key = keys(w)[0]
    content = body(w, key)
    rewrite(w, key, b"{}" + content[2:])
    w.sealed_bucket.interrupt_after = 1095
    with pytest.raises(KeyboardInterrupt):
        w.verification(is_offline=True)
    w.sealed_bucket.interrupt_after = None

    assert w.found(is_offline=True) == [("changed", key)]


@pytest.mark.parametrize(
    "changes", [{"root": "0" * 64}, {"size": 5000}, {"keys": ("another",)}, {"since": NOON}], ids=str
)
def test_progress_of_another_log_key_or_period_is_not_used(changes: dict[str, object]) -> None:
    w = interrupted()
    assert w.progress.kept
    w.progress.kept = w.progress.kept.model_copy(update=changes)

    w.verification(is_offline=True)

    assert len(read(w)) == 1101


def test_progress_that_is_older_than_a_day_is_not_used() -> None:
    w = interrupted()
    w.clock.advance(86401)

    w.verification(is_offline=True)

    assert len(read(w)) == 1101


# ---------------------------------------------------------------- any change


@dataclass
class Mutation:
    """One change of the bucket's content, chosen by numbers."""

    kind: str
    which: int
    other: int

    def apply(self, w: VerifyWorld) -> None:
        """Change the bucket."""
        every = sorted(w.bucket.versions)
        key, other = every[self.which % len(every)], every[self.other % len(every)]
        getattr(self, self.kind)(w, key, other)

    def change(self, w: VerifyWorld, key: str, _other: str) -> None:
        content = bytearray(body(w, key))
        content[self.other % len(content)] ^= 1 << self.other % 8
        rewrite(w, key, bytes(content))

    def truncate(self, w: VerifyWorld, key: str, _other: str) -> None:
        rewrite(w, key, body(w, key)[: self.other % len(body(w, key))])

    def extend(self, w: VerifyWorld, key: str, _other: str) -> None:
        rewrite(w, key, body(w, key) + b"\n")

    def delete(self, w: VerifyWorld, key: str, _other: str) -> None:
        del w.bucket.versions[key]

    def mark(self, w: VerifyWorld, key: str, _other: str) -> None:
        w.bucket.delete(key)

    def insert_a_version(self, w: VerifyWorld, key: str, other: str) -> None:
        w.bucket.put(key, body(w, other), announced=False)

    def insert_an_object(self, w: VerifyWorld, key: str, other: str) -> None:
        folder = key.rpartition("/")[0]
        w.bucket.put(new := f"{folder}/{self.which:04d}.json", body(w, other), announced=False)
        w.bucket.versions[new][0].at -= timedelta(minutes=76)

    def swap(self, w: VerifyWorld, key: str, other: str) -> None:
        first, second = body(w, key), body(w, other)
        if first == second:
            self.delete(w, key, other)
        else:
            rewrite(w, key, second)
            rewrite(w, other, first)


MUTATIONS = st.builds(
    Mutation,
    st.sampled_from(["change", "truncate", "extend", "delete", "mark", "insert_a_version", "insert_an_object", "swap"]),
    st.integers(5000, 9999),
    st.integers(0, 100_000),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), MUTATIONS)
def test_any_single_change_of_the_bucket_has_a_finding(sizes: list[int], mutation: Mutation) -> None:
    w = VerifyWorld.with_batches(*sizes)
    assert w.found() == []

    mutation.apply(w)

    try:
        assert w.found()
    except PermanentError as error:
        # Without a signed checkpoint, or with both copies of a leaf changed, there is nothing to compare with.
        assert (error.fault.code, len(sizes)) == ("NOT_SIGNED", 1) or mutation.kind == "swap"  # noqa: PT017 - as above
