"""Verify the sealed log for an evidence pack as `verify` does, and read it for the proofs."""

from __future__ import annotations

from datetime import UTC, datetime, time
from enum import Enum, auto
from typing import TYPE_CHECKING

from handlers.core.errors import JoinguardError
from handlers.core.evidence.pack.sealed import OpenLog, SealedLog
from handlers.core.redaction import redact
from handlers.operate.errors import OperateError
from handlers.operate.proving import read_log
from handlers.operate.verifying import NOT_SIGNED_IN, Request, compare_all, source_of

if TYPE_CHECKING:
    from datetime import date

    from handlers.core.evidence.verify_log import ReadLog
    from handlers.operate.context import Context
    from handlers.operate.verifying import Compared, Source
    from schemas.pack import Period


class Verify(Enum):
    """How the log is verified for a pack."""

    FULLY = auto()
    QUICKLY = auto()
    NOT = auto()


def sealed_log(wanted: Verify, period: Period, context: Context, compared: Compared) -> SealedLog:
    """Return the log with its verification, or why it was not verified.

    Raises JoinguardError if the credentials are not valid.
    """
    try:
        source = source_of(context)
        if wanted is Verify.NOT:
            return SealedLog(opened=_opened(source, read_log(source, context.clock.now())))
        found = compare_all(_request(period, wanted), source, context.clock.now, compared)
        return SealedLog(found.verification, opened=_opened(source, found.log))
    except (JoinguardError, OperateError) as error:
        if isinstance(error, JoinguardError) and error.cause in NOT_SIGNED_IN:
            raise
        why = redact(str(error)).removesuffix(".")
        return SealedLog(not_verified=None if wanted is Verify.NOT else why, unread=why)


def _request(period: Period, wanted: Verify) -> Request:
    return Request(
        since=_midnight(period.first),
        last_day=_midnight(period.last),
        is_quick=wanted is Verify.QUICKLY,
        folder=None,
        key_file=None,
        against=(),
        resume=None,
        as_json=False,
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _opened(source: Source, log: ReadLog) -> OpenLog:
    return OpenLog(log, source.keys, source.bucket)
