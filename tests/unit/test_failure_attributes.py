"""The attributes of dead letters: a message keeps all its attributes, and foreign values never pass for ours."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from handlers.core.errors import fault
from handlers.core.joins.failure_attributes import failure_attributes
from handlers.core.joins.ports import Message
from schemas.attribute import MAX_ATTRIBUTES, MAX_BYTES, size_bytes
from schemas.dead_letter import MAX_COUNT, ORDER, read_attributes, with_redrives
from tests.fakes import NOON

if TYPE_CHECKING:
    from collections.abc import Mapping

FAULT = fault("PolicyNotFoundException", "p-aaaaaaaa: there is no such policy")
TYPES = st.sampled_from(["String", "String.json", "Number", "Binary", "Binary.gif"])
NAMES = st.sampled_from([*ORDER, "CARRIED"]) | st.text("abcXYZ019_-", min_size=1, max_size=20)


def attribute(kind: str, value: str | bytes) -> dict[str, Any]:
    return {"DataType": kind, "BinaryValue" if isinstance(value, bytes) else "StringValue": value}


def message(body: str = "{}", attributes: Mapping[str, Any] | None = None) -> Message:
    return Message(body, "message-1", "receipt-1", 3, NOON, attributes or {})


@st.composite
def attributes(draw: st.DrawFn, longest: int = 30) -> dict[str, dict[str, Any]]:
    def one(kind: str) -> dict[str, Any]:
        if kind.startswith("Binary"):
            return attribute(kind, draw(st.binary(min_size=1, max_size=longest)))
        values = st.sampled_from(["1", "2026-11-20T12:00:00Z", "{}"]) | st.text(
            'a1\u2603\t"', min_size=1, max_size=longest
        )
        return attribute(kind, draw(values))

    return {name: one(draw(TYPES)) for name in draw(st.sets(NAMES, max_size=MAX_ATTRIBUTES))}


def packed(dead_letter: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Unpack the attribute CARRIED, as schemas/dead_letter.py describes it."""
    fields = json.loads(dead_letter["CARRIED"]["StringValue"]) if "CARRIED" in dead_letter else {}
    return {
        name: {key: b64decode(each) if key == "BinaryValue" else each for key, each in value.items()}
        for name, value in fields.items()
    }


def kept(dead_letter: Mapping[str, Any]) -> dict[str, Any]:
    """Return all attributes of a dead letter except our reason."""
    return packed(dead_letter) | {name: value for name, value in dead_letter.items() if name not in {*ORDER, "CARRIED"}}


def fail_again(dead_letter: Mapping[str, Any], body: str = "{}", redrives: int = 1) -> dict[str, Any]:
    """Return the attributes of a dead letter that was redriven and failed again."""
    return failure_attributes(message(body, with_redrives(dead_letter, redrives)), FAULT)


def test_ten_foreign_attributes_are_all_kept() -> None:
    ten = {f"other-{n}": attribute("String", f"value {n} \u2603") for n in range(9)} | {
        "raw": attribute("Binary", b"\0\xff")
    }

    dead_letter = failure_attributes(message(attributes=ten), FAULT)

    assert set(dead_letter) == {*ORDER, "CARRIED"}
    assert kept(dead_letter) == ten


def test_attributes_are_not_packed_if_there_is_room() -> None:
    five = {f"other-{n}": attribute("Number.float", "1.50") for n in range(5)}

    assert set(failure_attributes(message(attributes=five), FAULT)) == {*ORDER, *five}


@settings(max_examples=100)
@given(attributes(), st.integers(1, 4))
@example({name: attribute("String", "x") for name in (*ORDER, "CARRIED", "a", "b", "c", "d")}, 4)
@example(
    {
        "CARRIED": attribute("String", '{"CARRIED":{"DataType":"String","StringValue":"x"}}'),
        "ERROR_CODE": attribute("String", "x"),
    },
    4,
)
def test_no_attribute_is_lost_or_grows_however_often_a_message_fails(theirs: dict[str, Any], failures: int) -> None:
    first = failure_attributes(message(attributes=theirs), FAULT)
    dead_letter = first
    for redrives in range(1, failures):
        dead_letter = fail_again(dead_letter, redrives=redrives)

    whole = kept(dead_letter)
    for name, value in theirs.items():
        ours = name == "REDRIVES" and value["DataType"] == "Number" and value["StringValue"].isdecimal()
        assert ours or whole.get(name) == value or packed(theirs).items() <= whole.items(), name
    assert size_bytes(dead_letter) <= size_bytes(first) + 2 * failures
    assert len(dead_letter) <= MAX_ATTRIBUTES
    assert {name: dead_letter[name]["StringValue"] for name in ("ERROR_CODE", "ERROR_MESSAGE")} == {
        "ERROR_CODE": FAULT.code,
        "ERROR_MESSAGE": FAULT.message,
    }


def test_foreign_values_under_our_names_are_kept_packed() -> None:
    """The message was never redriven. Its counters are used within bounds, and stay unchanged in CARRIED."""
    foreign = {
        "ERROR_CODE": attribute("String", "ANOTHER_CODE"),
        "ATTEMPTS": attribute("String", "7"),
        "FIRST_SEEN": attribute("String", "1795000000"),
    }

    dead_letter = failure_attributes(message(attributes=foreign), FAULT)

    assert dead_letter["ERROR_CODE"]["StringValue"] == FAULT.code
    assert dead_letter["FIRST_SEEN"]["StringValue"] == "2026-11-24T12:00:00Z"
    assert packed(dead_letter) == foreign


