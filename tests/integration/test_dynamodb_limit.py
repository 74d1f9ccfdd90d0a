"""One row counts the removals of a day: each once, and no more than the limit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from handlers.aws.dynamodb_limit import RESTORES, DynamoDailyLimit
from handlers.core.errors import RetryableError
from tests.fakes import NOON
from tests.integration.conftest import FAILURES, RESOURCES, Hook, client, intercepted

ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)
DAY = timedelta(days=1)


@pytest.fixture
def dynamodb(aws: None) -> Any:  # noqa: ARG001 - used for its effect
    made = client("dynamodb")
    properties = RESOURCES["Pace"]["Properties"]
    names = ("BillingMode", "AttributeDefinitions", "KeySchema")
    made.create_table(TableName="pace", **{name: properties[name] for name in names})
    return made


def test_as_many_removals_as_the_limit_are_counted(dynamodb: Any) -> None:
    limit = DynamoDailyLimit(dynamodb, "pace")

    assert [limit.take(each, 2, NOON) for each in (ONE, TWO, THREE)] == [True, True, False]


def test_a_removal_counts_once(dynamodb: Any) -> None:
    limit = DynamoDailyLimit(dynamodb, "pace")

    assert [limit.take(each, 2, NOON) for each in (ONE, ONE, TWO, ONE, TWO, THREE)] == [True] * 5 + [False]


def test_a_limit_that_is_lowered_holds_for_what_was_counted_before(dynamodb: Any) -> None:
    limit = DynamoDailyLimit(dynamodb, "pace")
    assert [limit.take(each, 3, NOON) for each in (ONE, TWO)] == [True, True]

    assert [limit.take(each, 1, NOON) for each in (ONE, TWO, THREE)] == [False] * 3
    assert [limit.take(each, 2, NOON) for each in (ONE, TWO, THREE)] == [True, True, False]
    assert not limit.take(ONE, 0, NOON)


def test_each_day_begins_anew_in_utc(dynamodb: Any) -> None:
    limit = DynamoDailyLimit(dynamodb, "pace")
    midnight = (NOON + DAY).replace(hour=0)

    assert limit.take(ONE, 1, midnight - timedelta(seconds=1))
    assert not limit.take(TWO, 1, midnight - timedelta(seconds=1))
    assert limit.take(TWO, 1, midnight)
    assert not limit.take(THREE, 1, midnight)


def test_a_worker_whose_clock_is_behind_at_midnight_tries_again(dynamodb: Any) -> None:
    limit = DynamoDailyLimit(dynamodb, "pace")
    assert limit.take(ONE, 1, NOON + DAY)

    with pytest.raises(RetryableError, match="CLOCK_DIFFERS"):
        limit.take(TWO, 1, NOON)

    assert not limit.take(TWO, 1, NOON + DAY)


def test_a_limit_that_is_reached_costs_one_write(dynamodb: Any) -> None:
    limit, calls = DynamoDailyLimit(dynamodb, "pace"), list[str]()
    limit.take(ONE, 1, NOON)
    dynamodb.meta.events.register("before-send", lambda event_name, **_: calls.append(event_name))

    assert not limit.take(TWO, 1, NOON)
    assert len(calls) == 1


def test_a_limit_of_zero_allows_nothing(dynamodb: Any) -> None:
    limit = DynamoDailyLimit(dynamodb, "pace")

    assert not limit.take(ONE, 0, NOON)
    assert not limit.take(ONE, 0, NOON + DAY)


def test_a_limit_that_is_lowered_allows_nothing_more(dynamodb: Any) -> None:
    limit = DynamoDailyLimit(dynamodb, "pace")
    assert limit.take(ONE, 5, NOON)
    assert limit.take(TWO, 5, NOON)

    assert not limit.take(THREE, 1, NOON)


def test_workers_that_begin_a_day_at_the_same_time_do_not_exceed_the_limit(dynamodb: Any) -> None:
    """moto answers one request at a time, so the order of the requests is random, and each is atomic, as in AWS."""
    limit = DynamoDailyLimit(dynamodb, "pace")
    assert limit.take(ONE, 3, NOON)

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda number: limit.take(f"{number:064}", 3, NOON + DAY), range(24)))

    assert taken.count(True) == 3


def test_the_row_does_not_disturb_the_turns_of_the_workers(dynamodb: Any) -> None:
    DynamoDailyLimit(dynamodb, "pace").take(ONE, 3, NOON)

    assert [item["name"]["S"] for item in dynamodb.scan(TableName="pace")["Items"]] == ["Removals"]


@pytest.mark.parametrize("hook", FAILURES.values(), ids=FAILURES)
def test_nothing_is_allowed_without_an_answer(hook: Hook) -> None:
    made, _ = intercepted("dynamodb", hook)

    with pytest.raises(RetryableError):
        DynamoDailyLimit(made, "pace").take(ONE, 3, NOON)


def test_each_name_has_a_count_of_its_own(dynamodb: Any) -> None:
    removals, restores = DynamoDailyLimit(dynamodb, "pace"), DynamoDailyLimit(dynamodb, "pace", RESTORES)

    assert [each.take(ONE, 1, NOON) for each in (removals, restores)] == [True, True]
    assert [each.take(TWO, 1, NOON) for each in (removals, restores)] == [False, False]
