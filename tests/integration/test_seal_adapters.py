"""The adapters of sealing: versions of objects, the index, announcements, signatures, copies of checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Any

import pytest
from botocore.stub import Stubber
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from handlers.aws.checkpoint_copies import S3CheckpointCopies, SnsCheckpointCopies
from handlers.aws.dynamodb_sealed import DynamoSealedIndex
from handlers.aws.kms_signer import KmsSigner
from handlers.aws.s3_evidence import S3Archive
from handlers.aws.s3_objects import S3EvidenceObjects
from handlers.aws.sqs_announcements import SqsAnnouncements
from handlers.core.errors import PermanentError, RetryableError
from handlers.core.evidence.sealing import Described, ListedVersion, ObjectVersion
from schemas.sealed import Comparison, ObjectKind, SealedObject, SealState
from tests.fakes import NOON
from tests.integration.conftest import RESOURCES, client
from tests.sealing import SealWorld, verified

KEY = "evidence/2026/11/25/event-a/none/0001.json"
BODY = b'{"attempt": 1}'
DIGEST = sha256(BODY).hexdigest()
NOTE = b"origin\n1\nroot\n\n\xe2\x80\x94 origin signature\n"


def kinds(*versions: ObjectVersion) -> list[tuple[ObjectVersion, ObjectKind]]:
    return [(each, ObjectKind.EVIDENCE) for each in versions]


# Versions of objects

#: The key that encrypts evidence, and one of somebody else.
OURS, OTHERS = (f"arn:aws:kms:us-east-1:{account}:key/{'1' * 8}" for account in ("1" * 12, "2" * 12))


def described(s3: Any, bucket: str, of: list[tuple[ObjectVersion, ObjectKind]]) -> list[SealedObject]:
    """Return what S3 says about versions; their SHA-256 will not follow."""
    found = S3EvidenceObjects(s3, bucket, OURS).describe(of, lambda: True)
    assert not any(each.may_follow for each in found)
    return [each.object for each in found if each.object]


@pytest.fixture
def locked(aws: None) -> str:  # noqa: ARG001 - used for its effect
    client("s3").create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    retention = {"Mode": "COMPLIANCE", "Days": 7}
    client("s3").put_object_lock_configuration(
        Bucket="locked",
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}},
    )
    return "locked"


def put(bucket: str, key: str = KEY, body: bytes = BODY, **more: Any) -> ObjectVersion:
    return ObjectVersion(key, client("s3").put_object(Bucket=bucket, Key=key, Body=body, **more)["VersionId"])


def test_a_version_is_described_with_its_checksum_and_its_lock(locked: str) -> None:
    version = put(locked, ChecksumAlgorithm="SHA256")
    until = client("s3").head_object(Bucket=locked, Key=KEY)["ObjectLockRetainUntilDate"]

    [found] = described(client("s3"), locked, kinds(version))

    assert (found.key, found.version_id, found.kind) == (*version, ObjectKind.EVIDENCE)
    assert (found.sha256, found.size) == (DIGEST, len(BODY))
    assert (found.lock, found.retain_until) == ("COMPLIANCE", until)
    assert found.modified_at.tzinfo is UTC


def test_an_object_without_a_sha256_is_read(locked: str) -> None:
    version = put(locked, ChecksumAlgorithm="CRC32")

    assert [each.sha256 for each in described(client("s3"), locked, kinds(version))] == [DIGEST]


@pytest.mark.parametrize("checks", [0, 1, 2, 3])
def test_an_object_without_a_sha256_is_read_only_while_there_is_time(locked: str, checks: int) -> None:
    """An object of two pieces is asked about three times: before, and at each piece."""
    version, body = put(locked, body=b"x" * 2**21, ChecksumAlgorithm="CRC32"), b"x" * 2**21
    answers = iter([True] * checks)

    [found] = S3EvidenceObjects(client("s3"), locked, OURS).describe(kinds(version), lambda: next(answers, False))

    assert found.object
    assert (found.object.sha256, found.may_follow) == (
        (sha256(body).hexdigest(), False) if checks > 2 else (None, True)
    )


def test_each_version_of_a_key_is_described_as_it_was(locked: str) -> None:
    versions = [put(locked, body=body) for body in (BODY, b"another")]

    found = described(client("s3"), locked, kinds(*versions))

    assert [each.sha256 for each in found] == [DIGEST, sha256(b"another").hexdigest()]


def test_versions_that_are_gone_are_left_out(aws: None) -> None:  # noqa: ARG001 - used for its effect
    bucket = "unlocked"
    client("s3").create_bucket(Bucket=bucket)
    client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    gone, version = put(bucket), put(bucket, f"{KEY}2")
    client("s3").delete_object(Bucket=bucket, Key=gone.key, VersionId=gone.version_id)

    found = described(client("s3"), bucket, kinds(gone, version))

    assert [each.key for each in found] == [version.key]


def head(**changes: Any) -> dict[str, Any]:
    return {"ContentLength": 5, "LastModified": NOON, **changes}


@pytest.mark.parametrize("status", [400, 403])
def test_an_object_under_a_key_of_somebody_else_has_no_sha256(status: int) -> None:
    """S3 answers like this if the object has a KMS key that the role may not use."""
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_client_error("head_object", str(status), "no", status)
        stub.add_response("head_object", head(SSEKMSKeyId=OTHERS), {"Bucket": "b", "Key": "k", "VersionId": "v"})

        [found] = described(s3, "b", kinds(ObjectVersion("k", "v")))

    assert (found.sha256, found.size) == (None, 5)


@pytest.mark.parametrize("key", [{"SSEKMSKeyId": OURS}, {}], ids=["our key", "a key of S3"])
@pytest.mark.parametrize("status", [400, 403])
def test_the_sha256_of_an_object_under_our_key_follows_if_s3_denies_it_now(status: int, key: dict[str, str]) -> None:
    """S3 answers like this while the role may not use the key, and while the key is disabled."""
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_client_error("head_object", str(status), "no", status)
        stub.add_response("head_object", head(**key), {"Bucket": "b", "Key": "k", "VersionId": "v"})

        [found] = S3EvidenceObjects(s3, "b", OURS).describe(kinds(ObjectVersion("k", "v")), lambda: True)

    assert found.may_follow
    assert found.object
    assert (found.object.sha256, found.object.size) == (None, 5)


def test_an_object_that_is_too_large_to_be_read_has_no_sha256() -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        # An object that was uploaded in parts has a checksum of checksums.
        stub.add_response("head_object", head(ContentLength=2**30, ChecksumSHA256="AAAA-2"))

        [found] = described(s3, "b", kinds(ObjectVersion("k", "v")))

    assert found.sha256 is None


def test_an_object_under_a_key_of_a_customer_does_not_keep_others_from_being_sealed() -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        for _ in range(2):
            stub.add_client_error("head_object", "400", "no", 400)

        assert described(s3, "b", kinds(ObjectVersion("k", "v"))) == []


def test_an_object_that_s3_denies_may_be_described_later() -> None:
    """S3 answers like this while the role is denied `s3:GetObjectVersion`."""
    s3, version = client("s3"), ObjectVersion("k", "v")
    with Stubber(s3) as stub:
        for _ in range(2):
            stub.add_client_error("head_object", "403", "no", 403)

        found = S3EvidenceObjects(s3, "b", OURS).describe(kinds(version), lambda: True)

    assert found == [Described(version, None, may_follow=True)]


@pytest.mark.parametrize(
    ("code", "key", "follows"),
    [
        ("AccessDenied", OURS, True),
        ("AccessDenied", OTHERS, False),
        ("KMS.DisabledException", OURS, True),
        ("KMS.DisabledException", OTHERS, False),
        ("KMS.NotFoundException", OTHERS, False),
        ("InvalidObjectState", OURS, False),
    ],
)
def test_an_object_without_a_checksum_that_s3_does_not_return_has_no_sha256(
    code: str,
    key: str,
    follows: bool,  # noqa: FBT001 - pytest passes a parameter
) -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_response("head_object", head(SSEKMSKeyId=key))
        stub.add_client_error("get_object", code, "no", 403)

        [found] = S3EvidenceObjects(s3, "b", OURS).describe(kinds(ObjectVersion("k", "v")), lambda: True)

    assert found.object
    assert (found.object.sha256, found.may_follow) == (None, follows)


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchVersion", "MethodNotAllowed"])
def test_a_version_that_is_gone_before_it_is_read_is_left_out(code: str) -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_response("head_object", head())
        stub.add_client_error("get_object", code, "no", 404)

        assert described(s3, "b", kinds(ObjectVersion("k", "v"))) == []


def test_a_delete_marker_has_no_description() -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_client_error("head_object", "405", "MethodNotAllowed", 405)

        assert described(s3, "b", kinds(ObjectVersion("k", "v"))) == []


def test_an_error_of_s3_is_one_to_try_again() -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_client_error("head_object", "503", "SlowDown", 503)
        with pytest.raises(RetryableError, match="S3"):
            described(s3, "b", kinds(ObjectVersion("k", "v")))


def test_all_versions_and_delete_markers_are_listed_page_by_page(locked: str) -> None:
    first, second, other = put(locked), put(locked), put(locked, f"{KEY}2")
    marker = client("s3").delete_object(Bucket=locked, Key=KEY)["VersionId"]
    put(locked, "log/tile/0/000")

    listed: list[ListedVersion] = []
    at: Comparison | None = Comparison(begun_at=NOON, prefix="evidence/")
    while at:
        page, at = S3EvidenceObjects(client("s3"), locked, OURS).versions(at)
        listed += page

    assert {each.version for each in listed if each.deleted_at is None} == {first, second, other}
    assert {each.version for each in listed if each.deleted_at} == {ObjectVersion(KEY, marker)}


def test_a_listing_goes_on_where_it_stopped() -> None:
    """Use Stubber: moto lists a thousand versions in one page."""
    s3 = client("s3")
    with Stubber(s3) as stub:
        more = {"IsTruncated": True, "NextKeyMarker": "evidence/k", "NextVersionIdMarker": "v7"}
        stub.add_response("list_object_versions", more, {"Bucket": "b", "Prefix": "evidence/"})
        stub.add_response(
            "list_object_versions",
            {"IsTruncated": False},
            {"Bucket": "b", "Prefix": "evidence/", "KeyMarker": "evidence/k", "VersionIdMarker": "v7"},
        )
        objects = S3EvidenceObjects(s3, "b", OURS)
        _, after = objects.versions(Comparison(begun_at=NOON, prefix="evidence/"))
        assert after
        assert (after.key, after.version_id, after.begun_at) == ("evidence/k", "v7", NOON)

        assert objects.versions(after) == ([], None)


def test_folders_and_keys_are_listed_in_order(bucket: str) -> None:
    archive = S3Archive(client("s3"), bucket)
    for key in ("log/b/1", "log/a/2", "log/a/1", "log/c", "other"):
        archive.record(key, b"x")

    assert archive.folders("log/") == ["log/a/", "log/b/", "log/c"]
    assert archive.folders("log/a/") == ["log/a/1", "log/a/2"]
    assert archive.folders("nothing/") == []


# The index


@pytest.fixture
def index(aws: None) -> DynamoSealedIndex:  # noqa: ARG001 - used for its effect
    properties = RESOURCES["Sealed"]["Properties"]
    names = ("BillingMode", "AttributeDefinitions", "KeySchema")
    client("dynamodb").create_table(TableName="sealed", **{name: properties[name] for name in names})
    return DynamoSealedIndex(client("dynamodb"), "sealed")


def test_an_index_knows_the_versions_that_were_added(index: DynamoSealedIndex) -> None:
    versions = [ObjectVersion(f"evidence/{number}", f"v{number % 7}") for number in range(250)]
    index.add(versions[:230])
    index.add(versions[:10])

    assert index.known(versions) == set(versions[:230])
    assert index.known([ObjectVersion("evidence/1", "v2")]) == set()


def test_a_state_is_read_as_it_was_saved(index: DynamoSealedIndex) -> None:
    assert index.state() == SealState()
    comparison = Comparison(begun_at=NOON, prefix="acts/", key="acts/k", version_id="v")
    kept = SealState(indexed=7, copied=3, comparison=comparison, compared_at=NOON)

    index.save(kept)

    assert index.state() == kept


@pytest.mark.parametrize("kept", ["", "{}x", '{"indexed": -1}', '{"other": 1}'])
def test_a_state_that_is_unreadable_is_none(index: DynamoSealedIndex, kept: str) -> None:
    client("dynamodb").put_item(TableName="sealed", Item={"version": {"S": "state"}, "kept": {"S": kept}})

    assert index.state() is None


#: Values of every kind, and moments that no calculation with times survives.
NONSENSE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(max_value=1),
    st.floats(max_value=1),
    st.text(st.characters(exclude_categories=["Nd"]), max_size=20),
    st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-11-24T12:00:00Z", "evidence/", "log/"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)
MOMENT = "2026-11-24T12:00:00Z"
COMPARISON = {"begun_at": MOMENT, "prefix": "evidence/", "key": "evidence/2026", "version_id": "v1"}
WAITING = {"key": KEY, "version_id": "v1", "since": MOMENT}
#: Not the number of batches: more than the log has says that the log was cut off, and stops sealing on purpose.
STATE = {"indexed": 1, "copied": 1, "comparison": COMPARISON, "compared_at": MOMENT, "waiting": [WAITING]}


EXAMPLES = count()


def places(value: Any) -> list[list[Any]]:
    """Return the paths to all values in a JSON value, itself included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [[], *([name, *rest] for name, each in inside for rest in places(each))]


