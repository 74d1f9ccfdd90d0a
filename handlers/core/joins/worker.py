"""From a message to its outcome."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random

from handlers.core.errors import OutOfTimeError, RetryableError, fault
from handlers.core.evidence.references import event_name, event_reference
from handlers.core.evidence.rehearsals import Hop, Passed
from handlers.core.guardrails.evaluate import Requirements
from handlers.core.joins.ports import Attempt, DeadLetters, Inbox, Message, Settlement
from handlers.core.joins.rehearse import RehearsalRun
from handlers.core.joins.run import FIRST_RECEIVES, Dependencies, IgnoreRun, Run
from handlers.core.timing import Budget, TimeSlice, backoff
from schemas.events import AccountEvent, Actionable, Event, Join, NoJoin, Received, Rehearsal
from schemas.intake import InvalidEventError, read_event
from schemas.outcome import Fault, Outcome, OutcomeStatus, PolicyOutcome


@dataclass(frozen=True)
class Handled:
    """The result of handling a message. Holds no account id, so that logs may hold it."""

    status: OutcomeStatus
    event_id: str | None = None
    event_name: str | None = None
    #: The source of the event's time, unless that is the event itself.
    event_time_from: str | None = None
    #: The account's pseudonym.
    account: str | None = None
    attempt: int | None = None
    policies: tuple[PolicyOutcome, ...] = ()
    fault: Fault | None = None
    evidence_key: str | None = None
    #: Evidence keys that held another object.
    conflicts: tuple[str, ...] = ()
    #: Whether the event's row was unreadable and a new row replaced it.
    row_replaced: bool = False
    #: The number of Organizations calls that were tried again.
    retried_calls: int = 0
    #: The number of policies that were put back.
    restored: int = 0
    #: From a join until the account carried every policy; None for a redelivery, and for anything but a join.
    seconds_to_guardrail: float | None = None
    #: Whether it was a rehearsal.
    rehearsal: bool = False
    #: How long each hop took, in seconds, if a rehearsal came through.
    hops: Mapping[Hop, float] | None = None
    #: Seconds until SQS delivers the message again; None if it does not, or if its visibility could not be changed.
    again_in: int | None = None


@dataclass(frozen=True)
class Worker(ABC):
    """Handle the messages of a queue."""

    requirements: Requirements
    dependencies: Dependencies
    inbox: Inbox
    dead_letters: DeadLetters
    rng: Random = field(default_factory=Random)

    def handle(self, message: Message, budget: Budget) -> Handled:
        """Handle one message; the status RETRYING means that SQS has to deliver it again."""
        try:
            time_slice = budget.next_slice()
        except OutOfTimeError as error:
            return self._postpone(message, Handled(OutcomeStatus.RETRYING, fault=error.fault), seconds=0)
        try:
            event = read_event(
                message.body,
                management_account_id=self.requirements.management_account_id,
                sent_at=message.sent_at,
            )
        except InvalidEventError as error:
            handled = Handled(OutcomeStatus.FAILED, fault=fault("INVALID_EVENT", str(error)))
        else:
            handled = self._not_for_this_queue(event, message) or (
                self._rehearse(event, message)
                if isinstance(event, Rehearsal)
                else self._handle(event, message, time_slice)
            )
        if handled.status is OutcomeStatus.FAILED and handled.fault:
            try:
                self.dead_letters.send(message, handled.fault)
            except RetryableError as error:
                handled = replace(handled, status=OutcomeStatus.RETRYING, fault=error.fault)
        if handled.status is OutcomeStatus.RETRYING:
            return self._postpone(message, handled, seconds=backoff(message.receives, self.rng))
        return handled

    @abstractmethod
    def _not_for_this_queue(self, event: Received, message: Message) -> Handled | None:
        """Return the result of a message that another worker handles; None for the messages of this one."""

    @abstractmethod
    def _run(self, event: Actionable, message: Message, begun: Attempt, time_slice: TimeSlice) -> Run:
        """Return an attempt at an event after which there may be something to do."""

    def _begun(self, event: Event, message: Message, begun: Attempt, time_slice: TimeSlice) -> Run:
        if isinstance(event, NoJoin):
            return IgnoreRun(self.requirements, self.dependencies, event, message, begun, time_slice)
        return self._run(event, message, begun, time_slice)

    def _handle(self, event: Event, message: Message, time_slice: TimeSlice) -> Handled:
        handled = Handled(OutcomeStatus.RETRYING)
        dependencies = self.dependencies
        try:
            event = event.model_copy(update={"event_name": event_name(event, dependencies.pseudonyms)})
            event_id = event_reference(event.event_id, dependencies.pseudonyms.digest)
            handled = replace(handled, event_id=event_id, event_name=event.event_name)
            if event.event_time_from != "event":
                handled = replace(handled, event_time_from=event.event_time_from)
            if isinstance(event, AccountEvent):
                handled = replace(handled, account=dependencies.pseudonyms.of(event.account_id).value)
            begun = dependencies.ledger.begin(event, now=dependencies.clock.now(), lease_until=time_slice.lease_until)
            if isinstance(begun, Outcome):
                return replace(handled, status=begun.status, policies=begun.policies, fault=begun.fault)
            handled = replace(handled, attempt=begun.number, row_replaced=begun.replaced)
            settled = self._begun(event, message, begun, time_slice).run()
        except RetryableError as error:
            return replace(handled, fault=error.fault)
        return self._settled(handled, settled, event)

    def _rehearse(self, rehearsal: Rehearsal, message: Message) -> Handled:
        """Handle a rehearsal.

        It is given up after the first receives: the next one comes soon, and it is not to become a dead letter.
        """
        dependencies, last = self.dependencies, message.receives >= FIRST_RECEIVES
        run = RehearsalRun(
            dependencies.ledger,
            dependencies.archive,
            dependencies.pseudonyms,
            dependencies.clock,
            self.requirements.organization_id,
        )
        handled = Handled(OutcomeStatus.IGNORED, event_name=rehearsal.event_name, rehearsal=True)
        try:
            reference = event_reference(rehearsal.event_id, dependencies.pseudonyms.digest)
            handled = replace(handled, event_id=reference)
            outcome = run.run(rehearsal, message, last=last)
        except RetryableError as error:
            return replace(handled, status=OutcomeStatus.IGNORED if last else OutcomeStatus.RETRYING, fault=error.fault)
        return replace(
            handled, fault=outcome.fault, evidence_key=outcome.evidence_key, hops=Passed.of(outcome).seconds()
        )

    def _settled(self, handled: Handled, settled: Settlement, event: Event) -> Handled:
        seconds = None
        if settled.status is OutcomeStatus.ENFORCED and isinstance(event, Join) and event.cause == "joined":
            # Clocks differ; a negative time would distort the statistics.
            seconds = max(0.0, (self.dependencies.clock.now() - event.event_time).total_seconds())
        return replace(
            handled,
            status=settled.status,
            policies=settled.policies,
            fault=settled.fault,
            evidence_key=settled.evidence_key,
            conflicts=settled.conflicts,
            retried_calls=settled.retried_calls,
            restored=settled.restored,
            seconds_to_guardrail=seconds,
        )

    def _postpone(self, message: Message, handled: Handled, *, seconds: int) -> Handled:
        # If this fails, SQS delivers the message again after the queue's own visibility timeout.
        with suppress(RetryableError):
            self.inbox.postpone(message, seconds)
            return replace(handled, again_in=seconds)
        return handled
