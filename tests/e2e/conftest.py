from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from infra.local.events import account_created, account_moved, event_id, handshake_accepted, resource_tagged
from infra.local.installation import STACK, Installation, build_local, create_account, install
from infra.local.standin import StandIn, running
from infra.local.watch import Watch
from schemas.events import JoinRequest
from tests.relay import Relay, running_relay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.local.events import Event
    from schemas.outcome import Outcome

Done = subprocess.CompletedProcess[str]
#: The stand-in's Organizations has no rate limit, and the pace has tests of its own.
UNPACED = {"AttachmentsPerSecond": "100"}
TABLES = {"CreateGlueTables": "true"}


@dataclass(frozen=True, repr=False)
class Pipeline:
    """The whole pipeline, with a relay in front of Organizations."""

    aws: StandIn
    at: Installation
    watch: Watch
    relay: Relay
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """Return the stand-in's client for a service, from a cache."""
        if service not in self._clients:
            self._clients[service] = self.aws.client(service)
        return self._clients[service]

    def account(self) -> str:
        return create_account(self.aws, f"member-{os.urandom(4).hex()}")

    def invited(self, account_id: str, **changes: Any) -> Event:
        return handshake_accepted(account_id, self.at.organization_id, self.at.management_account_id, **changes)

    def created(self, account_id: str) -> Event:
        return account_created(account_id, self.at.management_account_id)

    def moved(self, account_id: str, **parents: object) -> Event:
        return account_moved(account_id, self.at.management_account_id, **parents)

    def tagged(self, resource_id: str) -> Event:
        return resource_tagged(resource_id, self.at.management_account_id)

    def requested(self, account_id: str) -> JoinRequest:
        return JoinRequest(
            source="joinguard.sweep",
            event_id=event_id(),
            requested_at=datetime.now(UTC),
            account_id=account_id,
            organization_id=self.at.organization_id,
            reason="the account lacks a policy",
        )

    def outcome(self, event_id: str) -> Outcome:
        """Return an event's outcome; fail if there is none."""
        found = self.watch.outcome(event_id)
        assert found is not None
        return found

    def resource(self, logical_id: str) -> str:
        found = self.client("cloudformation").describe_stack_resource(StackName=STACK, LogicalResourceId=logical_id)
        return str(found["StackResourceDetail"]["PhysicalResourceId"])

    def log(self, since: float = 0) -> list[str]:
        """Return every line of the function's log since a time in seconds of the epoch."""
        group = self.resource("AttachPoliciesLogs")
        events = self.client("logs").get_paginator("filter_log_events")
        pages = events.paginate(logGroupName=group, startTime=int(since * 1000))
        return [line for page in pages for event in page["events"] for line in event["message"].splitlines()]

    def handle(self, event: Event | str) -> None:
        """Put an event on the queue and wait until it is handled."""
        self.watch.put(event)
        self.watch.until_quiet()

    def clear(self) -> None:
        """Remove everything that another test could find, now or after a visibility timeout."""
        self.relay.reset()
        self.watch.clear()
        self.forget_restores()

    def forget_restores(self) -> None:
        """Forget in how many accounts something was put back today, which all tests share."""
        self.client("dynamodb").delete_item(TableName=self.resource("Pace"), Key={"name": {"S": "Restores"}})


@pytest.fixture(scope="session")
def shared() -> Iterator[Pipeline]:
    with running_relay() as relay, running(relay.endpoint) as aws:
        relay.target = aws.endpoint
        installation = install(aws, package=build_local(), log=lambda _: None, changes=UNPACED | TABLES)
        yield Pipeline(aws, installation, Watch(aws, installation), relay)


@pytest.fixture
def pipeline(shared: Pipeline) -> Iterator[Pipeline]:
    yield shared
    shared.clear()
