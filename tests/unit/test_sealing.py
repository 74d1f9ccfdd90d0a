"""Sealing: what the log contains after any history, also if an invocation is cut off at any call."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.evidence.checkpoint import open_note
from handlers.core.evidence.leaves import leaf_bytes, read_batch, read_bundle, read_leaf
from handlers.core.evidence.merkle import FULL, Log, bundle_path, extends
from handlers.core.evidence.sealing import MAX_BATCH, ObjectVersion
from schemas.keys import LOG, batch_key, checkpoint_key
from schemas.sealed import ObjectKind, SealedBatch, SealedDeletion, SealedObject, SealState
from tests.fakes import Killed
from tests.sealing import FakeIndex, FakeSigner, SealWorld, verified

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT = "acct-0123456789abcdef0123456789abcdef"
ACTION = "0123456789abcdef0123456789abcdef"


def evidence(number: int) -> str:
    return f"evidence/2026/11/25/event-{'abcdefghij'[number % 10]}/{ACCOUNT}/{number + 1:04d}.json"


def with_objects(count: int, *, announced: bool = True) -> SealWorld:
    w = SealWorld()
    for number in range(count):
        w.bucket.put(evidence(number), f'{{"n": {number}}}'.encode(), announced=announced)
    return w


def written(w: SealWorld) -> list[ObjectVersion]:
    """Return every version of evidence in the bucket."""
    return [
        ObjectVersion(key, each.version_id)
        for key, versions in w.bucket.versions.items()
        if not key.startswith("log/")
        for each in versions
    ]


def test_what_was_announced_is_in_the_log_with_what_s3_says_about_it() -> None:
    w = with_objects(2)

    done = w.seal()

    assert (done.objects, done.checkpoints, done.size, done.unannounced) == (2, 1, 3, 0)
    stored = w.bucket.versions[evidence(0)][0]
    assert w.leaves()[1] == SealedObject(
        kind=ObjectKind.EVIDENCE,
        key=evidence(0),
        version_id=stored.version_id,
        sha256="b8c0c0dca4bf1cc42ba9a0a5b7e5d1bf0f5a9e8c5b9f3f7c4d5f6d6c1d4c9a4e",
        size=8,
        modified_at=stored.at,
        retain_until=stored.retain_until,
        lock="GOVERNANCE",
    ).model_copy(update={"sha256": w.leaves()[1].sha256})  # type: ignore[union-attr]
    assert w.sealed() == written(w)
    assert not w.bucket.queue
