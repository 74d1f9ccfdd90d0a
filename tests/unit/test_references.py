"""Ids of our own requests, which logs and evidence hold."""

from __future__ import annotations

from handlers.core.evidence.references import event_reference, random_reference


def keyed(kind: str, text: str) -> str:
    raise AssertionError(f"a digest takes the place of {text} ({kind})")


def test_the_id_of_a_request_of_ours_is_never_replaced_by_a_digest() -> None:
    # Of as many UUIDs, 36 end in twelve digits.
    made = [random_reference("request") for _ in range(10_000)]

    assert [event_reference(each, keyed) for each in made] == made
    assert len(set(made)) == len(made)
