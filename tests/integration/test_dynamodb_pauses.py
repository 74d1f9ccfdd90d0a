"""All pauses are in one item, which one call reads and one call replaces."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from handlers.aws.dynamodb_pauses import DynamoPauses
from handlers.aws.dynamodb_rows import serialize
from handlers.core.errors import Cause, RetryableError
from handlers.core.guardrails.pauses import KnownPauses
from schemas.pause import ORGANIZATION
from tests.fakes import ACCOUNT, NOON
from tests.integration.conftest import FAILURES, RESOURCES, Hook, client, intercepted
from tests.pauses import ended_at, pause

EMPTY = KnownPauses()
ONE = pause(ORGANIZATION, id="one")
FIRST = replace(EMPTY.with_begun(ONE), version="action-1")


@pytest.fixture
def dynamodb(aws: None) -> Any:  # noqa: ARG001 - used for its effect
    made = client("dynamodb")
    properties = RESOURCES["Reconciliation"]["Properties"]
    names = ("BillingMode", "AttributeDefinitions", "KeySchema")
    made.create_table(TableName="reconciliation", **{name: properties[name] for name in names})
    return made


@pytest.fixture
def pauses(dynamodb: Any) -> DynamoPauses:
    return DynamoPauses(dynamodb, "reconciliation")


def plant(dynamodb: Any, **attributes: Any) -> None:
    """Write what no operator writes."""
    for name, value in attributes.items():
        dynamodb.update_item(
            TableName="reconciliation",
            Key={"name": {"S": "Pauses"}},
            UpdateExpression="SET #n = :v",
            ExpressionAttributeNames={"#n": name},
            ExpressionAttributeValues={":v": serialize(value)},
        )


def test_there_are_no_pauses_at_first(pauses: DynamoPauses) -> None:
    assert pauses.read() == EMPTY


def test_pauses_are_read_as_they_were_written(pauses: DynamoPauses) -> None:
    ended = pause(ACCOUNT, id="two", at=NOON + timedelta(microseconds=1), ended=ended_at(NOON))
    written = KnownPauses((ONE, ended), version="action-1")

    pauses.write(written, EMPTY)

    assert pauses.read() == written


def test_reading_is_one_call_that_sees_the_last_write(dynamodb: Any) -> None:
    calls: list[Any] = []
    dynamodb.meta.events.register("provide-client-params.dynamodb.GetItem", lambda params, **_: calls.append(params))

    DynamoPauses(dynamodb, "reconciliation").read()

    assert [each["ConsistentRead"] for each in calls] == [True]


@pytest.mark.parametrize("before", [EMPTY, replace(EMPTY, version="action-0")])
def test_a_write_after_somebody_elses_is_refused(pauses: DynamoPauses, before: KnownPauses) -> None:
    pauses.write(FIRST, EMPTY)

    with pytest.raises(RetryableError, match="PAUSES_CHANGED") as refused:
        pauses.write(replace(FIRST, version="action-2"), before)

    assert refused.value.cause is Cause.CHANGED_MEANWHILE
    assert pauses.read() == FIRST


def test_a_write_whose_answer_was_lost_succeeds_again(pauses: DynamoPauses) -> None:
    pauses.write(FIRST, EMPTY)
    pauses.write(FIRST, EMPTY)
    second = replace(FIRST.with_ended("one", ended_at(NOON)), version="action-2")
    pauses.write(second, FIRST)
    pauses.write(second, FIRST)

    assert pauses.read() == second


@pytest.mark.parametrize(
    "value",
    [
        "text",
        7,
        [],
        {},
        {"id": "odd"},
        {**ONE.model_dump(mode="json", exclude_none=True), "id": "another"},
        {**ONE.model_dump(mode="json", exclude_none=True), "id": "odd", "until": "2999-01-01T00:00:00Z"},
        {**ONE.model_dump(mode="json", exclude_none=True), "id": "odd", "more": "x"},
        {b"bytes"},
    ],
)
def test_what_no_operator_wrote_is_named_and_kept(dynamodb: Any, pauses: DynamoPauses, value: Any) -> None:
    plant(dynamodb, odd=value)

    before = pauses.read()
    assert (before.readable, set(before.unreadable)) == ((), {"odd"})
    pauses.write(before.with_begun(ONE), before)

    after = pauses.read()
    assert (after.readable, after.unreadable) == ((ONE,), before.unreadable)
    assert after.of(ACCOUNT, ("r-root",), NOON)


@pytest.mark.parametrize("version", [Decimal(7), [], {"a": "b"}])
def test_a_version_that_no_operator_wrote_can_be_replaced(dynamodb: Any, pauses: DynamoPauses, version: Any) -> None:
    plant(dynamodb, version=version)

    before = pauses.read()
    pauses.write(before.with_begun(ONE), before)

    assert pauses.read().readable == (ONE,)


def test_the_other_items_of_the_table_are_not_read_or_changed(dynamodb: Any, pauses: DynamoPauses) -> None:
    sweep = {"name": {"S": "Sweep"}, "state": {"S": "x"}}
    dynamodb.put_item(TableName="reconciliation", Item=sweep)

    pauses.write(FIRST, EMPTY)

    assert pauses.read() == FIRST
    found = dynamodb.scan(TableName="reconciliation")["Items"]
    assert sorted(each["name"]["S"] for each in found) == ["Pauses", "Sweep"]
    assert sweep in found


@pytest.mark.parametrize("hook", FAILURES.values(), ids=FAILURES)
def test_without_an_answer_the_pauses_are_not_known(hook: Hook) -> None:
    made, _ = intercepted("dynamodb", hook)

    with pytest.raises(RetryableError):
        DynamoPauses(made, "reconciliation").read()
    with pytest.raises(RetryableError):
        DynamoPauses(made, "reconciliation").write(FIRST, EMPTY)
