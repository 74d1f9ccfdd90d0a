"""Events as EventBridge sends them to the queue, for the demo and the tests.

The layouts are those of CloudTrail's records of Organizations calls and service events. The layouts of
`AccountJoinedOrganization`, `AccountDepartedOrganization` and `CloseAccountResult` are inferred, because AWS has not
published them. The parameters of the calls about tags and policies are those of botocore's model, in the spelling that
CloudTrail gives those of `MoveAccount`.
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


def account_departed(account_id: str, organization_id: str, management_account_id: str, **changes: object) -> Event:
    """Return an `AccountDepartedOrganization` event (inferred layout)."""
    details = {
        "accountId": account_id,
        "organizationId": organization_id,
        "departureMethod": "REMOVED",
        "departureTime": "Nov 23, 2026 8:00:00 PM",
    }
    return _event(
        "AccountDepartedOrganization",
        "AWS Service Event via CloudTrail",
        management_account_id,
        userIdentity={"accountId": management_account_id, "invokedBy": "organizations.amazonaws.com"},
        serviceEventDetails=details | changes,
    )


def account_removed(account_id: str, management_account_id: str) -> Event:
    """Return a `RemoveAccountFromOrganization` event."""
    return _called("RemoveAccountFromOrganization", management_account_id, {"accountId": account_id})


def account_left(account_id: str, management_account_id: str) -> Event:
    """Return a `LeaveOrganization` event: the account itself made the call."""
    event = _called("LeaveOrganization", management_account_id, {})
    caller = {"type": "AWSAccount", "principalId": "AROAEXAMPLE:someone", "accountId": account_id}
    return event | {"detail": event["detail"] | {"userIdentity": caller, "requestParameters": None}}


def account_closed(account_id: str, management_account_id: str, **changes: object) -> Event:
    """Return a `CloseAccountResult` event (inferred layout)."""
    status = {"accountId": account_id, "state": "SUCCEEDED", "completedTimestamp": "Nov 23, 2026 8:00:00 PM"}
    return _event(
        "CloseAccountResult",
        "AWS Service Event via CloudTrail",
        management_account_id,
        userIdentity={"accountId": management_account_id, "invokedBy": "AWS Internal"},
        serviceEventDetails={"closeAccountStatus": status | changes},
    )


def account_moved(account_id: str, management_account_id: str, **changes: object) -> Event:
    """Return a `MoveAccount` event: somebody moved an account from the root to an OU."""
    parents = {"sourceParentId": "r-exam", "destinationParentId": "ou-exam-ple12345"}
    return _called("MoveAccount", management_account_id, {"accountId": account_id} | parents | changes)


def resource_tagged(resource_id: str, management_account_id: str, **changes: object) -> Event:
    """Return a `TagResource` event; the resource may also be an OU, the root, or a policy."""
    tags = [{"key": "environment", "value": "prod"}]
    return _called("TagResource", management_account_id, {"resourceId": resource_id, "tags": tags} | changes)


def resource_untagged(resource_id: str, management_account_id: str, **changes: object) -> Event:
    """Return an `UntagResource` event; the resource may also be an OU, the root, or a policy."""
    keys = ["environment"]
    return _called("UntagResource", management_account_id, {"resourceId": resource_id, "tagKeys": keys} | changes)


def policy_detached(target_id: str, management_account_id: str, policy_id: str, *, by: str = "someone") -> Event:
    """Return a `DetachPolicy` event; the target may also be an OU or the root."""
    parameters: dict[str, object] = {"policyId": policy_id, "targetId": target_id}
    return _called("DetachPolicy", management_account_id, parameters, by=by)


def policy_updated(policy_id: str, management_account_id: str) -> Event:
    """Return an `UpdatePolicy` event."""
    return _called("UpdatePolicy", management_account_id, {"policyId": policy_id, "content": "{}"})


def policy_deleted(policy_id: str, management_account_id: str) -> Event:
    """Return a `DeletePolicy` event."""
    return _called("DeletePolicy", management_account_id, {"policyId": policy_id})


def policy_type_disabled(policy_type: str, management_account_id: str) -> Event:
    """Return a `DisablePolicyType` event."""
    return _called("DisablePolicyType", management_account_id, {"rootId": "r-exam", "policyType": policy_type})


def rehearsal(account: str, **changes: object) -> Event:
    """Return a rehearsal, as EventBridge delivers it from the stack's schedule."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "version": "0",
        "id": event_id(),
        "detail-type": "Joinguard Rehearsal",
        "source": "joinguard.rehearsal",
        "account": account,
        "time": now,
        "region": "us-east-1",
        "resources": [],
        "detail": {"eventSource": "organizations.amazonaws.com", "eventName": "Rehearsal"},
    } | changes


def _called(name: str, management_account_id: str, parameters: dict[str, object], *, by: str = "someone") -> Event:
    """Return the event of a call that somebody made in the management account, and whose response is empty."""
    caller = {
        "type": "AssumedRole",
        "principalId": f"AROAEXAMPLE:{by}",
        "arn": f"arn:aws:sts::{management_account_id}:assumed-role/OrganizationAdmin/{by}",
        "accountId": management_account_id,
    }
    return _event(
        name,
        "AWS API Call via CloudTrail",
        management_account_id,
        userIdentity=caller,
        sourceIPAddress="192.0.2.10",
        requestParameters=parameters,
    )


def event_id() -> str:
    """Return a UUID that does not hold twelve digits in a row, which logs and keys would replace by a digest.

    Of 1,000 UUIDs, three or four do: their last part is twelve digits.
    """
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
            "eventID": event_id(),
            "readOnly": False,
            "managementEvent": True,
            "recipientAccountId": management_account_id,
            "requestParameters": None,
            "responseElements": None,
        }
        | detail,
    }
