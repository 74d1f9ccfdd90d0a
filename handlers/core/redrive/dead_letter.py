"""Dead letters: what they say."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Literal, Self

from handlers.core.evidence.references import Keyed, event_reference
from handlers.core.joins.reasons import counted, letter_of, weight
from handlers.core.redaction import redact, safe_code
from schemas.attribute import MOST_ATTRIBUTES, MOST_BYTES
from schemas.audit import LetterDigest
from schemas.dead_letter import Letter
from schemas.events import Join, NoJoin
from schemas.ids import Sha256
from schemas.intake import InvalidEventError, read_event

#: SQS moved it there by itself, so nobody wrote down a reason; the outcome row and the log know it.
GAVE_UP: Final = "GAVE_UP"
#: Where an event names no account, its outcome lies under this.
_NO_ACCOUNT: Final = "none"
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
    #: The system attribute `AWSTraceHeader`.
    trace_header: str | None = None
    #: Whether SQS itself moved it here after the last of its receives.
    moved_by_sqs: bool = False

    @property
    def held(self) -> Held:
        """What is needed to let go of it."""
        return Held(self.queue, self.message_id, self.receipt)

    def says(self, name: str) -> str:
        """Return an attribute's text; empty where it has none."""
        return str(self.attributes.get(name, {}).get("StringValue") or "")

    @cached_property
    def _told(self) -> Letter:
        return letter_of(self.attributes, self.sent_at)

    @property
    def code(self) -> str:
        """Why it is dead. Where SQS itself moved it here, what it carries is no reason for that, or an older one."""
        return GAVE_UP if self.moved_by_sqs else self._told.error_code or GAVE_UP

    @property
    def why(self) -> str:
        """The reason in words, without account ids."""
        return redact(self._reason) or "SQS gave it up after all its receives; see its outcome"

    @property
    def _reason(self) -> str:
        return "" if self.moved_by_sqs else self._told.error_message or ""

    @property
    def redrives(self) -> int:
        """How often it was put back."""
        return self._told.redrives

    @property
    def first_seen(self) -> datetime:
        """When it first came, before any redrive; at least when it was sent here."""
        return self._told.first_seen or self.sent_at

    @property
    def policies(self) -> list[str]:
        """The policies that its reason names."""
        return sorted(set(_POLICY.findall(self._reason)))

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
        return weight(self.attributes, self.body)

    @property
    def stuck(self) -> str | None:
        """Why it cannot go back at all; None where it can."""
        if "REDRIVES" not in self.attributes and len(self.attributes) >= MOST_ATTRIBUTES:
            return "it carries ten attributes, and there is no place to count its redrives; `--all --native` moves it"
        if self.redriven().weight > MOST_BYTES:
            return "it is as long as SQS allows, and there is no place to count its redrives; `--all --native` moves it"
        return None

    def digest(self, keyed: Keyed) -> LetterDigest:
        """Return what evidence may hold of it; `keyed` makes a keyed digest of a kind and a text."""
        return LetterDigest(
            message_id=self.message_id,
            event_id=event_reference(self.event_id, keyed) if self.event_id else None,
            body_digest=keyed("body", self.body),
            error_code=safe_code(self.code),
            redrives=self.redrives,
        )

    @property
    def body_sha256(self) -> Sha256:
        """The plain digest by which records of version 1 name its body."""
        return sha256(self.body.encode(errors="surrogatepass")).hexdigest()

    def redriven(self) -> Self:
        """Return it as it goes back: all that it has, one redrive more."""
        return replace(self, attributes=counted(self.attributes, self.redrives + 1))


def edited(letter: DeadLetter, body: str) -> DeadLetter:
    """Return a letter with another body; raise InvalidEventError where that cannot be read either."""
    read_event(body, sent_at=letter.sent_at)
    return replace(letter, body=body)
