"""The difference between a body and its edited copy, as `edit` prints it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.operate.differences import differences, indented
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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON, st.sampled_from([None, 0, 4]), st.booleans())
def test_json_is_indented_as_python_indents_it(value: object, indent: int | None, escaped: bool) -> None:  # noqa: FBT001 - hypothesis passes it
    body = json.dumps(value, indent=indent, ensure_ascii=escaped)

    assert indented(body) == json.dumps(value, indent=2, ensure_ascii=escaped)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ('{"a":1.10,"a":"\\u2603"}', '{\n  "a": 1.10,\n  "a": "\\u2603"\n}'),
        ("{broken", "{broken"),
        ("", ""),
        ("null", "null"),
        ("[" * 60 + "]" * 60, "[" * 60 + "]" * 60),
        ("[" * 60_000, "[" * 60_000),
        (f"[{'1,' * 50_000}1]", f"[{'1,' * 50_000}1]"),
    ],
)
def test_values_are_indented_as_they_are_spelled_and_other_texts_stay(body: str, shown: str) -> None:
    assert indented(body) == shown
