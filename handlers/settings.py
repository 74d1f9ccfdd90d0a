"""The environment variables of the functions, checked once, with errors that name the variable."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from schemas.ids import ATTACH_TO, AccountId, OrganizationId, PolicyId


class SettingsError(Exception):
    """An environment variable is missing or invalid."""


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _unique(ids: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))


NonEmpty = Annotated[str, Field(min_length=1)]


class EnvironmentSettings(BaseModel):
    """Settings from environment variables, which the template defines."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables, which have the names of the fields in capitals.

        Raises SettingsError, which names each missing or invalid variable and the next step.
        """
        try:
            values = {name: environ.get(name.upper(), "") for name in cls.model_fields}
            needed = cls.needed(values)
            return cls.model_validate({name: value for name, value in values.items() if value or name in needed})
        except ValidationError as error:
            problems = [_problem(dict(problem), environ) for problem in error.errors()]
            raise SettingsError(
                f"{'; '.join(problems)}. The template sets these variables from the stack's parameters: "
                "correct the parameter and deploy again. Until then SQS delivers each message again, for two hours, "
                "and then moves it to the dead letters"
            ) from error

    @classmethod
    def needed(cls, values: Mapping[str, str]) -> set[str]:  # noqa: ARG003 - which are needed can depend on others
        """Return the settings that must not be empty."""
        return {name for name, field in cls.model_fields.items() if field.is_required()}


class CommonSettings(EnvironmentSettings):
    """The settings that the workers and the sweep have."""

    #: The short form of the guardrails: one list for every account. Needed without `guardrails_key`.
    policy_ids: Annotated[
        tuple[PolicyId, ...], Field(min_length=1), BeforeValidator(_split), AfterValidator(_unique)
    ] = ()
    #: The key of the compiled guardrails in `artifacts_bucket`.
    guardrails_key: str = ""
    artifacts_bucket: NonEmpty = ""
    outcomes_table: NonEmpty
    evidence_bucket: NonEmpty
    pseudonym_key_id: NonEmpty
    #: The keys that pseudonyms were derived from before.
    former_pseudonym_keys: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    organization_id: OrganizationId
    management_account_id: AccountId
    #: The accounts that policies are attached to: `all`, `none`, or account ids with commas between them.
    attach_to: Annotated[str, Field(pattern=f"^({ATTACH_TO})$")] = "all"

    @classmethod
    def needed(cls, values: Mapping[str, str]) -> set[str]:
        """Return the settings that must not be empty."""
        return super().needed(values) | {"artifacts_bucket" if values["guardrails_key"] else "policy_ids"}


class WorkerSettings(CommonSettings):
    """The settings that both workers have."""

    #: The queue that this worker's messages come from. The worker that attaches policies also handles those of another
    #: one, which lets live joins go first.
    queue_url: NonEmpty
    dead_letter_queue_url: NonEmpty
    #: The table from which the workers take their turns; empty if there is only one worker.
    pace_table: str = ""
    #: AWS's limit for the whole account (November 2026: two AttachPolicy calls a second).
    attachments_per_second: Annotated[float, Field(gt=0, le=100)] = 2.0


class Settings(WorkerSettings):
    """The settings of the worker that attaches policies."""

    #: The queue of the worker that removes policies; empty if nothing is removed.
    removals_queue_url: str = ""
    #: How often a policy that others detach is put back before it is left off.
    max_restores: Annotated[int, Field(ge=0, le=100)] = 3
    #: The table with the pauses.
    reconciliation_table: NonEmpty


class SweepSettings(CommonSettings):
    """The settings of the sweep."""

    reconciliation_table: NonEmpty
    #: The queue of the sweep's requests.
    repairs_queue_url: NonEmpty
    #: What the sweep does with what it finds.
    sweep: Literal["report", "enforce"]
    #: Minutes from the beginning of a sweep to that of the next one.
    sweep_minutes: Annotated[int, Field(ge=15, le=1440)] = 30
    #: Whether policies that accounts no longer need are removed.
    remove_policies: bool = False
    #: The account in which the function runs.
    account_id: AccountId


class SealSettings(EnvironmentSettings):
    """The settings of the function that seals evidence."""

    evidence_bucket: NonEmpty
    #: The queue of the messages that say which objects were written.
    announcements_queue_url: NonEmpty
    sealed_table: NonEmpty
    seal_key_id: NonEmpty
    #: The KMS key that encrypts what Joinguard writes to the bucket.
    data_key_arn: NonEmpty
    #: The name of the log, which is in its checkpoints.
    log_name: NonEmpty
    #: Where checkpoints are copied to; empty if they are not.
    checkpoint_bucket: str = ""
    checkpoint_topic_arn: str = ""


class RemoverSettings(WorkerSettings):
    """The settings of the worker that removes policies."""

    guardrails_key: NonEmpty
    pace_table: NonEmpty
    #: The queue of the worker that attaches policies.
    joins_queue_url: NonEmpty
    #: The key of the plan in `artifacts_bucket` whose removals were approved; empty if there is none.
    approved_plan_key: str = ""
    #: The last day, in UTC, on which that plan is approved.
    approved_plan_until: date | None = None


def _problem(problem: dict[str, Any], environ: Mapping[str, str]) -> str:
    field, *index = problem["loc"]
    name = str(field).upper()
    if not environ.get(name, "").strip(" ,"):
        return f"{name} is empty or not set"
    part = f"{problem['input']!r} in it" if index else "its value"
    return f"{name}: {part} is not valid ({problem['msg']})"
