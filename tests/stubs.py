"""A session whose clients answer as botocore's Stubber is told, which checks requests and answers with AWS's models."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.stub import Stubber


class StubbedSession:
    """A boto3 session that makes no request."""

    def __init__(self) -> None:
        self._clients: dict[str, Any] = {}
        self._stubs: dict[str, Stubber] = {}

    def client(self, service: str, *, region_name: str = "us-east-1") -> Any:
        if service not in self._clients:
            made: Any = boto3.client(  # type: ignore[call-overload]
                service,
                region_name=region_name,
                aws_access_key_id="x",
                aws_secret_access_key="x",  # noqa: S106 - no secret
            )
            self._clients[service], self._stubs[service] = made, Stubber(made)
            self._stubs[service].activate()
        return self._clients[service]

    def answer(self, service: str, call: str, response: dict[str, Any], **request: Any) -> None:
        """Set the response of the service's next call, and its request if one is given."""
        self.client(service)
        self._stubs[service].add_response(call, response, request or None)

    def fail(self, service: str, call: str, code: str, message: str = "no") -> None:
        """Set the error of the service's next call."""
        self.client(service)
        self._stubs[service].add_client_error(call, code, message)

    def assert_used(self) -> None:
        """Assert that every answer was used."""
        for each in self._stubs.values():
            each.assert_no_pending_responses()
