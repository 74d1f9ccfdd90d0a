"""What reconciling needs from outside, as protocols; `handlers.aws` and the tests' fakes implement them."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias

from handlers.core.guardrails.facts import Fact
from handlers.core.guardrails.pauses import KnownPauses
from handlers.core.guardrails.ports import Journal, OrganizationReader, Pauses
from handlers.core.reconcile.coverage import Rows
from schemas.events import DepartureRequest, JoinRequest
from schemas.ids import AccountId, ActionId
from schemas.sweep import SweepState

#: What the sweep sends to the worker: that an account has to be evaluated, or that it left.
Request: TypeAlias = JoinRequest | DepartureRequest


class SweepStore(Protocol):
    """What is kept between the invocations of the sweep. Only one of them holds it at a time."""

    def acquire(self, now: datetime, until: datetime) -> SweepState | None:
        """Take hold until a moment, and return what is kept; None while another invocation holds it."""

    def save(self, state: SweepState) -> None:
        """Keep a state; raise RetryableError if another invocation has taken hold since."""

    def release(self) -> None:
        """Let go, unless another invocation has taken hold since."""

    def put(self, sweep_id: ActionId, kind: str, number: int, piece: bytes) -> None:
        """Keep a piece of what a sweep read or decided, instead of an earlier one with this number."""

    def get(self, sweep_id: ActionId, kind: str, count: int) -> Sequence[bytes] | None:
        """Return the first pieces of a kind, in order; None if one of them is missing."""

    def delete(self, sweep_id: ActionId, kind: str, count: int) -> None:
        """Delete the first pieces of a kind."""


class OpenReader(Protocol):
    """Opens AWS Organizations for one reading."""

    def __call__(self, journal: Journal, until: datetime, facts: Collection[Fact]) -> OrganizationReader:
        """Return a reader that goes on where the journal stops, and begins no call after a moment."""


class OutcomesOfAccounts(Protocol):
    """The outcomes table."""

    def of_accounts(self, account_ids: Sequence[AccountId]) -> Iterable[tuple[AccountId, Rows]]:
        """Yield the outcomes of accounts, several of which are read at a time."""


class Repairs(Protocol):
    """The queue of the requests."""

    def send(self, requests: Sequence[Request]) -> None:
        """Send at most ten requests; raise RetryableError unless all of them are on the queue."""

    def is_empty(self) -> bool:
        """Return whether no request waits or is being handled, as far as SQS knows."""


class OperatorsPauses(Pauses, Protocol):
    """The pauses, as operators change them."""

    def write(self, pauses: KnownPauses, before: KnownPauses) -> None:
        """Replace all pauses, as they were read before.

        Raises RetryableError if somebody has changed them since then. Writing the same twice is no conflict.
        """
