"""What letters say: backup, editing, groups, and that every reason has a next step and a section in the runbook."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from botocore.session import get_session

from handlers.core.evidence.audit import NEXT_STEPS, next_step
from handlers.core.redrive.dead_letter import GAVE_UP, DeadLetter, edited
from handlers.core.redrive.summary import KEYS, summarize
from infra.deploy.build import ROOT
from infra.local.events import account_created
from schemas.intake import InvalidEventError
from tests.desk import letter
from tests.fakes import MANAGEMENT, NOON, joined
from tests.office import Names

#: Of the errors that AttachPolicy and ListPoliciesForTarget can end in, those that pass by themselves or are none.
PASSING = {
    "ConcurrentModificationException",
    "DuplicatePolicyAttachmentException",
    "PolicyChangesInProgressException",
    "ServiceException",
    "TooManyRequestsException",
}


def test_an_edited_body_must_be_readable() -> None:
    body = json.dumps(joined())

    assert edited(letter(body="x"), body).body == body
    with pytest.raises(InvalidEventError):
        edited(letter(), "{broken")


def test_a_letters_weight_is_what_sqs_counts() -> None:
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html"""
    attributes = {"n\u00e9": {"DataType": "Binary", "BinaryValue": b"123"}}

    assert letter(body="\u2603", attributes=attributes).weight == 3 + 3 + len("Binary") + 3


def test_evidence_of_a_letter_names_its_event_and_nobody() -> None:
    digest = letter(7, code="Odd 222222222222").digest(Names().digest)

    assert (digest.event_id, digest.message_id, digest.error_code) == ("event-7", "m-7", "OTHER")
    assert "222222222222" not in digest.model_dump_json()


def spoilt() -> list[DeadLetter]:
    return [
        letter(1),
        letter(2),
        letter(3, code="INVALID_EVENT", body="{broken", redrives=2),
        letter(4, attributes={}, queue="undelivered", deleted_at=None),
        letter(5, body=json.dumps(account_created("333333333333", MANAGEMENT))),
    ]


@pytest.mark.parametrize("by", KEYS)
def test_every_letter_is_in_one_group(by: str) -> None:
    groups = summarize(iter(spoilt()), by)

    assert sum(group.letters for group in groups) == 5
    assert [group.letters for group in groups] == sorted((group.letters for group in groups), reverse=True)
    assert sorted(each for group in groups for each in group.ids) == [f"m-{number}" for number in range(1, 6)]


def test_a_group_says_what_its_letters_have_in_common_and_what_not() -> None:
    [group] = summarize([letter(2), letter(1, redrives=2)], "reason")

    assert group.key == "AccessDeniedException: p-aaaaaaaa: not allowed"
    assert (group.oldest, group.newest) == (NOON - timedelta(hours=2), NOON - timedelta(hours=1))
    assert group.deleted_at == NOON - timedelta(hours=2) + timedelta(days=14)
    assert group.redrives == 2
    [(reason, count)] = group.reasons.items()
    assert (reason.policies, count) == (("p-aaaaaaaa",), 2)
    assert reason.next_step == NEXT_STEPS["AccessDeniedException"]


def test_letters_of_one_code_and_different_messages_are_different_reasons() -> None:
    letters = [letter(1), letter(2, why="p-bbbbbbbb: not allowed"), letter(3, why="p-bbbbbbbb: not allowed")]

    assert [group.letters for group in summarize(letters, "reason")] == [2, 1]
    assert [group.letters for group in summarize(letters, "code")] == [3]
    assert [group.key for group in summarize(letters, "policy")] == ["p-bbbbbbbb", "p-aaaaaaaa"]


def test_a_letter_of_eventbridges_has_a_next_step_of_its_own() -> None:
    assert next_step(letter(queue="undelivered", code="NO_PERMISSIONS")).startswith("deploy to restore")


def test_the_runbook_has_a_section_with_a_command_for_each_reason_and_no_other() -> None:
    runbook = (ROOT / "handlers" / "operate" / "RUNBOOK.md").read_text()
    chapter = runbook.partition("\n## Dead letters\n")[2].partition("\n## ")[0]
    sections = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^### |\Z)", chapter, re.MULTILINE | re.DOTALL))

    assert set(sections) == set(NEXT_STEPS)
    assert GAVE_UP in sections
    for code, text in sections.items():
        assert "```console\n$ make " in text or "```console\n$ aws " in text, f"{code} has no command to run"


def test_every_lasting_error_that_organizations_may_answer_has_a_next_step() -> None:
    """The service model of botocore: an error that AWS adds there shows up here."""
    model = get_session().get_service_model("organizations")
    modelled = {
        error.name
        for name in ("AttachPolicy", "ListPoliciesForTarget")
        for error in model.operation_model(name).error_shapes
    }

    assert modelled - PASSING <= set(NEXT_STEPS)
