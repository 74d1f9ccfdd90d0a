"""An operator's acts: on record before anything is done, and after; and what to do about each reason."""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from types import TracebackType
from typing import Final, Literal, Protocol, Self

from handlers.core.errors import RetryableError, fault
from handlers.core.ports import Clock
from handlers.core.redaction import redact_words, safe_code
from handlers.core.redrive.dead_letter import GAVE_UP, DeadLetter
from handlers.core.redrive.in_flight import NOT_IN_HAND
from schemas.audit import Act, Action, LetterDigest
from schemas.evidence import Pseudonym
from schemas.ids import Sha256

#: What to do about each reason; the runbook has a section for each, and a test holds the two together.
NEXT_STEPS: Final[Mapping[str, str]] = {
    "PolicyNotFoundException": "correct PolicyIds in the stage, deploy, redrive",
    "PolicyTypeNotEnabledException": "enable service control policies in the organization again, redrive",
    "ConstraintViolationException": "the account carries as many policies as it can: detach or merge one, redrive",
    "AccessDeniedException": "the worker's role or the delegation was changed: deploy, redrive",
    "TargetNotFoundException": "the account is no member (any more): drop, or invite it again and redrive",
    "InvalidInputException": "a policy or target is not what Organizations takes: correct PolicyIds, deploy, redrive",
    "AWSOrganizationsNotInUseException": "the worker's account is in no organization: deploy where one is, redrive",
    "UnsupportedAPIEndpointException": "the worker asks the wrong Region: unset its endpoint settings, deploy, redrive",
    "INVALID_EVENT": "see who may send to the queue; edit the body, or drop",
    "WRONG_ORGANIZATION": "see who may send to the queue; drop",
    "MANAGEMENT_ACCOUNT": "see who may send to the queue; drop",
    GAVE_UP: "five receives were used up: its outcome and the log say why; redrive when that is over",
}


def next_step(letter: DeadLetter) -> str:
    """Return what to do about a letter."""
    if letter.queue == "undelivered":
        return "deploy to restore queue and policies, redrive"
    unknown = "read the reason, mend the cause, redrive; see handlers/operate/RUNBOOK.md#dead-letters"
    return NEXT_STEPS.get(letter.code, unknown)


#: What to do about a failure of AWS's that keeps an operator from acting, by a part of its code.
_ADVICE: Final[Mapping[str, str]] = {
    "AccessDenied": "Your role lacks that permission: take the stack's role OperatorReads to look, OperatorActs to act",
    "Expired": "Your credentials have expired: log in again and run it again; nothing is lost",
    "InvalidClientTokenId": "Your credentials are not valid: log in again",
    "UnrecognizedClient": "Your credentials are not valid: log in again",
    "NoCredentials": "Log in first (aws sso login), or say --profile",
    "NoSuchKey": "There is no such object: `drop` and `edit` say the keys of their backups",
    "OverLimit": "SQS lets no more letters be in hand at once (about 120,000): wait for others, or say --all --native",
    "UnsupportedOperation": "SQS moves one queue once at a time, and only one that another queue leaves its letters in",
}


def advice(code: str) -> str:
    """Return what an operator may do about a failure of AWS's."""
    matching = (text for part, text in _ADVICE.items() if part in code)
    return next(matching, "Nothing is lost: letters in hand are there again within 15 minutes; run it again")


class Records(Protocol):
    """The immutable bucket."""

    def record(self, key: str, body: bytes) -> Sha256:
        """Write an object once; return the SHA-256 of what lies under the key."""


@dataclass(frozen=True)
class Actor:
    """Who acts: the caller's ARN as a pseudonym, and IAM's unique id."""

    pseudonym: Pseudonym
    unique_id: str


@dataclass
class Deed:
    """An act that is on record as intended, and at the end of the context as done, with what came of it."""

    records: Records
    clock: Clock
    act: Act
    #: What came of it, counted.
    results: dict[str, int] = field(default_factory=dict, init=False)
    #: What became of each letter, by message id, or event id where it has none yet.
    became: Mapping[str, str] = field(default_factory=dict, init=False)
    ended: Literal["completed", "stopped"] = field(default="completed", init=False)

    @classmethod
    def begin(  # noqa: PLR0913, PLR0917 - what evidence is made of
        cls,
        records: Records,
        clock: Clock,
        actor: Actor,
        action: Action,
        reason: str,
        letters: Sequence[LetterDigest],
    ) -> Self:
        """Write down what is about to be done; where that is refused, nothing may be done."""
        act = Act(
            act_id=uuid.uuid4().hex,
            action=action,
            phase="intended",
            actor=actor.pseudonym,
            actor_id=actor.unique_id,
            reason=redact_words(reason),
            letters=tuple(letters),
            recorded_at=clock.now(),
        )
        deed = cls(records, clock, act)
        deed._record("intended", act)
        return deed

    def __enter__(self) -> Self:
        """Do it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write down what came of it, also after an error or an interrupt."""
        if error is None:
            self._end(self.ended)
            return
        # What went wrong matters more; an act without an end is known to have been cut off.
        with suppress(RetryableError):
            self._end("interrupted")

    @property
    def backup_key(self) -> str:
        """Where a backup of its letters lies."""
        return f"backups/{self._day}/{self.act.act_id}.jsonl"

    def _end(self, ended: Literal["completed", "stopped", "interrupted"]) -> None:
        letters = [
            each.model_copy(
                update={"result": _recorded(self.became.get(each.message_id or each.event_id or "", "left"))}
            )
            for each in self.act.letters
        ]
        update = {
            "phase": "done",
            "results": self.results,
            "letters": tuple(letters),
            "ended": ended,
            "recorded_at": self.clock.now(),
        }
        self._record("done", self.act.model_copy(update=update))

    def _record(self, phase: str, act: Act) -> None:
        """Write a record; raise RetryableError where something else lies under its key."""
        key, body = f"{self._folder}/{phase}.json", act.model_dump_json(exclude_none=True).encode()
        if self.records.record(key, body) != sha256(body).hexdigest():
            raise RetryableError(fault("EVIDENCE_CONFLICT", f"something else lies under {key}"))

    @property
    def _day(self) -> str:
        return f"{self.act.recorded_at:%Y/%m/%d}"

    @property
    def _folder(self) -> str:
        return f"acts/{self._day}/{self.act.act_id}"


def _recorded(result: str) -> str:
    """Return what became of a letter as evidence holds it: our own words, and of a refusal the code alone."""
    word, colon, why = result.partition(": ")
    return f"{word}: {why if why == NOT_IN_HAND else safe_code(why.partition(':')[0])}" if colon else result
