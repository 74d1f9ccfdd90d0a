"""How a message is read: as a join, as an event that is not a join, or as invalid."""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import events
from schemas.events import KNOWN_EVENT_NAMES, Cause, Departure, DepartureCause, Join, NoJoin, PolicyChange, Rehearsal
from schemas.intake import MAX_BODY_BYTES, InvalidEventError, read_event
from tests.messages import (
    ACCOUNT,
    HANDSHAKE,
    MANAGEMENT,
    ORGANIZATION,
    OTHER,
    Event,
    Path,
    announced,
    at,
    changed,
    closed,
    created,
    deleted,
    departed,
    detached,
    disabled,
    found_missing,
    invited,
    json_values,
    left,
    moved,
    paths,
    read,
    removed,
    requested,
    resource,
    tagged,
    twice,
    untagged,
    updated,
    with_detail,
    without,
)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

BY_EMAIL = {
    "parties": [{"type": "ORGANIZATION", "id": ORGANIZATION}, {"type": "EMAIL", "id": "a@example.com"}],
    "resources": [resource("ORGANIZATION", ORGANIZATION), resource("EMAIL", "a@example.com")],
}

JOINS = {
    "an accepted invitation": invited(),
    "the action in lower case, as in an older sample of AWS": invited(action="invite"),
    "another detail type": invited() | {"detail-type": "Something New"},
    "an invitation by email: only the caller has the account id": invited(**BY_EMAIL),
    "the account among the resources only": invited(parties=[]),
    "the account among the parties only": invited(resources=[resource("ORGANIZATION", ORGANIZATION)]),
    "a created account": created(),
    "a service event about an account that joined": announced(),
    "the same in the response": announced(serviceEventDetails=None, responseElements={"accountId": ACCOUNT}),
    "the same in the request": announced(serviceEventDetails=None, requestParameters={"accountId": ACCOUNT}),
    "the same, nested": announced(serviceEventDetails={"account": {"id": ACCOUNT}, "organizationId": ORGANIZATION}),
    "masked in the resources, readable in the parties": invited(
        resources=[resource("ORGANIZATION", ORGANIZATION), resource("ACCOUNT", "****")]
    ),
    "masked everywhere except in the caller": invited(
        resources=[resource("ACCOUNT", "HIDDEN_DUE_TO_SECURITY_REASONS"), resource("ORGANIZATION", "****")],
        parties=[{"type": "ACCOUNT", "id": ""}, {"type": "ACCOUNT", "id": None}, {"type": "ACCOUNT"}],
    ),
    "an unreadable caller": with_detail(invited(), userIdentity="root"),
    "resources of unknown types": invited(
        resources=[{"value": OTHER}, "ACCOUNT", None, {"type": 7, "value": OTHER}, []]
    ),
    "resources that are not a list": invited(resources={"type": "ACCOUNT", "value": OTHER}),
    "a resource whose value is an object": invited(resources=[resource("ACCOUNT", {"id": OTHER})]),
    "half a surrogate in an unused field": with_detail(invited(), userAgent="\ud83d"),
    "unused fields of other types": with_detail(
        invited(), eventVersion=[], requestParameters="x", serviceEventDetails=7, additionalEventData=[None]
    ),
    "an empty error code": with_detail(invited(), errorCode=""),
    "an account with a GovCloud account": created(govCloudAccountId=OTHER),
    "requested by an operator": requested(),
    "requested by the sweep": requested(source="joinguard.sweep"),
    "a moved account": moved(),
    "tags of an account": tagged(),
    "removed tags of an account": untagged(),
    "a call of somebody whose account is not readable": with_detail(moved(), userIdentity=None, sourceIPAddress=OTHER),
    "a call of a member": with_detail(moved(), userIdentity={"accountId": OTHER}, recipientAccountId=OTHER),
}


