"""An append-only Merkle tree, kept in tiles that are written once.

Hashing is that of RFC 6962, section 2.1 (https://www.rfc-editor.org/rfc/rfc6962#section-2.1); the tiles and their
paths are those of https://c2sp.org/tlog-tiles, so that tools for other transparency logs read ours.

A tile holds up to 256 hashes of one level: at level 0 those of the leaves, above it those of the full tiles below.
A tile that is not full has its width in its path, so that no tile is ever written again with another content.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from hashlib import sha256
from typing import Final, NamedTuple, Self, TypeAlias

from handlers.core.errors import PermanentError, fault

#: The number of hashes in a full tile.
FULL: Final = 256
HASH_BYTES: Final = 32
#: The root of the tree without leaves.
EMPTY_ROOT: Final = sha256(b"").digest()

Hash: TypeAlias = bytes


class Tile(NamedTuple):
    """Where a tile is in the tree."""

    level: int
    number: int
    #: The number of hashes, from 1 to 256.
    width: int

    @property
    def path(self) -> str:
        """The tile's path, such as `tile/0/x001/234` or, of a tile that is not full, `tile/0/x001/234.p/5`."""
        return _path(str(self.level), self.number, self.width)


#: Reads the hashes of a tile, one after the other.
ReadTile: TypeAlias = Callable[[Tile], bytes]


def bundle_path(index: int, width: int) -> str:
    """Return the path of an entry bundle, which holds the leaves whose hashes are in a tile of level 0."""
    return _path("entries", index, width)


def _path(folder: str, index: int, width: int) -> str:
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    *above, last = (digits[at : at + 3] for at in range(0, len(digits), 3))
    partial = f".p/{width}" if width < FULL else ""
    return "/".join(["tile", folder, *(f"x{each}" for each in above), last]) + partial


