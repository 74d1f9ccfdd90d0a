"""Verify the sealed log: the leaves lead to every root that was signed, and all of the log's objects follow from them.

Leaves are in the entry bundles and, once more, in the batches. Those are taken that lead to the last signed root, so
that a finding names the object that was changed, and not everything that is calculated from it. If the current versions
of neither do, the first versions are read: their locks keep them, whatever was written over them.
"""

import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import chain, count, groupby, islice
from operator import attrgetter
from typing import Final, NamedTuple

from handlers.core.errors import PermanentError, fault
from handlers.core.evidence.checkpoint import Checkpoint, VerifierKey, Verify, open_note
from handlers.core.evidence.leaves import bundle_bytes, read_bundle, read_leaf
from handlers.core.evidence.merkle import FULL, Hash, Tree, bundle_path
from handlers.core.evidence.sealing import COMPARE_EVERY
from handlers.core.evidence.verifying import (
    COMPLETED_WITHIN,
    MAX_GAP,
    RUNBOOK,
    Fetched,
    Findings,
    SealedBucket,
    Show,
    Sorted,
    Wanted,
    first_version,
    shown_time,
)
from handlers.core.redaction import redact
from schemas.keys import BATCHES, CHECKPOINTS, LOG, batch_key, checkpoint_key, log_number
from schemas.sealed import SealedBatch
from schemas.verification import FindingKind

#: How long the log may be without a comparison with the whole bucket, which takes several invocations if it is large.
_COMPARED_WITHIN: Final = COMPARE_EVERY + timedelta(days=1)


#: The next step after a batch without a checkpoint in a folder.
_INCOMPLETE: Final = (
    "download the folder log/ again: this download may have been made while the batch was sealed; if the checkpoint is "
    f"still not there, somebody deleted it; see {RUNBOOK}"
)


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


class _Signed(NamedTuple):
    """A checkpoint that the log's key signed, and the number that its key has."""

    number: int
    note: bytes
    checkpoint: Checkpoint


