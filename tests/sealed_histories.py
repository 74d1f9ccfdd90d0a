"""Histories whose objects are in the sealed log, as the function that seals writes it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from handlers.operate.context import InstalledLog
from tests.sealing import LOCKED, ORIGIN, SealWorld, Stored
from tests.verifying import FakeSealedBucket

if TYPE_CHECKING:
    from tests.histories import History

_DAY = re.compile("/([0-9]{4})/([0-9]{2})/([0-9]{2})/")


class SealedHistory(SealWorld):
    """The evidence bucket of a history with its log, and what somebody did to it since."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self.history = history
        self.clock = self.bucket.clock = history.tool.queues.clock
        for number, (key, body) in enumerate(history.objects.items()):
            self.bucket.versions[key] = [Stored(f"h{number}", body, _day_of(key), self.clock.now() + LOCKED)]
        # As many as S3 lists at a time.
        self.bucket.listed = 1000
        self.seal()
        self.sealed_bucket = FakeSealedBucket(self.bucket)
        history.tool.log = InstalledLog(ORIGIN, self.sealed_bucket, self.signer.public_key)

    def change(self, key: str, body: bytes) -> None:
        """Replace the bytes of an object, as nobody can whom S3 refuses to."""
        self.history.objects[key] = body
        self.bucket.versions[key][0].body = body

    @property
    def last_note(self) -> bytes:
        """The last checkpoint as it is stored."""
        return self.notes()[-1]


def _day_of(key: str) -> datetime:
    found = _DAY.search(key)
    assert found, key
    year, month, day = map(int, found.groups())
    return datetime(year, month, day, 23, tzinfo=UTC)
