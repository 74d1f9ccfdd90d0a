"""The difference between a body and its edited copy, as `edit` prints it."""

from __future__ import annotations

import json

import pytest

from handlers.operate.differences import differences
from tests.fake_queues import dead_letter


def test_a_difference_is_shown_with_the_lines_around_it() -> None:
    old = dead_letter(1).body

    assert [line[0] for line in differences(old, old.replace("event-1", "event-9")) if line[0] in "+-"] == ["-", "+"]
    assert differences(old, old) == []
    assert differences('{"a": 1}', '{"a":  1}') == ['-{"a": 1}', '+{"a":  1}']
    assert differences("a\nb\nc\nd\ne\nf", "a\nb\nc\nX\ne\nf") == [" b", " c", "-d", "+X", " e", " f"]


def test_a_long_line_is_cut_around_the_difference() -> None:
    long = "x" * 500_000

    [removed, added] = differences(f"{long}a{long}", f"{long}b{long}")

    assert removed.startswith(f"-…{'x' * 100}a")
    assert added.startswith(f"+…{'x' * 100}b")
    assert max(map(len, (removed, added))) < 600


def test_long_bodies_are_shown_only_where_they_differ() -> None:
    old = json.dumps({"lines": [number % 120 for number in range(5000)]})

    lines = differences(old, old.replace("[0, 1,", "[0, 7777,", 1))

    assert [line for line in lines if line[0] in "+-"] == ["-  1,", "+  7777,"]


@pytest.mark.parametrize(("depth", "by_field"), [(50, True), (51, False)])
def test_bodies_nested_more_than_50_levels_are_compared_line_by_line(depth: int, *, by_field: bool) -> None:
    """Python 3.13 indents thousands of levels, so that lines would grow with the depth."""
    old = "[" * depth + "1, 2" + "]" * depth

    lines = differences(old, old.replace("1, 2", "1, 3"))

    assert [line[0] for line in lines if line[0] in "+-"] == ["-", "+"]
    assert any(line.strip("+- ") == "3" for line in lines) is by_field


def test_a_long_difference_is_cut_with_the_number_of_lines_left() -> None:
    lines = differences(json.dumps(["a"] * 3000), json.dumps(["b"] * 3000))

    assert len(lines) == 401
    assert lines[-1] == " … 5,602 more lines"


def test_bodies_nested_too_deep_to_parse_are_compared_as_text() -> None:
    assert differences("[" * 5000, "[" * 5000 + "]")[-1].endswith("[]")
