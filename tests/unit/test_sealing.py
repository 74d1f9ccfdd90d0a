"""Sealing: what the log contains after any history, also if an invocation is cut off at any call."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.evidence.checkpoint import open_note
from handlers.core.evidence.leaves import batch_bytes, bundle_bytes, leaf_bytes, read_batch, read_bundle, read_leaf
from handlers.core.evidence.sealing import MAX_BATCH, ObjectVersion, Sealed
from schemas.keys import batch_key, checkpoint_key
from schemas.sealed import MAX_UNCOPIED, MAX_WAITING, ObjectKind, SealedBatch, SealedDeletion, SealedObject
from tests.fakes import NOON, Killed
from tests.sealing import FakeIndex, FakeSigner, SealWorld, assert_extends, verified

if TYPE_CHECKING:
    from schemas.sealed import Leaf

ACCOUNT = "acct-0123456789abcdef0123456789abcdef"
ACTION = "0123456789abcdef0123456789abcdef"
DAY = 86_400
CHANGED = "LOG_CHANGED"


def evidence(number: int) -> str:
    return f"evidence/2026/11/25/event-{'abcdefghij'[number % 10]}/{ACCOUNT}/{number + 1:04d}.json"


def with_objects(count: int, *, announced: bool = True) -> SealWorld:
    w = SealWorld()
    for number in range(count):
        w.bucket.put(evidence(number), f'{{"n": {number}}}'.encode(), announced=announced)
    return w


def written(w: SealWorld) -> list[ObjectVersion]:
    """Return every version in the bucket, without the log's own objects."""
    return [
        ObjectVersion(key, each.version_id)
        for key, versions in w.bucket.versions.items()
        if not key.startswith("log/")
        for each in versions
    ]


# What the log contains


def test_what_was_announced_is_in_the_log_as_s3_describes_it() -> None:
    w = with_objects(2)

    done = w.seal()

    assert (done.objects, done.batches, done.checkpoints, done.size) == (2, 1, 1, 3)
    stored = w.bucket.versions[evidence(0)][0]
    assert w.leaves()[1] == SealedObject(
        kind=ObjectKind.EVIDENCE,
        key=evidence(0),
        version_id=stored.version_id,
        sha256=sha256(b'{"n": 0}').hexdigest(),
        size=8,
        modified_at=stored.at,
        retain_until=stored.retain_until,
        lock="GOVERNANCE",
    )
    assert w.sealed() == written(w)
    assert not w.bucket.queue


def test_an_idle_log_grows_too_and_says_when() -> None:
    w = with_objects(1)
    w.seal()
    w.clock.advance(1800)

    done = w.seal()

    assert (done.objects, done.batches, done.size) == (0, 1, 3)
    first, second = w.batches()
    assert (second.number, second.first, second.objects, second.sealed_at) == (1, 2, 0, w.clock.now())
    assert first.compared_at is None
    assert second.compared_at == first.sealed_at


def test_each_checkpoint_extends_the_one_before() -> None:
    w = with_objects(3)
    for _ in range(4):
        w.seal()
        w.clock.advance(1800)
        w.bucket.put(f"acts/2026/11/25/{ACTION}/intended.json")

    checkpoints = w.checkpoints()

    assert len(checkpoints) == 4
    for older, newer in pairwise(checkpoints):
        assert_extends(w.content, older, newer)


def test_the_log_grows_over_full_tiles() -> None:
    w = with_objects(300)
    w.seal()
    for number in range(300, 620):
        w.bucket.put(evidence(number))

    done = w.seal()

    assert done.size == 622
    assert w.sealed() == written(w)
    assert {key for key in w.bucket.versions if key.startswith("log/tile/0/") and ".p/" not in key} == {
        "log/tile/0/000",
        "log/tile/0/001",
    }


def test_more_objects_than_a_batch_takes_are_sealed_in_several() -> None:
    w = with_objects(MAX_BATCH + 5)

    done = w.seal()

    assert (done.objects, done.batches) == (MAX_BATCH + 5, 2)
    assert sorted(w.sealed()) == sorted(written(w))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (evidence(0), ObjectKind.EVIDENCE),
        (f"evidence/2026/11/25/event-a/{ACCOUNT}/0001-late-0123456789abcdef.json", ObjectKind.EVIDENCE),
        ("evidence/2026/11/25/event-a/none/0001.json", ObjectKind.EVIDENCE),
        ("evidence/2026/11/25/event-a/0001.json", ObjectKind.EVIDENCE),
        ("evidence/rehearsal/2026/11/25/event-a/0123456789abcdef.json", ObjectKind.REHEARSAL),
        (f"acts/2026/11/25/{ACTION}/done.json", ObjectKind.AUDIT),
        (f"configuration/2026/11/25/{ACTION}.json", ObjectKind.CONFIGURATION),
        (f"sweeps/2026/11/25/sweep-{'abcdefgp' * 4}.json", ObjectKind.SWEEP),
    ],
)
def test_objects_of_every_part_are_sealed(key: str, kind: ObjectKind) -> None:
    w = SealWorld()
    w.bucket.put(key)

    w.seal()

    (leaf,) = w.leaves()[1:]
    assert isinstance(leaf, SealedObject)
    assert (leaf.key, leaf.kind) == (key, kind)


