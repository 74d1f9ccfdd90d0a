"""`pseudonym` and `resolve`, from outside: what they show, and that it is on record first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from handlers.core.errors import PermanentError, RetryableError
from handlers.core.evidence.resolve import session_arn
from handlers.operate.context import Caller, Context
from schemas.outcome import Outcome, OutcomeStatus
from tests.fakes import NOON, FakePseudonyms, Steps
from tests.operator_cli import FakeBucket, OperatorCli, operator_cli

if TYPE_CHECKING:
    from click.testing import Result

ONE, TWO, GONE = "222222222221", "222222222222", "333333333333"
JANE: Final = "jane@example.com"
WHY: Final = ("--reason", "INC-123")
FIRST: Final = FakePseudonyms(Steps())
SECOND: Final = replace(FIRST, key_version="key-2", former=("key-1",))
ROLE: Final = "arn:aws:iam::111111111111:role/team/OperatorActs"


class Tool(OperatorCli):
    """A tool of an installation with a role that people assume."""

    def context(self) -> Context:
        return replace(super().context(), roles=(ROLE,))


def tool_of(*, pseudonyms: FakePseudonyms = SECOND) -> OperatorCli:
    """Return a tool of an organization with two accounts, and with the outcome of one that has left."""
    made = operator_cli()
    tool = Tool(made.queues)
    tool.reader.member(ONE)
    tool.reader.member(TWO)
    for account_id in (GONE, "none"):
        row = Outcome(
            account_id=account_id,
            event_id="event-1",
            event_name="AcceptHandshake",
            source="aws.organizations",
            status=OutcomeStatus.ENFORCED,
            attempts=1,
            event_time=NOON,
            received_at=NOON,
            updated_at=NOON,
        )
        tool.queues.rows[account_id, "event-1"] = [(NOON, row)]
    tool.pseudonyms = pseudonyms
    return tool


def shown(result: Result) -> list[dict[str, Any]]:
    assert result.stdout, result.exception or result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def said(result: Result) -> str:
    return " ".join(f"{result.output}{result.exception or ''}".split())


def people(tmp_path: Path, *names: str) -> str:
    file = tmp_path / "people.txt"
    file.write_text("\n".join(names))
    return str(file)


# pseudonym


def test_pseudonyms_are_shown_under_the_current_and_the_former_key() -> None:
    result = tool_of().run("pseudonym", ONE, "--session", JANE, "--principal", ROLE, *WHY, "--json")

    assert result.exit_code == 0
    made = [each for name in (ONE, ROLE, JANE) for each in under(name)]
    assert [(each["name"], each["pseudonym"], each["key_version"], each["current"]) for each in shown(result)] == made


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--principal", "arn:aws-us-gov:sts::111111111111:assumed-role/Admin/jane@example.com"),
        ("--principal", "arn:aws:iam::111111111111:user/team/jane"),
        ("--principal", "arn:aws-cn:iam::111111111111:root"),
        ("--principal", "arn:aws:sts::111111111111:federated-user/jane"),
        ("--session", "J_ane+a=b,c.d@e-f"),
        ("--session", "j" * 64),
    ],
)
def test_whatever_iam_and_sts_allow_has_a_pseudonym(option: str, text: str) -> None:
    assert [each["name"] for each in shown(tool_of().run("pseudonym", option, text, *WHY, "--json"))] == [text, text]


def under(name: str) -> list[tuple[str, str, str, bool]]:
    found = []
    for key in (SECOND, FIRST):
        make = {ONE: key.of, ROLE: key.principal, JANE: key.name}[name]
        found.append((name, make(name).value, key.key_version, key is SECOND))
    return found


def test_the_table_names_the_keys() -> None:
    words = said(tool_of().run("pseudonym", ONE, *WHY))

    assert f"{SECOND.of(ONE).value} {ONE} current key key-2" in words
    assert f"{FIRST.of(ONE).value} {ONE} former key key-1" in words


def test_the_record_of_a_derivation_holds_the_pseudonyms_and_not_the_names() -> None:
    tool = tool_of()

    tool.run("pseudonym", ONE, "--session", JANE, "--reason", f"asked by {JANE} about {ONE}")

    intended, done = tool.bucket.audit_records
    assert (intended.action, done.action, done.ended) == ("pseudonym", "pseudonym", "completed")
    values = {SECOND.of(ONE).value, FIRST.of(ONE).value, SECOND.name(JANE).value, FIRST.name(JANE).value}
    assert {each.event_id for each in intended.letters} == values
    assert done.results == {"derived": 4}
    stored = b"".join(tool.bucket.objects.values()).decode()
    assert ONE not in stored
    assert JANE not in stored


# resolve


def test_an_account_is_resolved_under_each_key_also_after_it_has_left() -> None:
    wanted = [SECOND.of(ONE).value, FIRST.of(TWO).value, FIRST.of(GONE).value]

    result = tool_of().run("resolve", *wanted, *WHY, "--json")

    assert result.exit_code == 0, said(result)
    assert [(each["pseudonym"], each["name"], each["key_version"]) for each in shown(result)] == [
        (wanted[0], ONE, "key-2"),
        (wanted[1], TWO, "key-1"),
        (wanted[2], GONE, "key-1"),
    ]


def test_no_more_is_read_than_is_needed() -> None:
    tool = tool_of()
    steps: list[str] = []
    tool.queues.on_step = steps.append

    assert tool.run("resolve", SECOND.of(ONE).value, *WHY).exit_code == 0
    assert steps == [], "the outcomes are not scanned for a member account"
    assert tool.run("resolve", SECOND.name(JANE).value, *WHY).exit_code == 1
    assert tool.reader.calls["accounts"] == 1, "no account is read for the name of a person"


def test_people_are_resolved_by_candidates_and_as_sessions_of_the_stacks_roles(tmp_path: Path) -> None:
    name, session = FIRST.name(JANE).value, SECOND.principal(session_arn(ROLE, "bob")).value
    by_arn = SECOND.principal("arn:aws:iam::111111111111:user/eve").value
    file = people(tmp_path, "bob", JANE.upper(), "", "arn:aws:iam::111111111111:user/eve")

    result = tool_of().run(
        "resolve", name, session, by_arn, SECOND.name("eve").value, "--candidates", file, *WHY, "--json"
    )

    assert result.exit_code == 0, said(result)
    assert [each["name"] for each in shown(result)] == [
        JANE.upper(),
        "arn:aws:sts::111111111111:assumed-role/OperatorActs/bob",
        "arn:aws:iam::111111111111:user/eve",
        "eve",
    ]


def test_an_account_that_left_without_an_outcome_is_resolved_by_a_candidate(tmp_path: Path) -> None:
    value = SECOND.of("444444444444").value
    tool = tool_of()

    refused = tool.run("resolve", value, *WHY)
    assert refused.exit_code == 1
    assert "add --candidates FILE with the ids of accounts that left" in said(refused)
    assert tool.run("resolve", value, "--candidates", people(tmp_path, "444444444444"), *WHY).exit_code == 0


def test_the_record_of_a_resolution_holds_the_pseudonyms_and_not_what_they_stand_for(tmp_path: Path) -> None:
    tool = tool_of()
    known, unknown = SECOND.of(ONE).value, SECOND.name("nobody").value

    tool.run("resolve", known, unknown, known, "--candidates", people(tmp_path, JANE), *WHY)

    intended, done = tool.bucket.audit_records
    assert (intended.action, intended.reason) == ("resolve", "INC-123")
    assert [each.event_id for each in intended.letters] == [known, unknown]
    assert {each.event_id: each.result for each in done.letters} == {known: "resolved", unknown: "unknown"}
    stored = b"".join(tool.bucket.objects.values()).decode()
    assert ONE not in stored
    assert JANE not in stored
    words = said(tool.run("actions"))
    assert "2 pseudonyms" in words
    assert "1 resolved" in words


def test_a_lost_key_is_named_and_the_others_are_tried() -> None:
    tool = tool_of(pseudonyms=replace(SECOND, lost_keys=("key-1",)))

    result = tool.run("resolve", FIRST.of(ONE).value, SECOND.of(TWO).value, *WHY)

    assert result.exit_code == 1
    assert f"{SECOND.of(TWO).value} {TWO}" in said(result)
    assert f"not resolved: {FIRST.of(ONE).value}" in said(result)
    assert "key key-1 does not exist any more" in said(result)
    assert ONE not in said(result)


# Both


COMMANDS: Final = (["pseudonym", ONE], ["resolve", SECOND.of(ONE).value])


class FailingBucket(FakeBucket):
    """A bucket that denies writing one phase of a record."""

    phase = ""

    def record(self, key: str, body: bytes) -> str:
        self.read_only = key.endswith(f"/{self.phase}.json")
        return super().record(key, body)


@pytest.mark.parametrize("phase", ["intended", "done"])
@pytest.mark.parametrize("arguments", COMMANDS, ids=["pseudonym", "resolve"])
def test_nothing_is_shown_without_a_record(arguments: list[str], phase: str) -> None:
    tool = tool_of()
    tool.bucket = FailingBucket()
    tool.bucket.phase = phase

    result = tool.run(*arguments, *WHY, "--json")

    assert isinstance(result.exception, RetryableError)
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", COMMANDS, ids=["pseudonym", "resolve"])
def test_nobody_asks_under_a_generated_name(arguments: list[str]) -> None:
    tool = tool_of()
    role = "arn:aws:sts::111111111111:assumed-role/Resolver"
    tool.caller = Caller(f"{role}/botocore-session-1743902759", "AROAEXAMPLE:x")

    result = tool.run(*arguments, *WHY)

    assert "the audit record would name nobody" in str(result.exception)
    assert result.stdout == ""
    assert tool.bucket.objects == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pseudonym", ONE], 'Add --reason "…"'),
        (["pseudonym", ONE, "--reason", " "], 'Add --reason "…"'),
        (["resolve", COMMANDS[1][1]], 'Add --reason "…"'),
        (["pseudonym", *WHY], "nothing to derive a pseudonym of"),
        (["pseudonym", "12", *WHY], "twelve digits"),
        (["pseudonym", "--session", "", *WHY], "is not the name of a session or user"),
        (["pseudonym", "--session", "jane doe", *WHY], "is not the name of a session or user"),
        (["pseudonym", "--session", ROLE, *WHY], "for an ARN, use --principal"),
        (["pseudonym", ONE, "--principal", "", *WHY], "is not the ARN of a session, user or role"),
        (["pseudonym", "--principal", "foo", *WHY], "is not the ARN of a session, user or role"),
        (["pseudonym", "--principal", JANE, *WHY], "for a name alone, use --session"),
        (["pseudonym", "--principal", "arn:aws:s3:::bucket", *WHY], "is not the ARN of a session, user or role"),
        (["resolve", ONE, *WHY], "is not a pseudonym"),
        (["resolve", "acct-52bae773", *WHY], "is not a pseudonym"),
        (["resolve", COMMANDS[1][1], "--candidates", "/dev/null", *WHY], "/dev/null: the file has no candidates"),
    ],
)
def test_wrong_use_is_explained_and_leaves_no_record(arguments: list[str], message: str) -> None:
    tool = tool_of()

    result = tool.run(*arguments)

    assert result.exit_code == 2
    assert message in said(result)
    assert tool.bucket.objects == {}


def test_a_resolution_that_fails_shows_nothing_and_is_on_record_as_interrupted() -> None:
    tool = tool_of()
    tool.reader.refused["accounts"] = "AccessDeniedException"

    result = tool.run("resolve", SECOND.of(ONE).value, SECOND.of(TWO).value, *WHY)

    assert isinstance(result.exception, PermanentError)
    assert result.stdout == ""
    assert [each.ended for each in tool.bucket.audit_records] == [None, "interrupted"]
