"""Which accounts policies are attached to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.core.guardrails.scope import Scope
from tests.fakes import ACCOUNT

IDS = st.from_regex("[0-9]{12}", fullmatch=True)


@given(st.lists(IDS, min_size=1, max_size=20), IDS)
def test_a_list_of_account_ids_is_attached_to_and_no_other_account(ids: list[str], other: str) -> None:
    scope = Scope.parse(",".join(ids))

    assert all(scope.attaches_to(each) for each in ids)
    assert scope.attaches_to(other) is (other in ids)


@pytest.mark.parametrize(("text", "attaches"), [("all", True), ("none", False)])
def test_all_and_none(text: str, *, attaches: bool) -> None:
    assert Scope.parse(text).attaches_to(ACCOUNT) is attaches


@pytest.mark.parametrize(
    "text", ["", "ALL", "all,none", "12345678901", f"{ACCOUNT},", f"{ACCOUNT}, {ACCOUNT}", "all\n"]
)
def test_anything_else_is_an_error_and_not_every_account(text: str) -> None:
    with pytest.raises(ValueError, match="is not all, none, or account ids"):
        Scope.parse(text)
