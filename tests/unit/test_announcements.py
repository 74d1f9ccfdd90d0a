"""The account id in an `AccountJoinedOrganization` event, whose layout AWS has not published."""

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


def details(**fields: Any) -> Event:
    return announced(serviceEventDetails=fields)


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
    "under an unknown key": details(joiner=ACCOUNT),
    "as a number under an unknown key": details(joiner=int(ACCOUNT)),
    "in an ARN": details(resourceArn=arn(ACCOUNT)),
    "in an ARN instead of an id": details(accountId=arn(ACCOUNT)),
    "in the ARN of a role": details(roleArn=f"arn:aws-us-gov:iam::{ACCOUNT}:role/x"),
    "in another section": announced(serviceEventDetails=None, additionalEventData={"joined": [ACCOUNT]}),
    "among CloudTrail's resources": announced(
        serviceEventDetails={}, resources=[{"accountId": ACCOUNT, "type": "AWS::Organizations::Account"}]
    ),
    "masked in the details, readable elsewhere": announced(
        serviceEventDetails={"accountId": "****"}, additionalEventData={"arn": arn(ACCOUNT)}
    ),
    "beside the management account": details(accountId=ACCOUNT, managementAccountId=OTHER, masterAccountId=OTHER),
    "beside the management account in one list": details(accountIds=[ACCOUNT, MANAGEMENT]),
    "beside accounts in other roles": details(
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
    "in an ARN beside an account in another role": details(joiner=arn(ACCOUNT), previousOrganizationArn=arn(OTHER)),
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


def test_the_organization_id_is_read_if_it_is_there() -> None:
    found = [read(details(accountId=ACCOUNT, **fields)) for fields in ({"organization": {"id": ORGANIZATION}}, {})]

    assert [each.organization_id for each in found if isinstance(each, Join)] == [ORGANIZATION, None]


UNCERTAIN = {
    "two accounts": (details(accountId=ACCOUNT, joinedAccountId=OTHER), "different account ids"),
    "one account in each of two sections": (announced(requestParameters={"accountId": OTHER}), "different account ids"),
    "two accounts under unknown keys": (details(a=ACCOUNT, b=OTHER), "different account ids"),
    "two accounts in ARNs": (details(a=arn(ACCOUNT), b=arn(OTHER)), "different account ids"),
    "a string and another number": (details(a=ACCOUNT, b=int(OTHER)), "different account ids"),
    "two organizations": (
        details(accountId=ACCOUNT, organizationId=ORGANIZATION, organization="o-someoneelse"),
        "different",
    ),
    "the management account and another one": (details(accountId=MANAGEMENT, b=OTHER), "and another one"),
    "no account": (details(joinedMethod="INVITED"), "must hold an account id"),
    "only the caller": (
        announced(serviceEventDetails={}, userIdentity={"accountId": ACCOUNT, "arn": arn(ACCOUNT)}),
        "must hold an account id",
    ),
    "only the management account, named as such": (details(managementAccountId=MANAGEMENT), "must hold an account id"),
    "only a GovCloud account": (details(govCloudAccountId=ACCOUNT), "must hold an account id"),
    "a masked account": (details(accountId="****"), "must hold an account id"),
    "an account id with eleven digits": (details(accountId="22222222222", b=OTHER), f"{DETAILS}.accountId: must be an"),
    "a number with eleven digits": (details(accountId=22222222222, b=OTHER), f"{DETAILS}.accountId: must be an"),
    "no details": (announced(serviceEventDetails=None), "must hold an account id"),
}


@pytest.mark.parametrize(("event", "message"), UNCERTAIN.values(), ids=UNCERTAIN)
def test_an_event_whose_account_is_uncertain_is_rejected(event: Event, message: str) -> None:
    with pytest.raises(InvalidEventError) as error:
        read(event)

    assert message in str(error.value)


MANAGEMENT_ACCOUNTS = {
    "by its id": details(accountId=MANAGEMENT, organizationId=ORGANIZATION, joinedMethod="CREATED"),
    "as a number": details(accountId=int(MANAGEMENT)),
    "by its ARN": details(joiner=arn(MANAGEMENT)),
    "with its previous organization": details(accountId=MANAGEMENT, previousOrganization={"accountId": OTHER}),
}


@pytest.mark.parametrize("event", MANAGEMENT_ACCOUNTS.values(), ids=MANAGEMENT_ACCOUNTS)
def test_the_management_account_of_a_new_organization_is_not_a_join(event: Event) -> None:
    found = read(event)

    assert isinstance(found, NoJoin)
    assert "management account itself" in found.reason


@pytest.mark.parametrize("source", ["argument", "account", "recipientAccountId"])
def test_the_management_account_id_comes_from_one_of_three_sources(source: str) -> None:
    event = details(accountId=MANAGEMENT)
    event |= {"account": MANAGEMENT if source == "account" else None}
    event["detail"] |= {"recipientAccountId": MANAGEMENT if source == "recipientAccountId" else "****"}

    found = read_event(json.dumps(event), management_account_id=MANAGEMENT if source == "argument" else None)

    assert isinstance(found, NoJoin)


@pytest.mark.parametrize("name", ["joiner", "accountId", "arn"])
def test_an_account_id_under_a_duplicate_key_is_rejected(name: str) -> None:
    value = arn(ACCOUNT) if name == "arn" else ACCOUNT

    with pytest.raises(InvalidEventError, match=r"detail\.serviceEventDetails\..* more than once"):
        read_event(twice(details(**{name: "x", "more": {name: value}}), ("detail", "serviceEventDetails", "more"), "x"))


def test_the_first_value_of_a_duplicate_key_counts_too() -> None:
    """JSON parsers keep the last value only."""
    with pytest.raises(InvalidEventError, match="more than once"):
        read_event(twice(details(joiner="x"), ("detail", "serviceEventDetails", "joiner"), ACCOUNT))


def test_a_duplicate_key_that_is_not_used_is_ignored() -> None:
    found = read_event(
        twice(details(accountId=ACCOUNT, joiner=OTHER), ("detail", "serviceEventDetails", "joiner"), OTHER)
    )

    assert isinstance(found, Join)
    assert found.account_id == ACCOUNT
