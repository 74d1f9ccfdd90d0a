"""Fakes for the operators' tool, in memory: the queues, and a worker that handles redriven messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from handlers.aws.sqs_operator import with_cause
from handlers.core.ports import UnreadableRow
from handlers.core.redrive.dead_letter import DeadLetter, Receipt
from handlers.core.redrive.explanations import Explanation
from handlers.core.redrive.in_flight import InFlight
from handlers.core.redrive.ports import Sent
from handlers.core.redrive.redrive import Redrive
from handlers.core.redrive.tracker import OutcomeTracker
from handlers.core.timing import patiently
from schemas.outcome import FAILING, Closed, Fault, Outcome, OutcomeStatus, PolicyOutcome
from tests.fakes import ACCOUNT, NOON, FakeClock, joined

if TYPE_CHECKING:
    from handlers.core.redrive.ports import Destination

Key = tuple[str, str]
Notify = Callable[[Explanation], None]


def dead_letter(
    number: int = 1,
    *,
    code: str = "AccessDeniedException",
    account: str = ACCOUNT,
    error_message: str = "p-aaaaaaaa: not allowed",
    **changes: Any,
) -> DeadLetter:
    attributes: dict[str, dict[str, Any]] = {
        "ERROR_CODE": {"DataType": "String", "StringValue": code},
        "ERROR_MESSAGE": {"DataType": "String", "StringValue": error_message},
        "REDRIVES": {"DataType": "Number", "StringValue": str(changes.pop("redrives", 0))},
        "foreign": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
    }
    event = joined(account, event_id=f"event-{number}") | {"id": f"envelope-{number}", "time": NOON.isoformat()}
    made = DeadLetter(
        queue="dead letters",
        message_id=f"m-{number}",
        receipt_handle=f"r-{number}",
        body=json.dumps(event),
        attributes=attributes,
        sent_at=NOON - timedelta(hours=number),
        receives=1,
        deleted_at=NOON - timedelta(hours=number) + timedelta(days=14),
    )
    return with_cause(replace(made, **changes))


@dataclass
class FakeQueues:
    """The queues of failed messages, the joins queue, and the outcomes of the messages that a worker handles."""

    #: The messages in the queues of failed messages.
    messages: list[DeadLetter]
    clock: FakeClock = field(default_factory=FakeClock)
    #: Ids of messages in flight, in this process or another.
    in_flight_ids: set[str] = field(default_factory=set)
    joins: list[DeadLetter] = field(default_factory=list)
    #: The requests that let live joins go first.
    repairs: list[DeadLetter] = field(default_factory=list)
    #: The next numbers of visible messages of the other queues; after these they are empty.
    backlogs: dict[str, list[int]] = field(default_factory=dict)
    #: The result of each policy in the outcomes that the worker writes.
    results: tuple[PolicyOutcome, ...] = ()
    #: Called with the name of each step; it may raise an error.
    on_step: Callable[[str], None] = lambda _step: None
    #: Whether a redriven message fails again.
    fails_again: Callable[[DeadLetter], bool] = lambda _dead_letter: False
    #: How long the worker takes for a message.
    handling_time: timedelta = timedelta(seconds=1)
    #: How many visibility timeouts were extended.
    extended: int = 0
    #: Ids of messages that SQS refuses to accept.
    refused_ids: Collection[str] = ()
    #: Ids of messages whose visibility SQS refuses to extend.
    expired_ids: Collection[str] = ()
    #: How many times outcomes were read.
    outcome_reads: int = 0
    #: The outcomes of each event, each with the time at which the worker writes it.
    rows: dict[Key, list[tuple[datetime, Outcome]]] = field(default_factory=dict)
    #: Events whose rows are unreadable.
    unreadable: Collection[Key] = ()

    def receive_all(self) -> Iterator[Sequence[DeadLetter]]:
        messages = list(self.messages)
        for begin in range(0, len(messages), 10):
            self.on_step("before receiving")
            batch = messages[begin : begin + 10]
            self.in_flight_ids |= {each.message_id for each in batch}
            yield batch

    def release(self, dead_letters: Sequence[Receipt]) -> None:
        self.in_flight_ids -= {each.message_id for each in dead_letters}

    def extend_visibility(self, dead_letters: Sequence[Receipt]) -> list[Receipt]:
        self.extended += len(dead_letters)
        return [each for each in dead_letters if each.message_id not in self.expired_ids]

    def send(self, to: Destination, dead_letters: Sequence[DeadLetter]) -> Sent:
        self.on_step("before sending")
        accepted = [each for each in dead_letters if each.message_id not in self.refused_ids]
        if to == "joins" or to == "repairs":  # noqa: PLR1714 - mypy does not know the other values after `in`
            (self.joins if to == "joins" else self.repairs).extend(accepted)
            for each in accepted:
                self._handle(each)
        else:
            self.messages += [
                replace(each, queue=to, message_id=f"{each.message_id}+", receipt_handle="r") for each in accepted
            ]
        self.on_step("after sending")
        return Sent(accepted, {each.message_id: "InternalError" for each in dead_letters if each not in accepted})

    def delete(self, dead_letters: Sequence[Receipt]) -> Sequence[Receipt]:
        self.on_step("before deleting")
        deleted = {each.message_id for each in dead_letters}
        self.messages = [each for each in self.messages if each.message_id not in deleted]
        self.in_flight_ids -= deleted
        self.on_step("after deleting")
        return dead_letters

    def in_flight(self) -> int:
        return len(self.in_flight_ids)

    def visible(self, queue: str) -> int:
        if queue in {"joins", "repairs"}:
            return self.backlogs.get(queue, []).pop(0) if self.backlogs.get(queue) else 0
        return len([each for each in self.messages if each.queue == queue])

    def of_events(self, keys: Collection[Key]) -> Mapping[Key, Outcome | UnreadableRow]:
        """Return the outcomes that the worker has written by now."""
        assert len(keys) <= 100
        self.outcome_reads += 1
        now = self.clock.now()
        written = {key: [each for since, each in self.rows.get(key, []) if since <= now] for key in keys}
        unreadable = {key: UnreadableRow(*key) for key in keys if key in self.unreadable}
        return {key: outcomes[-1] for key, outcomes in written.items() if outcomes} | unreadable

    def of_account(self, account_id: str) -> list[Outcome | UnreadableRow]:
        return [row[-1][1] for key, row in self.rows.items() if key[0] == account_id] + self._unreadable_rows(
            account_id
        )

    def count(self, status: OutcomeStatus) -> int:
        return len(self.failing(status))

    def failing(self, status: OutcomeStatus) -> list[Outcome | UnreadableRow]:
        readable: list[Outcome | UnreadableRow] = [
            row[-1][1] for row in self.rows.values() if row[-1][1].status is status
        ]
        return readable + self._unreadable_rows()

    def scan(self, status: OutcomeStatus | None) -> list[Outcome | UnreadableRow]:
        found: list[Outcome | UnreadableRow] = [
            row[-1][1] for row in self.rows.values() if status in {None, row[-1][1].status}
        ]
        return found if status else found + self._unreadable_rows()

    def account_ids(self) -> list[str]:
        self.on_step("before listing accounts")
        return sorted({each.account_id for each in self.scan(None)})

    def close(self, keys: Collection[Key], closed: Closed) -> list[Key]:
        self.on_step("before closing")
        now = self.clock.now()
        found = [key for key, row in self.of_events(keys).items() if _can_be_closed(row, now)]
        for key in found:
            row = self.rows[key][-1][1]
            change = {"status": OutcomeStatus.CLOSED, "closed": closed, "lease_until": None, "updated_at": now}
            self.rows[key].append((now, row.model_copy(update=change)))
        return found

    def reopen(self, keys: Collection[Key], act_id: str, now: datetime) -> list[Key]:
        rows = {key: self.rows[key][-1][1] for key in keys if key in self.rows}
        found = {key: row for key, row in rows.items() if row.closed and row.closed.act_id == act_id}
        for key, row in found.items():
            change = {"status": OutcomeStatus.FAILED, "closed": None, "updated_at": now}
            self.rows[key].append((now, row.model_copy(update=change)))
        return list(found)

    def _unreadable_rows(self, account_id: str | None = None) -> list[Outcome | UnreadableRow]:
        return [UnreadableRow(*key) for key in self.unreadable if account_id in {None, key[0]}]

    def add_failure(self, dead_letter: DeadLetter, attempts: int = 1) -> None:
        """Add the outcome of a message's event that failed after this many attempts."""
        key = dead_letter.outcome_key
        assert key
        self.rows[key] = [(NOON, outcome(key, OutcomeStatus.FAILED, attempts))]

    def _handle(self, each: DeadLetter) -> None:
        if each.outcome_key:
            row = self.rows.setdefault(each.outcome_key, [])
            attempts = row[-1][1].attempts + 1 if row else 1
            status = OutcomeStatus.FAILED if self.fails_again(each) else OutcomeStatus.ENFORCED
            written = outcome(each.outcome_key, status, attempts, policies=self.results)
            row.append((self.clock.now() + self.handling_time, written))


