"""Compare the guardrails that decided, as evidence and sweeps name them, with the configurations on record."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby, islice
from operator import itemgetter
from typing import Final

from pydantic import BaseModel, ValidationError

from handlers.core.evidence.leaves import object_leaf
from handlers.core.evidence.verify_log import ReadLog
from handlers.core.evidence.verifying import Fetched, Findings, SealedBucket, Sorted, Wanted
from schemas.configuration import Configuration
from schemas.ids import Sha256
from schemas.sealed import ObjectKind, SealedObject
from schemas.verification import FindingKind

_CONFIGURATIONS: Final = "configuration/"
#: The part of a verification, as it is named if it is left out.
CONFIGURATIONS: Final = "configurations"
#: A record is written when the stack's update has ended, which can take an hour, and sealed within the hour after.
_RECORDED_WITHIN: Final = timedelta(hours=3)
_RESUMED: Final = {CONFIGURATIONS: "evidence that an interrupted verification read was not compared; verify once more"}
_NEXT_STEP: Final = (
    "find out in CloudTrail who changed the stack or the function then (ExecuteChangeSet, UpdateStack, "
    "UpdateFunctionConfiguration); see handlers/operate/RUNBOOK.md#a-verification-found-something"
)


class _Names(BaseModel):
    """The field of evidence and of a sweep's report that names the guardrails which decided."""

    guardrails: Sha256 | None = None


class _Sweep(BaseModel):
    report: _Names


@dataclass
class ConfigurationVerifier:
    """Find guardrails that decided and that no record of a deployment has."""

    bucket: SealedBucket
    findings: Findings
    #: By guardrails: when the evidence that names them was stored, in seconds, and its key. None so far.
    named: Sorted

    def add(self, leaf: SealedObject, body: bytes | None) -> None:
        """Take note of the guardrails that an object names; it is as it was sealed."""
        if body is None or leaf.kind not in {ObjectKind.EVIDENCE, ObjectKind.SWEEP}:
            return
        is_sweep = leaf.kind is ObjectKind.SWEEP
        names = _Sweep.model_validate_json(body).report if is_sweep else _Names.model_validate_json(body)
        if names.guardrails:
            self.named.add(names.guardrails, int(leaf.modified_at.timestamp()), leaf.key.encode())

    def compare(self, log: ReadLog, *, is_whole: bool) -> Mapping[str, str]:
        """Compare what was noted, and return what was left out, and why. `is_whole`: all evidence was noted."""
        leaves = dict(_recorded(log.leaves))
        if not any(True for _ in self.named):
            return {} if is_whole or not leaves else _RESUMED
        if not leaves or log.sealed_until is None:
            return {CONFIGURATIONS: "no configuration is on record; `make deploy ARGS=--record` writes one"}
        versions = self.bucket.has_versions
        wanted = [Wanted(each.key, each.version_id if versions else "", number) for number, each in leaves.items()]
        known, archived = set[Sha256](), 0
        # One after the other, because somebody can have written many large ones.
        for leaf, fetched in zip(leaves.values(), self.bucket.fetch(wanted), strict=True):
            archived += fetched.is_archived
            if guardrails := _guardrails(leaf, fetched):
                known.add(guardrails)
        if archived:
            return {CONFIGURATIONS: f"{archived:,} of the records must be restored in S3 before they can be read"}
        # Versions that wrote no such records wrote evidence before the first one.
        since = min(each.modified_at for each in leaves.values())
        until = log.sealed_until.timestamp() - _RECORDED_WITHIN.total_seconds()
        self._find(known, int(since.timestamp()), int(until))
        return {} if is_whole else _RESUMED

    def _find(self, known: set[Sha256], since: int, until: int) -> None:
        """Find guardrails without a record, each once, with the first object that names them."""
        for guardrails, records in groupby(self.named, itemgetter(0)):
            number, first = 0, ""
            for _, at, key in records:
                if guardrails not in known and since <= at <= until:
                    number, first = number + 1, first or key.decode()
            if number:
                meaning = (
                    f"no configuration record in the log has the guardrails {guardrails} that decided in it, and in "
                    f"{number:,} pieces of evidence and sweeps altogether: `make deploy` did not put them in force, or "
                    "was rolled back"
                )
                self.findings.add(FindingKind.MISSING, first, meaning, _NEXT_STEP)


def _recorded(leaves: Sorted) -> Iterator[tuple[int, SealedObject]]:
    """Yield the records that the log names, by number: of each key the version that was sealed first."""
    for key in leaves.under(_CONFIGURATIONS):
        named = ((number, object_leaf(record)) for number, record in leaves.of(key))
        # Nobody of ours wrote those whose SHA-256 was not known; S3 may not return them.
        objects = ((number, leaf) for number, leaf in named if isinstance(leaf, SealedObject) and leaf.sha256)
        yield from islice(objects, 1)


def _guardrails(leaf: SealedObject, fetched: Fetched) -> Sha256 | None:
    """Return the guardrails of a record; None if it is not as it was sealed, which is a finding of its own."""
    if fetched.body is None or fetched.sha256 != leaf.sha256:
        return None
    with suppress(ValidationError):
        return Configuration.model_validate_json(fetched.body).guardrails
    return None