@pytest.mark.parametrize("event", JOINS.values(), ids=JOINS)
def test_a_join_is_recognized_and_its_account_found(event: dict[str, Any]) -> None:
    found = read(event)

    assert isinstance(found, Join)
    assert found.account_id == ACCOUNT
    assert found.organization_id in {ORGANIZATION, None}


CAUSES: dict[str, tuple[Event, Cause]] = {
    "an accepted invitation": (invited(), "joined"),
    "a created account": (created(), "joined"),
    "an announced join": (announced(), "joined"),
    "a moved account": (moved(), "moved"),
    "a detached policy": (detached(), "detached"),
    "tags": (tagged(), "tagged"),
    "removed tags": (untagged(), "tagged"),
    "a request": (requested(), "requested"),
}


@pytest.mark.parametrize(("event", "cause"), CAUSES.values(), ids=CAUSES)
def test_an_account_to_evaluate_has_a_cause(event: Event, cause: Cause) -> None:
    found = read(event)

    assert isinstance(found, Join)
    assert found.cause == cause


def test_a_delegated_administrator_that_tags_its_own_account_is_not_the_management_account() -> None:
    """Its event is on its own bus, so the event names no other account than this member."""
    event = with_detail(tagged(), recipientAccountId=ACCOUNT, userIdentity={"accountId": ACCOUNT})

    found = read_event(json.dumps(event | {"account": ACCOUNT}), management_account_id=MANAGEMENT)

    assert isinstance(found, Join)


DEPARTURES: dict[str, tuple[Event, DepartureCause]] = {
    "an announced departure": (departed(), "removed"),
    "an account that left by itself": (departed(departureMethod="Left"), "left"),
    "the end of a closed account, in an older spelling": (
        departed(departureMethod=None, departedMethod="CLEANED"),
        "cleaned",
    ),
    "an unknown way": (departed(departureMethod=f"BY {OTHER}"), "departed"),
    "a way that is not a text": (departed(departureMethod=[7]), "departed"),
    "no way at all": (with_detail(departed(), serviceEventDetails={"departedAccountId": ACCOUNT}), "departed"),
    "a transfer to another organization": (
        departed(destinationOrganizationId="o-someoneelse", destinationAccountId=OTHER),
        "removed",
    ),
    "a removal": (removed(), "removed"),
    "the account's own call": (left(), "left"),
    "the account's own call, with its own record": (with_detail(left(), recipientAccountId=ACCOUNT), "left"),
    "a closure": (closed(), "closed"),
    "what the sweep finds": (found_missing(), "missing"),
}


@pytest.mark.parametrize(("event", "cause"), DEPARTURES.values(), ids=DEPARTURES)
def test_a_departure_names_the_account_and_how_it_left(event: Event, cause: DepartureCause) -> None:
    found = read_event(json.dumps(event), management_account_id=MANAGEMENT)

    assert isinstance(found, Departure)
    assert found.account_id == ACCOUNT
    assert found.cause == cause
    assert found.organization_id in {ORGANIZATION, None}


def test_every_event_of_a_departure_is_known_by_its_name() -> None:
    """Records are told from those of joins by these names."""
    names = {read(event).event_name for event, _ in DEPARTURES.values()}

    assert names == events.DEPARTURES


