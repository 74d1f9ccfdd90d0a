"""Records that are sorted on disk: a temporary SQLite database, which the system deletes when the process ends."""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

#: The records that are written together.
_TOGETHER: Final = 1000
#: The size of the cache in KiB, so that memory stays the same for any number of records.
_CACHE: Final = 4 * 1024


class SortedRecords:
    """Records with a key and a number, sorted by the bytes of the key and then by number, as S3 lists keys."""

    def __init__(self) -> None:
        # An empty name is a temporary file, which SQLite creates only if the cache is too small.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(f"PRAGMA cache_size = -{_CACHE}")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE records (key BLOB, number INTEGER, content BLOB)")
        self._added: list[tuple[bytes, int, bytes]] = []
        self._is_indexed = False

    def add(self, key: str, number: int, content: bytes) -> None:
        """Add a record."""
        self._added.append((key.encode(), number, content))
        if len(self._added) >= _TOGETHER:
            self._write()

    def __iter__(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield all records in order."""
        for key, number, content in self._query("ORDER BY key, number"):
            yield key.decode(), number, content

    def of(self, key: str) -> Sequence[tuple[int, bytes]]:
        """Return the records with a key."""
        return [each[1:] for each in self._query("WHERE key = ? ORDER BY number", key.encode())]

    def under(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """Return the keys under a prefix, in order, each once, at most as many as the limit."""
        begin = prefix.encode()
        found: list[str] = []
        for key, _ in groupby(self._query("WHERE key >= ? ORDER BY key", begin), lambda each: each[0]):
            if not key.startswith(begin) or len(found) == limit:
                break
            found.append(key.decode())
        return found

    def clear(self) -> None:
        """Remove all records."""
        self._added.clear()
        self._database.execute("DELETE FROM records")

    def _query(self, which: str, *values: bytes) -> Iterator[tuple[bytes, int, bytes]]:
        self._write()
        if not self._is_indexed:
            # After most records were added: that is faster than keeping it up to date.
            self._database.execute("CREATE INDEX by_key ON records (key, number)")
            self._is_indexed = True
        yield from self._database.execute(f"SELECT key, number, content FROM records {which}", values)  # noqa: S608 - our own text

    def _write(self) -> None:
        if self._added:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO records VALUES (?, ?, ?)", self._added)
            self._database.execute("COMMIT")
            self._added.clear()
