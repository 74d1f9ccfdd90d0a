"""Translate AWS's error codes into our errors and causes. No other module knows these codes."""

from collections.abc import Iterator, Mapping
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

from handlers.core.errors import (
    AccountNotFoundError,
    Cause,
    JoinguardError,
    NotYetEffectiveError,
    PermanentError,
    RetryableError,
    fault,
)

#: Transient, expected to be over within seconds. The modelled codes of AttachPolicy and ListPoliciesForTarget
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
        # S3: another request wrote under the same key at the same time. "Retry the upload."
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        "ConditionalRequestConflict",
        "TransactionInProgressException",
        "RequestTimeout",
        "RequestTimeoutException",
    }
)

#: Transient, but not over within seconds: a new organization takes up to an hour, and credentials rotate.
_LATER: Final = frozenset(
    {
        "FinalizingOrganizationException",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "RequestTimeTooSkewed",
    }
)

#: Permanent, except that IAM, the organization's resource policy and new policies are effective only after seconds to
#: minutes. https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html (eventual consistency)
_NOT_YET_EFFECTIVE: Final = frozenset({"AccessDeniedException", "PolicyNotFoundException"})

#: The account is no member, by the call that says so.
_NO_ACCOUNT: Final = frozenset({"AccountNotFoundException", "ChildNotFoundException", "TargetNotFoundException"})

#: The cause behind each code of a dead letter: those of Organizations, and ours.
CAUSES: Final[Mapping[str, Cause]] = {
    "PolicyNotFoundException": Cause.POLICY_NOT_FOUND,
    "PolicyTypeNotEnabledException": Cause.POLICY_TYPE_DISABLED,
    "ConstraintViolationException": Cause.TOO_MANY_POLICIES,
    "AccessDeniedException": Cause.ACCESS_DENIED,
    "TargetNotFoundException": Cause.ACCOUNT_NOT_FOUND,
    "NO_PLACE": Cause.TOO_MANY_POLICIES,
    "FACTS_UNKNOWN": Cause.FACTS_UNKNOWN,
    "InvalidInputException": Cause.INVALID_INPUT,
    "AWSOrganizationsNotInUseException": Cause.NO_ORGANIZATION,
    "UnsupportedAPIEndpointException": Cause.WRONG_ENDPOINT,
    "INVALID_EVENT": Cause.INVALID_EVENT,
    "WRONG_ORGANIZATION": Cause.WRONG_ORGANIZATION,
    "MANAGEMENT_ACCOUNT": Cause.MANAGEMENT_ACCOUNT,
    "CLAIMS_UNREADABLE": Cause.CLAIMS_UNREADABLE,
    "OPEN_ATTEMPT": Cause.OPEN_ATTEMPT,
    "REMOVALS_OFF": Cause.REMOVALS_OFF,
    "REMOVAL_LIMIT": Cause.REMOVAL_LIMIT,
    "RESTORES_HALTED": Cause.RESTORES_HALTED,
    "RESTORES_STOPPED": Cause.RESTORES_STOPPED,
    "GUARDRAILS_CHANGED": Cause.GUARDRAILS_CHANGED,
    "RETRIES_EXHAUSTED": Cause.RETRIES_EXHAUSTED,
}
#: The cause behind a failed call of an operator, by a part of the code: AWS's services spell these differently.
_CAUSES_BY_PART: Final[Mapping[str, Cause]] = {
    "AccessDenied": Cause.ACCESS_DENIED,
    "Expired": Cause.CREDENTIALS_EXPIRED,
    "InvalidClientTokenId": Cause.CREDENTIALS_INVALID,
    "UnrecognizedClient": Cause.CREDENTIALS_INVALID,
    "NoCredentials": Cause.CREDENTIALS_MISSING,
    "InvalidObjectState": Cause.ARCHIVED,
    "NoSuchKey": Cause.NOT_FOUND,
    "OverLimit": Cause.TOO_MANY_IN_FLIGHT,
    "UnsupportedOperation": Cause.UNSUPPORTED,
}