def put_in(value: Any, path: list[Any], other: Any) -> Any:
    """Return a JSON value with another one in one of its places."""
    if not path:
        return other
    copy = value.copy()
    copy[path[0]] = put_in(value[path[0]], path[1:], other)
    return copy


@st.composite
def altered(draw: st.DrawFn) -> str:
    """Return a state with nonsense in one of its places, with or without a comparison that goes on."""
    state = {name: each for name, each in STATE.items() if name != "comparison" or draw(st.booleans())}
    return json.dumps(put_in(state, draw(st.sampled_from(places(state))), draw(NONSENSE)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(kept=json.dumps(STATE | {"comparison": COMPARISON | {"prefix": "log"}}), kind="S")
@example(kept=json.dumps(STATE | {"comparison": COMPARISON | {"begun_at": "0001-01-01T00:00:00Z"}}), kind="S")
@example(kept=json.dumps({"compared_at": "9999-12-31T23:59:59Z"}), kind="S")
@given(kept=st.one_of(st.text(max_size=20), altered()), kind=st.sampled_from(["S", "B", "SS"]))
def test_nothing_in_the_state_keeps_evidence_from_being_sealed(index: DynamoSealedIndex, kept: str, kind: str) -> None:
    # The examples share the table, so that versions which were added must not come again.
    w = SealWorld()
    w.bucket.count = next(EXAMPLES) * 1000
    w.bucket.put(KEY)
    w.seal()
    value: Any = {"S": kept, "B": kept.encode(), "SS": [kept]}[kind]
    client("dynamodb").put_item(TableName="sealed", Item={"version": {"S": "state"}, "kept": {kind: value}})
    sealer = replace(w.sealer, dependencies=replace(w.sealer.dependencies, index=index))
    added = [w.bucket.put(KEY.replace("0001", "0002")), w.bucket.put(KEY.replace("0001", "0003"), announced=False)]

    for _ in range(3):
        w.bucket.received.clear()
        sealer.run(w.clock.now() + timedelta(minutes=10))
        w.clock.advance(timedelta(days=1).total_seconds())

    assert set(added) <= set(w.sealed())


@pytest.mark.parametrize("code", ["InvalidArgument", "KeyTooLongError"])
def test_a_listing_that_cannot_go_on_begins_again(code: str) -> None:
    """S3 refuses an id that it never gave; moto does not."""
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_client_error("list_object_versions", code, "Invalid version id specified", 400)
        stub.add_response("list_object_versions", {"IsTruncated": False}, {"Bucket": "b", "Prefix": "acts/"})
        at = Comparison(begun_at=NOON, prefix="acts/", key="acts/k", version_id="forged")

        assert S3EvidenceObjects(s3, "b", OURS).versions(at) == ([], None)


def test_a_listing_can_go_on_after_a_key() -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        asked = {"Bucket": "b", "Prefix": "acts/", "KeyMarker": "acts/k"}
        stub.add_response("list_object_versions", {"IsTruncated": False}, asked)

        at = Comparison(begun_at=NOON, prefix="acts/", key="acts/k")
        assert S3EvidenceObjects(s3, "b", OURS).versions(at) == ([], None)


def test_keys_that_dynamodb_does_not_return_are_asked_for_again() -> None:
    dynamodb = client("dynamodb")
    keys = [{"version": {"S": f"v evidence/{number}"}} for number in range(2)]
    asked = {"sealed": {"Keys": keys, "ConsistentRead": True}}
    left = {"sealed": {"Keys": keys[1:], "ConsistentRead": True}}
    versions = [ObjectVersion(f"evidence/{number}", "v") for number in range(2)]
    with Stubber(dynamodb) as stub:
        stub.add_response(
            "batch_get_item", {"Responses": {"sealed": keys[:1]}, "UnprocessedKeys": left}, {"RequestItems": asked}
        )
        stub.add_response("batch_get_item", {"Responses": {"sealed": keys[1:]}}, {"RequestItems": left})
        assert DynamoSealedIndex(dynamodb, "sealed").known(versions) == set(versions)

        for _ in range(5):
            stub.add_response("batch_get_item", {"Responses": {}, "UnprocessedKeys": asked})
        with pytest.raises(RetryableError, match="did not return all"):
            DynamoSealedIndex(dynamodb, "sealed").known(versions)


# Announcements


def created(key: str = KEY, **changes: Any) -> str:
    """Return S3's event as EventBridge sends it.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
    """
    detail = {
        "version": "0",
        "bucket": {"name": "evidence-bucket"},
        "object": {"key": key, "size": 5, "etag": "e", "version-id": "v1", "sequencer": "0"},
        "reason": "PutObject",
    }
    return json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail | changes})


