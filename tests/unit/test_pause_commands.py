"""`pause`, `resume` and `pauses`, from outside."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from handlers.core.errors import RetryableError
from handlers.core.guardrails.pauses import MOST, KnownPauses
from handlers.operate.context import Caller
from schemas.pause import LONGEST, ORGANIZATION
from tests.fake_organization import ROOT_OU
from tests.fakes import MANAGEMENT, NOON, FakePseudonyms
from tests.operator_cli import CONFIRM, OperatorCli, operator_cli
from tests.pauses import FakePauses, pause

if TYPE_CHECKING:
    from click.testing import Result

    from schemas.pause import Pause

PROD, INNER, OTHER = "ou-root-prod0000", "ou-root-inner000", "ou-root-other000"
ONE, TWO, THREE = "222222222221", "222222222222", "222222222223"
TERMS = ("--until", "4h", "--owner", "network team")


def tool_of(*pauses: Pause, **unreadable: object) -> OperatorCli:
    tool = operator_cli()
    reader = tool.reader
    reader.ou(PROD, "Prod")
    reader.ou(INNER, "Inner", PROD)
    reader.ou(OTHER, "Other")
    reader.member(ONE, PROD)
    reader.member(TWO, INNER)
    reader.member(THREE, OTHER)
    tool.pauses = FakePauses(KnownPauses(pauses, unreadable))
    return tool


def known(tool: OperatorCli) -> KnownPauses:
    assert tool.pauses
    return tool.pauses.known


def in_force(tool: OperatorCli) -> list[Pause]:
    return list(known(tool).in_force(tool.now()))


def said(result: Result) -> str:
    return " ".join(f"{result.output}{result.exception or ''}".split())


def listed(tool: OperatorCli, *arguments: str) -> tuple[dict[str, Any], int]:
    result = tool.run("pauses", "--json", *arguments)
    assert result.stdout, said(result)
    return json.loads(result.stdout), result.exit_code


# pause


@pytest.mark.parametrize(
    ("arguments", "scope", "plan"),
    [
        (["--organization"], ORGANIZATION, "the whole organization, 3 accounts today,"),
        (["--ou", "/"], ORGANIZATION, "the whole organization, 3 accounts today,"),
        (["--ou", ROOT_OU], ORGANIZATION, "the whole organization, 3 accounts today,"),
        (["--ou", "/Prod"], PROD, f"OU /Prod ({PROD}) and everything below it, 2 accounts today,"),
        (["--ou", INNER], INNER, f"OU /Prod/Inner ({INNER}) and everything below it, 1 account today,"),
        (["--account", ONE], ONE, f"account {ONE} for 4h"),
    ],
)
def test_the_plan_says_what_is_paused_and_only_confirm_pauses_it(arguments: list[str], scope: str, plan: str) -> None:
    tool = tool_of()

    planned = tool.run("pause", *arguments, *TERMS)

    assert planned.exit_code == 0, said(planned)
    assert f"this pauses {plan}" in said(planned)
    assert "joins are handled as always" in said(planned)
    assert known(tool) == KnownPauses()
    assert tool.bucket.objects == {}

    done = tool.run("pause", *arguments, *TERMS, *CONFIRM)

    assert done.exit_code == 0, said(done)
    [made] = in_force(tool)
    assert (made.scope, made.owner, made.reason) == (scope, "network team", "x")
    assert (made.begun_at, made.until) == (NOON, NOON + timedelta(hours=4))
    assert f"`resume {made.id}` ends it" in said(done)


def test_a_pause_is_on_record_without_account_owner_or_secrets_of_the_reason() -> None:
    tool = tool_of()

    tool.run("pause", "--account", ONE, *TERMS, "--confirm", "--reason", f"for {ONE}, says jane@example.com")

    [intended, done] = tool.bucket.audit_records
    [made] = in_force(tool)
    assert (intended.action, intended.phase, intended.act_id) == ("pause", "intended", made.act_id)
    assert [each.event_id for each in intended.letters] == [made.id]
    assert (done.results["begun"], done.ended) == (1, "completed")
    assert made.reason == intended.reason == "for [account], says [e-mail]"
    stored = b"".join(tool.bucket.objects.values()).decode()
    assert not [secret for secret in (ONE, "network team", "jane@") if secret in stored]
    assert "1 pause" in said(tool.run("actions"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --organization"),
        (["--organization", "--ou", PROD], "give either --organization"),
        (["--organization", "--account", ONE], "give either --organization"),
        (["--account", "12"], "twelve digits"),
        (["--account", MANAGEMENT], "is the management account"),
        (["--ou", "Prod"], "neither the id of an OU (ou-…) nor a path"),
        (["--organization", "--until", "tomorrow"], "neither a duration nor a time"),
        (["--organization", "--until", "2026-02-30"], "neither a duration nor a time"),
        (["--organization", "--until", "59s"], "lasts at least a minute"),
        (["--organization", "--until", "2020-01-01"], "lasts at least a minute"),
        (["--organization", "--until", "31d"], "at most 30 days, until 2026-12-24 12:00Z"),
        (["--organization", "--until", "999999d"], "at most 30 days"),
        (["--organization", "--until", "9999-12-31"], "neither a duration nor a time"),
        (["--organization", "--owner", " "], "--owner has 1 to 128 characters"),
        (["--organization", "--owner", "x" * 129], "--owner has 1 to 128 characters"),
    ],
)
def test_wrong_use_is_refused_with_the_rule_and_pauses_nothing(arguments: list[str], message: str) -> None:
    tool = tool_of()

    result = tool.run("pause", *TERMS, *arguments, *CONFIRM)

    assert result.exit_code == 2, said(result)
    assert message in said(result)
    assert known(tool) == KnownPauses()
    assert tool.bucket.objects == {}


@pytest.mark.parametrize("missing", ["--until", "--owner"])
def test_an_end_and_an_owner_are_mandatory(missing: str) -> None:
    place = TERMS.index(missing)
    result = tool_of().run("pause", "--organization", *TERMS[:place], *TERMS[place + 2 :], *CONFIRM)

    assert result.exit_code == 2
    assert f"Missing option '{missing}'" in said(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ou", "/Prd"], "the organization has no OU /Prd; did you mean /Prod?"),
        (["--ou", "ou-root-nothing0"], "the organization has no OU ou-root-nothing0; correct --ou"),
        (["--account", "999999999999"], "999999999999 is no member of the organization. Correct --account"),
    ],
)
def test_what_the_organization_does_not_have_cannot_be_paused(arguments: list[str], message: str) -> None:
    tool = tool_of()

    result = tool.run("pause", *arguments, *TERMS, *CONFIRM)

    assert result.exit_code == 1
    assert message in said(result)
    assert known(tool) == KnownPauses()


def test_an_ou_whose_path_is_not_unique_is_named_by_id() -> None:
    tool = tool_of()
    tool.reader.ou("ou-root-slash000", "Prod/Inner")

    result = tool.run("pause", "--ou", "/Prod/Inner", *TERMS, *CONFIRM)

    assert result.exit_code == 1
    assert "use an id: ou-root-inner000, ou-root-slash000" in said(result)
    assert tool.run("pause", "--ou", INNER, *TERMS, *CONFIRM).exit_code == 0


@pytest.mark.parametrize(
    ("until", "end"),
    [
        ("30d", NOON + LONGEST),
        ("2026-12-01", NOON.replace(month=12, day=2, hour=0)),
        ("2026-11-26T08:30:00+02:00", NOON.replace(day=26, hour=6, minute=30)),
    ],
)
def test_the_end_is_a_duration_a_last_day_or_a_time(until: str, end: object) -> None:
    tool = tool_of()

    assert tool.run("pause", "--organization", "--owner", "x", "--until", until, *CONFIRM).exit_code == 0

    assert [each.until for each in in_force(tool)] == [end]


@pytest.mark.parametrize("refused", ["root", "ous", "accounts_in"])
def test_an_ou_can_be_paused_by_its_id_although_its_accounts_cannot_be_counted(refused: str) -> None:
    tool = tool_of()
    tool.reader.refused = {refused: "AccessDeniedException"}

    result = tool.run("pause", "--ou", PROD, *TERMS, *CONFIRM, "--json")

    assert result.exit_code == 0
    assert "AccessDeniedException" in result.stderr
    assert json.loads(result.stdout)["accounts"] is None
    assert [each.scope for each in in_force(tool)] == [PROD]


def test_a_path_needs_the_ous() -> None:
    tool = tool_of()
    tool.reader.refused = {"ous": "AccessDeniedException"}

    assert tool.run("pause", "--ou", "/Prod", *TERMS, *CONFIRM).exit_code == 1
    assert known(tool) == KnownPauses()


def test_the_same_scope_and_owner_is_paused_once_whatever_is_run_again() -> None:
    tool = tool_of(pause(PROD, id="another", owner="others"))

    tool.run("pause", "--ou", "/Prod", *TERMS, *CONFIRM)
    [first] = [each for each in in_force(tool) if each.id != "another"]
    again = tool.run("pause", "--ou", PROD, "--until", "5h", "--owner", "network team", *CONFIRM)

    assert f"it replaces pause {first.id}" in said(again)
    [second] = [each for each in in_force(tool) if each.id != "another"]
    assert (second.id != first.id, second.until) == (True, NOON + timedelta(hours=5))
    results = {each.event_id: each.result for each in tool.bucket.audit_records[-1].letters}
    assert results == {second.id: "begun", first.id: "ended"}


def test_no_more_than_a_number_of_pauses_are_in_force() -> None:
    tool = tool_of(*(pause(ONE, id=f"id{number}", owner=f"owner {number}") for number in range(MOST)))

    refused = tool.run("pause", "--organization", *TERMS, *CONFIRM)
    replaced = tool.run("pause", "--account", ONE, "--until", "5h", "--owner", "owner 7", *CONFIRM)

    assert refused.exit_code == 1
    assert "100 pauses are in force, and there can be no more. End one with `resume ID`" in said(refused)
    assert replaced.exit_code == 0
    assert len(in_force(tool)) == MOST


def test_a_change_by_somebody_else_meanwhile_is_not_overwritten() -> None:
    tool = tool_of()
    assert tool.pauses
    tool.pauses.is_contended = True

    result = tool.run("pause", "--organization", *TERMS, *CONFIRM)

    assert isinstance(result.exception, RetryableError)
    assert known(tool) == KnownPauses()
    assert [(each.phase, each.ended) for each in tool.bucket.audit_records] == [
        ("intended", None),
        ("done", "interrupted"),
    ]


def test_a_stack_of_an_earlier_version_has_no_pauses_and_says_the_next_step() -> None:
    tool = tool_of()
    tool.pauses = None

    assert "no pauses" in said(tool.run("pauses"))
    assert "Run `make deploy`" in said(tool.run("pause", "--organization", *TERMS, *CONFIRM))


# resume


def test_a_pause_is_ended_by_the_beginning_of_its_id_and_once() -> None:
    tool = tool_of(pause(ONE, id="abcd0001"), pause(TWO, id="abce0002"))

    planned = tool.run("resume", "abcd")
    assert planned.exit_code == 0
    assert len(in_force(tool)) == 2
    ended = tool.run("resume", "abcd", *CONFIRM)
    again = tool.run("resume", "abcd", *CONFIRM)

    assert (ended.exit_code, again.exit_code) == (0, 0)
    assert [each.id for each in in_force(tool)] == ["abce0002"]
    assert "ended at 2026-11-24 12:00Z. Nothing to do" in said(again)
    intended, done = tool.bucket.audit_records
    assert (intended.action, done.results, [each.result for each in done.letters]) == (
        "resume",
        {"ended": 1},
        ["ended"],
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [("abc", "2 pauses have an id that begins with abc"), ("x", "no pause has the id x. `pauses` lists them")],
)
def test_an_id_that_names_no_or_several_pauses_is_refused(given: str, message: str) -> None:
    tool = tool_of(pause(ONE, id="abcd0001"), pause(TWO, id="abce0002"))

    result = tool.run("resume", given, *CONFIRM)

    assert result.exit_code == 1
    assert message in said(result)
    assert len(in_force(tool)) == 2


def test_a_row_that_is_not_readable_is_deleted_on_record_without_its_name() -> None:
    tool = tool_of(**{ONE: "what nobody wrote"})
    assert known(tool).of(TWO, (ROOT_OU,), NOON)

    assert tool.run("resume", ONE, *CONFIRM).exit_code == 0

    assert known(tool).of(TWO, (ROOT_OU,), NOON) is None
    assert ONE not in b"".join(tool.bucket.objects.values()).decode()
    assert tool.bucket.audit_records[-1].letters[0].result == "ended"


# pauses


def test_pauses_are_listed_with_owner_reason_and_end_and_those_that_ended_lately() -> None:
    tool = tool_of(
        pause(ONE, id="lately", until=NOON + timedelta(hours=1)),
        pause(TWO, id="old", at=NOON - timedelta(days=9), until=NOON - timedelta(days=8)),
    )
    tool.run("pause", "--account", TWO, *TERMS, *CONFIRM)
    tool.queues.clock.sleep(3600)

    fields, status = listed(tool)
    output = said(tool.run("pauses"))

    assert status == 0
    [current], [ended] = fields["in_force"], fields["ended"]
    assert (current["owner"], current["reason"], current["you"], current["record"]) == (
        "network team",
        "x",
        True,
        "valid",
    )
    assert current["until"] == "2026-11-24T16:00:00+00:00"
    assert (ended["id"], ended["ended_at"]) == ("lately", None)
    assert TWO not in json.dumps(fields)
    assert TWO not in output
    assert "until 2026-11-24 16:00Z" in output
    assert "by network team" in output
    assert listed(tool, "--reveal")[0]["in_force"][0]["scope"] == TWO


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"until": NOON + timedelta(days=3)}, "differs"),
        ({"scope": ORGANIZATION}, "differs"),
        ({"owner": "somebody else"}, "differs"),
        ({"reason": "another"}, "differs"),
        ({"begun_at": NOON - timedelta(hours=1)}, "differs"),
        ({"actor_id": "AIDAOTHER"}, "differs"),
        ({"act_id": "unknown"}, "missing"),
        ({"id": "copied"}, "missing"),
    ],
)
def test_a_pause_that_no_operator_made_is_flagged(change: dict[str, Any], verdict: str) -> None:
    tool = tool_of()
    tool.run("pause", "--account", ONE, *TERMS, *CONFIRM)
    [made] = in_force(tool)
    assert tool.pauses
    tool.pauses.known = KnownPauses((made.model_copy(update=change),))

    fields, status = listed(tool)

    assert (fields["in_force"][0]["record"], status) == (verdict, 1)
    assert re.search("no audit record|not as its audit record says", said(tool.run("pauses")))


def test_a_pause_that_was_ended_and_is_put_back_is_flagged() -> None:
    tool = tool_of()
    tool.run("pause", "--account", ONE, *TERMS, *CONFIRM)
    [made] = in_force(tool)
    tool.run("resume", made.id, *CONFIRM)
    assert tool.pauses
    tool.pauses.known = replace(known(tool), readable=(made,))

    assert (listed(tool)[0]["in_force"][0]["record"], listed(tool)[1]) == ("ended", 1)
    assert "ended on record, and in force again" in said(tool.run("pauses"))


def test_a_row_that_is_not_readable_is_listed_with_the_next_step() -> None:
    tool = tool_of(odd=[1])

    fields, status = listed(tool)

    assert (fields["unreadable"], status) == (["odd"], 1)
    assert "every account counts as paused already (odd)" in said(tool.run("pause", "--organization", *TERMS))
    assert "`resume odd`" in said(tool.run("pauses"))


def test_pauses_are_listed_although_the_audit_records_cannot_be_read() -> None:
    tool = tool_of()
    tool.run("pause", "--account", ONE, *TERMS, *CONFIRM)

    tool.bucket.is_unreadable = True
    result = tool.run("pauses")

    assert "network team" in said(result)
    assert "not compared with the audit records: S3.AccessDenied" in said(result)


def test_who_paused_is_you_or_a_pseudonym() -> None:
    tool = tool_of()
    tool.run("pause", "--account", ONE, *TERMS, *CONFIRM)
    assert "by you" in said(tool.run("pauses"))

    tool.caller = Caller("arn:aws:iam::111111111111:user/other", "AIDAOTHER:session")
    tool.pseudonyms = FakePseudonyms(tool.pseudonyms.steps)
    assert "by you" not in said(tool.run("pauses"))
    assert not listed(tool)[0]["in_force"][0]["you"]