def _can_be_closed(row: Outcome | UnreadableRow, now: datetime) -> bool:
    return isinstance(row, Outcome) and row.status in FAILING and not (row.lease_until and row.lease_until >= now)


def outcome(key: Key, status: OutcomeStatus, attempts: int = 1, **changes: Any) -> Outcome:
    fault = Fault(code="AccessDeniedException", message="no") if status is OutcomeStatus.FAILED else None
    fields = {
        "account_id": key[0],
        "event_id": key[1],
        "event_name": "AcceptHandshake",
        "source": "aws.organizations",
        "status": status,
        "attempts": attempts,
        "event_time": NOON,
        "received_at": NOON,
        "updated_at": NOON,
        "done_at": None if status is OutcomeStatus.RETRYING else NOON,
        "fault": fault,
    }
    return Outcome.model_validate(fields | changes)


def new_in_flight(queues: FakeQueues) -> InFlight:
    """Return the messages in flight of a new process: none."""
    return InFlight(queues, queues.clock, lambda call: patiently(call, clock=queues.clock, rng=Random(1)))  # noqa: S311 - jitter


def run_redrive(
    queues: FakeQueues,
    dead_letters: Sequence[DeadLetter] | None = None,
    *,
    rate: float | None = None,
    breaker: int = 5,
    notify: Notify = lambda _: None,
) -> Redrive:
    """Receive all messages and redrive some of them, by default all."""
    with new_in_flight(queues) as in_flight:
        received = list(in_flight.receive_all())
        redrive = make_redrive(queues, in_flight, rate=rate, breaker=breaker, notify=notify)
        redrive.run(received if dead_letters is None else dead_letters, lambda _: None)
    return redrive


def make_redrive(
    queues: FakeQueues,
    in_flight: InFlight,
    *,
    rate: float | None = None,
    breaker: int = 5,
    notify: Notify = lambda _: None,
) -> Redrive:
    tracker = OutcomeTracker(queues)
    return Redrive(in_flight, tracker, queues.clock, in_flight.patiently, rate=rate, breaker=breaker, notify=notify)