NOT_JOINS = {
    "all features approved by the management account": (invited(action="APPROVE_ALL_FEATURES"), "APPROVE_ALL_FEATURES"),
    "all features enabled by a member": (invited(action="ENABLE_ALL_FEATURES"), "ENABLE_ALL_FEATURES"),
    "billing transferred": (invited(action="TRANSFER_RESPONSIBILITY"), "TRANSFER_RESPONSIBILITY"),
    "an open invitation": (invited(state="OPEN"), "OPEN"),
    "a declined invitation": (invited(state="DECLINED"), "DECLINED"),
    "a failed creation": (created(state="FAILED", accountId=None), "FAILED"),
    "a failed call": (with_detail(invited(), errorCode="AccessDenied", responseElements=None), "AccessDenied"),
    "an unknown action, which is not quoted": (invited(action=f"FOR {ACCOUNT}"), "action is unknown"),
    "an unknown state, which is not quoted": (invited(state=f"FOR {ACCOUNT}"), "state is unknown"),
    "an unknown result of a creation": (created(state=f"FOR {ACCOUNT}"), "creation is unknown"),
    "an unknown error, which is not quoted": (with_detail(invited(), errorCode=f"E{ACCOUNT}"), "unknown error"),
    "an error of a failed call": (
        with_detail(invited(), errorCode="ConcurrentModificationException", responseElements=None),
        "the API call failed: ConcurrentModificationException",
    ),
    "an unknown event, whose name is not quoted": (
        with_detail(invited(), eventName=f"Event{ACCOUNT}"),
        "an unknown event reports nothing that accounts or their policies depend on",
    ),
    "our own event's name in an event of AWS": (
        with_detail(invited(), eventName="JoinRequest"),
        "JoinRequest reports nothing",
    ),
    "the management account is moved": (moved(accountId=MANAGEMENT), "about the management account"),
    "the management account is tagged": (tagged(resourceId=MANAGEMENT), "about the management account"),
    "tags of an OU": (tagged(resourceId="ou-exam-12345678"), "the tags are those of an OU, not of an account"),
    "tags of the root": (untagged(resourceId="r-exam"), "those of the root"),
    "tags of a policy": (tagged(resourceId="p-aaaaaaaa"), "those of a policy"),
    "tags of the resource policy": (tagged(resourceId="rp-aaaaaaaa"), "those of the resource policy"),
    "tags of a billing transfer": (untagged(resourceId="rt-aaaaaaaa"), "those of a responsibility transfer"),
    "tags of an unknown resource, which is not quoted": (
        tagged(resourceId="secret-1"),
        "those of another resource",
    ),
    "a move that failed": (
        with_detail(moved(), errorCode="DestinationParentNotFoundException"),
        "the API call failed: DestinationParentNotFoundException",
    ),
    "tags that were refused, of nothing": (
        with_detail(tagged(resourceId=None), errorCode="TargetNotFound"),
        "the API call failed: TargetNotFound",
    ),
    "a request to close an account": (with_detail(removed(), eventName="CloseAccount"), "CloseAccount reports nothing"),
    "a removal that failed": (with_detail(removed(), errorCode="AccountNotFoundException"), "AccountNotFoundException"),
    "the management account of a deleted organization": (departed(accountId=MANAGEMENT), "organization is deleted"),
    "the management account that wants to leave": (
        with_detail(left(), userIdentity={"accountId": MANAGEMENT}),
        "which cannot leave",
    ),
    "a closure in progress": (closed(state="IN_PROGRESS"), "closure is IN_PROGRESS, not SUCCEEDED"),
    "an unknown state of a closure, which is not quoted": (closed(state=f"FOR {ACCOUNT}"), "closure is unknown"),
}


@pytest.mark.parametrize(("event", "reason"), NOT_JOINS.values(), ids=NOT_JOINS)
def test_an_event_after_which_no_account_is_evaluated_has_a_reason(event: dict[str, Any], reason: str) -> None:
    found = read_event(json.dumps(event), management_account_id=MANAGEMENT)

    assert isinstance(found, NoJoin)
    assert reason in found.reason
    assert not re.search("[0-9]{12}|secret", found.reason)


