"""A coverage as tables for people, as JSON, and as CSV.

Account ids are shown only on request: what people print ends up in tickets that others read.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from handlers.core.plurals import count
from handlers.core.reconcile.coverage import INHERITS, GapCause, Status
from handlers.operate.csv_output import print_csv_rows
from handlers.operate.hints import as_typed
from handlers.operate.output import hint, plain, print_json, stdout
from handlers.operate.pausing import why_paused
from handlers.operate.tables import Cell, lines, print_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from handlers.core.guardrails.pauses import Paused
    from handlers.core.reconcile.coverage import AccountPolicy, Coverage, PolicyCoverage
    from schemas.ids import AccountId, PolicyId

#: The number of accounts with gaps that people see one by one.
_SHOWN: Final = 20
_COLUMNS: Final = (
    *("account", "policy", "policy_id", "status", "cause", "code", "inherits", "exceptions", "last_day", "needs"),
    *("joined_at", "exception_owners", "paused", "paused_until", "paused_by"),
)
_WORDS: Final[Mapping[GapCause, str]] = {
    GapCause.NO_POLICY: "the organization has no such policy",
    GapCause.TYPE_DISABLED: "the policy type is not enabled",
    GapCause.NO_PLACE: "no place is left on the account",
    GapCause.NEVER_SEEN: "no event of the account has an outcome",
    GapCause.RETRYING: "an attempt is running, or failed and is made again",
    GapCause.FAILED: "the last attempt failed",
    GapCause.DRIFTED: "Joinguard attached it, and somebody detached it",
    GapCause.NOT_YET: "no outcome explains it; the guardrails may have changed since",
    GapCause.UNKNOWN: "the cause is not known",
}
_ENFORCE: Final = "`joinguard enforce --gaps`"
_NEXT_STEPS: Final[Mapping[GapCause, str]] = {
    GapCause.NO_POLICY: "correct the stage's policies, `make deploy`",
    GapCause.TYPE_DISABLED: "enable the policy type in the root, then `joinguard enforce --gaps`",
    GapCause.NO_PLACE: "detach or merge a policy of the account, then `joinguard enforce --gaps`",
    GapCause.NEVER_SEEN: _ENFORCE,
    GapCause.RETRYING: "wait; `joinguard outcomes --status RETRYING` shows the cause",
    GapCause.FAILED: "`joinguard list` shows the message and its next step; without one, `joinguard enforce --gaps`",
    GapCause.DRIFTED: "find out who detached it, then `joinguard enforce --gaps`",
    GapCause.NOT_YET: _ENFORCE,
    GapCause.UNKNOWN: "`joinguard outcomes --status any` shows rows that are not readable",
}
_OFFLINE: Final = "`joinguard coverage` without --snapshot tells the cause"
_ALLOW: Final = "use the stack's role OperatorReads"
#: The facts in the words of the document.
_KEYS: Final = {"ous": "ou", "email": "email_domain"}


class Format(StrEnum):
    """How a coverage is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True)
class Report:
    """A coverage with what its reader has to know."""

    coverage: Coverage
    #: The names of policies.
    names: Mapping[str, str]
    #: How an account is shown.
    shown: Callable[[AccountId], str]
    #: The first day on which accounts joined, if earlier ones are left out.
    since: datetime | None
    #: Whether outcomes tell the causes.
    knows_outcomes: bool
    #: Whether all policies of the accounts with gaps were read.
    reads_places: bool
    #: Who owns the exceptions, by their ids, as far as that is known.
    owners: Mapping[str, str]

    def policy(self, policy_id: str) -> str:
        """Return the name of a policy."""
        return self.names.get(policy_id, policy_id)

    def next_step(self, cause: GapCause, code: str | None = None) -> str:
        """Return what to do about a gap."""
        if cause is GapCause.UNKNOWN and not self.knows_outcomes:
            return as_typed(_OFFLINE)
        if cause is GapCause.FAILED and code:
            return as_typed(_NEXT_STEPS[cause].replace("joinguard list", f"joinguard list --code {code}"))
        return as_typed(_NEXT_STEPS[cause])


def print_report(report: Report, form: Format) -> None:
    """Print a coverage."""
    if form is Format.JSON:
        print_json(_fields(report))
    elif form is Format.CSV:
        print_csv_rows(_COLUMNS, (_csv_row(report, each) for each in report.coverage.lines))
    else:
        _print_tables(report)


def totals(coverage: Coverage) -> dict[str, Any]:
    """Return how many accounts there are of each kind, for --json."""
    return {
        "accounts": coverage.accounts,
        "evaluated": len(coverage.evaluated),
        "covered": coverage.covered,
        "with_gaps": len(coverage.gaps),
        "unclear": len(coverage.unclear),
        "observed": len(coverage.observed),
        "observed_lacking": coverage.observed_lacking,
        "left_out": dict(coverage.left_out),
        "missing": coverage.missing,
        "paused": len(coverage.paused),
        "missing_paused": coverage.missing_paused,
        "is_complete": coverage.is_complete,
    }


