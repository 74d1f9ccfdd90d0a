"""What reconciling needs from outside, as protocols; `handlers.aws` and the tests' fakes implement them."""

from typing import Protocol

from handlers.core.reconcile.pauses import KnownPauses


class Pauses(Protocol):
    """The pauses, as they are read."""

    def read(self) -> KnownPauses:
        """Return all pauses; raise RetryableError if they cannot be read."""


class OperatorsPauses(Pauses, Protocol):
    """The pauses, as operators change them."""

    def write(self, pauses: KnownPauses, before: KnownPauses) -> None:
        """Replace all pauses, as they were read before.

        Raises RetryableError if somebody has changed them since then. Writing the same twice is no conflict.
        """
