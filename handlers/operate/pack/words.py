"""How an evidence pack words values: times, durations, counts, states."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final, Literal

from schemas.pack import ChangeKind, FailureEnd, MemberState, ProofState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.events import DepartureCause
    from schemas.ids import PolicyId
    from schemas.pack import Latency, Pack, Period

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
_EXACT: Final = 10

#: The titles of the sections that controls and answers name.
TITLES: Final = {
    "joins": "From join to guardrail",
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
#: The names of members' states.
STATES: Final = {
    MemberState.COVERED: "covered",
    MemberState.GAP: "gap",
    MemberState.OBSERVED: "only observed",
    MemberState.UNCLEAR: "unclear",
    MemberState.LEFT: "left",
}
ENDS: Final = {
    FailureEnd.ENFORCED: "succeeded later",
    FailureEnd.ENFORCED_BY_ANOTHER_EVENT: "another event succeeded",
    FailureEnd.OBSERVED: "only observed later",
    FailureEnd.IGNORED: "nothing to do later",
    FailureEnd.CLOSED: "closed by an operator",
    FailureEnd.ACCOUNT_LEFT: "the account left",
    FailureEnd.RETRYING: "being retried",
    FailureEnd.OPEN: "open",
}
CHANGES: Final = {
    ChangeKind.REMOVED: "removed by Joinguard",
    ChangeKind.KEPT: "not needed, and kept",
    ChangeKind.RESTORED: "detached, and back",
    ChangeKind.DETACHED: "detached",
    ChangeKind.POLICY_CHANGED: "policy changed",
}
DEPARTURES: Final[Mapping[DepartureCause, str]] = {
    "left": "left by itself",
    "removed": "removed",
    "closed": "closed",
    "cleaned": "removed after closure",
    "departed": "departed",
    "missing": "found missing",
}


def moment(at: datetime | None) -> str:
    """Return a moment to the second, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else ""


def day(of: date) -> str:
    """Return a day as people read it."""
    return f"{of.day} {of:%B %Y}"


def period(of: Period) -> str:
    """Return a period as people read it: `1 July to 30 September 2026`."""
    if of.first == of.last:
        return day(of.first)
    first = f"{of.first.day} {of.first:%B}" if of.first.year == of.last.year else day(of.first)
    return f"{first} to {day(of.last)}"


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units."""
    if seconds is None:
        return ""
    if seconds < _EXACT:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, smaller, small in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min"), (_MINUTE, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit:,} {name}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def count(number: int, noun: str) -> str:
    """Return a number with its noun; the plural takes an s."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def policy(pack: Pack, policy_id: PolicyId) -> str:
    """Return a policy with its name, if that is known."""
    name = pack.policy_names.get(policy_id)
    return f"{policy_id} ({name})" if name else policy_id


def ranges(latency: Latency) -> list[tuple[str, int]]:
    """Return the names of the ranges of the time to guardrail, and how many joins each has."""
    begin, found = "0 s", []
    for each in latency.ranges:
        if each.up_to is None:
            found.append((f"over {begin}", each.joins))
        else:
            until = duration(each.up_to).replace(".0 s", " s")
            found.append((f"up to {until}", each.joins))
            begin = until
    return found


def verdict(pack: Pack) -> tuple[str, bool]:
    """Return the answer to the auditor's question in one sentence, and whether it is yes."""
    summary = pack.summary
    if not summary.joined:
        return f"No account joined from {period(pack.period)}.", True
    if not summary.not_guarded and not summary.observed:
        what = (
            "The account that joined got all its policies"
            if summary.joined == 1
            else (f"All {summary.joined:,} accounts that joined got all their policies")
        )
        return f"{what}.", True
    lacking = summary.not_guarded + summary.observed
    return (
        f"{summary.guarded:,} of {count(summary.joined, 'account')} that joined got all their policies; of "
        f"{lacking:,}, no record shows that."
    ), False


def integrity(pack: Pack) -> tuple[str, bool]:
    """Return whether anybody altered the record, in one sentence, and whether it is certain that nobody did."""
    verified = pack.verification
    if pack.not_verified:
        return f"Whether anybody altered the record could not be verified: {pack.not_verified}.", False
    if verified is None:
        return "Whether anybody altered the record was not verified.", False
    if verified.found_any:
        kinds = ", ".join(f"{number:,} {kind.value}" for kind, number in verified.found.items() if number)
        return f"The verification of the record has {count(sum(verified.found.values()), 'finding')}: {kinds}.", False
    objects = count(verified.valid, "object")
    if verified.is_quick:
        return f"The record was verified quickly: {objects} listed as sealed, none missing, no bytes compared.", True
    return f"The record was verified: {objects} as sealed, and none missing.", True


@dataclass(frozen=True)
class Answer:
    """A sentence that answers a part of the auditor's question, and what it means."""

    text: str
    tone: Literal["good", "look", "bad"]
    #: A command that answers it better.
    command: str | None = None
    #: The section that says more.
    section: str | None = None


