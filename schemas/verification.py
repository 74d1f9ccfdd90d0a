"""The result of a verification: what was compared, and what is wrong."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.ids import Sha256
from schemas.values import Moment, Text

_Count = Annotated[int, Field(ge=0)]


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FindingKind(StrEnum):
    """What is wrong with an object or a record."""

    #: The log names it, and the bucket does not have it.
    MISSING = "missing"
    #: It is not what was sealed or signed.
    CHANGED = "changed"
    #: The bucket or a table has it, and the log or the evidence does not name it.
    INSERTED = "inserted"
    #: A part of the log or of its time is not there.
    GAP = "gap"
    #: Its lock is shorter or weaker than it was.
    WEAKENED = "weakened"
    #: Two records of the same thing say different things.
    DISAGREES = "disagrees"


class Finding(_Recorded):
    """Something that is wrong. Holds no account id, e-mail address or ARN."""

    kind: FindingKind
    #: The key of an object, the event id of a row, or the pseudonym of an account.
    what: Text
    meaning: Text
    next_step: Text


class Verification(_Recorded):
    """What a verification compared, and what it found."""

    schema_version: Literal["joinguard/verification/1"] = "joinguard/verification/1"
    #: The name of the log, and the size and root of its last checkpoint.
    origin: Text
    size: _Count
    root: Sha256
    #: When the last batch was sealed that the checkpoint is about; absent if the log is empty.
    sealed_until: Moment | None = None
    #: The verifier keys that the signatures were compared with.
    keys: tuple[Text, ...]
    begun_at: Moment
    ended_at: Moment
    #: The period; absent if everything was verified.
    since: Moment | None = None
    until: Moment | None = None
    #: Whether the bytes of objects were left out.
    is_quick: bool = False
    #: The most leaves that a checkpoint signs which was kept elsewhere and agrees with the log; absent if none does.
    agreed: _Count | None = None
    #: The parts that were not compared, such as `outcomes`, and why.
    left_out: dict[str, Text] = {}
    checkpoints: _Count
    tiles: _Count
    #: The objects that are as they were sealed.
    valid: _Count
    #: The objects that are too new to be sealed.
    pending: _Count = 0
    #: The other objects and records, by kind; kinds without findings are 0.
    found: dict[FindingKind, _Count] = {}
    findings: tuple[Finding, ...] = ()

    @property
    def found_any(self) -> bool:
        """Whether anything is wrong."""
        return any(self.found.values())
