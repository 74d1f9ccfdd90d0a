"""Verifying a bucket of moto's that the adapters sealed: versions, delete markers, locks, and what is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from handlers.aws.s3_evidence import S3Archive
from handlers.aws.s3_objects import S3EvidenceObjects
from handlers.aws.s3_verify import S3SealedBucket
from handlers.core.errors import Cause, RetryableError
from handlers.core.evidence.checkpoint import VerifierKey
from handlers.core.evidence.sealing import Announced, ObjectVersion, SealDependencies, Sealer
from handlers.core.evidence.verify import Verifier, VerifyDependencies, VerifyRequest
from handlers.core.evidence.verifying import MAX_KEPT, Fetched, Wanted
from handlers.operate.signatures import is_signed
from handlers.operate.sorted_records import SortedRecords
from schemas.keys import LOG, checkpoint_key
from tests.fakes import FakeClock, Steps
from tests.integration.conftest import client
from tests.sealing import ORIGIN, FakeIndex, FakeSigner
from tests.verifying import FakeProgress, VerifyWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schemas.verification import Verification

BODY = b'{"attempt": 1}'
KEY_ARN = "arn:aws:kms:us-east-1:999999999999:key/ours"


class Announcements:
    """A queue whose messages were all received."""

    def receive(self) -> Sequence[Announced]:
        return []

    def delete(self, receipts: Sequence[str]) -> None:
        assert not receipts


class SealedInMoto:
    """A bucket with sealed evidence."""

    def __init__(self, bucket: str) -> None:
        self.s3, self.bucket, self.clock, steps = client("s3"), bucket, FakeClock(), Steps()
        self.clock.time = datetime.now(UTC)
        self.signer = FakeSigner(steps)
        archive = S3Archive(self.s3, bucket)
        world = VerifyWorld()
        self.keys = [world.enforce(number) for number in range(3)]
        for key in self.keys:
            stored = world.bucket.current(key)
            assert stored
            archive.record(key, stored.body or b"")
        objects = S3EvidenceObjects(self.s3, bucket, "")
        index = FakeIndex(steps)
        dependencies = SealDependencies(archive, objects, Announcements(), index, self.signer, None, None, self.clock)
        self.sealer = Sealer(ORIGIN, dependencies)
        for _ in range(2):
            self.sealer.run(self.clock.now() + timedelta(minutes=10))

    def verification(self, *, is_quick: bool = False) -> Verification:
        dependencies = VerifyDependencies(
            S3SealedBucket(self.s3, self.bucket, KEY_ARN),
            is_signed,
            SortedRecords,
            FakeProgress(),
            self.clock,
            lambda _part, _number: None,
        )
        keys = [VerifierKey(ORIGIN, self.signer.public_key())]
        return Verifier(dependencies, VerifyRequest(keys, is_quick=is_quick)).run().verification

    def found(self, *, is_quick: bool = False) -> list[tuple[str, str]]:
        return [(each.kind.value, each.what) for each in self.verification(is_quick=is_quick).findings]

    def erase(self, key: str) -> None:
        """Delete every version of a key, as whoever may bypass GOVERNANCE."""
        for each in self.s3.list_object_versions(Bucket=self.bucket, Prefix=key)["Versions"]:
            self.s3.delete_object(
                Bucket=self.bucket, Key=key, VersionId=each["VersionId"], BypassGovernanceRetention=True
            )


@pytest.fixture
def sealed(bucket: str) -> SealedInMoto:
    return SealedInMoto(bucket)


def test_a_bucket_that_nobody_changed_has_no_findings(sealed: SealedInMoto) -> None:
    found = sealed.verification()

    assert found.findings == ()
    assert (found.valid, found.checkpoints, found.left_out) == (3, 3, {})
    assert sealed.found(is_quick=True) == []


def a_delete_marker(sealed: SealedInMoto) -> tuple[str, str]:
    sealed.s3.delete_object(Bucket=sealed.bucket, Key=sealed.keys[0])
    return "missing", sealed.keys[0]


def a_deleted_version(sealed: SealedInMoto) -> tuple[str, str]:
    sealed.erase(sealed.keys[0])
    return "missing", sealed.keys[0]


def a_version_on_top(sealed: SealedInMoto) -> tuple[str, str]:
    sealed.s3.put_object(Bucket=sealed.bucket, Key=sealed.keys[0], Body=BODY)
    return "inserted", sealed.keys[0]


def an_older_version_restored_on_top(sealed: SealedInMoto) -> tuple[str, str]:
    # moto copies no object into a bucket with Object Lock.
    body = sealed.s3.get_object(Bucket=sealed.bucket, Key=sealed.keys[0])["Body"].read()
    sealed.s3.put_object(Bucket=sealed.bucket, Key=sealed.keys[0], Body=body)
    return "inserted", sealed.keys[0]


def a_foreign_object(sealed: SealedInMoto) -> tuple[str, str]:
    sealed.s3.put_object(Bucket=sealed.bucket, Key="acts/notes.txt", Body=BODY)
    return "inserted", "acts/notes.txt"


def a_deleted_checkpoint(sealed: SealedInMoto) -> tuple[str, str]:
    sealed.erase(checkpoint_key(1))
    return "missing", checkpoint_key(1)


def a_deleted_tile(sealed: SealedInMoto) -> tuple[str, str]:
    tile = f"{LOG}tile/0/000.p/1"
    sealed.erase(tile)
    return "missing", tile


SEEN_IN_THE_LISTING: list[Callable[[SealedInMoto], tuple[str, str]]] = [
    a_delete_marker,
    a_deleted_version,
    a_version_on_top,
    an_older_version_restored_on_top,
    a_foreign_object,
    a_deleted_checkpoint,
    a_deleted_tile,
]


@pytest.mark.parametrize("is_quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("change", SEEN_IN_THE_LISTING, ids=lambda each: each.__name__.replace("_", " "))
def test_what_the_listing_shows_is_found(
    sealed: SealedInMoto, change: Callable[[SealedInMoto], tuple[str, str]], *, is_quick: bool
) -> None:
    expected = change(sealed)

    assert sealed.found(is_quick=is_quick) == [expected]


@pytest.mark.parametrize("until", [timedelta(hours=1), timedelta(hours=23)], ids=str)
def test_a_shortened_retention_is_found(sealed: SealedInMoto, until: timedelta) -> None:
    """moto shortens a retention without a right to bypass it."""
    retention = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + until}
    sealed.s3.put_object_retention(Bucket=sealed.bucket, Key=sealed.keys[0], Retention=retention)

    assert sealed.found() == [("weakened", sealed.keys[0])]
    assert sealed.found(is_quick=True) == []


def test_a_longer_retention_is_no_finding(sealed: SealedInMoto) -> None:
    retention = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=2)}
    sealed.s3.put_object_retention(Bucket=sealed.bucket, Key=sealed.keys[0], Retention=retention)

    assert sealed.found() == []


# The adapter


def test_versions_and_markers_are_listed_in_the_order_of_keys_over_all_pages(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = client("s3")
    keys = [f"evidence/{name}" for name in ("a", "a/b", "a-b", "\u00e9", "z")]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=BODY)
    s3.put_object(Bucket=bucket, Key=keys[0], Body=b"another")
    s3.delete_object(Bucket=bucket, Key=keys[0])
    paginate = s3.get_paginator("list_object_versions").paginate
    monkeypatch.setattr(
        s3,
        "get_paginator",
        lambda _name: type(
            "Pages", (), {"paginate": lambda _, **more: paginate(**more, PaginationConfig={"PageSize": 2})}
        )(),
    )

    found = list(S3SealedBucket(s3, bucket, KEY_ARN).listed("evidence/"))

    assert [each.key for each in found] == sorted([*keys, keys[0], keys[0]], key=str.encode)
    assert sorted((each.is_marker, each.size) for each in found if each.key == keys[0]) == [
        (False, 7),
        (False, len(BODY)),
        (True, 0),
    ]


def test_objects_are_read_in_order_several_at_a_time_and_not_all_ahead(bucket: str) -> None:
    s3 = client("s3")
    for number in range(200):
        s3.put_object(Bucket=bucket, Key=f"evidence/{number:03d}", Body=b"%d" % number)
    asked = count()

    def wanted() -> Any:
        for number in range(200):
            next(asked)
            yield Wanted(f"evidence/{number:03d}", "", number)

    fetched = S3SealedBucket(s3, bucket, KEY_ARN).fetch(wanted())
    first = next(fetched)
    ahead = next(asked)
    found = [first, *fetched]

    assert ahead < 100
    assert [each.wanted.number for each in found] == [*range(200)]
    assert [each.body for each in found] == [b"%d" % number for number in range(200)]
    assert all(each.knows_lock and each.lock == "GOVERNANCE" for each in found)


def test_a_version_that_is_gone_or_a_delete_marker_is_missing(bucket: str) -> None:
    s3 = client("s3")
    s3.put_object(Bucket=bucket, Key="evidence/a", Body=BODY)
    s3.delete_object(Bucket=bucket, Key="evidence/a")
    wanted = [Wanted("evidence/a", "", 0), Wanted("evidence/none", "", 1)]

    assert [each.sha256 for each in S3SealedBucket(s3, bucket, KEY_ARN).fetch(wanted)] == [None, None]


def test_an_object_in_the_archive_has_its_lock_and_no_bytes() -> None:
    """Use Stubber: moto returns objects of every storage class."""
    s3, until = client("s3"), datetime(2033, 11, 26, tzinfo=UTC)
    with Stubber(s3) as stub:
        stub.add_client_error("get_object", "InvalidObjectState", "restore it first", 403)
        lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until}
        stub.add_response("head_object", lock, {"Bucket": "b", "Key": "evidence/a", "VersionId": "v"})

        [found] = S3SealedBucket(s3, "b", KEY_ARN).fetch([Wanted("evidence/a", "v", 0)])

    assert (found.is_archived, found.sha256, found.lock, found.retain_until) == (True, None, "GOVERNANCE", until)


def test_a_large_object_is_hashed_and_not_kept(bucket: str) -> None:
    s3, body = client("s3"), bytes(MAX_KEPT + 1)
    s3.put_object(Bucket=bucket, Key="acts/a", Body=body)

    [found] = S3SealedBucket(s3, bucket, KEY_ARN).fetch([Wanted("acts/a", "", 0)])

    assert (found.sha256, found.size, found.body) == (sha256(body).hexdigest(), len(body), None)


def stubbed(*answers: tuple[str, dict[str, Any] | str]) -> tuple[S3SealedBucket, Stubber]:
    s3 = client("s3")
    stubber = Stubber(s3)
    for operation, answer in answers:
        if isinstance(answer, str):
            stubber.add_client_error(operation, answer)
        else:
            stubber.add_response(operation, answer)
    stubber.activate()
    return S3SealedBucket(s3, "bucket", KEY_ARN), stubber


def unlocked() -> tuple[str, dict[str, Any]]:
    """Return S3's answer with an object that has no lock, or whose lock the caller may not read."""
    return "get_object", {"Body": StreamingBody(BytesIO(BODY), len(BODY))}


