"""Compare the bucket with the log: both in the order of their keys, so that any number of objects fits in memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from handlers.core.evidence.checkpoint import VerifierKey, Verify
from handlers.core.evidence.leaves import kind_of, object_leaf, shown_key
from handlers.core.evidence.merkle import Hash
from handlers.core.evidence.verify_log import LogObject, signed_by
from handlers.core.evidence.verifying import (
    COMPLETED_WITHIN,
    MAX_GAP,
    Fetched,
    Findings,
    Listed,
    SealedBucket,
    Show,
    Sorted,
    Wanted,
    first_version,
    shown_time,
)
from handlers.core.redaction import redact
from schemas.audit import AuditRecord
from schemas.configuration import Configuration
from schemas.evidence import Evidence, RehearsalEvidence
from schemas.ids import Sha256
from schemas.keys import (
    LOG,
    SEALED_PREFIXES,
    configuration_key,
    evidence_keys,
    key_beside,
    own_key,
    rehearsal_key,
    sweep_key,
)
from schemas.sealed import ObjectKind, SealedDeletion, SealedObject
from schemas.sweep import SweepEvidence
from schemas.values import Moment, Text
from schemas.verification import FindingKind

T = TypeVar("T")

#: How often the progress is kept.
_KEEP_EVERY: Final = 1000
#: The next step after an object that may be newer than a downloaded log.
_NEWER: Final = (
    "download the folder log/ again in an hour, because the object may be newer than the log; if the log still does "
    "not name it, see handlers/operate/RUNBOOK.md#a-verification-found-something"
)
#: More keys are not kept: a verification that finds so much is not resumed.
_MAX_WRONG: Final = 10_000


class KeptProgress(BaseModel):
    """How far an interrupted verification was: which objects need not be read again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The keys that it was made with; the name of the log is part of each.
    keys: tuple[Text, ...]
    #: The log that it is about: a later one must extend it.
    size: int
    root: Sha256
    since: Moment | None = None
    until: Moment | None = None
    begun_at: Moment
    #: The last key of which all objects were read.
    key: str
    #: The keys whose objects were not as they were sealed; those are read again.
    wrong: tuple[str, ...] = ()


class ProgressStore(Protocol):
    """Where the progress of a verification is kept."""

    def load(self) -> KeptProgress | None:
        """Return what is kept; None if there is nothing, or nothing that can be used."""

    def save(self, progress: KeptProgress) -> None:
        """Keep it in place of what was kept before."""

    def clear(self) -> None:
        """Delete it."""


