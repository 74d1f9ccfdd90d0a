"""A dead letter: what its attributes and its body say."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Literal, Self, TypeAlias

from handlers.core.errors import Cause
from handlers.core.evidence.references import Keyed, event_reference
from handlers.core.redaction import redact, safe_code
from handlers.core.redrive.explanations import Explanation, Reason
from handlers.core.redrive.legible import Legible
from schemas.attribute import MAX_ATTRIBUTES, MAX_BYTES, size_bytes
from schemas.audit import MessageDigest
from schemas.dead_letter import DeadLetterAttributes, read_attributes, string_value, with_redrives
from schemas.events import AccountEvent, Received, Rehearsal
from schemas.ids import Sha256
from schemas.intake import InvalidEventError, read_event
from schemas.keys import NO_ACCOUNT

#: The code of a message that SQS itself moved, so that it carries no reason; the outcome and the log hold it.
RETRIES_EXHAUSTED: Final = "RETRIES_EXHAUSTED"
_POLICY: Final = re.compile(r"\bp-[0-9a-zA-Z_]{8,128}\b")

Queue: TypeAlias = Literal["dead letters", "undelivered"]
Fingerprint: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What SQS needs to release, extend or delete a message in flight."""

    queue: Queue
    message_id: str
    receipt_handle: str


