"""What the operators' tool needs from outside, as protocols; `handlers.aws` and the tests' fakes implement them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, TypeAlias, TypeVar

from handlers.core.guardrails.places import AttachedPolicy
from handlers.core.guardrails.reading import FactsReader
from handlers.core.ports import UnreadableRow
from handlers.core.redrive.dead_letter import DeadLetter, Queue, Receipt
from schemas.compiled_guardrails import PolicyType
from schemas.ids import AccountId, PolicyId
from schemas.outcome import Closed, Outcome, OutcomeStatus

T = TypeVar("T")

Destination: TypeAlias = Queue | Literal["joins", "repairs"]
#: Account id and event id.
OutcomeKey: TypeAlias = tuple[str, str]


class CallPatiently(Protocol):
    """Makes a call, and makes it again while the connection is lost."""

    def __call__(self, call: Callable[[], T]) -> T:
        """Return the result of the call."""


@dataclass(frozen=True)
class Sent:
    """The result of sending messages."""

    accepted: Sequence[DeadLetter]
    #: SQS's reason for refusing a message, by message id.
    refused: Mapping[str, str] = field(default_factory=dict)


class DeadLetterQueues(Protocol):
    """Both queues of failed messages, and those that messages are sent to, as operators use them."""

    def receive_all(self) -> Iterable[Sequence[DeadLetter]]:
        """Receive every message that both queues hold, in batches. They stay invisible to others until released.

        Messages that are sent while it runs may be among them; they are `late`.
        """

    def release(self, messages: Sequence[Receipt]) -> None:
        """Make messages visible again."""

    def extend_visibility(self, messages: Sequence[Receipt]) -> Sequence[Receipt]:
        """Extend the visibility timeout of messages; return those that are still in flight."""

    def send(self, to: Destination, messages: Sequence[DeadLetter]) -> Sent:
        """Send messages, their bodies and attributes unchanged."""

    def delete(self, messages: Sequence[Receipt]) -> Sequence[Receipt]:
        """Delete messages; return those that are deleted."""

    def visible(self, queue: Destination) -> int:
        """Return the approximate number of visible messages in a queue."""

    def in_flight(self) -> int:
        """Return the approximate number of messages in flight in both queues of failed messages."""


@dataclass(frozen=True)
class MoveTask:
    """SQS's own move of all messages of a queue."""

    #: RUNNING, CANCELLING, CANCELLED, COMPLETED or FAILED.
    status: str
    moved: int
    #: None until SQS has begun.
    to_move: int | None
    #: SQS returns it for a running task only.
    handle: str | None
    failure: str | None
    #: Milliseconds since 1970; identifies the task.
    started: int = 0


class MoveTasks(Protocol):
    """SQS's own move of all dead letters to the joins queue."""

    def start(self, *, per_second: int) -> None:
        """Start a task that moves 1 to 500 messages a second; SQS allows one task at a time."""

    def latest(self) -> MoveTask | None:
        """Return the latest task; None if there is none, or if SQS no longer lists it."""

    def cancel(self, handle: str) -> None:
        """Cancel a task; messages that are moved stay moved."""


class EventOutcomes(Protocol):
    """The outcomes of events, as they are now."""

    def of_events(self, keys: Collection[OutcomeKey]) -> Mapping[OutcomeKey, Outcome | UnreadableRow]:
        """Return the outcomes of up to 100 events; events without one are left out."""


class Outcomes(EventOutcomes, Protocol):
    """The outcomes, as they are now, and what closes and reopens one."""

    def reopen(self, keys: Collection[OutcomeKey], act_id: str, now: datetime) -> Collection[OutcomeKey]:
        """Make outcomes that an action closed FAILED again; return those that were reopened."""

    def close(self, keys: Collection[OutcomeKey], closed: Closed) -> Collection[OutcomeKey]:
        """Close the outcomes of events that are RETRYING or FAILED, unless an attempt is running; return the closed."""

    def of_account(self, account_id: AccountId | str) -> Iterable[Outcome | UnreadableRow]:
        """Return the outcomes of all events of an account; of `none`, of the events that name no account."""

    def scan(self, status: OutcomeStatus | None) -> Iterable[Outcome | UnreadableRow]:
        """Return all outcomes with a status, or with any; this reads the whole table."""

    def account_ids(self) -> Iterable[str]:
        """Return the account id of each row, once, whatever it is; this reads the keys of the whole table."""

    def count(self, status: OutcomeStatus) -> int:
        """Return the number of outcomes that are RETRYING or FAILED."""

    def failing(self, status: OutcomeStatus) -> Iterable[Outcome | UnreadableRow]:
        """Return all outcomes that are RETRYING or FAILED, the least recently updated first."""


@dataclass(frozen=True)
class Account:
    """A member account of the organization."""

    arn: str
    state: str


class OrganizationsReader(FactsReader, Protocol):
    """AWS Organizations, as operators read it."""

    def enabled_types(self) -> frozenset[str]:
        """Return the policy types that are enabled."""

    def policy_arn(self, policy_id: PolicyId) -> str | None:
        """Return a policy's ARN; None if the policy does not exist."""

    def account(self, account_id: AccountId) -> Account | None:
        """Return a member account; None if the account is not a member."""

    def attached_policies(self, account_id: AccountId, types: Collection[PolicyType]) -> tuple[AttachedPolicy, ...]:
        """Return the policies of these types that are attached to the account itself."""


class Permissions(Protocol):
    """IAM, as operators read it."""

    def denied(self, action: str, resources: Sequence[str]) -> Collection[str]:
        """Return the resources on which the worker's role may not perform an action."""
