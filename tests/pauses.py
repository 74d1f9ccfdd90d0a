"""Pauses for tests, and the fake of their table."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from handlers.core.errors import Cause, RetryableError, fault
from handlers.core.guardrails.pauses import KnownPauses
from schemas.pause import Ended, Pause
from schemas.pseudonym import Pseudonym
from tests.fakes import NOON

if TYPE_CHECKING:
    from datetime import datetime

SOMEBODY = Pseudonym(value=f"prin-{'0' * 32}", key_version="k")


def pause(  # noqa: PLR0913 - the fields that tests set
    scope: str,
    *,
    id: str | None = None,  # noqa: A002 - the field's name
    owner: str = "network team",
    reason: str = "a migration",
    at: datetime = NOON,
    until: datetime | None = None,
    ended: Ended | None = None,
) -> Pause:
    return Pause(
        id=id or uuid4().hex,
        scope=scope,
        owner=owner,
        reason=reason,
        begun_at=at,
        until=until or at + timedelta(days=1),
        actor=SOMEBODY,
        actor_id="AIDA",
        act_id="act-1",
        ended=ended,
    )


def ended_at(moment: datetime) -> Ended:
    return Ended(actor=SOMEBODY, actor_id="AIDA", act_id="act-2", at=moment)


@dataclass
class FakePauses:
    """The item of all pauses."""

    known: KnownPauses = field(default_factory=KnownPauses)
    error: Exception | None = None
    #: Whether somebody changes the pauses between reading and writing.
    is_contended: bool = False

    def read(self) -> KnownPauses:
        if self.error:
            raise self.error
        return self.known

    def write(self, pauses: KnownPauses, before: KnownPauses) -> None:
        if self.is_contended or self.known.version not in {before.version, pauses.version}:
            raise RetryableError(fault("PAUSES_CHANGED", "somebody else"), cause=Cause.CHANGED_MEANWHILE)
        self.known = pauses
