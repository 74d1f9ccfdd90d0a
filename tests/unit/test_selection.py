"""Which messages a filter selects."""

from __future__ import annotations

from datetime import timedelta

import pytest

from handlers.core.redrive.selection import Filter
from tests.fake_queues import dead_letter
from tests.fakes import NOON


def test_the_age_of_a_message_is_counted_from_its_first_receive() -> None:
    first = {"FIRST_SEEN": {"DataType": "String", "StringValue": (NOON - timedelta(days=9)).isoformat()}}
    old = dead_letter(1, attributes=first)

    assert Filter(older_than=timedelta(days=8)).matches(old, NOON)
    assert not Filter(newer_than=timedelta(days=8)).matches(old, NOON)


@pytest.mark.parametrize(
    ("event", "expected"), [("event-7", True), ("AcceptHandshake", True), ("CreateAccountResult", False)]
)
def test_a_filter_matches_an_event_by_its_id_or_its_name(event: str, expected: bool) -> None:  # noqa: FBT001 - pytest passes it by name
    assert Filter(events=[event]).matches(dead_letter(7), NOON) is expected


@pytest.mark.parametrize(
    ("id_", "expected"),
    [("11111111", True), ("11111111-2222", True), ("1111111", False), ("22222222", False), ("event-77", True)],
)
def test_a_filter_matches_an_id_by_at_least_its_first_eight_characters(id_: str, expected: bool) -> None:  # noqa: FBT001 - pytest passes it by name
    each = dead_letter(77, message_id="11111111-2222-3333")

    assert Filter(ids=[id_]).matches(each, NOON) is expected