@pytest.mark.parametrize(
    "key",
    [
        "configuration/2026/11/25/111122223333.json",
        f"acts/2026/11/25/{ACTION}/1111-2222-3333.json",
        "evidence/2026/11/25/1111-2222-3333/none/0001.json",
        "evidence/2026/11/25/event-111122223333/none/0001.json",
        "evidence/111122223333.json",
        "sweeps/someone@example.com",
    ],
)
def test_keys_that_may_hold_an_account_id_are_counted_and_not_sealed(key: str) -> None:
    w = SealWorld()
    w.bucket.put(key)

    done = w.seal()

    assert done.foreign == 1
    assert not w.sealed()
    assert not any(
        key.encode() in each.body for versions in w.bucket.versions.values() for each in versions if each.body
    )


def test_backups_are_not_sealed() -> None:
    w = SealWorld()
    w.bucket.put(f"backups/2026/11/25/{ACTION}.jsonl", announced=False)

    done = w.seal()

    assert (done.objects, done.foreign) == (0, 0)


# Announcements


def test_an_object_that_is_announced_twice_is_sealed_once() -> None:
    w = with_objects(1)
    w.bucket.announce(written(w)[0])
    w.seal()
    w.bucket.announce(written(w)[0])

    w.seal()

    assert w.sealed() == written(w)
    assert not w.bucket.queue


def test_messages_that_announce_nothing_are_deleted() -> None:
    w = SealWorld()
    w.bucket.announce(None)
    w.bucket.announce(ObjectVersion(evidence(7), "gone"))

    done = w.seal()

    assert done.foreign == 1, "a version that was there is gone, or S3 does not describe it"
    assert not w.sealed()
    assert not w.bucket.queue


def test_announcements_stay_until_their_objects_are_sealed() -> None:
    w = with_objects(2)
    w.steps.fail("sign", RetryableError(fault("KMS.DisabledException", "the key is disabled")))

    with pytest.raises(RetryableError):
        w.seal()

    assert len(w.bucket.queue) == 2
    w.seal()
    assert w.sealed() == written(w)


# The comparison with the bucket


def test_what_nobody_announced_is_found_once_a_day() -> None:
    w = SealWorld()
    w.seal()
    w.clock.advance(1800)
    w.bucket.put(evidence(1), announced=False)
    assert w.seal().objects == 0
    w.clock.advance(DAY)

    done = w.seal()

    assert (done.objects, done.unannounced, done.compared) == (1, 1, True)
    assert w.sealed() == written(w)


def test_what_was_there_before_is_sealed_and_not_called_unannounced() -> None:
    w = with_objects(10, announced=False)
    w.clock.advance(DAY)

    done = w.seal()

    assert (done.objects, done.unannounced) == (10, 0)
    assert sorted(w.sealed()) == sorted(written(w))


def test_an_object_that_is_about_to_be_announced_is_not_called_unannounced() -> None:
    w = SealWorld()
    w.seal()
    w.clock.advance(DAY)
    w.bucket.put(evidence(1), announced=False)

    done = w.seal()

    assert (done.objects, done.unannounced) == (1, 0)


def test_a_comparison_goes_on_in_the_next_invocation() -> None:
    w = with_objects(10, announced=False)
    w.steps.on_call = lambda name, when: w.clock.advance(60) if (name, when) == ("versions", "after") else None

    assert not w.seal(within=100).compared
    assert w.index.kept.comparison is not None
    assert not w.seal(within=100).compared
    while not w.seal(within=100).compared:
        pass

    assert sorted(w.sealed()) == sorted(written(w))


def test_a_delete_marker_and_an_older_version_are_in_the_log() -> None:
    w = with_objects(1)
    w.seal()
    w.clock.advance(DAY)
    w.bucket.delete(evidence(0))
    second = w.bucket.put(evidence(0), b"forged", announced=False)

    done = w.seal()

    assert (done.objects, done.deletions) == (2, 1)
    object_, marker = w.leaves()[-2:]
    assert isinstance(object_, SealedObject)
    assert isinstance(marker, SealedDeletion)
    assert (object_.version_id, marker.key) == (second.version_id, evidence(0))
    w.clock.advance(DAY)
    assert w.seal().objects == 0


