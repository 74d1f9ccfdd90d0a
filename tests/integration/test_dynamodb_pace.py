"""One row gives turns to any number of workers, an interval apart."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.stub import Stubber
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.aws.dynamodb_pace import DynamoPace
from tests.fakes import NOON
from tests.integration.conftest import RESOURCES, answers, client

HALF = timedelta(seconds=0.5)


@pytest.fixture
def dynamodb(aws: None) -> Any:  # noqa: ARG001 - used for its effect
    made = client("dynamodb")
    properties = RESOURCES["Pace"]["Properties"]
    names = ("BillingMode", "AttributeDefinitions", "KeySchema")
    made.create_table(TableName="pace", **{name: properties[name] for name in names})
    return made


def test_a_single_worker_gets_its_turn_at_once(dynamodb: Any) -> None:
    pace = DynamoPace(dynamodb, "pace", HALF)

    assert pace.reserve(NOON) == NOON
    assert pace.reserve(NOON + timedelta(hours=1)) == NOON + timedelta(hours=1)


def test_concurrent_workers_get_turns_an_interval_apart(dynamodb: Any) -> None:
    workers = [DynamoPace(dynamodb, "pace", HALF) for _ in range(3)]

    turns = [worker.reserve(NOON) for _ in range(4) for worker in workers]

    assert turns == [NOON + number * HALF for number in range(12)]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3000), min_size=2, max_size=12))
def test_no_two_turns_are_closer_than_an_interval(dynamodb: Any, pauses: list[int]) -> None:
    dynamodb.delete_item(TableName="pace", Key={"name": {"S": "AttachPolicy"}})
    pace, now, turns = DynamoPace(dynamodb, "pace", HALF), NOON, []
    for milliseconds in pauses:
        now += timedelta(milliseconds=milliseconds)
        turns.append(pace.reserve(now))
        assert turns[-1] >= now

    assert all(later - earlier >= HALF for earlier, later in itertools.pairwise(turns))


def test_a_turn_that_a_wrong_clock_took_is_ignored(dynamodb: Any) -> None:
    pace = DynamoPace(dynamodb, "pace", HALF)
    pace.reserve(NOON + timedelta(days=1))

    assert pace.reserve(NOON) == NOON
    assert pace.reserve(NOON) == NOON + HALF


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "InternalServerError"])
def test_an_unavailable_table_delays_nobody(dynamodb: Any, code: str) -> None:
    with Stubber(dynamodb) as stub:
        stub.add_client_error("update_item", code)

        assert DynamoPace(dynamodb, "pace", HALF).reserve(NOON) == NOON


@pytest.mark.parametrize(("lost", "turn"), [(1, NOON + 2 * HALF), (3, NOON + 4 * HALF), (4, NOON)])
def test_a_worker_that_others_are_faster_than_tries_again_but_not_forever(
    dynamodb: Any, lost: int, turn: datetime
) -> None:
    """moto executes the refused requests, so each try leaves the row as another worker's reservation would."""
    DynamoPace(dynamodb, "pace", HALF).reserve(NOON)
    later = {"next_at": {"N": str(round((NOON + HALF).timestamp() * 1000))}}
    body = json.dumps({"__type": "ConditionalCheckFailedException", "Item": later}).encode()
    refused, requests = answers(400, body), itertools.count(1)

    def lose(**request: object) -> Any:
        return refused(**request) if next(requests) <= 2 * lost else None

    dynamodb.meta.events.register_first("before-send", lose)

    assert DynamoPace(dynamodb, "pace", HALF).reserve(NOON) == turn
    assert next(requests) - 1 == min(2 * lost + 1, 8)


def test_a_free_turn_is_reserved_only_if_nobody_waits(dynamodb: Any) -> None:
    yielding, other = (DynamoPace(dynamodb, "pace", HALF) for _ in range(2))

    assert yielding.reserve_free(NOON) == NOON
    assert yielding.reserve_free(NOON) == NOON + HALF
    # Asking reserved nothing.
    assert other.reserve(NOON) == NOON + HALF
    assert yielding.reserve_free(NOON + HALF) == NOON + 2 * HALF
    assert yielding.reserve_free(NOON + 2 * HALF) == NOON + 2 * HALF


def test_an_unavailable_table_delays_no_worker_that_lets_others_go_first(dynamodb: Any) -> None:
    with Stubber(dynamodb) as stub:
        stub.add_client_error("update_item", "AccessDeniedException")

        assert DynamoPace(dynamodb, "pace", HALF).reserve_free(NOON) == NOON
