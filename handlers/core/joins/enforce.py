"""From a message to what became of it."""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random

from handlers.core.errors import OutOfTimeError, RetryableError, fault
from handlers.core.evidence.references import event_name, reference
from handlers.core.joins.attempt import Tools, run_attempt
from handlers.core.ports import DeadLetters, Inbox, Message, Settlement
from handlers.core.timing import Budget, Turn, backoff
from schemas.events import Join, NoJoin
from schemas.intake import InvalidEventError, read_event
from schemas.outcome import Fault, Outcome, OutcomeStatus, PolicyOutcome


@dataclass(frozen=True)
class Handled:
    """What became of a message, without account ids: fit for the log."""

    status: OutcomeStatus
    event_id: str | None = None
    event_name: str | None = None
    #: Where the event's time comes from, where that is not the event itself.
    event_time_from: str | None = None
    #: The account's pseudonym.
    account: str | None = None
    attempt: int | None = None
    policies: tuple[PolicyOutcome, ...] = ()
    fault: Fault | None = None
    evidence_key: str | None = None
    #: Evidence keys under which something else was found.
    conflicts: tuple[str, ...] = ()
    #: Whether the event's row could not be read, so that a new one was put in its place.
    row_replaced: bool = False
    #: How many calls Organizations put off.
    put_off: int = 0
    #: From the event to the moment the account carried every policy; None for a redelivery.
    seconds_to_guardrail: float | None = None
    #: For how many seconds the message is hidden; None where it does not come again, or could not be hidden.
    again_in: int | None = None


@dataclass(frozen=True)
class Enforcer:
    """Make every account that joins carry its policies."""

    tools: Tools
    inbox: Inbox
    dead_letters: DeadLetters
    rng: Random = field(default_factory=Random)

    def handle(self, message: Message, budget: Budget) -> Handled:
        """Handle one message; RETRYING means that it has to come again, and its visibility is set for that."""
        try:
            turn = budget.turn()
        except OutOfTimeError as error:
            return self._again(message, Handled(OutcomeStatus.RETRYING, fault=error.fault), seconds=0)
        try:
            event = read_event(
                message.body, management_account_id=self.tools.management_account_id, sent_at=message.sent_at
            )
        except InvalidEventError as error:
            handled = Handled(OutcomeStatus.FAILED, fault=fault("INVALID_EVENT", str(error)))
        else:
            handled = self._handle(event, message, turn)
        if handled.status is OutcomeStatus.FAILED and handled.fault:
            try:
                self.dead_letters.send(message, handled.fault)
            except RetryableError as error:
                handled = replace(handled, status=OutcomeStatus.RETRYING, fault=error.fault)
        if handled.status is OutcomeStatus.RETRYING:
            return self._again(message, handled, seconds=backoff(message.receives, self.rng))
        return handled

    def _handle(self, event: Join | NoJoin, message: Message, turn: Turn) -> Handled:
        known = Handled(OutcomeStatus.RETRYING)
        tools = self.tools
        try:
            event = event.model_copy(update={"event_name": event_name(event, tools.pseudonyms)})
            known = replace(known, event_id=reference(event, tools.pseudonyms), event_name=event.event_name)
            if event.event_time_from != "event":
                known = replace(known, event_time_from=event.event_time_from)
            if isinstance(event, Join):
                known = replace(known, account=tools.pseudonyms.of(event.account_id).value)
            begun = tools.ledger.begin(event, now=tools.clock.now(), lease_until=turn.lease_until)
            if isinstance(begun, Outcome):
                return replace(known, status=begun.status, policies=begun.policies, fault=begun.fault)
            known = replace(known, attempt=begun.number, row_replaced=begun.replaced)
            settled = run_attempt(tools, event, message, begun, turn)
        except RetryableError as error:
            return replace(known, fault=error.fault)
        return self._settled(known, settled, event)

    def _settled(self, known: Handled, settled: Settlement, event: Join | NoJoin) -> Handled:
        waited = None
        if settled.status is OutcomeStatus.ENFORCED:
            # Clocks differ, and a time before the event would spoil the statistics.
            waited = max(0.0, (self.tools.clock.now() - event.event_time).total_seconds())
        return replace(
            known,
            status=settled.status,
            policies=settled.policies,
            fault=settled.fault,
            evidence_key=settled.evidence_key,
            conflicts=settled.conflicts,
            put_off=settled.put_off,
            seconds_to_guardrail=waited,
        )

    def _again(self, message: Message, handled: Handled, *, seconds: int) -> Handled:
        # Where this fails, the queue's own visibility timeout brings the message back, only later.
        with suppress(RetryableError):
            self.inbox.postpone(message, seconds)
            return replace(handled, again_in=seconds)
        return handled
