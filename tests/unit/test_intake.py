"""What a message means."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import KNOWN_EVENT_NAMES, Join, NoJoin
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
    created,
    invited,
    json_values,
    paths,
    read,
    requested,
    resource,
    twice,
    with_detail,
    without,
)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

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
    "masked in the resources, named by the parties": invited(
        resources=[resource("ORGANIZATION", ORGANIZATION), resource("ACCOUNT", "****")]
    ),
    "hidden everywhere but by the caller": invited(
        resources=[resource("ACCOUNT", "HIDDEN_DUE_TO_SECURITY_REASONS"), resource("ORGANIZATION", "****")],
        parties=[{"type": "ACCOUNT", "id": ""}, {"type": "ACCOUNT", "id": None}, {"type": "ACCOUNT"}],
    ),
    "an unreadable caller": with_detail(invited(), userIdentity="root"),
    "resources of no kind": invited(resources=[{"value": OTHER}, "ACCOUNT", None, {"type": 7, "value": OTHER}, []]),
    "resources that are no list": invited(resources={"type": "ACCOUNT", "value": OTHER}),
    "a resource whose value is an object": invited(resources=[resource("ACCOUNT", {"id": OTHER})]),
    "half a surrogate where it does not matter": with_detail(invited(), userAgent="\ud83d"),
    "fields of other kinds": with_detail(
        invited(), eventVersion=[], requestParameters="x", serviceEventDetails=7, additionalEventData=[None]
    ),
    "an empty error code": with_detail(invited(), errorCode=""),
    "a GovCloud pair: the account of this organization": created(govCloudAccountId=OTHER),
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
    "an action that is unknown, which is not repeated": (invited(action=f"FOR {ACCOUNT}"), "action is unknown"),
    "a state that is unknown, which is not repeated": (invited(state=f"FOR {ACCOUNT}"), "state is unknown"),
    "a creation that ended otherwise": (created(state=f"FOR {ACCOUNT}"), "creation is unknown"),
    "an error that is unknown": (with_detail(invited(), errorCode=f"E{ACCOUNT}"), "unknown error"),
    "an error as CloudTrail writes others": (
        with_detail(invited(), errorCode="ConcurrentModificationException", responseElements=None),
        "the API call failed: ConcurrentModificationException",
    ),
    "an event that is unknown, whose name is not repeated": (
        with_detail(invited(), eventName=f"Event{ACCOUNT}"),
        "an unknown event does not report a join",
    ),
    "an account moved": (with_detail(invited(), eventName="MoveAccount"), "MoveAccount"),
    "an account gone": (with_detail(invited(), eventName="AccountDepartedOrganization"), "AccountDepartedOrganization"),
}


@pytest.mark.parametrize(("event", "reason"), NO_JOINS.values(), ids=NO_JOINS)
def test_what_is_no_join_says_why(event: dict[str, Any], reason: str) -> None:
    found = read(event)

    assert isinstance(found, NoJoin)
    assert reason in found.reason
    assert ACCOUNT not in found.reason


REFUSED = {
    "two accounts in one handshake": (
        invited(resources=[resource("ACCOUNT", OTHER)]),
        f"{HANDSHAKE}.resources: must not name 2 different account ids",
    ),
    "two organizations in one handshake": (
        invited(resources=[resource("ACCOUNT", ACCOUNT), resource("ORGANIZATION", "o-someoneelse")]),
        "different organization ids",
    ),
    "an account id with a digit too few": (
        invited(resources=[resource("ACCOUNT", "22222222222")]),
        f"{HANDSHAKE}.resources: must be an account id: a string of 12 digits",
    ),
    "another account in the caller": (
        with_detail(invited(), userIdentity={"accountId": OTHER}),
        "detail.userIdentity.accountId: must not name 2 different account ids",
    ),
    "an organization id that is none": (
        invited(resources=[resource("ORGANIZATION", "o-short")]),
        f"{HANDSHAKE}.resources: must be an organization id: o- and 10 to 32",
    ),
    "no account in a handshake": (
        with_detail(invited(parties=[], resources=[]), userIdentity=None),
        "detail.userIdentity.accountId: must hold an account id",
    ),
    "only the account of the other cloud": (
        created(accountId=None, govCloudAccountId=OTHER),
        "createAccountStatus.accountId: must be an account id",
    ),
    "an account id that is none": (created(accountId="12345"), "createAccountStatus.accountId: must be an account id"),
    "an account id in other digits": (created(accountId="٢٢٢٢٢٢٢٢٢٢٢٢"), "must be an account id"),
    "an account id as a number": (created(accountId=222222222222), "createAccountStatus.accountId"),
    "no handshake": (with_detail(invited(), responseElements=None), HANDSHAKE),
    "a handshake without action": (invited(action=None), f"{HANDSHAKE}.action"),
    "a creation without state": (created(state=None), "createAccountStatus.state"),
    "an event id that is no key": (with_detail(invited(), eventID="../../etc"), "detail.eventID"),
    "an error code that is none": (
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
    "an endless event name": (with_detail(invited(), eventName="x" * 257), "detail.eventName"),
    "a source in a list": (invited() | {"source": ["aws.organizations"]}, "source: must be one of"),
    "a detail that is none": (invited() | {"detail": 7}, "detail: must be a JSON object"),
    "a list": ([1, 2], "body"),
    "a request with a field too many": (
        requested(policy="p-aaaaaaaa"),
        "must not have fields other than source, event_id",
    ),
    "a request without a reason": (requested(reason=""), "reason"),
    "a request with a reason that is a number": (requested(reason=7), "reason"),
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


def test_a_body_that_no_queue_takes_is_refused() -> None:
    with pytest.raises(InvalidEventError, match="longer than"):
        read_event(b" " * (MAX_BODY_BYTES + 1))


def decides(event: Event) -> list[Path]:
    """Return the paths to what decides: on the way to it no key may be there twice."""
    record: list[Path] = [("eventName",), ("eventID",), ("eventSource",)]
    name = event.get("detail", {}).get("eventName")
    if name == "AcceptHandshake":
        handshake = [path for path in paths(event["detail"]["responseElements"]) if path[:1] == ("handshake",)]
        telling = {"handshake", "action", "state", "parties", "resources", "type", "value", "id"}
        record += [("responseElements",), ("userIdentity",), ("userIdentity", "accountId")]
        # The handshake's own id is none that is asked for; of parties and resources all is.
        record += [("responseElements", *path) for path in handshake if path[-1] in telling and path[1:] != ("id",)]
    elif name == "CreateAccountResult":
        status = ("serviceEventDetails", "createAccountStatus")
        record += [status[:1], status, (*status, "state"), (*status, "accountId")]
    elif name == "AccountJoinedOrganization":
        details = ("serviceEventDetails",)
        record += [details, (*details, "accountId"), (*details, "organizationId"), ("recipientAccountId",)]
    else:
        return [path for path in paths(event) if path]
    envelope = [("source",), ("detail",), *([("account",)] if name == "AccountJoinedOrganization" else [])]
    return [*envelope, *(("detail", *path) for path in record)]


GOOD = {"invited": invited(), "created": created(), "announced": announced(), "requested": requested()}
DECIDING = {
    f"{name}: {'.'.join(map(str, path))}": (event, path) for name, event in GOOD.items() for path in decides(event)
}


@pytest.mark.parametrize(("event", "path"), DECIDING.values(), ids=DECIDING)
def test_what_decides_must_not_be_there_twice(event: Event, path: Path) -> None:
    own = at(event, path)
    second = {ACCOUNT: OTHER, ORGANIZATION: "o-someoneelse"}.get(own, own) if isinstance(own, str) else own

    with pytest.raises(InvalidEventError, match="more than once") as refused:
        read_event(twice(event, path, second))

    assert str(path[-1]) in str(refused.value)


@pytest.mark.parametrize("number", ["1" * 5000, "1e999999", "-0.0", "NaN", "-Infinity"])
def test_a_number_that_decides_nothing_may_be_any(number: str) -> None:
    found = read_event(json.dumps(invited()).replace('"1.11"', number))

    assert isinstance(found, Join)


def test_an_error_code_must_not_be_there_twice() -> None:
    with pytest.raises(InvalidEventError, match=r"detail\.errorCode: must not appear more than once"):
        read_event(twice(with_detail(invited(), errorCode=None), ("detail", "errorCode"), "AccessDenied"))


def timed(event_time: object, time: object = None) -> Event:
    return with_detail(invited(), eventTime=event_time) | {"time": time}


TIMES = {
    "the event's own": (timed("2026-11-24T11:59:00Z", "2026-11-24T11:00:00Z"), "2026-11-24T11:59:00", "event"),
    "in another zone": (timed("2026-11-24T13:30:00.25+02:00"), "2026-11-24T11:30:00.250000", "event"),
    "the envelope's": (timed(None, "2026-11-24T11:00:00Z"), "2026-11-24T11:00:00", "envelope"),
    "without zone": (timed("2026-11-24T11:59:00", "2026-11-24T11:00:00Z"), "2026-11-24T11:00:00", "envelope"),
    "none at all": (timed(None), "2026-11-24T12:00:00", "queue"),
    "seconds": (timed(1795608000), "2026-11-24T12:00:00", "queue"),
    "seconds as a text": (timed("1795608000"), "2026-11-24T12:00:00", "queue"),
    "a day that is read as seconds": (timed("20261124"), "2026-11-24T12:00:00", "queue"),
    "a day that is none": (timed("2026-02-30T12:00:00Z"), "2026-11-24T12:00:00", "queue"),
    "before the calendar": (timed("0001-01-01T00:00:00+23:59"), "2026-11-24T12:00:00", "queue"),
    "a list": (timed(["2026-11-24T11:59:00Z"]), "2026-11-24T12:00:00", "queue"),
    "a little ahead": (timed("2026-11-24T12:15:00Z"), "2026-11-24T12:15:00", "event"),
    "far ahead": (timed("2026-11-24T12:15:01Z"), "2026-11-24T12:00:00", "queue"),
    "ten years ahead": (timed("2036-11-24T12:00:00Z", "2026-11-24T12:00:00Z"), "2026-11-24T12:00:00", "queue"),
    "as old as a redriven message may be": (timed("2026-09-25T12:00:00Z"), "2026-09-25T12:00:00", "event"),
    "too old to be true": (timed("2026-09-25T11:59:59Z"), "2026-11-24T12:00:00", "queue"),
    "a request from the future": (requested(requested_at="2036-11-24T12:00:00Z"), "2026-11-24T12:00:00", "queue"),
}


@pytest.mark.parametrize(("event", "time", "told_by"), TIMES.values(), ids=TIMES)
def test_a_time_that_cannot_be_is_when_sqs_took_the_message(event: Event, time: str, told_by: str) -> None:
    found = read_event(json.dumps(event), sent_at=NOON)

    assert found.event_time.isoformat() == f"{time}+00:00"
    assert found.event_time_from == told_by
    assert isinstance(found, Join)


def test_a_time_that_is_there_twice_is_none() -> None:
    found = read_event(twice(invited(), ("detail", "eventTime"), "2026-11-24T12:00:00Z"))

    assert found.event_time_from == "envelope"


def test_without_any_time_an_event_is_refused() -> None:
    with pytest.raises(InvalidEventError, match=r"detail\.eventTime"):
        read(timed("20261124", 7))


@pytest.mark.parametrize("moment", ["20261125", "1795608000", 1795608001, "2026-11-25", "2026-W48-3T00:00:00Z", "soon"])
def test_a_request_tells_its_time_in_one_form(moment: object) -> None:
    with pytest.raises(InvalidEventError, match=r"requested_at: .*RFC 3339"):
        read(requested(requested_at=moment))


def understood(body: str | bytes) -> Join | NoJoin | None:
    """Read a body; let nothing out but the one error, and in that nothing that is long."""
    with suppress(InvalidEventError):
        found = read_event(body, management_account_id=MANAGEMENT, sent_at=NOON)
        assert isinstance(found, Join | NoJoin)
        return found
    return None


@settings(max_examples=300)
@given(st.binary() | st.text(st.characters(codec=None)))
def test_no_bytes_and_no_text_raise_anything_else(body: str | bytes) -> None:
    understood(body)


@settings(max_examples=300)
@given(json_values)
def test_no_json_raises_anything_else(value: object) -> None:
    understood(json.dumps(value))
    understood(json.dumps(value, ensure_ascii=False))


MONSTERS = {
    "deep lists": "[" * 1_000_000,
    "deep objects": '{"a":' * 170_000,
    "deep, and closed": "[" * 50_000 + "]" * 50_000,
    "deep inside an event": json.dumps(invited()).replace('"1.11"', "[" * 5000 + "]" * 5000),
    "a number without end": "1" * 1_000_000,
    "no number": "NaN",
    "a text without end": '"' + '\\"' * 300_000,
    "nothing but quotes": '"' * 1_000_000,
    "nothing": "",
    "half a surrogate": "\ud800",
    "octets that are no text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("body", MONSTERS.values(), ids=MONSTERS)
def test_a_monster_is_refused_like_anything_else(body: str | bytes) -> None:
    with pytest.raises(InvalidEventError) as refused:
        read_event(body)

    assert len(str(refused.value)) <= 1000


def test_no_record_has_that_many_values() -> None:
    with pytest.raises(InvalidEventError, match="has more than 20000 values"):
        read(announced(serviceEventDetails={"accountId": ACCOUNT} | {f"key{n}": n for n in range(20_000)}))


@settings(max_examples=500)
@given(st.sampled_from(list(GOOD.values())), st.data())
def test_no_change_to_a_good_event_raises_anything_else(event: Event, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([path for path in paths(event) if path]))
    new = changed(event, path, data.draw(json_values)) if data.draw(st.booleans()) else without(event, path)

    understood(json.dumps(new))


FREE = [
    (event, path)
    for event in (invited(), created(), announced())
    for path in paths(event)
    if path and isinstance(path[-1], str) and path not in decides(event)
]


@settings(max_examples=500)
@given(st.sampled_from(FREE), json_values, st.sampled_from(["changed", "without", "twice"]))
def test_what_decides_nothing_may_be_anything(place: tuple[Event, Path], value: object, how: str) -> None:
    event, path = place
    texts = {
        "changed": lambda: json.dumps(changed(event, path, value)),
        "without": lambda: json.dumps(without(event, path)),
        "twice": lambda: twice(event, path, value),
    }

    found = read_event(texts[how](), sent_at=NOON)

    assert isinstance(found, Join)
    assert (found.account_id, found.source) == (ACCOUNT, "aws.organizations")


@settings(max_examples=300)
@given(st.sampled_from(list(GOOD.values())), st.data())
def test_an_error_says_nothing_of_what_the_message_says(event: Event, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([path for path in paths(event) if path]))
    secret = data.draw(st.sampled_from(["Xq7secret", "999988887777"]))

    for value in (secret, {secret: secret}, [secret], f"{secret}-{secret}"):
        assert secret not in said(changed(event, path, value))


def said(event: Event) -> str:
    """Return what we say ourselves of an event."""
    try:
        found = read(event)
    except InvalidEventError as error:
        return str(error)
    return found.reason if isinstance(found, NoJoin) else ""


def test_the_names_that_are_known_are_names() -> None:
    assert all(re.fullmatch("[A-Za-z]{1,64}", name) for name in KNOWN_EVENT_NAMES)
    assert {"AcceptHandshake", "AccountJoinedOrganization", "CreateAccountResult", "JoinRequest"} <= KNOWN_EVENT_NAMES


HALF_MASKED = ("********2222", "XXXXXXXX2222", "########2222")


@pytest.mark.parametrize("masked", HALF_MASKED)
def test_an_id_that_is_half_masked_is_none_and_another_place_decides(masked: str) -> None:
    handshake = invited(resources=[resource("ORGANIZATION", "o-**********"), resource("ACCOUNT", masked)])

    found = read(handshake)

    assert isinstance(found, Join)
    assert found.account_id == ACCOUNT


@pytest.mark.parametrize("caller", ["********2222", "22222222222", 222222222222, "\ud83d1", {}])
def test_who_accepted_decides_nothing_where_the_handshake_names_the_account(caller: object) -> None:
    found = read(with_detail(invited(), userIdentity={"accountId": caller}))

    assert isinstance(found, Join)
    assert found.account_id == ACCOUNT