@dataclass
class _There:
    """The objects of the log under a prefix."""

    #: The numbers of batches or checkpoints.
    numbers: list[int] = field(default_factory=list)
    #: By key: the first version of each object that has several, or a delete marker.
    first: dict[str, str] = field(default_factory=dict)


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
    #: When the last batch was sealed that the checkpoint is about; None if the log is empty.
    sealed_until: datetime | None = None
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
        # In this order, because the log can grow meanwhile: each checkpoint is about a batch that was there before.
        batches, checkpoints = self._there(BATCHES), self._there(CHECKPOINTS)
        signed = next(self._signed(checkpoints), None)
        if signed is None:
            raise self._unsigned(batches, checkpoints)
        new = partial(_Pass, signed.checkpoint.origin, leaves, objects, frozenset(sizes), self.show)
        found = self._calculated(signed.checkpoint, batches, new)
        if found is None or found.batches != signed.number + 1:
            # Somebody changed leaves, or put a checkpoint under a number that is not its own.
            signed, found = self._last_reached(signed, checkpoints, batches, new)
        self._times(found.headers)
        self._structure(found)
        self._open_batches(range(found.batches, max(batches.numbers, default=-1) + 1), found)
        return ReadLog(signed.checkpoint, signed.note, leaves, objects, found.sealed_until, found.roots)

    def _there(self, prefix: str) -> "_There":
        """Return the objects of the log that are there under a prefix."""
        found = _There()
        for key, listed in groupby(self.bucket.listed(prefix), attrgetter("key")):
            versions = list(listed)
            first = first_version(versions)
            if first and (number := log_number(key)) is not None:
                found.numbers.append(number)
            if first and len(versions) > 1:
                found.first[key] = first.version_id
        return found

    def _signed(self, there: "_There") -> Iterator[_Signed]:
        """Yield the checkpoints that are signed, from the highest number on; others are found with all objects."""
        numbers = sorted(there.numbers, reverse=True)
        for number, fetched in zip(numbers, self._read(map(checkpoint_key, numbers)), strict=True):
            several = [fetched.wanted.key] if fetched.wanted.key in there.first else []
            for each in chain([fetched], self._read(several, there.first)):
                with suppress(ValueError):
                    note = each.body or b""
                    yield _Signed(number, note, signed_by(note, self.keys, self.verify))
                    break

    def _unsigned(self, batches: "_There", checkpoints: "_There") -> PermanentError:
        """Return the reason why no checkpoint is signed."""
        if not checkpoints.numbers and not batches.numbers:
            return PermanentError(fault("NO_CHECKPOINT", "the sealed log is empty: it has no checkpoint"))
        if not checkpoints.numbers:
            why = f"the sealed log has batches ({len(batches.numbers):,}), and no checkpoint is there"
            return PermanentError(fault("NOT_SIGNED", why))
        [last] = self._read([checkpoint_key(max(checkpoints.numbers))])
        reason = "it has changed meanwhile"
        try:
            signed_by(last.body or b"", self.keys, self.verify)
        except ValueError as error:
            reason = redact(str(error))
        names = " or ".join(f"{each.name}+{each.id.hex()}" for each in self.keys)
        number = len(checkpoints.numbers)
        why = f"no checkpoint ({number:,} are there) is signed by the key {names}; of {last.wanted.key}: {reason}"
        return PermanentError(fault("NOT_SIGNED", why))

    def _read(self, keys: Iterable[str], versions: Mapping[str, str] | None = None) -> Iterator[Fetched]:
        """Read objects: the current versions of all but those whose versions are named."""
        return self.bucket.fetch(Wanted(each, (versions or {}).get(each, ""), 0) for each in keys)

    def _calculated(self, checkpoint: Checkpoint, there: "_There", new: "Callable[[], _Pass]") -> "_Pass | None":
        """Return the log, calculated from leaves that lead to a checkpoint; None if none do."""
        for source in self._sources(checkpoint.size, there):
            found = new()
            with suppress(_UnusableError):
                # Whoever stole the key's role can have signed any size.
                found.run(islice(source(), min(checkpoint.size, sys.maxsize)), checkpoint)
                return found
        return None

    def _last_reached(
        self, last: _Signed, checkpoints: "_There", batches: "_There", new: "Callable[[], _Pass]"
    ) -> "tuple[_Signed, _Pass]":
        """Return the last checkpoint to which leaves lead, and the log; what is after it cannot be compared.

        Raises PermanentError if no leaves lead to any checkpoint.
        """
        signed = {(each.checkpoint.size, each.checkpoint.root): each for each in self._signed(checkpoints)}
        reached = {0: last}
        for source in self._sources(max(size for size, _ in signed), batches):
            found = new()
            with suppress(_UnusableError):
                found.take(source(), signed.keys())
            if found.reached:
                reached[found.reached[0]] = signed[found.reached]
        last_reached = reached[max(reached)]
        calculated = self._calculated(last_reached.checkpoint, batches, new)
        if calculated is None:
            why = (
                "the key signed checkpoints, and neither the entry bundles nor the batches of the log lead to any of "
                "them. Verify a copy of the bucket"
            )
            raise PermanentError(fault("LOG_CHANGED", why))
        signs, lead = last.checkpoint.size, last_reached.checkpoint.size
        if signs > lead:
            meaning = (
                f"it signs {signs} leaves, and neither the entry bundles nor the batches lead to it, but only to "
                f"{lead}: both were changed after them, or this checkpoint is of another log. What was sealed since "
                "was not compared"
            )
            self.findings.add(FindingKind.CHANGED, checkpoint_key(last.number), meaning)
        return last_reached, calculated

    def _sources(self, size: int, there: "_There") -> list[Callable[[], Iterator[bytes]]]:
        """Return what reads the leaves: from bundles and batches, the current versions and then the first ones."""
        return [
            lambda: self._bundled(size),
            lambda: self._batched({}),
            lambda: self._bundled(size, self._there(f"{LOG}tile/entries/").first),
            lambda: self._batched(there.first),
        ]

    def _bundled(self, size: int, versions: Mapping[str, str] | None = None) -> Iterator[bytes]:
        """Yield the leaves in the entry bundles."""
        full, rest = divmod(size, FULL)
        keys = (LOG + bundle_path(number, rest if number == full else FULL) for number in range(full + bool(rest)))
        for number, fetched in enumerate(self._read(keys, versions)):
            try:
                found = read_bundle(fetched.body or b"")
            except PermanentError:
                raise _UnusableError from None
            if len(found) != (rest if number == full else FULL):
                raise _UnusableError
            yield from found

    def _batched(self, versions: Mapping[str, str]) -> Iterator[bytes]:
        """Yield the leaves in the batches, as far as they go."""
        for fetched in self._read(map(batch_key, count()), versions):
            if fetched.body is None:
                return
            yield from fetched.body.splitlines()

    def _open_batches(self, numbers: range, found: "_Pass") -> None:
        """Continue with the batches that no signed checkpoint is about."""
        for number in numbers:
            key = batch_key(number)
            [fetched] = self._read([key])
            if fetched.sha256 is None and not fetched.is_foreign:
                meaning = f"the log goes on with batch {numbers[-1]}, without this one"
                self.findings.add(FindingKind.MISSING, key, meaning)
                return
            try:
                header = found.go_on((fetched.body or b"").splitlines())
            except _UnusableError:
                self.findings.add(FindingKind.CHANGED, key, "it is not a batch of the log")
                return
            # In a folder, batches do not become complete.
            is_running = self.bucket.has_versions and abs(self.now - header.sealed_at) <= COMPLETED_WITHIN
            if number < numbers[-1] or not is_running:
                meaning = (
                    f"batch {number} was sealed at {shown_time(header.sealed_at)}, and no checkpoint of it that the "
                    f"log's key signed is there: the {header.objects:,} objects that it names were not compared"
                )
                next_step = None if self.bucket.has_versions else _INCOMPLETE
                self.findings.add(FindingKind.MISSING, checkpoint_key(number), meaning, next_step)

    def _structure(self, found: "_Pass") -> None:
        for number, meaning in found.contradictions:
            self.findings.add(FindingKind.CHANGED, batch_key(number), meaning)

    def _times(self, headers: "_Headers") -> None:
        for number, meaning in headers.gaps:
            self.findings.add(FindingKind.GAP, batch_key(number), meaning)
        last = headers.last
        if last and last.sealed_at - self.now > MAX_GAP:
            meaning = f"the last batch was sealed at {shown_time(last.sealed_at)}, which is in the future"
            self.findings.add(FindingKind.GAP, batch_key(last.number), meaning)
        if last and self.bucket.has_versions and self.now - last.sealed_at > MAX_GAP:
            meaning = f"the last batch was sealed at {shown_time(last.sealed_at)}, more than 75 minutes ago"
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
                self._gap(header, f"it was sealed at {shown_time(header.sealed_at)}, before batch {last.number}")
            elif since > MAX_GAP:
                self._gap(
                    header, f"nothing was sealed from {shown_time(last.sealed_at)} to {shown_time(header.sealed_at)}"
                )
            if last.compared_at and (header.compared_at is None or header.compared_at < last.compared_at):
                self._gap(header, "its last comparison with the whole bucket was before that of the batch before it")
        self.first, self.last = self.first or header, header
        compared_at = header.compared_at or self.first.sealed_at
        is_late = header.sealed_at - compared_at > _COMPARED_WITHIN
        if is_late and not self._is_late:
            self._gap(header, f"the log was not compared with the whole bucket since {shown_time(compared_at)}")
        if compared_at > header.sealed_at:
            self._gap(header, f"its last comparison, at {shown_time(compared_at)}, is after the batch itself")
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
    #: When the last of them was sealed.
    sealed_until: datetime | None = None
    #: The size and the root of the last signed checkpoint that the leaves lead to, of those that were asked for.
    reached: tuple[int, Hash] | None = None
    _signed: Collection[tuple[int, Hash]] = ()
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
        self.take(leaves)
        if self._tree.size != checkpoint.size or self._tree.root() != checkpoint.root:
            raise _UnusableError
        self.batches, self.sealed_until = self._number + 1, self._header.sealed_at if self._header else None

    def take(self, leaves: Iterator[bytes], signed: Collection[tuple[int, Hash]] = ()) -> None:
        """Take leaves from the first one on; raise _UnusableError where they are none.

        `signed` has sizes and roots; the last of them that the leaves lead to is reached.
        """
        self.leaves.clear()
        self.objects.clear()
        self._signed = signed
        self._take(leaves)

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
        root = self._tree.root()
        if (size, root) in self._signed:
            self.reached = size, root
        body = Checkpoint(self.origin, size, root).body()
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