@pytest.mark.parametrize(("name", "before"), [("sign", 1), ("add", 0), ("save", 3)])
def test_a_delete_marker_is_counted_although_the_invocation_fails_or_is_killed(name: str, before: int) -> None:
    w = with_objects(1)
    w.seal()
    w.clock.advance(DAY)
    w.bucket.delete(evidence(0))
    w.steps.fail(name, *[None] * before, RetryableError(fault("X.Y", "x")))
    failed = Sealed()
    w.bucket.received.clear()
    with pytest.raises(RetryableError):
        w.sealer.run(w.clock.now() + timedelta(minutes=10), failed)

    assert failed.deletions == 1, "the alarm does not wait for the next invocation"
    assert w.seal().deletions == 1, "an invocation that is killed reports nothing"
    assert w.seal().deletions == 0
    assert w.leaves().count(w.leaves()[-1]) == 1


def test_a_delete_marker_on_the_log_itself_is_counted_each_day() -> None:
    w = with_objects(1)
    w.seal()
    w.seal()
    w.bucket.delete(checkpoint_key(0))
    for _ in range(2):
        w.clock.advance(DAY)

        done = w.seal()

        assert (done.deletions, done.foreign, done.objects) == (1, 0, 0)


def test_rehearsals_may_expire() -> None:
    w = SealWorld()
    key = "evidence/rehearsal/2026/11/25/event-a/0123456789abcdef.json"
    w.bucket.put(key)
    w.bucket.delete(key)

    done = w.seal()

    assert (done.objects, done.deletions) == (2, 0)


# Objects whose SHA-256 S3 does not return


def test_an_object_waits_for_its_sha256_and_holds_up_no_other() -> None:
    w = with_objects(2)
    w.bucket.denied.add(evidence(0))

    done = w.seal()

    assert (done.objects, done.waiting, done.foreign) == (1, 1, 0)
    assert not w.bucket.queue
    w.clock.advance(1800)
    assert w.seal().waiting == 1
    w.bucket.denied.clear()

    assert (w.seal().waiting, w.seal().objects) == (0, 0)
    assert {each.key: each.sha256 for each in w.leaves() if isinstance(each, SealedObject)} == {
        evidence(number): sha256(f'{{"n": {number}}}'.encode()).hexdigest() for number in range(2)
    }


def test_an_object_is_sealed_without_its_sha256_after_it_has_waited_for_days() -> None:
    w = with_objects(2)
    w.bucket.denied.add(evidence(0))
    for _ in range(3):
        w.seal()
        w.clock.advance(DAY - 1)
    assert w.seal().waiting == 1
    w.clock.advance(3)

    done = w.seal()

    assert (done.objects, done.waiting) == (1, 0)
    assert {each.key: bool(each.sha256) for each in w.leaves() if isinstance(each, SealedObject)} == {
        evidence(0): False,
        evidence(1): True,
    }
    w.clock.advance(DAY)
    assert w.seal().objects == 0


def test_an_object_that_s3_denies_is_sealed_when_it_is_described_and_holds_up_no_other() -> None:
    w = with_objects(2)
    w.bucket.forbidden.add(evidence(0))

    done = w.seal()

    assert (done.objects, done.waiting, done.foreign) == (1, 1, 0)
    w.bucket.forbidden.clear()
    assert (w.seal().objects, w.index.kept.waiting) == (1, ())
    assert sorted(w.sealed()) == sorted(written(w))


def test_an_object_that_s3_denies_for_days_is_foreign_and_asked_about_again() -> None:
    w = with_objects(1)
    w.bucket.forbidden.add(evidence(0))
    assert w.seal().foreign == 0
    w.clock.advance(3 * DAY + 1)

    done = w.seal()

    assert (done.objects, done.foreign) == (0, 1)
    w.bucket.forbidden.clear()
    w.clock.advance(DAY)
    w.seal()
    assert w.sealed() == written(w)


def test_an_object_of_an_unsigned_batch_that_s3_denies_is_tried_again() -> None:
    w = with_objects(1)
    w.steps.fail("sign", RetryableError(fault("KMS.DisabledException", "the key is disabled")))
    with pytest.raises(RetryableError, match="disabled"):
        w.seal()
    w.bucket.forbidden.add(evidence(0))
    with pytest.raises(RetryableError, match="denies"):
        w.seal()
    w.bucket.forbidden.clear()

    w.seal()

    assert w.sealed() == written(w)


