"""KMS: account ids made unreadable, always the same way."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from handlers.aws.errors import service_errors
from schemas.evidence import Pseudonym

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

    from schemas.ids import AccountId, OrganizationId, Sha256


class KmsPseudonyms:
    """Derive a secret from the KMS HMAC key once, then HMAC-SHA-256 each account id under it.

    Account ids are only 10^12 values, so a plain hash could be undone by trying them all. The organization
    id is part of the derivation: two organizations under one key get different pseudonyms.
    """

    def __init__(self, client: KMSClient, key_id: str, organization_id: OrganizationId) -> None:
        self._client = client
        self._key_id = key_id
        self._purpose = f"joinguard/pseudonym/1/{organization_id}".encode()
        self._derived: tuple[bytes, str] | None = None

    def of(self, account_id: AccountId) -> Pseudonym:
        """Return the account's pseudonym; calls KMS once in the life of a process."""
        return self._pseudonym("acct", account_id.encode())

    def principal(self, arn: str) -> Pseudonym:
        """Return a principal's pseudonym, of another kind than an account's."""
        return self._pseudonym("prin", f"principal\0{arn}".encode())

    def digest(self, kind: str, text: str) -> Sha256:
        """Return the HMAC-SHA-256 of a text, in hexadecimal, another one for each kind.

        A plain digest of a text in which all but an account id is known gives the account away.
        """
        secret, _ = self._secret
        return hmac.digest(secret, f"{kind}\0{text}".encode(errors="surrogatepass"), "sha256").hex()

    def _pseudonym(self, kind: str, text: bytes) -> Pseudonym:
        secret, key_version = self._secret
        digest = hmac.digest(secret, text, "sha256").hex()
        return Pseudonym(value=f"{kind}-{digest[:32]}", key_version=key_version)

    @property
    def _secret(self) -> tuple[bytes, str]:
        return self._derived or self._derive()

    def _derive(self) -> tuple[bytes, str]:
        with service_errors("KMS"):
            mac = self._client.generate_mac(KeyId=self._key_id, MacAlgorithm="HMAC_SHA_256", Message=self._purpose)
        # The answer names the key by ARN, also where an alias was asked; an ARN holds an account id.
        self._derived = mac["Mac"], mac["KeyId"].rpartition("/")[2]
        return self._derived
