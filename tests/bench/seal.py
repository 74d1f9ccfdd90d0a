"""Seal many objects in the embedded AWS with real clients, compared with a bare loop over the same objects."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from handlers.aws.dynamodb_sealed import DynamoSealedIndex
from handlers.aws.kms_signer import KmsSigner
from handlers.aws.s3_evidence import S3Archive
from handlers.aws.s3_objects import S3EvidenceObjects
from handlers.aws.sqs_announcements import SqsAnnouncements
from handlers.clock import SystemClock
from handlers.core.evidence.sealing import SealDependencies, Sealer
from infra.local.standin import running
from schemas.keys import SEALED_PREFIXES
from schemas.sealed import Comparison, SealState
from tests.bench.process import peak_megabytes
from tests.sealing import ORIGIN

if TYPE_CHECKING:
    from infra.local.standin import StandIn

_BUCKET: Final = "evidence"
_BODY: Final = b'{"schema_version":"joinguard/evidence/3"}' + b" " * 900
_AT_ONCE: Final = 8


def key_of(number: int) -> str:
    """Return the key of the evidence with this number."""
    account = f"acct-{number:032x}"
    return f"evidence/2026/11/{number % 28 + 1:02}/event-{chr(97 + number % 26)}/{account}/0001.json"


def measure(objects: int) -> dict[str, dict[str, float]]:
    """Seal announced objects; then seal as many that nobody announced; return calls, seconds and ratios of each."""
    with running() as aws:
        _prepare(aws)
        versions = _fill(aws, range(objects))
        _announce(aws, versions)
        announced = _sealed(aws, objects)
        _fill(aws, range(objects, 2 * objects))
        unannounced = _sealed(aws, 2 * objects)
        idle = _sealed(aws, 2 * objects)
        bare = _bare_loop(aws, objects)
    rows = {"announced": announced, "found by comparison": unannounced, "nothing new, compared": idle}
    for each in rows.values():
        each["over bare loop"] = each["seconds"] / bare
    return rows


def _prepare(aws: StandIn) -> None:
    aws.client("s3").create_bucket(Bucket=_BUCKET, ObjectLockEnabledForBucket=True)
    aws.client("dynamodb").create_table(
        TableName="sealed",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "version", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "version", "KeyType": "HASH"}],
    )
    aws.client("sqs").create_queue(QueueName="announcements", Attributes={"VisibilityTimeout": "960"})
    key = aws.client("kms").create_key(KeySpec="ECC_NIST_EDWARDS25519", KeyUsage="SIGN_VERIFY")
    aws.client("kms").create_alias(AliasName="alias/seal", TargetKeyId=key["KeyMetadata"]["KeyId"])


def _fill(aws: StandIn, numbers: range) -> list[tuple[str, str]]:
    s3 = aws.client("s3")

    def put(number: int) -> tuple[str, str]:
        stored = s3.put_object(Bucket=_BUCKET, Key=key_of(number), Body=_BODY, ChecksumAlgorithm="SHA256")
        return key_of(number), stored["VersionId"]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(put, numbers))


def _announce(aws: StandIn, versions: list[tuple[str, str]]) -> None:
    sqs = aws.client("sqs")
    url = sqs.get_queue_url(QueueName="announcements")["QueueUrl"]
    for at in range(0, len(versions), 10):
        entries = [
            {
                "Id": str(number),
                "MessageBody": json.dumps({"detail": {"object": {"key": key, "version-id": version_id}}}),
            }
            for number, (key, version_id) in enumerate(versions[at : at + 10])
        ]
        sqs.send_message_batch(QueueUrl=url, Entries=entries)


def _sealed(aws: StandIn, expected: int) -> dict[str, float]:
    calls: Counter[str] = Counter()

    def client(service: str) -> Any:
        made = aws.client(service)
        made.meta.events.register("before-send", lambda **_: calls.update([service]))
        return made

    sqs, s3, index = client("sqs"), client("s3"), DynamoSealedIndex(client("dynamodb"), "sealed")
    # It compares only once a day, unless it goes on with a comparison.
    comparison = Comparison(begun_at=SystemClock().now(), prefix=SEALED_PREFIXES[0])
    index.save((index.state() or SealState()).model_copy(update={"comparison": comparison}))
    calls.clear()
    sealer = Sealer(
        ORIGIN,
        SealDependencies(
            log=S3Archive(s3, _BUCKET),
            objects=S3EvidenceObjects(s3, _BUCKET, ""),
            announcements=SqsAnnouncements(sqs, sqs.get_queue_url(QueueName="announcements")["QueueUrl"]),
            index=index,
            signer=KmsSigner(client("kms"), "alias/seal"),
            copies=None,
            topic=None,
            clock=SystemClock(),
        ),
    )
    began = time.monotonic()
    done = sealer.run(sealer.dependencies.clock.now() + timedelta(hours=1))
    seconds = time.monotonic() - began
    assert (state := index.state()), "the state is readable"
    assert done.size - state.indexed == expected, (done, expected)
    return {
        "objects": done.objects,
        "checkpoints": done.checkpoints,
        **{f"{service} calls": calls[service] for service in ("s3", "sqs", "dynamodb", "kms")},
        "seconds": seconds,
        "peak MB": peak_megabytes(),
    }


def _bare_loop(aws: StandIn, objects: int) -> float:
    """Return the seconds of a HEAD for as many objects as are sealed."""
    s3 = aws.client("s3")
    began = time.monotonic()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(
            pool.map(
                lambda number: s3.head_object(Bucket=_BUCKET, Key=key_of(number), ChecksumMode="ENABLED"),
                range(objects),
            )
        )
    return time.monotonic() - began
