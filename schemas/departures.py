"""Find the account that left the organization, and how.

The layouts are those of botocore's model of Organizations (2016-11-28), in the spelling that CloudTrail gives other
calls, and that of `CloseAccountResult` is inferred from `CreateAccountResult`. An `AccountDepartedOrganization` is
searched, because AWS has not published its layout.
"""

from collections.abc import Mapping
from typing import Final

from schemas.announcements import departed
from schemas.document import InvalidEventError, Node
from schemas.events import DepartureCause
from schemas.naming import ACCOUNT_ID_RULE, account_id

#: The account id, the organization id if the record holds it, and how it left; or the reason why it did not leave.
Reading = tuple[str, str | None, DepartureCause] | str

#: AWS's values of `departureMethod`.
_METHODS: Final[Mapping[str, DepartureCause]] = {"LEFT": "left", "REMOVED": "removed", "CLEANED": "cleaned"}
_CLOSURE_STATES: Final = frozenset({"IN_PROGRESS", "FAILED"})


def departure(name: str, record: Node, management: frozenset[str]) -> Reading:
    """Read an event of DEPARTURES; `management` are the ids by which the record may name the management account.

    Raises InvalidEventError if the event names no account, or several.
    """
    match name:
        case "AccountDepartedOrganization":
            return _departed(record, management)
        case "CloseAccountResult":
            return _closed(record)
        case "LeaveOrganization":
            # The member itself makes this call.
            account = _required(record["userIdentity"]["accountId"])
            if account in management:
                return "the caller is the management account, which cannot leave"
            return account, None, "left"
    return _required(record["requestParameters"]["accountId"]), None, "removed"


def _departed(record: Node, management: frozenset[str]) -> Reading:
    account, organization = departed(record, management)
    if account is None:
        return "the management account itself left, which AWS reports when an organization is deleted"
    return account, organization, _METHODS.get(_method(record["serviceEventDetails"]), "departed")


def _method(details: Node) -> str:
    """Return how the account left, which decides nothing: what is missing, ambiguous or unknown is no mistake."""
    try:
        # Earlier SDKs call it departedMethod.
        return details["departureMethod"].upper or details["departedMethod"].upper or ""
    except InvalidEventError:
        return ""


def _closed(record: Node) -> Reading:
    status = record["serviceEventDetails"]["closeAccountStatus"]
    state = status["state"].upper
    if not state:
        raise InvalidEventError((status["state"].path, "must be a non-empty string"))
    if state != "SUCCEEDED":
        return (
            f"the state of the account's closure is {state if state in _CLOSURE_STATES else 'unknown'}, not SUCCEEDED"
        )
    return _required(status["accountId"]), None, "closed"


def _required(node: Node) -> str:
    account = account_id(node)
    if account is None:
        raise InvalidEventError((node.path, ACCOUNT_ID_RULE))
    return account
