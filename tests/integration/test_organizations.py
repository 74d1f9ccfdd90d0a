"""The meaning of each answer of Organizations.

These tests use botocore's Stubber and hooks, because moto attaches a policy twice without an error, has no limits,
never throttles, and answers AccountNotFoundException where AWS answers TargetNotFoundException.
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
from handlers.core.errors import (
    AccountNotFoundError,
    Cause,
    JoinguardError,
    NotYetEffectiveError,
    PermanentError,
    RetryableError,
)
from handlers.core.guardrails.places import AttachedPolicy
from schemas.compiled_guardrails import SCP
from schemas.outcome import AttachmentResult
from tests.fakes import ACCOUNT, NOON, POLICIES
from tests.integration.conftest import URL, Hook, answers, fails

SOON, LATER, PERMANENT = "transient, over within seconds", "transient", "permanent"
UNKNOWN, NOT_YET = "unknown account", "permanent, unless it was changed seconds ago"

#: The meaning of each error that AWS models for the calls. The test below fails if AWS adds one.
MEANINGS = {
    "TooManyRequestsException": SOON,
    "ConcurrentModificationException": SOON,
    "PolicyChangesInProgressException": SOON,
    "ServiceException": SOON,
    "TargetNotFoundException": UNKNOWN,
    "AccountNotFoundException": UNKNOWN,
    "AccessDeniedException": NOT_YET,
    "AWSOrganizationsNotInUseException": PERMANENT,
    "PolicyNotFoundException": NOT_YET,
    "PolicyTypeNotEnabledException": PERMANENT,
    "UnsupportedAPIEndpointException": PERMANENT,
    "InvalidInputException": PERMANENT,
    "ConstraintViolationException": PERMANENT,
}
#: Errors that AWS returns although the model does not list them for these calls.
OTHERS = {
    "FinalizingOrganizationException": LATER,
    "ExpiredToken": LATER,
    "ExpiredTokenException": LATER,
    "RequestExpired": LATER,
    "RequestTimeTooSkewed": LATER,
    "UnrecognizedClientException": PERMANENT,
    "SomethingNew": PERMANENT,
}
#: The codes that botocore retries for any service, except those that belong to one other service.
TRANSIENT = {
    *ThrottledRetryableChecker._THROTTLED_ERROR_CODES,  # type: ignore[attr-defined]  # noqa: SLF001 - botocore has no public list
    *TransientRetryableChecker._TRANSIENT_ERROR_CODES,  # type: ignore[attr-defined]  # noqa: SLF001 - as above
} - {"ProvisionedThroughputExceededException", "EC2ThrottledException"}
ALL_CODES = MEANINGS | OTHERS | dict.fromkeys(sorted(TRANSIENT), SOON)


@pytest.fixture
def organizations(credentials: None) -> Any:  # noqa: ARG001 - used for its effect
    return client("organizations")


def counted(organizations: Any, hook: Hook) -> list[str]:
    """Send requests to a hook, and return the list of the operations that are sent."""
    sent: list[str] = []
    events = organizations.meta.events
    events.register_first("before-send", lambda event_name, **_: sent.append(event_name.rpartition(".")[2]))
    events.register("before-send", hook)
    return sent


def meaning(error: JoinguardError) -> str:
    if isinstance(error, RetryableError):
        return SOON if error.soon else LATER
    if isinstance(error, AccountNotFoundError):
        return UNKNOWN
    return NOT_YET if isinstance(error, NotYetEffectiveError) else PERMANENT


def modelled(operation: str) -> set[str]:
    service = botocore.session.get_session().get_service_model("organizations")
    return {shape.name for shape in service.operation_model(operation).error_shapes}


def test_every_error_that_aws_models_has_a_meaning() -> None:
    operations = ("AttachPolicy", "DetachPolicy", "DescribeAccount", "ListPoliciesForTarget")
    known = set[str]().union(*map(modelled, operations))

    assert known - {"DuplicatePolicyAttachmentException", "PolicyNotAttachedException"} == set(MEANINGS)


@pytest.mark.parametrize(("code", "expected"), ALL_CODES.items())
def test_an_errors_code_decides_its_meaning(organizations: Any, code: str, expected: str) -> None:
    api = OrganizationsApi(organizations)
    reason = {"Reason": "THE_REASON"} if code in {"InvalidInputException", "ConstraintViolationException"} else {}
    body = {"__type": code, "Message": f"about {ACCOUNT}"} | reason
    sent = counted(organizations, answers(400, json.dumps(body).encode()))
    for call in (
        lambda: api.attach(POLICIES[0], ACCOUNT),
        lambda: api.attached_policies(ACCOUNT, [SCP]),
        lambda: api.detach(POLICIES[0], ACCOUNT),
        lambda: api.membership(ACCOUNT),
    ):
        with pytest.raises(JoinguardError) as raised:
            call()

        assert meaning(raised.value) == expected
        assert (raised.value.fault.code, raised.value.fault.reason) == (code, reason.get("Reason"))
        assert raised.value.fault.message == "about [account]"
        assert getattr(raised.value, "ambiguous", False) is False

    assert sent == ["AttachPolicy", "ListPoliciesForTarget", "DetachPolicy", "DescribeAccount"], "botocore retried"


def test_an_error_without_a_message_gets_one(organizations: Any) -> None:
    counted(organizations, answers(400, b'{"__type": "PolicyNotFoundException"}'))

    with pytest.raises(PermanentError) as raised:
        OrganizationsApi(organizations).attach(POLICIES[0], ACCOUNT)

    assert raised.value.fault.code == "PolicyNotFoundException"
    assert raised.value.fault.message


def test_a_policy_that_is_already_attached_is_not_an_error(organizations: Any) -> None:
    api = OrganizationsApi(organizations)
    with Stubber(organizations) as stub:
        stub.add_client_error("attach_policy", "DuplicatePolicyAttachmentException")
        stub.add_response("attach_policy", {}, {"PolicyId": POLICIES[1], "TargetId": ACCOUNT})

        assert api.attach(POLICIES[0], ACCOUNT) is AttachmentResult.ALREADY_ATTACHED
        assert api.attach(POLICIES[1], ACCOUNT) is AttachmentResult.ATTACHED


def test_a_policy_that_is_not_attached_any_more_is_not_an_error(organizations: Any) -> None:
    api = OrganizationsApi(organizations)
    with Stubber(organizations) as stub:
        stub.add_client_error("detach_policy", "PolicyNotAttachedException")
        stub.add_response("detach_policy", {}, {"PolicyId": POLICIES[1], "TargetId": ACCOUNT})

        assert api.detach(POLICIES[0], ACCOUNT) is AttachmentResult.ALREADY_REMOVED
        assert api.detach(POLICIES[1], ACCOUNT) is AttachmentResult.REMOVED


@pytest.mark.usefixtures("credentials")
def test_the_last_policy_of_an_account_is_told_from_other_constraints() -> None:
    causes = []
    for reason in ("MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED", "ORGANIZATION_NOT_IN_ALL_FEATURES_MODE"):
        body = {"__type": "ConstraintViolationException", "Message": "x", "Reason": reason}
        api = OrganizationsApi(client("organizations"))
        counted(api._client, answers(400, json.dumps(body).encode()))  # noqa: SLF001 - the client of this test
        with pytest.raises(PermanentError) as raised:
            api.detach(POLICIES[0], ACCOUNT)
        causes.append(raised.value.cause)

    assert causes == [Cause.LAST_POLICY, Cause.OTHER]


def test_aws_says_since_when_an_account_is_a_member_and_which_policies_are_its_own(organizations: Any) -> None:
    api = OrganizationsApi(organizations)
    with Stubber(organizations) as stub:
        stub.add_response("describe_account", {"Account": {"JoinedTimestamp": NOON}}, {"AccountId": ACCOUNT})
        policies = [{"Id": "p-FullAWSAccess", "AwsManaged": True}, {"Id": POLICIES[0], "AwsManaged": False}]
        stub.add_response("list_policies_for_target", {"Policies": policies})

        assert api.membership(ACCOUNT).since == NOON
        assert [each.aws_managed for each in api.attached_policies(ACCOUNT, [SCP])] == [True, False]


@pytest.mark.parametrize("answer", [{"State": "SUSPENDED", "Status": "ACTIVE"}, {"Status": "SUSPENDED"}])
def test_the_state_of_a_member_counts_and_not_its_retired_status(organizations: Any, answer: dict[str, str]) -> None:
    with Stubber(organizations) as stub:
        stub.add_response("describe_account", {"Account": {"JoinedTimestamp": NOON} | answer}, {"AccountId": ACCOUNT})

        assert OrganizationsApi(organizations).membership(ACCOUNT).state == "SUSPENDED"


def test_an_account_without_the_time_of_its_join_is_asked_for_again(organizations: Any) -> None:
    counted(organizations, answers(200, b'{"Account": {}}'))

    with pytest.raises(RetryableError):
        OrganizationsApi(organizations).membership(ACCOUNT)


def test_an_empty_page_is_not_always_the_last_one(organizations: Any) -> None:
    request = {"TargetId": ACCOUNT, "Filter": "SERVICE_CONTROL_POLICY"}
    with Stubber(organizations) as stub:
        stub.add_response("list_policies_for_target", {"Policies": [], "NextToken": "more"}, request)
        second = {"Policies": [{"Id": POLICIES[0]}], "NextToken": "end"}
        stub.add_response("list_policies_for_target", second, request | {"NextToken": "more"})
        stub.add_response("list_policies_for_target", {"Policies": []}, request | {"NextToken": "end"})

        assert OrganizationsApi(organizations).attached_policies(ACCOUNT, [SCP]) == (AttachedPolicy(POLICIES[0], SCP),)
        stub.assert_no_pending_responses()


def test_a_repeated_page_token_is_transient(organizations: Any) -> None:
    sent = counted(organizations, answers(200, b'{"Policies": [], "NextToken": "again"}'))

    with pytest.raises(RetryableError):
        OrganizationsApi(organizations).attached_policies(ACCOUNT, [SCP])

    assert len(sent) == 2


def test_an_error_on_a_later_page_fails_the_whole_read(organizations: Any) -> None:
    with Stubber(organizations) as stub:
        stub.add_response("list_policies_for_target", {"Policies": [{"Id": POLICIES[0]}], "NextToken": "more"})
        stub.add_client_error("list_policies_for_target", "TooManyRequestsException")

        with pytest.raises(RetryableError):
            OrganizationsApi(organizations).attached_policies(ACCOUNT, [SCP])


AMBIGUOUS = {
    "a server error without a body": answers(500, b""),
    "a server error with an unknown code": answers(503, b'{"__type": "SomethingNew", "Message": "x"}'),
    "a server error with a permanent code": answers(500, b'{"__type": "AccessDeniedException"}'),
    "an answer that is not text": answers(500, b"\x00\xff"),
    "an answer that is a list": answers(500, b"[]"),
    "an answer that is null": answers(502, b"null"),
    "an answer that is a string": answers(400, b'"no"'),
    "a gateway's error page": answers(502, b"<html>bad gateway</html>"),
    "a gateway's throttle": answers(429, b"<html>slow down</html>"),
    "a gateway's timeout": answers(408, b""),
    "a gateway's refusal": answers(403, b"<html>forbidden</html>"),
    "a closed connection": fails(ConnectionClosedError(endpoint_url=URL)),
    "a read timeout": fails(ReadTimeoutError(endpoint_url=URL)),
    "a TLS error": fails(SSLError(endpoint_url=URL, error=OSError("bad record"))),
}


@pytest.mark.parametrize("hook", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_an_ambiguous_answer_is_transient_and_the_call_may_have_taken_effect(organizations: Any, hook: Hook) -> None:
    sent = counted(organizations, hook)

    with pytest.raises(RetryableError) as raised:
        OrganizationsApi(organizations).attach(POLICIES[0], ACCOUNT)

    assert (raised.value.soon, raised.value.ambiguous) == (True, True)
    assert sent == ["AttachPolicy"], "botocore retried"


NEVER_SENT = {
    "a refused connection": fails(EndpointConnectionError(endpoint_url=URL, error="refused")),
    "a connect timeout": fails(ConnectTimeoutError(endpoint_url=URL)),
    "a missing proxy": fails(ProxyConnectionError(proxy_url=URL)),
}


@pytest.mark.parametrize("hook", NEVER_SENT.values(), ids=NEVER_SENT)
def test_a_call_that_was_never_sent_is_transient_and_not_ambiguous(organizations: Any, hook: Hook) -> None:
    sent = counted(organizations, hook)

    with pytest.raises(RetryableError) as raised:
        OrganizationsApi(organizations).attach(POLICIES[0], ACCOUNT)

    assert (raised.value.soon, raised.value.ambiguous) == (True, False)
    assert sent == ["AttachPolicy"], "botocore retried"


MALFORMED = [b"", b"not json", b"\x00\xff", b"{}", b"null", b"[]"]
MALFORMED += [b'{"Policies": %s}' % inner for inner in (b"null", b'"x"', b"[null]", b"[{}]", b'["p-aaaaaaaa"]')]


@pytest.mark.parametrize("body", MALFORMED, ids=repr)
def test_a_malformed_answer_to_a_read_is_transient(organizations: Any, body: bytes) -> None:
    """It must never mean that the account has no policies, and must never raise an unexpected error."""
    sent = counted(organizations, answers(200, body))

    with pytest.raises(RetryableError):
        OrganizationsApi(organizations).attached_policies(ACCOUNT, [SCP])

    assert sent == ["ListPoliciesForTarget"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"Policies": null}'], ids=repr)
def test_an_answer_without_a_list_is_reported_as_such(organizations: Any, body: bytes) -> None:
    counted(organizations, answers(200, body))

    with pytest.raises(RetryableError, match="the answer lists no policies"):
        OrganizationsApi(organizations).attached_policies(ACCOUNT, [SCP])


def test_missing_credentials_are_transient(organizations: Any) -> None:
    counted(organizations, fails(NoCredentialsError()))

    with pytest.raises(RetryableError) as raised:
        OrganizationsApi(organizations).attach(POLICIES[0], ACCOUNT)

    assert (raised.value.soon, raised.value.ambiguous) == (False, False)


def test_a_call_with_invalid_parameters_is_permanent(organizations: Any) -> None:
    no_account: Any = None

    with pytest.raises(PermanentError, match="ParamValidationError"):
        OrganizationsApi(organizations).attach(POLICIES[0], no_account)
