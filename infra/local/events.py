"""Join events as EventBridge sends them to the queue, for the demo and the tests.

The layouts are those of CloudTrail's records of Organizations calls and service events. The layout of
`AccountJoinedOrganization` is inferred, because AWS has not published it.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

Event = dict[str, Any]


def handshake_accepted(
    account_id: str, organization_id: str, management_account_id: str, *, action: str = "INVITE", **changes: object
) -> Event:
    """Return an `AcceptHandshake` event; it is a join only if its action is INVITE."""
    handshake = {
        "id": "h-examplehandshakeid111",
        "action": action,
        "state": "ACCEPTED",
        "parties": [{"type": "ORGANIZATION", "id": organization_id}, {"type": "ACCOUNT", "id": account_id}],
        "resources": [
            {"type": "ORGANIZATION", "value": organization_id},
            {"type": "ACCOUNT", "value": account_id},
        ],
        "requestedTimestamp": "Nov 20, 2026 9:41:16 AM",
        "expirationTimestamp": "Dec 5, 2026 9:41:16 AM",
    }
    return _event(
        "AcceptHandshake",
        "AWS API Call via CloudTrail",
        management_account_id,
        userIdentity={"type": "AWSAccount", "principalId": "AROAEXAMPLE:someone", "accountId": account_id},
        requestParameters={"handshakeId": handshake["id"]},
        responseElements={"handshake": handshake | changes},
    )


def account_created(account_id: str, management_account_id: str, **changes: object) -> Event:
    """Return a `CreateAccountResult` event."""
    status = {
        "id": "car-examplecreateaccountrequestid111",
        "state": "SUCCEEDED",
        "accountName": "****",
        "accountId": account_id,
    }
    return _event(
        "CreateAccountResult",
        "AWS Service Event via CloudTrail",
        management_account_id,
        userIdentity={"accountId": management_account_id, "invokedBy": "AWS Internal"},
        serviceEventDetails={"createAccountStatus": status | changes},
    )


def account_joined(account_id: str, organization_id: str, management_account_id: str) -> Event:
    """Return an `AccountJoinedOrganization` event (inferred layout)."""
    return _event(
        "AccountJoinedOrganization",
        "AWS Service Event via CloudTrail",
        management_account_id,
        userIdentity={"accountId": management_account_id, "invokedBy": "organizations.amazonaws.com"},
        serviceEventDetails={"accountId": account_id, "organizationId": organization_id, "joinedMethod": "INVITED"},
    )


def _event_id() -> str:
    """Return an id without twelve digits at its end, which logs and keys would replace by a digest."""
    return f"{str(uuid.uuid4())[:-1]}e"


def _event(name: str, detail_type: str, management_account_id: str, **detail: object) -> Event:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": "aws.organizations",
        "account": management_account_id,
        "time": now,
        "region": "us-east-1",
        "resources": [],
        "detail": {
            "eventVersion": "1.11",
            "eventTime": now,
            "eventSource": "organizations.amazonaws.com",
            "eventName": name,
            "awsRegion": "us-east-1",
            "eventID": _event_id(),
            "readOnly": False,
            "managementEvent": True,
            "recipientAccountId": management_account_id,
            "requestParameters": None,
            "responseElements": None,
        }
        | detail,
    }
