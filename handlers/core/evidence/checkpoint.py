"""Checkpoints of the log: its size and root at a moment, signed.

The text is that of https://c2sp.org/tlog-checkpoint, without extension lines; it is signed as a note
(https://c2sp.org/signed-note) with Ed25519 (RFC 8032), so that tools for other transparency logs accept it.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self, TypeAlias

from handlers.core.evidence.merkle import HASH_BYTES, Hash

#: Returns whether a public key's signature of a message is valid: the key, the message, the signature.
Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]

#: The signed-note specification's type of Ed25519 signatures.
_ED25519: Final = b"\x01"
_KEY_BYTES: Final = 32
_ID_BYTES: Final = 4
_BASE64: Final = r"[A-Za-z0-9+/]+={0,2}"
_NAME: Final = r"[^\s+]+"
_VERIFIER: Final = re.compile(rf"({_NAME})\+([0-9a-f]{{8}})\+({_BASE64})")
_SIGNATURE: Final = re.compile(rf"\N{{EM DASH}} ({_NAME}) ({_BASE64})\n")
_NOTE: Final = re.compile(
    rf"(?P<body>(?P<origin>[^\x00-\x1f\x7f]+)\n(?P<size>0|[1-9][0-9]{{0,18}})\n(?P<root>{_BASE64})\n)\n"
    rf"(?P<signatures>(?:{_SIGNATURE.pattern})+)"
)


@dataclass(frozen=True)
class VerifierKey:
    """The public key of a log, with the log's name."""

    name: str
    #: The 32 bytes of an Ed25519 public key.
    public: bytes

    def __post_init__(self) -> None:
        """Raise ValueError for a name or a key that no note can have."""
        if not re.fullmatch(_NAME, self.name):
            raise ValueError(f"{self.name!r} is not the name of a key: it must have no spaces and no +")
        if len(self.public) != _KEY_BYTES:
            raise ValueError(f"an Ed25519 public key has {_KEY_BYTES} bytes, not {len(self.public)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the key that a text such as `NAME+ID+KEY` stands for. Raises ValueError."""
        found = _VERIFIER.fullmatch(text.strip())
        if not found:
            raise ValueError("this is no verifier key; it has the form NAME+ID+KEY, as the stack's output prints it")
        key = decoded(found[3], "the verifier key")
        if key[:1] != _ED25519:
            raise ValueError("this verifier key is not for Ed25519; use the key that the stack's output prints")
        parsed = cls(found[1], key[1:])
        if parsed.id.hex() != found[2]:
            raise ValueError("the id of this verifier key does not belong to its name and key; copy the whole key")
        return parsed

    @property
    def id(self) -> bytes:
        """The four bytes that name the key in a signature."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        """Return the key as other tools take it."""
        return f"{self.name}+{self.id.hex()}+{encoded(_ED25519 + self.public)}"


@dataclass(frozen=True)
class Checkpoint:
    """The size and the root of a log."""

    #: The log's name.
    origin: str
    size: int
    root: Hash

    def body(self) -> bytes:
        """Return the bytes that are signed."""
        return f"{self.origin}\n{self.size}\n{encoded(self.root)}\n".encode()

    def note(self, key: VerifierKey, signature: bytes) -> bytes:
        """Return the checkpoint with a signature of its body."""
        return self.body() + f"\n\N{EM DASH} {key.name} {encoded(key.id + signature)}\n".encode()


def open_note(note: bytes, key: VerifierKey, verify: Verify) -> Checkpoint:
    """Return the checkpoint in a note that a key has signed; signatures of others are left aside.

    Raises ValueError, with the reason, for bytes that are no such note.
    """
    try:
        text = note.decode()
    except UnicodeDecodeError:
        raise ValueError("this is no checkpoint: it is not UTF-8") from None
    found = _NOTE.fullmatch(text)
    if not found:
        raise ValueError("this is no checkpoint: it is not a note with an origin, a size, a root and a signature")
    if found["origin"] != key.name:
        raise ValueError(f"this is a checkpoint of the log {found['origin']!r}, not of {key.name!r}")
    checkpoint = Checkpoint(found["origin"], int(found["size"]), decoded(found["root"], "the root"))
    if len(checkpoint.root) != HASH_BYTES or checkpoint.body() != found["body"].encode():
        raise ValueError(f"this is no checkpoint: its root is not the base64 of {HASH_BYTES} bytes")
    signatures = [
        decoded(signature, "a signature")
        for name, signature in _SIGNATURE.findall(found["signatures"])
        if name == key.name
    ]
    ours = [each.removeprefix(key.id) for each in signatures if each.startswith(key.id)]
    if not ours:
        raise ValueError("no signature of this checkpoint is by the log's key")
    if not all(verify(key.public, checkpoint.body(), each) for each in ours):
        raise ValueError("the signature of this checkpoint is not valid")
    return checkpoint


def encoded(data: bytes) -> str:
    """Return bytes as base64."""
    return b64encode(data).decode()


def decoded(text: str, what: str) -> bytes:
    """Return the bytes of base64. Raises ValueError for a text that is not the one that stands for them."""
    try:
        data = b64decode(text, validate=True)
    except Base64Error:
        raise ValueError(f"{what} is not base64") from None
    if encoded(data) != text:
        raise ValueError(f"{what} is not base64: its last bits are not 0")
    return data
