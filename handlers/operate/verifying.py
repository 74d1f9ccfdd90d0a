"""What `verify` does: read keys and checkpoints, verify, and print the result."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeAlias

from pydantic import ValidationError

from handlers.core.errors import Cause, JoinguardError
from handlers.core.evidence.checkpoint import VerifierKey
from handlers.core.evidence.verify import Verified, Verifier, VerifyDependencies, VerifyRequest
from handlers.core.evidence.verify_objects import KeptProgress, Period, ProgressStore
from handlers.core.reconcile.others import LastClaims, unexplained
from handlers.operate.completion import cache_directory, replace_file
from handlers.operate.covering import compare, explain
from handlers.operate.errors import OperateError
from handlers.operate.files import TEXT, read_file
from handlers.operate.progress import counting
from handlers.operate.sealed_folder import OF_SYSTEMS, SealedFolder
from handlers.operate.signatures import is_signed
from handlers.operate.sorted_records import SortedRecords
from handlers.operate.verify_output import print_verification
from schemas.outcome import Outcome
from schemas.verification import FindingKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from handlers.core.evidence.verify_outcomes import OutcomeRows
    from handlers.core.evidence.verifying import Findings, SealedBucket
    from handlers.core.ports import UnreadableRow
    from handlers.core.reconcile.coverage import Coverage
    from handlers.operate.context import Connection, Context
    from schemas.outcome import OutcomeStatus
    from schemas.snapshot import Snapshot

#: Larger files are no keys, checkpoints or proofs.
_MAX_BYTES: Final = 1_048_576
_OFFLINE: Final = "a folder has no versions, delete markers, times and locks"
_NO_INSTALLATION: Final = "without AWS"
#: Nothing can be read any more, so that this is no reason to leave a part out.
NOT_SIGNED_IN: Final = frozenset({Cause.CREDENTIALS_EXPIRED, Cause.CREDENTIALS_INVALID})
#: Returns the organization, compared with the guardrails in force; raises JoinguardError if it cannot be read.
Compared: TypeAlias = "Callable[[], tuple[Coverage, Snapshot]]"


@dataclass(frozen=True)
class Request:
    """The options of `verify`."""

    since: datetime | None
    last_day: datetime | None
    is_quick: bool
    folder: Path | None
    key_file: Path | None
    against: Sequence[Path]
    #: The file with the progress; None for one in the cache directory.
    resume: Path | None
    as_json: bool


@dataclass(frozen=True)
class Source:
    """What is verified, and with which keys."""

    bucket: SealedBucket
    keys: Sequence[VerifierKey]
    #: None for a folder.
    context: Context | None = None


def verify(request: Request, connection: Connection) -> int:
    """Verify, and print the result; return the exit status."""
    source = open_source(connection, request.folder, request.key_file)
    compared = compared_by(source.context, connection) if source.context else None
    found = compare_all(request, source, connection.now, compared).verification
    print_verification(found, as_json=request.as_json)
    return 1 if found.found_any else 0


def compared_by(context: Context, connection: Connection) -> Compared:
    """Return what compares the organization with the guardrails in force; it is read once."""

    @cache
    def compared() -> tuple[Coverage, Snapshot]:
        return compare(context, connection.organization())

    return compared


def compare_all(request: Request, source: Source, now: Callable[[], datetime], compared: Compared | None) -> Verified:
    """Verify, and return the result and the log; `compared`, None offline, is asked for what accounts carry now.

    Raises JoinguardError if there is no log that the keys signed, or if a call fails.
    """
    end = request.last_day + timedelta(days=1) if request.last_day else None
    wanted = VerifyRequest(
        source.keys,
        Period(request.since, end),
        request.is_quick,
        dict(_checkpoints(request.against)),
        _left_out(source, request),
    )
    rows = _WatchedRows(source.context.outcomes) if source.context else None
    with counting("verifying") as show:
        dependencies = VerifyDependencies(
            bucket=source.bucket,
            verify=is_signed,
            new_records=SortedRecords,
            progress=_progress(source, request),
            clock=_Now(now),
            show=show,
            rows=rows,
            pseudonyms=source.context.pseudonyms if source.context else None,
        )
        verifier = Verifier(dependencies, wanted)
        if isinstance(source.bucket, SealedFolder):
            source.bucket.report(verifier.findings)
        attached = _Attached(source.context, compared, rows, is_quick=request.is_quick)
        return verifier.run(attached.compare)


def open_source(connection: Connection, folder: Path | None, key_file: Path | None) -> Source:
    """Return the bucket and the keys. Raises OperateError if there are none."""
    keys = read_keys(key_file) if key_file else []
    if folder:
        sealed = SealedFolder(folder)
        sealed.check_log()
        return Source(sealed, keys)
    return source_of(connection(), keys)


def source_of(context: Context, keys: Sequence[VerifierKey] = ()) -> Source:
    """Return the bucket and the keys of an installation. Raises OperateError if it has no log."""
    if context.log is None:
        raise OperateError("this installation is of an earlier version, which has no sealed log. Run `make deploy`")
    return Source(context.log.bucket, keys or [VerifierKey(context.log.name, context.log.public_key())], context)


def read_keys(path: Path) -> list[VerifierKey]:
    """Return the verifier keys in a file, one in a line; raise OperateError for any other file."""
    lines = read_text(path, "key").splitlines()
    try:
        keys = [VerifierKey.parse(each) for each in map(str.strip, lines) if each and not each.startswith("#")]
    except ValueError as error:
        raise OperateError(f"{path}: {error}. `joinguard verify --json` prints the key of the stack") from None
    if not keys or len({each.name for each in keys}) > 1:
        raise OperateError(f"{path}: it must have one or more keys of one log, each in a line, such as NAME+ID+KEY")
    return keys


def read_text(path: Path, what: str) -> str:
    """Return the text of a file; raise OperateError if it cannot be read, or is no text."""
    try:
        return read_file(path, _MAX_BYTES).decode(TEXT)
    except OSError as error:
        raise OperateError(f"cannot read {path}: {error.strerror}. Name a file with a {what}") from error
    except UnicodeDecodeError:
        raise OperateError(f"{path} is no text (UTF-8). Name a file with a {what}") from None


def _checkpoints(paths: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        files = list(_files(path)) if path.is_dir() else [path]
        if not files:
            raise OperateError(f"{path} has no files. Name the checkpoint that was kept elsewhere, or its folder")
        yield from ((str(each), read_text(each, "checkpoint").encode()) for each in files)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and in those below it. Raises OperateError if something else is there."""
    for each in SealedFolder(folder).entries(""):
        if each.why and not each.next_step:
            raise OperateError(f"{folder / each.key}: {each.why}. Take it out of the folder of checkpoints")
        path = folder / each.key
        if not OF_SYSTEMS.fullmatch(path.name):
            yield path