INVALID = {
    "two accounts in one handshake": (
        invited(resources=[resource("ACCOUNT", OTHER)]),
        f"{HANDSHAKE}.resources: must not name 2 different account ids",
    ),
    "two organizations in one handshake": (
        invited(resources=[resource("ACCOUNT", ACCOUNT), resource("ORGANIZATION", "o-someoneelse")]),
        "different organization ids",
    ),
    "an account id with eleven digits": (
        invited(resources=[resource("ACCOUNT", "22222222222")]),
        f"{HANDSHAKE}.resources: must be an account id: a string of 12 digits",
    ),
    "another account in the caller": (
        with_detail(invited(), userIdentity={"accountId": OTHER}),
        "detail.userIdentity.accountId: must not name 2 different account ids",
    ),
    "an invalid organization id": (
        invited(resources=[resource("ORGANIZATION", "o-short")]),
        f"{HANDSHAKE}.resources: must be an organization id: o- and 10 to 32",
    ),
    "no account in a handshake": (
        with_detail(invited(parties=[], resources=[]), userIdentity=None),
        "detail.userIdentity.accountId: must hold an account id",
    ),
    "only a GovCloud account": (
        created(accountId=None, govCloudAccountId=OTHER),
        "createAccountStatus.accountId: must be an account id",
    ),
    "an invalid account id": (created(accountId="12345"), "createAccountStatus.accountId: must be an account id"),
    "an account id in other digits": (created(accountId="٢٢٢٢٢٢٢٢٢٢٢٢"), "must be an account id"),
    "an account id as a number": (created(accountId=222222222222), "createAccountStatus.accountId"),
    "a move without parameters": (
        with_detail(moved(), requestParameters=None),
        "detail.requestParameters.accountId: must be an account id: a string of 12 digits",
    ),
    "a move of nothing": (moved(accountId=None), "detail.requestParameters.accountId: must be an account id"),
    "a move of a number": (moved(accountId=222222222222), "detail.requestParameters.accountId"),
    "a move of a hidden account": (moved(accountId="****"), "detail.requestParameters.accountId"),
    "a move of an OU": (moved(accountId="ou-exam-12345678"), "detail.requestParameters.accountId"),
    "a move of several accounts": (moved(accountId=[ACCOUNT, OTHER]), "detail.requestParameters.accountId"),
    "a move that names the account elsewhere": (
        with_detail(moved(accountId=None), serviceEventDetails={"accountId": ACCOUNT}),
        "detail.requestParameters.accountId",
    ),
    "tags of nothing": (
        tagged(resourceId=None),
        "detail.requestParameters.resourceId: must be an account id: a string of 12 digits, or the id of another",
    ),
    "tags of an account with dashes": (tagged(resourceId="2222-2222-2222"), "requestParameters.resourceId: must be an"),
    "tags of thirteen digits": (untagged(resourceId=f"{ACCOUNT}2"), "requestParameters.resourceId: must be an account"),
    "tags of an account and a line": (tagged(resourceId=f"{ACCOUNT}\n"), "requestParameters.resourceId: must be an"),
    "tags of an ARN": (tagged(resourceId=f"arn:aws:organizations::{MANAGEMENT}:account/x/{ACCOUNT}"), "resourceId"),
    "tags of an object": (untagged(resourceId={"accountId": ACCOUNT}), "detail.requestParameters.resourceId: must be"),
    "no handshake": (with_detail(invited(), responseElements=None), HANDSHAKE),
    "a handshake without action": (invited(action=None), f"{HANDSHAKE}.action"),
    "a creation without state": (created(state=None), "createAccountStatus.state"),
    "an event id that cannot be part of a key": (with_detail(invited(), eventID="../../etc"), "detail.eventID"),
    "an error code that is an object": (
        with_detail(invited(), errorCode={"code": "x"}),
        "detail.errorCode: must be a non-empty string",
    ),
    "an error code that is a number": (
        with_detail(invited(), errorCode=404),
        "detail.errorCode: must be a non-empty string",
    ),
    "no event id": (with_detail(invited(), eventID=None), "detail.eventID"),
    "another service's record": (with_detail(invited(), eventSource="iam.amazonaws.com"), "detail.eventSource"),
    "another source": (invited() | {"source": "aws.iam"}, "source: must be one of aws.organizations"),
    "no source": ({"detail": {}}, "source"),
    "no detail": ({"source": "aws.organizations"}, "detail"),
    "no time": (with_detail(invited(), eventTime=None) | {"time": None}, "detail.eventTime"),
    "an event id that is a number": (with_detail(invited(), eventID=7), "detail.eventID"),
    "an event name in half a surrogate": (with_detail(invited(), eventName="\ud800"), "detail.eventName"),
    "an event name that is too long": (with_detail(invited(), eventName="x" * 257), "detail.eventName"),
    "a source that is a list": (invited() | {"source": ["aws.organizations"]}, "source: must be one of"),
    "a detail that is a number": (invited() | {"detail": 7}, "detail: must be a JSON object"),
    "a list": ([1, 2], "body"),
    "a departure of two accounts": (
        with_detail(departed(), responseElements={"accountId": OTHER}),
        "must not name 2 different account ids",
    ),
    "a departure of the management account and another one": (
        departed(accountId=MANAGEMENT, note=ACCOUNT),
        "must not name both the management account and another one",
    ),
    "a departure that only names where the account went": (
        with_detail(departed(), serviceEventDetails={"destinationAccountId": OTHER}),
        "must hold an account id other than",
    ),
    "a removal of nothing": (
        with_detail(removed(), requestParameters={}),
        "detail.requestParameters.accountId: must be",
    ),
    "a caller that leaves and is not readable": (
        with_detail(left(), userIdentity={"accountId": "****"}, recipientAccountId=ACCOUNT),
        "detail.userIdentity.accountId: must be an account id: a string of 12 digits",
    ),
    "a closure without a state": (closed(state=None), "closeAccountStatus.state: must be a non-empty string"),
    "a closure of nothing": (closed(accountId=None), "closeAccountStatus.accountId: must be an account id"),
    "a report of a departure with a field of another request": (
        found_missing(changed_parent="r-exam"),
        "must not have fields other than",
    ),
    "a request with an unknown field": (requested(policy="p-aaaaaaaa"), "must not have fields other than"),
    "a request without a reason": (requested(reason=""), "reason"),
    "a request with a reason that is a number": (requested(reason=7), "reason"),
    "a request with an invalid account id": (requested(account_id="x"), "account_id"),
}


