"""Compare the evidence of an event with its outcome, object by object. A key alone is not trusted."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Final

from pydantic import ValidationError

from handlers.core.errors import Cause, RetryableError
from handlers.core.evidence.ports import EvidenceReader
from handlers.core.evidence.references import event_reference
from handlers.core.ports import Pseudonyms
from handlers.core.redaction import holds_account_id
from schemas.evidence import Evidence
from schemas.ids import Sha256
from schemas.keys import NO_ACCOUNT, event_in, event_prefix, evidence_keys, own_key
from schemas.outcome import Outcome, OutcomeStatus
from schemas.pseudonym import Pseudonym

#: The size limit of an evidence object; a larger object is not evidence.
MAX_BYTES: Final = 262_144
#: The limit of evidence objects of one event; further objects are not read.
MAX_OBJECTS: Final = 250


class Verdict(StrEnum):
    """The result of comparing an object with the outcome's row."""

    #: It is about this event and account, and the row holds its SHA-256.
    VALID = "valid"
    #: The row names it, and the bucket does not hold it.
    MISSING = "missing"
    #: It is evidence, and not the object that the row names or that was written under its key.
    DIFFERS = "differs"
    #: It is about another account.
    ANOTHER_ACCOUNT = "another_account"
    #: It is about another event.
    ANOTHER_EVENT = "another_event"
    #: It is not evidence, is too large, or S3 does not return it.
    UNREADABLE = "unreadable"
    #: It must be restored in S3 before it can be read.
    ARCHIVED = "archived"
    #: It is about this event and account, as far as the keys exist that made its pseudonyms, and the row does not hold
    #: its SHA-256.
    NOT_COMPARED = "not_compared"


@dataclass(frozen=True)
class CheckedEvidence:
    """An object of an event's evidence, and its verdict."""

    key: str
    verdict: Verdict
    #: Whether a person has to investigate.
    wrong: bool
    #: Whether the outcome's row names it.
    named: bool = False
    #: Whether its own key held another object, so that it was written beside it.
    beside: bool = False
    sha256: Sha256 | None = None
    evidence: Evidence | None = None


#: The verdicts on objects that S3 does not return.
_UNREAD: Final = {Cause.NOT_FOUND: Verdict.MISSING, Cause.ARCHIVED: Verdict.ARCHIVED}
#: The statuses whose outcomes may have no evidence.
_WITHOUT_EVIDENCE: Final = frozenset({OutcomeStatus.RETRYING, OutcomeStatus.CLOSED})


@dataclass(frozen=True)
class EvidenceChecker:
    """Compare evidence with outcomes."""

    archive: EvidenceReader
    pseudonyms: Pseudonyms

    def of(self, outcome: Outcome) -> list[CheckedEvidence]:
        """Return all evidence of an event, and the evidence that is missing, ordered by attempt."""
        comparison = self._comparison(outcome)
        prefixes = comparison.prefixes
        listed = [key for each in prefixes for key in self.archive.under(each, limit=MAX_OBJECTS + 1)]
        named = outcome.evidence_key or ""
        own = {named} if named.startswith(prefixes) else set()
        found = [self._check(comparison, key) for key in sorted({*listed[:MAX_OBJECTS], *own})]
        if not own and (named or _needs_evidence(outcome)):
            found.append(CheckedEvidence(named, Verdict.MISSING, wrong=True, named=bool(named)))
        if len(listed) > MAX_OBJECTS:
            found.append(CheckedEvidence(prefixes[0], Verdict.UNREADABLE, wrong=True))
        return _disputed(found)

    def _comparison(self, outcome: Outcome) -> "_Comparison":
        keys = list(self.pseudonyms.under_each_key())
        # Keys of older versions hold the event's id itself.
        events = [*(event_reference(outcome.event_id, each.digest) for each in keys), outcome.event_id]
        if holds_account_id(outcome.event_id) and self.pseudonyms.lost_keys:
            # What a lost key made of the id is known only from the row.
            events.append(event_in(outcome.evidence_key or "") or outcome.event_id)
        accounts = None
        if outcome.account_id != NO_ACCOUNT:
            accounts = {each.key_version: each.of(outcome.account_id) for each in keys}
        prefixes = dict.fromkeys(event_prefix(outcome.event_time, each) for each in events)
        return _Comparison(outcome, tuple(events), tuple(prefixes), accounts)

    def _check(self, comparison: "_Comparison", key: str) -> CheckedEvidence:
        try:
            return comparison.check(key, self.archive.read(key, limit=MAX_BYTES))
        except RetryableError as error:
            if error.soon:
                raise
            # S3 also refuses to return an object that is encrypted with another key.
            verdict = _UNREAD.get(error.cause, Verdict.UNREADABLE)
            is_wrong = verdict is not Verdict.ARCHIVED
            return CheckedEvidence(key, verdict, is_wrong, named=key == comparison.outcome.evidence_key)


