"""Lambda: the function that sweeps, as operators invoke it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from handlers.aws.errors import service_errors
from handlers.core.errors import PermanentError, fault
from handlers.core.reconcile.sweep import Step
from schemas.events import OPERATOR

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

_EVENT: Final = json.dumps({"source": OPERATOR}).encode()


class LambdaSweep:
    """Invoke the sweep and wait for the invocation's end.

    The client must wait longer than the function may run, and must not retry: each try is an invocation.
    """

    def __init__(self, client: LambdaClient, function: str) -> None:
        self._client = client
        self._function = function

    def run(self) -> Step:
        """Begin a sweep, or go on with one, and return what the invocation came to.

        Raises RetryableError if it cannot be invoked, and PermanentError if the function fails.
        """
        with service_errors("Lambda"):
            answer = self._client.invoke(FunctionName=self._function, Payload=_EVENT)
            body = answer["Payload"].read()
        found = _parsed(body)
        if answer.get("FunctionError"):
            text = f"{found.get('errorType', 'error')}: {found.get('errorMessage', 'Lambda gave no message')}"
            raise PermanentError(fault("SWEEP_FAILED", f"the sweep failed with {text}"))
        try:
            return Step(str(found.get("state")))
        except ValueError:
            raise PermanentError(fault("SWEEP_FAILED", "the function's answer is not that of a sweep")) from None


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        found: Any = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
