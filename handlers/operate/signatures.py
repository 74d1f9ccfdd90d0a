"""Ed25519 signatures (RFC 8032), with the package `cryptography`."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether a public key's signature of a message is valid."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
