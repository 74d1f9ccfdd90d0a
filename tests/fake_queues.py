"""An operator's world without AWS: both queues, the joins, a worker behind them, and a bucket, all in memory."""

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
from handlers.core.redrive.in_flight import InFlight
from handlers.core.redrive.ports import Sent
from handlers.core.redrive.redrive import Redrive
from handlers.core.redrive.tracker import OutcomeTracker
from handlers.core.timing import patiently
from schemas.outcome import Fault, Outcome, OutcomeStatus
from tests.fakes import ACCOUNT, NOON, FakeClock, joined

if TYPE_CHECKING:
    from handlers.core.redrive.ports import Destination

Key = tuple[str, str]


class Killed(BaseException):
    """As little to be caught as an interrupt."""


def dead_letter(
    number: int = 1,
    *,
    code: str = "AccessDeniedException",
    account: str = ACCOUNT,
    why: str = "p-aaaaaaaa: not allowed",
    **changes: Any,
) -> DeadLetter:
    attributes: dict[str, dict[str, Any]] = {
        "ERROR_CODE": {"DataType": "String", "StringValue": code},
        "ERROR_MESSAGE": {"DataType": "String", "StringValue": why},
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
    """The queues in an operator's hands, and what the worker makes of what is put back."""

    lying: list[DeadLetter]
    clock: FakeClock = field(default_factory=FakeClock)
    in_hand: set[str] = field(default_factory=set)
    joins: list[DeadLetter] = field(default_factory=list)
    #: What the count of waiting joins is, the next times that it is asked for.
    waits: list[int] = field(default_factory=list)
    #: Called before and after each call to the queues, and may fail it.
    at: Callable[[str], None] = lambda _step: None
    #: Whether a letter that is put back dies again.
    dies: Callable[[DeadLetter], bool] = lambda _letter: False
    #: How long the worker takes for a letter.
    takes: timedelta = timedelta(seconds=1)
    extended: int = 0
    #: Letters that SQS does not take, and those that it does not let be held on to.
    refuses: Collection[str] = ()
    lost: Collection[str] = ()
    asked: int = 0
    #: What each outcome says, from when on.
    rows: dict[Key, list[tuple[datetime, Outcome]]] = field(default_factory=dict)
    #: Rows that somebody has written by hand, and wrongly.
    spoilt: Collection[Key] = ()

    def receive_all(self) -> Iterator[Sequence[DeadLetter]]:
        lying = list(self.lying)
        for begin in range(0, len(lying), 10):
            self.at("before receiving")
            batch = lying[begin : begin + 10]
            self.in_hand |= {each.message_id for each in batch}
            yield batch

    def release(self, dead_letters: Sequence[Receipt]) -> None:
        self.in_hand -= {each.message_id for each in dead_letters}

    def extend_visibility(self, dead_letters: Sequence[Receipt]) -> list[Receipt]:
        self.extended += len(dead_letters)
        return [each for each in dead_letters if each.message_id not in self.lost]

    def send(self, to: Destination, dead_letters: Sequence[DeadLetter]) -> Sent:
        self.at("before sending")
        accepted = [each for each in dead_letters if each.message_id not in self.refuses]
        if to == "joins":
            self.joins += accepted
            for each in accepted:
                self._handle(each)
        else:
            self.lying += [
                replace(each, queue=to, message_id=f"{each.message_id}+", receipt_handle="r") for each in accepted
            ]
        self.at("after sending")
        return Sent(accepted, {each.message_id: "InternalError" for each in dead_letters if each not in accepted})

    def delete(self, dead_letters: Sequence[Receipt]) -> Sequence[Receipt]:
        self.at("before deleting")
        gone = {each.message_id for each in dead_letters}
        self.lying = [each for each in self.lying if each.message_id not in gone]
        self.in_hand -= gone
        self.at("after deleting")
        return dead_letters

    def send_join(self, body: str) -> str:
        self.joins.append(dead_letter(body=body, attributes={}))
        return "m"

    def backlog(self) -> int:
        return self.waits.pop(0) if self.waits else 0

    def in_flight(self) -> int:
        return len(self.in_hand)

    def visible(self, queue: str) -> int:
        return len([each for each in self.lying if each.queue == queue])

    def of_events(self, keys: Collection[Key]) -> Mapping[Key, Outcome | UnreadableRow]:
        """Return the outcomes as far as the worker has come by now."""
        assert len(keys) <= 100
        self.asked += 1
        now = self.clock.now()
        seen = {key: [each for since, each in self.rows.get(key, []) if since <= now] for key in keys}
        spoilt = {key: UnreadableRow(*key) for key in keys if key in self.spoilt}
        return {key: found[-1] for key, found in seen.items() if found} | spoilt

    def of_account(self, account_id: str) -> list[Outcome | UnreadableRow]:
        return [row[-1][1] for key, row in self.rows.items() if key[0] == account_id] + self._spoilt(account_id)

    def failing(self, status: OutcomeStatus) -> list[Outcome | UnreadableRow]:
        known: list[Outcome | UnreadableRow] = [row[-1][1] for row in self.rows.values() if row[-1][1].status is status]
        return known + self._spoilt()

    def _spoilt(self, account_id: str | None = None) -> list[Outcome | UnreadableRow]:
        return [UnreadableRow(*key) for key in self.spoilt if account_id in {None, key[0]}]

    def failed_before(self, each: DeadLetter, attempts: int = 1) -> None:
        """Let a letter's event have failed."""
        assert each.outcome_key
        self.rows[each.outcome_key] = [(NOON, outcome(each.outcome_key, OutcomeStatus.FAILED, attempts))]

    def _handle(self, each: DeadLetter) -> None:
        if each.outcome_key:
            row = self.rows.setdefault(each.outcome_key, [])
            attempts = row[-1][1].attempts + 1 if row else 1
            status = OutcomeStatus.FAILED if self.dies(each) else OutcomeStatus.ENFORCED
            row.append((self.clock.now() + self.takes, outcome(each.outcome_key, status, attempts)))


def outcome(key: Key, status: OutcomeStatus, attempts: int = 1, **changes: Any) -> Outcome:
    fault = Fault(code="AccessDeniedException", message="no") if status is OutcomeStatus.FAILED else None
    told = {
        "account_id": key[0],
        "event_id": key[1],
        "event_name": "AcceptHandshake",
        "source": "aws.organizations",
        "status": status,
        "attempts": attempts,
        "event_time": NOON,
        "received_at": NOON,
        "updated_at": NOON,
        "fault": fault,
    }
    return Outcome.model_validate(told | changes)


def nothing_in_flight(queues: FakeQueues) -> InFlight:
    return InFlight(queues, queues.clock, lambda call: patiently(call, clock=queues.clock, rng=Random(1)))  # noqa: S311 - jitter


def run(queues: FakeQueues, dead_letters: Sequence[DeadLetter] | None = None, **options: Any) -> Redrive:
    """Take all letters in hand and put these back; all, where it is not said which."""
    with nothing_in_flight(queues) as in_flight:
        found = list(in_flight.receive_all())
        redriver = engine(queues, in_flight, **options)
        redriver.run(found if dead_letters is None else dead_letters, lambda _: None)
    return redriver


def engine(queues: FakeQueues, in_flight: InFlight, **options: Any) -> Redrive:
    return Redrive(
        in_flight,
        OutcomeTracker(queues),
        queues.clock,
        in_flight.patiently,
        **options,
    )
