"""Verify the sealed log: the leaves lead to every root that was signed, and all of the log's objects follow from them.

Leaves are in the entry bundles and, once more, in the batches. Those are taken that lead to the last signed root, so
that a finding names the object that was changed, and not everything that is calculated from it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, NamedTuple

from handlers.core.errors import Cause, PermanentError, RetryableError, fault
from handlers.core.evidence.checkpoint import Checkpoint, VerifierKey, Verify, open_note
from handlers.core.evidence.leaves import bundle_bytes, read_bundle, read_leaf
from handlers.core.evidence.merkle import FULL, Tree, bundle_path
from handlers.core.evidence.sealing import COMPARE_EVERY
from handlers.core.evidence.verifying import (
    COMPLETED_WITHIN,
    MAX_GAP,
    Findings,
    SealedBucket,
    Show,
    Sorted,
    Wanted,
)
from schemas.keys import BATCHES, CHECKPOINTS, LOG, batch_key, checkpoint_key, log_number
from schemas.sealed import SealedBatch
from schemas.verification import FindingKind

#: How long the log may be without a comparison with the whole bucket, which takes several invocations if it is large.
_COMPARED_WITHIN: Final = COMPARE_EVERY + timedelta(days=1)
#: A large bundle or batch; the limit of an object of the log.
_MAX_BYTES: Final = 64 * 1024 * 1024


class LogObject(NamedTuple):
    """An object of the log, as it follows from the leaves."""

    size: int
    #: Of a checkpoint, those of its body: signatures of one text may differ.
    sha256: str
    #: Whether its batch has no signed checkpoint yet, so that it may not be written yet.
    is_open: bool = False
    #: The text of a checkpoint that is signed; empty for others.
    body: str = ""

    def encode(self) -> bytes:
        """Return a record."""
        return json.dumps(self).encode()

    @classmethod
    def decode(cls, record: bytes) -> "LogObject":
        """Read a record."""
        return cls(*json.loads(record))


class _UnusableError(Exception):
    """Leaves that do not lead to the signed root."""


@dataclass
class ReadLog:
    """What the log says."""

    #: The last checkpoint that the log's key signed.
    checkpoint: Checkpoint
    #: The same, as it was signed.
    note: bytes
    #: By key: the number of the leaf and its bytes, of all but the batches' first leaves.
    leaves: Sorted
    #: By key: the size of the log with which it came to be, and a LogObject.
    objects: Sorted
    #: The first leaf of the last batch; None if the log is empty.
    last: SealedBatch | None = None
    #: The roots at the sizes that were asked for.
    roots: dict[int, bytes] = field(default_factory=dict)


def signed_by(note: bytes, keys: Sequence[VerifierKey], verify: Verify) -> Checkpoint:
    """Return the checkpoint in a note that one of the keys has signed. Raises ValueError, with the reason."""
    reasons = []
    for key in keys:
        try:
            return open_note(note, key, verify)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError(reasons[-1])


@dataclass
class LogReader:
    """Read the sealed log, and find what is wrong with it."""

    bucket: SealedBucket
    keys: Sequence[VerifierKey]
    verify: Verify
    findings: Findings
    now: datetime
    show: Show

    def read(self, leaves: Sorted, objects: Sorted, sizes: Iterable[int] = ()) -> ReadLog:
        """Read the log into records; `sizes` are those whose roots are returned.

        Raises PermanentError if it has no signed checkpoint, or no leaves lead to it.
        """
        number, note, checkpoint = self._last_signed()
        last_batch = max(self._numbers(BATCHES), default=-1)
        sources: list[Callable[[], Iterator[bytes]]] = [
            lambda: self._bundled(checkpoint.size),
            lambda: self._batched(range(number + 1)),
        ]
        for source in sources:
            leaves.clear()
            objects.clear()
            found = _Pass(checkpoint.origin, leaves, objects, frozenset(sizes), self.show)
            with suppress(_UnusableError):
                found.run(source(), checkpoint)
                break
        else:
            raise PermanentError(
                fault(
                    "LOG_CHANGED",
                    f"neither the entry bundles nor the batches of the log lead to checkpoint {number}, which is "
                    "signed: at least two objects of the log were changed or deleted. Verify a copy of the bucket",
                )
            )
        self._times(found.headers)
        self._structure(found)
        self._open_batches(range(found.batches, last_batch + 1), found)
        return ReadLog(checkpoint, note, leaves, objects, found.last, found.roots)

    def at(self, log: ReadLog, size: int, root: str) -> ReadLog:
        """Return a log as an earlier checkpoint signed it, with this number of leaves and this root.

        Raises PermanentError if it has no such checkpoint.
        """
        known = ((key, LogObject.decode(record)) for key, number, record in log.objects if number == size)
        key, body = next(((key, each.body) for key, each in known if each.body), ("", ""))
        why = f"the log has no checkpoint of {size} leaves with the root {root}: it was cut, or rewritten"
        changed = PermanentError(fault("LOG_CHANGED", why))
        if not key:
            raise changed
        note = self.bucket.read(key, limit=_MAX_BYTES)
        try:
            checkpoint = signed_by(note, self.keys, self.verify)
        except ValueError:
            raise changed from None
        if checkpoint.body() != body.encode() or checkpoint.root.hex() != root:
            raise changed
        return replace(log, checkpoint=checkpoint, note=note)

    def _numbers(self, prefix: str) -> list[int]:
        """Return the numbers of the objects that are there."""
        numbers = (log_number(each.key) for each in self.bucket.listed(prefix) if not each.is_marker)
        return [each for each in numbers if each is not None]

    def _last_signed(self) -> tuple[int, bytes, Checkpoint]:
        """Return the last checkpoint that is signed; what is wrong with later ones is found with all others."""
        reason = "the bucket has no checkpoint"
        # Whoever can write could put an object under any number.
        for number in sorted(set(self._numbers(CHECKPOINTS)), reverse=True):
            try:
                note = self.bucket.read(checkpoint_key(number), limit=_MAX_BYTES)
                return number, note, signed_by(note, self.keys, self.verify)
            except RetryableError as error:
                if error.cause is not Cause.NOT_FOUND:
                    raise
            except ValueError as error:
                reason = str(error)
        raise PermanentError(
            fault(
                "NO_CHECKPOINT", f"there is no sealed log that this key signed: {reason}. Check the key and the stack"
            )
        )

    def _bundled(self, size: int) -> Iterator[bytes]:
        """Yield the leaves in the entry bundles."""
        full, rest = divmod(size, FULL)
        names = [(number, FULL) for number in range(full)] + ([(full, rest)] if rest else [])
        wanted = (Wanted(LOG + bundle_path(number, width), "", 0) for number, width in names)
        for (_, width), fetched in zip(names, self.bucket.fetch(wanted), strict=True):
            try:
                found = read_bundle(fetched.body or b"")
            except PermanentError:
                raise _UnusableError from None
            if len(found) != width:
                raise _UnusableError
            yield from found

    def _batched(self, numbers: Iterable[int]) -> Iterator[bytes]:
        """Yield the leaves in the batches."""
        for fetched in self.bucket.fetch(Wanted(batch_key(each), "", 0) for each in numbers):
            if fetched.body is None:
                raise _UnusableError
            yield from fetched.body.splitlines()

    def _open_batches(self, numbers: range, found: "_Pass") -> None:
        """Continue with the batches that no signed checkpoint is about."""
        for number in numbers:
            key = batch_key(number)
            try:
                header = found.go_on(self.bucket.read(key, limit=_MAX_BYTES).splitlines())
            except RetryableError as error:
                if error.cause is not Cause.NOT_FOUND:
                    raise
                self.findings.add(
                    FindingKind.MISSING, key, f"the log goes on with batch {numbers[-1]}, without this one"
                )
                return
            except _UnusableError:
                self.findings.add(FindingKind.CHANGED, key, "it is not a batch of the log")
                return
            if number < numbers[-1] or abs(self.now - header.sealed_at) > COMPLETED_WITHIN:
                meaning = (
                    f"batch {number} was sealed at {_time(header.sealed_at)}, and no checkpoint of it that the log's "
                    "key signed is there"
                )
                self.findings.add(FindingKind.MISSING, checkpoint_key(number), meaning)

    def _structure(self, found: "_Pass") -> None:
        for number, meaning in found.contradictions:
            self.findings.add(FindingKind.CHANGED, batch_key(number), meaning)

    def _times(self, headers: "_Headers") -> None:
        for number, meaning in headers.gaps:
            self.findings.add(FindingKind.GAP, batch_key(number), meaning)
        last = headers.last
        if last and last.sealed_at - self.now > MAX_GAP:
            meaning = f"the last batch was sealed at {_time(last.sealed_at)}, which is in the future"
            self.findings.add(FindingKind.GAP, batch_key(last.number), meaning)
        if last and self.bucket.has_versions and self.now - last.sealed_at > MAX_GAP:
            meaning = f"the last batch was sealed at {_time(last.sealed_at)}, more than an hour ago"
            self.findings.add(FindingKind.GAP, batch_key(last.number), meaning)


@dataclass
class _Headers:
    """The batches' first leaves, one after the other: whether time goes on without gaps."""

    first: SealedBatch | None = None
    last: SealedBatch | None = None
    #: The number of a batch, and what is wrong.
    gaps: list[tuple[int, str]] = field(default_factory=list)
    _is_late: bool = False

    def add(self, header: SealedBatch) -> None:
        """Take the next batch."""
        if last := self.last:
            since = header.sealed_at - last.sealed_at
            if since < timedelta(0):
                self._gap(header, f"it was sealed at {_time(header.sealed_at)}, before batch {last.number}")
            elif since > MAX_GAP:
                self._gap(header, f"nothing was sealed from {_time(last.sealed_at)} to {_time(header.sealed_at)}")
            if last.compared_at and (header.compared_at is None or header.compared_at < last.compared_at):
                self._gap(header, "its last comparison with the whole bucket was before that of the batch before it")
        self.first, self.last = self.first or header, header
        compared_at = header.compared_at or self.first.sealed_at
        is_late = header.sealed_at - compared_at > _COMPARED_WITHIN
        if is_late and not self._is_late:
            self._gap(header, f"the log was not compared with the whole bucket since {_time(compared_at)}")
        if compared_at > header.sealed_at:
            self._gap(header, f"its last comparison, at {_time(compared_at)}, is after the batch itself")
        self._is_late = is_late

    def _gap(self, header: SealedBatch, meaning: str) -> None:
        self.gaps.append((header.number, meaning))