@pytest.mark.parametrize(("event", "message"), INVALID.values(), ids=INVALID)
def test_an_invalid_event_is_rejected_with_the_path(event: object, message: str) -> None:
    with pytest.raises(InvalidEventError) as error:
        read(event)

    assert message in str(error.value)


def test_an_account_id_that_only_the_caller_has_is_taken_from_the_caller() -> None:
    event = with_detail(invited(**BY_EMAIL), userIdentity={"accountId": OTHER})

    found = read(event)

    assert isinstance(found, Join)
    assert found.account_id == OTHER


def test_a_body_larger_than_a_queue_accepts_is_rejected() -> None:
    with pytest.raises(InvalidEventError, match="longer than"):
        read_event(b" " * (MAX_BODY_BYTES + 1))


#: The parameter that names the account.
PARAMETER = {
    "MoveAccount": "accountId",
    "RemoveAccountFromOrganization": "accountId",
    "TagResource": "resourceId",
    "UntagResource": "resourceId",
    "DeletePolicy": "policyId",
    "DisablePolicyType": "policyType",
    "UpdatePolicy": "policyId",
}
ANNOUNCEMENTS = {"AccountJoinedOrganization", "AccountDepartedOrganization"}


def deciding_paths(event: Event) -> list[Path]:
    """Return the paths of the fields that decide how an event is read; none of these keys may be duplicate."""
    record: list[Path] = [("eventName",), ("eventID",), ("eventSource",)]
    name = event.get("detail", {}).get("eventName")
    if name == "AcceptHandshake":
        handshake = [path for path in paths(event["detail"]["responseElements"]) if path[:1] == ("handshake",)]
        keys = {"handshake", "action", "state", "parties", "resources", "type", "value", "id"}
        record += [("responseElements",), ("userIdentity",), ("userIdentity", "accountId")]
        # The handshake's own id is not used; all fields of parties and resources are.
        record += [("responseElements", *path) for path in handshake if path[-1] in keys and path[1:] != ("id",)]
    elif name in {"CreateAccountResult", "CloseAccountResult"}:
        what = "createAccountStatus" if name == "CreateAccountResult" else "closeAccountStatus"
        status = ("serviceEventDetails", what)
        record += [status[:1], status, (*status, "state"), (*status, "accountId")]
    elif name in PARAMETER:
        record += [("requestParameters",), ("requestParameters", PARAMETER[name])]
    elif name == "DetachPolicy":
        record += [("requestParameters",), ("requestParameters", "policyId"), ("requestParameters", "targetId")]
    elif name == "LeaveOrganization":
        record += [("userIdentity",), ("userIdentity", "accountId")]
    elif name in ANNOUNCEMENTS:
        details = ("serviceEventDetails",)
        record += [details, (*details, "accountId"), (*details, "organizationId"), ("recipientAccountId",)]
    else:
        return [path for path in paths(event) if path]
    envelope = [("source",), ("detail",), *([("account",)] if name in ANNOUNCEMENTS else [])]
    return [*envelope, *(("detail", *path) for path in record)]


