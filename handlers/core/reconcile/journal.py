"""What a sweep has read, in parts that are stored one after the other, so that the next invocation goes on from there.

A part holds pages of listings in the order in which they were read. Reading all parts again gives what was read.
"""

import json
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from handlers.core.guardrails.ports import Listed

#: Bytes of JSON after which a part is stored. A DynamoDB item has 400 KB at most, and a text may not get smaller.
_PART: Final = 350_000


class SweepJournal:
    """Remembers what was read. `store` is called with each part; `flush` stores what is left."""

    def __init__(self, parts: Iterable[bytes], store: Callable[[bytes], None]) -> None:
        """Take the parts that earlier invocations stored."""
        self._items: dict[str, list[Any]] = {}
        self._tokens: dict[str, str | None] = {}
        self._store = store
        self._unsaved: list[str] = []
        self._size = 0
        for part in parts:
            for listing, items, token in json.loads(zlib.decompress(part)):
                self._apply(listing, items, token)

    def listed(self, listing: str) -> Listed:
        """Return what has been read of a listing."""
        token = self._tokens.get(listing)
        return Listed(self._items.get(listing, ()), token, is_complete=listing in self._tokens and token is None)

    def add(self, listing: str, items: Sequence[Any], token: str | None) -> None:
        """Remember the next page of a listing; without a token it was the last one."""
        entry = json.dumps((listing, items, token), separators=(",", ":"))
        if self._size + len(entry) > _PART:
            self.flush()
        self._unsaved.append(entry)
        self._size += len(entry) + 1
        self._apply(listing, items, token)

    def flush(self) -> None:
        """Store what no part has yet."""
        if self._unsaved:
            self._store(zlib.compress(f"[{','.join(self._unsaved)}]".encode(), 6))
            self._unsaved, self._size = [], 0

    def _apply(self, listing: str, items: Sequence[Any], token: str | None) -> None:
        # An account can be the target of many policies: each id is kept once.
        kept = (sys.intern(each) if isinstance(each, str) else each for each in items)
        self._items.setdefault(listing, []).extend(kept)
        self._tokens[listing] = token


def packed(value: Any) -> list[bytes]:
    """Return a JSON value as compressed pieces, each of which fits into an item."""
    whole = zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 6)
    return [whole[begin : begin + _PART] for begin in range(0, len(whole), _PART)]


def unpacked(pieces: Iterable[bytes]) -> Any:
    """Return the JSON value of pieces."""
    return json.loads(zlib.decompress(b"".join(pieces)))
