"""From AWS's error codes to what to do: the only place that knows them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's name for it
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ParamValidationError,
    ProxyConnectionError,
)
from botocore.parsers import ResponseParserError

from handlers.core.errors import AccountNotFoundError, JoinguardError, PermanentError, RetryableError, fault

#: Passing, and likely gone within seconds. Modelled codes of AttachPolicy and ListPoliciesForTarget
#: (botocore, organizations 2016-11-28) and the throttling codes of botocore's standard retry mode.
_SOON: Final = frozenset(
    {
        "ConcurrentModificationException",
        "PolicyChangesInProgressException",
        "TooManyRequestsException",
        "ServiceException",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "LimitExceededException",
        "BandwidthLimitExceeded",
        "SlowDown",
        "PriorRequestNotComplete",
        "TransactionInProgressException",
        "RequestTimeout",
        "RequestTimeoutException",
    }
)

#: Passing, but not within seconds: up to an hour after the organization was made; credentials that rotate.
_LATER: Final = frozenset(
    {
        "FinalizingOrganizationException",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "RequestTimeTooSkewed",
    }
)

#: All that a call through botocore can end in. An answer that is no text at all it does not even wrap.
FAILURES: Final = (ClientError, BotoCoreError, ResponseParserError, UnicodeDecodeError)
#: What an answer ends in that is JSON, but of another shape than botocore's parsers take for granted.
_MISSHAPEN: Final = (AttributeError, KeyError, TypeError)
#: No answer of AWS's own: lost on its way, or garbled.
_NO_ANSWER: Final = (HTTPClientError, ConnectionError, ResponseParserError, UnicodeDecodeError, *_MISSHAPEN)

_SERVER_ERROR: Final = 500
#: The call was never sent.
_NOT_SENT: Final = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError)


@contextmanager
def organizations_faults() -> Iterator[None]:
    """Translate what Organizations answers: passing by its code, everything else lasting."""
    try:
        yield
    except (*FAILURES, *_MISSHAPEN) as error:
        raise _translate(error) from error


@contextmanager
def records_faults(service: str) -> Iterator[None]:
    """Translate a failure of our own records and queues: always passing.

    It says nothing about the event, so the message comes again until an operator has mended the cause.
    `soon` where no answer came, or one that asks to come again.
    """
    try:
        yield
    except FAILURES as error:
        code = error_code(error)
        soon = isinstance(error, _NO_ANSWER) or code in _SOON or _status(error) >= _SERVER_ERROR
        why = fault(f"{service}.{code}", f"{service} did not do its part: {error}")
        raise RetryableError(why, soon=soon) from error


def error_code(error: Exception) -> str:
    """Return AWS's code of an error, or the name of its class."""
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code") or "Unknown"
    return type(error).__name__


def _status(error: Exception) -> int:
    """Return the HTTP status of AWS's answer; 0 where there was none."""
    if not isinstance(error, ClientError):
        return 0
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _translate(error: Exception) -> JoinguardError:
    code = error_code(error)
    if not isinstance(error, ClientError):
        return _without_answer(error, code)
    message = error.response.get("Error", {}).get("Message") or "AWS gave no message"
    reason = error.response.get("Reason")
    why = fault(code, message, str(reason) if reason else None)
    # Where an answer names no code, botocore puts the status there: it is a page of something on the way.
    if code.isdecimal() or _status(error) >= _SERVER_ERROR:
        return RetryableError(why, soon=True, unclear=True)
    if code in _SOON:
        return RetryableError(why, soon=True)
    if code in _LATER:
        return RetryableError(why)
    return AccountNotFoundError(why) if code == "TargetNotFoundException" else PermanentError(why)


def _without_answer(error: Exception, code: str) -> JoinguardError:
    why = fault(code, str(error))
    if isinstance(error, ParamValidationError):
        return PermanentError(why)
    if isinstance(error, _NOT_SENT):
        return RetryableError(why, soon=True)
    if isinstance(error, _NO_ANSWER):
        return RetryableError(why, soon=True, unclear=True)
    # Credentials, endpoints, settings: they say nothing about the event.
    return RetryableError(why)