VALID = {
    "invited": invited(),
    "created": created(),
    "announced": announced(),
    "requested": requested(),
    "moved": moved(),
    "tagged": tagged(),
    "untagged": untagged(),
    "departed": departed(),
    "removed": removed(),
    "left": left(),
    "closed": closed(),
    "detached": detached(),
    "updated": updated(),
    "deleted": deleted(),
    "disabled": disabled(),
    "found missing": found_missing(),
}
DECIDING = {
    f"{name}: {'.'.join(map(str, path))}": (event, path)
    for name, event in VALID.items()
    for path in deciding_paths(event)
}


@pytest.mark.parametrize(("event", "path"), DECIDING.values(), ids=DECIDING)
def test_a_deciding_key_must_not_be_duplicate(event: Event, path: Path) -> None:
    own = at(event, path)
    second = {ACCOUNT: OTHER, ORGANIZATION: "o-someoneelse"}.get(own, own) if isinstance(own, str) else own

    with pytest.raises(InvalidEventError, match="more than once") as error:
        read_event(twice(event, path, second))

    assert str(path[-1]) in str(error.value)


@pytest.mark.parametrize("number", ["1" * 5000, "1e999999", "-0.0", "NaN", "-Infinity"])
def test_a_number_in_an_unused_field_may_have_any_value(number: str) -> None:
    found = read_event(json.dumps(invited()).replace('"1.11"', number))

    assert isinstance(found, Join)


def test_the_error_code_must_not_be_duplicate() -> None:
    with pytest.raises(InvalidEventError, match=r"detail\.errorCode: must not appear more than once"):
        read_event(twice(with_detail(invited(), errorCode=None), ("detail", "errorCode"), "AccessDenied"))


def timed(event_time: object, time: object = None) -> Event:
    return with_detail(invited(), eventTime=event_time) | {"time": time}


