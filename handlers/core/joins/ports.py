"""What handling a join needs from outside, as protocols; `handlers.aws` and the tests' fakes implement them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from handlers.core.guardrails.places import AttachedPolicy
from handlers.core.guardrails.reading import FactsReader
from schemas.compiled_guardrails import PolicyType
from schemas.events import Event, JoinRequest, RemovalRequest
from schemas.ids import AccountId, PolicyId, Sha256
from schemas.outcome import AttachmentResult, Called, Claim, Departed, Fault, Outcome, OutcomeStatus, PolicyOutcome


@dataclass(frozen=True)
class Message:
    """A message as SQS delivered it."""

    body: str
    message_id: str
    receipt_handle: str
    #: How many times SQS has delivered it, this delivery included.
    receives: int
    sent_at: datetime
    #: Message attributes in the SDK's spelling (`DataType`, `StringValue`, `BinaryValue`).
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: The system attribute `AWSTraceHeader`, which AWS X-Ray uses to trace the message.
    trace_header: str | None = None


@dataclass(frozen=True)
class Attempt:
    """One attempt at one event, begun by one worker."""

    number: int
    #: Policies that earlier attempts were about to change, by attempt; only attempts without confirmed evidence.
    interrupted: Mapping[int, Sequence[PolicyId]]
    #: Policies that an earlier attempt may have changed although the call failed.
    ambiguous: frozenset[PolicyId]
    #: The event's time as the first attempt recorded it, so that all attempts derive the same evidence keys.
    event_time: datetime
    #: When the first attempt began.
    received_at: datetime
    #: SHA-256 of all evidence that earlier attempts were about to write, by attempt.
    announced: Mapping[int, Collection[Sha256]] = field(default_factory=dict)
    #: The changes that the evidence of earlier attempts claims.
    claims: Mapping[PolicyId, Claim] = field(default_factory=dict)
    #: Whether the event's row was unreadable and a new row replaced it.
    replaced: bool = False


@dataclass(frozen=True)
class Settlement:
    """The result of an attempt, as the ledger records it."""

    status: OutcomeStatus
    policies: tuple[PolicyOutcome, ...] = ()
    fault: Fault | None = None
    evidence_key: str | None = None
    evidence_sha256: Sha256 | None = None
    #: Attempts whose evidence exists; the ledger removes their intents.
    proven: frozenset[int] = frozenset()
    #: Policies that may be changed although the call failed.
    ambiguous: frozenset[PolicyId] = frozenset()
    #: The number of Organizations calls that failed and were tried again (throttles, conflicts, server errors).
    retried_calls: int = 0
    #: The guardrails that decided; None if the event is no join.
    guardrails: Sha256 | None = None
    #: Evidence keys that held an object other than the evidence to be written there.
    conflicts: tuple[str, ...] = ()
    #: The changes that our evidence about all attempts claims.
    claims: Mapping[PolicyId, Claim] = field(default_factory=dict)
    #: Who detached or changed a policy, if the event reports that.
    called: Called | None = None
    #: The number of policies that were put back.
    restored: int = 0
    #: The departure of the account, if it is why the status is CLOSED.
    departed: Departed | None = None


@dataclass(frozen=True)
class Membership:
    """That an account is a member of the organization."""

    since: datetime
    #: AWS's state of the account, such as ACTIVE.
    state: str


class Organizations(FactsReader, Protocol):
    """AWS Organizations, as the worker uses it."""

    def attached_policies(self, account_id: AccountId, types: Collection[PolicyType]) -> tuple[AttachedPolicy, ...]:
        """Return the policies of these types that are attached to the account itself."""

    def membership(self, account_id: AccountId) -> Membership:
        """Return since when an account is a member; raise AccountNotFoundError if it is none."""

    def attach(self, policy_id: PolicyId, account_id: AccountId) -> AttachmentResult:
        """Attach a policy; a policy that is already attached is not an error."""


class Detachments(Protocol):
    """AWS Organizations, as only the worker that removes policies uses it."""

    def detach(self, policy_id: PolicyId, account_id: AccountId) -> AttachmentResult:
        """Detach a policy; a policy that is not attached is not an error."""


@dataclass(frozen=True)
class EventChanges:
    """What the row of an event says of changes to the account's policies."""

    claims: Mapping[PolicyId, Claim] = field(default_factory=dict)
    #: The policies that an attempt was about to change, or may have changed: until the event is decided, nobody can
    #: tell whose change it is. Empty if it is decided.
    open: frozenset[PolicyId] = frozenset()


