"""What a verification of the sealed log needs from outside, and what it collects.

The parts are `verify_log` (what the log says, and whether it was signed so), `verify_objects` (the bucket against the
log) and `verify_outcomes` (the outcomes against the evidence); `verify` puts them together.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol, TypeAlias

from handlers.core.evidence.ports import EvidenceReader
from schemas.ids import Sha256
from schemas.verification import Finding, FindingKind

#: How long the log may go without a batch, and an object without its leaf: the function that seals runs every half an
#: hour, one invocation may fail, and the next one takes at most 15 minutes.
MAX_GAP: Final = timedelta(minutes=75)
#: How long a batch may be without its checkpoint: an invocation takes at most 15 minutes.
COMPLETED_WITHIN: Final = timedelta(minutes=20)
#: The number of findings of each kind that a report describes; it counts all of them. Of each kind, so that nobody can
#: hide one among many of another kind.
MAX_DESCRIBED: Final = 1000

#: The bytes of larger objects are hashed, and not kept.
MAX_KEPT: Final = 4 * 1024 * 1024

#: Characters of a text in a finding. Version ids of S3 can be long.
_MAX_TEXT: Final = 1024

#: Called with the name of a part, and how much of it is verified.
Show: TypeAlias = Callable[[str, int], None]


class Listed(NamedTuple):
    """A version or a delete marker, as the bucket lists it; of a folder, a file."""

    key: str
    #: Empty where there are no versions.
    version_id: str
    is_marker: bool
    size: int
    #: When it was stored; None where that is not known.
    modified_at: datetime | None


def first_version(versions: Sequence[Listed]) -> Listed | None:
    """Return the version of an object that was stored first; None if there are only delete markers.

    A bucket lists the latest first.
    """
    content = [each for each in versions if not each.is_marker]
    times = [each.modified_at for each in content if each.modified_at]
    return next((each for each in reversed(content) if not times or each.modified_at == min(times)), None)


def shown_time(at: datetime) -> str:
    """Return a time as findings show it."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


class Wanted(NamedTuple):
    """An object to read, and what it belongs to."""

    key: str
    #: Empty for the current one.
    version_id: str
    #: Its number in the log, or, of an object of the log itself, the number of leaves with which it came to be.
    number: int


@dataclass(frozen=True)
class Fetched:
    """An object as it was read."""

    wanted: Wanted
    #: Absent if the bucket does not have it, and if it is archived.
    sha256: Sha256 | None
    size: int = 0
    #: Its bytes, unless they are too many to be kept in memory.
    body: bytes | None = None
    #: Whether its lock could be read.
    knows_lock: bool = False
    lock: str | None = None
    retain_until: datetime | None = None
    #: Whether it must be restored before it can be read.
    is_archived: bool = False
    #: Whether nobody with our keys can read it, because another key encrypts it.
    is_foreign: bool = False

    @property
    def absence(self) -> str:
        """Why there are no bytes of an object that was listed, and is not archived."""
        return "another key encrypts it than ours" if self.is_foreign else "it was deleted while it was verified"


class SealedBucket(EvidenceReader, Protocol):
    """The evidence bucket, or a folder with its objects, as it is verified."""

    @property
    def has_versions(self) -> bool:
        """Whether versions, times and locks are known."""

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Yield all versions and delete markers under a prefix, in the order of the keys' bytes."""

    def fetch(self, wanted: Iterable[Wanted]) -> Iterator[Fetched]:
        """Read objects, several at a time, and yield them in order."""


class Sorted(Protocol):
    """Records of any number, sorted by key and then by number; they are not kept in memory."""

    def add(self, key: str, number: int, content: bytes) -> None:
        """Add a record."""

    def __iter__(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield all records, in the order of the keys' bytes."""

    def of(self, key: str) -> Sequence[tuple[int, bytes]]:
        """Return the records with a key."""

    def under(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """Return the keys under a prefix, in order, each once, at most as many as the limit."""

    def clear(self) -> None:
        """Remove all records."""


@dataclass
class Findings:
    """What is wrong: all of it is counted, and the first ones of each kind are described."""

    counted: Counter[FindingKind] = field(default_factory=Counter)
    described: list[Finding] = field(default_factory=list)

    def add(self, kind: FindingKind, what: str, meaning: str, next_step: str | None = None) -> None:
        """Add a finding; the default for the next step is that of its kind."""
        self.counted[kind] += 1
        if self.counted[kind] <= MAX_DESCRIBED:
            texts = {"what": what, "meaning": meaning, "next_step": next_step or NEXT_STEPS[kind]}
            self.described.append(Finding(kind=kind, **{name: each[:_MAX_TEXT] for name, each in texts.items()}))

    @property
    def number(self) -> int:
        """The number of all findings."""
        return self.counted.total()


#: Where the next steps after findings are.
RUNBOOK: Final = "handlers/operate/RUNBOOK.md#a-verification-found-something"
#: The next step after a finding.
NEXT_STEPS: Final = {
    FindingKind.MISSING: (
        "find out in the bucket's access logs who deleted it, before anybody restores it from its version or from a "
        f"copy of the bucket; see {RUNBOOK}"
    ),
    FindingKind.CHANGED: (
        f"do not rely on it; compare it with a copy of the bucket, and find out who may write there; see {RUNBOOK}"
    ),
    FindingKind.INSERTED: f"do not rely on it; find out in the bucket's access logs who wrote it; see {RUNBOOK}",
    FindingKind.GAP: f"find out why nothing was sealed (`make status`, and the log of the function); see {RUNBOOK}",
    FindingKind.WEAKENED: (
        f"find out in the bucket's access logs who changed the retention, and set it again; see {RUNBOOK}"
    ),
    FindingKind.DISAGREES: f"rely on the evidence, and find out who wrote the other record; see {RUNBOOK}",
}
