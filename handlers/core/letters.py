"""Dead letters: what they say, and their backup."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Literal, Self

from handlers.core.redaction import redact
from schemas.act import LetterDigest
from schemas.events import Join, NoJoin
from schemas.intake import InvalidEventError, read_event

#: How far back a letter may say that it was first seen: four times what SQS keeps one.
_EARLIEST: Final = timedelta(days=56)
#: SQS moved it there by itself, so nobody wrote down a reason; the outcome row and the log know it.
GAVE_UP: Final = "GAVE_UP"
#: Where an event names no account, its outcome lies under this.
_NO_ACCOUNT: Final = "none"
#: SQS takes ten attributes with a message, and so many bytes, bodies and attributes, in a batch and in a message
#: (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html).
_MAX_ATTRIBUTES: Final = 10
MOST_BYTES: Final = 1_048_576
_POLICY: Final = re.compile(r"\bp-[0-9a-zA-Z_]{8,128}\b")

Queue = Literal["dead letters", "undelivered"]
Likeness = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Held:
    """What SQS wants to hear of a letter in hand."""

    queue: Queue
    message_id: str
    receipt: str


@dataclass(frozen=True)
class DeadLetter:
    """A letter in hand: nobody else sees it until it is released, deleted, or its time in hand is over."""

    queue: Queue
    message_id: str
    receipt: str
    body: str
    attributes: Mapping[str, Mapping[str, Any]]
    sent_at: datetime
    #: How often it was received where it lies; looking at it counts.
    receives: int
    #: When SQS deletes it by itself; unknown of a backup.
    deleted_at: datetime | None = None

    @property
    def held(self) -> Held:
        """What is needed to let go of it."""
        return Held(self.queue, self.message_id, self.receipt)

    def says(self, name: str) -> str:
        """Return an attribute's text; empty where it has none."""
        return str(self.attributes.get(name, {}).get("StringValue") or "")

    @property
    def code(self) -> str:
        """Why it is dead."""
        return self.says("ERROR_CODE") or GAVE_UP

    @property
    def why(self) -> str:
        """The reason in words, without account ids."""
        return redact(self.says("ERROR_MESSAGE")) or "SQS gave it up after all its receives; see its outcome"

    @property
    def redrives(self) -> int:
        """How often it was put back."""
        text = self.says("REDRIVES")
        return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0

    @property
    def first_seen(self) -> datetime:
        """When it first came, before any redrive; at least when it was sent here."""
        try:
            seen = datetime.fromisoformat(self.says("FIRST_SEEN"))
        except ValueError:
            return self.sent_at
        return min(self.sent_at, max(seen, self.sent_at - _EARLIEST)) if seen.tzinfo else self.sent_at

    @property
    def policies(self) -> list[str]:
        """The policies that its reason names."""
        return sorted(set(_POLICY.findall(self.says("ERROR_MESSAGE"))))

    @cached_property
    def event(self) -> Join | NoJoin | None:
        """What its body means; None where it cannot be read."""
        try:
            return read_event(self.body, sent_at=self.sent_at)
        except InvalidEventError:
            return None

    @property
    def event_id(self) -> str:
        """The event's id; empty where it cannot be read."""
        return self.event.event_id if self.event else ""

    @property
    def account_id(self) -> str:
        """The account that is meant; empty where none is named."""
        return self.event.account_id if isinstance(self.event, Join) else ""

    @property
    def origin(self) -> str:
        """What it came from: the event's name, or who of ours asked."""
        if self.event is None:
            return "unreadable"
        return self.event.event_name if self.event.source == "aws.organizations" else self.event.source

    @property
    def outcome_key(self) -> tuple[str, str] | None:
        """Account id and event id, under which its outcome lies; None where it cannot be read."""
        return (self.account_id or _NO_ACCOUNT, self.event_id) if self.event else None

    @property
    def likeness(self) -> Likeness:
        """What stays the same when it is taken away and brought back: where it lay, its body, its attributes."""
        attributes = sorted(
            (name, sorted((key, str(value)) for key, value in each.items())) for name, each in self.attributes.items()
        )
        return self.queue, self.body, json.dumps(attributes)

    @property
    def weight(self) -> int:
        """How many bytes it is for SQS: its body, and names, types and values of its attributes."""
        values = (part for each in self.attributes.values() for part in each.values())
        texts = [self.body, *self.attributes]
        return sum(len(each.encode()) for each in texts) + sum(
            len(value if isinstance(value, bytes) else str(value).encode()) for value in values
        )

    @property
    def stuck(self) -> str | None:
        """Why it cannot go back at all; None where it can."""
        if "REDRIVES" not in self.attributes and len(self.attributes) >= _MAX_ATTRIBUTES:
            return "it carries ten attributes, and there is no place to count its redrives; `--all --native` moves it"
        if self.redriven().weight > MOST_BYTES:
            return "it is as long as SQS allows, and there is no place to count its redrives; `--all --native` moves it"
        return None

    def digest(self, result: str | None = None) -> LetterDigest:
        """Return what evidence may hold of it, and what became of it."""
        return LetterDigest(
            message_id=self.message_id,
            event_id=self.event_id or None,
            body_sha256=sha256(self.body.encode()).hexdigest(),
            error_code=redact(self.code),
            redrives=self.redrives,
            result=result,
        )

    def redriven(self) -> Self:
        """Return it as it goes back: all that it has, one redrive more."""
        counted = {"REDRIVES": {"DataType": "Number", "StringValue": str(self.redrives + 1)}}
        return replace(self, attributes=dict(self.attributes) | counted)


def backup(letter: DeadLetter) -> str:
    """Write a letter down whole, so that it can be restored."""
    attributes = {
        name: {key: value.hex() if isinstance(value, bytes) else value for key, value in each.items()}
        for name, each in letter.attributes.items()
    }
    whole = {
        "queue": letter.queue,
        "message_id": letter.message_id,
        "sent_at": letter.sent_at.isoformat(),
        "receives": letter.receives,
        "attributes": attributes,
        "body": letter.body,
    }
    return json.dumps(whole)


def restored(line: str) -> DeadLetter:
    """Read a letter from its backup."""
    told = json.loads(line)
    attributes = {
        name: {key: bytes.fromhex(value) if key == "BinaryValue" else value for key, value in each.items()}
        for name, each in told["attributes"].items()
    }
    return DeadLetter(
        queue=told["queue"],
        message_id=told["message_id"],
        receipt="",
        body=told["body"],
        attributes=attributes,
        sent_at=datetime.fromisoformat(told["sent_at"]),
        receives=told["receives"],
    )


def edited(letter: DeadLetter, body: str) -> DeadLetter:
    """Return a letter with another body; raise InvalidEventError where that cannot be read either."""
    read_event(body, sent_at=letter.sent_at)
    return replace(letter, body=body)
