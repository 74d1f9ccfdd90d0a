"""What a pack does not prove: what no pack can, and what could not be read or is not there for this one."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from handlers.core.evidence.pack.memberships import ORGANIZATION, SWEEP
from handlers.core.evidence.pack.reading import end
from handlers.core.evidence.pack.sealed import ProvedObjects, SealedLog
from handlers.core.evidence.pack.sweeps import SweepRecords
from handlers.core.plurals import agree, count
from schemas.ids import Sha256
from schemas.pack import (
    CoverageDay,
    Deployment,
    Latency,
    Member,
    MemberState,
    OperatorAction,
    Period,
    ProofState,
    SourceRead,
    Unproven,
)
from schemas.verification import Verification

_GENERAL: Final = {
    "BETWEEN_SWEEPS": (
        "What happened between two sweeps without an event is not in the records: a policy that was detached and "
        "attached again, or an account that joined and left."
    ),
    "UPPER_BOUNDS": (
        "The time from join to guardrail ends when the evidence was written, which is after the attachment. Each time "
        "is an upper bound."
    ),
    "CONTENT": (
        "That an account carries a policy does not show what the policy denies. The hash of its content is in the "
        "configuration, and its content is in AWS Organizations."
    ),
    "PARTS_OF_CONTROLS": "A mapping to controls says what Joinguard does. It replaces no assessment of a control.",
}
#: How many characters of a hash tell it from the others.
_SHORT: Final = 12
_SO: Final = "So the pack does not show that no object was altered or deleted before it was read."


@dataclass(frozen=True)
class Known:
    """What is known of a period, to find out what is not."""

    period: Period
    made_at: datetime
    members: Sequence[Member]
    latency: Latency
    sweeps: SweepRecords
    days: Sequence[CoverageDay]
    actions: Sequence[OperatorAction]
    deployments: Sequence[Deployment]
    sources: Sequence[SourceRead]
    unread_guardrails: Sequence[Sha256]
    key_versions: frozenset[str]
    verification: Verification | None
    log: SealedLog
    proved: ProvedObjects
    #: Why Organizations' list is not part of the pack.
    organization_problem: str | None
    ownerless: int
    not_revealed: int


def unproven(known: Known) -> tuple[Unproven, ...]:
    """Return what the pack does not prove: first what is so in this one, then what is so in each."""
    found = [*_of_the_log(known), *_of_sources(known), *_of_the_period(known), *_of_members(known)]
    own = [Unproven(code=code, text=text) for code, text in found]
    return (*own, *(Unproven(code=code, text=text, is_general=True) for code, text in _GENERAL.items()))


def _of_the_log(known: Known) -> Iterator[tuple[str, str]]:
    verified = known.verification
    if known.log.not_verified:
        yield "NOT_VERIFIED", f"The sealed log could not be verified ({known.log.not_verified}). {_SO}"
    elif verified is None:
        yield "NOT_VERIFIED", f"Nobody verified the sealed log for this pack. {_SO}"
    if verified and verified.is_quick:
        yield "VERIFIED_QUICKLY", "The verification left out the bytes of the objects."
    if verified and verified.left_out:
        yield "VERIFIED_IN_PART", f"The verification left out: {', '.join(sorted(verified.left_out))}."
    yield from _of_proofs(known)


def _of_proofs(known: Known) -> Iterator[tuple[str, str]]:
    if known.log.opened is None:
        why = f" ({known.log.unread})" if known.log.unread else ""
        yield "NO_CHECKPOINT", f"The pack holds no signed checkpoint of the sealed log, and so no proofs either{why}."
        return
    states = Counter(each.proof for each in known.proved.objects)
    made_of = f"Of {count(len(known.proved.objects), 'object')} that the pack was made of"
    if differ := states[ProofState.DIFFERS]:
        yield (
            "OBJECTS_DIFFER",
            (
                f"{made_of}, {differ:,} {agree(differ, 'is', 'are')} not what was sealed; objects.csv says which. What "
                "the pack says of that is not proven."
            ),
        )
    if unsealed := states[ProofState.NOT_SEALED]:
        yield (
            "OBJECTS_NOT_SEALED",
            (
                f"{made_of}, {unsealed:,} {agree(unsealed, 'has', 'have')} no proof, because the checkpoint is not "
                "about all of them; objects.csv says which. An object is sealed within the hour after it was written."
            ),
        )
    if unproved := states[ProofState.NOT_PROVED]:
        yield (
            "PROOFS_MISSING",
            (
                f"{made_of}, the {agree(unproved, 'proof', 'proofs')} of {unproved:,} could not be made "
                f"({known.proved.problem}); objects.csv says which."
            ),
        )


def _first(known: Known) -> datetime:
    return datetime.combine(known.period.first, datetime.min.time(), known.made_at.tzinfo)


def _of_sources(known: Known) -> Iterator[tuple[str, str]]:
    for each in known.sources:
        if each.unread:
            yield (
                "SOURCE_UNREAD",
                (
                    f"Of the source {each.source}, {each.unread:,} could not be read or used ({each.problem}); "
                    f"{each.read:,} {agree(each.read, 'was', 'were')}."
                ),
            )
    if known.organization_problem:
        yield (
            "ORGANIZATION_UNREAD",
            (
                f"AWS Organizations' own list of accounts is not part of the pack ({known.organization_problem}). "
                "Members of which no record of the period tells are not listed."
            ),
        )
    if hashes := [each[:_SHORT] for each in known.unread_guardrails]:
        yield (
            "GUARDRAILS_UNREAD",
            (
                f"The guardrails with {agree(len(hashes), 'this hash', 'these hashes')} were in force and could not be "
                f"read, so their exceptions are known only by the attempts that name them: {', '.join(hashes)}."
            ),
        )
    if known.ownerless:
        yield (
            "EXCEPTIONS_WITHOUT_OWNER",
            (
                f"{count(known.ownerless, 'exception')} {agree(known.ownerless, 'is', 'are')} shown without owner or "
                "reason: the document that says them was not where the pack was made, or is another version."
            ),
        )
    if len(known.key_versions) > 1:
        yield (
            "SEVERAL_KEYS",
            "The records of the period use pseudonyms of several keys, so one account can appear as two.",
        )
    if known.not_revealed:
        yield (
            "NOT_REVEALED",
            (
                f"Of {count(known.not_revealed, 'account')}, only the pseudonym is known: neither Organizations nor an "
                "outcome has the ID."
            ),
        )


def _of_the_period(known: Known) -> Iterator[tuple[str, str]]:
    if known.made_at < end(known.period):
        yield "PERIOD_OPEN", f"The period was not over when the pack was made, on {known.made_at:%d %B %Y}."
    without = sum(not each.sweeps for each in known.days)
    if without:
        yield (
            "DAYS_WITHOUT_SWEEP",
            f"On {without:,} of {count(len(known.days), 'day')}, no sweep compared the accounts.",
        )
    if known.sweeps.is_cut:
        yield (
            "GAPS_CUT",
            (
                "Some sweeps found more gaps than their evidence names. Of such a sweep, the numbers are complete and "
                "the list of gaps is not."
            ),
        )
    if not known.deployments or known.deployments[0].record.recorded_at > _first(known):
        yield (
            "CONFIGURATION_UNKNOWN",
            "No record says which configuration was in force at the beginning of the period.",
        )
    cut = sum(each.in_period and each.ended is None for each in known.actions)
    if cut:
        yield (
            "ACTIONS_CUT_OFF",
            f"{count(cut, 'action')} of operators {agree(cut, 'has', 'have')} no record of the end.",
        )


def _of_members(known: Known) -> Iterator[tuple[str, str]]:
    last = known.sweeps.last
    at_end = _counted(known.members)
    if last and last.members != at_end:
        yield (
            "MEMBERS_DIFFER",
            (
                f"The last sweep of the period, on {last.decided_at:%d %B %Y at %H:%M} UTC, counted "
                f"{count(last.members, 'member')}, and the pack lists {at_end:,} at the end of the period."
            ),
        )
    unclear = sum(each.state is MemberState.UNCLEAR for each in known.members)
    if unclear:
        yield (
            "MEMBERS_UNCLEAR",
            f"Of {count(unclear, 'member')}, no record shows what was carried at the end of the period.",
        )
    swept = sum(each.is_new and each.joined_by in {ORGANIZATION, SWEEP} for each in known.members)
    if swept:
        yield (
            "JOINS_WITHOUT_EVENT",
            (
                f"{count(swept, 'account')} joined, and no event told of that. Such a join is dated as Organizations "
                "says, or when a sweep found the account; then it is left out of the distribution."
            ),
        )


def _counted(members: Iterable[Member]) -> int:
    return sum(each.state is not MemberState.LEFT for each in members)