class Period(NamedTuple):
    """A period; objects are part of it by when S3 stored them."""

    since: datetime | None = None
    #: Not part of it.
    until: datetime | None = None

    def has(self, at: datetime) -> bool:
        """Return whether a moment is part of it."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


@dataclass
class Compared:
    """How much was compared."""

    checkpoints: int = 0
    tiles: int = 0
    valid: int = 0
    #: The objects that are too new to be sealed.
    pending: int = 0
    #: The objects that must be restored before they can be read; their locks were compared.
    archived: int = 0
    #: Whether the locks of all objects could be read.
    knows_locks: bool = True


class _Expected(NamedTuple):
    """A version that the log names."""

    number: int
    leaf: SealedObject | SealedDeletion


class _ToRead(NamedTuple):
    """An object to read, and what it must be."""

    wanted: Wanted
    leaf: SealedObject | None = None
    log_object: LogObject | None = None


@dataclass
class ObjectVerifier:
    """Compare all objects with the log, and read them."""

    bucket: SealedBucket
    keys: Sequence[VerifierKey]
    verify: Verify
    findings: Findings
    now: datetime
    show: Show
    period: Period = field(default_factory=Period)
    is_quick: bool = False
    #: Called with each object that is as it was sealed, if it was read.
    on_valid: Callable[[SealedObject, bytes | None], None] = lambda _leaf, _body: None
    compared: Compared = field(default_factory=Compared)

    def log(self, expected: Sorted) -> None:
        """Compare the log's own objects; checkpoints are read in any case."""
        for each, fetched in self._read(self._log_objects(expected), lambda each: each.wanted):
            if each.log_object:
                self._check_log_object(each.log_object, fetched)
        self.show("the log's objects", self.compared.tiles + self.compared.checkpoints)

    def objects(self, leaves: Sorted, kept: "Resumed") -> None:
        """Compare the objects that are sealed."""
        number = 0
        if self.is_quick:
            for _ in self._sealed_objects(leaves):
                self.compared.valid += 1
                number += 1
                self._say(number)
            return
        for each, fetched in self._read(kept.unread(self._sealed_objects(leaves), self.compared), lambda x: x.wanted):
            before = self.findings.number
            if each.leaf:
                self._check_object(each.leaf, fetched)
            if fetched.is_archived:
                self.compared.archived += 1
            elif self.findings.number == before:
                self.compared.valid += 1
                if each.leaf:
                    self.on_valid(each.leaf, fetched.body)
            kept.read(each.wanted.key, is_wrong=self.findings.number > before)
            number += 1
            self._say(number)

    def _say(self, number: int) -> None:
        if number % 500 == 0:
            self.show("objects", number)

    def _read(self, items: Iterable[T], wanted: Callable[[T], Wanted]) -> Iterator[tuple[T, Fetched]]:
        """Yield items with the objects that they want."""
        ahead: list[T] = []

        def asked() -> Iterator[Wanted]:
            for each in items:
                ahead.append(each)
                yield wanted(each)

        for fetched in self.bucket.fetch(asked()):
            yield ahead.pop(0), fetched

    # The log's own objects.

    def _log_objects(self, expected: Sorted) -> Iterator[_ToRead]:
        """Yield the objects of the log that are there and have to be read."""
        listed = groupby(self.bucket.listed(LOG), attrgetter("key"))
        named = groupby(expected, itemgetter(0))
        for key, records, versions in _side_by_side(named, listed):
            if not records:
                self._unexpected_in_log(key, versions)
                continue
            _, number, record = records[0]
            known = LogObject.decode(record)
            if first := self._as_listed(key, known, versions):
                is_checkpoint = bool(known.body)
                if not self.is_quick or is_checkpoint:
                    yield _ToRead(Wanted(key, first.version_id, number), log_object=known)
                else:
                    self.compared.tiles += 1

    def _unexpected_in_log(self, key: str, versions: Sequence[Listed]) -> None:
        stored = max((each.modified_at for each in versions if each.modified_at), default=None)
        if stored and self.now - stored <= COMPLETED_WITHIN and not any(each.is_marker for each in versions):
            # The log has been continued since its last checkpoint was read.
            return
        self.findings.add(FindingKind.INSERTED, redact(key), "no leaf and no batch of the log leads to this object")

    def _as_listed(self, key: str, known: LogObject, versions: Sequence[Listed]) -> Listed | None:
        """Return the first version of an object of the log if it has the right size."""
        if not versions:
            if not known.is_open:
                self.findings.add(FindingKind.MISSING, key, "the signed log needs this object, and it is not there")
            return None
        if any(each.is_marker for each in versions):
            self.findings.add(FindingKind.MISSING, key, _marker(versions))
        content = [each for each in versions if not each.is_marker]
        if len(content) > 1:
            self.findings.add(FindingKind.INSERTED, key, _versions(content))
        first = first_version(versions)
        if first and not known.body and first.size != known.size:
            meaning = f"it has {first.size} bytes, and the signed leaves lead to {known.size}"
            self.findings.add(FindingKind.CHANGED, key, meaning)
            return None
        return first

    def _check_log_object(self, known: LogObject, fetched: Fetched) -> None:
        key, before = fetched.wanted.key, self.findings.number
        if fetched.sha256 is None:
            self.findings.add(FindingKind.MISSING, key, fetched.absence)
        elif known.body:
            self._check_checkpoint(known, fetched)
        elif fetched.sha256 != known.sha256:
            self.findings.add(FindingKind.CHANGED, key, "its bytes are not those that the signed leaves lead to")
        if fetched.sha256 and fetched.knows_lock and fetched.retain_until is None:
            self.findings.add(FindingKind.WEAKENED, key, "no retention locks it, although the log's objects are locked")
        if self.findings.number == before:
            self.compared.checkpoints += bool(known.body)
            self.compared.tiles += not known.body

    def _check_checkpoint(self, known: LogObject, fetched: Fetched) -> None:
        try:
            checkpoint = signed_by(fetched.body or b"", self.keys, self.verify)
        except ValueError as error:
            self.findings.add(FindingKind.CHANGED, fetched.wanted.key, redact(str(error)))
            return
        if checkpoint.body() != known.body.encode():
            size, root = known.body.splitlines()[1:3]
            meaning = (
                f"it signs {checkpoint.size} leaves with another root than the log has there ({size} leaves, {root}): "
                "the log does not extend what was signed"
            )
            self.findings.add(FindingKind.CHANGED, fetched.wanted.key, meaning)

    # The objects that are sealed.

    def _sealed_objects(self, leaves: Sorted) -> Iterator[_ToRead]:
        """Yield the objects that are there as the log names them, as far as the listing says."""
        named = groupby(
            ((key, _Expected(number, object_leaf(record))) for key, number, record in leaves), itemgetter(0)
        )
        listed = groupby((each for prefix in SEALED_PREFIXES for each in self.bucket.listed(prefix)), attrgetter("key"))
        for key, records, versions in _side_by_side(named, listed):
            expected = [each for _, each in records]
            if not self._is_in_period(expected, versions):
                continue
            self._preempted(key, leaves)
            yield from self._compared_key(key, expected, versions)

    def _is_in_period(self, expected: Sequence[_Expected], versions: Sequence[Listed]) -> bool:
        times = [*(each.leaf.modified_at for each in expected), *(each.modified_at for each in versions)]
        known = [each for each in times if each]
        return not known or any(map(self.period.has, known))

    def _preempted(self, key: str, leaves: Sorted) -> None:
        """Find an object under a key that a worker wanted to write to; it then wrote beside it."""
        own = own_key(key)
        if own and leaves.of(own):
            meaning = (
                f"a worker found this object, which was not its own, and wrote its evidence beside it, under {key}"
            )
            self.findings.add(FindingKind.INSERTED, own, meaning)

    def _compared_key(self, key: str, expected: Sequence[_Expected], versions: Sequence[Listed]) -> Iterator[_ToRead]:
        kind = kind_of(key)
        if kind is None:
            meaning = "no part of Joinguard writes an object with such a key"
            self.findings.add(FindingKind.INSERTED, shown_key(key), meaning)
            return
        # Of a version that was sealed twice, the first leaf counts.
        sealed = {each.leaf.version_id: each for each in reversed(expected) if isinstance(each.leaf, SealedObject)}
        self._twice(key, expected)
        self._markers(key, kind, expected, versions)
        content = {each.version_id: each for each in versions if not each.is_marker}
        self._unsealed(key, sealed, content)
        for version_id, each in sealed.items():
            # A folder has one file for a key, which is the version that was current.
            found = content.get(version_id if self.bucket.has_versions else "")
            if isinstance(each.leaf, SealedObject) and self._is_as_listed(each.leaf, found):
                wanted = Wanted(key, version_id if self.bucket.has_versions else "", each.number)
                yield _ToRead(wanted, leaf=each.leaf)

    def _twice(self, key: str, expected: Sequence[_Expected]) -> None:
        """Find a version of which two leaves say different things; the same leaf again is none."""
        leaves = {each.leaf for each in expected}
        if len({(each.version_id, type(each)) for each in leaves}) < len(leaves):
            meaning = f"the log names the same version of it with another content, in leaves {_numbers(expected)}"
            self.findings.add(FindingKind.DISAGREES, key, meaning)

    def _markers(self, key: str, kind: ObjectKind, expected: Sequence[_Expected], versions: Sequence[Listed]) -> None:
        """Find delete markers; rehearsals expire when their locks have ended."""
        logged = {each.leaf.version_id for each in expected if isinstance(each.leaf, SealedDeletion)}
        there = {each.version_id for each in versions if each.is_marker}
        if not (logged or there) or self._is_expired(kind, expected):
            return
        if there:
            says = "The log has it, too" if there <= logged else "The log does not have it yet"
            self.findings.add(FindingKind.MISSING, key, f"{_marker(versions)}. {says}")
        elif self.bucket.has_versions:
            meaning = "the log has a delete marker of it, which is gone: somebody deleted it and restored it"
            self.findings.add(FindingKind.MISSING, key, meaning)
        else:
            self.findings.add(FindingKind.MISSING, key, "the log has a delete marker of it")

    def _is_expired(self, kind: ObjectKind, expected: Sequence[_Expected]) -> bool:
        ends = [each.leaf.retain_until for each in expected if isinstance(each.leaf, SealedObject)]
        return kind is ObjectKind.REHEARSAL and all(end and end <= self.now for end in ends)

    def _unsealed(self, key: str, sealed: dict[str, _Expected], content: dict[str, Listed]) -> None:
        """Find versions that should not be there: each key is written once."""
        if len(content) > 1 or len(sealed) > 1:
            self.findings.add(FindingKind.INSERTED, key, _versions([*content.values()]))
        unsealed = [each for each in content.values() if each.version_id not in sealed]
        if not unsealed or len(content) > 1 or (sealed and not self.bucket.has_versions):
            return
        [only] = unsealed
        if sealed:
            self.findings.add(FindingKind.INSERTED, key, "it is another version than the log names")
        elif only.modified_at is None:
            self.findings.add(
                FindingKind.INSERTED,
                key,
                "no leaf of the log in this folder names it that a checkpoint is about",
                _NEWER,
            )
        elif self.now - only.modified_at > MAX_GAP:
            self.findings.add(
                FindingKind.INSERTED, key, "the log does not name it, although it is older than 75 minutes"
            )
        else:
            self.compared.pending += 1

    def _is_as_listed(self, leaf: SealedObject, found: Listed | None) -> bool:
        """Return whether a version is listed as it was sealed."""
        if found is None:
            if not self._is_expired(leaf.kind, [_Expected(0, leaf)]):
                self.findings.add(FindingKind.MISSING, leaf.key, _gone(leaf))
            return False
        if leaf.sha256 is None:
            meaning = "its SHA-256 was not known when it was sealed, so no part of Joinguard wrote it"
            self.findings.add(FindingKind.INSERTED, leaf.key, meaning)
            return False
        if found.size != leaf.size:
            meaning = f"it has {found.size} bytes, and {leaf.size} were sealed"
            self.findings.add(FindingKind.CHANGED, leaf.key, meaning)
            return False
        # HTTP's times have whole seconds.
        if found.modified_at and found.modified_at.replace(microsecond=0) != leaf.modified_at.replace(microsecond=0):
            meaning = f"S3 stored it at {shown_time(found.modified_at)}, and {shown_time(leaf.modified_at)} was sealed"
            self.findings.add(FindingKind.CHANGED, leaf.key, meaning)
            return False
        return True

    def _check_object(self, leaf: SealedObject, fetched: Fetched) -> None:
        if fetched.is_archived:
            self._check_lock(leaf, fetched)
            return
        if fetched.sha256 is None:
            self.findings.add(FindingKind.MISSING, leaf.key, fetched.absence)
            return
        if (fetched.sha256, fetched.size) != (leaf.sha256, leaf.size):
            meaning = f"its SHA-256 is {fetched.sha256}, and {leaf.sha256} was sealed"
            self.findings.add(FindingKind.CHANGED, leaf.key, meaning)
            return
        self._check_lock(leaf, fetched)
        if fetched.body is None:
            self.findings.add(FindingKind.DISAGREES, leaf.key, "it is larger than any record of Joinguard")
        elif says := contradiction(leaf.kind, leaf.key, fetched.body):
            self.findings.add(FindingKind.DISAGREES, leaf.key, says)

    def _check_lock(self, leaf: SealedObject, fetched: Fetched) -> None:
        if leaf.retain_until is None:
            self.findings.add(FindingKind.WEAKENED, leaf.key, "it was not locked when it was sealed")
            return
        if leaf.retain_until <= self.now:
            return
        if not fetched.knows_lock:
            self.compared.knows_locks = False
            return
        if fetched.retain_until is None:
            now = "was removed"
        elif fetched.retain_until < leaf.retain_until:
            now = f"ends at {shown_time(fetched.retain_until)}"
        elif (leaf.lock, fetched.lock) == ("COMPLIANCE", "GOVERNANCE"):
            now = "is in GOVERNANCE mode"
        else:
            return
        sealed = f"when it was sealed, it was locked until {shown_time(leaf.retain_until)} in {leaf.lock} mode"
        self.findings.add(FindingKind.WEAKENED, leaf.key, f"its lock {now}: {sealed}")