@pytest.fixture
def queue(aws: None) -> str:  # noqa: ARG001 - used for its effect
    return str(client("sqs").create_queue(QueueName="announcements")["QueueUrl"])


def test_an_announcement_names_a_version_and_stays_until_it_is_deleted(queue: str) -> None:
    sqs = client("sqs")
    for number in range(12):
        sqs.send_message(QueueUrl=queue, MessageBody=created(f"evidence/{number}"))
    announcements = SqsAnnouncements(sqs, queue)

    received = [*announcements.receive(), *announcements.receive()]

    assert {each.version for each in received} == {ObjectVersion(f"evidence/{number}", "v1") for number in range(12)}
    announcements.delete([each.receipt for each in received])
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessagesNotVisible"])
    assert attributes["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "0"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "text",
        "[]",
        "{}",
        "1" * 5000,
        "[" * 100_000,
        created(object={"key": 1, "version-id": "v"}),
        created(object={"key": "k"}),
        created(object={"key": "k", "version-id": "a version"}),
        created(object=[]),
    ],
    ids=[
        "empty",
        "text",
        "array",
        "object",
        "number",
        "deep",
        "number as key",
        "no version",
        "no id of S3",
        "array as object",
    ],
)
def test_what_announces_nothing_is_received_without_a_version(queue: str, body: str) -> None:
    sqs = client("sqs")
    sqs.send_message(QueueUrl=queue, MessageBody=body or " ")

    assert [each.version for each in SqsAnnouncements(sqs, queue).receive()] == [None]