@dataclass(frozen=True)
class DeadLetter:
    """A message of a queue of failed messages."""

    queue: Queue
    message_id: str
    receipt_handle: str
    body: str
    attributes: Mapping[str, Mapping[str, Any]]
    sent_at: datetime
    #: The number of receives in this queue; reading the queue counts.
    receives: int
    #: When SQS deletes it at the end of the retention period; None for a message from a backup.
    deleted_at: datetime | None = None
    #: The system attribute `AWSTraceHeader`.
    trace_header: str | None = None
    #: Whether SQS itself moved it here after its last receive.
    moved_by_sqs: bool = False
    #: Whether it was sent after the pass that received it had begun.
    late: bool = field(default=False, compare=False)
    #: When the account left the organization, after the event.
    left_at: datetime | None = field(default=None, compare=False)
    #: The cause behind its code.
    cause: Cause = field(default=Cause.OTHER, compare=False)

    @property
    def receipt(self) -> Receipt:
        """The message's receipt."""
        return Receipt(self.queue, self.message_id, self.receipt_handle)

    def attribute(self, name: str) -> str:
        """Return the string value of an attribute; an empty string if there is none."""
        return string_value(self.attributes, name)

    @cached_property
    def _read(self) -> DeadLetterAttributes:
        return read_attributes(self.attributes, self.sent_at)

    @property
    def code(self) -> str:
        """The code of the reason why it failed. If SQS moved the message, its own code is from an earlier failure."""
        return RETRIES_EXHAUSTED if self.moved_by_sqs else self._read.error_code or RETRIES_EXHAUSTED

    @property
    def why(self) -> str:
        """The reason why it failed, without account ids; an empty string if it carries none."""
        return redact(self._reason)

    @property
    def _reason(self) -> str:
        return "" if self.moved_by_sqs else self._read.error_message or ""

    @property
    def redrives(self) -> int:
        """How many times it was redriven."""
        return self._read.redrives

    @property
    def first_seen(self) -> datetime:
        """When it was first sent to the joins queue, before any redrive; if unknown, when it was sent to this queue."""
        return self._read.first_seen or self.sent_at

    @property
    def policies(self) -> list[str]:
        """The policies that its reason names."""
        return sorted(set(_POLICY.findall(self._reason)))

    @cached_property
    def event(self) -> Received | None:
        """The event in its body; None if the body is unreadable."""
        try:
            return read_event(self.body, sent_at=self.sent_at)
        except InvalidEventError:
            return None

    @property
    def event_id(self) -> str:
        """The event's id; an empty string if the body is unreadable."""
        return self.event.event_id if self.event else ""

    @property
    def account_id(self) -> str:
        """The account that the event is about; an empty string if it names none."""
        return self.event.account_id if isinstance(self.event, AccountEvent) else ""

    @cached_property
    def legible(self) -> Legible:
        """What can be read from its body even if the body is unreadable as an event."""
        if self.event is None:
            return Legible.of(self.body)
        accounts = (self.account_id,) if self.account_id else ()
        return Legible((self.event.event_id,), (self.event.event_name,), accounts)

    @property
    def origin(self) -> str:
        """The event's name; for join requests, their source."""
        if self.event is None:
            return "unreadable"
        return self.event.event_name if self.event.source == "aws.organizations" else self.event.source

    @property
    def outcome_key(self) -> tuple[str, str] | None:
        """The account id and event id of its outcome.

        None if the body is unreadable, and for a rehearsal, whose outcome is replaced by that of the next one.
        """
        if self.event is None or isinstance(self.event, Rehearsal):
            return None
        return self.account_id or NO_ACCOUNT, self.event_id

    @property
    def fingerprint(self) -> Fingerprint:
        """Its queue, body and attributes: what stays the same when it is dropped and restored."""
        attributes = sorted(
            (name, sorted((key, str(value)) for key, value in each.items())) for name, each in self.attributes.items()
        )
        return self.queue, self.body, json.dumps(attributes)

    @property
    def size_bytes(self) -> int:
        """Its size as SQS counts it."""
        return size_bytes(self.attributes, self.body)

    @property
    def cannot_redrive(self) -> Explanation | None:
        """Why it cannot be redriven; None if it can. SQS's own move works in these cases."""
        if "REDRIVES" not in self.attributes and len(self.attributes) >= MAX_ATTRIBUTES:
            return Explanation(Reason.TOO_MANY_ATTRIBUTES)
        if self.redriven().size_bytes > MAX_BYTES:
            return Explanation(Reason.TOO_LARGE)
        return None

    def digest(self, keyed: Keyed) -> MessageDigest:
        """Return what an audit record may hold of it."""
        return MessageDigest(
            message_id=self.message_id,
            event_id=event_reference(self.event_id, keyed) if self.event_id else None,
            body_digest=keyed("body", self.body),
            error_code=safe_code(self.code),
            redrives=self.redrives,
        )

    def names(self, keyed: Keyed) -> set[str]:
        """Return what audit records of all versions may call its event and its body."""
        digest = self.digest(keyed)
        return {each for each in (digest.body_digest, self.body_sha256, digest.event_id, self.event_id) if each}

    @property
    def body_sha256(self) -> Sha256:
        """The plain digest of the body, which audit records of version 1 hold."""
        return sha256(self.body.encode(errors="surrogatepass")).hexdigest()

    def redriven(self) -> Self:
        """Return the message as it is sent back: unchanged, with one redrive more."""
        return replace(self, attributes=with_redrives(self.attributes, self.redrives + 1))


def new_message(body: str, message_id: str, now: datetime) -> DeadLetter:
    """Return a message that is in no queue yet; if it fails, it will be a dead letter."""
    return DeadLetter("dead letters", message_id, "", body, {}, now, receives=0)


def about_another_event(original: DeadLetter, changed: DeadLetter) -> Explanation | None:
    """Return why a changed body cannot stand for the original one: it is about another event or account; else None."""
    event_ids, accounts = original.legible.event_ids, original.legible.account_ids
    if event_ids and changed.event_id not in event_ids:
        return Explanation(Reason.ANOTHER_EVENT, (event_ids[0], changed.event_id))
    # Of an unreadable body, it is not known which account the event is about.
    if original.event and accounts and changed.account_id not in accounts:
        return Explanation(Reason.ANOTHER_ACCOUNT, (accounts[0], changed.account_id or "none"))
    return None


def edited(dead_letter: DeadLetter, body: str) -> DeadLetter:
    """Return a message with another body; raise InvalidEventError if that body is unreadable."""
    read_event(body, sent_at=dead_letter.sent_at)
    return replace(dead_letter, body=body)
