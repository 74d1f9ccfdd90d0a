"""`joinguard verify` on many objects, compared with a bare loop that lists them and gets each.

The smaller number of objects is in the stand-in. Both numbers are also in a server of our own on loopback, in a process
of its own, because the stand-in takes long to fill. That server answers the three calls that both make, with evidence
that it makes up from the number in the key.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from handlers.core.evidence.checkpoint import VerifierKey
from infra.deploy.build import ROOT
from infra.local.standin import running
from schemas.evidence import Evidence
from schemas.keys import evidence_key
from schemas.outcome import OutcomeStatus
from schemas.pseudonym import Pseudonym
from schemas.sealed import ObjectKind, SealedBatch, SealedObject
from tests.bench.read import BUCKET
from tests.verifying import log_objects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.queues import Queue

    from mypy_boto3_s3 import S3Client

    from schemas.sealed import Leaf

ORIGIN: Final = "joinguard/o-exampleorg1"
#: The private key of the benchmark's log.
SEED: Final = bytes(range(32))
_KEY: Final = VerifierKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw())
_DAY: Final = datetime(2026, 11, 1, tzinfo=UTC)
_UNTIL: Final = datetime(2033, 11, 1, tzinfo=UTC)
_PAGE: Final = 1000
_BATCH: Final = 2000


def evidence(number: int) -> tuple[str, bytes]:
    """Return the key and the bytes of the evidence with a number."""
    made = Evidence(
        event_id=f"event-{number:07d}",
        event_name="AcceptHandshake",
        event_time=_DAY,
        source="aws.organizations",
        account=Pseudonym(value=f"acct-{number:032x}", key_version="key-1"),
        organization_id="o-exampleorg1",
        attempt=1,
        status=OutcomeStatus.ENFORCED,
        recorded_at=_DAY,
    )
    return evidence_key(made), made.model_dump_json(exclude_none=True).encode()


def batches(objects: int) -> Iterator[list[Leaf]]:
    """Yield the leaves of a log, batch by batch, every half an hour."""
    for number, first in enumerate(range(0, objects, _BATCH)):
        count = min(_BATCH, objects - first)
        at = _DAY + timedelta(minutes=30 * number)
        header = SealedBatch(number=number, first=first + number, objects=count, sealed_at=at, compared_at=at)
        yield [header, *map(_leaf, range(first, first + count))]


def _leaf(number: int) -> SealedObject:
    key, body = evidence(number)
    return SealedObject(
        kind=ObjectKind.EVIDENCE,
        key=key,
        version_id=f"version-{number:024d}",
        sha256=sha256(body).hexdigest(),
        size=len(body),
        modified_at=_DAY,
        retain_until=_UNTIL,
        lock="GOVERNANCE",
    )


class _Bucket:
    """All objects of the bucket by key: the number of evidence, or the bytes of an object of the log."""

    def __init__(self, objects: int) -> None:
        private = Ed25519PrivateKey.from_private_bytes(SEED)
        self.log = dict(log_objects(batches(objects), _KEY, private.sign))
        made = {number: evidence(number) for number in range(objects)}
        self.evidence = {key: (number, len(body)) for number, (key, body) in made.items()}
        self.keys = sorted([*self.log, *self.evidence])

    def size(self, key: str) -> int:
        return len(self.log[key]) if key in self.log else self.evidence[key][1]

    def version_id(self, key: str) -> str:
        return f"version-{self.evidence[key][0]:024d}" if key in self.evidence else "log"

    def body(self, key: str) -> bytes:
        return self.log[key] if key in self.log else evidence(self.evidence[key][0])[1]

    def page(self, prefix: str, after: str) -> bytes:
        """Return a page of ListObjectVersions."""
        from bisect import bisect_left, bisect_right  # noqa: PLC0415 - only here

        first = bisect_right(self.keys, after) if after else bisect_left(self.keys, prefix)
        page = [each for each in self.keys[first : first + _PAGE] if each.startswith(prefix)]
        more = len(page) == _PAGE
        versions = "".join(
            f"<Version><Key>{escape(each)}</Key><VersionId>{self.version_id(each)}</VersionId><IsLatest>true</IsLatest>"
            f"<LastModified>{_DAY:%Y-%m-%dT%H:%M:%S.000Z}</LastModified><Size>{self.size(each)}</Size></Version>"
            for each in page
        )
        markers = ""
        if more:
            last = self.version_id(page[-1])
            markers = f"<NextKeyMarker>{page[-1]}</NextKeyMarker><NextVersionIdMarker>{last}</NextVersionIdMarker>"
        return (
            f"<ListVersionsResult><IsTruncated>{str(more).lower()}</IsTruncated>{markers}{versions}</ListVersionsResult>"
        ).encode()


def _serve(objects: int, ready: Queue[int]) -> None:
    bucket = _Bucket(objects)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Otherwise, the small answers wait for each other.
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            _, _, key = unquote(url.path).removeprefix("/").partition("/")
            query = parse_qs(url.query, keep_blank_values=True)
            if "versions" in query:
                body = bucket.page(query.get("prefix", [""])[0], query.get("key-marker", [""])[0])
                return self._answer(body, {})
            lock = {
                "x-amz-object-lock-mode": "GOVERNANCE",
                "x-amz-object-lock-retain-until-date": f"{_UNTIL:%Y-%m-%dT%H:%M:%S.000Z}",
            }
            return self._answer(bucket.body(key), lock)

        def _answer(self, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(200)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        ready.put(server.server_address[1])
        server.serve_forever()


def measure(few: int, many: int, folder: str) -> dict[str, dict[str, float]]:
    """Time full and quick verifications of few and of many objects, and bare loops."""
    with running() as aws:
        _fill(aws.client("s3"), few)
        rows = _compared(aws.endpoint, aws.access_key_id, few, folder, "in the stand-in")
    for objects in (few, many):
        context = get_context("spawn")
        ready: Queue[int] = context.Queue()
        server = context.Process(target=_serve, args=(objects, ready), daemon=True)
        server.start()
        try:
            rows |= _compared(f"http://127.0.0.1:{ready.get()}", "x", objects, folder, "on loopback")
        finally:
            server.terminate()
            server.join()
    return rows


def _fill(s3: S3Client, objects: int) -> None:
    """Put evidence and a log that names it into a bucket of the stand-in."""
    s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    bodies = dict(map(evidence, range(objects)))
    _put(s3, bodies)
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET)
    leaves = [
        SealedObject(
            kind=ObjectKind.EVIDENCE,
            key=each["Key"],
            version_id=each["VersionId"],
            sha256=sha256(bodies[each["Key"]]).hexdigest(),
            size=each["Size"],
            modified_at=each["LastModified"],
            retain_until=_UNTIL,
            lock="GOVERNANCE",
        )
        for page in pages
        for each in page["Versions"]
    ]
    now = datetime.now(UTC)
    header = SealedBatch(number=0, first=0, objects=objects, sealed_at=now, compared_at=now)
    private = Ed25519PrivateKey.from_private_bytes(SEED)
    _put(s3, dict(log_objects([[header, *leaves]], _KEY, private.sign)))


def _put(s3: S3Client, bodies: dict[str, bytes]) -> None:
    for key, body in bodies.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=body, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=_UNTIL)


def _compared(endpoint: str, access_key_id: str, objects: int, folder: str, where: str) -> dict[str, dict[str, float]]:
    """Time verifications and bare loops of one bucket."""
    loop = _timed(endpoint, access_key_id, "loop")
    runs = {
        "the loop in 16 threads": ("loop-in-threads",),
        "verify": ("verify", str(_KEY), f"{folder}/progress", str(objects)),
        "verify --quick": ("verify", str(_KEY), f"{folder}/progress", str(objects), "--quick"),
    }
    found = {"a bare loop": loop} | {name: _timed(endpoint, access_key_id, *run) for name, run in runs.items()}
    return {
        f"{name}, {objects:,} {where}": each | {"over the loop": each["seconds"] / loop["seconds"]}
        for name, each in found.items()
    }


def _timed(endpoint: str, access_key_id: str, *arguments: str) -> dict[str, float]:
    environment: dict[str, Any] = os.environ | {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": access_key_id,
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    begun = time.monotonic()
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-m", "tests.bench.read", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - begun
    if done.returncode:
        raise RuntimeError(json.dumps(done.stderr[-2000:]))
    return {"seconds": seconds, "peak MB": int(done.stderr.splitlines()[-1]) / 1024}