class ClaimsReader(Protocol):
    """The claims in the outcomes table."""

    def of(self, account_id: AccountId) -> Iterable[EventChanges]:
        """Return what the row of each event of an account says; raise PermanentError if one is not readable."""


@dataclass(frozen=True)
class Closing:
    """What became of the outcomes of an account that has left."""

    #: The number of outcomes that were closed.
    closed: int
    #: The number of outcomes that an attempt is being made at, so that they could not be closed.
    running: int


class AccountOutcomes(Protocol):
    """The outcomes of one account's events."""

    def outcomes(self, account_id: AccountId) -> Iterable[Outcome]:
        """Return the readable outcomes of all events of an account."""

    def close(self, account_id: AccountId, departed: Departed, now: datetime) -> Closing:
        """Close the outcomes of the account's events before its departure that are RETRYING or FAILED."""


class RemovalLimit(Protocol):
    """The number of removals of a day, which all workers share."""

    def take(self, removal: Sha256, limit: int, now: datetime) -> bool:
        """Count a removal, unless it was counted today; return False if as many as the limit were."""


class RestoreLimit(Protocol):
    """The number of accounts in which something is put back on a day, which all workers share."""

    def take(self, account: Sha256, now: datetime) -> bool:
        """Count an account, unless it was counted today; return False if more lost policies than change at once."""


class Removals(Protocol):
    """The queue of the worker that removes policies."""

    def request(self, request: RemovalRequest) -> None:
        """Send a request."""

    def pass_on(self, message: Message) -> None:
        """Send a message as it is."""


class Evaluations(Protocol):
    """The queue of the worker that attaches policies."""

    def request(self, request: JoinRequest) -> None:
        """Send a request, so that it is delivered after AWS has told all its servers what has changed."""


class Pace(Protocol):
    """The rate of attachments and removals, which all workers share."""

    def reserve(self, now: datetime) -> datetime:
        """Return when the caller may begin its next change, and reserve that moment."""


class Turns(Pace, Protocol):
    """The same rate, for a worker that lets others go first."""

    def reserve_free(self, now: datetime) -> datetime:
        """Reserve the present moment and return `now`, or return when the next moment is free, without reserving it."""


class RehearsalRow(Protocol):
    """The row of the last rehearsal in the outcomes table."""

    def record_rehearsal(self, outcome: Outcome) -> None:
        """Write the row, whatever it holds."""


class Ledger(RehearsalRow, Protocol):
    """The outcomes table."""

    def begin(self, event: Event, *, now: datetime, lease_until: datetime) -> Attempt | Outcome:
        """Begin an attempt at an event, or return the event's final outcome.

        Raises AttemptInProgressError while another worker holds the lease.
        """

    def intend(
        self, event: Event, attempt: int, policies: Sequence[PolicyId], *, ambiguous: Collection[PolicyId]
    ) -> None:
        """Record the policies that the attempt is about to change, and the ambiguous ones.

        Raises AttemptInProgressError after a later attempt has begun.
        """

    def announce(
        self, event: Event, attempt: int, number: int, evidence: Sha256, *, ambiguous: Collection[PolicyId]
    ) -> None:
        """Record the SHA-256 of the evidence that `attempt` is about to write about attempt `number`.

        Raises AttemptInProgressError after a later attempt than `attempt` has begun.
        """

    def settle(self, event: Event, attempt: int, settlement: Settlement, *, now: datetime) -> bool:
        """Record the attempt's result and end its lease; return False after a later attempt has begun."""


class DeadLetters(Protocol):
    """The dead-letter queue."""

    def send(self, message: Message, fault: Fault) -> None:
        """Send a message, its body unchanged, with the reason why it failed."""


class Inbox(Protocol):
    """The queue that delivers the messages."""

    def postpone(self, message: Message, seconds: int) -> None:
        """Set how long the message stays invisible before SQS delivers it again."""