def fetch(bucket: S3SealedBucket) -> Fetched:
    [found] = bucket.fetch([Wanted("evidence/a", "v", 0)])
    return found


def test_a_lock_that_was_removed_is_told_from_one_that_may_not_be_read() -> None:
    removed, _ = stubbed(unlocked(), ("get_object_retention", "NoSuchObjectLockConfiguration"))
    found = fetch(removed)
    assert (found.knows_lock, found.retain_until) == (True, None)

    denied, stubber = stubbed(unlocked(), ("get_object_retention", "AccessDenied"), unlocked())
    assert not fetch(denied).knows_lock
    assert not fetch(denied).knows_lock
    stubber.assert_no_pending_responses()


@pytest.mark.parametrize(("code", "cause"), [("AccessDenied", Cause.ACCESS_DENIED), ("InternalError", Cause.OTHER)])
def test_an_object_that_s3_does_not_return_ends_the_verification(code: str, cause: Cause) -> None:
    bucket, _ = stubbed(("get_object", code), ("head_object", "403"))

    with pytest.raises(RetryableError) as raised:
        fetch(bucket)

    assert raised.value.cause is cause


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidRequest", "KMS.DisabledException"])
@pytest.mark.parametrize("head", [{"SSEKMSKeyId": KEY_ARN[:-4] + "another"}, "400"], ids=["another KMS key", "SSE-C"])
def test_an_object_under_another_key_does_not_end_the_verification(code: str, head: dict[str, Any] | str) -> None:
    """moto encrypts nothing, so S3's answers are those of its documentation."""
    bucket, _ = stubbed(("get_object", code), ("head_object", head))

    found = fetch(bucket)

    assert (found.sha256, found.is_foreign, found.absence) == (None, True, "another key encrypts it than ours")


@pytest.mark.parametrize("head", [{"SSEKMSKeyId": KEY_ARN}, {}, "403"], ids=["our key", "no KMS key", "denied"])
def test_what_the_caller_may_not_read_is_no_object_under_another_key(head: dict[str, Any] | str) -> None:
    bucket, _ = stubbed(("get_object", "AccessDenied"), ("head_object", head))

    with pytest.raises(RetryableError) as raised:
        fetch(bucket)

    assert raised.value.cause is Cause.ACCESS_DENIED


def test_the_version_that_was_sealed_is_read(bucket: str) -> None:
    s3 = client("s3")
    version = ObjectVersion("evidence/a", s3.put_object(Bucket=bucket, Key="evidence/a", Body=BODY)["VersionId"])
    s3.put_object(Bucket=bucket, Key="evidence/a", Body=b"another")

    [found] = S3SealedBucket(s3, bucket, KEY_ARN).fetch([Wanted(*version, 0)])

    assert found.body == BODY
