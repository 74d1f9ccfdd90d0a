"""What a sweep has read, in parts that are stored one after the other, so that the next invocation goes on from there.

A part holds pages of listings in the order in which they were read. Reading all parts again gives what was read.
"""

import json
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from pydantic import TypeAdapter

from handlers.core.guardrails.ports import Listed

#: Bytes of JSON after which a part is stored. A DynamoDB item has 400 KB at most, and a text may not get smaller.
_PART: Final = 350_000
#: The pages in a part: the listing, what is kept of its items, and what AWS needs to continue.
_PAGES: Final = TypeAdapter(list[tuple[str, list[Any], str | None]])


class SweepJournal:
    """Remembers what was read. `store` is called with each part; `flush` stores what is left."""

    def __init__(self, parts: Iterable[bytes], store: Callable[[bytes], None]) -> None:
        """Take the parts that earlier invocations stored. Raises ValueError if one of them is unreadable."""
        self._items: dict[str, list[Any]] = {}
        self._tokens: dict[str, str | None] = {}
        self._store = store
        self._unsaved: list[str] = []
        self._size = 0
        for part in parts:
            for listing, items, token in _PAGES.validate_json(unpacked([part])):
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


def packed(text: bytes) -> list[bytes]:
    """Return a text as compressed pieces, each of which fits into an item."""
    whole = zlib.compress(text, 6)
    return [whole[begin : begin + _PART] for begin in range(0, len(whole), _PART)]


def unpacked(pieces: Iterable[bytes]) -> bytes:
    """Return the text of pieces. Raises ValueError if they are not what `packed` returned."""
    try:
        return zlib.decompress(b"".join(pieces))
    except zlib.error as error:
        raise ValueError("the pieces are not a compressed text") from error