@dataclass
class Resumed:
    """Which objects an interrupted verification has read already, and what this one has."""

    store: ProgressStore
    #: What this verification keeps, with the last key and the wrong ones replaced.
    own: KeptProgress
    #: What an earlier one kept, if this one goes on with it.
    earlier: KeptProgress | None = None
    _wrong: list[str] = field(default_factory=list)
    _key: str = ""
    _done: str = ""
    _unsaved: int = 0

    @classmethod
    def of(
        cls, store: ProgressStore, own: KeptProgress, root_at: Callable[[int], Hash | None], latest: timedelta
    ) -> Self:
        """Go on with what is kept if it was made with the same keys, recently, and this log extends its log."""
        earlier = store.load()
        same = earlier and (earlier.keys, earlier.since, earlier.until) == (own.keys, own.since, own.until)
        if not (earlier and same and timedelta(0) <= own.begun_at - earlier.begun_at <= latest):
            return cls(store, own)
        root = root_at(earlier.size)
        if root is None or root.hex() != earlier.root:
            return cls(store, own)
        return cls(store, own.model_copy(update={"begun_at": earlier.begun_at}), earlier)

    def unread(self, items: Iterator[_ToRead], compared: Compared) -> Iterator[_ToRead]:
        """Yield the objects that were not read; the others are as they were sealed."""
        for each in items:
            if self._was_read(each.wanted):
                compared.valid += 1
            else:
                yield each

    def _was_read(self, wanted: Wanted) -> bool:
        if not (earlier := self.earlier):
            return False
        is_before = wanted.key.encode() <= earlier.key.encode() and wanted.number < earlier.size
        return is_before and wanted.key not in earlier.wrong

    def read(self, key: str, *, is_wrong: bool) -> None:
        """Take note of an object that was read."""
        if key != self._key:
            self._done, self._key = self._key, key
            if self._unsaved >= _KEEP_EVERY:
                self.save()
        self._unsaved += 1
        if is_wrong:
            self._wrong.append(key)

    def save(self) -> None:
        """Keep what was read so far: all objects up to the key before the last one, which may have more versions."""
        earlier = self.earlier
        if not self._unsaved or not self._done or len(self._wrong) > _MAX_WRONG:
            return
        key = max(earlier.key if earlier else "", self._done, key=str.encode)
        wrong = tuple(dict.fromkeys([*(earlier.wrong if earlier else ()), *self._wrong]))
        self.store.save(self.own.model_copy(update={"key": key, "wrong": wrong}))
        self._unsaved = 0


