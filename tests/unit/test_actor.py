"""Who acts: records name a person whom those can recognize who may derive pseudonyms, and nobody else."""

from __future__ import annotations

import json
from typing import Final

import pytest

from handlers.core.errors import RetryableError, fault
from handlers.core.evidence.actor import is_generated, name_in
from handlers.operate.context import Caller
from schemas.audit import AuditRecord
from schemas.outcome import Outcome, OutcomeStatus
from schemas.pseudonym import Pseudonym
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT, FakePseudonyms, Steps
from tests.operator_cli import CONFIRM, OperatorCli, operator_cli


def session(name: str, role: str = "OperatorActs") -> Caller:
    return Caller(f"arn:aws:sts::111111111111:assumed-role/{role}/{name}", f"AROAEXAMPLE:{name}")


JANE: Final = session("jane@example.com")
BOB: Final = session("bob")
#: Names that the tools of each language generated, and names that people choose.
GENERATED: Final = (
    "botocore-session-1743902759",
    "AWS-CLI-session-1523566057",
    "aws-sdk-java-1743902759123",
    "aws-sdk-js-1743902759123",
    "aws-sdk-kotlin-1743902759123",
    "aws-sdk-php-1743902759123",
    "aws-go-sdk-1722511821294449000",
    "aws-dotnet-sdk-session-636238288466144357",
    "assume-role-from-profile-1632246085998",
    "assume-role-provider-1632246085998",
    "default_session",
    "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
    "1722511821294449000",
)
CHOSEN: Final = ("jane@example.com", "Jane.Doe", "jd", "night-shift", "u1234567", "aws-jane", "jane,ops=on-call", "1")


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_name_of_a_session_is_recognized(name: str) -> None:
    assert is_generated(name)


@pytest.mark.parametrize("name", CHOSEN)
def test_a_name_that_a_person_chose_is_not_generated(name: str) -> None:
    assert not is_generated(name)


@pytest.mark.parametrize(
    ("arn", "name"),
    [
        (JANE.arn, "jane@example.com"),
        ("arn:aws-us-gov:sts::111111111111:assumed-role/AWSReservedSSO_Ops_0123456789abcdef/jane", "jane"),
        ("arn:aws:iam::111111111111:user/division/jane", "jane"),
        ("arn:aws:sts::111111111111:federated-user/jane", "jane"),
        ("arn:aws:iam::111111111111:root", "root"),
    ],
)
def test_the_name_is_that_of_the_session_or_user(arn: str, name: str) -> None:
    assert name_in(arn) == name


def tool_of(caller: Caller) -> OperatorCli:
    """Return a tool of this person, with one message."""
    tool = operator_cli(dead_letter(1))
    tool.caller = caller
    return tool


def tool_after_actions_of(*callers: Caller) -> OperatorCli:
    """Return a tool with an action of each of these people, and with that of an older version."""
    tool = operator_cli(*(dead_letter(number) for number, _ in enumerate(callers, 1)))
    for number, caller in enumerate(callers, 1):
        tool.caller = caller
        tool.queues.add_failure(dead_letter(number))
        assert tool.run("drop", "--id", f"m-{number}", "--confirm", "--reason", name_in(caller.arn)).exit_code == 0
    return tool


def reasons(tool: OperatorCli, *arguments: str) -> list[str]:
    # The actions have the same time.
    return sorted(each["reason"] for each in json.loads(tool.run("actions", "--json", *arguments).stdout))


def test_each_record_holds_the_pseudonym_of_the_name_and_never_the_name() -> None:
    tool = tool_after_actions_of(session("jane@corp"), BOB)

    records = tool.bucket.audit_records
    assert {each.schema_version for each in records} == {"joinguard/act/3"}
    expected = [tool.pseudonyms.name(each) for each in ("jane@corp", "bob")]
    assert [each.actor_name for each in records if each.phase == "intended"] == expected
    stored = b"".join(body for key, body in tool.bucket.objects.items() if key.startswith("acts/"))
    assert b'"actor_name":{"value":"name-' in stored
    rows = [each for each in tool.queues.failing(OutcomeStatus.CLOSED) if isinstance(each, Outcome)]
    assert [each.closed.actor_name for each in rows if each.closed] == expected


def test_actions_by_a_name_are_those_of_this_person_in_any_role_and_case() -> None:
    tool = tool_after_actions_of(BOB, session("jane.doe"), session("Jane.Doe", "Other"), session("jane"))

    assert reasons(tool, "--by", "JANE.doe") == ["Jane.Doe", "jane.doe"]
    assert reasons(tool, "--by", "jane") == ["jane"]
    assert reasons(tool, "--by", "nobody") == []
    assert tool.run("actions", "--by", "").exit_code == 2