def _left_out(source: Source, request: Request) -> dict[str, str]:
    left_out: dict[str, str] = {}
    if not source.bucket.has_versions:
        left_out |= dict.fromkeys(("versions", "retention"), _OFFLINE)
        left_out |= dict.fromkeys(("outcomes", "attached"), _NO_INSTALLATION)
    if request.is_quick:
        left_out |= dict.fromkeys(("bytes", "retention"), "a quick verification reads no objects")
    return left_out


def _progress(source: Source, request: Request) -> ProgressStore:
    # A folder can change, or be another one, while S3 never changes a version; and a quick verification reads nothing.
    if request.folder or request.is_quick:
        return _NoProgress()
    if request.resume:
        _check_progress(request.resume)
        return FileProgress(request.resume)
    name = sha256("\n".join([*map(str, source.keys), str(request.since), str(request.last_day)]).encode()).hexdigest()
    return FileProgress(cache_directory() / "joinguard" / f"verify-{name[:16]}.json")


def _check_progress(path: Path) -> None:
    """Raise OperateError for a file that is not the progress of a verification: it would be replaced, and deleted."""
    if path.exists() and FileProgress(path).load() is None:
        raise OperateError(
            f"{path} is there, and is not the progress of a verification, which would replace it. Name a new file with "
            "--resume, or the one of an interrupted verification"
        )


class _NoProgress:
    """A verification that begins anew each time."""

    def load(self) -> KeptProgress | None:
        """Return nothing."""
        return None

    def save(self, progress: KeptProgress) -> None:
        """Keep nothing."""

    def clear(self) -> None:
        """Delete nothing."""


@dataclass(frozen=True)
class FileProgress:
    """The progress of a verification in a file. A file that cannot be used is no error."""

    path: Path

    def load(self) -> KeptProgress | None:
        """Return what is kept; None if there is nothing, or nothing that can be used."""
        try:
            return KeptProgress.model_validate_json(read_file(self.path))
        except (OSError, ValidationError):
            return None

    def save(self, progress: KeptProgress) -> None:
        """Keep it in place of what was kept before."""
        with suppress(OSError):
            replace_file(self.path, progress.model_dump_json(exclude_none=True))

    def clear(self) -> None:
        """Delete it."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Now:
    """The time of a connection."""

    now: Callable[[], datetime]

    def sleep(self, seconds: float) -> None:
        """Wait: no verification does."""
        raise NotImplementedError


@dataclass(frozen=True)
class _WatchedRows:
    """The outcomes table; what Joinguard did last with policies is remembered while it is read."""

    outcomes: OutcomeRows
    claims: LastClaims = field(default_factory=LastClaims)

    def scan(self, status: OutcomeStatus | None) -> Iterator[Outcome | UnreadableRow]:
        """Yield all outcomes with a status, or with any; this reads the whole table."""
        for row in self.outcomes.scan(status):
            if isinstance(row, Outcome):
                self.claims.add(row)
            yield row


@dataclass(frozen=True)
class _Attached:
    """The comparison with what accounts carry now."""

    context: Context | None
    compared: Compared | None
    rows: _WatchedRows | None
    is_quick: bool

    def compare(self, findings: Findings) -> Mapping[str, str]:
        """Find policies that were attached or detached by nobody of ours; return what was left out, and why."""
        if self.context is None or self.compared is None or self.rows is None:
            return {}
        if self.is_quick:
            return {"attached": "a quick verification reads no outcomes"}
        try:
            covered = explain(self.context, *self.compared())
        except JoinguardError as error:
            if error.cause in NOT_SIGNED_IN:
                raise
            return {"attached": str(error)}
        pseudonyms = self.context.pseudonyms
        for each in unexplained(covered.coverage, covered.snapshot, covered.outcomes, self.rows.claims):
            findings.add(FindingKind.DISAGREES, pseudonyms.of(each.account_id).value, each.meaning, _CHANGED_BY_OTHERS)
        if unread := covered.coverage.unread:
            return {"attached": ", ".join(f"{each.part} could not be read ({each.code})" for each in unread[:5])}
        return {}


_CHANGED_BY_OTHERS: Final = (
    "find out in CloudTrail who changed it (AttachPolicy, DetachPolicy); `coverage` shows what the account lacks; see "
    "handlers/operate/RUNBOOK.md#a-verification-found-something"
)
