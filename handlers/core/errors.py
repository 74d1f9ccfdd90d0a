"""Errors say what to do with the message.

JoinguardError
├── RetryableError            the record fails alone, becomes visible later, is tried again
│   ├── AttemptInProgressError    another worker is on the same event
│   └── OutOfTimeError            this invocation cannot finish it any more; nothing was begun
└── PermanentError            outcome FAILED, dead letter with the reason, the record succeeds
    └── AccountNotFoundError      retryable all the same while the event is young
"""

import re
from typing import Final

from handlers.core.redaction import redact, safe_code
from schemas.outcome import Fault

#: AWS's finer causes are words of an enumeration.
_REASON: Final = re.compile("[A-Za-z_]{1,128}")


def fault(code: str, message: str, reason: str | None = None) -> Fault:
    """Describe a failure without account ids, e-mail addresses or ARNs."""
    safe = safe_code(code)
    return Fault(code=safe, message=redact(message) or safe, reason=reason if _REASON.fullmatch(reason or "") else None)


class JoinguardError(Exception):
    """A failure with its fault: what happened, fit for logs, outcomes and evidence."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(f"{fault.code}: {fault.message}")


class RetryableError(JoinguardError):
    """A passing cause.

    `soon` where trying again within seconds makes sense; `unclear` where the call may have taken effect
    all the same (a time-out, a cut connection, a server error).
    """

    def __init__(self, fault: Fault, *, soon: bool = False, unclear: bool = False) -> None:
        super().__init__(fault)
        self.soon = soon
        self.unclear = unclear


class AttemptInProgressError(RetryableError):
    """Another worker holds the lease on this event."""


class OutOfTimeError(RetryableError):
    """The time left cannot finish the record, so it was not begun."""


class PermanentError(JoinguardError):
    """A lasting cause: somebody has to act before another try can succeed."""


class AccountNotFoundError(PermanentError):
    """Organizations does not know the account (yet)."""
