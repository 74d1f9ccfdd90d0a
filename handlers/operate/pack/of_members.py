"""The sections about members: joins, coverage over time, and every member."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from handlers.core.plurals import agree, count
from handlers.operate.pack import words
from handlers.operate.pack.charts import coverage_chart, latency_chart
from handlers.operate.pack.report import MAX_MEMBERS, STATES, Column, Section, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from schemas.ids import PolicyId
    from schemas.pack import Member, Pack

_STILL: Final = "still open"


def joins(pack: Pack) -> Section:
    """Return the section about how long it took until those that joined carried their policies, and which did not."""
    times, new = pack.latency, [each for each in pack.members if each.is_new]
    if times.measured:
        lead = [
            (
                f"Half of {count(times.measured, 'join')} took at most {words.duration(times.p50)}, 95 of 100 at "
                f"most {words.duration(times.p95)}, and the longest {words.duration(times.longest)}, from AWS's event "
                "to the evidence that the account carries everything that it must carry."
            )
        ]
    else:
        lead = ["No join was measured."]
    if times.not_measured:
        lead.append(
            f"Of {count(times.not_measured, 'account')} more, it is known when all policies were carried, and not when "
            f"the {agree(times.not_measured, 'account', 'accounts')} joined."
        )
    lacking = [each for each in new if each.guarded_at is None]
    if lacking:
        lead.append(
            f"Of {count(len(lacking), 'account')}, no valid evidence shows that all policies were attached. The state "
            "at the end can still be known from a later sweep."
        )
    distribution = table(
        "distribution",
        "Joins by the time that they took",
        (Column("Time from join to guardrail", 3), Column("Joins", 1, "number")),
        [(name, f"{joins:,}") for name, joins in words.ranges(times)],
        is_folded=True,
    )
    unguarded = table(
        "not-guarded",
        "Accounts that joined, and of which no record shows that they got all their policies",
        (
            Column("Account", 3.4, "id"),
            Column("Joined (UTC)", 1.9),
            Column("Reported by", 2),
            Column("Left (UTC)", 1.9),
            Column("State at the end", 1.2, tones=STATES),
            Column("Why", 2.4),
        ),
        [
            (
                each.account,
                words.moment(each.joined_at),
                each.joined_by or "",
                words.moment(each.left_at),
                words.STATES[each.state],
                words.NO_PROOF[each.no_proof] if each.no_proof else "",
            )
            for each in lacking
        ],
        empty="None: each account that joined got all its policies." if new else "No account joined.",
    )
    chart = latency_chart(words.ranges(times)) if times.measured else None
    return Section("joins", "From join to guardrail", lead, (unguarded, distribution), chart)


def coverage(pack: Pack) -> Section:
    """Return the section about what the sweeps found over time."""
    summary, last = pack.summary, pack.sweeps[-1] if pack.sweeps else None
    lead = ["No sweep of the period has evidence, so no comparison of all accounts is on record."]
    if last:
        swept = len(pack.days) - summary.days_without_sweep
        lead = [
            (
                f"{count(summary.sweeps, 'sweep')} on {swept:,} of {count(len(pack.days), 'day')} compared "
                f"every account with the guardrails. The last one, on {words.moment(last.decided_at)} UTC, found "
                f"{last.covered:,} of {count(last.members, 'member')} covered, {last.with_gaps:,} with gaps and "
                f"{last.unclear:,} unclear."
            )
        ]
    days = table(
        "days",
        "Sweeps by day: the last one's members, and the most that any found",
        (
            Column("Day (UTC)", 2),
            Column("Sweeps", 1, "number"),
            Column("Members", 1, "number"),
            Column("Covered", 1, "number"),
            Column("Most with gaps", 1.3, "number"),
            Column("Most unclear", 1.3, "number"),
            Column("Most drifted", 1.3, "number"),
        ),
        [
            (
                f"{each.day}",
                f"{each.sweeps:,}" if each.sweeps else "none",
                *(
                    "" if number is None else f"{number:,}"
                    for number in (each.members, each.covered, each.most_gaps, each.most_unclear, each.most_drifted)
                ),
            )
            for each in pack.days
        ],
        is_folded=True,
    )
    gaps = table(
        "gaps",
        "Gaps that sweeps found: those first that are still open, then the longest",
        (
            Column("Account", 3.4, "id"),
            Column("Policy", 1.7, "id"),
            Column("Cause", 1.3),
            Column("First seen (UTC)", 1.9),
            Column("Closed (UTC)", 1.9, tones={_STILL: "bad"}),
            Column("Lasted", 1.1),
        ),
        [
            (
                each.account,
                each.policy_id,
                each.cause,
                words.moment(each.first_seen),
                words.moment(each.closed_at) or _STILL,
                words.duration(((each.closed_at or each.last_seen) - each.first_seen).total_seconds()),
            )
            for each in pack.gaps
        ],
        empty="No sweep found an account without a policy." if last else "No sweep is on record.",
    )
    chart = coverage_chart(pack.days) if last else None
    return Section("coverage", "Coverage and gaps over time", lead, (gaps, days), chart)


def members(pack: Pack) -> Section:
    """Return the section about every member."""
    sets = _policy_sets(pack.members)
    named = {required: f"P{number}" for number, required in enumerate(sets, 1)}
    policy_sets = table(
        "policy-sets",
        "Sets of required policies",
        (Column("Set", 0.6), Column("Members", 0.8, "number"), Column("Policies", 6, "id")),
        [
            (named[each], f"{number:,}", "\n".join(words.policy(pack, one) for one in each) or "none")
            for each, number in sets.items()
        ],
        empty="No record says what any member had to carry.",
    )
    members = table(
        "members-table",
        "Members of the period: those first that joined in it",
        (
            Column("Account", 3.4, "id"),
            Column("State", 1.1, tones=STATES),
            Column("Joined (UTC)", 1.8),
            Column("Guarded after", 1.2, "number"),
            Column("Required", 0.9),
            Column("Carried", 1.6),
            Column("Carries now", 1.6),
            Column("Reported by", 2.2),
            Column("Left (UTC)", 1.6),
        ),
        [_member(each, named) for each in pack.members],
        empty="No account was a member.",
        limit=MAX_MEMBERS,
    )
    summary = pack.summary
    lead = [
        (
            f"{count(summary.members, 'membership')} {agree(summary.members, 'overlaps', 'overlap')} the period: "
            f"{summary.joined:,} began in it, {summary.left:,} ended in it, and {summary.members_at_end:,} "
            f"{agree(summary.members_at_end, 'was', 'were')} there at its end. An account that left "
            "and joined again has two. The management account, which service control policies do not affect, is no "
            "member."
        ),
        (
            "What a member had to carry and carried is as the newest valid evidence of the period says; members.csv "
            "says from when, with the key of the evidence. A member is covered if that evidence says so, or if the "
            "last sweep of the period came later and found no account without a policy. What a member carries now is "
            "as AWS Organizations said when the pack was made, which says nothing about the period."
        ),
    ]
    return Section("members", "Members", lead, (policy_sets, members))


def _policy_sets(members: Iterable[Member]) -> dict[tuple[PolicyId, ...], int]:
    """Return the sets of required policies, and how many members each has, the most frequent first."""
    counts: dict[tuple[PolicyId, ...], int] = {}
    for each in members:
        if each.required is not None:
            counts[each.required] = counts.get(each.required, 0) + 1
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def _member(each: Member, named: Mapping[tuple[PolicyId, ...], str]) -> Sequence[str]:
    return (
        each.account,
        words.STATES[each.state],
        words.moment(each.joined_at),
        words.duration(each.seconds) or ("yes" if each.guarded_at else "no proof" if each.is_new else ""),
        named[each.required] if each.required is not None else words.UNKNOWN,
        _carried(each.required, each.carried),
        _carried(each.required_now, each.carried_now),
        each.joined_by or "",
        _left(each),
    )


def _left(each: Member) -> str:
    how = f" ({words.DEPARTURES[each.left_by]})" if each.left_by else ""
    return f"{words.moment(each.left_at)}{how}" if each.left_at else ""


def _carried(required: Sequence[PolicyId] | None, carried: Sequence[PolicyId] | None) -> str:
    if required is None or carried is None:
        return words.UNKNOWN
    missing = [policy for policy in required if policy not in carried]
    return f"without {', '.join(missing)}" if missing else "all"
