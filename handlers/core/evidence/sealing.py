"""Seal evidence: add what is new in the bucket to the log, one batch at a time, and sign a checkpoint after each.

1. What the log has that the index lacks is indexed; the last batch is completed, in case that was interrupted.
2. Announced objects, and once a day all others, become a batch. Storing it decides what the log contains next: its key
   is written once, so that of two invocations only one continues the log.
3. Completing a batch is the same however often it is done: tiles, entry bundles, checkpoint, index, copies.
4. Only then are the announcements deleted.

So an invocation can be cut off at any call. The next one completes the batch and seals each object once.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol

from handlers.core.errors import Cause, JoinguardError, PermanentError, RetryableError, fault
from handlers.core.evidence.checkpoint import Checkpoint, VerifierKey
from handlers.core.evidence.leaves import batch_bytes, bundle_bytes, kind_of, leaf_bytes, read_batch, read_bundle
from handlers.core.evidence.merkle import FULL, Tree, bundle_path
from handlers.core.evidence.ports import EvidenceWriter
from handlers.core.ports import Clock
from schemas.keys import (
    BATCHES,
    COMPARED_PREFIXES,
    LOG,
    batch_key,
    checkpoint_key,
    log_number,
)
from schemas.outcome import Fault
from schemas.sealed import (
    MAX_UNCOPIED,
    MAX_WAITING,
    Comparison,
    Leaf,
    ObjectKind,
    SealedBatch,
    SealedDeletion,
    SealedObject,
    SealState,
    Waiting,
)

#: The number of objects that are sealed together.
MAX_BATCH: Final = 2000
#: How often the log is compared with the whole bucket.
COMPARE_EVERY: Final = timedelta(days=1)
#: How much the clocks of two invocations may differ.
_CLOCKS_DIFFER: Final = timedelta(minutes=5)
#: How long an object waits for its SHA-256 before it is sealed without, or for its description before it is foreign.
WAIT: Final = timedelta(days=3)
#: A part of a number in the key of a batch.
_NUMBERED_FOLDER: Final = re.compile("[0-9]{3}/")
#: An object that was written so recently may still be announced.
_ANNOUNCED_WITHIN: Final = timedelta(hours=1)


class ObjectVersion(NamedTuple):
    """A version of an object in the bucket."""

    key: str
    version_id: str


class ListedVersion(NamedTuple):
    """A version as the bucket lists it."""

    version: ObjectVersion
    #: When a delete marker was set; None for a version that has content.
    deleted_at: datetime | None = None


class Described(NamedTuple):
    """A version as S3 describes it."""

    version: ObjectVersion
    #: None if S3 denies describing it.
    object: SealedObject | None
    #: Whether what is missing may follow: S3 denies describing it, or its SHA-256 although the object is encrypted with
    #: no key but ours, or there was no time to read it.
    may_follow: bool = False


@dataclass(frozen=True)
class Announced:
    """A message that says that an object was written; nothing in it is trusted but the object's name."""

    receipt: str
    version: ObjectVersion | None


class LogObjects(EvidenceWriter, Protocol):
    """The log's own objects in the bucket."""

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        """Return an object's bytes. Raises RetryableError with Cause.NOT_FOUND if there is no such object."""

    def folders(self, prefix: str) -> Sequence[str]:
        """Return the keys and the folders directly under a prefix, in order."""


class EvidenceObjects(Protocol):
    """The objects that are sealed."""

    def describe(
        self, kinds: Sequence[tuple[ObjectVersion, ObjectKind]], may_read: Callable[[], bool]
    ) -> Sequence[Described]:
        """Return what S3 says about versions; those that are gone are left out.

        Bytes, of which S3 has no SHA-256, are read while `may_read` says so.
        """

    def versions(self, after: Comparison) -> tuple[Sequence[ListedVersion], Comparison | None]:
        """Return the next versions and delete markers under a prefix, and where to go on; None at the end."""


class Announcements(Protocol):
    """The queue of the messages that say which objects were written."""

    def receive(self) -> Sequence[Announced]:
        """Return some messages; none if the queue is empty."""

    def delete(self, receipts: Sequence[str]) -> None:
        """Delete messages."""


