"""IAM: the permissions of the worker, as operators check them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from handlers.aws.errors import service_errors
from handlers.core.errors import Cause, PermanentError, fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_iam import IAMClient
    from mypy_boto3_iam.type_defs import EvaluationResultTypeDef

_ALLOWED: Final = "allowed"


class IamPermissions:
    """Check the permissions of a role with IAM's policy simulator.

    The simulator evaluates the role's policies and permissions boundary, but not the organization's delegation policy.
    """

    def __init__(self, client: IAMClient, role_arn: str) -> None:
        self._client = client
        self._role_arn = role_arn

    def denied(self, action: str, resources: Sequence[str]) -> list[str]:
        """Return the resources on which the role may not perform an action.

        Raises PermanentError if an SCP may be the reason. The simulator does not evaluate an SCP's conditions and then
        denies what AWS allows, so the permission is unknown.
        """
        pages = self._client.get_paginator("simulate_principal_policy").paginate(
            PolicySourceArn=self._role_arn, ActionNames=[action], ResourceArns=list(resources)
        )
        with service_errors("IAM"):
            results = [result for page in pages for result in page["EvaluationResults"]]
        denied = {arn: None for result in results for arn in _denied(result)}
        if denied and any(map(_denied_by_organizations, results)):
            message = "the simulator denies the action because of an SCP, and it does not evaluate an SCP's conditions"
            raise PermanentError(fault("IAM.DeniedByOrganizations", message), cause=Cause.ACCESS_DENIED)
        return list(denied)


def _denied(result: EvaluationResultTypeDef) -> Iterator[str]:
    """Yield the resources that are denied.

    For several resources, each has its own decision, and the decision beside them is not about all of them.
    """
    specific = result.get("ResourceSpecificResults")
    if specific:
        yield from (each["EvalResourceName"] for each in specific if each["EvalResourceDecision"] != _ALLOWED)
    elif result["EvalDecision"] != _ALLOWED:
        yield result.get("EvalResourceName", "*")


def _denied_by_organizations(result: EvaluationResultTypeDef) -> bool:
    detail = result.get("OrganizationsDecisionDetail", {})
    return not detail.get("AllowedByOrganizations", True)