TIMES = {
    "the event's time": (timed("2026-11-24T11:59:00Z", "2026-11-24T11:00:00Z"), "2026-11-24T11:59:00", "event"),
    "another zone": (timed("2026-11-24T13:30:00.25+02:00"), "2026-11-24T11:30:00.250000", "event"),
    "the envelope's time": (timed(None, "2026-11-24T11:00:00Z"), "2026-11-24T11:00:00", "envelope"),
    "no zone": (timed("2026-11-24T11:59:00", "2026-11-24T11:00:00Z"), "2026-11-24T11:00:00", "envelope"),
    "no time": (timed(None), "2026-11-24T12:00:00", "queue"),
    "seconds": (timed(1795608000), "2026-11-24T12:00:00", "queue"),
    "seconds as a string": (timed("1795608000"), "2026-11-24T12:00:00", "queue"),
    "a date without separators": (timed("20261124"), "2026-11-24T12:00:00", "queue"),
    "an impossible date": (timed("2026-02-30T12:00:00Z"), "2026-11-24T12:00:00", "queue"),
    "before the calendar": (timed("0001-01-01T00:00:00+23:59"), "2026-11-24T12:00:00", "queue"),
    "a list": (timed(["2026-11-24T11:59:00Z"]), "2026-11-24T12:00:00", "queue"),
    "a little ahead": (timed("2026-11-24T12:15:00Z"), "2026-11-24T12:15:00", "event"),
    "far ahead": (timed("2026-11-24T12:15:01Z"), "2026-11-24T12:00:00", "queue"),
    "ten years ahead": (timed("2036-11-24T12:00:00Z", "2026-11-24T12:00:00Z"), "2026-11-24T12:00:00", "queue"),
    "the age limit of a redriven message": (timed("2026-09-25T12:00:00Z"), "2026-09-25T12:00:00", "event"),
    "older than the limit": (timed("2026-09-25T11:59:59Z"), "2026-11-24T12:00:00", "queue"),
    "a request from the future": (requested(requested_at="2036-11-24T12:00:00Z"), "2026-11-24T12:00:00", "queue"),
}


@pytest.mark.parametrize(("event", "time", "source"), TIMES.values(), ids=TIMES)
def test_an_impossible_time_is_replaced_by_when_sqs_accepted_the_message(event: Event, time: str, source: str) -> None:
    found = read_event(json.dumps(event), sent_at=NOON)

    assert found.event_time.isoformat() == f"{time}+00:00"
    assert found.event_time_from == source
    assert isinstance(found, Join)


def test_a_duplicate_event_time_is_not_used() -> None:
    found = read_event(twice(invited(), ("detail", "eventTime"), "2026-11-24T12:00:00Z"))

    assert found.event_time_from == "envelope"


def test_an_event_without_any_time_is_rejected() -> None:
    with pytest.raises(InvalidEventError, match=r"detail\.eventTime"):
        read(timed("20261124", 7))


@pytest.mark.parametrize("moment", ["20261125", "1795608000", 1795608001, "2026-11-25", "2026-W48-3T00:00:00Z", "soon"])
def test_the_time_of_a_request_must_be_in_rfc_3339_form(moment: object) -> None:
    with pytest.raises(InvalidEventError, match=r"requested_at: .*RFC 3339"):
        read(requested(requested_at=moment))


def read_or_reject(body: str | bytes) -> None:
    """Read a body; InvalidEventError is the only error allowed."""
    with suppress(InvalidEventError):
        found = read_event(body, management_account_id=MANAGEMENT, sent_at=NOON)
        assert isinstance(found, events.Received)


@settings(max_examples=300)
@given(st.binary() | st.text(st.characters(codec=None)))
def test_no_bytes_and_no_text_raise_another_error(body: str | bytes) -> None:
    read_or_reject(body)


@settings(max_examples=300)
@given(json_values)
def test_no_json_raises_another_error(value: object) -> None:
    read_or_reject(json.dumps(value))
    read_or_reject(json.dumps(value, ensure_ascii=False))


