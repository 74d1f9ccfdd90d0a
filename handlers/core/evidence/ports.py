"""What evidence needs from outside, as protocols; `handlers.aws` and the tests' fakes implement them."""

from datetime import datetime
from typing import Protocol

from handlers.core.ports import Pseudonyms
from schemas.ids import Sha256
from schemas.pseudonym import Pseudonym


class EvidenceWriter(Protocol):
    """The evidence bucket, as evidence and audit records are written."""

    def record(self, key: str, body: bytes) -> Sha256:
        """Write an object unless the key is taken; return the SHA-256 of the object that the key then holds.

        Returns an empty string if that object has no SHA-256 checksum.
        """


class EvidenceReader(Protocol):
    """The evidence bucket, as it is read."""

    def read(self, key: str, *, limit: int | None = None) -> bytes:
        """Return an object's bytes, at most one more than the limit.

        Raises RetryableError with Cause.NOT_FOUND if there is no such object.
        """

    def under(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """Return the keys under a prefix, in order, at most as many as the limit."""


class Archive(EvidenceWriter, EvidenceReader, Protocol):
    """The evidence bucket, as operators use it."""

    def keep(self, key: str, body: bytes, *, mode: str, until: datetime) -> bool:
        """Write an object, locked until a moment in GOVERNANCE or COMPLIANCE mode; False if the key is taken."""


class PrincipalPseudonyms(Pseudonyms, Protocol):
    """Pseudonyms of accounts, of principals, and of the names of sessions and users."""

    def principal(self, arn: str) -> Pseudonym:
        """Return the pseudonym of a principal."""

    def name(self, name: str) -> Pseudonym:
        """Return the pseudonym of the name of a session or user, in any role and account; its case is ignored."""
