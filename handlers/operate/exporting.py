"""What `export` does: read the records of a period one after the other, and write the events that they hold."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from handlers.core.errors import Cause, RetryableError
from handlers.core.evidence.ocsf import events
from handlers.operate.context import Context
from handlers.operate.progress import progress
from schemas.keys import record_prefixes
from schemas.sealed import sealed_kind

#: S3 answers within milliseconds, so reading one object after the other would wait most of the time.
_PARALLEL: Final = 16
#: How many objects are in memory at once.
_AT_ONCE: Final = 64
#: The size limit of a record: SQS allows about 120,000 messages in flight, and an audit record can name them all.
_MAX_BYTES: Final = 64 * 1024 * 1024
#: What S3 answers if one object cannot be read: it is gone, encrypted with another key, or in the archive (OTHER).
_OF_ONE_OBJECT: Final = frozenset({Cause.NOT_FOUND, Cause.ACCESS_DENIED, Cause.OTHER})
NOT_A_RECORD: Final = "NOT_A_RECORD"


@dataclass
class Exported:
    """What was exported, and what was not."""

    records: int = 0
    events: int = 0
    #: The keys of objects that could not be exported, by the reason's code.
    unread: dict[str, list[str]] = field(default_factory=dict)
    #: How many objects lie under keys that no part of Joinguard writes, which may hold account ids.
    foreign: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether everything was exported."""
        return not self.unread and not self.foreign


def export(context: Context, days: Sequence[date], write: Callable[[str], object]) -> Exported:
    """Write the events of the records of some days, each as a line of JSON in ASCII."""
    exported = Exported()
    with progress("exporting days", len(days)) as advance, ThreadPoolExecutor(_PARALLEL) as pool:
        for day in days:
            for prefix in record_prefixes(day):
                keys = _ours(_listed(context, prefix), exported)
                for number in range(0, len(keys), _AT_ONCE):
                    some = keys[number : number + _AT_ONCE]
                    read = pool.map(lambda key: _read(context, key), some)
                    for key, body in zip(some, read, strict=True):
                        _write(key, body, write, exported)
            advance(1)
    return exported


def days_between(first: date, last: date) -> list[date]:
    """Return all days from the first to the last one, both included."""
    return [date.fromordinal(each) for each in range(first.toordinal(), last.toordinal() + 1)]


def _listed(context: Context, prefix: str) -> list[str]:
    return context.patiently(lambda: context.archive.under(prefix))


def _ours(keys: Sequence[str], exported: Exported) -> list[str]:
    ours = [key for key in keys if sealed_kind(key)]
    exported.foreign += len(keys) - len(ours)
    return ours


def _read(context: Context, key: str) -> bytes | str:
    """Return the object's bytes, or the code of the reason why it cannot be read; raise what concerns all objects."""
    try:
        body = context.patiently(lambda: context.archive.read(key, limit=_MAX_BYTES))
    except RetryableError as error:
        if error.soon or error.cause not in _OF_ONE_OBJECT:
            raise
        return error.fault.code
    return body if len(body) <= _MAX_BYTES else NOT_A_RECORD


def _write(key: str, body: bytes | str, write: Callable[[str], object], exported: Exported) -> None:
    try:
        found: Iterator[object] = events(key, body) if isinstance(body, bytes) else iter(())
    except ValueError:
        body = NOT_A_RECORD
    if isinstance(body, str):
        exported.unread.setdefault(body, []).append(key)
        return
    exported.records += 1
    for event in found:
        write(f"{json.dumps(event)}\n")
        exported.events += 1