def leaf_hash(leaf: bytes) -> Hash:
    """Return the hash of a leaf."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: Hash, right: Hash) -> Hash:
    """Return the hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows; it keeps the hashes of the tiles that are not full, at most 255 a level."""

    def __init__(self) -> None:
        """Start without leaves."""
        self.size = 0
        self._unfilled: list[list[Hash]] = []

    @classmethod
    def resume(cls, size: int, read: ReadTile) -> Self:
        """Return the tree with `size` leaves, from its tiles that are not full."""
        tree, rest = cls(), size
        while rest:
            index, width = divmod(rest, FULL)
            level = len(tree._unfilled)
            tree._unfilled.append(hashes_of(Tile(level, index, width), read) if width else [])
            rest = index
        tree.size = size
        return tree

    def append(self, leaf: bytes) -> list[tuple[Tile, bytes]]:
        """Add a leaf, and return the tiles that it fills, each with its content."""
        self.size += 1
        filled: list[tuple[Tile, bytes]] = []
        carried = leaf_hash(leaf)
        while True:
            level = len(filled)
            if level == len(self._unfilled):
                self._unfilled.append([])
            hashes = self._unfilled[level]
            hashes.append(carried)
            if len(hashes) < FULL:
                return filled
            filled.append((Tile(level, self.size // FULL ** (level + 1) - 1, FULL), b"".join(hashes)))
            carried = root_of(hashes)
            hashes.clear()

    def unfilled(self) -> list[tuple[Tile, bytes]]:
        """Return the tiles that are not full, each with its content."""
        return [
            (Tile(level, self.size // FULL ** (level + 1), len(hashes)), b"".join(hashes))
            for level, hashes in enumerate(self._unfilled)
            if hashes
        ]

    def root(self) -> Hash:
        """Return the root hash."""
        return _joined([peak for hashes in reversed(self._unfilled) for peak in _peaks(hashes)])


class Log:
    """A tree that is read from its tiles."""

    def __init__(self, size: int, read: ReadTile) -> None:
        """Take the number of leaves, and what reads a tile; a caller that asks for much keeps tiles in memory."""
        self.size = size
        self._read = read
        #: The roots that were calculated, which many proofs share.
        self._roots: dict[tuple[int, int], Hash] = {}

    def root(self) -> Hash:
        """Return the root hash, calculated from the tiles. Raises PermanentError for a tile of another length."""
        return self._subtree(0, self.size) if self.size else EMPTY_ROOT

    def inclusion(self, index: int) -> list[Hash]:
        """Return the proof that a leaf is in the tree (RFC 6962, section 2.1.1).

        Raises ValueError if there is no such leaf, and PermanentError for a tile of another length.
        """
        if not 0 <= index < self.size:
            raise ValueError(f"leaf {index} is not in a log of {self.size}")

        start, end = 0, self.size
        hashes: list[Hash] = []
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                hashes.append(self._subtree(middle, end))
                end = middle
            else:
                hashes.append(self._subtree(start, middle))
                start = middle
        return hashes[::-1]

    def _subtree(self, start: int, end: int) -> Hash:
        """Return the root of the leaves from `start` to before `end`, which are a subtree of the tree."""
        if (start, end) not in self._roots:
            self._roots[start, end] = self._calculated(start, end)
        return self._roots[start, end]

    def _calculated(self, start: int, end: int) -> Hash:
        level = 0
        while not (start % FULL or end % FULL):
            start, end, level = start // FULL, end // FULL, level + 1
        scale = FULL**level
        if end - start > 1:
            middle = start + _split(end - start)
            return node_hash(self._subtree(start * scale, middle * scale), self._subtree(middle * scale, end * scale))
        index, at = divmod(start, FULL)
        tile = Tile(level, index, min(FULL, self.size // scale - index * FULL))
        return _content_of(tile, self._read)[at * HASH_BYTES : (at + 1) * HASH_BYTES]


def hashes_of(tile: Tile, read: ReadTile) -> list[Hash]:
    """Read a tile and return its hashes. Raises PermanentError if it has another length than its path says."""
    content = _content_of(tile, read)
    return [content[at : at + HASH_BYTES] for at in range(0, len(content), HASH_BYTES)]


def _content_of(tile: Tile, read: ReadTile) -> bytes:
    content = read(tile)
    if len(content) != tile.width * HASH_BYTES:
        why = f"{tile.path} has {len(content)} bytes instead of {tile.width * HASH_BYTES}; run `make verify`"
        raise PermanentError(fault("TILE_CHANGED", why))
    return content


def root_of(hashes: Sequence[Hash]) -> Hash:
    """Return the root of a tree whose leaves have these hashes."""
    return _joined(_peaks(hashes))


def root_by_inclusion(index: int, size: int, leaf: Hash, proof: Sequence[Hash]) -> Hash:
    """Return the root that an inclusion proof leads to from a leaf's hash, to be compared with a signed root.

    Raises ValueError for a proof that is too short or too long. The algorithm is that of RFC 9162, section 2.1.3.2.
    """
    node, last, root = index, size - 1, leaf
    is_proof = 0 <= index < size
    for each in proof:
        is_proof = is_proof and last > 0
        if node % 2 or node == last:
            root = node_hash(each, root)
            # The last node of a level without a sibling is also the last one of the levels above.
            while node and not node % 2:
                node, last = node // 2, last // 2
        else:
            root = node_hash(root, each)
        node, last = node // 2, last // 2
    if last or not is_proof:
        raise ValueError(f"this is no proof for leaf {index} of {size}")
    return root


def _peaks(hashes: Sequence[Hash]) -> list[Hash]:
    """Return the roots of the perfect subtrees, the largest and first one first."""
    peaks, at = [], 0
    for bit in reversed(range(len(hashes).bit_length())):
        width = 1 << bit
        if len(hashes) & width:
            peaks.append(_perfect(hashes[at : at + width]))
            at += width
    return peaks


def _perfect(hashes: Sequence[Hash]) -> Hash:
    while len(hashes) > 1:
        hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]


def _joined(peaks: Sequence[Hash]) -> Hash:
    """Return the root of a tree from its perfect subtrees."""
    return reduce(lambda right, left: node_hash(left, right), reversed(peaks)) if peaks else EMPTY_ROOT


def _split(size: int) -> int:
    """Return the largest power of two that is smaller than a size of at least 2."""
    return 1 << (size - 1).bit_length() - 1
