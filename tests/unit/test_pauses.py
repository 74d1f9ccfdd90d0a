"""Which accounts are paused, and what replaces and ends a pause."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from handlers.core.guardrails.pauses import MOST, SHOWN, KnownPauses
from schemas.pause import LONGEST, ORGANIZATION, Ended, Pause
from tests.fakes import ACCOUNT, NOON
from tests.pauses import ended_at, pause

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT, OUTER, INNER, OTHER = "r-root", "ou-root-outer000", "ou-root-inner000", "ou-root-other000"
ANOTHER = "333333333333"
HOUR = timedelta(hours=1)


def ids(pauses: Sequence[Pause]) -> list[str]:
    return [each.id for each in pauses]


@pytest.mark.parametrize(
    ("scope", "ous", "paused"),
    [
        (ORGANIZATION, (ROOT,), True),
        (ORGANIZATION, None, True),
        (ACCOUNT, (ROOT,), True),
        (ACCOUNT, None, True),
        (ANOTHER, (ROOT,), False),
        (ANOTHER, None, False),
        (INNER, (ROOT, OUTER, INNER), True),
        (OUTER, (ROOT, OUTER, INNER), True),
        (OTHER, (ROOT, OUTER, INNER), False),
        (INNER, (ROOT, OUTER), False),
    ],
)
def test_a_pause_applies_to_the_account_or_to_everything_below_its_scope(
    scope: str,
    ous: tuple[str, ...] | None,
    paused: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    found = KnownPauses((pause(scope),)).of(ACCOUNT, ous, NOON)

    assert (found is not None) is paused
    assert found is None or not found.is_undecided


@pytest.mark.parametrize("ous", [None, ()])
def test_an_account_whose_ous_are_unknown_counts_as_paused_while_any_ou_is(ous: tuple[str, ...] | None) -> None:
    found = KnownPauses((pause(OTHER, until=NOON + HOUR), pause(ANOTHER))).of(ACCOUNT, ous, NOON)

    assert found
    assert found.is_undecided
    assert [each.scope for each in found.pauses] == [OTHER]
    assert found.until == NOON + HOUR


def test_what_certainly_applies_is_not_undecided_because_of_unknown_ous() -> None:
    found = KnownPauses((pause(OTHER), pause(ACCOUNT))).of(ACCOUNT, None, NOON)

    assert found
    assert not found.is_undecided
    assert [each.scope for each in found.pauses] == [ACCOUNT]


def test_a_row_that_is_not_readable_pauses_every_account_and_is_named() -> None:
    found = KnownPauses(unreadable={"odd": 7}).of(ACCOUNT, (ROOT,), NOON)

    assert found
    assert (found.is_undecided, found.unreadable, found.until) == (True, ("odd",), None)


def test_a_pause_ends_by_itself_or_when_somebody_ends_it() -> None:
    by_itself = KnownPauses((pause(ACCOUNT, until=NOON + HOUR),))
    assert by_itself.of(ACCOUNT, None, NOON + HOUR - timedelta(microseconds=1))
    assert by_itself.of(ACCOUNT, None, NOON + HOUR) is None

    by_hand = KnownPauses((pause(ACCOUNT, ended=ended_at(NOON + HOUR / 2)),))
    assert by_hand.of(ACCOUNT, None, NOON + HOUR / 2) is None


def test_the_last_of_several_pauses_says_until_when() -> None:
    both = KnownPauses((pause(ACCOUNT, until=NOON + HOUR), pause(ORGANIZATION, until=NOON + 2 * HOUR)))

    found = both.of(ACCOUNT, (ROOT,), NOON)

    assert found
    assert found.until == NOON + 2 * HOUR


def test_ous_are_needed_only_while_an_ou_is_paused() -> None:
    known = KnownPauses((pause(OUTER, until=NOON + HOUR), pause(ORGANIZATION)))

    assert known.needs_ous(NOON)
    assert not known.needs_ous(NOON + HOUR)


def test_a_pause_replaces_that_of_the_same_scope_and_owner_only() -> None:
    known = KnownPauses((pause(OUTER, id="1", owner="a"), pause(OUTER, id="2", owner="b"), pause(INNER, id="3")))

    after = known.with_begun(pause(OUTER, id="4", owner="a", until=NOON + HOUR))

    assert ids(after.in_force(NOON)) == ["4", "2", "3"]
    [replaced] = [each for each in after.readable if each.id == "1"]
    assert replaced.ended
    assert replaced.ended.at == NOON


def test_pauses_that_are_over_are_kept_for_a_while_and_no_more_than_many() -> None:
    later = NOON + LONGEST + SHOWN
    begun = later - timedelta(days=2)
    over = [
        pause(ACCOUNT, id=f"o{number:03}", at=begun, until=later - timedelta(minutes=number + 1))
        for number in range(200)
    ]
    old = pause(ACCOUNT, id="old", until=NOON + HOUR)

    current = pause(ACCOUNT, id="current", owner="others", at=begun, until=later + HOUR)

    after = KnownPauses((old, current, *over)).with_begun(pause(ACCOUNT, id="new", at=later, until=later + HOUR))

    assert set(ids(after.readable)) == {*(f"o{number:03}" for number in range(MOST - 2)), "current", "new"}


def test_what_is_not_readable_stays_until_somebody_ends_it() -> None:
    known = KnownPauses((pause(ACCOUNT, id="1"),), {"odd": 7, "strange": []})

    after = known.with_begun(pause(ORGANIZATION, id="2"))
    assert after.unreadable == {"odd": 7, "strange": []}

    ended = after.with_ended("odd", ended_at(NOON))
    assert ended.unreadable == {"strange": []}
    assert ids(ended.in_force(NOON)) == ["1", "2"]


def test_ending_a_pause_again_changes_nothing() -> None:
    first = KnownPauses((pause(ACCOUNT, id="1"),)).with_ended("1", ended_at(NOON))

    assert first.with_ended("1", ended_at(NOON + HOUR)).readable == first.readable


@pytest.mark.parametrize(
    "fields",
    [
        {"until": NOON},
        {"until": NOON + LONGEST + timedelta(microseconds=1)},
        {"scope": "r-root"},
        {"scope": "everyone"},
        {"owner": " "},
        {"reason": ""},
    ],
)
def test_a_pause_that_breaks_a_rule_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Pause.model_validate(pause(ACCOUNT).model_dump() | fields)


moments = st.datetimes(NOON.replace(tzinfo=None), (NOON + LONGEST).replace(tzinfo=None)).map(
    lambda each: each.replace(tzinfo=NOON.tzinfo)
)
pauses = st.builds(
    lambda scope, until, ended: pause(
        scope, until=max(until, NOON + timedelta(seconds=1)), ended=ended_at(ended) if ended else None
    ),
    st.sampled_from([ORGANIZATION, OUTER, INNER, OTHER, ACCOUNT, ANOTHER]),
    moments,
    st.none() | moments,
)


@given(st.lists(pauses, max_size=6), moments, st.sampled_from([(ROOT,), (ROOT, OUTER), (ROOT, OUTER, INNER)]))
def test_more_facts_never_turn_not_paused_into_paused(known: list[Pause], at: datetime, ous: tuple[str, ...]) -> None:
    """Unknown OUs count as paused wherever any OUs would be."""
    book = KnownPauses(tuple(known))

    if book.of(ACCOUNT, ous, at):
        assert book.of(ACCOUNT, None, at)
    if (without := book.of(ACCOUNT, None, at)) and not without.is_undecided:
        assert book.of(ACCOUNT, ous, at)


def test_a_record_of_who_ended_it_can_be_read_back() -> None:
    made = pause(ACCOUNT, ended=ended_at(NOON))

    assert Pause.model_validate_json(made.model_dump_json()) == made
    assert isinstance(made.ended, Ended)


steps = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "end", "delete"]),
        st.sampled_from([ORGANIZATION, OUTER, ACCOUNT]),
        st.sampled_from(["a", "b"]),
        st.integers(1, 30 * 24).map(lambda hours: hours * HOUR),
        st.integers(0, 20 * 24).map(lambda hours: hours * HOUR),
    ),
    max_size=12,
)


@given(steps)
def test_whatever_operators_do_a_scope_and_owner_have_one_pause_that_ends_as_they_said(
    history: list[tuple[str, str, str, timedelta, timedelta]],
) -> None:
    """The model is a dictionary of ends by scope and owner."""
    book, at, model = KnownPauses(unreadable={"odd": 1}), NOON, dict[tuple[str, str], datetime]()
    for number, (what, scope, owner, lasts, later) in enumerate(history):
        at += later
        if what == "begin":
            book = book.with_begun(pause(scope, id=f"p{number}", owner=owner, at=at, until=at + lasts))
            model[scope, owner] = at + lasts
        elif what == "delete":
            book = book.with_ended("odd", ended_at(at))
        else:
            for each in book.same(scope, owner, at):
                book = book.with_ended(each.id, ended_at(at))
            model.pop((scope, owner), None)

        expected = sorted((until, *key) for key, until in model.items() if until > at)
        assert sorted((each.until, each.scope, each.owner) for each in book.in_force(at)) == expected
        assert bool(book.unreadable) is ("delete" not in [each for each, *_ in history[: number + 1]])
        if what == "begin":
            assert all(each.is_in_force(at) or each.is_over_at + SHOWN > at for each in book.readable)
        assert len(book.readable) <= MOST
