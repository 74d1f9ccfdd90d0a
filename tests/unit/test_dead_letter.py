"""Dead letters: editing, size, digest, groups, and a next step for every cause."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from botocore.session import get_session

from handlers.aws.errors import CAUSES
from handlers.core.errors import Cause
from handlers.core.redrive.dead_letter import RETRIES_EXHAUSTED, DeadLetter, edited
from handlers.core.redrive.explanations import Explanation, Reason
from handlers.core.redrive.summary import KEYS, summarize
from handlers.operate.advice import NEXT_STEPS, next_step, sentence
from infra.local.events import account_created
from schemas.intake import InvalidEventError
from tests.fake_queues import dead_letter
from tests.fakes import MANAGEMENT, NOON, FakePseudonyms, Steps, joined

#: The errors of AttachPolicy and ListPoliciesForTarget that pass by themselves or mean success.
TRANSIENT = {
    "ConcurrentModificationException",
    "DuplicatePolicyAttachmentException",
    "PolicyChangesInProgressException",
    "ServiceException",
    "TooManyRequestsException",
}


def test_an_edited_body_must_be_readable() -> None:
    body = json.dumps(joined())

    assert edited(dead_letter(body="x"), body).body == body
    with pytest.raises(InvalidEventError):
        edited(dead_letter(), "{broken")


def test_the_size_of_a_message_is_what_sqs_counts() -> None:
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html"""
    attributes = {"n\u00e9": {"DataType": "Binary", "BinaryValue": b"123"}}

    assert dead_letter(body="\u2603", attributes=attributes).size_bytes == 3 + 3 + len("Binary") + 3


def test_the_digest_of_a_message_has_its_event_id_and_no_account_id() -> None:
    digest = dead_letter(7, code="Odd 222222222222").digest(FakePseudonyms(Steps()).digest)

    assert (digest.event_id, digest.message_id, digest.error_code) == ("event-7", "m-7", "OTHER")
    assert "222222222222" not in digest.model_dump_json()


def various() -> list[DeadLetter]:
    return [
        dead_letter(1),
        dead_letter(2),
        dead_letter(3, code="INVALID_EVENT", body="{broken", redrives=2),
        dead_letter(4, attributes={}, queue="undelivered", deleted_at=None),
        dead_letter(5, body=json.dumps(account_created("333333333333", MANAGEMENT))),
    ]


@pytest.mark.parametrize("by", KEYS)
def test_every_message_is_in_one_group(by: str) -> None:
    groups = summarize(iter(various()), by)

    assert sum(group.messages for group in groups) == 5
    assert [group.messages for group in groups] == sorted((group.messages for group in groups), reverse=True)
    assert sorted(each for group in groups for each in group.ids) == [f"m-{number}" for number in range(1, 6)]


def test_a_group_summarizes_its_messages() -> None:
    [group] = summarize([dead_letter(2), dead_letter(1, redrives=2)], "reason")

    assert group.key == "AccessDeniedException: p-aaaaaaaa: not allowed"
    assert (group.oldest, group.newest) == (NOON - timedelta(hours=2), NOON - timedelta(hours=1))
    assert group.deleted_at == NOON - timedelta(hours=2) + timedelta(days=14)
    assert group.redrives == 2
    [(failure, count)] = group.failures.items()
    assert (failure.policies, count) == (("p-aaaaaaaa",), 2)
    assert failure.cause is Cause.ACCESS_DENIED


def test_messages_with_one_code_and_different_error_messages_have_different_reasons() -> None:
    dead_letters = [
        dead_letter(1),
        dead_letter(2, error_message="p-bbbbbbbb: not allowed"),
        dead_letter(3, error_message="p-bbbbbbbb: not allowed"),
    ]

    assert [group.messages for group in summarize(dead_letters, "reason")] == [2, 1]
    assert [group.messages for group in summarize(dead_letters, "code")] == [3]
    assert [group.key for group in summarize(dead_letters, "policy")] == ["p-bbbbbbbb", "p-aaaaaaaa"]


def test_an_undelivered_event_has_its_own_next_step() -> None:
    assert next_step(Cause.OTHER, "undelivered").startswith("`make revert-drift` restores")


def test_advice_never_sends_somebody_to_deploy_for_a_change_by_hand() -> None:
    """An ordinary change set does not see such changes."""
    restoring = [
        next_step(Cause.ACCESS_DENIED, "dead letters"),
        next_step(Cause.WRONG_ENDPOINT, "dead letters"),
        next_step(Cause.OTHER, "undelivered"),
        sentence(Explanation(Reason.ACCESS_DENIED, ("p-aaaaaaaa",))),
    ]

    for each in restoring:
        assert "make revert-drift" in each
        assert "deploy" not in each
    for suspect in ("boundary", "SCP", "delegation policy"):
        assert suspect in restoring[0]


def test_every_cause_of_a_dead_letter_has_a_next_step() -> None:
    assert set(CAUSES.values()) == set(NEXT_STEPS)
    assert RETRIES_EXHAUSTED in CAUSES


def test_every_permanent_error_of_organizations_has_a_next_step() -> None:
    """The errors are those of botocore's service model, so that an error that AWS adds fails this test."""
    model = get_session().get_service_model("organizations")
    modelled = {
        error.name
        for name in ("AttachPolicy", "ListPoliciesForTarget")
        for error in model.operation_model(name).error_shapes
    }

    assert modelled - TRANSIENT <= set(CAUSES)