def test_the_time_of_an_object_does_not_shorten_its_wait() -> None:
    """The role of a new installation may be denied the evidence of years, which is there already."""
    w = with_objects(10, announced=False)
    w.clock.advance(999 * DAY)
    w.bucket.denied.update(w.bucket.versions)

    assert (w.seal().objects, w.seal().waiting) == (0, 10)
    w.bucket.denied.clear()
    assert w.seal().objects == 10


def test_more_objects_than_are_remembered_are_sealed_when_they_are_found_again() -> None:
    w = with_objects(MAX_WAITING + 50)
    w.bucket.denied.update(w.bucket.versions)
    assert (w.seal().waiting, len(w.bucket.queue)) == (MAX_WAITING, 0)
    w.bucket.denied.clear()
    w.clock.advance(DAY)

    w.seal()

    assert sorted(w.sealed()) == sorted(written(w))
    assert all(each.sha256 for each in w.leaves() if isinstance(each, SealedObject))


def test_objects_that_have_to_be_read_do_not_use_up_an_invocation() -> None:
    w = with_objects(40)
    w.bucket.slow = {evidence(number): 100 for number in range(30)}

    done = w.seal(within=600)

    assert (done.objects, done.waiting) == (13, 27), "three were read in half of the time"
    while w.seal(within=600).waiting:
        pass
    assert sorted(w.sealed()) == sorted(written(w))
    assert all(each.sha256 for each in w.leaves() if isinstance(each, SealedObject))


def test_an_object_that_no_invocation_has_the_time_to_read_is_sealed_without_its_sha256() -> None:
    w = with_objects(1)
    w.bucket.slow[evidence(0)] = 9999
    runs = 0
    while w.seal(within=600).waiting:
        w.clock.advance(1800)
        runs += 1

    assert runs == pytest.approx(3 * DAY / 2100, abs=1)
    [leaf] = [each for each in w.leaves() if isinstance(each, SealedObject)]
    assert (leaf.key, leaf.sha256) == (evidence(0), None)


def test_an_object_that_is_gone_is_not_waited_for() -> None:
    w = with_objects(1)
    w.bucket.denied.add(evidence(0))
    w.seal()
    w.bucket.versions.pop(evidence(0))

    assert w.seal().waiting == 0


def test_a_wait_that_began_in_the_future_is_over() -> None:
    """Whoever can write to the table must not keep an object from being sealed."""
    w = with_objects(1)
    w.bucket.denied.add(evidence(0))
    w.seal()
    [waiting] = w.index.kept.waiting
    forged = waiting.model_copy(update={"since": NOON + timedelta(days=9999)})
    w.index.kept = w.index.kept.model_copy(update={"waiting": (forged,)})

    assert w.seal().objects == 1


@pytest.mark.parametrize(
    ("changes", "completes"),
    [
        ({"retain_until": NOON + timedelta(days=9999)}, True),
        ({"lock": "COMPLIANCE"}, True),
        ({"retain_until": NOON + timedelta(days=1)}, False),
        ({"retain_until": None, "lock": None}, False),
        ({"body": b"another"}, False),
    ],
    ids=["later", "stronger", "earlier", "none", "bytes"],
)
def test_a_batch_is_completed_although_the_lock_of_its_objects_was_strengthened(
    changes: dict[str, Any],
    completes: bool,  # noqa: FBT001 - pytest passes a parameter
) -> None:
    w = with_objects(1)
    w.steps.fail("sign", RetryableError(fault("KMS.DisabledException", "the key is disabled")))
    with pytest.raises(RetryableError):
        w.seal()
    for name, value in changes.items():
        setattr(w.bucket.versions[evidence(0)][0], name, value)

    if completes:
        w.seal()
        assert w.sealed() == written(w)
    else:
        with pytest.raises(PermanentError, match="batch 0"):
            w.seal()


@pytest.mark.parametrize("has_waited", [False, True])
def test_a_batch_is_completed_although_the_sha256_of_its_objects_comes_and_goes(
    has_waited: bool,  # noqa: FBT001 - pytest passes a parameter
) -> None:
    w = with_objects(2)
    if has_waited:
        w.bucket.denied.add(evidence(0))
        w.seal()
        w.clock.advance(4 * DAY)
    w.steps.fail("sign", RetryableError(fault("KMS.DisabledException", "the key is disabled")))
    with pytest.raises(RetryableError, match="disabled"):
        w.seal()
    if not has_waited:
        w.bucket.denied.add(evidence(0))
        with pytest.raises(RetryableError, match="SHA-256"):
            w.seal()
    w.bucket.denied.clear()

    w.seal()

    assert sorted(w.sealed()) == sorted(written(w))
    assert w.index.kept.waiting == ()


