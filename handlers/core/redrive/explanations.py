"""Why a message is left out, and why a redrive waits or stops. handlers/operate/advice.py has the texts."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias


class Reason(Enum):
    """A reason. The comment names the values that it comes with."""

    # A message would fail again, or nothing can be attached to an account.
    INVALID_EVENT = auto()
    WRONG_ORGANIZATION = auto()
    MANAGEMENT_ACCOUNT = auto()
    POLICY_TYPE_DISABLED = auto()  # policy type
    POLICY_NOT_FOUND = auto()  # policy id
    ACCOUNT_NOT_FOUND = auto()
    ACCOUNT_NOT_ACTIVE = auto()  # state
    TOO_MANY_POLICIES = auto()  # number of attached policies, number of missing policies
    REMOVALS_OFF = auto()
    LIMIT_REACHED = auto()
    APPROVAL_MISSING = auto()
    ACCESS_DENIED = auto()  # policy ids and "the account"
    # A message cannot or should not be redriven.
    TOO_MANY_ATTRIBUTES = auto()
    TOO_LARGE = auto()
    OVER_REDRIVE_LIMIT = auto()  # number of redrives
    # An edited body is not that of the message.
    ANOTHER_EVENT = auto()  # event id of the old body, event id of the new one
    ANOTHER_ACCOUNT = auto()  # account id of the old body, account id of the new one
    # A message is not restored.
    IN_ITS_QUEUE = auto()
    RESTORED_BEFORE = auto()
    # Pre-flight could not find out.
    ORGANIZATIONS_UNAVAILABLE = auto()  # error
    PERMISSIONS_UNAVAILABLE = auto()  # error
    ROLE_UNKNOWN = auto()
    APPROVAL_UNAVAILABLE = auto()  # error
    # A redrive waits.
    FIRST_MESSAGES = auto()  # number of messages
    OTHERS_FIRST = auto()  # number of messages
    # A redrive stops.
    CAUSE_REMAINS = auto()  # number of failed messages, codes with their counts, number of sent messages
    NOTHING_DECIDED = auto()  # number of sent messages
    OTHERS_DELAYED = auto()


@dataclass(frozen=True)
class Explanation:
    """A reason and the values that its sentence names."""

    reason: Reason
    values: tuple[str | int, ...] = ()


#: Every reason why a message is left out; none if it is not.
Problems: TypeAlias = tuple[Explanation, ...]
