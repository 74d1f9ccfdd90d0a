"""The sealed log of a pipeline in the embedded AWS, sealed by the Lambda API: its schedule is off there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from handlers.aws.dynamodb_sealed import DynamoSealedIndex
from handlers.aws.kms_signer import KmsSigner
from handlers.aws.s3_evidence import S3Archive
from handlers.core.evidence.checkpoint import Checkpoint, VerifierKey, open_note
from handlers.core.evidence.leaves import kind_of, read_bundle, read_leaf
from handlers.core.evidence.merkle import FULL, Log, bundle_path
from schemas.keys import CHECKPOINTS, LOG, SEALED_PREFIXES
from schemas.sealed import Comparison, SealedBatch, SealedObject, SealState
from tests.sealing import verified

if TYPE_CHECKING:
    from schemas.sealed import Leaf
    from tests.e2e.conftest import Pipeline


class Seals:
    """What seals the evidence of a pipeline, and the log as anybody with the public key reads it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.function = pipeline.resource("Sealer")

    def invoke(self) -> dict[str, Any]:
        """Invoke the function and return its answer; for an error, Lambda's description of it."""
        answer = self.pipeline.client("lambda").invoke(FunctionName=self.function, Payload=b"{}")
        found: dict[str, Any] = json.loads(answer["Payload"].read())
        return found

    def seal(self) -> dict[str, Any]:
        """Seal everything in the bucket.

        The stand-in's events of S3 have no version id, as AWS's have, so they announce nothing; the comparison with the
        whole bucket finds the objects.
        """
        self.compare_anew()
        answer = self.invoke()
        assert "size" in answer, answer
        return answer

    def compare_anew(self) -> None:
        """Let the next invocation compare the log with the whole bucket, which it does once a day."""
        comparison = Comparison(begun_at=datetime.now(UTC), prefix=SEALED_PREFIXES[0])
        self.index.save((self.index.state() or SealState()).model_copy(update={"comparison": comparison}))

    @property
    def archive(self) -> S3Archive:
        """The evidence bucket."""
        return S3Archive(self.pipeline.client("s3"), self.pipeline.at.evidence_bucket)

    @property
    def index(self) -> DynamoSealedIndex:
        """The index of the log."""
        return DynamoSealedIndex(self.pipeline.client("dynamodb"), self.pipeline.resource("Sealed"))

    @property
    def key(self) -> VerifierKey:
        """The public key of the log."""
        signer = KmsSigner(self.pipeline.client("kms"), self.pipeline.resource("SealKey"))
        return VerifierKey(f"joinguard/{self.pipeline.at.organization_id}", signer.public_key())

    def notes(self) -> list[bytes]:
        """Return the checkpoints as they are stored."""
        return [self.archive.read(each) for each in self.archive.under(CHECKPOINTS)]

    def checkpoints(self) -> list[Checkpoint]:
        """Return the checkpoints; their signatures must be valid, and the tiles must lead to them."""
        found = [open_note(each, self.key, verified) for each in self.notes()]
        for each in found:
            assert self.log(each.size).root() == each.root
        return found

    def log(self, size: int) -> Log:
        """Return the log as it was with this number of leaves."""
        return Log(size, lambda tile: self.archive.read(LOG + tile.path))

    def leaves(self) -> list[Leaf]:
        """Return all leaves."""
        size = self.checkpoints()[-1].size
        widths = [FULL] * (size // FULL) + [size % FULL] * bool(size % FULL)
        return [
            read_leaf(leaf)
            for number, width in enumerate(widths)
            for leaf in read_bundle(self.archive.read(LOG + bundle_path(number, width)))
        ]

    def objects(self) -> dict[str, SealedObject]:
        """Return the sealed objects by key; each key must be sealed once."""
        leaves = [each for each in self.leaves() if isinstance(each, SealedObject)]
        found = {each.key: each for each in leaves}
        assert len(found) == len(leaves)
        return found

    def batches(self) -> list[SealedBatch]:
        """Return the first leaf of each batch."""
        return [each for each in self.leaves() if isinstance(each, SealedBatch)]

    def in_the_bucket(self) -> list[str]:
        """Return the keys of the objects that have to be sealed; other tests write under keys that are none."""
        return [key for prefix in SEALED_PREFIXES for key in self.archive.under(prefix) if kind_of(key)]