# The index


def test_an_index_that_is_lost_is_restored_from_the_log() -> None:
    w = with_objects(3)
    w.seal()
    w.bucket.put(evidence(9))
    w.seal()
    w.index = FakeIndex(w.steps)

    done = w.seal()

    assert done.objects == 0
    assert w.index.versions == set(written(w))
    assert w.sealed() == written(w)


def test_a_log_is_continued_in_each_invocation_while_a_lost_index_is_restored() -> None:
    """Whoever writes nonsense to the table again and again must not keep evidence from being sealed."""
    w = SealWorld()
    for number in range(30):
        w.bucket.put(evidence(number))
        w.seal()
    w.index = FakeIndex(w.steps)
    # Each batch takes seconds to index.
    w.steps.on_call = lambda name, when: w.clock.advance(20) if (name, when) == ("add", "before") else None
    for number in range(30, 32):
        w.bucket.put(evidence(number))
        before = w.index.kept.indexed

        done = w.seal(within=300)

        assert (done.batches, done.objects, done.checkpoints) == (1, 1, 1)
        assert before < w.index.kept.indexed < 30
        assert not w.bucket.queue
    for _ in range(5):
        w.seal(within=300)

    assert w.sealed() == written(w)
    assert w.index.versions == set(written(w))
    assert w.index.kept.indexed == len(w.batches())


def test_an_index_that_names_what_was_never_sealed_hides_it_from_the_log() -> None:
    # `verify` finds it: the bucket has an object that the log lacks.
    w = with_objects(1)
    w.index.versions.update(written(w))

    w.seal()

    assert not w.sealed()


# A log that is not what it was


def test_nothing_is_sealed_if_the_last_batches_are_gone() -> None:
    w = with_objects(1)
    w.seal()
    w.seal()
    w.bucket.delete(batch_key(1))
    before = dict(w.bucket.versions)

    with pytest.raises(PermanentError, match="fewer batches than the 2") as error:
        w.seal()

    assert error.value.fault.code == CHANGED
    assert w.bucket.versions == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not a batch",
        b"{}\n",
        leaf_bytes(SealedBatch(number=0, first=0, objects=0, sealed_at=NOON)) + b"\n",
    ],
    ids=["empty", "text", "json", "another number"],
)
def test_nothing_is_sealed_after_something_that_is_no_batch(body: bytes) -> None:
    w = with_objects(1)
    w.seal()
    w.bucket.put(batch_key(1), body, announced=False)

    with pytest.raises(PermanentError, match="batch"):
        w.seal()


def test_nothing_is_sealed_on_tiles_that_do_not_lead_to_the_last_checkpoint() -> None:
    w = with_objects(1)
    w.seal()
    w.bucket.versions["log/tile/0/000.p/2"][0].body = bytes(64)

    with pytest.raises(PermanentError, match="do not lead to checkpoint 0"):
        w.seal()

    assert [open_note(each, w.sealer.verifier_key, verified).size for each in w.notes()] == [2]


@pytest.mark.parametrize("key", ["log/tile/0/000.p/2", "log/tile/entries/000.p/2", checkpoint_key(0)])
def test_nothing_is_signed_over_an_object_that_was_there_before(key: str) -> None:
    w = with_objects(1)
    w.bucket.put(key, b"forged", announced=False)

    with pytest.raises(PermanentError, match="holds another object"):
        w.seal()


@pytest.mark.parametrize(
    "key", ["log/batches/zzz", "log/batches/999/", "log/batches/999/zzz", "log/batches/000/000/zzz"]
)
def test_an_object_with_another_name_among_the_batches_does_not_stop_sealing(key: str) -> None:
    w = with_objects(1)
    w.seal()
    w.bucket.put(key, b"", announced=False)

    assert w.seal().batches == 1
    assert [each.number for each in w.batches()] == [0, 1]


def planted(w: SealWorld, *leaves: Leaf, **changes: Any) -> None:
    """Put a batch under the next number, as somebody would who may write to the bucket."""
    header = {"number": 1, "first": 2, "objects": len(leaves), "sealed_at": w.clock.now()} | changes
    w.bucket.put(batch_key(1), batch_bytes([SealedBatch.model_validate(header), *leaves]), announced=False)


