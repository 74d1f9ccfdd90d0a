"""Read the plan whose removals were approved."""

from pydantic import ValidationError

from handlers.core.errors import PermanentError, fault
from handlers.core.guardrails.reading import Artifacts
from schemas.plan import ApprovedPlan


def read_approved_plan(artifacts: Artifacts, key: str) -> ApprovedPlan:
    """Return the approved plan under a key; raise JoinguardError if there is none."""
    content = artifacts.read(key)
    try:
        return ApprovedPlan.model_validate_json(content)
    except ValidationError as error:
        why = f"{key} does not hold a plan that this version reads ({error.error_count()} mistakes); deploy again"
        raise PermanentError(fault("INVALID_PLAN", why)) from error
