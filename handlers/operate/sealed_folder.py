"""A folder with a download of the evidence bucket, as `aws s3 sync` makes it: the keys are paths."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Final

from handlers.core.errors import Cause, RetryableError, fault
from handlers.core.evidence.verifying import MAX_KEPT, Fetched, Listed, Wanted

_OPEN: Final = "rb"


@dataclass(frozen=True)
class SealedFolder:
    """The objects in a folder. It has no versions, times and locks. Symbolic links are not followed."""

    root: Path

    @property
    def has_versions(self) -> bool:
        """Whether versions, times and locks are known."""
        return False

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Yield all files under a prefix that ends with a slash, in the order of the keys' bytes."""
        return _listed(self.root / prefix, prefix)

    def under(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """Return the keys under a prefix, in order, at most as many as the limit."""
        found = [each.key for each in self.listed(prefix)]
        return found if limit is None else found[:limit]

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        """Return an object's bytes, at most one more than the limit.

        Raises RetryableError with Cause.NOT_FOUND if there is no such object.
        """
        try:
            with (self.root / key).open(_OPEN) as file:
                return file.read() if limit is None else file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise RetryableError(fault("NO_FILE", f"{key} is not in the folder"), cause=Cause.NOT_FOUND) from None

    def fetch(self, wanted: Iterable[Wanted]) -> Iterator[Fetched]:
        """Read objects, and yield them in order."""
        for each in wanted:
            try:
                with (self.root / each.key).open(_OPEN) as file:
                    digest = file_digest(file, "sha256").hexdigest()
                    size = file.tell()
                    file.seek(0)
                    yield Fetched(each, digest, size, file.read() if size <= MAX_KEPT else None)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                yield Fetched(each, None)


def _listed(folder: Path, prefix: str) -> Iterator[Listed]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(map(_entry, entries))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, is_file, size in found:
        key = prefix + os.fsdecode(name)
        if key.endswith("/"):
            yield from _listed(folder / os.fsdecode(name), key)
        elif is_file:
            yield Listed(key, "", is_marker=False, size=size, modified_at=None)


def _entry(entry: "os.DirEntry[str]") -> tuple[bytes, bool, int]:
    """Return the name of an entry as it is in a key, whether it is a file, and its size."""
    # A folder's name is followed by a slash in a key, and is sorted with it.
    name = f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
    return os.fsencode(name), entry.is_file(follow_symlinks=False), entry.stat(follow_symlinks=False).st_size