@pytest.mark.parametrize(
    "changes",
    [{"first": 1}, {"first": 3}, {"sealed_at": NOON - timedelta(days=1)}, {"sealed_at": NOON + timedelta(days=9999)}],
    ids=["first is too small", "first is too large", "before the last batch", "in the future"],
)
def test_a_batch_that_does_not_follow_the_last_one_is_not_signed(changes: dict[str, Any]) -> None:
    w = with_objects(1)
    w.seal()
    planted(w, **changes)

    with pytest.raises(PermanentError, match="batch 1"):
        w.seal()

    assert len(w.notes()) == 1


def test_a_batch_that_names_what_the_bucket_does_not_have_is_not_signed() -> None:
    w = with_objects(1)
    w.seal()
    known = w.leaves()[1]
    assert isinstance(known, SealedObject)
    for changes in (
        {"key": evidence(7)},
        {"sha256": "0" * 64},
        {"retain_until": NOON + timedelta(days=9999)},
        {"lock": None},
    ):
        w.bucket.versions.pop(batch_key(1), None)
        planted(w, known.model_copy(update=changes))

        with pytest.raises(PermanentError, match="batch 1"):
            w.seal()
    assert len(w.notes()) == 1


def test_a_part_of_the_log_that_is_gone_is_named() -> None:
    w = with_objects(1)
    w.seal()
    w.bucket.delete("log/tile/0/000.p/2")

    with pytest.raises(PermanentError, match=r"log/tile/0/000\.p/2") as error:
        w.seal()

    assert error.value.fault.code == CHANGED


def test_the_time_of_the_last_comparison_outlives_the_index() -> None:
    w = with_objects(1)
    w.seal()
    w.seal()
    w.index = FakeIndex(w.steps)
    w.clock.advance(1800)

    w.seal()

    assert w.batches()[-1].compared_at == w.batches()[-2].compared_at is not None


def test_a_table_that_is_restored_to_an_earlier_moment_does_not_set_the_last_comparison_back() -> None:
    w = with_objects(1)
    w.seal()
    earlier = w.index.kept
    w.clock.advance(DAY)
    w.seal()
    w.seal()
    w.index.kept = earlier
    w.clock.advance(1800)

    w.seal()

    first, *_, before, last = w.batches()
    assert first.compared_at is None
    assert last.compared_at == before.compared_at == NOON + timedelta(days=1)


def test_two_invocations_do_not_continue_the_log_differently() -> None:
    w = with_objects(1)
    w.seal()
    other = with_objects(0)
    other.bucket, other.index, other.steps = w.bucket, w.index, w.steps
    reached: list[bool] = []

    def race(name: str, when: str) -> None:
        # The other invocation runs when this one is about to store its batch.
        if (name, when) == ("record", "before") and not reached:
            reached.append(True)
            other.bucket.put(evidence(5))
            other.seal()

    w.steps.on_call = race
    w.bucket.put(evidence(6))
    done = w.seal()
    w.steps.on_call = lambda _name, _when: None

    assert done.overtaken
    assert done.batches == 0
    w.seal()
    assert sorted(w.sealed()) == sorted(written(w))
    assert len(w.checkpoints()) == 3


def test_a_second_signature_of_the_same_checkpoint_is_no_conflict() -> None:
    class Random(FakeSigner):
        """Its signatures differ, as those of other algorithms do."""

        def sign(self, message: bytes) -> bytes:
            return super().sign(message)[:-1] + bytes([self.steps.count("sign")])

    w = with_objects(1)
    w.signer = Random(w.steps)

    def race(name: str, when: str) -> None:
        # The other invocation completes the batch that this one is about to complete.
        if (name, when) == ("sign", "before") and w.steps.count("sign") == 1:
            w.seal()

    w.steps.on_call = race
    done = w.seal()

    assert done.batches == 1
    assert len(w.notes()) == 2
    assert w.index.versions == set(written(w))


# Copies of checkpoints


def test_every_checkpoint_is_copied_once_and_in_order() -> None:
    w = with_objects(1)
    w.seal()
    w.steps.fail("copy", RetryableError(fault("S3.AccessDenied", "denied")))

    failed = w.seal()

    assert (failed.behind, failed.batches) == (1, 1)
    assert failed.copy_fault
    assert failed.copy_fault.code == "S3.AccessDenied"
    assert w.seal().behind == 0
    assert w.copies.notes == dict(enumerate(w.notes()))
    assert w.steps.count("copy") == 4


@pytest.mark.parametrize("copied", [1, 2, 3, 999])
def test_a_checkpoint_that_was_just_signed_is_copied_whatever_the_table_says(copied: int) -> None:
    """Whoever can write to the table must not keep a copy from being made."""
    w = SealWorld()
    w.seal()
    w.index.kept = w.index.kept.model_copy(update={"copied": copied})

    done = w.seal()

    assert done.behind == 0
    assert w.copies.notes[1] == w.notes()[1]


