"""Which accounts are paused: nothing is repaired in them until a moment, so that Joinguard fights with nobody.

What is not known counts as paused: an account whose OUs could not be read while an OU is paused, and every account
while a row of the pauses is not readable. A repair that comes late can be made later; a repair against somebody cannot
be taken back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from schemas.ids import AccountId, OuId
from schemas.pause import ORGANIZATION, Ended, Pause

#: How many pauses can be in force, and how many are kept at all: they are in one item, which has at most 400 KB.
MOST: Final = 100
#: How long a pause that is over can be seen.
SHOWN: Final = timedelta(days=7)


@dataclass(frozen=True)
class Paused:
    """Why an account is paused; at least one of these is not empty."""

    #: The pauses in force that apply to it.
    certain: tuple[Pause, ...] = ()
    #: The pauses in force of OUs, if its own OUs are not known.
    possible: tuple[Pause, ...] = ()
    #: The ids of pauses whose rows are not readable.
    unreadable: tuple[str, ...] = ()

    @property
    def is_undecided(self) -> bool:
        """Whether it counts as paused only because something could not be read."""
        return not self.certain

    @property
    def pauses(self) -> tuple[Pause, ...]:
        """The pauses that apply to it, or, if that is undecided, that may apply."""
        return self.certain or self.possible

    @property
    def until(self) -> datetime | None:
        """When the last of its pauses ends; None if only a row that is not readable pauses it."""
        return max((each.until for each in self.pauses), default=None)


@dataclass(frozen=True)
class KnownPauses:
    """All pauses as they were read at once."""

    readable: tuple[Pause, ...] = ()
    #: What rows hold that are not readable, by the id of the pause.
    unreadable: Mapping[str, object] = field(default_factory=dict)
    #: What tells this state from others; None if no pause was ever written.
    version: object = None

    def in_force(self, at: datetime) -> tuple[Pause, ...]:
        """Return the pauses that are in force at a moment, the first to end first."""
        return tuple(sorted((each for each in self.readable if each.is_in_force(at)), key=lambda each: each.until))

    def needs_ous(self, at: datetime) -> bool:
        """Return whether the OUs of accounts decide, because an OU is paused."""
        return any(_is_ou(each) for each in self.in_force(at))

    def of(self, account_id: AccountId, ous: Sequence[OuId] | None, at: datetime) -> Paused | None:
        """Return why an account is paused; None if it is not.

        `ous` are the root and the OUs down to the one that the account is in; None if they are not known.
        """
        in_force = self.in_force(at)
        places = {ORGANIZATION, account_id, *(ous or ())}
        certain = tuple(each for each in in_force if each.scope in places)
        possible = () if ous else tuple(each for each in in_force if _is_ou(each))
        unreadable = tuple(sorted(self.unreadable))
        return Paused(certain, possible, unreadable) if certain or possible or unreadable else None

    def same(self, scope: str, owner: str, at: datetime) -> tuple[Pause, ...]:
        """Return the pauses in force of the same scope and owner, which a new one replaces."""
        return tuple(each for each in self.in_force(at) if (each.scope, each.owner) == (scope, owner))

    def with_begun(self, pause: Pause) -> "KnownPauses":
        """Return these pauses with a new one, which ends those of the same scope and owner.

        Pauses that have been over for long, or that are the oldest of many, are left out.
        """
        ended = Ended(
            actor=pause.actor,
            actor_name=pause.actor_name,
            actor_id=pause.actor_id,
            act_id=pause.act_id,
            at=pause.begun_at,
        )
        replaced = {each.id for each in self.same(pause.scope, pause.owner, pause.begun_at)}
        known = [each.model_copy(update={"ended": ended}) if each.id in replaced else each for each in self.readable]
        in_force = [each for each in known if each.is_in_force(pause.begun_at)]
        over = sorted((each for each in known if each not in in_force), key=lambda each: each.is_over_at, reverse=True)
        recent = [each for each in over if each.is_over_at + SHOWN > pause.begun_at]
        kept = (*recent[: max(0, MOST - 1 - len(in_force))], *in_force, pause)
        return replace(self, readable=tuple(sorted(kept, key=lambda each: each.begun_at)), version=pause.act_id)

    def with_ended(self, pause_id: str, ended: Ended) -> "KnownPauses":
        """Return these pauses without what is in force under an id, or not readable."""
        return KnownPauses(
            tuple(
                each.model_copy(update={"ended": ended}) if each.id == pause_id and each.ended is None else each
                for each in self.readable
            ),
            {each: value for each, value in self.unreadable.items() if each != pause_id},
            version=ended.act_id,
        )


def _is_ou(pause: Pause) -> bool:
    return pause.scope.startswith("ou-")