@dataclass
class _Pass:
    """Calculate the whole log from its leaves."""

    origin: str
    leaves: Sorted
    objects: Sorted
    sizes: frozenset[int]
    show: Show
    headers: _Headers = field(default_factory=_Headers)
    roots: dict[int, bytes] = field(default_factory=dict)
    #: The number of a batch, and what its first leaf says wrongly.
    contradictions: list[tuple[int, str]] = field(default_factory=list)
    #: The number of batches that a signed checkpoint is about.
    batches: int = 0
    last: SealedBatch | None = None
    _tree: Tree = field(default_factory=Tree)
    _bundle: list[bytes] = field(default_factory=list)
    _header: SealedBatch | None = None
    _number: int = -1
    _first: int = 0
    #: The widths of the unfilled tiles after the last batch: those are not written again.
    _before: frozenset[tuple[int, int, int]] = frozenset()
    _digest: "_Digest" = field(default_factory=lambda: _Digest())  # noqa: PLW0108 - the class follows
    _is_open: bool = False

    def run(self, leaves: Iterator[bytes], checkpoint: Checkpoint) -> None:
        """Take all leaves; raise _UnusableError if they do not lead to a signed checkpoint."""
        self._take(leaves)
        if self._tree.size != checkpoint.size or self._tree.root() != checkpoint.root:
            raise _UnusableError
        self.batches, self.last = self._number + 1, self._header

    def go_on(self, leaves: Iterable[bytes]) -> SealedBatch:
        """Take the leaves of a batch that no signed checkpoint is about; raise _UnusableError if it is none."""
        self._is_open, number = True, self._number
        self._take(leaves)
        if self._header is None or self._number != number + 1:
            raise _UnusableError
        return self._header

    def _take(self, leaves: Iterable[bytes]) -> None:
        for content in leaves:
            try:
                leaf = read_leaf(content)
            except ValueError:
                raise _UnusableError from None
            if isinstance(leaf, SealedBatch):
                self._end()
                self._begin(leaf)
            elif self._header is None:
                raise _UnusableError
            # What no signed checkpoint is about is not sealed yet.
            elif not self._is_open:
                self.leaves.add(leaf.key, self._tree.size, content)
            self._append(content)
            if self._tree.size % FULL == 0:
                self.show("the log", self._tree.size)
        self._end()
        self._first = self._tree.size

    def _begin(self, header: SealedBatch) -> None:
        self._number += 1
        self._first, self._header = self._tree.size, header
        self._digest = _Digest()
        self._before = frozenset(tile for tile, _ in self._tree.unfilled())
        if (header.number, header.first) != (self._number, self._first):
            meaning = f"its first leaf says batch {header.number} from leaf {header.first} on, but it is batch "
            self.contradictions.append((self._number, f"{meaning}{self._number} from leaf {self._first} on"))
        self.headers.add(header)

    def _append(self, content: bytes) -> None:
        self._bundle.append(content)
        self._digest.add(content + b"\n")
        for tile, hashes in self._tree.append(content):
            self._expect(LOG + tile.path, hashes)
        if len(self._bundle) == FULL:
            self._expect(LOG + bundle_path((self._tree.size - 1) // FULL, FULL), bundle_bytes(self._bundle))
            self._bundle.clear()
        if self._tree.size in self.sizes:
            self.roots[self._tree.size] = self._tree.root()

    def _end(self) -> None:
        """Expect the objects that are written when a batch is complete."""
        header, size = self._header, self._tree.size
        if header is None or self._first == size:
            return
        if header.objects != size - self._first - 1:
            meaning = f"its first leaf says that {header.objects} follow, but {size - self._first - 1} do"
            self.contradictions.append((self._number, meaning))
        for tile, hashes in self._tree.unfilled():
            if tile not in self._before:
                self._expect(LOG + tile.path, hashes)
        if self._bundle:
            self._expect(LOG + bundle_path((size - 1) // FULL, len(self._bundle)), bundle_bytes(self._bundle))
        self._add(batch_key(self._number), LogObject(self._digest.size, self._digest.hex, self._is_open))
        body = Checkpoint(self.origin, size, self._tree.root()).body()
        expected = LogObject(0, sha256(body).hexdigest(), self._is_open, body.decode())
        self._add(checkpoint_key(self._number), expected)

    def _expect(self, key: str, content: bytes) -> None:
        self._add(key, LogObject(len(content), sha256(content).hexdigest(), self._is_open))

    def _add(self, key: str, expected: LogObject) -> None:
        self.objects.add(key, self._tree.size, expected.encode())


class _Digest:
    """The size and the SHA-256 of what is written piece by piece."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = sha256()

    def add(self, content: bytes) -> None:
        """Add a piece."""
        self.size += len(content)
        self._hash.update(content)

    @property
    def hex(self) -> str:
        """The SHA-256, in hexadecimal."""
        return self._hash.hexdigest()


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
