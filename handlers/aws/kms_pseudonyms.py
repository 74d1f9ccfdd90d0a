"""KMS: pseudonyms of accounts, principals and names; the same account always gets the same one."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from handlers.aws.errors import service_errors
from schemas.pseudonym import Pseudonym

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

    from schemas.ids import AccountId, OrganizationId, Sha256


class KmsPseudonyms:
    """Derive a secret from the KMS HMAC key once, then compute the HMAC-SHA-256 of each account id with it.

    There are only 10^12 account ids, so a plain hash could be reversed by trying them all. The secret depends on the
    organization id: an account has different pseudonyms in two organizations that use the same key.
    """

    def __init__(self, client: KMSClient, key_id: str, organization_id: OrganizationId) -> None:
        self._client = client
        self._key_id = key_id
        self._purpose = f"joinguard/pseudonym/1/{organization_id}".encode()
        self._derived: tuple[bytes, str] | None = None

    def of(self, account_id: AccountId) -> Pseudonym:
        """Return the pseudonym of an account. The first call in a process calls KMS.

        Raises RetryableError if the call of KMS fails.
        """
        return self._pseudonym("acct", account_id.encode())

    def principal(self, arn: str) -> Pseudonym:
        """Return the pseudonym of a principal; its prefix differs from that of accounts."""
        return self._pseudonym("prin", f"principal\0{arn}".encode())

    def name(self, name: str) -> Pseudonym:
        """Return the pseudonym of the name of a session or user, in any role and account; its case is ignored."""
        return self._pseudonym("name", f"name\0{name.casefold()}".encode(errors="surrogatepass"))

    def digest(self, kind: str, text: str) -> Sha256:
        """Return the HMAC-SHA-256 of a text, in hexadecimal; each kind has digests of its own.

        A plain digest would reveal the account if everything else in the text is known.
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
        # The answer has the ARN of the key, even if the request had an alias. An ARN holds an account id.
        self._derived = mac["Mac"], mac["KeyId"].rpartition("/")[2]
        return self._derived
