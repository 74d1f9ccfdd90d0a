"""Verifications on fakes: a bucket that was sealed, and what somebody did to it since."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from handlers.core.errors import Cause, RetryableError, fault
from handlers.core.evidence.checkpoint import Checkpoint
from handlers.core.evidence.leaves import batch_bytes, bundle_bytes, leaf_bytes
from handlers.core.evidence.merkle import FULL, Tree, bundle_path
from handlers.core.evidence.verify import Verifier, VerifyDependencies, VerifyRequest
from handlers.core.evidence.verify_objects import Period
from handlers.core.evidence.verifying import Fetched, Listed
from handlers.operate.sorted_records import SortedRecords
from schemas.evidence import Evidence, RecordedPolicy
from schemas.keys import LOG, batch_key, checkpoint_key, evidence_key
from schemas.outcome import AttachmentResult, Outcome, OutcomeStatus, PolicyOutcome
from tests.fakes import ACCOUNT, NOON, ORGANIZATION, POLICIES, FakePseudonyms, Steps
from tests.sealing import SealWorld, verified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from handlers.core.evidence.checkpoint import VerifierKey
    from handlers.core.evidence.verify_objects import KeptProgress
    from handlers.core.evidence.verifying import Wanted
    from handlers.core.ports import UnreadableRow
    from schemas.sealed import Leaf
    from schemas.verification import Verification
    from tests.sealing import FakeBucket, Stored

#: How long after the last sealing a test verifies.
AFTER = timedelta(minutes=30)


@dataclass
class FakeSealedBucket:
    """The fake bucket, as it is verified."""

    bucket: FakeBucket
    #: The keys that were read, in order.
    fetched: list[str] = field(default_factory=list)
    #: Whether retention may be read.
    knows_locks: bool = True
    #: Raised after so many objects were read.
    interrupt_after: int | None = None
    has_versions: bool = True
    #: The key of an object that is deleted when it is about to be read.
    deletes: str | None = None
    #: The keys of objects that must be restored before they can be read.
    archived: set[str] = field(default_factory=set)
    #: The keys of objects that another key encrypts.
    foreign: set[str] = field(default_factory=set)

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        if key in self.archived:
            raise RetryableError(fault("S3.InvalidObjectState", "archived"), cause=Cause.ARCHIVED)
        if key in self.foreign:
            raise RetryableError(fault("S3.AccessDenied", "denied"), cause=Cause.ACCESS_DENIED)
        found = self.bucket.current(key)
        if found is None or found.body is None:
            raise RetryableError(fault("S3.NoSuchKey", "no such key"), cause=Cause.NOT_FOUND)
        return found.body if limit is None else found.body[: limit + 1]

    def under(self, prefix: str, *, limit: int | None = None) -> list[str]:
        return sorted(key for key in self.bucket.versions if key.startswith(prefix) and self.bucket.current(key))[
            :limit
        ]

    def listed(self, prefix: str) -> Iterator[Listed]:
        for key in sorted(self.bucket.versions, key=str.encode):
            if key.startswith(prefix):
                for each in reversed(self.bucket.versions[key]):
                    yield Listed(key, each.version_id, each.body is None, len(each.body or b""), each.at)

    def fetch(self, wanted: Iterable[Wanted]) -> Iterator[Fetched]:
        for each in wanted:
            if self.interrupt_after is not None and len(self.fetched) >= self.interrupt_after:
                raise KeyboardInterrupt
            self.fetched.append(each.key)
            found = None if each.key == self.deletes else self._version(each)
            if each.key in self.foreign:
                yield Fetched(each, None, is_foreign=True)
            elif found is None or found.body is None:
                yield Fetched(each, None)
            else:
                digest, size = sha256(found.body).hexdigest(), len(found.body)
                lock = (found.lock, found.retain_until) if self.knows_locks else (None, None)
                if each.key in self.archived:
                    yield Fetched(each, None, 0, None, self.knows_locks, *lock, is_archived=True)
                    continue
                yield Fetched(each, digest, size, found.body, self.knows_locks, *lock)

    def _version(self, wanted: Wanted) -> Stored | None:
        if not wanted.version_id:
            return self.bucket.current(wanted.key)
        versions = self.bucket.versions.get(wanted.key, [])
        return next((each for each in versions if each.version_id == wanted.version_id), None)


def log_objects(
    batches: Iterable[Sequence[Leaf]], key: VerifierKey, sign: Callable[[bytes], bytes]
) -> Iterator[tuple[str, bytes]]:
    """Yield the objects of a log with these batches, as the function that seals writes them; some more than once."""
    tree, bundle = Tree(), list[bytes]()
    for number, batch in enumerate(batches):
        yield batch_key(number), batch_bytes(batch)
        for leaf in map(leaf_bytes, batch):
            bundle.append(leaf)
            yield from ((LOG + tile.path, content) for tile, content in tree.append(leaf))
            if len(bundle) == FULL:
                yield LOG + bundle_path(tree.size // FULL - 1, FULL), bundle_bytes(bundle)
                bundle.clear()
        yield from ((LOG + tile.path, content) for tile, content in tree.unfilled())
        if bundle:
            yield LOG + bundle_path(tree.size // FULL, len(bundle)), bundle_bytes(bundle)
        checkpoint = Checkpoint(key.name, tree.size, tree.root())
        yield checkpoint_key(number), checkpoint.note(key, sign(checkpoint.body()))


@dataclass
class FakeProgress:
    kept: KeptProgress | None = None

    def load(self) -> KeptProgress | None:
        return self.kept

    def save(self, progress: KeptProgress) -> None:
        self.kept = progress

    def clear(self) -> None:
        self.kept = None


@dataclass
class FakeRows:
    rows: list[Outcome] = field(default_factory=list)
    unreadable: list[UnreadableRow] = field(default_factory=list)

    def scan(self, status: OutcomeStatus | None) -> Iterator[Outcome | UnreadableRow]:
        assert status is None
        yield from self.rows
        yield from self.unreadable


class VerifyWorld(SealWorld):
    """A bucket that is sealed every half an hour, the outcomes of its evidence, and what verifies them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = FakeRows()
        self.pseudonyms = FakePseudonyms(Steps())
        self.progress = FakeProgress()
        self.sealed_bucket = FakeSealedBucket(self.bucket)

    def enforce(self, number: int, account_id: str = ACCOUNT) -> str:
        """Write the evidence of an event whose policies were attached, and its outcome; return the evidence's key."""
        event_time = NOON - timedelta(days=number % 3)
        evidence = Evidence(
            event_id=f"event-{number}",
            event_name="AcceptHandshake",
            event_time=event_time,
            source="aws.organizations",
            account=self.pseudonyms.of(account_id),
            organization_id=ORGANIZATION,
            attempt=1,
            status=OutcomeStatus.ENFORCED,
            required=POLICIES,
            policies=tuple(RecordedPolicy(policy_id=each, result=AttachmentResult.ATTACHED) for each in POLICIES),
            recorded_at=self.clock.now(),
        )
        body, key = evidence.model_dump_json(exclude_none=True).encode(), evidence_key(evidence)
        self.bucket.put(key, body)
        self.rows.rows.append(
            Outcome(
                account_id=account_id,
                event_id=f"event-{number}",
                event_name="AcceptHandshake",
                source="aws.organizations",
                status=OutcomeStatus.ENFORCED,
                policies=tuple(PolicyOutcome(policy_id=each, result=AttachmentResult.ATTACHED) for each in POLICIES),
                attempts=1,
                event_time=event_time,
                received_at=self.clock.now(),
                updated_at=self.clock.now(),
                done_at=self.clock.now(),
                evidence_key=key,
                evidence_sha256=sha256(body).hexdigest(),
            )
        )
        return key

    def write_log(self, batches: Iterable[Sequence[Leaf]]) -> None:
        """Write the whole log anew, with these batches, signed by the log's key."""
        for key in [each for each in self.bucket.versions if each.startswith(LOG)]:
            del self.bucket.versions[key]
        for key, content in log_objects(batches, self.sealer.verifier_key, self.signer.private.sign):
            if key not in self.bucket.versions:
                self.bucket.put(key, content, announced=False)

    @classmethod
    def with_batches(cls, *batches: int, mode: str = "GOVERNANCE") -> VerifyWorld:
        """Return a world whose batches have these numbers of objects; half an hour has passed since the last one."""
        world = cls()
        number = 0
        for objects in batches:
            for _ in range(objects):
                world.bucket.versions[world.enforce(number)][0].lock = mode
                number += 1
            world.seal()
            world.clock.advance(AFTER.total_seconds())
        return world

    def verification(
        self,
        *,
        keys: Sequence[VerifierKey] = (),
        period: Period | None = None,
        is_quick: bool = False,
        elsewhere: Mapping[str, bytes] | None = None,
        is_offline: bool = False,
    ) -> Verification:
        dependencies = VerifyDependencies(
            bucket=self.sealed_bucket,
            verify=verified,
            new_records=SortedRecords,
            progress=self.progress,
            clock=self.clock,
            show=lambda _part, _number: None,
            rows=None if is_offline else self.rows,
            pseudonyms=None if is_offline else self.pseudonyms,
        )
        request = VerifyRequest(
            keys or [self.sealer.verifier_key],
            period or Period(),
            is_quick=is_quick,
            elsewhere=elsewhere or {},
        )
        return Verifier(dependencies, request).run().verification

    def found(self, **options: bool) -> list[tuple[str, str]]:
        """Return what a verification finds: the kind and the object of each finding."""
        return [(each.kind.value, each.what) for each in self.verification(**options).findings]  # type: ignore[arg-type]


def key_file(world: VerifyWorld, folder: Path) -> str:
    """Write the public key of the log to a file, and return its path."""
    path = folder / "key.txt"
    path.write_text(f"# the log's key\n{world.sealer.verifier_key}\n")
    return str(path)


def download(world: VerifyWorld, folder: Path) -> Path:
    """Write the current versions to a folder, as `aws s3 sync` does."""
    for key in world.bucket.versions:
        found = world.bucket.current(key)
        if found and found.body is not None:
            path = folder / "bucket" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(found.body)
    return folder / "bucket"
