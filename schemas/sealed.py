"""The leaves of the sealed log: what it says about the objects in the evidence bucket, and when it was written.

A leaf is the canonical JSON (RFC 8785) of one of these models, without the fields that are absent.
"""

import re
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from schemas.ids import Sha256
from schemas.keys import ComparedPrefix
from schemas.values import Moment, Text

#: RFC 8785 has no larger integers.
_MAX_INTEGER: Final = 2**53 - 1
_Count = Annotated[int, Field(ge=0, le=_MAX_INTEGER)]
#: The most objects that wait for their SHA-256; what is kept has to fit in an item of the table.
MAX_WAITING: Final = 200
#: The most checkpoints that are remembered because they could not be copied, and the most that fail in one invocation.
MAX_UNCOPIED: Final = 10


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ObjectKind(StrEnum):
    """The objects that are sealed, by the part of Joinguard that writes them."""

    EVIDENCE = "evidence"
    REHEARSAL = "rehearsal"
    AUDIT = "audit"
    CONFIGURATION = "configuration"
    SWEEP = "sweep"


_DAY: Final = "[0-9]{4}/[0-9]{2}/[0-9]{2}"
_EVENT: Final = "[0-9A-Za-z][0-9A-Za-z_-]{0,127}"
_ACTION: Final = "[0-9a-f]{32}"
_HASHED: Final = "[0-9a-f]{16}"
_ATTEMPT: Final = rf"[0-9]{{4,6}}(?:-late)?(?:-{_HASHED})?"
_SEALED: Final = {
    # Evidence of version 1 has no folder for the account.
    ObjectKind.EVIDENCE: re.compile(rf"evidence/{_DAY}/{_EVENT}/(?:(?:acct-[0-9a-f]{{32}}|none)/)?{_ATTEMPT}\.json"),
    ObjectKind.REHEARSAL: re.compile(rf"evidence/rehearsal/{_DAY}/{_EVENT}/{_HASHED}(?:-{_HASHED})?\.json"),
    ObjectKind.AUDIT: re.compile(rf"acts/{_DAY}/{_ACTION}/(?:intended|done)\.json"),
    ObjectKind.CONFIGURATION: re.compile(rf"configuration/{_DAY}/{_ACTION}\.json"),
    ObjectKind.SWEEP: re.compile(rf"sweeps/{_DAY}/sweep-[a-p]{{32}}(?:-{_HASHED})?\.json"),
}


def sealed_kind(key: str) -> ObjectKind | None:
    """Return the kind of an object that belongs in the sealed log, by its key.

    None for a key that no part of Joinguard writes: it may hold an account id.
    """
    return next((kind for kind, pattern in _SEALED.items() if pattern.fullmatch(key)), None)


class SealedObject(_Recorded):
    """One version of an object, as S3 described it when it was sealed. Holds no account id, e-mail address or ARN."""

    schema_version: Literal["joinguard/leaf/1"] = "joinguard/leaf/1"
    kind: ObjectKind
    key: Text
    version_id: Text
    #: SHA-256 of its bytes. Absent if S3 does not return them: another key encrypts them, or they were denied for days.
    sha256: Sha256 | None = None
    size: _Count
    #: When S3 stored it.
    modified_at: Moment
    #: The end of its lock. Absent if it is not locked.
    retain_until: Moment | None = None
    lock: Literal["GOVERNANCE", "COMPLIANCE"] | None = None


class SealedDeletion(_Recorded):
    """A delete marker: the object under its key looks deleted, although its versions may still be there."""

    schema_version: Literal["joinguard/leaf/1"] = "joinguard/leaf/1"
    kind: Literal["deletion"] = "deletion"
    key: Text
    version_id: Text
    #: When S3 stored it.
    modified_at: Moment


class SealedBatch(_Recorded):
    """The first leaf of each batch, also of one without objects: it says when the log was continued."""

    schema_version: Literal["joinguard/leaf/1"] = "joinguard/leaf/1"
    kind: Literal["batch"] = "batch"
    #: 0 in a new log.
    number: _Count
    #: The number of leaves before this one.
    first: _Count
    #: The number of leaves that follow it in the batch.
    objects: _Count
    sealed_at: Moment
    #: When the last comparison with the whole bucket ended. Absent until the first one has.
    compared_at: Moment | None = None


#: Their kinds differ, so at most one of them fits, and the others need not be tried.
Leaf: TypeAlias = Annotated[SealedObject | SealedDeletion | SealedBatch, Field(union_mode="left_to_right")]


class Comparison(_Recorded):
    """How far a comparison of the log with the whole bucket is."""

    begun_at: Moment
    #: The prefix that is being listed, and the last version that was listed; absent at its beginning.
    prefix: ComparedPrefix
    key: Text | None = None
    version_id: Text | None = None


class Waiting(_Recorded):
    """A version that is not sealed yet, because S3 does not return its SHA-256 now, but may later."""

    key: Text
    version_id: Text
    #: When S3 did not return it for the first time.
    since: Moment


class SealState(_Recorded):
    """What is kept between the invocations of the function that seals. All of it can be restored from the log."""

    #: The number of batches whose objects are in the index.
    indexed: _Count = 0
    #: The number of the first checkpoints that were copied, except for those that could not be.
    copied: _Count = 0
    uncopied: tuple[_Count, ...] = Field(default=(), max_length=MAX_UNCOPIED)
    comparison: Comparison | None = None
    #: When the last comparison ended.
    compared_at: Moment | None = None
    waiting: tuple[Waiting, ...] = Field(default=(), max_length=MAX_WAITING)
