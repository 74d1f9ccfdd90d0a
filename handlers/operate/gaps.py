"""What `enforce --gaps` requests: the accounts that lack a policy, and those that are left out with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from handlers.core.plurals import count
from handlers.core.reconcile.coverage import LASTING, GapCause
from handlers.operate.advice import sentences
from handlers.operate.coverage_output import summary, totals
from handlers.operate.covering import pseudonyms, read_coverage
from handlers.operate.hints import as_typed
from handlers.operate.output import hint, stderr
from handlers.operate.pausing import why_paused
from handlers.operate.progress import reading, receive_all
from schemas.events import Join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from handlers.core.guardrails.compile import OrganizationPolicy
    from handlers.core.reconcile.coverage import AccountPolicy
    from handlers.operate.context import Context, OrganizationContext
    from handlers.operate.covering import Covered
    from schemas.ids import AccountId, PolicyId


@dataclass(frozen=True)
class Gaps:
    """The accounts that lack a policy."""

    #: What the coverage says of all accounts.
    totals: Mapping[str, Any]
    #: The number of accounts of which it is not known whether they lack a policy.
    unclear: int
    #: What replaces an account id on the screen.
    pseudonym: Callable[[AccountId], str]
    chosen: list[AccountId] = field(default_factory=list)
    #: With the reasons in words.
    left_out: dict[AccountId, str] = field(default_factory=dict)
    #: How many policies can be attached to the chosen accounts.
    attachments: int = 0
    #: How many the workers try to attach, or may have to.
    calls: int = 0
    #: How many policies the chosen accounts carry and may lose, if policies are removed.
    removals: int = 0


def accounts_with_gaps(
    context: Context, organization: OrganizationContext, policies: Sequence[str], limit: int | None, *, force: bool
) -> Gaps:
    """Choose up to a number of accounts that lack one of some policies, given by names or ids, or any policy.

    Left out are accounts that wait already or are paused, and those whose requests would fail; with `force`, they are
    chosen too.
    """
    wanted: set[PolicyId] = set()
    covered = read_coverage(
        context, organization, check=lambda names: wanted.update(_policies(context, names.policies, policies))
    )
    coverage = covered.coverage
    hint(summary(coverage))
    if coverage.observed_lacking:
        number = count(coverage.observed_lacking, "account")
        stderr.print(f"left out because they are only observed (AttachTo), and lack a policy: {number}")
    gaps = {
        account_id: found
        for account_id, found in coverage.gaps.items()
        if not wanted or any(each.policy_id in wanted for each in found)
    }
    chosen: list[AccountId] = []
    left_out: dict[AccountId, str] = {}
    dead_letters: frozenset[AccountId] = _accounts_of_dead_letters(context) if gaps else frozenset()
    with reading() as show:
        for account_id, found in gaps.items():
            if len(chosen) == limit:
                break
            show("the accounts with gaps again", len(chosen))
            why = (
                _waits(covered, account_id, dead_letters)
                or _paused(covered, account_id)
                or _would_fail(context, account_id, found)
            )
            if why:
                left_out[account_id] = why
            if force or not why:
                chosen.append(account_id)
    lines = [each for account_id in chosen for each in gaps[account_id]]
    unclear = sum(not wanted or any(each.policy_id in wanted for each in found) for found in coverage.unclear.values())
    maybe = sum(len(coverage.unclear.get(account_id, ())) for account_id in chosen)
    return Gaps(
        totals(coverage),
        unclear,
        pseudonyms(context),
        chosen,
        left_out,
        attachments=sum(each.cause not in LASTING for each in lines),
        calls=sum(each.cause is not GapCause.NO_PLACE for each in lines) + maybe,
        removals=sum(len(coverage.removable.get(account_id, ())) for account_id in chosen),
    )


def _waits(covered: Covered, account_id: AccountId, dead_letters: frozenset[AccountId]) -> str | None:
    """Return why an account needs no request: something that attaches its policies is there already."""
    if covered.coverage.waits(account_id, covered.outcomes[account_id]):
        return as_typed("an event of the account is being retried; see `outcomes --status RETRYING`")
    if account_id in dead_letters:
        return as_typed("a dead letter of the account waits; see `list`, correct the cause, then `redrive`")
    return None


def _paused(covered: Covered, account_id: AccountId) -> str | None:
    """Return why nothing is repaired in an account."""
    paused = covered.coverage.paused.get(account_id)
    return why_paused(paused) if paused else None


def _would_fail(context: Context, account_id: AccountId, found: Sequence[AccountPolicy]) -> str | None:
    """Return why a request for an account would fail; None if no reason is found."""
    if lasting := [each for each in found if each.cause in LASTING]:
        what = "nothing that it lacks can" if len(lasting) == len(found) else "a policy that it lacks cannot"
        return as_typed(f"{what} be attached ({lasting[0].cause}); see `coverage`")
    preflight, lacking = context.preflight, [each.policy_id for each in found]
    problems = preflight.of_account(account_id, read_account=preflight.reads_more, lacking=lacking)
    return sentences(problems, message=False) or None


def _accounts_of_dead_letters(context: Context) -> frozenset[AccountId]:
    """Return the accounts whose messages wait in the queues of failed messages."""
    with context.in_flight() as in_flight:
        events = (each.event for each in receive_all(in_flight, "reading the dead letters"))
        ours = {None, context.requirements.organization_id}
        return frozenset(
            each.account_id
            for each in events
            if isinstance(each, Join) and each.cause != "removal" and each.organization_id in ours
        )


def _policies(context: Context, known: Sequence[OrganizationPolicy], wanted: Sequence[str]) -> Iterator[PolicyId]:
    """Yield the ids of the policies that the operator named; raise UsageError for others than the guardrails'."""
    ids = context.requirements.guardrails.policy_ids
    names = {each.id: each.name for each in known}
    for label in wanted:
        found = [each for each in ids if label in {each, names.get(each)}]
        if not found:
            listed = ", ".join(names.get(each, each) for each in ids)
            raise click.UsageError(f"--policy: the guardrails have no policy {label!r}. Use one of {listed}")
        yield from found
