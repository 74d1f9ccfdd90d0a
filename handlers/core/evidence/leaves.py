"""The leaves of the sealed log as bytes: one by one, in a batch, and in the entry bundle of a tile."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from handlers.core.errors import PermanentError, fault
from handlers.core.redaction import holds_account_id, redact
from schemas.keys import event_in
from schemas.sealed import Leaf, ObjectKind, SealedBatch, SealedDeletion, SealedObject, sealed_kind
from schemas.values import canonical_json

_LENGTH_BYTES: Final = 2
_LEAF: Final[TypeAdapter[Any]] = TypeAdapter(Leaf)


def kind_of(key: str) -> ObjectKind | None:
    """Return the kind of an object to seal; None if its key holds an account id, which no part of Joinguard writes."""
    # The other parts of a key are days, digests and numbers.
    return None if holds_account_id(event_in(key) or "") else sealed_kind(key)


def shown_key(key: str) -> str:
    """Return a key as a report may hold it."""
    return key if kind_of(key) else redact(key)


def leaf_bytes(leaf: Leaf) -> bytes:
    """Return a leaf as canonical JSON (RFC 8785), without the fields that are absent."""
    return canonical_json(leaf.model_dump(mode="json", exclude_none=True))


def read_leaf(content: bytes) -> Leaf:
    """Return the leaf that bytes stand for. Raises ValueError for any that are not the canonical JSON of one."""
    try:
        leaf: Leaf = _LEAF.validate_json(content)
    except ValidationError:
        raise ValueError("this leaf is not JSON with what is sealed of an object or a batch") from None
    if leaf_bytes(leaf) != content:
        raise ValueError("this leaf is not canonical JSON")
    return leaf


def object_leaf(content: bytes) -> SealedObject | SealedDeletion:
    """Return a leaf that names an object, from bytes that `read_leaf` has accepted before."""
    leaf: Leaf = _LEAF.validate_json(content)
    if isinstance(leaf, SealedBatch):
        raise TypeError("the first leaf of a batch names no object")
    return leaf


def batch_bytes(leaves: Iterable[Leaf]) -> bytes:
    """Return a batch: one leaf a line. Canonical JSON has no line breaks."""
    return b"".join(leaf_bytes(each) + b"\n" for each in leaves)


def read_batch(content: bytes) -> list[Leaf]:
    """Return the leaves of a batch. Raises PermanentError if it is not one."""
    try:
        return [read_leaf(each) for each in content.splitlines()]
    except ValueError:
        why = "a batch of the log is not one; run `make verify`"
        raise PermanentError(fault("LOG_CHANGED", why)) from None


def bundle_bytes(leaves: Iterable[bytes]) -> bytes:
    """Return an entry bundle: each leaf after its length in two bytes (https://c2sp.org/tlog-tiles)."""
    return b"".join(len(each).to_bytes(_LENGTH_BYTES) + each for each in leaves)


def read_bundle(content: bytes) -> Sequence[bytes]:
    """Return the leaves of an entry bundle. Raises PermanentError if its lengths do not fit."""
    leaves, at = [], 0
    while at < len(content):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(content[at:start])
        leaves.append(content[start:at])
    if at != len(content):
        raise PermanentError(fault("LOG_CHANGED", "an entry bundle of the log is cut off; run `make verify`"))
    return leaves
