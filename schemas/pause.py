"""A pause: accounts in which nothing is repaired until a moment. Rows hold account ids; audit records do not."""

from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from schemas.ids import ActionId, EventId
from schemas.pseudonym import Pseudonym
from schemas.values import Moment, Text

#: The longest time from the beginning of a pause to its end.
LONGEST: Final = timedelta(days=30)
_SKEW: Final = timedelta(minutes=5)
#: The scope of a pause of every account.
ORGANIZATION: Final = "organization"
#: `organization`, the id of an OU, which stands for everything below it too, or the id of an account.
PauseScope: TypeAlias = Annotated[
    str, StringConstraints(pattern=rf"^({ORGANIZATION}|ou-[0-9a-z]{{4,32}}-[a-z0-9]{{8,32}}|[0-9]{{12}})$")
]
#: A person or a team.
Owner: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=128, strip_whitespace=True)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ended(_Record):
    """Who ended a pause before its time, when, and in which audited action, whose record holds the reason."""

    actor: Pseudonym
    actor_name: Pseudonym | None = None
    actor_id: Text
    act_id: ActionId
    at: Moment


class PauseTerms(_Record):
    """What is paused, for whom, and how long."""

    id: EventId
    scope: PauseScope
    #: Who answers for it.
    owner: Owner
    begun_at: Moment
    #: It is in force before this moment.
    until: Moment

    @model_validator(mode="after")
    def _ends_in_time(self) -> Self:
        if not self.begun_at < self.until <= self.begun_at + LONGEST:
            raise ValueError(f"a pause ends after its beginning, and lasts at most {LONGEST.days} days")
        return self


class Pause(PauseTerms):
    """Accounts in which the sweep requests nothing and drift is not put back. Joins are handled as always."""

    schema_version: Literal["joinguard/pause/1"] = "joinguard/pause/1"
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    #: Who began it, and the audited action.
    actor: Pseudonym
    actor_name: Pseudonym | None = None
    actor_id: Text
    act_id: ActionId
    ended: Ended | None = None

    @property
    def is_over_at(self) -> datetime:
        """When it ends, or ended."""
        return min(self.until, self.ended.at) if self.ended else self.until

    def is_in_force(self, at: datetime) -> bool:
        """Return whether it is in force at a moment; clocks may differ by minutes."""
        return self.ended is None and self.begun_at - _SKEW <= at < self.until
