"""The sections about what happened: exceptions, failures, operators' actions, removals and drift, rehearsals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from handlers.core.plurals import agree, count
from handlers.operate.pack import words
from handlers.operate.pack.report import Column, Section, table
from schemas.pack import FailureEnd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handlers.operate.pack.words import Tone
    from schemas.pack import Pack

_ENDS: Final[Mapping[str, Tone]] = {
    words.ENDS[FailureEnd.OPEN]: "bad",
    words.ENDS[FailureEnd.RETRYING]: "look",
    words.ENDS[FailureEnd.ENFORCED]: "good",
    words.ENDS[FailureEnd.ENFORCED_BY_ANOTHER_EVENT]: "good",
}
_CUT_OFF: Final = "cut off"
#: How many characters of an action's ID tell it from the others.
_SHORT: Final = 12


def exceptions(pack: Pack) -> Section:
    """Return the section about the exceptions."""
    listed = table(
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
                ", ".join(each.policies) or words.UNKNOWN,
                ", ".join(each.accounts) or words.UNKNOWN,
                f"{each.starts}" if each.starts else "",
                f"{each.expires}" if each.expires else words.UNKNOWN,
                each.owner or words.UNKNOWN,
                each.approved_by or words.UNKNOWN,
                each.reason or "",
                f"{each.attempts:,}",
            )
            for each in pack.exceptions
        ],
        empty="No exception was in force.",
    )
    lead = ["An exception takes policies from accounts, until the end of its last day in UTC. It never adds any."]
    return Section("exceptions", "Exceptions", lead, (listed,))


def failures(pack: Pack) -> Section:
    """Return the section about what failed, and how it ended."""
    summary = pack.summary
    lead = [
        (
            f"{count(summary.failures, 'event')} of the period failed for a lasting cause; "
            f"{summary.open_failures:,} of them {agree(summary.open_failures, 'is', 'are')} open."
        )
    ]
    listed = table(
        "failures-table",
        "Events that failed, and how each ended",
        (
            Column("Account", 3.1, "id"),
            Column("Event", 1.9),
            Column("Failed (UTC)", 1.6),
            Column("Code and reason", 2.6),
            Column("Policies", 1.5, "id"),
            Column("End", 1.6, tones=_ENDS),
            Column("Ended (UTC)", 1.6),
            Column("Actions", 1.3, "id"),
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
                "\n".join(f"{name[:_SHORT]}…" for name in each.actions),
            )
            for each in pack.failures
        ],
        empty="No event failed.",
    )
    return Section("failures", "Failures", lead, (listed,))


def actions(pack: Pack) -> Section:
    """Return the section about what operators did."""
    later = sum(not each.in_period for each in pack.actions)
    lead = ["Each action has a record of its intention, without which it does not begin, and one of its end."]
    if later:
        concern = agree(later, "concerns", "concern")
        lead.append(f"{count(later, 'action')} came after the period, and {concern} its failures.")
    listed = table(
        "actions-table",
        "What operators did: redrives and everything else",
        (
            Column("Begun (UTC)", 1.6),
            Column("What", 0.9),
            Column("Who", 3.1, "id"),
            Column("Why", 3),
            Column("Messages", 0.9, "number"),
            Column("Results", 1.8),
            Column("End", 1, tones={"completed": "good", _CUT_OFF: "bad", "stopped": "look", "interrupted": "look"}),
            Column("Action", 1.3, "id"),
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
                f"{each.action_id[:_SHORT]}…",
            )
            for each in pack.actions
        ],
        empty="Operators did nothing.",
    )
    return Section("actions", "Operators' actions", lead, (listed,))


def changes(pack: Pack) -> Section:
    """Return the section about what was taken from accounts, by whom and why."""
    tones: Mapping[str, Tone] = {"detached": "bad", "policy changed": "bad", "detached, and back": "good"}
    listed = table(
        "changes-table",
        "Policies that were removed, detached or changed, with who and why",
        (
            Column("When (UTC)", 1.6),
            Column("What", 1.6, tones=tones),
            Column("Account", 3.1, "id"),
            Column("Policy", 1.6, "id"),
            Column("Who", 3.1, "id"),
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
    return Section("changes", "Removals and drift", lead, (listed,))


def rehearsals(pack: Pack) -> Section:
    """Return the section about the rehearsals."""
    without = [each for each in pack.rehearsals if not each.rehearsals]
    slowest = max((each.slowest for each in pack.rehearsals if each.slowest is not None), default=None)
    lead = [
        (
            f"{count(pack.summary.rehearsals, 'rehearsal')} travelled the path of a join, from the event bus to "
            "the evidence, without touching any account."
        )
    ]
    if slowest is not None:
        lead.append(f"The slowest took {words.duration(slowest)}.")
    if without:
        lead.append(f"On {count(len(without), 'day')}, none came through.")
    listed = table(
        "rehearsals-table",
        "Rehearsals by day",
        (Column("Day (UTC)", 2), Column("Rehearsals", 1, "number"), Column("Slowest", 1, "number")),
        [
            (f"{each.day}", f"{each.rehearsals:,}" if each.rehearsals else "none", words.duration(each.slowest))
            for each in pack.rehearsals
        ],
        is_folded=True,
    )
    return Section("rehearsals", "Rehearsals", lead, (listed,))