def answers(pack: Pack) -> tuple[Answer, ...]:
    """Return the answers to the auditor's question, without what limits the proof."""
    said, is_yes = verdict(pack)
    intact, is_certain = integrity(pack)
    found = [Answer(said, "good" if is_yes else "bad")]
    if pack.sweeps:
        found.append(_lapses(pack))
    # The rest is worth what the record is worth.
    if pack.not_verified:
        found.insert(0, Answer(intact, "bad", pack.verify_command))
    elif pack.verification and not is_certain:
        found.insert(0, Answer(intact, "bad", section="integrity"))
    elif pack.verification:
        found.append(Answer(intact, "look" if pack.verification.is_quick else "good"))
    else:
        found.append(Answer(intact, "look", pack.verify_command))
    if differ := proofs(pack)[ProofState.DIFFERS]:
        text = f"{count(differ, 'object')} of which the pack was made {_is_are(differ)} not what was sealed."
        found.insert(0, Answer(text, "bad", section="integrity"))
    if lost := pack.summary.disagreements:
        found.append(Answer(f"The evidence of {count(lost, 'outcome')} of the period is missing or differs.", "bad"))
    return tuple(found)


def proofs(pack: Pack) -> Counter[ProofState]:
    """Return how many objects of the pack the sealed log proves, and how many it does not."""
    return Counter(each.proof for each in pack.objects if each.proof)


def _is_are(number: int) -> str:
    return "is" if number == 1 else "are"


def _lapses(pack: Pack) -> Answer:
    """Return whether accounts lacked policies at some time, according to the sweeps."""
    last = pack.sweeps[-1]
    if not pack.gaps:
        if any(each.with_gaps for each in pack.sweeps):
            return Answer(
                f"Sweeps found accounts without a policy, and name none. The last one found {last.with_gaps:,}.", "bad"
            )
        return Answer("No sweep of the period found an account without a policy.", "good")
    lacking = len({each.account for each in pack.gaps})
    longest = max(((each.closed_at or each.last_seen) - each.first_seen).total_seconds() for each in pack.gaps)
    return Answer(
        f"Sweeps found {count(lacking, 'account')} without a policy at some time, for {duration(longest)} at most. "
        f"The last sweep found {f'{last.with_gaps:,}' if last.with_gaps else 'none'}.",
        "bad" if last.with_gaps else "look",
    )


@dataclass(frozen=True)
class Figure:
    """One of the figures that answer the question at a glance."""

    name: str
    value: str
    note: str
    tone: str = ""


def figures(pack: Pack) -> tuple[Figure, ...]:
    """Return the figures of the first screen."""
    summary, times = pack.summary, pack.latency
    last = pack.sweeps[-1] if pack.sweeps else None
    verified = pack.verification
    findings = sum(verified.found.values()) if verified else 0
    lacking = summary.not_guarded + summary.observed
    return (
        Figure("Members", f"{summary.members_at_end:,}", f"at the end; {summary.left:,} left in the period"),
        Figure("Joined", f"{summary.joined:,}", "in the period"),
        Figure(
            "Got all policies",
            f"{summary.guarded:,} of {summary.joined:,}",
            f"{lacking:,} without a record of it" if lacking else "of the accounts that joined",
            "bad" if lacking else "good",
        ),
        Figure(
            "Time to guardrail",
            duration(times.p95) or "none",
            f"p95; p50 {duration(times.p50)}, longest {duration(times.longest)}" if times.measured else "not measured",
        ),
        Figure(
            "Gaps",
            f"{last.with_gaps:,}" if last else "unknown",
            f"in the last sweep; {last.covered:,} of {last.members:,} covered" if last else "no sweep is on record",
            ("bad" if last.with_gaps else "good") if last else "look",
        ),
        Figure(
            "Failures open",
            f"{summary.open_failures:,}",
            f"of {count(summary.failures, 'failure')}",
            "bad" if summary.open_failures else "",
        ),
        Figure(
            "Verification",
            "not verified" if verified is None else count(findings, "finding") if findings else "verified",
            _verified_what(pack),
            "bad" if findings or pack.not_verified else "look" if verified is None or verified.is_quick else "good",
        ),
        Figure(
            "Evidence",
            f"{len(pack.objects):,}",
            f"objects read, {proofs(pack)[ProofState.PROVED]:,} with a proof; "
            f"{count(summary.disagreements, 'outcome')} without evidence",
            "bad" if summary.disagreements else "",
        ),
    )


def _verified_what(pack: Pack) -> str:
    verified = pack.verification
    if verified is None:
        return "of the sealed log"
    how = "listed as sealed, no bytes compared" if verified.is_quick else "as they were sealed"
    return f"{count(verified.valid, 'object')} {how}"
