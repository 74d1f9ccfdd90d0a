"""KMS: pseudonyms of accounts, principals and names; under one key, the same account always gets the same one."""

from __future__ import annotations

import hmac
from functools import cached_property
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from handlers.aws.errors import error_code, service_errors
from schemas.pseudonym import Pseudonym

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_kms import KMSClient

    from schemas.ids import AccountId, OrganizationId, Sha256

#: KMS's codes for a key that is deleted, will be deleted, or is disabled.
#: https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateMac.html
_GONE: Final = frozenset({"DisabledException", "KMSInvalidStateException", "NotFoundException"})


class KmsPseudonyms:
    """Derive a secret from the KMS HMAC key once, then compute the HMAC-SHA-256 of each account id with it.

    There are only 10^12 account ids, so a plain hash could be reversed by trying them all. The secret depends on the
    organization id: an account has different pseudonyms in two organizations that use the same key. Former keys, by
    their ids or ARNs, are used only to compare with what they made.
    """

    def __init__(
        self, client: KMSClient, key_id: str, organization_id: OrganizationId, former_keys: Sequence[str] = ()
    ) -> None:
        self._client = client
        self._key_id = key_id
        self._purpose = f"joinguard/pseudonym/1/{organization_id}".encode()
        self._derived: tuple[bytes, str] | None = None
        self._former = {each: KmsPseudonyms(client, each, organization_id) for each in former_keys}

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

    @property
    def key_version(self) -> str:
        """The id of the key, as in the pseudonyms."""
        return self._secret[1]

    def under_each_key(self) -> Iterator[KmsPseudonyms]:
        """Yield these pseudonyms, and then the same under each former key that still exists and is enabled.

        A former key is used when its turn comes, once in a process. Raises RetryableError if KMS does not say whether
        it exists.
        """
        yield self
        for each in self._former.values():
            if each.exists:
                yield each

    @property
    def lost_keys(self) -> tuple[str, ...]:
        """The ids of the former keys that do not exist any more, or are disabled."""
        return tuple(key.rpartition("/")[2] for key, each in self._former.items() if not each.exists)

    @cached_property
    def exists(self) -> bool:
        """Whether the key exists and is enabled; raises RetryableError if KMS does not say so."""
        with service_errors("KMS"):
            try:
                self._derived = self._derived or self._generate()
            except ClientError as error:
                if error_code(error) in _GONE:
                    return False
                raise
            return True

    def _pseudonym(self, kind: str, text: bytes) -> Pseudonym:
        secret, key_version = self._secret
        digest = hmac.digest(secret, text, "sha256").hex()
        return Pseudonym(value=f"{kind}-{digest[:32]}", key_version=key_version)

    @property
    def _secret(self) -> tuple[bytes, str]:
        if self._derived is None:
            with service_errors("KMS"):
                self._derived = self._generate()
        return self._derived

    def _generate(self) -> tuple[bytes, str]:
        mac = self._client.generate_mac(KeyId=self._key_id, MacAlgorithm="HMAC_SHA_256", Message=self._purpose)
        # The answer has the ARN of the key, even if the request had an alias. An ARN holds an account id.
        return mac["Mac"], mac["KeyId"].rpartition("/")[2]
