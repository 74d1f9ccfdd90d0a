"""Errors decide what happens to the message.

JoinguardError
├── RetryableError            only this record fails; its message becomes visible later and is tried again
│   ├── AttemptInProgressError    another worker handles the same event
│   └── OutOfTimeError            the invocation has too little time left; nothing was begun
└── PermanentError            outcome FAILED, dead letter with the reason, the record succeeds
    ├── AccountNotFoundError      retryable while a join is recent, or in the first receives
    └── NotYetEffectiveError      retryable in the first receives
"""

import re
from enum import Enum, auto
from typing import Final

from handlers.core.redaction import redact, safe_code
from schemas.outcome import Fault

#: The values of AWS's `Reason` enumerations.
_REASON: Final = re.compile("[A-Za-z_]{1,128}")


class Cause(Enum):
    """What has to be corrected before another try can succeed, independent of AWS's error code.

    `handlers.aws.errors` maps AWS's codes to causes, `handlers.operate.advice` causes to a next step.
    """

    ACCESS_DENIED = auto()
    ACCOUNT_NOT_FOUND = auto()
    ARCHIVED = auto()
    CHANGED_MEANWHILE = auto()
    CLAIMS_NOT_COMPARED = auto()
    CLAIMS_UNREADABLE = auto()
    CREDENTIALS_EXPIRED = auto()
    CREDENTIALS_INVALID = auto()
    CREDENTIALS_MISSING = auto()
    FACTS_UNKNOWN = auto()
    GUARDRAILS_CHANGED = auto()
    INVALID_EVENT = auto()
    INVALID_INPUT = auto()
    LAST_POLICY = auto()
    MANAGEMENT_ACCOUNT = auto()
    NOT_FOUND = auto()
    NO_ORGANIZATION = auto()
    OPEN_ATTEMPT = auto()
    POLICY_NOT_FOUND = auto()
    POLICY_TYPE_DISABLED = auto()
    REMOVALS_OFF = auto()
    REMOVAL_LIMIT = auto()
    RESTORES_HALTED = auto()
    RESTORES_STOPPED = auto()
    RETRIES_EXHAUSTED = auto()
    TOO_MANY_IN_FLIGHT = auto()
    TOO_MANY_POLICIES = auto()
    UNSUPPORTED = auto()
    WRONG_ENDPOINT = auto()
    WRONG_ORGANIZATION = auto()
    OTHER = auto()


def fault(code: str, message: str, reason: str | None = None) -> Fault:
    """Describe a failure without account ids, e-mail addresses or ARNs."""
    safe = safe_code(code)
    return Fault(code=safe, message=redact(message) or safe, reason=reason if _REASON.fullmatch(reason or "") else None)


class JoinguardError(Exception):
    """A failure with its fault, which logs, outcomes and evidence may hold, and its cause."""

    def __init__(self, fault: Fault, *, cause: Cause = Cause.OTHER) -> None:
        self.fault = fault
        self.cause = cause
        super().__init__(f"{fault.code}: {fault.message}")


class RetryableError(JoinguardError):
    """A transient failure.

    `soon`: another try can succeed within seconds. `ambiguous`: the call may have taken effect (a time-out, a broken
    connection, a server error).
    """

    def __init__(
        self, fault: Fault, *, soon: bool = False, ambiguous: bool = False, cause: Cause = Cause.OTHER
    ) -> None:
        super().__init__(fault, cause=cause)
        self.soon = soon
        self.ambiguous = ambiguous


class AttemptInProgressError(RetryableError):
    """Another worker holds the lease on this event."""


class OutOfTimeError(RetryableError):
    """The time left is too short for the record, which was not begun."""


class PermanentError(JoinguardError):
    """A failure that somebody has to correct before another try can succeed."""


class AccountNotFoundError(PermanentError):
    """Organizations does not find the account (yet)."""


class NotYetEffectiveError(PermanentError):
    """A permission or a policy is missing, or was changed so recently that AWS does not apply it yet."""
