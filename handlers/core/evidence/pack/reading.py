"""Read the objects of a period, day by day, and say what could not be read. Nothing unreadable is passed over."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from handlers.core.errors import JoinguardError
from handlers.core.evidence.leaves import kind_of
from handlers.core.evidence.pack.ports import Objects, Progress
from schemas.audit import AuditRecord
from schemas.configuration import Configuration
from schemas.evidence import Evidence, RehearsalEvidence
from schemas.pack import ObjectRead, Period, SourceRead
from schemas.sealed import ObjectKind
from schemas.sweep import SweepEvidence

Model = TypeVar("Model", bound=BaseModel)

#: The size limit of an object: the evidence of a first sweep names every account.
MAX_BYTES: Final = 64 * 1024 * 1024
_CONFIGURATIONS: Final = "configuration/"
#: The prefix of each kind's keys before the day.
_PREFIXES: Final = {
    ObjectKind.EVIDENCE: "evidence/",
    ObjectKind.REHEARSAL: "evidence/rehearsal/",
    ObjectKind.AUDIT: "acts/",
    ObjectKind.SWEEP: "sweeps/",
}
_MODELS: Final[dict[ObjectKind, type[BaseModel]]] = {
    ObjectKind.EVIDENCE: Evidence,
    ObjectKind.REHEARSAL: RehearsalEvidence,
    ObjectKind.AUDIT: AuditRecord,
    ObjectKind.CONFIGURATION: Configuration,
    ObjectKind.SWEEP: SweepEvidence,
}
_NOT_LISTED: Final = "a day could not be listed"
_FOREIGN: Final = "a key that no part of Joinguard writes"
_TOO_LARGE: Final = "an object is too large"
_OTHER: Final = "an object is not what its key says"
_UPDATE_EVERY: Final = 100


def days(first: date, last: date) -> Iterator[date]:
    """Yield the days from the first to the last one."""
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def begin(day: date) -> datetime:
    """Return the first moment of a day in UTC."""
    return datetime.combine(day, time(), UTC)


def end(period: Period) -> datetime:
    """Return the moment at which a period is over."""
    return begin(period.last) + timedelta(days=1)


def within(period: Period, at: datetime) -> bool:
    """Return whether a moment is in a period."""
    return period.first <= at.astimezone(UTC).date() <= period.last


@dataclass
class _Source:
    """How much of a source was read so far."""

    read: int = 0
    unread: int = 0
    problem: str | None = None

    def fail(self, problem: str) -> None:
        self.unread += 1
        self.problem = self.problem or problem


@dataclass
class Reader:
    """Reads objects of the evidence bucket, and keeps a record of what it read and what it could not read."""

    objects: Objects
    progress: Progress
    #: Everything that was read, in the order of reading.
    read: list[ObjectRead] = field(default_factory=list)
    #: The evidence of events by key, as it was read, or why it could not be.
    evidence_bodies: dict[str, bytes | JoinguardError] = field(default_factory=dict)
    _unlisted: list[str] = field(default_factory=list)
    _sources: dict[ObjectKind, _Source] = field(default_factory=dict)

    def sources(self) -> list[SourceRead]:
        """Return how much of each kind was read."""
        return [
            SourceRead(source=kind.value, read=each.read, unread=each.unread, problem=each.problem)
            for kind, each in self._sources.items()
        ]

    def is_listed(self, prefix: str) -> bool:
        """Return whether the day of a key or prefix could be listed."""
        return not prefix.startswith(tuple(self._unlisted))

    def evidence(self, period: Period) -> Iterator[tuple[str, Evidence]]:
        """Yield the evidence of the events of a period, also what was written later."""
        return self._of_days(ObjectKind.EVIDENCE, Evidence, days(period.first, period.last))

    def rehearsals(self, period: Period) -> Iterator[tuple[str, RehearsalEvidence]]:
        """Yield the evidence of the rehearsals of a period."""
        return self._of_days(ObjectKind.REHEARSAL, RehearsalEvidence, days(period.first, period.last))

    def sweeps(self, period: Period) -> Iterator[tuple[str, SweepEvidence]]:
        """Yield the evidence of the sweeps that were decided in a period."""
        return self._of_days(ObjectKind.SWEEP, SweepEvidence, days(period.first, period.last))

    def audit_records(self, first: date, last: date) -> Iterator[tuple[str, AuditRecord]]:
        """Yield the records of the actions that began on these days."""
        return self._of_days(ObjectKind.AUDIT, AuditRecord, days(first, last))

    def configurations(self, last: date) -> Iterator[tuple[str, Configuration]]:
        """Yield all configurations that were recorded up to a day: there are few, and the first can be years old."""
        until = f"{_CONFIGURATIONS}{last:%Y/%m/%d}/~"
        keys = [each for each in self._listed(ObjectKind.CONFIGURATION, _CONFIGURATIONS) if each < until]
        return self._parsed(ObjectKind.CONFIGURATION, Configuration, keys)

    def _of_days(self, kind: ObjectKind, model: type[Model], of: Iterable[date]) -> Iterator[tuple[str, Model]]:
        for day in of:
            yield from self._parsed(kind, model, self._listed(kind, f"{_PREFIXES[kind]}{day:%Y/%m/%d}/"))

    def _listed(self, kind: ObjectKind, prefix: str) -> list[str]:
        source = self._sources.setdefault(kind, _Source())
        try:
            listed = self.objects.under(prefix)
        except JoinguardError as error:
            source.fail(f"{_NOT_LISTED}: {error.fault.code}")
            self._unlisted.append(prefix)
            return []
        keys = [each for each in listed if kind_of(each) is kind]
        for each in set(listed) - set(keys):
            source.fail(_FOREIGN)
            if kind is ObjectKind.EVIDENCE:
                # Whatever it holds, it is no evidence.
                self.evidence_bodies[each] = b""
        return keys

    def _parsed(self, kind: ObjectKind, model: type[Model], keys: list[str]) -> Iterator[tuple[str, Model]]:
        source = self._sources[kind]
        for key, body in self.objects.read_all(keys):
            if kind is ObjectKind.EVIDENCE:
                self.evidence_bodies[key] = body
            parsed = _parse(model, body)
            if isinstance(parsed, str) or isinstance(body, JoinguardError):
                source.fail(str(parsed))
                continue
            source.read += 1
            self.read.append(ObjectRead(key=key, sha256=sha256(body).hexdigest(), size=len(body)))
            if source.read % _UPDATE_EVERY == 0:
                self.progress(kind.value, source.read)
            yield key, parsed


def _parse(model: type[Model], body: bytes | JoinguardError) -> Model | str:
    """Return an object as its model, or what is wrong with it."""
    if isinstance(body, JoinguardError):
        return f"an object could not be read: {body.fault.code}"
    if len(body) > MAX_BYTES:
        return _TOO_LARGE
    try:
        return model.model_validate_json(body)
    except ValidationError:
        return _OTHER