def contradiction(kind: ObjectKind, key: str, body: bytes) -> str | None:
    """Return what the content of an object says that its key does not; None if they agree."""
    try:
        expected = _KEYS[kind](key, body)
    except ValidationError:
        return f"its content is no {kind.value} record that Joinguard writes"
    except ValueError as error:
        return str(error)
    if key in expected:
        return None
    # Whoever wrote the content can have chosen what its key holds.
    return f"its content belongs under the key {shown_key(expected[0])}"


def _evidence_keys(_key: str, body: bytes) -> Sequence[str]:
    return evidence_keys(Evidence.model_validate_json(body), sha256(body).hexdigest())


def _rehearsal_keys(_key: str, body: bytes) -> Sequence[str]:
    digest = sha256(body).hexdigest()
    own = rehearsal_key(RehearsalEvidence.model_validate_json(body), digest)
    return [own, key_beside(own, digest)]


def _audit_keys(key: str, body: bytes) -> Sequence[str]:
    record = AuditRecord.model_validate_json(body)
    # Both phases are under the day on which the action began.
    return [f"{key.rsplit('/', 2)[0]}/{record.act_id}/{record.phase}.json"]


def _configuration_keys(_key: str, body: bytes) -> Sequence[str]:
    return [configuration_key(Configuration.model_validate_json(body))]


