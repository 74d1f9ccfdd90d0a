"""Proofs that one object is in the sealed log, which anybody with the log's public key verifies without AWS.

The format is https://c2sp.org/tlog-proof; its extra data is the leaf, which says what was sealed of the object.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Final, NamedTuple, Self

from handlers.core.errors import JoinguardError, PermanentError, fault
from handlers.core.evidence.checkpoint import Checkpoint, VerifierKey, Verify, decoded, encoded
from handlers.core.evidence.leaves import object_leaf, read_leaf
from handlers.core.evidence.merkle import FULL, HASH_BYTES, Hash, Log, Tile, leaf_hash, root_by_inclusion
from handlers.core.evidence.ports import EvidenceReader
from handlers.core.evidence.verify_log import ReadLog, signed_by
from schemas.keys import LOG
from schemas.sealed import SealedBatch, SealedDeletion, SealedObject

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_BASE64: Final = r"[A-Za-z0-9+/]+={0,2}"
_PROOF: Final = re.compile(
    rf"{re.escape(_HEADER)}\nextra (?P<extra>{_BASE64})\nindex (?P<index>0|[1-9][0-9]{{0,18}})\n"
    rf"(?P<hashes>(?:{_BASE64}\n)*)\n(?P<note>.*)",
    re.DOTALL,
)


class ProvedLeaf(NamedTuple):
    """A leaf that a proof is about, and the signed checkpoint of the log that has it."""

    leaf: SealedObject | SealedDeletion
    checkpoint: Checkpoint


@dataclass(frozen=True)
class Proof:
    """A proof that a leaf is in the log."""

    leaf: bytes
    index: int
    hashes: Sequence[Hash]
    #: The signed checkpoint.
    note: bytes

    def encode(self) -> str:
        """Return the proof as text."""
        lines = [_HEADER, f"extra {encoded(self.leaf)}", f"index {self.index}", *map(encoded, self.hashes)]
        return "\n".join(lines) + f"\n\n{self.note.decode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the proof in a text. Raises ValueError, with the reason."""
        found = _PROOF.fullmatch(text)
        if not found:
            raise ValueError("this is no proof with a leaf, an index, hashes and a checkpoint (c2sp.org/tlog-proof)")
        hashes = [decoded(each, "a hash of this proof") for each in found["hashes"].splitlines()]
        if any(len(each) != HASH_BYTES for each in hashes):
            raise ValueError(f"a hash of this proof has not {HASH_BYTES} bytes")
        return cls(
            decoded(found["extra"], "the leaf of this proof"), int(found["index"]), hashes, found["note"].encode()
        )

    def check(self, keys: Sequence[VerifierKey], verify: Verify) -> ProvedLeaf:
        """Return the leaf, if a key of the log signed that it is in the log. Raises ValueError, with the reason."""
        checkpoint = signed_by(self.note, keys, verify)
        leaf = read_leaf(self.leaf)
        if isinstance(leaf, SealedBatch):
            raise ValueError("this proof is about the first leaf of a batch, not about an object")  # noqa: TRY004 - a value
        root = root_by_inclusion(self.index, checkpoint.size, leaf_hash(self.leaf), self.hashes)
        if root != checkpoint.root:
            raise ValueError("this proof does not lead to the root that was signed: the leaf or the proof was changed")
        return ProvedLeaf(leaf, checkpoint)


class SealedVersion(NamedTuple):
    """A version of an object, as the log names it."""

    number: int
    #: The leaf as it is hashed.
    record: bytes
    leaf: SealedObject


class Prover:
    """Make proofs for one checkpoint of a log. Each tile is read once, also if it cannot be read."""

    def __init__(self, log: ReadLog, reader: EvidenceReader) -> None:
        self._log = log

        @cache
        def content(tile: Tile) -> bytes | JoinguardError:
            try:
                return reader.read(LOG + tile.path, limit=FULL * HASH_BYTES)
            except JoinguardError as error:
                return error

        def read(tile: Tile) -> bytes:
            found = content(tile)
            if isinstance(found, JoinguardError):
                raise found
            return found

        self._tree = Log(log.checkpoint.size, read)

    def versions(self, key: str) -> list[SealedVersion]:
        """Return the versions of an object that the log names, in its order; later checkpoints may sign some."""
        named = ((number, record, object_leaf(record)) for number, record in self._log.leaves.of(key))
        return [SealedVersion(number, record, leaf) for number, record, leaf in named if isinstance(leaf, SealedObject)]

    def is_signed(self, version: SealedVersion) -> bool:
        """Return whether the checkpoint is about a version."""
        return version.number < self._log.checkpoint.size

    def proof(self, version: SealedVersion) -> Proof:
        """Return the proof of a version that is signed.

        Raises PermanentError if the tiles do not lead to the signed root, RetryableError if one cannot be read.
        """
        number, record, _ = version
        proof = Proof(record, number, self._tree.inclusion(number), self._log.note)
        root = root_by_inclusion(number, self._log.checkpoint.size, leaf_hash(record), proof.hashes)
        if root != self._log.checkpoint.root:
            why = "the tiles of the log do not lead to the signed root; run `joinguard verify`"
            raise PermanentError(fault("LOG_CHANGED", why))
        return proof


def prove(log: ReadLog, reader: EvidenceReader, key: str, version_id: str | None = None) -> Proof:
    """Return the proof that the log has a version of an object, by default the one that was sealed first.

    Raises PermanentError if it has none, or if the tiles do not lead to the signed root.
    """
    prover = Prover(log, reader)
    objects = prover.versions(key)
    wanted = [each for each in objects if version_id in {None, each.leaf.version_id}]
    if not wanted:
        # No key is part of the message: a key can have twelve digits in a row, which are removed.
        versions = ", ".join(each.leaf.version_id for each in objects)
        why = f"names this object in the versions {versions} only" if versions else "does not name this object"
        sealed = "an object is sealed within the hour after it was written"
        raise PermanentError(fault("NOT_SEALED", f"the sealed log {why}; {sealed}"))
    if not prover.is_signed(wanted[0]):
        why = "the batch that names this object is not signed yet; try again in an hour"
        raise PermanentError(fault("NOT_SEALED", why))
    return prover.proof(wanted[0])


def differs(leaf: SealedObject | SealedDeletion, body: bytes) -> str | None:
    """Return what an object's bytes have that was not sealed; None if they are those that were."""
    if isinstance(leaf, SealedDeletion):
        return "the leaf is about a delete marker, which has no bytes"
    digest = sha256(body).hexdigest()
    if (digest, len(body)) == (leaf.sha256, leaf.size):
        return None
    return f"its SHA-256 is {digest} ({len(body)} bytes), and {leaf.sha256} ({leaf.size} bytes) was sealed"
