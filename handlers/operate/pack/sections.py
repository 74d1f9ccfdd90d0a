"""What a report says, section by section: sentences and tables. The page and the PDF show the same ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from handlers.operate.pack import words
from handlers.operate.pack.charts import coverage_chart, latency_chart
from schemas.pack import FailureEnd, MemberState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from handlers.operate.pack.charts import Chart
    from schemas.ids import PolicyId
    from schemas.pack import Member, Pack

#: How many rows a table of the report has at most; the spreadsheet and CSV have all of them.
MAX_ROWS: Final = 1_000
#: The same of the table of members, which is the population.
MAX_MEMBERS: Final = 10_000
Kind = Literal["text", "number", "id"]
#: What a value means: it is as it should be, somebody should look, it is wrong.
Tone = Literal["good", "look", "bad"]


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    #: The share of the width on paper.
    weight: float
    kind: Kind = "text"
    tones: Mapping[str, Tone] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of the report."""

    id: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    #: What is said if there are no rows.
    empty: str = "None."
    #: The number of rows before the table was cut.
    total: int = 0
    #: Whether it only repeats a chart, or is long and rarely read, so that it is folded on the screen.
    is_folded: bool = False

    @property
    def left_out(self) -> int:
        """How many rows the table does not show."""
        return max(0, self.total - len(self.rows))


@dataclass(frozen=True)
class Section:
    """A section of the report."""

    id: str
    title: str
    lead: Sequence[str]
    tables: Sequence[Table] = ()
    chart: Chart | None = None
    #: Points in a list.
    points: Sequence[str] = ()


_STATES: Final[Mapping[str, Tone]] = {
    words.STATES[MemberState.COVERED]: "good",
    words.STATES[MemberState.GAP]: "bad",
    words.STATES[MemberState.OBSERVED]: "look",
    words.STATES[MemberState.UNCLEAR]: "look",
}
_ENDS: Final[Mapping[str, Tone]] = {
    words.ENDS[FailureEnd.OPEN]: "bad",
    words.ENDS[FailureEnd.RETRYING]: "look",
    words.ENDS[FailureEnd.ENFORCED]: "good",
    words.ENDS[FailureEnd.ENFORCED_BY_ANOTHER_EVENT]: "good",
}
_HASH: Final = 12
_CUT_OFF: Final = "cut off"
_STILL: Final = "still open"


def sections(pack: Pack) -> tuple[Section, ...]:
    """Return the sections in the order in which an auditor reads them; the population comes last."""
    return (
        _joins(pack),
        _coverage(pack),
        _exceptions(pack),
        _failures(pack),
        _actions(pack),
        _changes(pack),
        _rehearsals(pack),
        _configuration(pack),
        _integrity(pack),
        _unproven(pack),
        _controls(pack),
        _members(pack),
    )


def _table(  # noqa: PLR0913 - the parts of a table
    name: str,
    caption: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    *,
    empty: str = "None.",
    limit: int = MAX_ROWS,
    is_folded: bool = False,
) -> Table:
    every = list(rows)
    return Table(name, caption, columns, every[:limit], empty, len(every), is_folded)