class SealedIndex(Protocol):
    """Which versions the log has. It follows the log and can be restored from it."""

    def state(self) -> SealState | None:
        """Return what is kept; a new state if there is none, and None if it cannot be read."""

    def save(self, state: SealState) -> None:
        """Keep a state."""

    def known(self, versions: Sequence[ObjectVersion]) -> set[ObjectVersion]:
        """Return which of these versions the log has."""

    def add(self, versions: Sequence[ObjectVersion]) -> None:
        """Add versions, also those that it has."""


class Signer(Protocol):
    """The key that signs checkpoints."""

    def public_key(self) -> bytes:
        """Return the 32 bytes of the Ed25519 public key."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""


class CheckpointCopies(Protocol):
    """Where checkpoints are copied to, so that a log that is rewritten differs from a copy."""

    def copy(self, origin: str, number: int, note: bytes) -> None:
        """Copy a checkpoint, unless it was copied before.

        Raises PermanentError if there is another one with its number, and RetryableError if the call fails.
        """


@dataclass(frozen=True)
class SealDependencies:
    """What sealing needs."""

    log: LogObjects
    objects: EvidenceObjects
    announcements: Announcements
    index: SealedIndex
    signer: Signer
    #: Where each checkpoint is copied to, and where the newest one of each invocation is published.
    copies: CheckpointCopies | None
    topic: CheckpointCopies | None
    clock: Clock


@dataclass
class Sealed:
    """What an invocation did."""

    #: The batches and objects that were added to the log, and the checkpoints that were signed.
    batches: int = 0
    objects: int = 0
    checkpoints: int = 0
    #: The number of leaves that the log has now.
    size: int = 0
    #: The objects that were announced to nobody: only a later comparison with the bucket found them.
    unannounced: int = 0
    #: The delete markers that were found, again if their batch was cut off, and under the log's own keys each time;
    #: those of rehearsals, which expire, are not counted.
    deletions: int = 0
    #: The objects that are sealed later, when S3 describes them and returns their SHA-256.
    waiting: int = 0
    #: The objects that are not sealed: no part of Joinguard writes their keys, or S3 does not describe them.
    foreign: int = 0
    #: Whether a comparison with the whole bucket ended.
    compared: bool = False
    #: How many checkpoints are not known to be copied, how many copies are of another checkpoint, and why. None if the
    #: invocation ended before it copied any.
    behind: int | None = None
    different: int = 0
    copy_fault: Fault | None = None
    #: 1 if the newest checkpoint was not published, and why.
    unpublished: int = 0
    topic_fault: Fault | None = None
    #: What the table keeps was not readable, or not possible, and is restored from the log and the bucket.
    restored: bool = False
    #: Another invocation continued the log meanwhile.
    overtaken: bool = False


@dataclass(frozen=True)
class Sealer:
    """Seal the evidence in a bucket."""

    #: The name of the log.
    origin: str
    dependencies: SealDependencies

    def run(self, deadline: datetime, done: Sealed | None = None) -> Sealed:
        """Add at least one batch to the log, also if nothing is new, and go on until all is sealed, or the deadline.

        `done` says what was done, also if this raises an error.

        Raises PermanentError if the log is not what it was, and RetryableError if a call fails.
        """
        return _Run(self, deadline, Sealed() if done is None else done).run()

    @property
    def verifier_key(self) -> VerifierKey:
        """The public key with which anybody verifies the checkpoints."""
        return VerifierKey(self.origin, self.dependencies.signer.public_key())


@dataclass
class _Run:
    sealer: Sealer
    deadline: datetime
    done: Sealed
    state: SealState = field(default_factory=SealState, init=False)
    #: The first leaf of the last batch; None if the log is empty.
    last: SealedBatch | None = field(default=None, init=False)
    #: Until when batches are indexed and objects are read. The rest of the time is for sealing.
    prepare_until: datetime = field(init=False)

    def __post_init__(self) -> None:
        now = self.dependencies.clock.now()
        self.prepare_until = now + (self.deadline - now) / 2

    def run(self) -> Sealed:
        kept = self.dependencies.index.state()
        self.state = _possible(kept or SealState(), self.dependencies.clock.now())
        self.done.restored = self.state != kept
        if self._catch_up():
            self._retry()
            self._repeat(self._announced)
            self._repeat(self._compare)
        else:
            # The index may lack what is announced. A leaf that repeats another one does no harm, but a pause does.
            self._announced()
        self.done.waiting = len(self.state.waiting)
        self._copy()
        return self.done

    @property
    def dependencies(self) -> SealDependencies:
        return self.sealer.dependencies

    def _repeat(self, step: Callable[[], bool]) -> None:
        """Repeat a step until it says that there is no more to do, or the time or another invocation ends it."""
        while not self.done.overtaken and step() and self._has_time():
            pass

    def _has_time(self) -> bool:
        return self.dependencies.clock.now() < self.deadline

    def _has_time_to_prepare(self) -> bool:
        return self.dependencies.clock.now() < self.prepare_until

    def _save(self, **changes: Any) -> None:
        self.state = self.state.model_copy(update=changes)
        self.dependencies.index.save(self.state)

    # The log as it is.

    def _catch_up(self) -> bool:
        """Complete the last batch, and index all batches that the index lacks; return whether there was time to."""
        number = self._last_number()
        if self.state.indexed > (0 if number is None else number + 1):
            raise _changed(f"the log has fewer batches than the {self.state.indexed} that were sealed")
        if number is None:
            return True
        header, leaves = self._batch(number)
        # The table may be lost, or restored to an earlier moment. Later batches never name an earlier comparison.
        compared = [each for each in (self.state.compared_at, header.compared_at) if each]
        latest = self.state.model_copy(update={"compared_at": max(compared, default=None)})
        self.state = _possible(latest, self.dependencies.clock.now())
        if self._signed(number) is None:
            self._check_unsigned(header, leaves)
            self._complete(header, leaves)
        self.last, self.done.size = header, _end(header)
        if self.state.indexed <= number:
            # Whoever stored the batch may have been cut off before it could say so.
            self.done.deletions += sum(_is_deletion(each) for each in leaves)
        for each in range(self.state.indexed, number + 1):
            if not self._has_time_to_prepare():
                return False
            self._index(*self._batch(each))
        return True

    def _last_number(self, prefix: str = BATCHES) -> int | None:
        """Return the highest number of a batch; None if there is none. Objects with other names are passed over."""
        for name in reversed(self.dependencies.log.folders(prefix)):
            if (number := log_number(name)) is not None:
                return number
            is_folder = _NUMBERED_FOLDER.fullmatch(name.removeprefix(prefix))
            if is_folder and (number := self._last_number(name)) is not None:
                return number
        return None

    def _batch(self, number: int) -> tuple[SealedBatch, Sequence[Leaf]]:
        match read_batch(self._part(batch_key(number))):
            case [SealedBatch() as header, *leaves] if (header.number, header.objects) == (number, len(leaves)):
                return header, leaves
        raise _changed(f"batch {number} of the log is not one")

    def _check_unsigned(self, header: SealedBatch, leaves: Sequence[Leaf]) -> None:
        """Raise PermanentError if a batch that is to be completed is not what this function would have stored."""
        before = self._batch(header.number - 1)[0] if header.number else None
        latest = self.dependencies.clock.now() + _CLOCKS_DIFFER
        earliest = before.sealed_at if before else header.sealed_at
        follows = header.first == (_end(before) if before else 0) and earliest <= header.sealed_at <= latest
        objects = [each for each in leaves if isinstance(each, SealedObject)]
        kinds = [(_version(each), each.kind) for each in objects]
        found = self.dependencies.objects.describe(kinds, self._has_time)
        described = {each.version: each for each in found}
        if not follows or not all(self._is_described(each, described.get(_version(each))) for each in objects):
            raise _changed(f"batch {header.number} of the log, which was not signed yet, is not one of this function")

    def _is_described(self, sealed: SealedObject, found: Described | None) -> bool:
        """Return whether an object of an unsigned batch is as S3 describes it.

        Raises RetryableError if S3 does not describe it now, or does not return its SHA-256.
        """
        if found is None:
            # The lock of a rehearsal may have ended meanwhile, and then it may be gone.
            return sealed.kind is ObjectKind.REHEARSAL
        if found.object and not _is_same_but_sha256(sealed, found.object):
            return False
        if found.object and found.object.sha256 == sealed.sha256:
            return True
        if found.may_follow:
            raise RetryableError(fault("CHECKSUM_DENIED", "S3 denies an object to seal, or its SHA-256"))
        # S3 may return by now what the object had waited for in vain.
        return sealed.sha256 is None and self._waited(_version(sealed))

    def _signed(self, number: int) -> bytes | None:
        try:
            return self.dependencies.log.read(checkpoint_key(number))
        except RetryableError as error:
            if error.cause is Cause.NOT_FOUND:
                return None
            raise

    # New leaves.

    def _retry(self) -> None:
        """Seal the waiting objects that S3 describes in full by now, and those without SHA-256 that waited for days."""
        described = self._described(map(_version, self.state.waiting))
        there = {each.version for each in described}
        still = tuple(each for each in self.state.waiting if _version(each) in there)
        if still != self.state.waiting:
            self._save(waiting=still)
        if objects := self._settled(described):
            self._seal(objects)

    def _announced(self) -> bool:
        """Seal what was announced, as far as a batch takes it; return whether there may be more."""
        announced: list[Announced] = []
        received: Sequence[Announced] = ()
        while len(announced) < MAX_BATCH and (received := self.dependencies.announcements.receive()):
            announced += received
        # The first batch of an invocation is written even if it is empty: it says that the log was continued.
        if announced or not self.done.batches:
            objects = self._new([each.version for each in announced if each.version])
            if self._seal(objects):
                self.dependencies.announcements.delete([each.receipt for each in announced])
        return bool(received)

    def _compare(self) -> bool:
        """Seal what a part of the bucket has and the log lacks; return whether the comparison goes on."""
        now, compared_at = self.dependencies.clock.now(), self.state.compared_at
        if self.state.comparison is None and compared_at and now - compared_at < COMPARE_EVERY:
            return False
        at = self.state.comparison or Comparison(begun_at=now, prefix=COMPARED_PREFIXES[0])
        listed, goes_on = self.dependencies.objects.versions(at)
        if goes_on is None and (following := COMPARED_PREFIXES[COMPARED_PREFIXES.index(at.prefix) + 1 :]):
            goes_on = Comparison(begun_at=at.begun_at, prefix=following[0])
        leaves = self._unsealed(listed, at)
        if leaves and not self._seal(leaves):
            return False
        self._save(comparison=goes_on, compared_at=compared_at if goes_on else now)
        self.done.compared = goes_on is None
        return goes_on is not None

    def _unsealed(self, listed: Sequence[ListedVersion], at: Comparison) -> Sequence[Leaf]:
        """Return what the bucket lists and the log lacks."""
        if at.prefix == LOG:
            self.done.deletions += sum(each.deleted_at is not None for each in listed)
            return []
        kinds = {each.version: kind_of(each.version.key) for each in listed}
        self.done.foreign += sum(kind is None for kind in kinds.values())
        objects = self._new([each.version for each in listed if each.deleted_at is None])
        markers = {each.version: each.deleted_at for each in listed if each.deleted_at and kinds[each.version]}
        known = self.dependencies.index.known(list(markers)) if markers else set()
        new = {version: when for version, when in markers.items() if version not in known}
        # Everything that was there before the first comparison is new to it.
        if self.state.compared_at:
            self.done.unannounced += sum(at.begun_at - each.modified_at > _ANNOUNCED_WITHIN for each in objects)
        deletions = [SealedDeletion(key=key, version_id=id_, modified_at=when) for (key, id_), when in new.items()]
        self.done.deletions += sum(map(_is_deletion, deletions))
        return [*objects, *deletions]

    def _new(self, versions: Iterable[ObjectVersion]) -> Sequence[SealedObject]:
        """Return the versions to seal: the log does not have them, and S3 describes them."""
        return self._settled(self._described(versions))

    def _described(self, versions: Iterable[ObjectVersion]) -> Sequence[Described]:
        """Return what S3 says about the versions that the log does not have.

        Those that it denied for long are foreign. A later comparison with the whole bucket asks about them again.
        """
        kinds = {each: kind for each in versions if (kind := kind_of(each.key))}
        known = self.dependencies.index.known(list(kinds)) if kinds else set()
        new = [(version, kind) for version, kind in kinds.items() if version not in known]
        found = self.dependencies.objects.describe(new, self._has_time_to_prepare) if new else []
        described = [each for each in found if each.object or not self._waited(each.version)]
        self.done.foreign += len(new) - len(described)
        return described

    def _settled(self, described: Sequence[Described]) -> Sequence[SealedObject]:
        """Return the objects that are sealed now, and remember those that wait for what S3 denies.

        What finds no place among them is found again by the comparison with the whole bucket.
        """
        late = {each.version for each in described if each.may_follow and not self._waited(each.version)}
        now, waiting = self.dependencies.clock.now(), self.state.waiting
        new = sorted(late - set(map(_version, waiting)))[: MAX_WAITING - len(waiting)]
        if new:
            self._save(waiting=(*waiting, *(Waiting(key=key, version_id=id_, since=now) for key, id_ in new)))
        return [each.object for each in described if each.object and each.version not in late]

    def _waited(self, version: ObjectVersion) -> bool:
        """Return whether an object has waited long enough for what S3 denies."""
        now = self.dependencies.clock.now()
        return any(
            _version(each) == version and not now - WAIT < each.since < now + _CLOCKS_DIFFER
            for each in self.state.waiting
        )

    def _seal(self, leaves: Sequence[Leaf]) -> bool:
        """Add a batch to the log; return False if another invocation has continued the log."""
        now = self.dependencies.clock.now()
        header = SealedBatch(
            number=self.last.number + 1 if self.last else 0,
            first=_end(self.last) if self.last else 0,
            objects=len(leaves),
            # The clocks of two invocations may differ.
            sealed_at=max(now, self.last.sealed_at) if self.last else now,
            compared_at=self.state.compared_at,
        )
        content = batch_bytes([header, *leaves])
        if self.dependencies.log.record(batch_key(header.number), content) != sha256(content).hexdigest():
            self.done.overtaken = True
            return False
        self._complete(header, leaves)
        self._index(header, leaves)
        self.last, self.done.size = header, _end(header)
        self.done.batches += 1
        self.done.objects += len(leaves)
        return True

    # Completing a batch.

    def _complete(self, header: SealedBatch, leaves: Sequence[Leaf]) -> None:
        """Write the tiles, the entry bundles and the checkpoint of a batch, as far as they are not written."""
        tree = Tree.resume(header.first, lambda tile: self._part(LOG + tile.path))
        if header.number and not (self._signed(header.number - 1) or b"").startswith(self._checkpoint(tree).body()):
            raise _changed(f"the tiles do not lead to checkpoint {header.number - 1}, which was signed")
        before = {tile for tile, _ in tree.unfilled()}
        bundle = self._unfilled_bundle(header.first)
        for leaf in map(leaf_bytes, [header, *leaves]):
            bundle.append(leaf)
            for tile, content in tree.append(leaf):
                self._record(LOG + tile.path, content)
            if len(bundle) == FULL:
                self._record_bundle(tree.size, bundle)
                bundle = []
        for tile, content in tree.unfilled():
            if tile not in before:
                self._record(LOG + tile.path, content)
        if bundle:
            self._record_bundle(tree.size, bundle)
        self._sign(header.number, self._checkpoint(tree))

    def _checkpoint(self, tree: Tree) -> Checkpoint:
        return Checkpoint(self.sealer.origin, tree.size, tree.root())

    def _unfilled_bundle(self, size: int) -> list[bytes]:
        number, width = divmod(size, FULL)
        return list(read_bundle(self._part(LOG + bundle_path(number, width)))) if width else []

    def _part(self, key: str) -> bytes:
        try:
            return self.dependencies.log.read(key)
        except RetryableError as error:
            if error.cause is Cause.NOT_FOUND:
                raise _changed(f"{key} of the log is gone") from None
            raise

    def _record_bundle(self, size: int, bundle: Sequence[bytes]) -> None:
        self._record(LOG + bundle_path((size - 1) // FULL, len(bundle)), bundle_bytes(bundle))

    def _sign(self, number: int, checkpoint: Checkpoint) -> None:
        note = checkpoint.note(self.sealer.verifier_key, self.dependencies.signer.sign(checkpoint.body()))
        key = checkpoint_key(number)
        written = self.dependencies.log.record(key, note)
        # Another invocation may have signed it; signatures of the same text may differ.
        if written != sha256(note).hexdigest() and not self.dependencies.log.read(key).startswith(checkpoint.body()):
            raise _taken(key)
        self.done.checkpoints += 1

    def _record(self, key: str, content: bytes) -> None:
        if self.dependencies.log.record(key, content) != sha256(content).hexdigest():
            raise _taken(key)

    def _index(self, header: SealedBatch, leaves: Sequence[Leaf]) -> None:
        versions = [_version(each) for each in leaves if not isinstance(each, SealedBatch)]
        if versions:
            self.dependencies.index.add(versions)
        waiting = tuple(each for each in self.state.waiting if _version(each) not in versions)
        # While earlier batches are not indexed, neither is this one: what follows them is indexed in order.
        is_next = header.number == self.state.indexed
        self._save(indexed=self.state.indexed + is_next, waiting=waiting)

    def _copy(self) -> None:
        """Copy the checkpoints that were not copied yet, and publish the newest. What fails holds up nothing else."""
        self.done.behind = 0
        if self.last and self.dependencies.copies:
            self._copy_to(self.dependencies.copies, self.last.number + 1)
        # The newest covers the whole log. One that does not go out is not sent later, because the next one is newer.
        if self.last and self.dependencies.topic and self.done.batches:
            try:
                self._copy_one(self.dependencies.topic, self.last.number)
            except JoinguardError as error:
                self.done.unpublished, self.done.topic_fault = 1, error.fault

    def _copy_to(self, copies: CheckpointCopies, end: int) -> None:
        # Whatever the table says, the checkpoints of this invocation were not copied before; so they come first.
        new = end - self.done.batches
        begun = min(self.state.copied, new)
        left = deque([*range(new, end), *(each for each in self.state.uncopied if each < begun), *range(begun, new)])
        failed: set[int] = set()
        while left and len(failed) < MAX_UNCOPIED:
            number = left.popleft()
            try:
                self._copy_one(copies, number)
            except PermanentError as error:
                # Its alarm tells people. Each later invocation would ask for all checkpoints after it again.
                self.done.different += 1
                self.done.copy_fault = error.fault
            except RetryableError as error:
                self.done.copy_fault = self.done.copy_fault or error.fault
                failed.add(number)
                if error.soon:
                    break
            if not self._has_time():
                break
        missing = sorted(failed.union(left))
        self.done.behind = len(missing)
        uncopied, later = tuple(missing[:MAX_UNCOPIED]), missing[MAX_UNCOPIED:]
        self._save(copied=min(later, default=end), uncopied=uncopied)

    def _copy_one(self, copies: CheckpointCopies, number: int) -> None:
        copies.copy(self.sealer.origin, number, self.dependencies.log.read(checkpoint_key(number)))


def _possible(state: SealState, now: datetime) -> SealState:
    """Return a state without what it says about the future: otherwise, the bucket would not be compared until then."""
    latest = now + _CLOCKS_DIFFER
    changes: dict[str, Any] = {}
    if state.compared_at and state.compared_at > latest:
        changes["compared_at"] = None
    if state.comparison and state.comparison.begun_at > latest:
        changes["comparison"] = None
    return state.model_copy(update=changes)


def _version(of: SealedObject | SealedDeletion | Waiting) -> ObjectVersion:
    return ObjectVersion(of.key, of.version_id)


def _is_deletion(leaf: Leaf) -> bool:
    """Return whether a leaf is a delete marker; rehearsals may expire."""
    return isinstance(leaf, SealedDeletion) and kind_of(leaf.key) is not ObjectKind.REHEARSAL


def _is_same_but_sha256(sealed: SealedObject, found: SealedObject) -> bool:
    """Return whether an object is what was sealed, apart from its SHA-256. Its lock may be stronger now."""
    changes = {"sha256": sealed.sha256, "lock": sealed.lock, "retain_until": sealed.retain_until}
    return found.model_copy(update=changes) == sealed and _is_as_locked(sealed, found)


def _is_as_locked(sealed: SealedObject, found: SealedObject) -> bool:
    """Return whether the lock of an object is the one that was sealed, or ends later, or has a stronger mode."""
    if not (sealed.retain_until and found.retain_until):
        return (sealed.lock, sealed.retain_until) == (found.lock, found.retain_until)
    return found.retain_until >= sealed.retain_until and found.lock in {sealed.lock, "COMPLIANCE"}


def _end(header: SealedBatch) -> int:
    """Return the size of the log after a batch."""
    return header.first + 1 + header.objects


def _changed(what: str) -> PermanentError:
    return PermanentError(fault("LOG_CHANGED", f"{what}. Nothing was sealed; run `make verify`"))


def _taken(key: str) -> PermanentError:
    return _changed(f"{key} holds another object")
