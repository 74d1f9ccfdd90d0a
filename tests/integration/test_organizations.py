"""Organizations: each of its answers means one thing.

Against botocore's Stubber and hooks: moto attaches twice without an error, knows no limit, never throttles, and
calls an unknown account AccountNotFoundException where AWS says TargetNotFoundException.
"""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker
from botocore.stub import Stubber

from handlers.aws.clients import client
from handlers.aws.organizations import OrganizationsApi
from handlers.core.errors import AccountNotFoundError, JoinguardError, PermanentError, RetryableError
from schemas.outcome import AttachmentResult
from tests.fakes import ACCOUNT, POLICIES
from tests.integration.conftest import URL, Hook, answers, fails

SOON, LATER, LASTING, UNKNOWN = "passing within seconds", "passing", "lasting", "lasting, but not while young"

#: What each error that AWS models for the two calls means to us. A new one makes the test below fail.
MEANINGS = {
    "TooManyRequestsException": SOON,
    "ConcurrentModificationException": SOON,
    "PolicyChangesInProgressException": SOON,
    "ServiceException": SOON,
    "TargetNotFoundException": UNKNOWN,
    "AccessDeniedException": LASTING,
    "AWSOrganizationsNotInUseException": LASTING,
    "PolicyNotFoundException": LASTING,
    "PolicyTypeNotEnabledException": LASTING,
    "UnsupportedAPIEndpointException": LASTING,
    "InvalidInputException": LASTING,
    "ConstraintViolationException": LASTING,
}
#: Not modelled for these calls, and seen all the same.
OTHERS = {
    "FinalizingOrganizationException": LATER,
    "ExpiredToken": LATER,
    "ExpiredTokenException": LATER,
    "RequestExpired": LATER,
    "RequestTimeTooSkewed": LATER,
    "UnrecognizedClientException": LASTING,
    "SomethingNew": LASTING,
}
#: What botocore holds for throttles and passing troubles of any service, but for those that name another one.
PASSING = {
    *ThrottledRetryableChecker._THROTTLED_ERROR_CODES,  # type: ignore[attr-defined]  # noqa: SLF001 - told nowhere else
    *TransientRetryableChecker._TRANSIENT_ERROR_CODES,  # type: ignore[attr-defined]  # noqa: SLF001 - as above
} - {"ProvisionedThroughputExceededException", "EC2ThrottledException"}
SORTED = MEANINGS | OTHERS | dict.fromkeys(sorted(PASSING), SOON)


@pytest.fixture
def organizations(credentials: None) -> Any:  # noqa: ARG001 - boto3's own type; needed for its effect
    return client("organizations")


def counted(organizations: Any, hook: Hook) -> list[str]:
    """Let requests go to a hook, and return the list of those that are sent."""
    sent: list[str] = []
    events = organizations.meta.events
    events.register_first("before-send", lambda event_name, **_: sent.append(event_name.rpartition(".")[2]))
    events.register("before-send", hook)
    return sent


def meaning(error: JoinguardError) -> str:
    if isinstance(error, RetryableError):
        return SOON if error.soon else LATER
    return UNKNOWN if isinstance(error, AccountNotFoundError) else LASTING


def modelled(operation: str) -> set[str]:
    service = botocore.session.get_session().get_service_model("organizations")
    return {shape.name for shape in service.operation_model(operation).error_shapes}


def test_every_error_that_aws_models_has_a_meaning() -> None:
    known = modelled("AttachPolicy") | modelled("ListPoliciesForTarget")

    assert known - {"DuplicatePolicyAttachmentException"} == set(MEANINGS)


@pytest.mark.parametrize(("code", "means"), SORTED.items())
def test_an_error_is_sorted_by_its_code(organizations: Any, code: str, means: str) -> None:
    api = OrganizationsApi(organizations)
    reason = {"Reason": "THE_REASON"} if code in {"InvalidInputException", "ConstraintViolationException"} else {}
    body = {"__type": code, "Message": f"about {ACCOUNT}"} | reason
    sent = counted(organizations, answers(400, json.dumps(body).encode()))
    for call in (
        lambda: api.attach(POLICIES[0], ACCOUNT),
        lambda: api.attached_policies(ACCOUNT),
    ):
        with pytest.raises(JoinguardError) as raised:
            call()

        assert meaning(raised.value) == means
        assert (raised.value.fault.code, raised.value.fault.reason) == (code, reason.get("Reason"))
        assert raised.value.fault.message == "about [account]"
        assert getattr(raised.value, "ambiguous", False) is False

    assert sent == ["AttachPolicy", "ListPoliciesForTarget"], "botocore tried again by itself"


def test_an_error_without_a_message_still_says_something(organizations: Any) -> None:
    counted(organizations, answers(400, b'{"__type": "PolicyNotFoundException"}'))

    with pytest.raises(PermanentError) as raised:
        OrganizationsApi(organizations).attach(POLICIES[0], ACCOUNT)

    assert raised.value.fault.code == "PolicyNotFoundException"
    assert raised.value.fault.message


def test_a_policy_that_is_there_already_is_no_error(organizations: Any) -> None:
    api = OrganizationsApi(organizations)
    with Stubber(organizations) as stub:
        stub.add_client_error("attach_policy", "DuplicatePolicyAttachmentException")
        stub.add_response("attach_policy", {}, {"PolicyId": POLICIES[1], "TargetId": ACCOUNT})

        assert api.attach(POLICIES[0], ACCOUNT) is AttachmentResult.ALREADY_ATTACHED
        assert api.attach(POLICIES[1], ACCOUNT) is AttachmentResult.ATTACHED


