"""Closing the record of an account that has left the organization.

An event only says that an account left; events come late, repeated and out of order, and the account may be back. So
nothing is closed before Organizations says that it is no member, or one that joined later. What cannot be read is not
absent: then it is tried again. Only what happened before the departure is closed, so nothing of a later membership is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from handlers.core.errors import AccountNotFoundError, PermanentError, RetryableError, fault
from handlers.core.joins.ports import AccountOutcomes, Membership, Settlement
from handlers.core.joins.run import FIRST_RECEIVES, RECENT, Run
from schemas.events import DEPARTURES, Departure, DepartureCause
from schemas.outcome import Departed, Fault, Outcome, OutcomeStatus

#: AWS's states of a member that is closed, or being closed.
_CLOSED: Final = frozenset({"PENDING_CLOSURE", "SUSPENDED", "CLOSED"})
_HOW: Final[dict[DepartureCause, str]] = {
    "left": "it left by itself",
    "removed": "it was removed",
    "closed": "it was closed",
    "cleaned": "it was removed 90 days after it was closed",
    "departed": "the event does not say how",
    "missing": "the sweep found that it is no member any more",
}
_STILL_A_MEMBER: Final = fault(
    "STILL_A_MEMBER", "the event says that the account left, and Organizations still lists it; nothing was closed"
)
_RUNNING: Final = fault(
    "ATTEMPT_IN_PROGRESS", "an attempt at another event of the account is running; its outcome is closed after that"
)
_PENDING: Final = fault("DEPARTURE_PENDING", "an event says that the account left, and is being handled")


def has_left(cause: DepartureCause, left_at: datetime, member: Membership | None) -> bool:
    """Return whether an account has left, given what Organizations says of it later; also if it is back."""
    if member is None or member.since > left_at:
        return True
    # A closed account stays a member for 90 days.
    return cause == "closed" and member.state in _CLOSED


def account_left(departed: Departed, *, is_back: bool = False) -> Fault:
    """Return why an outcome is CLOSED."""
    back = "; it has joined again since" if is_back else ""
    return fault("ACCOUNT_LEFT", f"the account is not in the organization any more: {_HOW[departed.cause]}{back}")


def departure_after(rows: Iterable[Outcome], event_time: datetime) -> Departed | None:
    """Return the first departure among the outcomes of an account that is not before a moment.

    Raises RetryableError if there is none, but an event that reports one is being handled.
    """
    later = [each for each in rows if each.event_name in DEPARTURES and each.event_time >= event_time]
    known = [each.departed for each in later if each.departed]
    if not known and any(each.status is OutcomeStatus.RETRYING for each in later):
        raise RetryableError(_PENDING)
    return min(known, key=lambda each: each.left_at, default=None)


@dataclass
class DepartureRun(Run):
    """Close the outcomes that an account that has left leaves open."""

    event: Departure
    outcomes: AccountOutcomes

    def _handle(self) -> Settlement:
        event, left_at, clock = self.event, self.attempt.event_time, self.dependencies.clock
        try:
            self._check_target(event)
            member = self._member()
        except PermanentError as error:
            return Settlement(OutcomeStatus.FAILED, fault=error.fault)
        if not has_left(event.cause, left_at, member):
            if self._may_still_be_listed():
                raise RetryableError(_STILL_A_MEMBER)
            return Settlement(OutcomeStatus.IGNORED, fault=_STILL_A_MEMBER)
        departed = Departed(cause=event.cause, left_at=left_at, event_id=event.event_id)
        if self.outcomes.close(event.account_id, departed, clock.now()).running:
            raise RetryableError(_RUNNING)
        is_back = member is not None and member.since > left_at
        return Settlement(OutcomeStatus.CLOSED, fault=account_left(departed, is_back=is_back), departed=departed)

    def _may_still_be_listed(self) -> bool:
        """Return whether Organizations may list an account that has left."""
        if self.event.cause == "missing":
            # The sweep's list of accounts can leave one out while it changes.
            return self.message.receives <= FIRST_RECEIVES
        return abs(self.dependencies.clock.now() - self.attempt.event_time) < RECENT

    def _member(self) -> Membership | None:
        organizations = self.dependencies.organizations
        try:
            return self._call(lambda: organizations.membership(self.event.account_id), remaining_calls=1)
        except AccountNotFoundError:
            return None
