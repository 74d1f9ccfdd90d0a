"""What a message means."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local.events import account_created, account_joined, handshake_accepted
from schemas.events import Join, NoJoin
from schemas.intake import MAX_BODY_BYTES, InvalidEventError, read_event

ACCOUNT, OTHER, MANAGEMENT, ORGANIZATION = "222222222222", "333333333333", "111111111111", "o-exampleorgid"
HANDSHAKE = "detail.responseElements.handshake"


def invited(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of an event
    return handshake_accepted(ACCOUNT, ORGANIZATION, MANAGEMENT, **changes)


def created(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of an event
    return account_created(ACCOUNT, MANAGEMENT, **changes)


def announced(**detail: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of an event
    event = account_joined(ACCOUNT, ORGANIZATION, MANAGEMENT)
    event["detail"] |= detail
    return event


def requested(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a message
    return {
        "source": "joinguard.operator",
        "event_id": "by-hand-1",
        "requested_at": "2026-11-24T12:00:00Z",
        "account_id": ACCOUNT,
        "organization_id": ORGANIZATION,
        "reason": "its event was lost",
    } | changes


def with_detail(event: dict[str, Any], **detail: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of an event
    return event | {"detail": event["detail"] | detail}


def resource(kind: str, value: str) -> dict[str, str]:
    return {"type": kind, "value": value}


def read(event: object) -> Join | NoJoin:
    return read_event(json.dumps(event))


BY_MAIL = {
    "parties": [{"type": "ORGANIZATION", "id": ORGANIZATION}, {"type": "EMAIL", "id": "a@example.com"}],
    "resources": [resource("ORGANIZATION", ORGANIZATION), resource("EMAIL", "a@example.com")],
}

JOINS = {
    "an invitation that was accepted": invited(),
    "the action in lower case, as AWS's older sample has it": invited(action="invite"),
    "another detail type: it differs between sources": invited() | {"detail-type": "Something New"},
    "an invitation by mail: only the caller names the account": invited(**BY_MAIL),
    "the account as a resource alone": invited(parties=[]),
    "the account as a party alone": invited(resources=[resource("ORGANIZATION", ORGANIZATION)]),
    "an account that was created": created(),
    "an account that joined, announced as a service event": announced(),
    "the same in the response": announced(serviceEventDetails=None, responseElements={"accountId": ACCOUNT}),
    "the same in the request": announced(serviceEventDetails=None, requestParameters={"accountId": ACCOUNT}),
    "the same, nested": announced(serviceEventDetails={"account": {"id": ACCOUNT}, "organizationId": ORGANIZATION}),
    "asked for by an operator": requested(),
    "asked for by the sweep": requested(source="joinguard.sweep"),
}


@pytest.mark.parametrize("event", JOINS.values(), ids=JOINS)
def test_a_join_is_seen_and_its_account_found(event: dict[str, Any]) -> None:
    found = read(event)

    assert isinstance(found, Join)
    assert found.account_id == ACCOUNT
    assert found.organization_id in {ORGANIZATION, None}


NO_JOINS = {
    "all features approved by the management account": (invited(action="APPROVE_ALL_FEATURES"), "APPROVE_ALL_FEATURES"),
    "all features enabled by a member": (invited(action="ENABLE_ALL_FEATURES"), "ENABLE_ALL_FEATURES"),
    "billing transferred": (invited(action="TRANSFER_RESPONSIBILITY"), "TRANSFER_RESPONSIBILITY"),
    "an invitation still open": (invited(state="OPEN"), "OPEN"),
    "an invitation declined": (invited(state="DECLINED"), "DECLINED"),
    "a creation that failed": (created(state="FAILED", accountId=None), "FAILED"),
    "a call that failed": (with_detail(invited(), errorCode="AccessDenied", responseElements=None), "AccessDenied"),
    "an account moved": (with_detail(invited(), eventName="MoveAccount"), "MoveAccount"),
    "an account gone": (with_detail(invited(), eventName="AccountDepartedOrganization"), "AccountDepartedOrganization"),
}


@pytest.mark.parametrize(("event", "reason"), NO_JOINS.values(), ids=NO_JOINS)
def test_what_is_no_join_says_why(event: dict[str, Any], reason: str) -> None:
    found = read(event)

    assert isinstance(found, NoJoin)
    assert reason in found.reason


REFUSED = {
    "two accounts in one handshake": (
        invited(resources=[resource("ACCOUNT", OTHER)]),
        f"{HANDSHAKE}.resources: name 2 different account ids",
    ),
    "two organizations in one handshake": (
        invited(resources=[resource("ACCOUNT", ACCOUNT), resource("ORGANIZATION", "o-someoneelse")]),
        "different organization ids",
    ),
    "two accounts announced": (
        announced(serviceEventDetails={"accountId": ACCOUNT, "joinedAccountId": OTHER}),
        "different account ids",
    ),
    "no account announced": (announced(serviceEventDetails={"joinedMethod": "INVITED"}), "carries no account id"),
    "the caller is never the account that is announced": (
        announced(serviceEventDetails={}, userIdentity={"accountId": ACCOUNT}),
        "carries no account id",
    ),
    "the management account is not the account that is announced": (
        announced(serviceEventDetails={"managementAccountId": MANAGEMENT}),
        "carries no account id",
    ),
    "an account id that is none": (created(accountId="12345"), "createAccountStatus.accountId: is not an account id"),
    "an account id in other digits": (created(accountId="٢٢٢٢٢٢٢٢٢٢٢٢"), "is not an account id"),
    "an account id as a number": (created(accountId=222222222222), "createAccountStatus.accountId"),
    "no handshake": (with_detail(invited(), responseElements=None), HANDSHAKE),
    "a handshake without action": (invited(action=None), f"{HANDSHAKE}.action"),
    "a creation without state": (created(state=None), "createAccountStatus.state"),
    "an event id that is no key": (with_detail(invited(), eventID="../../etc"), "detail.eventID"),
    "no event id": (with_detail(invited(), eventID=None), "detail.eventID"),
    "another service's record": (with_detail(invited(), eventSource="iam.amazonaws.com"), "detail.eventSource"),
    "another source": (invited() | {"source": "aws.iam"}, "source: must be one of aws.organizations"),
    "no source": ({"detail": {}}, "source"),
    "no detail": ({"source": "aws.organizations"}, "detail"),
    "no time": (with_detail(invited(), eventTime=None) | {"time": None}, "detail.eventTime"),
    "a time without zone": (with_detail(invited(), eventTime="2026-11-24T12:00:00"), "detail.eventTime"),
    "a list": ([1, 2], "body"),
    "a request with a field too many": (requested(policy="p-aaaaaaaa"), "policy"),
    "a request without a reason": (requested(reason=""), "reason"),
    "a request for no account": (requested(account_id="x"), "account_id"),
}


@pytest.mark.parametrize(("event", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_told_is_refused_with_the_place(event: object, says: str) -> None:
    with pytest.raises(InvalidEventError) as refused:
        read(event)

    assert says in str(refused.value)


def test_an_account_that_nobody_but_the_caller_names_is_taken_from_the_caller() -> None:
    event = with_detail(invited(**BY_MAIL), userIdentity={"accountId": OTHER})

    found = read(event)

    assert isinstance(found, Join)
    assert found.account_id == OTHER


def test_times_are_told_in_utc() -> None:
    found = read(with_detail(invited(), eventTime="2026-11-24T01:30:00+02:00"))

    assert found.event_time.isoformat() == "2026-11-23T23:30:00+00:00"


def test_a_body_that_no_queue_takes_is_refused() -> None:
    with pytest.raises(InvalidEventError, match="longer than"):
        read_event(b" " * (MAX_BODY_BYTES + 1))


def understood(body: str | bytes) -> None:
    """Read a body; let nothing out but the one error."""
    with suppress(InvalidEventError):
        assert isinstance(read_event(body), Join | NoJoin)


@settings(max_examples=300)
@given(st.binary() | st.text())
def test_no_bytes_and_no_text_raise_anything_else(body: str | bytes) -> None:
    understood(body)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([ACCOUNT, OTHER, ORGANIZATION]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path to everything inside a value."""
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(found for step, part in inner for found in paths(part, (*path, step)))]


@settings(max_examples=500)
@given(st.sampled_from([invited(), created(), announced(), requested()]), st.data())
def test_no_change_to_a_good_event_raises_anything_else(event: dict[str, Any], data: st.DataObject) -> None:
    changed = copy.deepcopy(event)
    path = data.draw(st.sampled_from([path for path in paths(event) if path]))
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    if data.draw(st.booleans()):
        place[path[-1]] = data.draw(json_values)
    else:
        del place[path[-1]]

    understood(json.dumps(changed))
