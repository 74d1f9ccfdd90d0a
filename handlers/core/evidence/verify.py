"""Verify the sealed log, the evidence bucket and the outcomes, as far as they can be read.

1. The log is read: leaves, roots, times (`verify_log`). Without a signed checkpoint there is nothing to compare with.
2. Its own objects and the evidence are compared with it, in the order of their keys (`verify_objects`).
3. The outcomes are compared with the evidence (`verify_outcomes`), and the guardrails that the evidence names with the
   configurations on record (`verify_configurations`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple

from handlers.core.errors import Cause, RetryableError
from handlers.core.evidence.checkpoint import VerifierKey, Verify
from handlers.core.evidence.merkle import EMPTY_ROOT, Hash
from handlers.core.evidence.verify_configurations import CONFIGURATIONS, ConfigurationVerifier
from handlers.core.evidence.verify_log import LogReader, ReadLog, signed_by
from handlers.core.evidence.verify_objects import KeptProgress, ObjectVerifier, Period, ProgressStore, Resumed
from handlers.core.evidence.verify_outcomes import LoggedEvidence, OutcomeRows, OutcomeVerifier
from handlers.core.evidence.verifying import MAX_DESCRIBED, RUNBOOK, Findings, SealedBucket, Show, Sorted
from handlers.core.ports import Clock, Pseudonyms
from handlers.core.redaction import redact
from schemas.sealed import ObjectKind, SealedObject
from schemas.verification import FindingKind, Verification

#: How long an interrupted verification can be resumed: what it read is not older than this.
RESUMED_WITHIN: Final = timedelta(days=1)
#: The next step after a log that lacks leaves which a checkpoint signs that was kept elsewhere.
_CUT: Final = (
    "if this is a copy, it may be older than that checkpoint: download it again. Otherwise, somebody removed what was "
    f"sealed after the last checkpoint that agrees; see {RUNBOOK}"
)
_UNKNOWN_END: Final = (
    "a copy can lack what was sealed last; compare it with the last checkpoint that was kept elsewhere, with --against"
)


@dataclass(frozen=True)
class VerifyDependencies:
    """What a verification needs."""

    bucket: SealedBucket
    verify: Verify
    #: Returns records that are sorted, none so far.
    new_records: Callable[[], Sorted]
    progress: ProgressStore
    clock: Clock
    show: Show
    #: None offline.
    rows: OutcomeRows | None = None
    pseudonyms: Pseudonyms | None = None


@dataclass(frozen=True)
class VerifyRequest:
    """What to verify."""

    #: The keys that may have signed, all of one log.
    keys: Sequence[VerifierKey]
    period: Period = field(default_factory=Period)
    is_quick: bool = False
    #: Checkpoints that were kept elsewhere, by the name of each.
    elsewhere: Mapping[str, bytes] = field(default_factory=dict)
    #: Parts that are left out, and why.
    left_out: Mapping[str, str] = field(default_factory=dict)


class Verified(NamedTuple):
    """The result of a verification, and the log that it is about."""

    verification: Verification
    log: ReadLog


class Verifier:
    """Verify once."""

    def __init__(self, dependencies: VerifyDependencies, request: VerifyRequest) -> None:
        self._dependencies = dependencies
        self._request = request
        self._now = dependencies.clock.now()
        self._left_out = dict(request.left_out)
        #: What is wrong; others can add what they find.
        self.findings = Findings()

    def run(self, more: Callable[[Findings], Mapping[str, str]] = lambda _findings: {}) -> Verified:
        """Verify everything, and whatever `more` compares, which returns what it left out.

        Raises PermanentError if there is no log that the keys signed, and RetryableError if a call fails.
        """
        request, dependencies = self._request, self._dependencies
        log = self._read_log()
        agreed = self._elsewhere(log)
        objects = ObjectVerifier(
            dependencies.bucket,
            request.keys,
            dependencies.verify,
            self.findings,
            self._now,
            dependencies.show,
            request.period,
            request.is_quick,
        )
        objects.log(log.objects)
        resumed = self._resumed(log)
        verified = dependencies.new_records()
        configurations = ConfigurationVerifier(dependencies.bucket, self.findings, dependencies.new_records())
        objects.on_valid = _Keeper(verified if dependencies.rows else None, configurations).keep
        try:
            objects.objects(log.leaves, resumed)
        except BaseException:
            resumed.save()
            raise
        self._outcomes(log, verified)
        if request.is_quick:
            self._left_out[CONFIGURATIONS] = "a quick verification reads no evidence"
        else:
            self._left_out |= configurations.compare(log, is_whole=resumed.earlier is None)
        self._left_out |= more(self.findings)
        if not objects.compared.knows_locks:
            self._left_out.setdefault("retention", "S3 returned no retention: s3:GetObjectRetention is missing")
        if archived := objects.compared.archived:
            self._left_out["bytes of archived objects"] = f"{archived:,} must be restored in S3 before they can be read"
        if self.findings.number > len(self.findings.described):
            self._left_out["findings"] = (
                f"{self.findings.number:,} were found; the first {MAX_DESCRIBED:,} of each kind are described"
            )
        dependencies.progress.clear()
        verification = Verification(
            origin=log.checkpoint.origin,
            size=log.checkpoint.size,
            root=log.checkpoint.root.hex(),
            sealed_until=log.sealed_until,
            keys=tuple(map(str, request.keys)),
            begun_at=resumed.own.begun_at,
            ended_at=dependencies.clock.now(),
            since=request.period.since,
            until=request.period.until,
            is_quick=request.is_quick,
            agreed=agreed,
            left_out=self._left_out,
            checkpoints=objects.compared.checkpoints,
            tiles=objects.compared.tiles,
            valid=objects.compared.valid,
            pending=objects.compared.pending,
            found={kind: self.findings.counted[kind] for kind in FindingKind},
            findings=tuple(self.findings.described),
        )
        return Verified(verification, log)

    def _read_log(self) -> ReadLog:
        dependencies, request = self._dependencies, self._request
        reader = LogReader(
            dependencies.bucket, request.keys, dependencies.verify, self.findings, self._now, dependencies.show
        )
        earlier = dependencies.progress.load()
        sizes = [earlier.size] if earlier else []
        for note in request.elsewhere.values():
            try:
                sizes.append(signed_by(note, request.keys, dependencies.verify).size)
            except ValueError:
                continue
        return reader.read(dependencies.new_records(), dependencies.new_records(), sizes)

    def _elsewhere(self, log: ReadLog) -> int | None:
        """Compare the log with checkpoints that were kept elsewhere; return the largest size at which they agree."""
        agreed: int | None = None
        furthest = -1
        for name, note in self._request.elsewhere.items():
            try:
                kept = signed_by(note, self._request.keys, self._dependencies.verify)
            except ValueError as error:
                meaning = f"the checkpoint that was kept elsewhere is not one of this log: {redact(str(error))}"
                self.findings.add(FindingKind.CHANGED, redact(name), meaning)
                continue
            furthest = max(furthest, kept.size)
            root = _root_at(log, kept.size)
            if root is None:
                meaning = f"this checkpoint signs {kept.size} leaves, and the log has {log.checkpoint.size}: it was cut"
                self.findings.add(FindingKind.GAP, redact(name), meaning, _CUT)
            elif root != kept.root:
                meaning = (
                    f"the log has another root at {kept.size} leaves than this checkpoint, which its key signed: the "
                    "log was rewritten and signed anew"
                )
                self.findings.add(FindingKind.CHANGED, redact(name), meaning)
            else:
                agreed = max(agreed or 0, kept.size)
        if furthest < log.checkpoint.size and not self._dependencies.bucket.has_versions:
            self._left_out["end of the log"] = _UNKNOWN_END
        return agreed

    def _resumed(self, log: ReadLog) -> Resumed:
        request = self._request
        own = KeptProgress(
            keys=tuple(map(str, request.keys)),
            size=log.checkpoint.size,
            root=log.checkpoint.root.hex(),
            since=request.period.since,
            until=request.period.until,
            begun_at=self._now,
            key="",
        )
        return Resumed.of(self._dependencies.progress, own, lambda size: _root_at(log, size), RESUMED_WITHIN)

    def _outcomes(self, log: ReadLog, verified: Sorted) -> None:
        dependencies = self._dependencies
        if not (dependencies.rows and dependencies.pseudonyms):
            return
        if self._request.is_quick:
            self._left_out["outcomes"] = "a quick verification reads no evidence"
            return
        outcomes = OutcomeVerifier(
            dependencies.rows,
            dependencies.pseudonyms,
            LoggedEvidence(dependencies.bucket, log.leaves, verified),
            self.findings,
            dependencies.clock,
            dependencies.show,
            log.sealed_until,
            self._request.period,
            seen=dependencies.new_records(),
        )
        try:
            outcomes.run()
        except RetryableError as error:
            if error.cause is not Cause.ACCESS_DENIED:
                raise
            self._left_out["outcomes"] = error.fault.message
        self._left_out |= outcomes.left_out


@dataclass(frozen=True)
class _Keeper:
    """Keep what was read, for the comparisons with the outcomes and the configurations."""

    #: None if no outcomes are compared.
    verified: Sorted | None
    configurations: ConfigurationVerifier

    def keep(self, leaf: SealedObject, body: bytes | None) -> None:
        """Keep the guardrails that an object names, and its bytes if they are evidence of an attempt."""
        self.configurations.add(leaf, body)
        if self.verified is not None and body is not None and leaf.kind is ObjectKind.EVIDENCE:
            self.verified.add(leaf.key, 0, body)


def _root_at(log: ReadLog, size: int) -> Hash | None:
    """Return the root that the log has at a size that was asked for; None if it has fewer leaves."""
    if size == log.checkpoint.size:
        return log.checkpoint.root
    return log.roots.get(size, None if size else EMPTY_ROOT)