def test_five_attributes_with_our_names_are_foreign_if_first_seen_is_not_a_time() -> None:
    """A message that looks like a dead letter of ours except for one value was never one."""
    ours = failure_attributes(message(), fault("AccessDeniedException", "no"))
    foreign = ours | {"FIRST_SEEN": attribute("String", "yesterday")}

    dead_letter = failure_attributes(message(attributes=foreign), FAULT)

    assert packed(failure_attributes(message(attributes=ours), FAULT)) == {}
    # REDRIVES alone has our form, so it counts on.
    assert packed(dead_letter) == {name: value for name, value in foreign.items() if name != "REDRIVES"}
    assert dead_letter["FIRST_SEEN"]["StringValue"] == "2026-11-24T12:00:00Z"


def test_eventbridges_reason_is_kept_when_its_message_fails_here() -> None:
    undelivered = {
        "ERROR_CODE": attribute("String", "NO_PERMISSIONS"),
        "ERROR_MESSAGE": attribute("String", "not allowed"),
        "RULE_ARN": attribute("String", "arn"),
    }

    dead_letter = failure_attributes(message(attributes=with_redrives(undelivered, 1)), FAULT)

    assert kept(dead_letter) == undelivered
    assert dead_letter["REDRIVES"]["StringValue"] == "1"
    assert kept(fail_again(dead_letter, redrives=2)) == undelivered


def test_a_new_reason_replaces_our_older_one() -> None:
    dead_letter = failure_attributes(message(), fault("AccessDeniedException", "no"))

    assert fail_again(dead_letter) == failure_attributes(message(), FAULT) | {
        "ATTEMPTS": attribute("Number", "6"),
        "REDRIVES": attribute("Number", "1"),
    }


@pytest.mark.parametrize("left", [0, 20, 40, 60, 100, 150, 180, 200, 230, 250, 300, 5000])
@pytest.mark.parametrize("count", [0, 3, 10])
def test_as_much_of_the_reason_is_kept_as_fits_beside_a_long_body(left: int, count: int) -> None:
    theirs = {f"n{number}": attribute("String", "v" * 7) for number in range(count)}
    body = "x" * (MAX_BYTES - left - size_bytes(theirs))

    dead_letter = failure_attributes(message(body, theirs), fault("AccessDeniedException", "m" * 900))

    assert size_bytes(dead_letter, body) <= MAX_BYTES
    assert kept(dead_letter) == theirs
    written = [name for name in ORDER if name in dead_letter]
    assert written == list(ORDER[: len(written)])
    assert bool(written) is (left >= (150 if count == 10 else 60))
    assert left < 5000 or dead_letter["ERROR_MESSAGE"]["StringValue"] == "m" * 900
    if written:
        then = failure_attributes(message(body, with_redrives(dead_letter, 1)), FAULT)
        assert size_bytes(then, body) <= MAX_BYTES
        assert kept(then) == theirs, "attributes change when the message fails again"
        assert then["ERROR_CODE"]["StringValue"] == FAULT.code


def test_a_large_binary_attribute_is_not_packed_if_its_text_would_be_too_long() -> None:
    theirs = {f"n{number}": attribute("String", "v") for number in range(9)} | {
        "raw": attribute("Binary", b"\0" * 800_000)
    }
    body = "x" * 200_000

    dead_letter = failure_attributes(message(body, theirs), FAULT)

    assert size_bytes(dead_letter, body) <= MAX_BYTES
    assert set(ORDER) < set(dead_letter)
    assert kept(dead_letter) == theirs


@given(st.dictionaries(st.sampled_from(ORDER), attributes(200).map(lambda each: next(iter(each.values()), {}))))
def test_any_value_under_our_names_is_read_within_bounds(theirs: dict[str, Any]) -> None:
    found = read_attributes(theirs, NOON)

    assert NOON - timedelta(days=56) <= (found.first_seen or NOON) <= NOON
    assert 0 <= found.attempts <= MAX_COUNT
    assert 0 <= found.redrives <= MAX_COUNT
    assert len(found.error_message or "") <= 1024


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("2026-11-20T12:00:00Z", -4),
        ("2026-11-20T14:00:00.5+02:00", None),
        ("1795000000", 0),
        ("20261120", 0),
        ("2026-11-20", 0),
        ("2026-11-20T12:00:00", 0),
        ("0001-01-01T00:00:00Z", -56),
        ("9999-12-31T23:59:59-12:00", 0),
        ("9999-12-31T23:59:59Z", 0),
    ],
)
def test_first_seen_is_read_only_in_rfc_3339_form(text: str, days: int | None) -> None:
    first_seen = read_attributes({"FIRST_SEEN": attribute("String", text)}, NOON).first_seen

    if days is None:
        assert first_seen == NOON - timedelta(days=4) + timedelta(seconds=0.5)
    else:
        assert first_seen == NOON + timedelta(days=days)


def test_counters_do_not_exceed_their_maximum() -> None:
    full = failure_attributes(message(), FAULT)
    full["ATTEMPTS"]["StringValue"] = full["REDRIVES"]["StringValue"] = "999999999"

    dead_letter = failure_attributes(replace(message(attributes=with_redrives(full, 1_000_000_000)), receives=5), FAULT)

    assert (dead_letter["ATTEMPTS"]["StringValue"], dead_letter["REDRIVES"]["StringValue"]) == (
        "999999999",
        "999999999",
    )