def _sweep_keys(_key: str, body: bytes) -> Sequence[str]:
    own = sweep_key(SweepEvidence.model_validate_json(body).report)
    return [own, key_beside(own, sha256(body).hexdigest())]


_KEYS: Final[dict[ObjectKind, Callable[[str, bytes], Sequence[str]]]] = {
    ObjectKind.EVIDENCE: _evidence_keys,
    ObjectKind.REHEARSAL: _rehearsal_keys,
    ObjectKind.AUDIT: _audit_keys,
    ObjectKind.CONFIGURATION: _configuration_keys,
    ObjectKind.SWEEP: _sweep_keys,
}


def _side_by_side(
    left: Iterable[tuple[str, Iterable[Any]]], right: Iterable[tuple[str, Iterable[Any]]]
) -> Iterator[tuple[str, list[Any], list[Any]]]:
    """Yield each key of two sorted sources once, with what each source has under it."""
    sources = [iter(left), iter(right)]
    heads = [_next(each) for each in sources]
    while present := [each[0].encode() for each in heads if each]:
        key = min(present)
        found: list[list[Any]] = [[], []]
        for side, head in enumerate(heads):
            if head and head[0].encode() == key:
                found[side] = head[1]
                heads[side] = _next(sources[side])
        yield key.decode(), found[0], found[1]


def _next(groups: Iterator[tuple[str, Iterable[Any]]]) -> tuple[str, list[Any]] | None:
    found = next(groups, None)
    return (found[0], list(found[1])) if found else None


def _marker(versions: Sequence[Listed]) -> str:
    [marker, *_] = [each for each in versions if each.is_marker]
    at = f" at {shown_time(marker.modified_at)}" if marker.modified_at else ""
    is_there = any(not each.is_marker for each in versions)
    still = "the version is still there" if is_there else "its version is gone, too"
    return f"a delete marker (version {marker.version_id}) was set{at}; {still}"


def _versions(content: Sequence[Listed]) -> str:
    named = (f"{each.version_id} of {shown_time(each.modified_at)}" for each in content[:3] if each.modified_at)
    ids = ", ".join(named) or "gone"
    return f"each key is written once, and it has had several versions ({ids})"


def _gone(leaf: SealedObject) -> str:
    return f"version {leaf.version_id}, which was sealed, is not there any more"


def _numbers(expected: Sequence[_Expected]) -> str:
    return ", ".join(str(each.number) for each in expected[:5])
