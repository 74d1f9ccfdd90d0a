"""Checkpoints, as we and another implementation of signed notes read and write them."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import example, given
from hypothesis import strategies as st
from tlog_scales import signing
from tlog_scales.tlog import Checkpoint as Theirs

from handlers.core.evidence.checkpoint import Checkpoint, VerifierKey, open_note

ORIGIN = "joinguard.example/o-exampleorgid"
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = VerifierKey(ORIGIN, PRIVATE.public_key().public_bytes_raw())
CHECKPOINT = Checkpoint(ORIGIN, 12_345, bytes(range(100, 132)))
NOTE = CHECKPOINT.note(KEY, PRIVATE.sign(CHECKPOINT.body()))


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


@given(size=st.integers(0, 10**18), root=st.binary(min_size=32, max_size=32))
def test_both_read_what_we_write(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root)
    note = checkpoint.note(KEY, PRIVATE.sign(checkpoint.body()))

    assert open_note(note, KEY, verify) == checkpoint
    theirs = Theirs.from_text(note.decode())
    theirs.verify(signing.Vkey.from_string(str(KEY)))
    assert (theirs.origin, theirs.size, theirs.root_hash) == (ORIGIN, size, root)


def test_we_read_what_another_implementation_writes() -> None:
    signers = [signing.PlainEd25519Signer("witness", bytes(32)), signing.PlainEd25519Signer(ORIGIN, PRIVATE)]

    note = Theirs.make_signed(ORIGIN, 7, bytes(32), [*signers])

    assert open_note(note.serialize().encode(), KEY, verify) == Checkpoint(ORIGIN, 7, bytes(32))


@given(at=st.integers(0, len(NOTE) - 1), byte=st.integers(0, 255))
# The last character before the padding has bits that stand for nothing.
@example(at=len(NOTE) - 3, byte=NOTE[-3] + 1)
def test_no_byte_can_be_changed(at: int, byte: int) -> None:
    changed = NOTE[:at] + bytes([byte]) + NOTE[at + 1 :]

    if changed != NOTE:
        with pytest.raises(ValueError, match=r"checkpoint|base64"):
            open_note(changed, KEY, verify)


@given(note=st.one_of(st.binary(), st.text().map(str.encode)))
def test_other_bytes_are_no_checkpoint(note: bytes) -> None:
    with pytest.raises(ValueError, match="this is no checkpoint"):
        open_note(note, KEY, verify)


@pytest.mark.parametrize(
    ("note", "why"),
    [
        (NOTE.replace(b"12345", b"012345"), "it is not a note with an origin, a size, a root and a signature"),
        (NOTE.replace(b"\n\n", b"\nextension\n\n"), "it is not a note with an origin"),
        (NOTE + b"\n", "it is not a note with an origin"),
        (NOTE.replace(b"12345", b"12346"), "the signature of this checkpoint is not valid"),
        (CHECKPOINT.note(VerifierKey(ORIGIN, bytes(32)), bytes(64)), "no signature of this checkpoint is by the log's"),
        (CHECKPOINT.note(KEY, bytes(64)), "the signature of this checkpoint is not valid"),
        (NOTE + NOTE.split(b"\n\n")[1].replace(b"=", b"A="), "is not valid|is not base64"),
        (Checkpoint(ORIGIN, 1, bytes(31)).note(KEY, bytes(64)), "its root is not the base64 of 32 bytes"),
        (Checkpoint("another", 1, bytes(32)).note(KEY, bytes(64)), "a checkpoint of the log 'another', not of 'joingu"),
    ],
)
def test_a_note_that_is_not_the_logs_is_refused_with_the_reason(note: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        open_note(note, KEY, verify)


def their_key(kind: int, public: bytes) -> str:
    key: Any = signing.Vkey(ORIGIN, None, kind, public)
    return str(key.serialize())


def test_a_verifier_key_is_read_as_it_is_written() -> None:
    assert VerifierKey.parse(f" {KEY}\n") == KEY
    assert their_key(1, KEY.public) == str(KEY)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has the form NAME"),
        (str(KEY)[:-4], "does not belong to its name and key|has 32 bytes"),
        (str(KEY).replace("joinguard", "joinguarD"), "the id of this verifier key does not belong to its name and key"),
        (their_key(4, KEY.public), "is not for Ed25519"),
        (their_key(1, KEY.public[1:]), "has 32 bytes, not 31"),
    ],
)
def test_a_text_that_is_no_verifier_key_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        VerifierKey.parse(text)


def test_a_name_with_a_space_is_no_name() -> None:
    with pytest.raises(ValueError, match="it must have no spaces"):
        VerifierKey("our log", bytes(32))
