"""Sealing on fakes: a versioned bucket, the queue of announcements, the index, and a key."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from tlog_scales.reader import TilesReader

from handlers.core.errors import Cause, PermanentError, RetryableError, fault
from handlers.core.evidence.checkpoint import Checkpoint, open_note
from handlers.core.evidence.leaves import read_bundle, read_leaf
from handlers.core.evidence.merkle import FULL, Log, Tile, bundle_path
from handlers.core.evidence.sealing import (
    Announced,
    Described,
    ListedVersion,
    ObjectVersion,
    SealDependencies,
    Sealed,
    Sealer,
)
from schemas.keys import LOG, checkpoint_key
from schemas.sealed import Comparison, SealedBatch, SealedObject, SealState
from tests.fakes import FakeClock, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schemas.sealed import Leaf, ObjectKind

ORIGIN = "joinguard/o-exampleorg1"
#: How long objects are locked.
LOCKED = timedelta(days=2557)
#: How many versions the fake bucket lists at once.
PAGE = 3


def verified(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def assert_extends(content: Callable[[str], bytes], older: Checkpoint, newer: Checkpoint) -> None:
    """Let another implementation of tlog-tiles prove from the tiles that a checkpoint extends an older one."""
    reader = TilesReader(_Tiles(content))
    reader.set_size(newer.size)
    reader.get_consistency_proof(older.size, newer.size).check(older.root, newer.root)


@dataclass(frozen=True)
class _Tiles:
    content: Callable[[str], bytes]

    def get(self, *path: str) -> bytes:
        return self.content(LOG + "/".join(path))


@dataclass
class Stored:
    """A version in the bucket; a delete marker has no body."""

    version_id: str
    body: bytes | None
    at: datetime
    retain_until: datetime | None = None
    lock: str | None = "GOVERNANCE"


@dataclass
class FakeBucket:
    """A bucket with versions, and the queue of what was written under the prefixes of evidence."""

    clock: FakeClock
    steps: Steps = field(default_factory=Steps)
    versions: dict[str, list[Stored]] = field(default_factory=dict)
    queue: dict[str, ObjectVersion | None] = field(default_factory=dict)
    #: Messages that an invocation has received; they are visible again for the next one.
    received: set[str] = field(default_factory=set)
    #: The keys of which S3 does not return the SHA-256 now.
    denied: set[str] = field(default_factory=set)
    #: The keys of objects that S3 does not describe now.
    forbidden: set[str] = field(default_factory=set)
    #: How many seconds it takes to read an object of which S3 has no SHA-256, by key.
    slow: dict[str, int] = field(default_factory=dict)
    listed: int = PAGE
    #: How many versions and messages there were; the next one has the next number.
    count: int = 0

    def put(self, key: str, body: bytes = b"{}", *, announced: bool = True) -> ObjectVersion:
        """Store a version, as AWS does for whoever writes evidence."""
        self.count += 1
        stored = Stored(f"v{self.count}", body, self.clock.now(), self.clock.now() + LOCKED)
        self.versions.setdefault(key, []).append(stored)
        version = ObjectVersion(key, stored.version_id)
        if announced:
            self.announce(version)
        return version

    def announce(self, version: ObjectVersion | None) -> None:
        self.count += 1
        self.queue[f"m{self.count}"] = version

    def delete(self, key: str) -> None:
        """Set a delete marker."""
        self.count += 1
        self.versions[key].append(Stored(f"v{self.count}", None, self.clock.now()))

    def current(self, key: str) -> Stored | None:
        return next((each for each in reversed(self.versions.get(key, [])[-1:]) if each.body is not None), None)

    # The log's objects.

    def record(self, key: str, body: bytes) -> str:
        def record() -> str:
            if self.current(key) is None:
                self.put(key, body, announced=False)
            return sha256(self.versions[key][-1].body or b"").hexdigest()

        return self.steps.take("record", record)

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        def read() -> bytes:
            found = self.current(key)
            if found is None or found.body is None:
                raise RetryableError(fault("S3.NoSuchKey", "no such key"), cause=Cause.NOT_FOUND)
            return found.body if limit is None else found.body[: limit + 1]

        return self.steps.take("read", read)

    def folders(self, prefix: str) -> list[str]:
        def folders() -> list[str]:
            inside = [
                each.removeprefix(prefix) for each in self.versions if each.startswith(prefix) and self.current(each)
            ]
            return sorted({prefix + each[: each.find("/") + 1 or None] for each in inside})

        return self.steps.take("folders", folders)

    # The objects that are sealed.

    def describe(self, kinds: Sequence[tuple[ObjectVersion, ObjectKind]]) -> list[SealedObject]:
        return self.steps.take(
            "describe", lambda: [found for each, kind in kinds if (found := self._described(each, kind))]
        )

    def _described(self, version: ObjectVersion, kind: ObjectKind) -> SealedObject | None:
        for each in self.versions.get(version.key, []):
            if each.version_id == version.version_id and each.body is not None:
                return SealedObject.model_validate(
                    {
                        "kind": kind,
                        "key": version.key,
                        "version_id": version.version_id,
                        "sha256": sha256(each.body).hexdigest(),
                        "size": len(each.body),
                        "modified_at": each.at,
                        "retain_until": each.retain_until,
                        "lock": each.lock,
                    }
                )
        return None

    def pages(self, after: Comparison) -> tuple[list[ListedVersion], Comparison | None]:
        def page() -> tuple[list[ListedVersion], Comparison | None]:
            every = [
                ListedVersion(ObjectVersion(key, each.version_id), each.at if each.body is None else None)
                for key in sorted(self.versions)
                if key.startswith(after.prefix)
                for each in reversed(self.versions[key])
            ]
            seen = [each.version for each in every]
            last = ObjectVersion(after.key or "", after.version_id or "")
            first = seen.index(last) + 1 if last in seen else sum(each.key <= last.key for each in seen)
            listed = every[first : first + self.listed]
            if first + self.listed >= len(every):
                return listed, None
            key, version_id = listed[-1].version
            return listed, after.model_copy(update={"key": key, "version_id": version_id})

        return self.steps.take("versions", page)

    # The announcements.

    def receive(self) -> list[Announced]:
        def receive() -> list[Announced]:
            visible = [each for each in self.queue if each not in self.received][:10]
            self.received.update(visible)
            return [Announced(each, self.queue[each]) for each in visible]

        return self.steps.take("receive", receive)

    def remove(self, receipts: Sequence[str]) -> None:
        def remove() -> None:
            for each in receipts:
                self.queue.pop(each, None)

        self.steps.take("delete", remove)


@dataclass
class _Objects:
    bucket: FakeBucket

    def describe(
        self, kinds: Sequence[tuple[ObjectVersion, ObjectKind]], may_read: Callable[[], bool]
    ) -> Sequence[Described]:
        return [self._seen(each, may_read) for each in self.bucket.describe(kinds)]

    def _seen(self, described: SealedObject, may_read: Callable[[], bool]) -> Described:
        version = ObjectVersion(described.key, described.version_id)
        if described.key in self.bucket.forbidden:
            return Described(version, None, may_follow=True)
        is_read = described.key not in self.bucket.slow or self._read(self.bucket.slow[described.key], may_read)
        if is_read and described.key not in self.bucket.denied:
            return Described(version, described)
        return Described(version, described.model_copy(update={"sha256": None}), may_follow=True)

    def _read(self, seconds: int, may_read: Callable[[], bool]) -> bool:
        """Take seconds to read an object; return whether there was time."""
        for _ in range(seconds):
            if not may_read():
                return False
            self.bucket.clock.advance(1)
        return True

    def versions(self, after: Comparison) -> tuple[Sequence[ListedVersion], Comparison | None]:
        return self.bucket.pages(after)


@dataclass
class _Announcements:
    bucket: FakeBucket

    def receive(self) -> Sequence[Announced]:
        return self.bucket.receive()

    def delete(self, receipts: Sequence[str]) -> None:
        self.bucket.remove(receipts)


@dataclass
class FakeIndex:
    """The index, and the state that is kept with it."""

    steps: Steps
    versions: set[ObjectVersion] = field(default_factory=set)
    kept: SealState = field(default_factory=SealState)

    def state(self) -> SealState:
        return self.steps.take("state", lambda: self.kept)

    def save(self, state: SealState) -> None:
        self.steps.take("save", lambda: setattr(self, "kept", state))

    def known(self, versions: Sequence[ObjectVersion]) -> set[ObjectVersion]:
        return self.steps.take("known", lambda: self.versions & set(versions))

    def add(self, versions: Sequence[ObjectVersion]) -> None:
        self.steps.take("add", lambda: self.versions.update(versions))


@dataclass
class FakeSigner:
    """A key in memory."""

    steps: Steps
    private: Ed25519PrivateKey = field(default_factory=lambda: Ed25519PrivateKey.from_private_bytes(bytes(range(32))))

    def public_key(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self.steps.take("sign", lambda: self.private.sign(message))


@dataclass
class FakeCopies:
    """Copies of checkpoints elsewhere."""

    steps: Steps
    name: str
    notes: dict[int, bytes] = field(default_factory=dict)
    #: The numbers of the checkpoints that are denied.
    denied: set[int] = field(default_factory=set)

    def copy(self, origin: str, number: int, note: bytes) -> None:
        assert origin == ORIGIN
        if number in self.denied:
            raise RetryableError(fault("S3.AccessDenied", "denied"), cause=Cause.ACCESS_DENIED)
        if self.steps.take(self.name, lambda: self.notes.setdefault(number, note)) != note:
            raise PermanentError(fault("CHECKPOINT_DIFFERS", "another checkpoint"))


class SealWorld:
    """A bucket and what seals it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.bucket = FakeBucket(self.clock)
        self.steps = self.bucket.steps
        self.index = FakeIndex(self.steps)
        self.signer = FakeSigner(self.steps)
        self.copies = FakeCopies(self.steps, "copy")
        self.topic = FakeCopies(self.steps, "publish")

    @property
    def sealer(self) -> Sealer:
        return Sealer(
            ORIGIN,
            SealDependencies(
                log=self.bucket,
                objects=_Objects(self.bucket),
                announcements=_Announcements(self.bucket),
                index=self.index,
                signer=self.signer,
                copies=self.copies,
                topic=self.topic,
                clock=self.clock,
            ),
        )

    def seal(self, *, within: float = 600) -> Sealed:
        """Run an invocation. Messages that earlier ones received are visible again."""
        self.bucket.received.clear()
        return self.sealer.run(self.clock.now() + timedelta(seconds=within))

    # What anybody with the public key can read.

    def checkpoint(self, number: int) -> Checkpoint:
        """Return a checkpoint; its signature must be valid, and the tiles must lead to it."""
        note = self.bucket.current(checkpoint_key(number))
        assert note is not None
        assert note.body is not None
        checkpoint = open_note(note.body, self.sealer.verifier_key, verified)
        assert self.log(checkpoint.size).root() == checkpoint.root
        return checkpoint

    def checkpoints(self) -> list[Checkpoint]:
        """Return all checkpoints."""
        return [self.checkpoint(each) for each in range(len(self.notes()))]

    def notes(self) -> list[bytes]:
        """Return all checkpoints as they are stored."""
        return [self.content(key) for key in sorted(self.bucket.versions) if key.startswith("log/checkpoints/")]

    def log(self, size: int) -> Log:
        """Return the log as it was with this number of leaves."""
        return Log(size, self._tile)

    def leaves(self) -> list[Leaf]:
        """Return the leaves of the log, from its entry bundles."""
        size = self.checkpoints()[-1].size
        full, rest = divmod(size, FULL)
        widths = [FULL] * full + [rest] * bool(rest)
        found = [
            read_leaf(leaf)
            for number, width in enumerate(widths)
            for leaf in read_bundle(self.content(LOG + bundle_path(number, width)))
        ]
        assert len(found) == size
        return found

    def sealed(self) -> list[ObjectVersion]:
        """Return the versions in the log, in its order."""
        return [ObjectVersion(each.key, each.version_id) for each in self.leaves() if not isinstance(each, SealedBatch)]

    def batches(self) -> list[SealedBatch]:
        """Return the first leaf of each batch."""
        return [each for each in self.leaves() if isinstance(each, SealedBatch)]

    def _tile(self, tile: Tile) -> bytes:
        return self.content(LOG + tile.path)

    def content(self, key: str) -> bytes:
        """Return an object's current bytes."""
        stored = self.bucket.current(key)
        assert stored is not None, key
        return stored.body or b""