def test_a_message_that_sqs_keeps_is_an_error() -> None:
    sqs = client("sqs")
    with Stubber(sqs) as stub:
        failed = {"Id": "0", "SenderFault": False, "Code": "InternalError"}
        stub.add_response("delete_message_batch", {"Successful": [], "Failed": [failed]})
        with pytest.raises(RetryableError, match="did not delete 1 messages"):
            SqsAnnouncements(sqs, "https://queue").delete(["receipt"])


# Signatures


def test_a_signature_is_valid_for_the_public_key(aws: None) -> None:  # noqa: ARG001 - used for its effect
    """Use Stubber with a real key: moto knows no Ed25519. The embedded AWS does."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - only here
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - only here

    private, kms = Ed25519PrivateKey.generate(), client("kms")
    der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with Stubber(kms) as stub:
        stub.add_response("get_public_key", {"PublicKey": der}, {"KeyId": "key"})
        stub.add_response(
            "sign",
            {"Signature": private.sign(NOTE)},
            {"KeyId": "key", "Message": NOTE, "MessageType": "RAW", "SigningAlgorithm": "ED25519_SHA_512"},
        )
        signer = KmsSigner(kms, "key")

        assert verified(signer.public_key(), NOTE, signer.sign(NOTE))
        assert signer.public_key() == private.public_key().public_bytes_raw()


def test_a_key_that_is_disabled_is_an_error_to_try_again() -> None:
    kms = client("kms")
    with Stubber(kms) as stub:
        stub.add_client_error("sign", "DisabledException", "arn:aws:kms:us-east-1:111122223333:key/1 is disabled")
        with pytest.raises(RetryableError, match="DisabledException") as error:
            KmsSigner(kms, "key").sign(NOTE)

    assert "111122223333" not in str(error.value)


# Copies of checkpoints


def test_a_checkpoint_is_copied_once(bucket: str) -> None:
    copies = S3CheckpointCopies(client("s3"), bucket)
    copies.copy("joinguard/o-exampleorg1", 12, NOTE)
    copies.copy("joinguard/o-exampleorg1", 12, NOTE)
    for other in (b"another", NOTE[:-1], NOTE + b"x", b""):
        with pytest.raises(
            PermanentError, match="CHECKPOINT_DIFFERS: CheckpointBucket has another object in place of checkpoint 12"
        ):
            copies.copy("joinguard/o-exampleorg1", 12, other)

    stored = client("s3").get_object(Bucket=bucket, Key="joinguard/o-exampleorg1/log/checkpoints/000/000/012")
    assert stored["Body"].read() == NOTE


def test_a_bucket_that_refuses_a_copy_is_an_error() -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_client_error("put_object", "AccessDenied", "no", 403)
        with pytest.raises(RetryableError, match=r"S3\.AccessDenied"):
            S3CheckpointCopies(s3, "b").copy("o", 1, NOTE)


def test_a_copy_that_another_upload_disturbs_is_sent_again() -> None:
    s3 = client("s3")
    with Stubber(s3) as stub:
        stub.add_client_error("put_object", "ConditionalRequestConflict", "no", 409)
        stub.add_response("put_object", {})
        S3CheckpointCopies(s3, "b").copy("o", 1, NOTE)
        stub.assert_no_pending_responses()


def test_a_checkpoint_is_published_with_its_number() -> None:
    sns = client("sns")
    with Stubber(sns) as stub:
        stub.add_response(
            "publish",
            {"MessageId": "m"},
            {"TopicArn": "t", "Subject": f"Checkpoint 12 of joinguard/{'o' * 73}", "Message": NOTE.decode()},
        )
        SnsCheckpointCopies(sns, "t").copy(f"joinguard/{'o' * 200}", 12, NOTE)
        stub.assert_no_pending_responses()


def test_the_times_of_s3_are_those_of_the_leaves(locked: str) -> None:
    [found] = described(client("s3"), locked, kinds(put(locked)))

    assert isinstance(found.modified_at, datetime)
    assert found.model_dump(mode="json")["modified_at"].endswith("Z")