def _joins(pack: Pack) -> Section:
    times, new = pack.latency, [each for each in pack.members if each.is_new]
    if times.measured:
        lead = [
            (
                f"Half of {words.count(times.measured, 'join')} took at most {words.duration(times.p50)}, 95 of 100 at "
                f"most {words.duration(times.p95)}, and the longest {words.duration(times.longest)}, from AWS's event to "
                "the evidence that the account carries everything that it must carry."
            )
        ]
    else:
        lead = ["No join was measured."]
    if times.not_measured:
        lead.append(
            f"{words.count(times.not_measured, 'account')} more got their policies, and it is not known when they "
            "joined."
        )
    distribution = _table(
        "distribution",
        "Joins by the time that they took",
        (Column("Time from join to guardrail", 3), Column("Joins", 1, "number")),
        [(name, f"{joins:,}") for name, joins in words.ranges(times)],
        is_folded=True,
    )
    lacking = [each for each in new if each.guarded_at is None]
    unguarded = _table(
        "not-guarded",
        "Accounts that joined, and of which no record shows that they got all their policies",
        (
            Column("Account", 3.4, "id"),
            Column("Joined (UTC)", 1.9),
            Column("Reported by", 2),
            Column("Left (UTC)", 1.9),
            Column("State at the end", 1.4, tones=_STATES),
        ),
        [
            (
                each.account,
                words.moment(each.joined_at),
                each.joined_by or "",
                words.moment(each.left_at),
                words.STATES[each.state],
            )
            for each in lacking
        ],
        empty="None: each account that joined got all its policies." if new else "No account joined.",
    )
    chart = latency_chart(words.ranges(times)) if times.measured else None
    return Section("joins", "From join to guardrail", lead, (unguarded, distribution), chart)


