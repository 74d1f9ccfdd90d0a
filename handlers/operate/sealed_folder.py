"""A folder with a download of the evidence bucket, as `aws s3 sync` makes it: the keys are paths.

The folder can come from anybody. So nothing outside of it is read: no link is followed, also if it takes the place of
a folder; nothing is waited for, as a FIFO or a device would let us; and no file is read that is larger than any object.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import file_digest
from io import BufferedReader
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from handlers.core.errors import Cause, RetryableError, fault
from handlers.core.evidence.leaves import shown_key
from handlers.core.evidence.verifying import MAX_KEPT, Fetched, Findings, Listed, Wanted
from handlers.operate.errors import OperateError
from schemas.keys import LOG, SEALED_PREFIXES
from schemas.verification import FindingKind

T = TypeVar("T")

#: The limit of an object: of one of the log, and of a record.
MAX_OBJECT: Final = 64 * 1024 * 1024
#: The limit of S3 for the bytes of a key.
_MAX_KEY: Final = 1024
#: What systems answer if there is no such file, if a link or a file takes the place of a folder, and of a socket.
_NONE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EOPNOTSUPP, errno.EILSEQ}
)
_TYPES: Final = (
    (stat.S_ISLNK, "it is a link, which can lead anywhere, and was not followed"),
    (stat.S_ISFIFO, "it is a FIFO, which holds no bytes, and was not read"),
    (stat.S_ISREG, ""),
)
_ANOTHER_TYPE: Final = "it is a device or a socket, and was not read"
_ANEW: Final = "do not rely on this folder: download the bucket into an empty one (aws s3 sync), and verify that"
#: Files that systems put into any folder.
OF_SYSTEMS: Final = re.compile(r"\.DS_Store|\._.+|Thumbs\.db|desktop\.ini")
#: Names of files that others put beside objects: what each is, and the next step.
_BESIDE: Final = (
    (
        # The name of a download that was not complete is that of the object and eight digits.
        re.compile(r".+\.[0-9A-Fa-f]{8}"),
        "it is named as what an interrupted download leaves (aws s3 sync)",
        "delete it, run `aws s3 sync` again, and verify again",
    ),
    (
        OF_SYSTEMS,
        "it is named as what macOS or Windows puts into a folder that somebody opened, and no object of the bucket",
        "delete it, and verify again",
    ),
)


class Entry(NamedTuple):
    """What a folder holds under a name."""

    #: The name of a folder ends with a slash.
    key: str
    size: int = 0
    #: Why it is no object; empty for an object and a folder.
    why: str = ""
    #: What to do with a file that is only beside the objects; empty if the folder is not to be relied on.
    next_step: str = ""


@dataclass(frozen=True)
class SealedFolder:
    """The objects in a folder. It has no versions, times and locks."""

    root: Path

    @property
    def has_versions(self) -> bool:
        """Whether versions, times and locks are known."""
        return False

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Yield all objects under a prefix that ends with a slash, in the order of the keys' bytes."""
        for each in self.entries(prefix):
            if not each.why:
                yield Listed(each.key, "", is_marker=False, size=each.size, modified_at=None)

    def under(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """Return the keys under a prefix, in order, at most as many as the limit."""
        found = [each.key for each in self.listed(prefix)]
        return found if limit is None else found[:limit]

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        """Return an object's bytes, at most one more than the limit.

        Raises RetryableError with Cause.NOT_FOUND if there is no such object, OperateError if it cannot be read.
        """
        found = self._read(key, lambda file: file.read(-1 if limit is None else limit + 1))
        if found is None:
            raise RetryableError(fault("NO_FILE", f"the folder has no file {key}"), cause=Cause.NOT_FOUND)
        return found

    def fetch(self, wanted: Iterable[Wanted]) -> Iterator[Fetched]:
        """Read objects, and yield them in order. Raises OperateError if one cannot be read."""
        for each in wanted:
            yield Fetched(each, *(self._read(each.key, _content) or (None,)))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Yield everything under a prefix that ends with a slash, but folders, in the order of the keys' bytes.

        Raises OperateError if a folder cannot be read.
        """
        # A list in place of recursion, because folders can be as deep as a key is long.
        open_folders = [self._entries(prefix)]
        while open_folders:
            found = next(open_folders[-1], None)
            if found is None:
                open_folders.pop()
            elif found.key.endswith("/"):
                open_folders.append(self._entries(found.key))
            else:
                yield found

    def check_log(self) -> None:
        """Raise OperateError for a folder without a log, and for one in whose log something else is than objects."""
        if (self.root / LOG).is_symlink() or not (self.root / LOG).is_dir():
            raise OperateError(
                f"{self.root} has no folder log (links are not followed): it is no download of the evidence bucket "
                "(aws s3 sync)"
            )
        for each in self.entries(LOG):
            if each.why and not each.next_step:
                raise OperateError(f"{self.root / each.key}: {each.why}; {_ANEW}")

    def report(self, findings: Findings) -> None:
        """Find what is no object, although it is where objects are."""
        for each in self._entries(""):
            if f"{each.key}/" in SEALED_PREFIXES:
                why = each.why or "it is a file, and the bucket has a folder of this name"
                findings.add(FindingKind.INSERTED, each.key, why, _ANEW)
        for prefix in (LOG, *SEALED_PREFIXES):
            for each in self.entries(prefix):
                if each.why:
                    findings.add(FindingKind.INSERTED, shown_key(each.key), each.why, each.next_step or _ANEW)

    def _entries(self, prefix: str) -> Iterator[Entry]:
        """Yield what is directly under a prefix; nothing if it is no folder."""
        try:
            folder = self._open(prefix, os.O_DIRECTORY)
        except (OSError, ValueError) as error:
            self._refuse(error, prefix)
            return
        try:
            with os.scandir(folder) as entries:
                found = sorted((_name(each), each.stat(follow_symlinks=False)) for each in entries)
        except OSError as error:
            raise self._unreadable(error, prefix) from error
        finally:
            os.close(folder)
        yield from (_entry(prefix.encode() + name, status) for name, status in found)

    def _read(self, key: str, take: Callable[[BufferedReader], T]) -> T | None:
        """Return what `take` reads of an object; None if there is no such object."""
        try:
            with open(key, "rb", opener=lambda name, _flags: self._open(name, os.O_NONBLOCK)) as file:
                status = os.fstat(file.fileno())
                return take(file) if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_OBJECT else None
        except (OSError, ValueError) as error:
            self._refuse(error, key)
            return None

    def _open(self, key: str, flags: int) -> int:
        """Open a file or a folder, name by name, so that no link is followed, and return its descriptor.

        Raises OSError if that fails, ValueError if no file can have such a key.
        """
        names = key.removesuffix("/").split("/") if key else []
        if not {"", ".", ".."}.isdisjoint(names):
            raise ValueError(key)
        opened = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        for number, name in enumerate(names, 1):
            kind = flags if number == len(names) else os.O_DIRECTORY
            try:
                inner = os.open(name.encode(), os.O_RDONLY | os.O_NOFOLLOW | kind, dir_fd=opened)
            finally:
                os.close(opened)
            opened = inner
        return opened

    def _refuse(self, error: OSError | ValueError, key: str) -> None:
        """Raise an error, unless it says that there is no such object."""
        if isinstance(error, OSError) and error.errno not in {*_NONE, errno.EISDIR}:
            raise self._unreadable(error, key) from error

    def _unreadable(self, error: OSError, key: str) -> OperateError:
        return OperateError(f"cannot read {self.root / key}: {error.strerror}. Correct that, or download it again")


def _content(file: BufferedReader) -> tuple[str, int, bytes | None]:
    """Return the SHA-256, the size, and the bytes if they are few enough."""
    digest = file_digest(file, "sha256").hexdigest()
    size = file.tell()
    file.seek(0)
    return digest, size, file.read() if size <= MAX_KEPT else None


def _name(entry: "os.DirEntry[str]") -> bytes:
    """Return the name of an entry as it is in a key."""
    # A folder's name is followed by a slash in a key, and is sorted with it.
    return os.fsencode(entry.name) + b"/" * entry.is_dir(follow_symlinks=False)


def _entry(path: bytes, status: os.stat_result) -> Entry:
    """Return an entry, and why it is no object."""
    key = path.decode(errors="backslashreplace")
    if key.encode() != path:
        return Entry(key.removesuffix("/"), why="its name is not UTF-8, and no object of S3 has such a key")
    if len(path) > _MAX_KEY:
        why = f"its name is longer than {_MAX_KEY:,} bytes, and no object of S3 has such a key"
        return Entry(key.removesuffix("/"), why=why)
    if stat.S_ISDIR(status.st_mode):
        return Entry(key)
    if why := next((why for is_type, why in _TYPES if is_type(status.st_mode)), _ANOTHER_TYPE):
        return Entry(key, why=why)
    if status.st_size > MAX_OBJECT:
        return Entry(key, why=f"it has {status.st_size:,} bytes, more than any object, and was not read")
    name = key.rpartition("/")[2]
    beside = next(((what, step) for pattern, what, step in _BESIDE if pattern.fullmatch(name)), None)
    return Entry(key, status.st_size, *(beside or ()))
