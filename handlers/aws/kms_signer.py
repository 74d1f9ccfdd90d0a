"""KMS: the Ed25519 key that signs the checkpoints of the sealed log."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from handlers.aws.errors import service_errors

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

#: The last bytes of an Ed25519 public key in DER (https://www.rfc-editor.org/rfc/rfc8410#section-4).
_KEY_BYTES: Final = 32


class KmsSigner:
    """Sign with a key that never leaves KMS."""

    def __init__(self, client: KMSClient, key_id: str) -> None:
        self._client = client
        self._key_id = key_id

    def public_key(self) -> bytes:
        """Return the 32 bytes of the public key. The first call in a process calls KMS."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message (RFC 8032, Ed25519)."""
        with service_errors("KMS"):
            answer = self._client.sign(
                KeyId=self._key_id, Message=message, MessageType="RAW", SigningAlgorithm="ED25519_SHA_512"
            )
        return answer["Signature"]

    @cached_property
    def _public_key(self) -> bytes:
        with service_errors("KMS"):
            return self._client.get_public_key(KeyId=self._key_id)["PublicKey"][-_KEY_BYTES:]
