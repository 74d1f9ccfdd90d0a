"""What accounts carry now, compared with what the records say: changes that nobody of ours made, or that no event told.

Whoever can write to the table of outcomes can make up or hide such a change; the verification of the outcomes against
the sealed evidence finds that, except for attempts that failed for a passing cause, which have no evidence. So their
rows count only as long as the message can be received again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from handlers.core.guardrails.carried import Attached
from handlers.core.ports import UnreadableRow
from handlers.core.reconcile.coverage import Coverage, Rows, Status, of_membership
from handlers.core.timing import MAX_LEASE, RECEIVED_AGAIN
from schemas.ids import AccountId, PolicyId
from schemas.outcome import FAILING, AttachmentResult, Outcome
from schemas.snapshot import Snapshot

_ATTACHED: Final = frozenset({AttachmentResult.ATTACHED, AttachmentResult.ALREADY_ATTACHED})


class Unexplained(NamedTuple):
    """A policy that an account carries or lacks now, although the records say otherwise."""

    account_id: AccountId
    policy_id: PolicyId
    meaning: str


@dataclass
class LastClaims:
    """What Joinguard did last with each policy of each account."""

    _last: dict[tuple[str, PolicyId], tuple[datetime, bool]] = field(default_factory=dict)

    def add(self, row: Outcome) -> None:
        """Take the claims of a row."""
        for policy_id, claim in row.claims.items():
            found = (claim.at, claim.result is AttachmentResult.REMOVED)
            key = (row.account_id, policy_id)
            self._last[key] = max(found, self._last.get(key, found))

    def removed(self) -> Iterator[tuple[AccountId, PolicyId, datetime]]:
        """Yield what was removed last."""
        for (account_id, policy_id), (at, is_removed) in self._last.items():
            if is_removed:
                yield account_id, policy_id, at


def unexplained(
    coverage: Coverage, snapshot: Snapshot, outcomes: Mapping[AccountId, Rows], claims: LastClaims
) -> Iterator[Unexplained]:
    """Yield the policies that were detached or attached without an event that Joinguard handled.

    `outcomes` are those of the accounts with gaps.
    """
    for line in coverage.lines:
        if line.status is not Status.MISSING:
            continue
        joined_at = coverage.joined_at.get(line.account_id)
        rows = [each for each in outcomes.get(line.account_id, ()) if _counts(each, snapshot.begun_at)]
        at = _attached_last(rows, line.policy_id, joined_at)
        if at:
            meaning = f"the last record, of {_time(at)}, says that it carries {line.policy_id}, and it does not"
            yield Unexplained(line.account_id, line.policy_id, meaning)
    attached = Attached(snapshot)
    for account_id, policy_id, at in claims.removed():
        if policy_id in {each.id for each in attached.to(account_id)}:
            meaning = f"Joinguard removed {policy_id} at {_time(at)}, and the account carries it again"
            yield Unexplained(account_id, policy_id, meaning)


def _counts(row: Outcome | UnreadableRow, at: datetime) -> bool:
    """Return whether a row is about an attempt that has evidence, or that is made again soon."""
    if isinstance(row, UnreadableRow) or row.status not in FAILING or row.done_at:
        return True
    return at - RECEIVED_AGAIN <= row.updated_at <= at + MAX_LEASE


def _attached_last(rows: Rows, policy_id: PolicyId, joined_at: datetime | None) -> datetime | None:
    """Return when the last record about a policy was written, if it says that the account carries it."""
    results = [
        (row.updated_at, each.result in _ATTACHED)
        for row in of_membership(rows, joined_at)
        for each in row.policies
        if each.policy_id == policy_id
    ]
    at, is_attached = max(results, default=(None, False))
    return at if is_attached else None


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