EXTREME = {
    "deep lists": "[" * 1_000_000,
    "deep objects": '{"a":' * 170_000,
    "deep lists that close": "[" * 50_000 + "]" * 50_000,
    "deep lists in an event": json.dumps(invited()).replace('"1.11"', "[" * 5000 + "]" * 5000),
    "a long number": "1" * 1_000_000,
    "NaN": "NaN",
    "a string that does not end": '"' + '\\"' * 300_000,
    "quotes": '"' * 1_000_000,
    "an empty body": "",
    "half a surrogate": "\ud800",
    "bytes that are not UTF-8": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("body", EXTREME.values(), ids=EXTREME)
def test_an_extreme_body_is_rejected_with_a_short_message(body: str | bytes) -> None:
    with pytest.raises(InvalidEventError) as error:
        read_event(body)

    assert len(str(error.value)) <= 1000


def test_a_body_is_rejected_if_the_callers_stack_leaves_no_room_to_read_it() -> None:
    body = json.dumps(invited())

    def read_below(frames: int) -> str:
        """Read the body this many frames deeper; return the error."""
        if frames:
            return read_below(frames - 1)
        try:
            read_event(body)
        except InvalidEventError as error:
            return str(error)
        return ""

    found = set()
    for frames in range(sys.getrecursionlimit()):
        try:
            found.add(read_below(frames))
        except RecursionError:
            break

    assert found == {"", "body: is nested too deeply"}


def test_a_record_with_too_many_values_is_rejected() -> None:
    with pytest.raises(InvalidEventError, match="has more than 20000 values"):
        read(announced(serviceEventDetails={"accountId": ACCOUNT} | {f"key{n}": n for n in range(20_000)}))


@settings(max_examples=500)
@given(st.sampled_from(list(VALID.values())), st.data())
def test_no_change_to_a_valid_event_raises_another_error(event: Event, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([path for path in paths(event) if path]))
    new = changed(event, path, data.draw(json_values)) if data.draw(st.booleans()) else without(event, path)

    read_or_reject(json.dumps(new))


UNUSED = [
    (event, path)
    for event in VALID.values()
    if "detail" in event
    for path in paths(event)
    if path and isinstance(path[-1], str) and path not in deciding_paths(event)
]


@settings(max_examples=500)
@given(st.sampled_from(UNUSED), json_values, st.sampled_from(["changed", "without", "twice"]))
def test_an_unused_field_may_have_any_value(field: tuple[Event, Path], value: object, how: str) -> None:
    event, path = field
    texts = {
        "changed": lambda: json.dumps(changed(event, path, value)),
        "without": lambda: json.dumps(without(event, path)),
        "twice": lambda: twice(event, path, value),
    }

    found = read_event(texts[how](), sent_at=NOON)

    assert not isinstance(found, NoJoin | Rehearsal)
    assert found.source == "aws.organizations"
    assert isinstance(found, PolicyChange) or found.account_id == ACCOUNT


@settings(max_examples=300)
@given(st.sampled_from(list(VALID.values())), st.data())
def test_no_error_message_quotes_the_event(event: Event, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([path for path in paths(event) if path]))
    secret = data.draw(st.sampled_from(["Xq7secret", "999988887777"]))

    for value in (secret, {secret: secret}, [secret], f"{secret}-{secret}"):
        assert secret not in reason_of(changed(event, path, value))


def reason_of(event: Event) -> str:
    """Return the error or the reason that reading an event gives."""
    try:
        found = read(event)
    except InvalidEventError as error:
        return str(error)
    return found.reason if isinstance(found, NoJoin) else ""


def test_the_known_event_names_are_well_formed() -> None:
    assert all(re.fullmatch("[A-Za-z]{1,64}", name) for name in KNOWN_EVENT_NAMES)
    assert {"AcceptHandshake", "AccountJoinedOrganization", "CreateAccountResult", "JoinRequest"} <= KNOWN_EVENT_NAMES


HALF_MASKED = ("********2222", "XXXXXXXX2222", "########2222")


@pytest.mark.parametrize("masked", HALF_MASKED)
def test_a_half_masked_id_is_ignored_and_another_field_decides(masked: str) -> None:
    handshake = invited(resources=[resource("ORGANIZATION", "o-**********"), resource("ACCOUNT", masked)])

    found = read(handshake)

    assert isinstance(found, Join)
    assert found.account_id == ACCOUNT


@pytest.mark.parametrize("caller", ["********2222", "22222222222", 222222222222, "\ud83d1", {}])
def test_the_caller_is_ignored_if_the_handshake_has_the_account_id(caller: object) -> None:
    found = read(with_detail(invited(), userIdentity={"accountId": caller}))

    assert isinstance(found, Join)
    assert found.account_id == ACCOUNT
