"""Organizations: each of its answers means one thing.

Against botocore's Stubber and hooks: moto attaches twice without an error, knows no limit and never throttles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from botocore.stub import Stubber

from handlers.aws.clients import client
from handlers.aws.organizations import OrganizationsDirectory
from handlers.core.errors import AccountNotFoundError, JoinguardError, RetryableError
from schemas.outcome import AttachmentResult
from tests.fakes import ACCOUNT, POLICIES

URL = "https://organizations"
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
    "ThrottlingException": SOON,
    "RequestLimitExceeded": SOON,
    "ExpiredTokenException": LATER,
    "RequestExpired": LATER,
    "UnrecognizedClientException": LASTING,
    "SomethingNew": LASTING,
}


@pytest.fixture
def organizations(credentials: None, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401, ARG001 - boto3's own type
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    made = client("organizations")
    return boto3.Session().client("organizations", config=made.meta.config)


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


@pytest.mark.parametrize(("code", "means"), (MEANINGS | OTHERS).items())
def test_an_error_is_sorted_by_its_code(organizations: Any, code: str, means: str) -> None:  # noqa: ANN401 - boto3's own type
    directory = OrganizationsDirectory(organizations)
    reason = {"Reason": "THE_REASON"} if code in {"InvalidInputException", "ConstraintViolationException"} else {}
    calls: list[tuple[str, Callable[[], object]]] = [
        ("attach_policy", lambda: directory.attach(POLICIES[0], ACCOUNT)),
        ("list_policies_for_target", lambda: directory.attached_policies(ACCOUNT)),
    ]
    for operation, call in calls:
        with Stubber(organizations) as stub:
            stub.add_client_error(operation, code, f"about {ACCOUNT}", modeled_fields=reason)
            with pytest.raises(JoinguardError) as raised:
                call()

        assert meaning(raised.value) == means
        assert (raised.value.fault.code, raised.value.fault.reason) == (code, reason.get("Reason"))
        assert ACCOUNT not in raised.value.fault.message


def test_a_policy_that_is_there_already_is_no_error(organizations: Any) -> None:  # noqa: ANN401 - boto3's own type
    directory = OrganizationsDirectory(organizations)
    with Stubber(organizations) as stub:
        stub.add_client_error("attach_policy", "DuplicatePolicyAttachmentException")
        stub.add_response("attach_policy", {}, {"PolicyId": POLICIES[1], "TargetId": ACCOUNT})

        assert directory.attach(POLICIES[0], ACCOUNT) is AttachmentResult.ALREADY_ATTACHED
        assert directory.attach(POLICIES[1], ACCOUNT) is AttachmentResult.ATTACHED


def test_an_empty_page_may_have_a_successor(organizations: Any) -> None:  # noqa: ANN401 - boto3's own type
    asked = {"TargetId": ACCOUNT, "Filter": "SERVICE_CONTROL_POLICY"}
    with Stubber(organizations) as stub:
        stub.add_response("list_policies_for_target", {"Policies": [], "NextToken": "more"}, asked)
        second = {"Policies": [{"Id": POLICIES[0]}], "NextToken": "end"}
        stub.add_response("list_policies_for_target", second, asked | {"NextToken": "more"})
        stub.add_response("list_policies_for_target", {"Policies": []}, asked | {"NextToken": "end"})

        assert OrganizationsDirectory(organizations).attached_policies(ACCOUNT) == {POLICIES[0]}
        stub.assert_no_pending_responses()


def answer(status: int, body: bytes) -> AWSResponse:
    class Raw:
        def stream(self) -> Iterator[bytes]:
            yield body

    return AWSResponse(URL, status, HTTPHeaders(), Raw())


def broken(status: int, body: bytes) -> Callable[..., AWSResponse]:
    return lambda **_: answer(status, body)


def failing(error: Exception) -> Callable[..., None]:
    def fail(**_: object) -> None:
        raise error

    return fail


UNCLEAR = {
    "a server error without a body": broken(500, b""),
    "a server error of some kind": broken(503, b'{"__type": "SomethingNew", "Message": "x"}'),
    "an answer that is no text": broken(500, b"\x00\xff"),
    "a gateway's page": broken(502, b"<html>bad gateway</html>"),
    "an answer that is cut off": failing(ConnectionClosedError(endpoint_url=URL)),
    "an answer that takes too long": failing(ReadTimeoutError(endpoint_url=URL)),
}


@pytest.mark.parametrize("hook", UNCLEAR.values(), ids=UNCLEAR)
def test_no_clear_answer_is_passing_and_may_have_taken_effect(organizations: Any, hook: Callable[..., Any]) -> None:  # noqa: ANN401 - boto3's own type
    sent: list[None] = []
    organizations.meta.events.register_first("before-send.organizations", lambda **_: sent.append(None))
    organizations.meta.events.register_last("before-send.organizations", hook)

    with pytest.raises(RetryableError) as raised:
        OrganizationsDirectory(organizations).attach(POLICIES[0], ACCOUNT)

    assert (raised.value.soon, raised.value.unclear) == (True, True)
    assert len(sent) == 1, "botocore tried again by itself"


NEVER_SENT = {
    "a connection that cannot be made": failing(EndpointConnectionError(endpoint_url=URL, error="refused")),
    "a connection that takes too long": failing(ConnectTimeoutError(endpoint_url=URL)),
}


@pytest.mark.parametrize("hook", NEVER_SENT.values(), ids=NEVER_SENT)
def test_what_was_never_sent_is_passing_and_clear(organizations: Any, hook: Callable[..., Any]) -> None:  # noqa: ANN401 - boto3's own type
    organizations.meta.events.register("before-send.organizations", hook)

    with pytest.raises(RetryableError) as raised:
        OrganizationsDirectory(organizations).attach(POLICIES[0], ACCOUNT)

    assert (raised.value.soon, raised.value.unclear) == (True, False)


def test_a_garbled_answer_to_a_question_is_passing(organizations: Any) -> None:  # noqa: ANN401 - boto3's own type
    organizations.meta.events.register("before-send.organizations", broken(200, b"not json"))

    with pytest.raises(RetryableError):
        OrganizationsDirectory(organizations).attached_policies(ACCOUNT)


def test_botocore_tries_no_throttle_again_by_itself(organizations: Any) -> None:  # noqa: ANN401 - boto3's own type
    sent: list[None] = []

    def throttle(**_: object) -> AWSResponse:
        sent.append(None)
        return answer(400, b'{"__type": "TooManyRequestsException", "Message": "slow down"}')

    organizations.meta.events.register("before-send.organizations", throttle)
    with pytest.raises(RetryableError) as raised:
        OrganizationsDirectory(organizations).attach(POLICIES[0], ACCOUNT)

    assert raised.value.unclear is False
    assert len(sent) == 1


def test_missing_credentials_say_nothing_about_the_event(organizations: Any) -> None:  # noqa: ANN401 - boto3's own type
    organizations.meta.events.register("before-send.organizations", failing(NoCredentialsError()))

    with pytest.raises(RetryableError) as raised:
        OrganizationsDirectory(organizations).attach(POLICIES[0], ACCOUNT)

    assert raised.value.soon is False