def _fields(report: Report) -> dict[str, Any]:
    coverage = report.coverage
    return {
        "organization": coverage.organization_id,
        "guardrails": coverage.guardrails,
        "read_at": coverage.read_at.isoformat(),
        "since": report.since.date().isoformat() if report.since else None,
        **totals(coverage),
        "knows_outcomes": report.knows_outcomes,
        "policies": [
            {
                "policy": report.policy(each.id),
                "id": each.id,
                "type": each.type,
                "required": each.required,
                "carried": each.carried,
                "missing": each.lacking,
                "causes": dict(each.missing),
                "paused": _paused_of(coverage, each.id),
                "undecided": each.undecided,
                "unread": each.unread,
                "excepted": each.excepted,
                "inherited": each.inherited,
            }
            for each in coverage.by_policy
        ],
        "gaps": [
            {
                "account": report.shown(account_id),
                "paused": _paused_fields(coverage.paused.get(account_id)),
                "policies": [_gap_fields(report, each) for each in found],
            }
            for account_id, found in coverage.gaps.items()
        ],
        "exceptions": [
            {
                "account": report.shown(each.account_id),
                "policy": report.policy(each.policy_id),
                "inherits": each.inherits,
                "exceptions": [
                    {"id": one.id, "last_day": one.expires.isoformat(), "owner": report.owners.get(one.id)}
                    for one in each.exceptions
                ],
            }
            for each in coverage.lines
            if each.status is Status.EXCEPTED
        ],
        "types_in_full": sorted(coverage.types_in_full),
        "unread": [each.model_dump(exclude_none=True) for each in coverage.unread],
    }


def _gap_fields(report: Report, line: AccountPolicy) -> dict[str, Any]:
    cause = line.cause or GapCause.UNKNOWN
    return {
        "policy": report.policy(line.policy_id),
        "id": line.policy_id,
        "cause": cause,
        "code": line.code,
        "inherits": line.inherits,
        "next_step": report.next_step(cause, line.message_code),
    }


def _paused_of(coverage: Coverage, policy_id: PolicyId) -> int:
    """Return how many accounts are paused of those that lack a policy."""
    return sum(any(each.policy_id == policy_id for each in coverage.gaps[one]) for one in coverage.paused)


def _paused_fields(paused: Paused | None) -> dict[str, Any] | None:
    if paused is None:
        return None
    return {
        "until": paused.until.isoformat() if paused.until else None,
        "undecided": paused.is_undecided,
        "pauses": [{"id": each.id, "owner": each.owner, "until": each.until.isoformat()} for each in paused.pauses],
        "unreadable": list(paused.unreadable),
    }


def _csv_row(report: Report, line: AccountPolicy) -> list[str]:
    joined_at = report.coverage.joined_at.get(line.account_id)
    return [
        report.shown(line.account_id),
        report.policy(line.policy_id),
        line.policy_id,
        line.status,
        line.cause or "",
        line.code or "",
        {True: "yes", False: "no", None: "unknown"}[line.inherits] if line.status in INHERITS else "",
        " ".join(each.id for each in line.exceptions),
        str(max(each.expires for each in line.exceptions)) if line.exceptions else "",
        _keys(line),
        joined_at.isoformat() if joined_at else "",
        " ".join(report.owners.get(each.id, "") for each in line.exceptions).strip(),
        *_csv_of_pause(report.coverage.paused.get(line.account_id) if line.status is Status.MISSING else None),
    ]


def _csv_of_pause(paused: Paused | None) -> list[str]:
    if paused is None:
        return ["", "", ""]
    owners = dict.fromkeys(each.owner for each in paused.pauses)
    return [
        "unknown" if paused.is_undecided else "yes",
        paused.until.isoformat() if paused.until else "",
        ", ".join(owners),
    ]


def _print_tables(report: Report) -> None:
    coverage = report.coverage
    rows: list[list[Cell]] = [
        [report.policy(each.id), f"{each.carried:,}", f"{each.lacking:,}", lines(*_about(report, each))]
        for each in coverage.by_policy
    ]
    print_table("Coverage", ["Policy", "Carried", "Missing", "Why, next step"], rows)
    if coverage.gaps:
        shown = list(coverage.gaps.items())[:_SHOWN]
        rows = [
            [report.shown(account_id), lines(*_why(report, found), *_pause(coverage.paused.get(account_id)))]
            for account_id, found in shown
        ]
        print_table("Accounts that lack policies", ["Account", "Policies, next step"], rows)
    if (left := len(coverage.gaps) - _SHOWN) > 0:
        stdout.print(plain(f"and {count(left, 'more account')}; --csv and --json print all"), soft_wrap=True)
    for each in _remarks(report):
        stdout.print(plain(each), soft_wrap=True)
    hint(summary(coverage))


