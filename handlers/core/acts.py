"""An operator's acts: on record before anything is done, and after; and what to do about each reason."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import BaseModel

from handlers.core.errors import redact
from handlers.core.letters import GAVE_UP, DeadLetter, backup
from handlers.core.ports import Clock
from schemas.act import Act, Action
from schemas.evidence import Pseudonym

#: What to do about each reason; RUNBOOK.md says the same, and a test holds the two together.
NEXT_STEPS: Final[Mapping[str, str]] = {
    "PolicyNotFoundException": "correct PolicyIds in the stage, deploy, redrive",
    "PolicyTypeNotEnabledException": "enable service control policies in the organization again, redrive",
    "ConstraintViolationException": "the account carries ten policies: detach or merge one, redrive",
    "AccessDeniedException": "the worker's role or the delegation was changed: deploy, redrive",
    "TargetNotFoundException": "the account is no member (any more): drop, or invite it again and redrive",
    "INVALID_EVENT": "see who may send to the queue; edit the body, or drop",
    "WRONG_ORGANIZATION": "see who may send to the queue; drop",
    "MANAGEMENT_ACCOUNT": "see who may send to the queue; drop",
    GAVE_UP: "five receives were used up: its outcome and the log say why; redrive when that is over",
}


def next_step(code: str) -> str:
    """Return what to do about a reason."""
    return NEXT_STEPS.get(code, "read the reason, mend the cause, redrive; see RUNBOOK.md")


class Records(Protocol):
    """The immutable bucket."""

    def record(self, key: str, evidence: BaseModel) -> bool:
        """Write an object once; False where the key was there already."""

    def keep(self, key: str, body: bytes) -> bool:
        """Write bytes once; False where the key was there already."""


@dataclass(frozen=True)
class Actor:
    """Who acts: the caller's ARN as a pseudonym, and IAM's unique id."""

    pseudonym: Pseudonym
    unique_id: str


@dataclass(frozen=True)
class Deed:
    """An act that is on record as intended."""

    records: Records
    clock: Clock
    act: Act

    @classmethod
    def begin(  # noqa: PLR0913, PLR0917 - what evidence is made of
        cls,
        records: Records,
        clock: Clock,
        actor: Actor,
        action: Action,
        reason: str,
        letters: Sequence[DeadLetter],
    ) -> "Deed":
        """Write down what is about to be done; where that is refused, nothing may be done."""
        act = Act(
            act_id=uuid.uuid4().hex,
            action=action,
            phase="intended",
            actor=actor.pseudonym,
            actor_id=actor.unique_id,
            reason=redact(reason),
            letters=tuple(letter.digest() for letter in letters),
            recorded_at=clock.now(),
        )
        deed = cls(records, clock, act)
        records.record(deed.key, act)
        return deed

    @property
    def key(self) -> str:
        """Where it lies: by day, act and phase."""
        return f"acts/{self.act.recorded_at:%Y/%m/%d}/{self.act.act_id}/{self.act.phase}.json"

    @property
    def backup_key(self) -> str:
        """Where a backup of its letters lies."""
        return f"backups/{self.act.recorded_at:%Y/%m/%d}/{self.act.act_id}.jsonl"

    def back_up(self, letters: Sequence[DeadLetter]) -> str:
        """Keep letters whole, account ids and all, and return the key."""
        self.records.keep(self.backup_key, "\n".join(map(backup, letters)).encode())
        return self.backup_key

    def end(self, **results: int) -> None:
        """Write down what came of it."""
        done = self.act.model_copy(update={"phase": "done", "results": results, "recorded_at": self.clock.now()})
        day = f"{self.act.recorded_at:%Y/%m/%d}"
        self.records.record(f"acts/{day}/{self.act.act_id}/done.json", done)
