"""Whether the evidence of an event is what its outcome says: each object is compared, none is believed for its key."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Final, Protocol

from pydantic import ValidationError

from handlers.core.errors import RetryableError
from handlers.core.evidence.references import event_reference
from handlers.core.ports import Pseudonyms
from schemas.evidence import Evidence, Pseudonym
from schemas.ids import Sha256
from schemas.keys import NO_ACCOUNT, event_prefix, evidence_key, key_beside
from schemas.outcome import Outcome, OutcomeStatus

#: No evidence of ours has more bytes; no more are read.
MOST_BYTES: Final = 262_144
#: No event has more evidence; no more objects are read.
MOST_OBJECTS: Final = 250
_BESIDE: Final = re.compile(r"(.+)-([0-9a-f]{16})\.json")


class Verdict(StrEnum):
    """What an object is, held against the outcome's row."""

    #: It is about this event and account, and its SHA-256 is on record in the row.
    VALID = "valid"
    #: The row names it, and there is none.
    MISSING = "missing"
    #: It can be read, and is not the object that was written under its key, or that the row names.
    DIFFERS = "differs"
    #: It is about another account.
    ANOTHER_ACCOUNT = "another_account"
    #: It is about another event.
    ANOTHER_EVENT = "another_event"
    #: It is no evidence, is too large, or S3 does not give it.
    UNREADABLE = "unreadable"
    #: It is about this event and account, and the row has no SHA-256 of it.
    NOT_COMPARED = "not_compared"


@dataclass(frozen=True)
class Proof:
    """An object among an event's evidence, and what it is."""

    key: str
    verdict: Verdict
    #: Whether a person has to look into it.
    wrong: bool
    #: Whether the outcome's row names it.
    named: bool = False
    #: Whether it was written beside its own key, because something else lay there.
    beside: bool = False
    sha256: Sha256 | None = None
    evidence: Evidence | None = None


class Objects(Protocol):
    """The immutable bucket, as it is read."""

    def read(self, key: str, *, most: int) -> bytes:
        """Return an object's bytes; of a larger one, one more than so many."""

    def under(self, prefix: str, *, most: int) -> list[str]:
        """Return the keys under a prefix, in order, at most so many."""


@dataclass(frozen=True)
class Proofs:
    """Compare evidence with the outcomes that rest on it."""

    objects: Objects
    pseudonyms: Pseudonyms

    def of(self, outcome: Outcome) -> list[Proof]:
        """Return what there is of an event's evidence, and what should be there, the first attempt's first."""
        reference = event_reference(outcome.event_id, self.pseudonyms.digest)
        # Older keys hold the event's id as it is.
        prefixes = tuple(
            dict.fromkeys(event_prefix(outcome.event_time, each) for each in (reference, outcome.event_id))
        )
        judge = _Judge(outcome, reference, prefixes, self._account(outcome))
        listed = [key for each in prefixes for key in self.objects.under(each, most=MOST_OBJECTS + 1)]
        named = outcome.evidence_key or ""
        found = [self._judged(judge, key) for key in sorted({*listed[:MOST_OBJECTS], *judge.within(named)})]
        if not judge.within(named) and (named or outcome.status is not OutcomeStatus.RETRYING):
            found.append(Proof(named, Verdict.MISSING, wrong=True, named=bool(named)))
        if len(listed) > MOST_OBJECTS:
            found.append(Proof(prefixes[0], Verdict.UNREADABLE, wrong=True))
        return _disputed(found)

    def _account(self, outcome: Outcome) -> Pseudonym | None:
        return None if outcome.account_id == NO_ACCOUNT else self.pseudonyms.of(outcome.account_id)

    def _judged(self, judge: "_Judge", key: str) -> Proof:
        try:
            return judge(key, self.objects.read(key, most=MOST_BYTES))
        except RetryableError as error:
            if error.soon:
                raise
            # Also of an object that somebody encrypted with a key that is not ours.
            verdict = Verdict.MISSING if error.fault.code.endswith("NoSuchKey") else Verdict.UNREADABLE
            return Proof(key, verdict, wrong=True, named=key == judge.outcome.evidence_key)


@dataclass(frozen=True)
class _Judge:
    outcome: Outcome
    reference: str
    prefixes: tuple[str, ...]
    account: Pseudonym | None

    def within(self, key: str) -> list[str]:
        """Return a key where it is one of this event's."""
        return [key] if key.startswith(self.prefixes) else []

    def __call__(self, key: str, body: bytes) -> Proof:
        """Tell what an object is."""
        named = key == self.outcome.evidence_key
        evidence = _read(body)
        if evidence is None:
            return Proof(key, Verdict.UNREADABLE, wrong=True, named=named)
        digest = sha256(body).hexdigest()
        verdict = self._verdict(evidence, digest, named=named)
        beside = _BESIDE.fullmatch(key)
        if verdict in {Verdict.VALID, Verdict.NOT_COMPARED} and not self._is_in_its_place(key, evidence, digest):
            verdict = Verdict.DIFFERS
        wrong = self._is_wrong(verdict, evidence, key, named=named)
        return Proof(key, verdict, wrong, named, beside is not None, digest, evidence)

    def _is_in_its_place(self, key: str, evidence: Evidence, digest: Sha256) -> bool:
        """Tell whether a worker would have written this under this key, and in an attempt that there was."""
        if evidence.schema_version == "joinguard/evidence/1":
            return True
        own = evidence_key(evidence)
        return key in {own, key_beside(own, digest)} and evidence.attempt <= self.outcome.attempts

    def _verdict(self, evidence: Evidence, digest: Sha256, *, named: bool) -> Verdict:
        if evidence.event_id not in {self.reference, self.outcome.event_id}:
            return Verdict.ANOTHER_EVENT
        if not _is_same(evidence.account, self.account):
            return Verdict.ANOTHER_ACCOUNT
        if named and self.outcome.evidence_sha256:
            return Verdict.VALID if digest == self.outcome.evidence_sha256 else Verdict.DIFFERS
        announced = any(digest in each for each in self.outcome.announced.values())
        return Verdict.VALID if announced else Verdict.NOT_COMPARED

    def _is_wrong(self, verdict: Verdict, evidence: Evidence, key: str, *, named: bool) -> bool:
        if verdict is not Verdict.ANOTHER_ACCOUNT:
            return verdict not in {Verdict.VALID, Verdict.NOT_COMPARED}
        # One event id can stand in events about two accounts: each has its own folder, and had none before version 2.
        inside = next(key.removeprefix(each) for each in self.prefixes if key.startswith(each))
        folder = inside.rpartition("/")[0]
        return named or folder not in {"", evidence.account.value if evidence.account else NO_ACCOUNT}


def _read(body: bytes) -> Evidence | None:
    try:
        return Evidence.model_validate_json(body) if len(body) <= MOST_BYTES else None
    except ValidationError:
        return None


def _is_same(theirs: Pseudonym | None, ours: Pseudonym | None) -> bool:
    """Tell whether two pseudonyms may be of one account; those under different keys cannot be compared."""
    if theirs is None or ours is None:
        return theirs is ours
    return theirs.value == ours.value or theirs.key_version != ours.key_version


def _disputed(found: Iterable[Proof]) -> list[Proof]:
    """Say of what lies under a key beside which evidence was written that it differs from that."""
    proofs = list(found)
    disputed = {f"{each[1]}.json" for each in (_BESIDE.fullmatch(proof.key) for proof in proofs) if each}
    return [
        replace(each, verdict=Verdict.DIFFERS, wrong=True)
        if each.key in disputed and each.verdict is Verdict.NOT_COMPARED
        else each
        for each in proofs
    ]