@pytest.mark.parametrize(("fails", "other"), [("copy", "topic"), ("publish", "copies")])
def test_one_destination_of_checkpoints_does_not_hold_up_the_other(fails: str, other: str) -> None:
    w = SealWorld()
    denied = RetryableError(fault("X.AccessDenied", "denied"))
    # The second invocation tries both checkpoints to copy, and publishes the newest.
    w.steps.fail(fails, denied, denied, denied)

    for number in range(2):
        done = w.seal()
        assert getattr(w, other).notes[number] == w.notes()[number]
        assert bool(done.copy_fault) is (fails == "copy")
        assert bool(done.topic_fault) is (fails == "publish")
        assert (done.behind, done.unpublished) == ((number + 1, 0) if fails == "copy" else (0, 1))


def test_a_checkpoint_that_cannot_be_copied_holds_up_no_other_and_is_tried_again() -> None:
    w = SealWorld()
    for _ in range(30):
        w.seal()
    w.copies.notes.clear()
    w.index = FakeIndex(w.steps)
    w.copies.denied = {0, 7}

    done = w.seal()

    assert (done.behind, bool(done.copy_fault)) == (2, True)
    assert w.copies.notes == {number: note for number, note in enumerate(w.notes()) if number not in {0, 7}}
    before = w.steps.count("copy")
    assert w.seal().behind == 2
    assert w.steps.count("copy") == before + 1, "what was copied is not asked for again"
    w.copies.denied.clear()
    assert w.seal().behind == 0
    assert w.copies.notes == dict(enumerate(w.notes()))


def test_copies_that_all_fail_are_not_all_tried_in_each_invocation() -> None:
    w = SealWorld()
    for _ in range(30):
        w.seal()
    w.copies.notes.clear()
    w.index = FakeIndex(w.steps)
    w.copies.denied = set(range(30))
    assert w.seal().behind == 30

    before = w.steps.count("read")
    done = w.seal()

    assert (done.behind or 0) >= 30
    assert w.copies.notes[31] == w.notes()[31]
    assert w.steps.count("read") - before < 2 * MAX_UNCOPIED
    w.copies.denied.clear()
    assert w.seal().behind == 0
    assert w.copies.notes == dict(enumerate(w.notes()))


def test_a_lost_table_publishes_only_the_newest_checkpoint_and_copies_what_is_missing() -> None:
    w = SealWorld()
    for _ in range(5):
        w.seal()
    del w.copies.notes[2]
    w.index = FakeIndex(w.steps)
    w.topic.notes.clear()

    done = w.seal()

    assert done.behind == 0
    assert w.topic.notes == {5: w.notes()[5]}
    assert w.copies.notes == dict(enumerate(w.notes()))


def test_only_the_newest_checkpoint_of_an_invocation_is_published() -> None:
    w = with_objects(MAX_BATCH + 5)

    w.seal()

    assert w.topic.notes == {1: w.notes()[1]}
    assert w.copies.notes == dict(enumerate(w.notes()))


def test_a_copy_of_another_checkpoint_is_reported_and_holds_up_no_other() -> None:
    w = SealWorld()
    w.copies.notes[1] = b"another log"
    w.seal()

    done = w.seal()
    assert (done.different, done.behind) == (1, 0)
    assert done.copy_fault
    assert done.copy_fault.code == "CHECKPOINT_DIFFERS"

    done = w.seal()
    assert (done.different, done.behind, done.copy_fault) == (0, 0, None)
    assert w.copies.notes == dict(enumerate(w.notes())) | {1: b"another log"}


# Killed at any call


def history(w: SealWorld) -> None:
    """Seal twice, the second time with news of every kind and a comparison."""
    w.seal()
    w.clock.advance(DAY)
    for number in range(260):
        w.bucket.put(evidence(number), announced=number > 3)
    w.bucket.delete(evidence(0))


def calls() -> list[str]:
    w = SealWorld()
    w.bucket.listed = 200
    history(w)
    w.steps.log.clear()
    w.seal()
    return list(w.steps.log)


