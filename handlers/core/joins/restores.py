"""When to stop putting a policy back that somebody detaches again and again.

A policy that Joinguard attached, and that is gone, is put back at once, because most losses are mistakes. Each time is
a restore. After `MaxRestores` restores it is left off, and a person decides. Only one thing starts the count anew: that
the policy stayed for a stable period after it was attached.

- Whether it stayed is decided by when it was detached, as AWS's event says, and not by when we noticed. So late,
  repeated and unordered events change nothing. If nobody noticed a loss for a stable period, it stayed: the sweep would
  have.
- Whoever attaches it, the count stays: a person who redrives the message of a policy that was left off gets it
  attached, and if it is detached again before a stable period is over, it is left off at once.
- While it is left off it is missing, so it is never stable, however long that takes.
- If the policy is gone again before an event is decided, that is another loss, which counts.

All of this is of one membership: an account that left and came back begins anew.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, auto
from typing import Final

from handlers.core.errors import fault
from handlers.core.joins.claims import is_sealed
from handlers.core.ports import Pseudonyms
from schemas.events import DEPARTURES, JOINS, OPERATOR
from schemas.ids import AccountId, EventId, PolicyId
from schemas.outcome import AttachmentResult, Fault, Outcome

#: How long a policy has to stay until the count starts anew.
STABLE: Final = timedelta(days=7)
STOPPED: Final = "RESTORES_STOPPED"
DETACH: Final = "DetachPolicy"


class Seen(IntEnum):
    """What was seen of a policy; at the same moment, in this order."""

    MISSING = auto()
    #: We removed it, because the account did not need it.
    REMOVED = auto()
    ATTACHED = auto()
    #: It was attached, and not by us in this attempt.
    PRESENT = auto()


@dataclass(frozen=True, order=True)
class Observation:
    """What was seen of a policy of an account at a moment."""

    at: datetime
    seen: Seen
    #: Whether Joinguard attached it because it was gone.
    restores: bool = False


def restores_since_stable(observations: Iterable[Observation], missing_since: datetime) -> tuple[datetime, ...]:
    """Return when a policy was restored since it last stayed for a stable period, given when it is missing again."""
    restores: list[datetime] = []
    stays_since: datetime | None = None
    is_ours = False
    for each in sorted(observations):
        if each.seen is Seen.MISSING:
            if stays_since and each.at - stays_since >= STABLE:
                restores.clear()
            stays_since = None
        elif each.seen is Seen.REMOVED:
            restores.clear()
            is_ours, stays_since = False, None
        elif each.seen is Seen.PRESENT:
            stays_since = stays_since or each.at
        else:
            # The first attachment restores nothing.
            if each.restores and is_ours:
                restores.append(each.at)
            is_ours, stays_since = True, each.at
    if stays_since and missing_since - stays_since >= STABLE:
        restores.clear()
    return tuple(restores)


@dataclass(frozen=True)
class PolicyHistory:
    """What the outcomes of an account say of one policy in this membership."""

    policy_id: PolicyId
    account_id: AccountId
    #: Of all events of the account but the one that is handled.
    rows: Sequence[Outcome]
    member_since: datetime
    pseudonyms: Pseudonyms

    def was_ours(self) -> bool:
        """Return whether Joinguard attached the policy in this membership."""
        return any(each.seen is Seen.ATTACHED for each in self.observations())

    def observations(self) -> list[Observation]:
        """Return everything that was seen of the policy."""
        return [each for row in self.rows for each in self._seen_in(row) if each.at >= self.member_since]

    def detached_last_by(self) -> tuple[str, EventId] | None:
        """Return the pseudonym of who detached the policy last, and the event that says so."""
        known = [each for each in self.rows if _detaches(each, self.policy_id)]
        last = max(known, key=lambda each: each.event_time, default=None)
        if last is None or last.called is None or last.called.principal is None:
            return None
        return last.called.principal.value, last.event_id

    def _seen_in(self, row: Outcome) -> list[Observation]:
        if row.event_name in DEPARTURES or row.departed:
            return []
        # A join begins anew, and an operator decides.
        restores = row.event_name not in JOINS and row.source != OPERATOR
        result = next((each for each in row.policies if each.policy_id == self.policy_id), None)
        code = result.fault.code if result and result.fault else None
        is_about_it = _detaches(row, self.policy_id)
        found: list[Observation] = []
        claim = row.claims.get(self.policy_id)
        # A claim that somebody made up must not keep a policy off.
        if claim and is_sealed(self.account_id, self.policy_id, claim, self.pseudonyms):
            if claim.result is AttachmentResult.ATTACHED:
                found.append(Observation(claim.at, Seen.ATTACHED, restores))
                if restores:
                    # Clocks differ: it was gone before it was attached again.
                    found.append(Observation(min(row.event_time, claim.at) if is_about_it else claim.at, Seen.MISSING))
            else:
                found.append(Observation(claim.at, Seen.REMOVED))
        elif is_about_it or code == STOPPED:
            found.append(Observation(row.event_time, Seen.MISSING))
        if result and result.result is AttachmentResult.ALREADY_ATTACHED:
            found.append(Observation(row.updated_at, Seen.PRESENT))
        return found


def stopped(restores: Sequence[datetime], by: tuple[str, EventId] | None) -> Fault:
    """Return why a policy is left off."""
    who = f"; detached last by {by[0]}, event {by[1]}" if by else "; no event says who detached it"
    number = f"{len(restores)} time{'' if len(restores) == 1 else 's'}"
    since = f" since {restores[0]:%Y-%m-%dT%H:%MZ}" if restores else ""
    return fault(STOPPED, f"it was put back {number}{since} and detached again, and is left off{who}")


def _detaches(row: Outcome, policy_id: PolicyId) -> bool:
    return row.event_name == DETACH and row.called is not None and row.called.policy_id == policy_id