def _coverage(pack: Pack) -> Section:
    summary, last = pack.summary, pack.sweeps[-1] if pack.sweeps else None
    lead = ["No sweep of the period has evidence, so no comparison of all accounts is on record."]
    if last:
        swept = len(pack.days) - summary.days_without_sweep
        lead = [
            (
                f"{words.count(summary.sweeps, 'sweep')} on {swept:,} of {words.count(len(pack.days), 'day')} compared "
                f"every account with the guardrails. The last one, on {words.moment(last.decided_at)} UTC, found "
                f"{last.covered:,} of {words.count(last.members, 'member')} covered, {last.with_gaps:,} with gaps and "
                f"{last.unclear:,} unclear."
            )
        ]
    days = _table(
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
    gaps = _table(
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


def _exceptions(pack: Pack) -> Section:
    table = _table(
        "exceptions-table",
        "Exceptions that were in force on a day of the period",
        (
            Column("Exception", 1.2, "id"),
            Column("Policies", 1.8, "id"),
            Column("Accounts", 3.2, "id"),
            Column("From", 1),
            Column("Last day", 1),
            Column("Owner", 1.8),
            Column("Approved by", 1.8),
            Column("Reason", 1.6),
            Column("Attempts", 0.9, "number"),
        ),
        [
            (
                each.id,
                ", ".join(each.policies) or "not known",
                ", ".join(each.accounts) or "not known",
                f"{each.starts}" if each.starts else "",
                f"{each.expires}" if each.expires else "not known",
                each.owner or "not known",
                each.approved_by or "not known",
                each.reason or "",
                f"{each.attempts:,}",
            )
            for each in pack.exceptions
        ],
        empty="No exception was in force.",
    )
    lead = ["An exception takes policies from accounts, until the end of its last day in UTC. It never adds any."]
    return Section("exceptions", "Exceptions", lead, (table,))


def _failures(pack: Pack) -> Section:
    summary = pack.summary
    lead = [
        (
            f"{words.count(summary.failures, 'event')} of the period failed for a lasting cause; "
            f"{summary.open_failures:,} of them {'is' if summary.open_failures == 1 else 'are'} open."
        )
    ]
    table = _table(
        "failures-table",
        "Events that failed, and how each ended",
        (
            Column("Account", 2.6, "id"),
            Column("Event", 1.9),
            Column("Failed (UTC)", 1.6),
            Column("Code and reason", 2.6),
            Column("Policies", 1.5, "id"),
            Column("End", 1.6, tones=_ENDS),
            Column("Ended (UTC)", 1.6),
            Column("Operators' actions", 2.4, "id"),
        ),
        [
            (
                each.account or "none",
                each.event_name,
                words.moment(each.failed_at),
                ": ".join(filter(None, (each.code, each.reason or each.message))),
                ", ".join(each.policies),
                words.ENDS[each.end],
                words.moment(each.ended_at),
                ", ".join(each.actions),
            )
            for each in pack.failures
        ],
        empty="No event failed.",
    )
    return Section("failures", "Failures", lead, (table,))


def _actions(pack: Pack) -> Section:
    later = sum(not each.in_period for each in pack.actions)
    lead = ["Each action has a record of its intention, without which it does not begin, and one of its end."]
    if later:
        lead.append(f"{words.count(later, 'action')} came after the period, and concern its failures.")
    table = _table(
        "actions-table",
        "What operators did: redrives and everything else",
        (
            Column("Begun (UTC)", 1.6),
            Column("Action", 0.9),
            Column("Who", 2.6, "id"),
            Column("Why", 3),
            Column("Messages", 0.9, "number"),
            Column("Results", 1.8),
            Column("End", 1, tones={"completed": "good", _CUT_OFF: "bad", "stopped": "look", "interrupted": "look"}),
            Column("Action ID", 2.4, "id"),
        ),
        [
            (
                words.moment(each.begun_at),
                each.action,
                each.actor_name or each.actor,
                each.reason,
                f"{each.messages:,}",
                ", ".join(f"{number:,} {name}" for name, number in each.results.items()),
                each.ended or _CUT_OFF,
                each.action_id,
            )
            for each in pack.actions
        ],
        empty="Operators did nothing.",
    )
    return Section("actions", "Operators' actions", lead, (table,))


def _changes(pack: Pack) -> Section:
    tones: Mapping[str, Tone] = {"detached": "bad", "policy changed": "bad", "detached, and back": "good"}
    table = _table(
        "changes-table",
        "Policies that were removed, detached or changed, with who and why",
        (
            Column("When (UTC)", 1.6),
            Column("What", 1.6, tones=tones),
            Column("Account", 2.6, "id"),
            Column("Policy", 1.6, "id"),
            Column("Who", 2.6, "id"),
            Column("Why, or what followed", 3.2),
        ),
        [
            (
                words.moment(each.at),
                words.CHANGES[each.kind],
                each.account or "all",
                each.policy_id or "",
                each.who or ("Joinguard" if each.event_name == "RemovalRequest" else "not in the event"),
                each.why,
            )
            for each in pack.changes
        ],
        empty="No policy was removed, detached or changed.",
    )
    lead = ["Who is a pseudonym of the principal in AWS's event. Drift that no event told of is among the gaps."]
    return Section("changes", "Removals and drift", lead, (table,))


def _rehearsals(pack: Pack) -> Section:
    without = [each for each in pack.rehearsals if not each.rehearsals]
    slowest = max((each.slowest for each in pack.rehearsals if each.slowest is not None), default=None)
    lead = [
        (
            f"{words.count(pack.summary.rehearsals, 'rehearsal')} travelled the path of a join, from the event bus to the "
            "evidence, without touching any account."
        )
    ]
    if slowest is not None:
        lead.append(f"The slowest took {words.duration(slowest)}.")
    if without:
        lead.append(f"On {words.count(len(without), 'day')}, none came through.")
    table = _table(
        "rehearsals-table",
        "Rehearsals by day",
        (Column("Day (UTC)", 2), Column("Rehearsals", 1, "number"), Column("Slowest", 1, "number")),
        [
            (f"{each.day}", f"{each.rehearsals:,}" if each.rehearsals else "none", words.duration(each.slowest))
            for each in pack.rehearsals
        ],
        is_folded=True,
    )
    return Section("rehearsals", "Rehearsals", lead, (table,))


def _configuration(pack: Pack) -> Section:
    table = _table(
        "deployments",
        "Configurations that were in force, with who deployed them and what was approved",
        (
            Column("From (UTC)", 1.6),
            Column("Until (UTC)", 1.6),
            Column("Guardrails, SHA-256", 2.8, "id"),
            Column("Attaches to", 1),
            Column("Removes", 0.9),
            Column("Approved plan", 1.8, "id"),
            Column("Code and commit", 2, "id"),
            Column("Who", 2.6, "id"),
            Column("Why", 2),
        ),
        [
            (
                words.moment(each.record.recorded_at),
                words.moment(each.until) or "in force",
                each.record.guardrails,
                f"{each.record.attaches_to}" if isinstance(each.record.attaches_to, str) else "named accounts",
                {True: "yes", False: "no", None: ""}[each.record.removes],
                _short(each.record.approved_plan),
                " ".join(filter(None, (_short(each.record.code), _short(each.record.commit)))),
                each.record.actor_name.value,
                each.record.reason,
            )
            for each in pack.deployments
        ],
        empty="No record of a configuration.",
    )
    known = {(policy.policy_id, policy.sha256): None for each in pack.deployments for policy in each.record.policies}
    policies = _table(
        "policies",
        "Policies that the worker may attach, with the hash of their content when the guardrails were locked",
        (Column("Policy", 1, "id"), Column("SHA-256 of its content", 3, "id")),
        [(policy_id, sha256 or "not recorded (short form)") for policy_id, sha256 in known],
    )
    lead = ["Each record of the period names the hash of the guardrails by which it was decided."]
    return Section("configuration", "Configuration in force", lead, (table, policies))


def _short(digest: str | None) -> str:
    return f"{digest[:_HASH]}…" if digest else ""


def _integrity(pack: Pack) -> Section:
    verified = pack.verification
    sentence, _ = words.integrity(pack)
    lead = [sentence]
    tables = []
    if verified is None:
        lead.append(f"To verify it, run: {pack.verify_command}")
    else:
        figures = {
            "Log": verified.origin,
            "Size of the last checkpoint": f"{verified.size:,} leaves",
            "Root of the last checkpoint": verified.root,
            "Verified from and to (UTC)": f"{words.moment(verified.since) or 'the beginning'} to "
            f"{words.moment(verified.until) or 'the end'}",
            "Checkpoints compared": f"{verified.checkpoints:,}",
            "Objects as they were sealed": f"{verified.valid:,}",
            **{f"Findings: {kind}": f"{number:,}" for kind, number in verified.found.items()},
        }
        tables.append(
            _table(
                "verification",
                "Verification of the sealed log",
                (Column("What", 1), Column("Result", 3, "id")),
                figures.items(),
            )
        )
        tables.append(
            _table(
                "findings",
                "Findings of the verification",
                (
                    Column("Kind", 1),
                    Column("What", 3, "id"),
                    Column("Meaning", 3),
                    Column("Next step", 3),
                ),
                [(each.kind.value, each.what, each.meaning, each.next_step) for each in verified.findings],
            )
        )
    tables.append(
        _table(
            "disagreements-table",
            "Outcomes of the period whose evidence is missing, or is another object than the outcome names",
            (
                Column("Account", 2.8, "id"),
                Column("Event", 1.6),
                Column("Time (UTC)", 1.6),
                Column("What", 1, tones={"missing": "bad", "differs": "bad"}),
                Column("Evidence", 4, "id"),
            ),
            [
                (
                    each.account or "none",
                    each.event_name,
                    words.moment(each.event_time),
                    each.what.lower(),
                    each.evidence_key or "the outcome names none",
                )
                for each in pack.disagreements
            ],
            empty="None: each outcome that was read has the evidence that it names.",
        )
    )
    tables.append(
        _table(
            "sources",
            "What the pack was made of",
            (
                Column("Source", 1.4),
                Column("Read", 1, "number"),
                Column("Not read or not usable", 1.4, "number"),
                Column("First problem", 4),
            ),
            [(each.source, f"{each.read:,}", f"{each.unread:,}", each.problem or "") for each in pack.sources],
        )
    )
    lead.append(
        "manifest.json holds the SHA-256 and size of every file of the pack; objects.csv holds those of every object "
        "of the evidence bucket that was read, so that any of them can be compared with the bucket."
    )
    return Section("integrity", "Integrity of the record", lead, tables)


def _unproven(pack: Pack) -> Section:
    own = [each.text for each in pack.unproven if not each.is_general]
    general = [each.text for each in pack.unproven if each.is_general]
    lead = ["Of this pack:"] if own else ["Nothing is missing in this pack. Of every pack:"]
    return Section("unproven", "What is not proven", lead, points=[*own, *general])


def _controls(pack: Pack) -> Section:
    titles = {"joins": "From join to guardrail", **_TITLES}
    columns = (
        Column("Control", 1),
        Column("Title", 2),
        Column("What Joinguard does", 4),
        Column("Tests of the product that show it", 4.6, "id"),
        Column("Commands", 1.4, "id"),
        Column("Sections here", 1.8),
    )
    tables = [
        _table(
            f"controls-{number}",
            f"{framework}: what Joinguard does for it, and what shows that",
            columns,
            [
                (
                    each.reference,
                    each.title,
                    each.claim,
                    "\n".join(each.tests),
                    "\n".join(f"joinguard {command}" for command in each.commands),
                    ", ".join(titles[name] for name in each.sections),
                )
                for each in pack.controls
                if each.framework == framework
            ],
        )
        for number, framework in enumerate(dict.fromkeys(each.framework for each in pack.controls), 1)
    ]
    lead = [
        (
            "The tests are files of Joinguard's repository, and run at every change. The commands show the same for this "
            "installation."
        )
    ]
    return Section("controls", "Controls", lead, tables)


_TITLES: Final = {
    "coverage": "Coverage and gaps over time",
    "exceptions": "Exceptions",
    "failures": "Failures",
    "actions": "Operators' actions",
    "changes": "Removals and drift",
    "rehearsals": "Rehearsals",
    "configuration": "Configuration in force",
    "integrity": "Integrity of the record",
    "members": "Members",
}


def _members(pack: Pack) -> Section:
    sets = _policy_sets(pack.members)
    named = {required: f"P{number}" for number, required in enumerate(sets, 1)}
    policy_sets = _table(
        "policy-sets",
        "Sets of required policies",
        (Column("Set", 0.6), Column("Members", 0.8, "number"), Column("Policies", 6, "id")),
        [(named[each], f"{number:,}", ", ".join(each) or "none") for each, number in sets.items()],
        empty="No record says what any member had to carry.",
    )
    members = _table(
        "members-table",
        "Members of the period: those first that joined in it",
        (
            Column("Account", 3.4, "id"),
            Column("Joined (UTC)", 1.8),
            Column("Reported by", 2.2),
            Column("Guarded after", 1.2, "number"),
            Column("Required", 0.9),
            Column("Carried", 1.8, "id"),
            Column("Left (UTC)", 1.8),
            Column("State", 1.1, tones=_STATES),
        ),
        [_member(each, named) for each in pack.members],
        empty="No account was a member.",
        limit=MAX_MEMBERS,
    )
    summary = pack.summary
    lead = [
        (
            f"{words.count(summary.members, 'membership')} overlap the period: {summary.joined:,} began in it, "
            f"{summary.left:,} ended in it, and {summary.members_at_end:,} were there at its end. An account that left and "
            "joined again has two. The management account, which service control policies do not affect, is not a member."
        ),
        (
            "What a member had to carry and carried is as the newest evidence of the period says; members.csv says from "
            "when and from which source, with the key of the evidence."
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
        words.moment(each.joined_at),
        each.joined_by or "",
        words.duration(each.seconds) or ("yes" if each.guarded_at else "no" if each.is_new else ""),
        named[each.required] if each.required is not None else "not known",
        _carried(each),
        words.moment(each.left_at),
        words.STATES[each.state],
    )


def _carried(each: Member) -> str:
    if each.required is None or each.carried is None:
        return ""
    missing = [policy for policy in each.required if policy not in each.carried]
    return f"without {', '.join(missing)}" if missing else "all"