#: S3's codes for a version that is gone, and for a delete marker. Its answers to HEAD have no body, so that their HTTP
#: statuses are the codes.
S3_GONE: Final = frozenset({"NoSuchKey", "NoSuchVersion", "MethodNotAllowed", "404", "405"})
#: S3's statuses of HEAD for an object that is encrypted with another key, or that it does not describe to us at all.
S3_NOT_OURS: Final = frozenset({"400", "403"})
#: S3's codes for what the caller may not read.
S3_DENIED: Final = frozenset({"AccessDenied", "403"})
#: S3's codes for an object that the caller may not read, or that is encrypted with a key that the customer provides.
S3_UNREADABLE: Final = S3_DENIED | {"InvalidRequest"}
#: S3 puts KMS's codes behind this: of a key that is disabled, or gone.
S3_OF_KMS: Final = "KMS."
#: S3's code for an object that must be restored from an archive before it is read.
S3_ARCHIVED: Final = "InvalidObjectState"

#: Every error that a call through botocore can raise. botocore does not wrap an answer that is not text.
FAILURES: Final = (ClientError, BotoCoreError, ResponseParserError, UnicodeDecodeError)
#: What botocore's parsers raise for JSON of an unexpected shape.
_MISSHAPEN: Final = (AttributeError, KeyError, TypeError)
#: No answer from AWS: the connection failed, or the answer is corrupted.
_NO_ANSWER: Final = (HTTPClientError, ConnectionError, ResponseParserError, UnicodeDecodeError, *_MISSHAPEN)

#: The reason of a ConstraintViolationException if an account would carry no policy of a type any more.
_LAST_POLICY: Final = "MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED"
_SERVER_ERROR: Final = 500
#: The call was never sent.
_NOT_SENT: Final = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError)


def cause_of(code: str) -> Cause:
    """Return the cause behind the code of a dead letter."""
    return CAUSES.get(code, Cause.OTHER)


@contextmanager
def organizations_errors() -> Iterator[None]:
    """Translate errors of Organizations: some codes are transient, all others permanent."""
    try:
        yield
    except (*FAILURES, *_MISSHAPEN) as error:
        raise _translate(error) from error


@contextmanager
def service_errors(service: str) -> Iterator[None]:
    """Translate errors of the services that hold our queues and records: all of them are transient.

    They say nothing about the event, so its message is tried again until the cause is corrected. `soon` if there was
    no answer, or if the answer asks to try again.
    """
    try:
        yield
    except FAILURES as error:
        code = error_code(error)
        soon = isinstance(error, _NO_ANSWER) or code in _SOON or _status(error) >= _SERVER_ERROR
        why = fault(f"{service}.{code}", f"{service} call failed: {error}")
        raise RetryableError(why, soon=soon, cause=_call_cause(code)) from error


def error_code(error: Exception) -> str:
    """Return AWS's code of an error, or the name of its class."""
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code") or "Unknown"
    return type(error).__name__


def _call_cause(code: str) -> Cause:
    return next((cause for part, cause in _CAUSES_BY_PART.items() if part in code), Cause.OTHER)


def _status(error: Exception) -> int:
    """Return the HTTP status of AWS's answer; 0 if there was none."""
    if not isinstance(error, ClientError):
        return 0
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _translate(error: Exception) -> JoinguardError:
    code = error_code(error)
    cause = _call_cause(code)
    if not isinstance(error, ClientError):
        return _without_answer(error, code)
    message = error.response.get("Error", {}).get("Message") or "AWS gave no message"
    reason = error.response.get("Reason")
    if reason == _LAST_POLICY:
        cause = Cause.LAST_POLICY
    why = fault(code, message, str(reason) if reason else None)
    # If an answer has no code, botocore uses the HTTP status: a proxy answered instead of AWS.
    if code.isdecimal() or _status(error) >= _SERVER_ERROR:
        return RetryableError(why, soon=True, ambiguous=True)
    if code in _SOON:
        return RetryableError(why, soon=True, cause=cause)
    if code in _LATER:
        return RetryableError(why, cause=cause)
    if code in _NO_ACCOUNT:
        return AccountNotFoundError(why, cause=cause)
    return (NotYetEffectiveError if code in _NOT_YET_EFFECTIVE else PermanentError)(why, cause=cause)


def _without_answer(error: Exception, code: str) -> JoinguardError:
    why = fault(code, str(error))
    if isinstance(error, ParamValidationError):
        return PermanentError(why)
    if isinstance(error, _NOT_SENT):
        return RetryableError(why, soon=True)
    if isinstance(error, _NO_ANSWER):
        return RetryableError(why, soon=True, ambiguous=True)
    # Credentials, endpoints, settings: they say nothing about the event.
    return RetryableError(why, cause=_call_cause(code))
