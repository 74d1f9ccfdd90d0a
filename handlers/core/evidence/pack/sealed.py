"""What an evidence pack takes along of the sealed log: the verification, and a proof for each object that was read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from handlers.core.errors import JoinguardError
from handlers.core.evidence.checkpoint import VerifierKey
from handlers.core.evidence.pack.ports import Progress
from handlers.core.evidence.ports import EvidenceReader
from handlers.core.evidence.proofs import Proof, Prover
from handlers.core.evidence.verify_log import ReadLog
from schemas.pack import ObjectRead, ProofState, SealedAt
from schemas.verification import Verification

_UPDATE_EVERY: Final = 500


class OpenLog(NamedTuple):
    """The log up to a checkpoint, which is that of the verification if there is one."""

    log: ReadLog
    keys: Sequence[VerifierKey]
    reader: EvidenceReader


@dataclass(frozen=True)
class SealedLog:
    """The sealed log, as far as it could be verified and read."""

    #: None if nobody verified it.
    verification: Verification | None = None
    #: Why it was not verified although that was wanted.
    not_verified: str | None = None
    #: None if it cannot be read.
    opened: OpenLog | None = None
    #: Why it cannot be read.
    unread: str | None = None

    @property
    def sealed_at(self) -> SealedAt | None:
        """The checkpoint to which the proofs lead."""
        if self.opened is None:
            return None
        checkpoint = self.opened.log.checkpoint
        return SealedAt(
            origin=checkpoint.origin,
            size=checkpoint.size,
            root=checkpoint.root.hex(),
            keys=tuple(map(str, self.opened.keys)),
        )


@dataclass
class Proofs:
    """The proofs of a pack's objects."""

    #: The signed checkpoint.
    note: bytes
    keys: Sequence[VerifierKey]
    #: By the key of the object.
    of: dict[str, Proof] = field(default_factory=dict)


class ProvedObjects(NamedTuple):
    """Objects with what the log says about each, and the proofs."""

    objects: tuple[ObjectRead, ...]
    #: None if the log could not be read.
    proofs: Proofs | None
    #: Why proofs could not be made, first.
    problem: str | None = None


def prove_objects(log: SealedLog, objects: Sequence[ObjectRead], progress: Progress) -> ProvedObjects:
    """Compare objects with the versions that were sealed first, and prove these."""
    if log.opened is None:
        return ProvedObjects(tuple(objects), None)
    opened, problem = log.opened, None
    prover = Prover(opened.log, opened.reader)
    proofs = Proofs(opened.log.note, opened.keys)
    states: dict[str, ProofState] = {}
    for number, each in enumerate(objects, 1):
        try:
            states[each.key] = _state(prover, each, proofs.of)
        except JoinguardError as error:
            states[each.key], problem = ProofState.NOT_PROVED, problem or str(error)
        if number % _UPDATE_EVERY == 0:
            progress("proofs", number)
    return ProvedObjects(_with(objects, states), proofs, problem)


def _state(prover: Prover, read: ObjectRead, proofs: dict[str, Proof]) -> ProofState:
    signed = [each for each in prover.versions(read.key) if prover.is_signed(each)]
    if not signed:
        return ProofState.NOT_SEALED
    first = signed[0]
    proofs[read.key] = prover.proof(first)
    # S3 does not return the hash of an object that another key encrypts; its size is sealed nevertheless.
    is_same = first.leaf.size == read.size and first.leaf.sha256 in {None, read.sha256}
    return ProofState.PROVED if is_same else ProofState.DIFFERS


def _with(objects: Sequence[ObjectRead], states: Mapping[str, ProofState]) -> tuple[ObjectRead, ...]:
    return tuple(each.model_copy(update={"proof": states[each.key]}) for each in objects)