def test_an_empty_page_may_have_a_successor(organizations: Any) -> None:
    asked = {"TargetId": ACCOUNT, "Filter": "SERVICE_CONTROL_POLICY"}
    with Stubber(organizations) as stub:
        stub.add_response("list_policies_for_target", {"Policies": [], "NextToken": "more"}, asked)
        second = {"Policies": [{"Id": POLICIES[0]}], "NextToken": "end"}
        stub.add_response("list_policies_for_target", second, asked | {"NextToken": "more"})
        stub.add_response("list_policies_for_target", {"Policies": []}, asked | {"NextToken": "end"})

        assert OrganizationsApi(organizations).attached_policies(ACCOUNT) == {POLICIES[0]}
        stub.assert_no_pending_responses()


def test_pages_that_go_round_in_circles_are_passing(organizations: Any) -> None:
    sent = counted(organizations, answers(200, b'{"Policies": [], "NextToken": "again"}'))

    with pytest.raises(RetryableError):
        OrganizationsApi(organizations).attached_policies(ACCOUNT)

    assert len(sent) == 2


def test_a_later_page_that_fails_hides_no_policy(organizations: Any) -> None:
    with Stubber(organizations) as stub:
        stub.add_response("list_policies_for_target", {"Policies": [{"Id": POLICIES[0]}], "NextToken": "more"})
        stub.add_client_error("list_policies_for_target", "TooManyRequestsException")

        with pytest.raises(RetryableError):
            OrganizationsApi(organizations).attached_policies(ACCOUNT)


UNCLEAR = {
    "a server error without a body": answers(500, b""),
    "a server error of some kind": answers(503, b'{"__type": "SomethingNew", "Message": "x"}'),
    "a server error of a kind that else is lasting": answers(500, b'{"__type": "AccessDeniedException"}'),
    "an answer that is no text": answers(500, b"\x00\xff"),
    "an answer that is a list": answers(500, b"[]"),
    "an answer that is nothing": answers(502, b"null"),
    "an answer that is a line": answers(400, b'"no"'),
    "a gateway's page": answers(502, b"<html>bad gateway</html>"),
    "a gateway that is busy": answers(429, b"<html>slow down</html>"),
    "a gateway that gave up": answers(408, b""),
    "a gateway that refuses": answers(403, b"<html>forbidden</html>"),
    "an answer that is cut off": fails(ConnectionClosedError(endpoint_url=URL)),
    "an answer that takes too long": fails(ReadTimeoutError(endpoint_url=URL)),
    "a connection that breaks its cipher": fails(SSLError(endpoint_url=URL, error=OSError("bad record"))),
}


@pytest.mark.parametrize("hook", UNCLEAR.values(), ids=UNCLEAR)
def test_no_clear_answer_is_passing_and_may_have_taken_effect(organizations: Any, hook: Hook) -> None:
    sent = counted(organizations, hook)

    with pytest.raises(RetryableError) as raised:
        OrganizationsApi(organizations).attach(POLICIES[0], ACCOUNT)

    assert (raised.value.soon, raised.value.ambiguous) == (True, True)
    assert sent == ["AttachPolicy"], "botocore tried again by itself"


NEVER_SENT = {
    "a connection that cannot be made": fails(EndpointConnectionError(endpoint_url=URL, error="refused")),
    "a connection that takes too long": fails(ConnectTimeoutError(endpoint_url=URL)),
    "a proxy that is not there": fails(ProxyConnectionError(proxy_url=URL)),
}


@pytest.mark.parametrize("hook", NEVER_SENT.values(), ids=NEVER_SENT)
def test_what_was_never_sent_is_passing_and_clear(organizations: Any, hook: Hook) -> None:
    sent = counted(organizations, hook)

    with pytest.raises(RetryableError) as raised:
        OrganizationsApi(organizations).attach(POLICIES[0], ACCOUNT)

    assert (raised.value.soon, raised.value.ambiguous) == (True, False)
    assert sent == ["AttachPolicy"], "botocore tried again by itself"


GARBLED = [b"", b"not json", b"\x00\xff", b"{}", b"null", b"[]"]
GARBLED += [b'{"Policies": %s}' % inner for inner in (b"null", b'"x"', b"[null]", b"[{}]", b'["p-aaaaaaaa"]')]


@pytest.mark.parametrize("body", GARBLED, ids=repr)
def test_a_garbled_answer_to_a_question_is_passing(organizations: Any, body: bytes) -> None:
    """It must never be read as "carries nothing", nor as an error that nobody expects."""
    sent = counted(organizations, answers(200, body))

    with pytest.raises(RetryableError):
        OrganizationsApi(organizations).attached_policies(ACCOUNT)

    assert sent == ["ListPoliciesForTarget"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"Policies": null}'], ids=repr)
def test_an_answer_without_a_list_is_called_that(organizations: Any, body: bytes) -> None:
    counted(organizations, answers(200, body))

    with pytest.raises(RetryableError, match="the answer lists no policies"):
        OrganizationsApi(organizations).attached_policies(ACCOUNT)


def test_missing_credentials_say_nothing_about_the_event(organizations: Any) -> None:
    counted(organizations, fails(NoCredentialsError()))

    with pytest.raises(RetryableError) as raised:
        OrganizationsApi(organizations).attach(POLICIES[0], ACCOUNT)

    assert (raised.value.soon, raised.value.ambiguous) == (False, False)


def test_a_call_that_botocore_refuses_to_make_is_lasting(organizations: Any) -> None:
    nobody: Any = None

    with pytest.raises(PermanentError, match="ParamValidationError"):
        OrganizationsApi(organizations).attach(POLICIES[0], nobody)