CALLS = calls()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(len(CALLS)), ids=lambda number: f"{number}-{CALLS[number]}")
def test_an_invocation_that_is_killed_at_any_call_seals_each_object_once(number: int, when: str) -> None:
    w = SealWorld()
    w.bucket.listed = 200
    history(w)
    left = [number]

    def die(_: str, at: str) -> None:
        if at == when:
            left[0] -= 1
            if left[0] == -1:
                raise Killed

    w.steps.on_call = die
    with pytest.raises(Killed):
        w.seal()
    w.steps.on_call = lambda _name, _when: None
    w.clock.advance(1800)
    # What arrives meanwhile must not change the batch that was begun.
    w.bucket.put(evidence(999))

    while not w.seal().compared and w.index.kept.comparison:
        pass

    assert sorted(w.sealed()) == sorted(written(w))
    assert w.index.versions == set(written(w))
    assert not w.bucket.queue
    assert [each.number for each in w.batches()] == list(range(len(w.checkpoints())))
    assert w.copies.notes == dict(enumerate(w.notes()))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_history_with_faults_is_sealed_in_the_end(data: st.DataObject) -> None:
    w = SealWorld()
    number = 0
    for _ in range(data.draw(st.integers(1, 6), label="invocations")):
        for _ in range(data.draw(st.integers(0, 5), label="objects")):
            version = w.bucket.put(evidence(number), announced=data.draw(st.booleans(), label="announced"))
            if data.draw(st.booleans(), label="twice"):
                w.bucket.announce(version)
            number += 1
        name = data.draw(st.sampled_from(["none", *sorted(set(CALLS))]), label="fault")
        error = RetryableError(fault("X.Y", "x"), ambiguous=data.draw(st.booleans(), label="ambiguous"))
        w.steps.fail(name, *[None] * data.draw(st.integers(0, 3), label="after"), error)
        try:
            w.seal()
        except RetryableError as raised:
            assert raised is error or raised.fault.code == "CHECKSUM_DENIED"  # noqa: PT017 - it may not be raised
        w.steps.forget()
        keys = st.lists(st.sampled_from([*w.bucket.versions] or [""]))
        w.bucket.denied = set(data.draw(keys, label="denied"))
        w.bucket.forbidden = set(data.draw(keys, label="forbidden"))
        w.clock.advance(data.draw(st.sampled_from([60, 1800, DAY]), label="seconds"))
    w.clock.advance(2 * DAY)
    w.bucket.denied.clear()
    w.bucket.forbidden.clear()

    while not w.seal().compared:
        pass

    assert sorted(w.sealed()) == sorted(written(w))
    assert w.copies.notes == dict(enumerate(w.notes()))
    sizes = [each.size for each in w.checkpoints()]
    assert sizes == sorted(sizes)


# Leaves


LEAVES: list[Leaf] = [
    SealedObject(
        kind=ObjectKind.AUDIT,
        key=f"acts/2026/11/25/{ACTION}/done.json",
        version_id="v",
        size=1,
        modified_at=NOON,
    ),
    SealedDeletion(key=evidence(1), version_id="v", modified_at=NOON),
    SealedBatch(number=0, first=0, objects=0, sealed_at=NOON),
]


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.kind)
def test_a_leaf_is_read_as_it_was_written(leaf: Leaf) -> None:
    assert read_leaf(leaf_bytes(leaf)) == leaf


def test_a_leaf_is_canonical_json() -> None:
    assert leaf_bytes(LEAVES[2]) == (
        b'{"first":0,"kind":"batch","number":0,"objects":0,"schema_version":"joinguard/leaf/1",'
        b'"sealed_at":"2026-11-24T12:00:00Z"}'
    )
    with pytest.raises(ValueError, match="canonical"):
        read_leaf(leaf_bytes(LEAVES[2]).replace(b'":', b'": '))


@given(key=st.text(min_size=1, max_size=40), size=st.integers(0, 2**53 - 1))
def test_a_leaf_is_canonical_as_rfc_8785_says(key: str, size: int) -> None:
    leaf = SealedObject.model_construct(
        kind=ObjectKind.EVIDENCE, key=key, version_id="v", sha256=None, size=size, modified_at=NOON
    )
    assert leaf_bytes(leaf) == rfc8785.dumps(leaf.model_dump(mode="json", exclude_none=True))


def test_no_leaf_has_an_integer_that_rfc_8785_does_not_have() -> None:
    leaf = leaf_bytes(LEAVES[2]).replace(b'"first":0', b'"first":9007199254740992')
    with pytest.raises(ValueError, match="what is sealed"):
        read_leaf(leaf)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_is_read_as_it_was_written(leaves: list[bytes]) -> None:
    assert read_bundle(bundle_bytes(leaves)) == leaves


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_bundle_that_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(PermanentError, match="cut off"):
        read_bundle(bundle_bytes([b"leaf", b"leaf"])[:-cut])


def test_a_batch_is_read_as_it_was_written() -> None:
    assert read_batch(batch_bytes(LEAVES)) == LEAVES
