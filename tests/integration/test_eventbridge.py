"""EventBridge: a rehearsal on the default bus of a Region."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.stub import Stubber

from handlers.aws.eventbridge import EventBridgeBus
from handlers.core.errors import Cause, RetryableError
from infra.local.events import rehearsal
from tests.integration.conftest import RESOURCES, client

#: The schedule's target: what the tool sends is the same, so that one permission and one pattern serve both.
TARGET = RESOURCES["Rehearsal"]["Properties"]["Target"]
ENTRY = {
    "Source": TARGET["EventBridgeParameters"]["Source"],
    "DetailType": TARGET["EventBridgeParameters"]["DetailType"],
    "Detail": json.dumps(json.loads(TARGET["Input"])),
}


def bus(events: Any, regions: list[str | None] | None = None) -> EventBridgeBus:
    def for_region(region: str | None) -> Any:
        (regions if regions is not None else []).append(region)
        return events

    return EventBridgeBus(for_region)


@pytest.mark.parametrize("region", [None, "us-east-1"])
def test_the_tool_puts_what_the_schedule_puts_on_the_bus_and_returns_the_events_id(
    aws: None,  # noqa: ARG001 - used for its effect
    region: str | None,
) -> None:
    events, regions = client("events"), list[str | None]()
    with Stubber(events) as stub:
        stub.add_response("put_events", {"FailedEntryCount": 0, "Entries": [{"EventId": "x"}]}, {"Entries": [ENTRY]})

        assert bus(events, regions).put_rehearsal(region) == "x"
        stub.assert_no_pending_responses()

    assert regions == [region]
    assert json.loads(ENTRY["Detail"]) == rehearsal("111111111111")["detail"]


def test_an_event_that_is_not_accepted_is_an_error_with_the_reason(aws: None) -> None:  # noqa: ARG001 - as above
    events = client("events")
    refused = {"ErrorCode": "InternalFailure", "ErrorMessage": "try later"}
    with Stubber(events) as stub:
        stub.add_response("put_events", {"FailedEntryCount": 1, "Entries": [refused]})

        with pytest.raises(RetryableError, match=r"EventBridge\.InternalFailure: not accepted: try later"):
            bus(events).put_rehearsal()


def test_a_missing_permission_names_its_cause(aws: None) -> None:  # noqa: ARG001 - as above
    events = client("events")
    with Stubber(events) as stub:
        stub.add_client_error("put_events", "AccessDeniedException", "no")

        with pytest.raises(RetryableError) as raised:
            bus(events).put_rehearsal()

    assert raised.value.cause is Cause.ACCESS_DENIED
