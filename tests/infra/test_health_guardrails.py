"""What `make status` says of the guardrails in force."""

from __future__ import annotations

import io
from datetime import date
from typing import Any

import pytest
from botocore.response import StreamingBody

from infra.deploy.health.check import Check
from infra.deploy.health.deployed import Deployed
from infra.deploy.health.guardrails import guardrails
from schemas.compiled_guardrails import CompiledException, CompiledGuardrails, CompiledPolicy, CompiledRule
from tests.prepared import stub

ACCOUNT, POLICY = "222222222222", "p-regionlock"


def document(expires: date | None = None) -> CompiledGuardrails:
    exceptions = (
        (CompiledException(id="EXC-17", accounts=(ACCOUNT,), policies=(POLICY,), expires=expires),) if expires else ()
    )
    return CompiledGuardrails(
        policies=(CompiledPolicy(id=POLICY, type="SERVICE_CONTROL_POLICY"),),
        rules=(CompiledRule(id="everyone", attach=(POLICY,), match="all"),),
        exceptions=exceptions,
    )


def checked(compiled: CompiledGuardrails | None, *attached: str, content: bytes | None = None) -> list[Check]:
    s3, organizations = stub("s3"), stub("organizations")
    parameters = {"CodeBucket": "code"}
    if compiled:
        key = parameters["GuardrailsKey"] = f"joinguard/guardrails/{compiled.sha256()}.json"
        body = content or compiled.canonical()
        streamed: Any = StreamingBody(io.BytesIO(body), len(body))
        s3.add_response("get_object", {"Body": streamed}, {"Bucket": "code", "Key": key})
    policies: list[Any] = [{"Id": each} for each in attached]
    organizations.add_response("list_policies_for_target", {"Policies": policies})
    stack = Deployed("joinguard", "arn:aws:cloudformation:us-east-1:1:stack/joinguard/1", "", "", parameters)
    with s3, organizations:
        return list(guardrails(s3.client, organizations.client, stack))


def test_the_short_form_has_no_such_check() -> None:
    assert checked(None) == []


@pytest.mark.parametrize("expires", [None, date(2099, 12, 31)], ids=["no exception", "an exception in force"])
def test_guardrails_in_force_are_named_by_their_hash(expires: date | None) -> None:
    compiled = document(expires)

    [check] = checked(compiled)

    assert check.well
    assert check.found.startswith(compiled.sha256()[:12])


def test_an_exception_that_is_over_and_undone_needs_nobody() -> None:
    [check] = checked(document(date(2020, 1, 1)), POLICY)

    assert check.well


def test_an_exception_that_is_over_and_not_undone_names_its_accounts_and_the_command() -> None:
    [check] = checked(document(date(2020, 1, 1)), "p-FullAWSAccess")

    assert check.state == "wrong"
    assert f"exception EXC-17 is over, and {ACCOUNT} lack its policies" in check.found
    assert "make enforce" in check.next_step


def test_replaced_guardrails_are_not_believed() -> None:
    [check] = checked(document(), content=document(date(2020, 1, 1)).canonical())

    assert (check.state, check.next_step) == ("wrong", "run `make deploy`")
    assert "does not have the SHA-256 in its key" in check.found
