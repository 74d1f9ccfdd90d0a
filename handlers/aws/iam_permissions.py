"""IAM: the permissions of the worker, as operators check them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.aws.errors import service_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_iam import IAMClient


class IamPermissions:
    """Check the permissions of a role with IAM's policy simulator.

    The simulator evaluates the role's policies and permissions boundary, but not the organization's delegation policy.
    """

    def __init__(self, client: IAMClient, role_arn: str) -> None:
        self._client = client
        self._role_arn = role_arn

    def denied(self, action: str, resources: Sequence[str]) -> list[str]:
        """Return the resources on which the role may not perform an action."""
        pages = self._client.get_paginator("simulate_principal_policy").paginate(
            PolicySourceArn=self._role_arn, ActionNames=[action], ResourceArns=list(resources)
        )
        with service_errors("IAM"):
            return [
                result.get("EvalResourceName", "*")
                for page in pages
                for result in page["EvaluationResults"]
                if result["EvalDecision"] != "allowed"
            ]