@dataclass(frozen=True)
class _Comparison:
    outcome: Outcome
    #: The names that evidence may have for the event, and the prefixes of its keys.
    events: tuple[str, ...]
    prefixes: tuple[str, ...]
    #: The pseudonym of the account by the id of the key; None if the event names no account.
    accounts: Mapping[str, Pseudonym] | None

    def check(self, key: str, body: bytes) -> CheckedEvidence:
        """Compare an object with the outcome."""
        named = key == self.outcome.evidence_key
        evidence = _read(body)
        if evidence is None:
            return CheckedEvidence(key, Verdict.UNREADABLE, wrong=True, named=named)
        digest = sha256(body).hexdigest()
        verdict = self._verdict(evidence, digest, named=named)
        if verdict in {Verdict.VALID, Verdict.NOT_COMPARED} and not self._has_its_key(key, evidence, digest):
            verdict = Verdict.DIFFERS
        wrong = self._is_wrong(verdict, evidence_keys(evidence, digest), key, named=named)
        return CheckedEvidence(key, verdict, wrong, named, own_key(key) is not None, digest, evidence)

    def _has_its_key(self, key: str, evidence: Evidence, digest: Sha256) -> bool:
        """Return whether a worker writes this evidence under this key, and the attempt has begun."""
        return key in evidence_keys(evidence, digest) and evidence.attempt <= self.outcome.attempts

    def _verdict(self, evidence: Evidence, digest: Sha256, *, named: bool) -> Verdict:
        if evidence.event_id not in self.events:
            return Verdict.ANOTHER_EVENT
        if not self._is_about_the_account(evidence.account):
            return Verdict.ANOTHER_ACCOUNT
        if named and self.outcome.evidence_sha256:
            return Verdict.VALID if digest == self.outcome.evidence_sha256 else Verdict.DIFFERS
        announced = any(digest in each for each in self.outcome.announced.values())
        return Verdict.VALID if announced else Verdict.NOT_COMPARED

    def _is_about_the_account(self, found: Pseudonym | None) -> bool:
        """Return whether a pseudonym can be the account's; one of a key that is gone cannot be compared."""
        if found is None or self.accounts is None:
            return found is None and self.accounts is None
        return found == self.accounts.get(found.key_version, found)

    def _is_wrong(self, verdict: Verdict, keys: Collection[str], key: str, *, named: bool) -> bool:
        if verdict is not Verdict.ANOTHER_ACCOUNT:
            return verdict not in {Verdict.VALID, Verdict.NOT_COMPARED}
        # Events about two accounts can have the same event id.
        return named or key not in keys


def _needs_evidence(outcome: Outcome) -> bool:
    """Return whether an outcome must name evidence, whatever its attempts changed."""
    # An operator makes an outcome that was RETRYING when it was closed FAILED; then no attempt has failed for good.
    is_reopened = outcome.status is OutcomeStatus.FAILED and not outcome.done_at
    return outcome.status not in _WITHOUT_EVIDENCE and not is_reopened


def _read(body: bytes) -> Evidence | None:
    try:
        return Evidence.model_validate_json(body) if len(body) <= MAX_BYTES else None
    except ValidationError:
        return None


def _disputed(found: Iterable[CheckedEvidence]) -> list[CheckedEvidence]:
    """Change the verdict of objects that a worker found under its own key and wrote its evidence beside."""
    checked = list(found)
    disputed = {own_key(each.key) for each in checked} - {None}
    return [
        replace(each, verdict=Verdict.DIFFERS, wrong=True)
        if each.key in disputed and each.verdict is Verdict.NOT_COMPARED
        else each
        for each in checked
    ]
