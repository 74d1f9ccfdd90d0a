"""How an evidence pack words values: times, durations, counts, states."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from handlers.core.plurals import agree, count
from schemas.pack import ChangeKind, FailureEnd, MemberState, NoProof, ProofState, WrongEvidence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.events import DepartureCause
    from schemas.ids import PolicyId
    from schemas.pack import Latency, Pack, Period
    from schemas.verification import Verification

#: What a value means: it is as it should be, somebody should look, it is wrong.
Tone: TypeAlias = Literal["good", "look", "bad"]
#: The parts of a verification that do not concern whether somebody altered the record: what accounts carry now, and
#: attempts that changed nothing.
_BESIDE_THE_RECORD: Final = frozenset({"attached", "outcomes that are tried again"})
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
UNKNOWN: Final = "not known"
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
#: Why no record shows that an account got all its policies.
NO_PROOF: Final = {
    NoProof.EVIDENCE_WRONG: "its evidence is missing, unreadable, or not what was written",
    NoProof.EVIDENCE_UNREAD: "an outcome says so, and its evidence was not read",
    NoProof.AFTER_PERIOD: "an outcome after the period says so, whose evidence is not in this pack",
    NoProof.OBSERVED: "the stage only observed it",
    NoProof.LEFT: "it left before",
    NoProof.FAILED: "no attempt succeeded",
    NoProof.NO_RECORD: "no attempt is on record",
}
WRONG: Final = {
    WrongEvidence.MISSING: "missing",
    WrongEvidence.DIFFERS: "not what was written",
    WrongEvidence.ANOTHER_ACCOUNT: "of another account",
    WrongEvidence.ANOTHER_EVENT: "of another event",
    WrongEvidence.UNREADABLE: "unreadable",
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
    lacking = summary.not_guarded + summary.observed
    if not lacking:
        what = (
            "The account that joined got all its policies"
            if summary.joined == 1
            else (f"All {summary.joined:,} accounts that joined got all their policies")
        )
        return f"{what}.", True
    return (
        f"{summary.guarded:,} of {count(summary.joined, 'account')} that joined got "
        f"{agree(summary.joined, 'all its policies', 'all their policies')}; of {count(lacking, 'account')}, no record "
        "shows that."
    ), False


@dataclass(frozen=True)
class Integrity:
    """Whether anybody altered the record."""

    #: In few words, for a figure.
    result: str
    sentence: str
    tone: Tone


def integrity(pack: Pack) -> Integrity:
    """Return whether anybody altered the record; the tone is good only if it was verified, and all of it was right."""
    verified = pack.verification
    if verified is None:
        if pack.not_verified:
            why = f"Whether anybody altered the record could not be verified: {pack.not_verified}."
            return Integrity("not verified", why, "bad")
        return Integrity("not verified", "Whether anybody altered the record was not verified.", "look")
    result, sentence, tone = _verified(pack, verified)
    ended = f"The verification ended on {moment(verified.ended_at)} UTC."
    return Integrity(result, f"{sentence} {ended}", tone)


def _verified(pack: Pack, verified: Verification) -> tuple[str, str, Tone]:
    objects, are = count(verified.valid, "object"), agree(verified.valid, "is", "are")
    if verified.found_any:
        findings = count(sum(verified.found.values()), "finding")
        kinds = ", ".join(f"{number:,} {kind.value}" for kind, number in verified.found.items() if number)
        return findings, f"The verification of the record has {findings}: {kinds}.", "bad"
    if differ := proofs(pack)[ProofState.DIFFERS]:
        what = f"{count(differ, 'object')} of which the pack was made {agree(differ, 'is', 'are')}"
        return "altered", f"The verification of the record has no finding, and {what} not what was sealed.", "bad"
    if not verified.valid:
        return "nothing", "Nothing of the record was verified: no sealed object is of the period.", "look"
    if verified.is_quick:
        return (
            "listed only",
            (
                f"The record was only listed, and no bytes were compared: {objects} {are} there as listed when sealed, "
                "and none is missing."
            ),
            "look",
        )
    if left_out := sorted(verified.left_out.keys() - _BESIDE_THE_RECORD):
        what = f"{objects} {are} as sealed, and none is missing; left out: {', '.join(left_out)}"
        return "in part", f"The record was verified in part: {what}.", "look"
    return "verified", f"The record was verified: {objects} as sealed, and none missing.", "good"


@dataclass(frozen=True)
class Answer:
    """A sentence that answers a part of the auditor's question, and what it means."""

    text: str
    tone: Tone
    #: A command that answers it better.
    command: str | None = None
    #: The section that says more.
    section: str | None = None


def answers(pack: Pack) -> tuple[Answer, ...]:
    """Return the answers to the auditor's question, without what limits the proof."""
    said, is_yes = verdict(pack)
    intact = integrity(pack)
    found = [Answer(said, "good" if is_yes else "bad")]
    if pack.sweeps:
        found.append(_lapses(pack))
    # The rest is worth what the record is worth.
    if intact.tone == "bad":
        command, section = (None, "integrity") if pack.verification else (pack.verify_command, None)
        found.insert(0, Answer(intact.sentence, "bad", command, section))
    else:
        found.append(Answer(intact.sentence, intact.tone, None if intact.tone == "good" else pack.verify_command))
    if differ := proofs(pack)[ProofState.DIFFERS]:
        text = f"{count(differ, 'object')} of which the pack was made {agree(differ, 'is', 'are')} not what was sealed."
        found.insert(0, Answer(text, "bad", section="integrity"))
    if pack.disagreements:
        found.append(Answer(_wrong(pack), "bad", section="integrity"))
    return tuple(found)


def _wrong(pack: Pack) -> str:
    """Return how many objects of evidence are missing or wrong, and what is wrong with them."""
    kinds = Counter(WRONG[each.what] for each in pack.disagreements)
    number = len(pack.disagreements)
    what = f"{count(number, 'object')} of the period's evidence {agree(number, 'is', 'are')}"
    if len(kinds) == 1:
        return f"{what} {next(iter(kinds))}."
    return f"{what} missing or wrong: {', '.join(f'{many:,} {kind}' for kind, many in kinds.items())}."


def limits(pack: Pack) -> str | None:
    """Return how many points limit what the pack proves, or None if nothing does that not every pack has."""
    own = sum(not each.is_general for each in pack.unproven)
    return f"{count(own, 'point')} {agree(own, 'limits', 'limit')} what this pack proves" if own else None


def proofs(pack: Pack) -> Counter[ProofState]:
    """Return how many objects of the pack the sealed log proves, and how many it does not."""
    return Counter(each.proof for each in pack.objects if each.proof)


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
    intact = integrity(pack)
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
            intact.result,
            _verified_what(pack),
            intact.tone,
        ),
        Figure(
            "Evidence",
            f"{len(pack.objects):,}",
            f"{agree(len(pack.objects), 'object', 'objects')} read, {proofs(pack)[ProofState.PROVED]:,} proven; "
            f"{summary.disagreements:,} missing or wrong",
            "bad" if summary.disagreements else "",
        ),
    )


def _verified_what(pack: Pack) -> str:
    verified = pack.verification
    if verified is None:
        return "of the sealed log"
    how = "listed, no bytes compared" if verified.is_quick else "as sealed"
    return f"{count(verified.valid, 'object')} {how}; ended {moment(verified.ended_at)} UTC"
