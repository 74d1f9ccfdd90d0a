"""The adapter with which an operator invokes the sweep: what each answer of Lambda means."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from botocore.response import StreamingBody

from handlers.aws.lambda_sweep import LambdaSweep
from handlers.core.errors import Cause, PermanentError, RetryableError
from handlers.core.reconcile.sweep import Step
from tests.prepared import Stub, stub


def answering(body: bytes, **fields: Any) -> tuple[LambdaSweep, Stub]:
    client = stub("lambda")
    answer = {"StatusCode": 200, "Payload": StreamingBody(io.BytesIO(body), len(body)), **fields}
    expected = {"FunctionName": "sweep-1", "Payload": json.dumps({"source": "joinguard.operator"}).encode()}
    client.add_response("invoke", answer, expected)
    client.activate()
    return LambdaSweep(client.client, "sweep-1"), client


@pytest.mark.parametrize("step", Step)
def test_the_answer_says_what_the_invocation_came_to(step: Step) -> None:
    sweep, _ = answering(json.dumps({"state": step.value, "sweep": None}).encode())

    assert sweep.run() is step


def test_an_error_of_the_function_is_named_without_account_ids_and_arns() -> None:
    error = {
        "errorMessage": "AccessDenied: arn:aws:iam::111111111111:role/x of 222222222222 may not",
        "errorType": "SweepFailedError",
    }
    sweep, _ = answering(json.dumps(error).encode(), FunctionError="Unhandled")

    with pytest.raises(PermanentError) as raised:
        sweep.run()

    assert "the sweep failed with SweepFailedError: AccessDenied" in str(raised.value)
    assert "111111111111" not in str(raised.value)
    assert "222222222222" not in str(raised.value)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b'{"state": "x"}', b'{"state": 7}', b'{"sweep": "y"}'])
@pytest.mark.parametrize("fields", [{}, {"FunctionError": "Unhandled"}], ids=["an answer", "an error"])
def test_an_answer_in_another_form_is_an_error_that_says_so(body: bytes, fields: dict[str, str]) -> None:
    sweep, _ = answering(body, **fields)

    with pytest.raises(PermanentError, match=r"the sweep failed|not that of a sweep"):
        sweep.run()


def test_whoever_may_not_invoke_it_gets_the_cause() -> None:
    client = stub("lambda")
    client.add_client_error("invoke", "AccessDeniedException")

    with client, pytest.raises(RetryableError) as raised:
        LambdaSweep(client.client, "sweep-1").run()

    assert raised.value.cause is Cause.ACCESS_DENIED
