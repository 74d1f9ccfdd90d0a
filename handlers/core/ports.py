"""What the decisions need from the world, as protocols; `handlers.aws` and the tests' fakes fulfil them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from schemas.events import Join, NoJoin
from schemas.evidence import Pseudonym
from schemas.ids import AccountId, PolicyId, Sha256
from schemas.outcome import AttachmentResult, Fault, Outcome, OutcomeStatus, PolicyOutcome


@dataclass(frozen=True)
class Message:
    """A message as the queue delivered it."""

    body: str
    message_id: str
    receipt_handle: str
    #: How often SQS has delivered it, this time included.
    receives: int
    sent_at: datetime
    #: Message attributes in the SDK's spelling (`DataType`, `StringValue`, `BinaryValue`).
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """One worker's hold on one event."""

    number: int
    #: Earlier attempts whose evidence is not confirmed, with what they were about to attach.
    interrupted: Mapping[int, Sequence[PolicyId]]
    #: Policies whose attachment by an earlier attempt may have taken effect although the call failed.
    unclear: frozenset[PolicyId]
    #: The event's time as the first attempt wrote it down, so that all attempts name the same evidence keys.
    event_time: datetime
    #: SHA-256 of all evidence that was about to be written for earlier attempts.
    announced: Mapping[int, Collection[Sha256]] = field(default_factory=dict)
    #: Whether the event's row could not be read, so that a new one was put in its place.
    replaced: bool = False


@dataclass(frozen=True)
class Settlement:
    """What an attempt came to."""

    status: OutcomeStatus
    policies: tuple[PolicyOutcome, ...] = ()
    fault: Fault | None = None
    evidence_key: str | None = None
    evidence_sha256: Sha256 | None = None
    #: The attempts whose evidence is written, so that their intents can be forgotten.
    proven: frozenset[int] = frozenset()
    #: Policies whose attachment failed in a way that may have taken effect.
    unclear: frozenset[PolicyId] = frozenset()
    #: How many calls Organizations put off (throttles, conflicts, server errors).
    put_off: int = 0
    #: Evidence keys under which something else was found than what was to be written there.
    conflicts: tuple[str, ...] = ()


class Clock(Protocol):
    """Time."""

    def now(self) -> datetime:
        """Return the time in UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class Directory(Protocol):
    """AWS Organizations: which policies an account carries."""

    def attached_policies(self, account_id: AccountId) -> frozenset[PolicyId]:
        """Return the SCPs attached to the account itself."""

    def attach(self, policy_id: PolicyId, account_id: AccountId) -> AttachmentResult:
        """Attach a policy; one that is attached already is no error."""


class Pace(Protocol):
    """The rate of attachments, shared by all workers."""

    def reserve(self, now: datetime) -> datetime:
        """Return when the next attachment may be begun, and keep that moment for the caller."""


class Ledger(Protocol):
    """The outcomes: what is true now."""

    def begin(self, event: Join | NoJoin, *, now: datetime, lease_until: datetime) -> Attempt | Outcome:
        """Take hold of an event, or return its final outcome.

        Raises AttemptInProgressError where another worker's lease still runs.
        """

    def intend(
        self, event: Join | NoJoin, attempt: int, policies: Sequence[PolicyId], *, unclear: Collection[PolicyId]
    ) -> None:
        """Write down what the attempt is about to attach, and what may be attached already although no answer said so.

        Raises AttemptInProgressError where a later attempt has taken over.
        """

    def announce(
        self, event: Join | NoJoin, attempt: int, number: int, evidence: Sha256, *, unclear: Collection[PolicyId]
    ) -> None:
        """Write down the SHA-256 of evidence that is about to be written for attempt `number`.

        Raises AttemptInProgressError where a later attempt than `attempt` has taken over.
        """

    def settle(self, event: Join | NoJoin, attempt: int, settlement: Settlement, *, now: datetime) -> bool:
        """Write what the attempt came to and give up the lease; False where a later attempt has taken over."""


class Archive(Protocol):
    """The evidence: what happened."""

    def record(self, key: str, body: bytes) -> Sha256:
        """Write an object once; return the SHA-256 of what lies under the key, which is another's if that came first.

        Returns an empty text where what lies there has no checksum.
        """


class DeadLetters(Protocol):
    """The queue of messages that wait for an operator."""

    def send(self, message: Message, fault: Fault) -> None:
        """Keep a message, body byte for byte, with the reason why it is dead."""


class Inbox(Protocol):
    """The queue that messages come from."""

    def postpone(self, message: Message, seconds: int) -> None:
        """Hide a message that will be tried again for so long from now."""


class Pseudonyms(Protocol):
    """Account ids, and texts that may hold one, made unreadable, always the same way."""

    def of(self, account_id: AccountId) -> Pseudonym:
        """Return the account's pseudonym."""

    def digest(self, kind: str, text: str) -> Sha256:
        """Return a keyed digest, another one for each kind."""
