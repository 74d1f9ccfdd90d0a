"""Which account joined, by an `AccountJoinedOrganization` of whatever layout."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.events import Join, NoJoin
from schemas.intake import InvalidEventError, read_event
from tests.messages import ACCOUNT, MANAGEMENT, ORGANIZATION, OTHER, Event, announced, read, twice

DETAILS = "detail.serviceEventDetails"


def arn(account_id: str) -> str:
    return f"arn:aws:organizations::{MANAGEMENT}:account/{ORGANIZATION}/{account_id}"


def details(**told: Any) -> Event:
    return announced(serviceEventDetails=told)


LAYOUTS = {
    "in the details": details(accountId=ACCOUNT, organizationId=ORGANIZATION),
    "in the response": announced(serviceEventDetails=None, responseElements={"accountId": ACCOUNT}),
    "in the request": announced(serviceEventDetails=None, requestParameters={"accountId": ACCOUNT}),
    "with a prefix": details(joinedAccountId=ACCOUNT),
    "as a member": details(memberAccountId=ACCOUNT),
    "in other capitals": details(AccountID=ACCOUNT),
    "with underscores": details(account_id=ACCOUNT),
    "as an object": details(account={"id": ACCOUNT, "name": "Production 2"}),
    "as the value itself": details(account=ACCOUNT),
    "nested": details(joined={"member": {"accountId": ACCOUNT}}),
    "in a list": details(accounts=[{"accountId": ACCOUNT}]),
    "as a number": details(accountId=int(ACCOUNT)),
    "under a name that says nothing": details(joiner=ACCOUNT),
    "as a number under a name that says nothing": details(joiner=int(ACCOUNT)),
    "in an ARN": details(resourceArn=arn(ACCOUNT)),
    "in an ARN instead of an id": details(accountId=arn(ACCOUNT)),
    "in an ARN of its own": details(roleArn=f"arn:aws-us-gov:iam::{ACCOUNT}:role/x"),
    "in another section": announced(serviceEventDetails=None, additionalEventData={"joined": [ACCOUNT]}),
    "among CloudTrail's resources": announced(
        serviceEventDetails={}, resources=[{"accountId": ACCOUNT, "type": "AWS::Organizations::Account"}]
    ),
    "masked in the details, whole elsewhere": announced(
        serviceEventDetails={"accountId": "****"}, additionalEventData={"arn": arn(ACCOUNT)}
    ),
    "beside the management account": details(accountId=ACCOUNT, managementAccountId=OTHER, masterAccountId=OTHER),
    "beside the management account under no name of its own": details(accountIds=[ACCOUNT, MANAGEMENT]),
    "beside those who are not meant": details(
        accountId=ACCOUNT,
        previousOrganization={"id": "o-anotherone1", "managementAccountId": OTHER, "accountId": OTHER},
        previous_management_account_id=OTHER,
        govCloudAccountId=OTHER,
        sourceOrganizationId="o-anotherone2",
        sourceAccount=OTHER,
        inviterAccountId=OTHER,
        callerAccount={"id": OTHER},
        payerAccountId=OTHER,
        formerOrganizationId="o-anotherone3",
    ),
    "in an ARN beside those who are not meant": details(joiner=arn(ACCOUNT), previousOrganizationArn=arn(OTHER)),
    "beside others in CloudTrail's own fields": announced(
        serviceEventDetails={"joiner": ACCOUNT},
        vpcEndpointAccountId=OTHER,
        sharedEventID=OTHER,
        requestID=OTHER,
        userIdentity={"accountId": OTHER, "arn": arn(OTHER)},
    ),
    "beside other numbers": details(accountId=ACCOUNT, requestNumber=OTHER, count=333333333333, total=1.5),
}


@pytest.mark.parametrize("event", LAYOUTS.values(), ids=LAYOUTS)
def test_the_account_that_joined_is_found_in_any_layout(event: Event) -> None:
    found = read(event)

    assert isinstance(found, Join)
    assert found.account_id == ACCOUNT
    assert found.organization_id in {ORGANIZATION, None}


def test_the_organization_is_told_where_it_is_named() -> None:
    found = [read(details(accountId=ACCOUNT, **told)) for told in ({"organization": {"id": ORGANIZATION}}, {})]

    assert [each.organization_id for each in found if isinstance(each, Join)] == [ORGANIZATION, None]


UNTOLD = {
    "two accounts": (details(accountId=ACCOUNT, joinedAccountId=OTHER), "different account ids"),
    "one account in each of two sections": (announced(requestParameters={"accountId": OTHER}), "different account ids"),
    "two accounts under names that say nothing": (details(a=ACCOUNT, b=OTHER), "different account ids"),
    "two accounts in ARNs": (details(a=arn(ACCOUNT), b=arn(OTHER)), "different account ids"),
    "a text and another number": (details(a=ACCOUNT, b=int(OTHER)), "different account ids"),
    "two organizations": (
        details(accountId=ACCOUNT, organizationId=ORGANIZATION, organization="o-someoneelse"),
        "different",
    ),
    "the management account and another one": (details(accountId=MANAGEMENT, b=OTHER), "and another one"),
    "nobody": (details(joinedMethod="INVITED"), "must hold an account id"),
    "nobody but the caller": (
        announced(serviceEventDetails={}, userIdentity={"accountId": ACCOUNT, "arn": arn(ACCOUNT)}),
        "must hold an account id",
    ),
    "nobody but the management account, as such": (details(managementAccountId=MANAGEMENT), "must hold an account id"),
    "nobody but the account of the other cloud": (details(govCloudAccountId=ACCOUNT), "must hold an account id"),
    "a masked account": (details(accountId="****"), "must hold an account id"),
    "an account with a digit too few": (details(accountId="22222222222", b=OTHER), f"{DETAILS}.accountId: must be an"),
    "an account as a number too short": (details(accountId=22222222222, b=OTHER), f"{DETAILS}.accountId: must be an"),
    "no event": (announced(serviceEventDetails=None), "must hold an account id"),
}


@pytest.mark.parametrize(("event", "says"), UNTOLD.values(), ids=UNTOLD)
def test_where_the_account_is_not_certain_the_event_is_refused(event: Event, says: str) -> None:
    with pytest.raises(InvalidEventError) as refused:
        read(event)

    assert says in str(refused.value)


THEMSELVES = {
    "by its id": details(accountId=MANAGEMENT, organizationId=ORGANIZATION, joinedMethod="CREATED"),
    "as a number": details(accountId=int(MANAGEMENT)),
    "by its ARN": details(joiner=arn(MANAGEMENT)),
    "with what came before": details(accountId=MANAGEMENT, previousOrganization={"accountId": OTHER}),
}


@pytest.mark.parametrize("event", THEMSELVES.values(), ids=THEMSELVES)
def test_the_management_account_of_a_new_organization_is_no_join(event: Event) -> None:
    found = read(event)

    assert isinstance(found, NoJoin)
    assert "management account itself" in found.reason


@pytest.mark.parametrize("known", ["argument", "account", "recipientAccountId"])
def test_the_management_account_is_known_in_three_ways(known: str) -> None:
    event = details(accountId=MANAGEMENT)
    event |= {"account": MANAGEMENT if known == "account" else None}
    event["detail"] |= {"recipientAccountId": MANAGEMENT if known == "recipientAccountId" else "****"}

    found = read_event(json.dumps(event), management_account_id=MANAGEMENT if known == "argument" else None)

    assert isinstance(found, NoJoin)


@pytest.mark.parametrize("name", ["joiner", "accountId", "arn"])
def test_an_account_under_a_key_that_is_there_twice_is_not_taken(name: str) -> None:
    value = arn(ACCOUNT) if name == "arn" else ACCOUNT

    with pytest.raises(InvalidEventError, match=r"detail\.serviceEventDetails\..* more than once"):
        read_event(twice(details(**{name: "x", "more": {name: value}}), ("detail", "serviceEventDetails", "more"), "x"))


def test_the_first_of_two_values_is_seen_too() -> None:
    """JSON parsers keep the last."""
    with pytest.raises(InvalidEventError, match="more than once"):
        read_event(twice(details(joiner="x"), ("detail", "serviceEventDetails", "joiner"), ACCOUNT))


def test_what_is_there_twice_where_nothing_is_taken_from_does_not_matter() -> None:
    found = read_event(
        twice(details(accountId=ACCOUNT, joiner=OTHER), ("detail", "serviceEventDetails", "joiner"), OTHER)
    )

    assert isinstance(found, Join)
    assert found.account_id == ACCOUNT
