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

from schemas.outcome import Fault

#: An ARN holds an account id and often a person's name, so it goes as a whole.
_ARN: Final = re.compile(r"\barn:[a-z-]+:[^\s\"',;]+")
_EMAIL: Final = re.compile(r"[^\s@\"'<>()\[\],;:]+@[^\s@\"'<>()\[\],;:]+")
_ACCOUNT_ID: Final = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_MAX_MESSAGE: Final = 1000


def redact(text: str) -> str:
    """Take account ids, e-mail addresses, ARNs and unprintable characters out of a text."""
    return _shortened(_UNPRINTABLE.sub(" ", _nameless(text)))


def redact_words(text: str) -> str:
    """Take account ids, e-mail addresses, ARNs and control characters out of what a person wrote, in any language."""
    return _shortened("".join(each if each.isprintable() else " " for each in _nameless(text)))


def _nameless(text: str) -> str:
    for pattern, label in ((_ARN, "[arn]"), (_EMAIL, "[e-mail]"), (_ACCOUNT_ID, "[account]")):
        text = pattern.sub(label, text)
    return text


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "~"


def fault(code: str, message: str, reason: str | None = None) -> Fault:
    """Describe a failure without account ids, e-mail addresses or ARNs."""
    return Fault(code=redact(code), message=redact(message) or redact(code), reason=redact(reason) if reason else None)


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