def test_actions_of_older_versions_are_left_out_by_name_and_counted() -> None:
    tool = tool_after_actions_of(BOB)
    add_older(tool, Pseudonym(value="prin-" + "1" * 32, key_version="k"))

    result = tool.run("actions", "--by", "bob", "--json")

    assert [each["reason"] for each in json.loads(result.stdout)] == ["bob"]
    assert "1 left out: their records are of an older version" in result.stderr


def add_older(tool: OperatorCli, actor: Pseudonym) -> None:
    """Add a record of version 2, which holds no name."""
    intended = next(each for each in tool.bucket.audit_records if each.phase == "intended")
    changes = {"schema_version": "joinguard/act/2", "act_id": "older", "reason": "long ago", "actor": actor}
    record = intended.model_copy(update=changes | {"actor_name": None})
    body = record.model_dump_json(exclude_none=True).encode()
    assert AuditRecord.model_validate_json(body).actor_name is None
    tool.bucket.objects["acts/2026/11/24/older/intended.json"] = body


def test_what_the_caller_did_is_shown_as_yours_also_in_another_role() -> None:
    tool = tool_after_actions_of(JANE, BOB)
    tool.caller = session("jane@example.com", "OperatorReads")

    for command in (["actions"], ["backups"]):
        found = {each["reason"]: each["you"] for each in json.loads(tool.run(*command, "--json").stdout)}
        assert found == {"[e-mail]": True, "bob": False}
    theirs, ours = tool.pseudonyms.name("bob").value, tool.pseudonyms.name("jane@example.com").value
    for command in (["actions"], ["backups"], ["outcome", ACCOUNT]):
        words = " ".join(tool.run(*command).output.split())
        assert f"you ({ours})" in words
        assert f"{theirs} (AROAEXAMPLE)" in words
        assert f"you ({theirs})" not in words


def test_the_history_of_a_message_names_the_caller_as_you() -> None:
    tool = tool_of(JANE)
    tool.queues.fails_again = lambda _: True
    tool.run("redrive", "--id", "m-1", *CONFIRM)
    tool.queues.messages = [dead_letter(1, redrives=1)]

    assert "redrive by you (name-" in " ".join(tool.run("show", "m-1").output.split())
    tool.caller = BOB
    shown = " ".join(tool.run("show", "m-1").output.split())
    assert "redrive by name-" in shown
    assert "by you" not in shown


def test_older_records_are_the_callers_if_the_arn_is() -> None:
    tool = tool_after_actions_of(BOB)
    add_older(tool, tool.pseudonyms.principal(BOB.arn))

    [_, older] = sorted(json.loads(tool.run("actions", "--json").stdout), key=lambda each: each["reason"])
    assert (older["reason"], older["actor_name"], older["you"]) == ("long ago", None, True)
    tool.caller = JANE
    assert not any(each["you"] for each in json.loads(tool.run("actions", "--json").stdout))


class BrokenPseudonyms(FakePseudonyms):
    calls = 0

    def principal(self, arn: str) -> Pseudonym:  # noqa: ARG002 - the port's signature
        self.calls += 1
        raise RetryableError(fault("KMS.DisabledException", "no"))


def test_actions_and_backups_are_shown_also_while_the_key_is_disabled() -> None:
    tool = tool_after_actions_of(BOB, JANE)
    tool.pseudonyms = BrokenPseudonyms(Steps())

    for command in ("actions", "backups"):
        tool.pseudonyms.calls = 0
        result = tool.run(command)
        assert result.exit_code == 0
        assert "(AROAEXAMPLE)" in result.output
        assert tool.pseudonyms.calls == 1, "a retry for each record would take minutes"


@pytest.mark.parametrize(
    "arguments",
    [
        ("redrive", "--all"),
        ("drop", "--id", "m-1"),
        ("enforce", ACCOUNT),
        ("redrive", "--all", "--native"),
    ],
    ids=" ".join,
)
def test_nobody_acts_under_a_generated_name(arguments: tuple[str, ...]) -> None:
    tool = tool_of(session("botocore-session-1743902759"))

    tool.moves.states = [None, None]

    assert tool.run(*arguments).exit_code == 0, "the plan changes nothing"
    result = tool.run(*arguments, *CONFIRM)

    assert "the audit record would name nobody. Set role_session_name in your profile" in str(result.exception)
    assert tool.bucket.objects == {}
    assert [each.message_id for each in tool.queues.messages] == ["m-1"]
    assert tool.queues.joins == []
    assert tool.moves.started == []


@pytest.mark.parametrize(
    "caller", [BOB, Caller("arn:aws:iam::111111111111:root", "111111111111")], ids=["session", "root"]
)
def test_a_session_with_a_chosen_name_and_a_user_may_act(caller: Caller) -> None:
    tool = tool_of(caller)

    assert tool.run("redrive", "--all", *CONFIRM).exit_code == 0
    assert tool.bucket.audit_records[0].actor_name == tool.pseudonyms.name(name_in(caller.arn))