def _about(report: Report, policy: PolicyCoverage) -> Iterator[str]:
    """Yield what there is to say about a policy, beside the numbers."""
    for cause, number in policy.missing.items():
        yield f"{number:,} {cause}: {_WORDS[cause]} → {report.next_step(cause)}"
    if paused := _paused_of(report.coverage, policy.id):
        yield f"missing on {count(paused, 'account')} where nothing is repaired because of a pause"
    if policy.undecided:
        mine = (each for each in report.coverage.lines if each.policy_id == policy.id)
        keys = ", ".join(sorted({_keys(each) for each in mine if each.status is Status.UNDECIDED}))
        yield f"undecided for {count(policy.undecided, 'account')}: {keys} could not be read → {_ALLOW}"
    if policy.unread:
        yield f"unknown for {count(policy.unread, 'account')}: where it is attached could not be read → {_ALLOW}"
    if policy.inherited:
        yield f"inherited, too, by {count(policy.inherited, 'account')}"
    if policy.excepted:
        mine = (each for each in report.coverage.lines if each.policy_id == policy.id)
        inherit = sum(each.status is Status.EXCEPTED and bool(each.inherits) for each in mine)
        still = f", of which {inherit:,} inherit it all the same" if inherit else ""
        yield f"{count(policy.excepted, 'account')} excepted{still}"


def _why(report: Report, found: Sequence[AccountPolicy]) -> Iterator[str]:
    """Yield why an account lacks policies, each cause and each next step once."""
    by_cause: dict[tuple[GapCause, str | None, str | None], list[AccountPolicy]] = {}
    for each in found:
        by_cause.setdefault((each.cause or GapCause.UNKNOWN, each.code, each.message_code), []).append(each)
    steps: dict[str, None] = {}
    for (cause, code, message_code), some in by_cause.items():
        policies = ", ".join(
            f"{report.policy(each.policy_id)}{' (inherited)' if each.inherits else ''}" for each in some
        )
        yield f"{policies}: {cause}{f' {code}' if code else ''}"
        steps[report.next_step(cause, message_code)] = None
    yield from (f"→ {each}" for each in steps)


def _pause(paused: Paused | None) -> Iterator[str]:
    if paused:
        yield why_paused(paused)


def _remarks(report: Report) -> Iterator[str]:
    coverage = report.coverage
    yield from _of_exceptions(report)
    if coverage.observed:
        yield (
            f"Only observed (AttachTo): {count(len(coverage.observed), 'account')}, of which "
            f"{coverage.observed_lacking:,} lack a policy."
        )
    if coverage.left_out:
        yield f"Left out: {', '.join(f'{number:,} {state}' for state, number in coverage.left_out.items())}."
    if report.since and (unknown := sum(each not in coverage.joined_at for each in coverage.evaluated)):
        yield f"Of {count(unknown, 'account')}, it is not known when they joined, so they are not left out."
    for unread in coverage.unread:
        what = f"{unread.part} of {report.policy(unread.policy)}" if unread.policy else unread.part
        yield f"Could not read: {what} ({unread.code})."
    if coverage.gaps:
        yield from _of_gaps(report)


def _of_exceptions(report: Report) -> Iterator[str]:
    taken = Counter(
        (each.id, each.expires, line.policy_id) for line in report.coverage.lines for each in line.exceptions
    )
    for (exception_id, expires, policy_id), number in taken.items():
        accounts = count(number, "account")
        owner = f" ({report.owners[exception_id]})" if exception_id in report.owners else ""
        yield f"Exception {exception_id}{owner} takes {report.policy(policy_id)} from {accounts} until {expires}."


def _of_gaps(report: Report) -> Iterator[str]:
    if not report.knows_outcomes:
        yield "The outcomes are not part of a recording, so most causes are not known."
        return
    coverage = report.coverage
    in_part = {each.type for each in coverage.policies}.difference(coverage.types_in_full)
    if in_part and not report.reads_places:
        yield (
            "Policies that the guardrails do not name are not counted for places, except one of AWS's own on each "
            "account. --places reads those of the accounts with gaps."
        )


def summary(coverage: Coverage) -> str:
    """Return a coverage in one sentence."""
    evaluated = count(len(coverage.evaluated), "account")
    if coverage.is_complete:
        return f"{evaluated}: each carries every required policy."
    parts = [f"{coverage.covered:,} covered"]
    if coverage.gaps:
        paused = f", {len(coverage.paused):,} of them paused" if coverage.paused else ""
        parts.append(f"{len(coverage.gaps):,} with gaps ({count(coverage.missing, 'attachment')} missing){paused}")
    if coverage.unclear:
        parts.append(f"{len(coverage.unclear):,} unclear")
    return f"{evaluated}: {', '.join(parts)}."


def _keys(line: AccountPolicy) -> str:
    return " ".join(sorted(_KEYS.get(each, each) for each in line.needs))
