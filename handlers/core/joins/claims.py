"""Claims: which policies of an account Joinguard attached or removed, as the rows of its events say.

Only what Joinguard attached is ever removed, and whoever can write to the table could claim that. So each claim has a
seal, which takes the key of the pseudonyms, or a former one. A seal does not show that a claim was deleted.

An attachment is dated at the beginning of the attempt that made it, or of the event's first attempt if it is not known
which one did, and a removal when it is recorded. So what others attached in between counts as theirs. But nobody
notices if others detach what Joinguard attached, and attach it again: that counts as attached by Joinguard.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Literal, TypeAlias

from handlers.core.errors import Cause, PermanentError, fault
from handlers.core.joins.ports import EventChanges
from handlers.core.ports import Pseudonyms
from schemas.ids import AccountId, PolicyId, Sha256
from schemas.outcome import AttachmentResult, Claim

#: What Joinguard did with a policy.
Changed: TypeAlias = Literal[AttachmentResult.ATTACHED, AttachmentResult.REMOVED]

#: Why nothing is removed from an account.
UNREADABLE: Final = fault(
    "CLAIMS_UNREADABLE",
    "a row of the account's events does not say what Joinguard attached, as a worker writes it; nothing was removed",
)
#: The same after a key was deleted: what it sealed cannot be told from what was changed.
NOT_COMPARED: Final = fault(
    "CLAIMS_NOT_COMPARED",
    "what Joinguard attached to the account was recorded with a key that does not exist any more; nothing was removed",
)
_KIND: Final = "claim"


def claims_of(
    account_id: AccountId, changed_at: Mapping[PolicyId, datetime], result: Changed, pseudonyms: Pseudonyms
) -> dict[PolicyId, Claim]:
    """Return the claims that Joinguard changed policies of an account, each at a moment."""
    return {
        policy_id: Claim(result=result, at=at, seal=_seal(account_id, policy_id, result, at, pseudonyms))
        for policy_id, at in sorted(changed_at.items())
    }


def attached_by_us(
    account_id: AccountId, rows: Iterable[EventChanges], since: datetime, pseudonyms: Pseudonyms
) -> frozenset[PolicyId]:
    """Return the policies whose last claim is that Joinguard attached them.

    `rows` are those of all events of the account. `since` is when it joined the organization: earlier claims say
    nothing, because an account loses its policies when it leaves. Raises PermanentError if a seal does not fit: a claim
    that was changed may have been that of a removal. Its cause is CLAIMS_NOT_COMPARED if a former key is gone.
    """
    last: dict[PolicyId, Claim] = {}
    for row in rows:
        for policy_id, claim in row.claims.items():
            if not is_sealed(account_id, policy_id, claim, pseudonyms):
                if pseudonyms.lost_keys:
                    raise PermanentError(NOT_COMPARED, cause=Cause.CLAIMS_NOT_COMPARED)
                raise PermanentError(UNREADABLE, cause=Cause.CLAIMS_UNREADABLE)
            known = last.get(policy_id)
            if claim.at >= since and (known is None or _order(claim) > _order(known)):
                last[policy_id] = claim
    return frozenset(each for each, claim in last.items() if claim.result is AttachmentResult.ATTACHED)


def is_sealed(account_id: AccountId, policy_id: PolicyId, claim: Claim, pseudonyms: Pseudonyms) -> bool:
    """Return whether the claim about a policy of an account is one that Joinguard made, with the key of that time."""
    return any(
        claim.seal == _seal(account_id, policy_id, claim.result, claim.at, each) for each in pseudonyms.under_each_key()
    )


def _order(claim: Claim) -> tuple[datetime, bool]:
    """Of two claims at the same moment, a removal counts: then nothing is removed."""
    return claim.at, claim.result is AttachmentResult.REMOVED


def _seal(account_id: AccountId, policy_id: PolicyId, result: Changed, at: datetime, pseudonyms: Pseudonyms) -> Sha256:
    text = "\n".join((account_id, policy_id, result.value, at.isoformat(timespec="microseconds")))
    return pseudonyms.digest(_KIND, text)
