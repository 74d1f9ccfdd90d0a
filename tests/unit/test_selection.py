"""Which messages a filter selects."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from handlers.core.redrive.selection import AmbiguousIdError, Filter, select
from tests.fake_queues import dead_letter
from tests.fakes import NOON, joined


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
    [("11111111", True), ("11111111-2222", True), ("1", True), ("2", False), ("event-7", True), ("", False)],
)
def test_a_filter_matches_an_id_by_its_beginning(id_: str, expected: bool) -> None:  # noqa: FBT001 - pytest passes it by name
    each = dead_letter(77, message_id="11111111-2222-3333")

    assert Filter(ids=[id_]).matches(each, NOON) is expected


@pytest.mark.parametrize(
    ("id_", "found"),
    [
        ("a", ["a-1", "a-10"]),
        ("a-1", ["a-1"]),
        ("a-10", ["a-10"]),
        ("b", ["b-1"]),
        ("twin", ["b-1", "c-1"]),
        ("tw", ["b-1", "c-1"]),
        ("d", []),
    ],
)
def test_an_id_selects_one_message_or_those_of_one_event(id_: str, found: list[str]) -> None:
    messages = [
        dead_letter(1, message_id="a-1"),
        dead_letter(2, message_id="a-10"),
        dead_letter(3, message_id="b-1", body=json.dumps(joined(event_id="twin"))),
        dead_letter(4, message_id="c-1", body=json.dumps(joined(event_id="twin"))),
    ]

    if id_ == "a":
        with pytest.raises(AmbiguousIdError, match=r"2 messages have an id that begins with a \(a-10, a-1\)"):
            select(messages, Filter(ids=[id_]), NOON)
        return
    selected, missing = select(messages, Filter(ids=[id_]), NOON)
    assert sorted(each.message_id for each in selected) == found
    assert missing == (() if found else (id_,))
