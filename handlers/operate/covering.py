"""What `coverage` and `enforce --gaps` do: read the organization, and compare it with the guardrails in force."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from handlers.core.guardrails.evaluate import Guardrails
from handlers.core.guardrails.facts import Fact, Facts
from handlers.core.guardrails.scope import Scope
from handlers.core.guardrails.snapshot import Wanted, facts_of, take_snapshot, with_attached, with_tags
from handlers.core.reconcile.coverage import Coverage, cover
from handlers.operate.coverage_output import Format, Report, print_report
from handlers.operate.errors import OperateError
from handlers.operate.planning import exception_owners, read_guardrails, read_snapshot
from handlers.operate.progress import progress, reading

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from handlers.core.guardrails.compile import Organization
    from handlers.core.reconcile.coverage import Rows
    from handlers.operate.context import Connection, Context, OrganizationContext
    from schemas.compiled_guardrails import PolicyType
    from schemas.ids import AccountId
    from schemas.snapshot import Snapshot, SnapshotAccount

#: Parallel reads of outcomes.
_PARALLEL: Final = 8
_NOBODY: Final = "000000000000"


@dataclass(frozen=True)
class Recorded:
    """What to compare without an installation."""

    snapshot: pathlib.Path
    guardrails: pathlib.Path


@dataclass(frozen=True)
class Request:
    """The options of `coverage`."""

    #: A recorded organization and its guardrails; None for the installation's.
    recorded: Recorded | None
    #: Leave out the accounts that joined earlier.
    since: datetime | None
    reads_places: bool
    form: Format
    reveals: bool
    #: The stage's document, which says who owns the exceptions, if it is what is in force.
    document: pathlib.Path

    @classmethod
    def of(  # noqa: PLR0913 - the options of the command
        cls,
        *,
        since: datetime | None,
        places: bool,
        reveal: bool,
        as_csv: bool,
        as_json: bool,
        snapshot: pathlib.Path | None,
        guardrails: pathlib.Path | None,
        document: pathlib.Path,
    ) -> Request:
        """Take the options as click passes them."""
        form = Format.CSV if as_csv else Format.JSON if as_json else Format.TABLE
        recorded = Recorded(snapshot, guardrails) if snapshot and guardrails else None
        return cls(recorded, since, places, form, reveal, document)


@dataclass(frozen=True)
class Covered:
    """A coverage, and what it was made of."""

    coverage: Coverage
    snapshot: Snapshot
    #: The outcomes of the accounts with gaps.
    outcomes: Mapping[AccountId, Rows]

    @property
    def names(self) -> dict[str, str]:
        """The names of the policies."""
        return {each.id: each.name for each in self.snapshot.policies}


def coverage(request: Request, connection: Connection) -> int:
    """Compare the organization with the guardrails, and print the result; return the exit status."""
    if request.recorded:
        covered = _of_recorded(request.recorded, request.since, connection.now())
        hidden, document = _numbers(covered.coverage), request.recorded.guardrails
    else:
        context = connection()
        covered = read_coverage(
            context, connection.organization(), since=request.since, reads_places=request.reads_places
        )
        hidden, document = pseudonyms(context), request.document
    found = covered.coverage
    report = Report(
        found,
        covered.names,
        shown=str if request.reveals else hidden,
        since=request.since,
        knows_outcomes=request.recorded is None,
        reads_places=request.reads_places,
        owners=exception_owners(document, found.guardrails, connection.now()),
    )
    print_report(report, request.form)
    return 0 if found.is_complete else 1


def read_coverage(
    context: Context,
    organization: OrganizationContext,
    *,
    since: datetime | None = None,
    reads_places: bool = False,
    check: Callable[[Organization], None] = lambda _organization: None,
) -> Covered:
    """Compare the organization as it is with the guardrails in force, and find the causes of gaps.

    `check` is called with the names of policies before the accounts are read; what it raises ends the reading.
    """
    return explain(context, *compare(context, organization, since=since, reads_places=reads_places, check=check))


def explain(context: Context, found: Coverage, snapshot: Snapshot) -> Covered:
    """Find the causes of the gaps of a coverage."""
    outcomes = _outcomes(context, found.gaps)
    explained = found.explained(outcomes)
    if found.gaps:
        explained = explained.with_pauses(context.known_pauses(), snapshot, snapshot.begun_at)
    return Covered(explained, snapshot, outcomes)


def compare(
    context: Context,
    organization: OrganizationContext,
    *,
    since: datetime | None = None,
    reads_places: bool = False,
    check: Callable[[Organization], None] = lambda _organization: None,
) -> tuple[Coverage, Snapshot]:
    """Compare the organization as it is with the guardrails in force, without the causes of gaps."""
    requirements, now = context.requirements, context.clock.now()
    guardrails = requirements.guardrails
    # Guardrails that could not be read look empty, and raise the reason when they are asked.
    guardrails.evaluate(Facts(_NOBODY), now)
    limits = context.preflight.limits

    def compared(snapshot: Snapshot) -> Coverage:
        return cover(
            guardrails,
            snapshot,
            now,
            requirements.scope,
            policies_per_account=limits,
            since=since,
            removes=requirements.removes,
        )

    with reading() as show:
        wanted = Wanted(guardrails.policy_types, guardrails.policy_ids, content=False)
        snapshot = take_snapshot(organization.reader, wanted, context.clock, show, check)
        if Fact.TAGS in guardrails.facts_needed:

            def needs_tags(account: SnapshotAccount) -> bool:
                return Fact.TAGS in guardrails.evaluate(facts_of(account), now).needs

            in_bulk = organization.account_id == snapshot.management_account_id
            snapshot = with_tags(snapshot, organization.reader, needs_tags, show, in_bulk=in_bulk)
        found = compared(snapshot)
        if reads_places and found.gaps:
            snapshot = with_attached(snapshot, organization.reader, found.gaps, show)
            found = compared(snapshot)
    return found, snapshot


def _outcomes(context: Context, accounts: Collection[AccountId]) -> dict[AccountId, Rows]:
    """Read the outcomes of accounts, several at a time."""
    if not accounts:
        return {}

    def read(account_id: AccountId) -> Rows:
        return context.patiently(lambda: tuple(context.outcomes.of_account(account_id)))

    found: dict[AccountId, Rows] = {}
    with progress("reading outcomes", len(accounts)) as advance, ThreadPoolExecutor(_PARALLEL) as pool:
        try:
            for account_id, rows in zip(accounts, pool.map(read, accounts), strict=True):
                found[account_id] = rows
                advance(1)
        except BaseException:
            # Otherwise, an interrupt waits until everything is read.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _of_recorded(recorded: Recorded, since: datetime | None, now: datetime) -> Covered:
    document, snapshot = read_guardrails(recorded.guardrails, now), read_snapshot(recorded.snapshot)
    if missing := {each.type for each in document.policies}.difference(snapshot.read_types):
        raise OperateError(
            f"the recording has no policies of {', '.join(sorted(missing))}. Record one: joinguard snapshot FILE"
        )
    limits: dict[PolicyType, int] = document.policies_per_account
    found = cover(Guardrails(document), snapshot, now, Scope(), policies_per_account=limits, since=since)
    return Covered(found, snapshot, {})


def pseudonyms(context: Context) -> Callable[[AccountId], str]:
    """Return what replaces account ids on the screen."""
    return lambda account_id: context.pseudonyms.of(account_id).value


def _numbers(found: Coverage) -> Callable[[AccountId], str]:
    """Return what replaces account ids where no key derives pseudonyms: numbers of the accounts, in order."""
    return {account_id: f"account {number}" for number, account_id in enumerate(found.evaluated, 1)}.__getitem__
