"""The Merkle tree against the definitions of RFC 6962, and against another implementation of tlog-tiles."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tlog_scales.reader import TilesReader
from tlog_scales.tlog import InclusionProof

from handlers.core.errors import PermanentError
from handlers.core.evidence.merkle import (
    EMPTY_ROOT,
    FULL,
    Log,
    Tile,
    Tree,
    bundle_path,
    leaf_hash,
    root_by_inclusion,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Enough leaves for three levels of tiles, the last of them one leaf after a full tile of level 1.
LARGE = FULL * FULL + 1
#: The sizes at which the large tree is saved.
SAVED = (*range(3 * FULL + 1), FULL * FULL - 1, FULL * FULL, LARGE)
SIZES = st.one_of(st.integers(0, 3 * FULL), st.sampled_from(SAVED[-3:]))


def leaf(index: int) -> bytes:
    return b"leaf %d" % index


def defined_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root as RFC 6962, section 2.1, defines it."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    return sha256(b"\x01" + defined_root(leaves[:middle]) + defined_root(leaves[middle:])).digest()


class Store:
    """Tiles as objects that are written once."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.roots = {0: EMPTY_ROOT}

    def put(self, tile: Tile, content: bytes) -> None:
        assert self.objects.setdefault(tile.path, content) == content, "no tile is written with another content"

    def read(self, tile: Tile) -> bytes:
        return self.objects[tile.path]

    def get(self, *path: str) -> bytes | None:
        """Return an object to the other implementation."""
        return self.objects.get("/".join(path))

    def grow(self, tree: Tree, to: int) -> None:
        while tree.size < to:
            for tile, content in tree.append(leaf(tree.size)):
                self.put(tile, content)
        self.roots[to] = tree.root()
        for tile, content in tree.unfilled():
            self.put(tile, content)


@pytest.fixture(scope="module")
def large() -> Store:
    """Return a large tree that was saved at each size up to a few tiles, and then where a level begins."""
    store, tree = Store(), Tree()
    for size in SAVED:
        store.grow(tree, size)
    return store


def test_the_root_is_the_one_that_the_rfc_defines(large: Store) -> None:
    leaves = [leaf(index) for index in range(LARGE)]

    for size in [*range(FULL + 2), *SAVED[-4:]]:
        assert large.roots[size] == defined_root(leaves[:size])
    for size in SAVED:
        assert Log(size, large.read).root() == large.roots[size]


@given(sizes=st.lists(st.integers(0, 700), min_size=1, max_size=5).map(sorted))
@example(sizes=[FULL - 1, FULL, FULL + 1])
def test_a_tree_that_is_resumed_grows_like_one_that_never_stopped(sizes: list[int]) -> None:
    store, whole, expected = Store(), Tree(), Store()
    expected.grow(whole, sizes[-1])

    tree = Tree()
    for size in sizes:
        store.grow(tree, size)
        tree = Tree.resume(size, store.read)

    assert (tree.size, tree.root()) == (whole.size, whole.root())
    assert expected.objects.items() <= store.objects.items()


@given(data=st.data(), size=SIZES.filter(bool))
def test_each_leaf_is_proven_to_us_and_to_another_implementation(large: Store, data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))

    proof = Log(size, large.read).inclusion(index)

    assert root_by_inclusion(index, size, leaf_hash(leaf(index)), proof) == large.roots[size]
    InclusionProof(index, size, proof).check(leaf_hash(leaf(index)), large.roots[size])
    assert root_by_inclusion(index, size, leaf_hash(b"another"), proof) != large.roots[size]


def test_a_proof_reads_few_tiles(large: Store) -> None:
    read: list[Tile] = []

    def counted(tile: Tile) -> bytes:
        read.append(tile)
        return large.read(tile)

    Log(LARGE, counted).inclusion(300)

    # One a level, and those of the right edge.
    assert len(set(read)) <= 5


@pytest.mark.parametrize("size", [1, 255, 256, 257, 3 * FULL, FULL * FULL, LARGE])
def test_another_implementation_reads_the_tiles(large: Store, size: int) -> None:
    reader = TilesReader(large)
    reader.set_size(size)

    assert reader.calculate_root_hash() == large.roots[size]
    assert reader.get_inclusion_proof(size - 1, size).node_hashes == Log(size, large.read).inclusion(size - 1)
    reader.get_consistency_proof(1, size).check(large.roots[1], large.roots[size])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 256])
def test_a_proof_of_another_length_is_refused(large: Store, size: int) -> None:
    proof = Log(size, large.read).inclusion(0)

    for wrong in ([*proof, bytes(32)], proof[:-1] if proof else [bytes(32)]):
        with pytest.raises(ValueError, match=r"this is no proof for leaf 0 of"):
            root_by_inclusion(0, size, leaf_hash(leaf(0)), wrong)


@pytest.mark.parametrize(("index", "size"), [(1, 1), (5, 1), (-1, 1), (0, 0), (-1, 2), (2, 2), (7, 5)])
def test_no_proof_is_accepted_for_a_leaf_outside_the_log(index: int, size: int) -> None:
    for length in range(4):
        with pytest.raises(ValueError, match=rf"this is no proof for leaf {index} of {size}"):
            root_by_inclusion(index, size, leaf_hash(leaf(0)), [bytes(32)] * length)


def test_what_the_log_does_not_hold_is_not_proven(large: Store) -> None:
    log = Log(5, large.read)

    with pytest.raises(ValueError, match="leaf 5 is not in a log of 5"):
        log.inclusion(5)


def test_a_tile_that_is_too_short_is_named() -> None:
    with pytest.raises(PermanentError, match=r"tile/0/000\.p/5 has 32 bytes instead of 160"):
        Log(5, lambda _: bytes(32)).root()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (Tile(0, 0, 1).path, "tile/0/000.p/1"),
        (Tile(1, 67, FULL).path, "tile/1/067"),
        (Tile(0, 1_234_067, FULL).path, "tile/0/x001/x234/067"),
        (Tile(2, 999, 255).path, "tile/2/999.p/255"),
        (bundle_path(1_000, 8), "tile/entries/x001/000.p/8"),
    ],
)
def test_paths_are_those_of_the_specification(path: str, expected: str) -> None:
    assert path == expected
