"""IAM Access Analyzer: what is wrong with a policy that AWS accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handlers.aws.errors import service_errors
from handlers.core.guardrails.ports import Finding

if TYPE_CHECKING:
    from schemas.compiled_guardrails import PolicyType


class AccessAnalyzer:
    """Validate policies."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def findings(self, kind: PolicyType, content: str) -> tuple[Finding, ...]:
        """Return what is wrong with a policy, without suggestions of style; raise RetryableError if it is not known."""
        pages = self._client.get_paginator("validate_policy").paginate(policyDocument=content, policyType=kind)
        with service_errors("AccessAnalyzer"):
            return tuple(
                Finding(each["findingType"], each["issueCode"], each["findingDetails"])
                for page in pages
                for each in page["findings"]
                if each["findingType"] != "SUGGESTION"
            )
