"""The environment of the functions, checked once, with errors that name the variable."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from schemas.ids import AccountId, OrganizationId, PolicyId


class SettingsError(Exception):
    """The environment is not fit to work with."""


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _unique(ids: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))


Text = Annotated[str, Field(min_length=1)]


class Settings(BaseModel):
    """What a function is told by its template."""

    model_config = ConfigDict(frozen=True)

    policy_ids: Annotated[tuple[PolicyId, ...], Field(min_length=1), BeforeValidator(_split), AfterValidator(_unique)]
    outcomes_table: Text
    evidence_bucket: Text
    queue_url: Text
    dead_letter_queue_url: Text
    pseudonym_key_id: Text
    organization_id: OrganizationId
    management_account_id: AccountId
    #: Where workers take turns; empty where there is only one.
    pace_table: str = ""
    #: What AWS allows for the whole account (November 2026: two AttachPolicy calls a second).
    attachments_per_second: Annotated[float, Field(gt=0, le=100)] = 2.0

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the variables named as the fields, in capitals.

        Raises SettingsError, which names each variable that is missing or wrong and what to do.
        """
        try:
            told = {name: environ.get(name.upper(), "") for name in cls.model_fields}
            return cls.model_validate({name: text for name, text in told.items() if text or cls._is_needed(name)})
        except ValidationError as error:
            problems = [_problem(dict(problem), environ) for problem in error.errors()]
            raise SettingsError(
                f"{'; '.join(problems)}. The template sets these from the stack's parameters: "
                "correct the parameter and deploy again. The messages come back until then, five times each, "
                "and after that wait in the dead letters"
            ) from error

    @classmethod
    def _is_needed(cls, name: str) -> bool:
        return cls.model_fields[name].is_required()


def _problem(problem: dict[str, Any], environ: Mapping[str, str]) -> str:
    field, *place = problem["loc"]
    name = str(field).upper()
    if not environ.get(name, "").strip(" ,"):
        return f"{name} is empty or not set"
    culprit = f"{problem['input']!r} in it" if place else "it"
    return f"{name}: {culprit} is not valid ({problem['msg']})"
