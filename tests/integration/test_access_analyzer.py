"""IAM Access Analyzer, which neither moto nor the embedded AWS has."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import Stubber

from handlers.aws.access_analyzer import AccessAnalyzer
from handlers.core.errors import RetryableError
from handlers.core.guardrails.policy_documents import VALIDATED
from handlers.core.guardrails.ports import Finding
from schemas.compiled_guardrails import SCP
from tests.integration.conftest import FAILURES, SECRETS, Hook, client, intercepted


def finding(severity: str, code: str) -> dict[str, Any]:
    return {
        "findingType": severity,
        "issueCode": code,
        "findingDetails": f"about {code}",
        "learnMoreLink": "https://docs.aws.amazon.com",
        "locations": [],
    }


def test_findings_of_all_pages_are_returned_without_suggestions() -> None:
    analyzer = client("accessanalyzer")
    with Stubber(analyzer) as stub:
        request = {"policyDocument": "{}", "policyType": SCP}
        first = [finding("ERROR", "INVALID_ACTION"), finding("SUGGESTION", "EMPTY_OBJECT_CONDITION")]
        stub.add_response("validate_policy", {"findings": first, "nextToken": "more"}, request)
        second = {"findings": [finding("WARNING", "MISSING_VERSION")]}
        stub.add_response("validate_policy", second, request | {"nextToken": "more"})

        found = AccessAnalyzer(analyzer).findings(SCP, "{}")

    assert found == (
        Finding("ERROR", "INVALID_ACTION", "about INVALID_ACTION"),
        Finding("WARNING", "MISSING_VERSION", "about MISSING_VERSION"),
    )


def test_every_type_that_is_validated_is_one_that_aws_knows() -> None:
    shape = client("accessanalyzer").meta.service_model.operation_model("ValidatePolicy").input_shape

    assert set(shape.members["policyType"].enum) >= VALIDATED


@pytest.mark.parametrize("hook", FAILURES.values(), ids=FAILURES)
def test_a_failure_is_not_an_empty_list(hook: Hook) -> None:
    made, _ = intercepted("accessanalyzer", hook)

    with pytest.raises(RetryableError) as raised:
        AccessAnalyzer(made).findings(SCP, "{}")

    assert not [each for each in SECRETS if each in str(raised.value)]
