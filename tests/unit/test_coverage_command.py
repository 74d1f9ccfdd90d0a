"""`coverage` and `enforce --gaps`, from outside."""

from __future__ import annotations

import csv
import io
import json
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from handlers.core.errors import PermanentError, RetryableError, fault
from handlers.core.guardrails.pauses import KnownPauses
from handlers.core.guardrails.reading import read_or_unreadable
from handlers.operate.context import Context
from handlers.operate.planning import read_guardrails
from schemas.compiled_guardrails import SCP, CompiledException, CompiledGuardrails, CompiledRule
from schemas.events import JoinRequest
from schemas.outcome import AttachmentResult, Claim, OutcomeStatus
from tests.fake_organization import FakeOrganizationReader
from tests.fake_queues import FakeQueues, dead_letter, outcome
from tests.fakes import MANAGEMENT, NOON, FakePseudonyms, Steps
from tests.operator_cli import CONFIRM, OperatorCli, operator_cli
from tests.pauses import FakePauses, ended_at, pause

DENY, REGIONS = "p-denyleave1", "p-regionlock"
PROD = "ou-root-prod0000"
ONE, TWO, THREE, FOUR, FIVE = (f"22222222222{number}" for number in range(1, 6))
DOCUMENT = CompiledGuardrails.model_validate(
    {
        "policies": [{"id": DENY, "type": SCP}, {"id": REGIONS, "type": SCP}],
        "rules": [
            {"id": "everyone", "attach": [DENY], "match": "all"},
            {"id": "prod", "attach": [REGIONS], "match": [{"tags": {"environment": ["prod"]}}]},
        ],
    }
)


def organization() -> FakeOrganizationReader:
    """Return an organization in which ONE carries everything, and the others lack something."""
    made = FakeOrganizationReader()
    made.ou(PROD, "Prod")
    made.policy(DENY, "deny-leave")
    made.policy(REGIONS, "region-lock")
    for each in (ONE, TWO):
        made.member(each, tags={"environment": "prod"})
    made.member(THREE, PROD)
    made.member(FOUR)
    made.member("333333333333", state="SUSPENDED")
    made.attach(DENY, ONE, TWO, PROD)
    made.attach(REGIONS, ONE)
    return made


def tool_of(reader: FakeOrganizationReader | None = None, **changes: Any) -> OperatorCli:
    tool = operator_cli()
    tool.reader = reader or organization()
    tool.in_force = DOCUMENT
    tool.organizations.policies = (DENY, REGIONS)
    for name, value in changes.items():
        setattr(tool, name, value)
    return tool


def add(tool: OperatorCli, account_id: str, status: OutcomeStatus, **changes: Any) -> None:
    key = (account_id, f"event-of-{account_id}")
    tool.queues.rows[key] = [(NOON, outcome(key, status, **changes))]


def found(tool: OperatorCli, *arguments: str) -> dict[str, Any]:
    result = tool.run("coverage", "--json", "--reveal", *arguments)
    assert result.stdout, said(result)
    fields: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if fields["is_complete"] else 1)
    return fields


def said(result: Result) -> str:
    return " ".join(f"{result.output}{result.exception or ''}".split())


def causes(fields: dict[str, Any]) -> dict[str, list[tuple[str, str, str | None]]]:
    return {
        each["account"]: [(one["policy"], one["cause"], one["code"]) for one in each["policies"]]
        for each in fields["gaps"]
    }


# coverage


def test_it_says_who_lacks_what_and_why() -> None:
    tool = tool_of()
    claim = Claim(result=AttachmentResult.ATTACHED, at=NOON, seal="0" * 64)
    add(tool, TWO, OutcomeStatus.ENFORCED, claims={REGIONS: claim})
    add(tool, THREE, OutcomeStatus.FAILED)

    fields = found(tool)

    assert causes(fields) == {
        TWO: [("region-lock", "DRIFTED", None)],
        THREE: [("deny-leave", "FAILED", "AccessDeniedException")],
        FOUR: [("deny-leave", "NEVER_SEEN", None)],
    }
    assert (fields["accounts"], fields["evaluated"], fields["covered"], fields["with_gaps"]) == (6, 4, 1, 3)
    assert (fields["left_out"], fields["missing"], fields["observed"]) == ({"MANAGEMENT": 1, "SUSPENDED": 1}, 3, 0)
    [deny, regions] = fields["policies"]
    assert (deny["required"], deny["carried"], deny["inherited"]) == (4, 2, 1)
    assert (deny["causes"], regions["causes"]) == ({"NEVER_SEEN": 1, "FAILED": 1}, {"DRIFTED": 1})
    [inherited] = [one for each in fields["gaps"] for one in each["policies"] if one["inherits"]]
    assert inherited["next_step"] == (
        "`joinguard list --code AccessDeniedException` shows the message and its next step; without one, "
        "`joinguard enforce --gaps`"
    )


def test_everything_carried_is_exit_status_0() -> None:
    reader = organization()
    reader.attach(DENY, THREE, FOUR)
    reader.attach(REGIONS, TWO)

    result = tool_of(reader).run("coverage")

    assert result.exit_code == 0
    assert "4 accounts: each carries every required policy." in said(result)


def test_the_tables_say_in_words_what_is_missing_and_the_next_step() -> None:
    tool = tool_of()
    add(tool, THREE, OutcomeStatus.FAILED)

    output = said(tool.run("coverage"))

    for text in (
        "1 NEVER_SEEN: no event of the account has an outcome → `joinguard enforce --gaps`",
        "1 FAILED: the last attempt failed → `joinguard list` shows the message and its next step",
        "inherited, too, by 1 account",
        "deny-leave (inherited): FAILED AccessDeniedException",
        "Left out: 1 MANAGEMENT, 1 SUSPENDED.",
        "--places reads those of the accounts with gaps.",
        "4 accounts: 1 covered, 3 with gaps (3 attachments missing).",
    ):
        assert text in output


def test_of_many_accounts_people_see_twenty_and_how_many_more() -> None:
    reader = organization()
    for number in range(30):
        reader.member(f"{number:012}")

    tool = tool_of(reader)
    output = tool.run("coverage", "--reveal").output
    lines = [line for line in output.splitlines() if "deny-leave: NEVER_SEEN" in line]

    assert len(lines) == 20
    assert "and 13 more accounts; --csv and --json print all" in output
    assert len(found(tool)["gaps"]) == 33


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]], ids=["table", "JSON", "CSV"])
def test_account_ids_are_shown_only_on_request(form: list[str]) -> None:
    hidden, shown = (tool_of().run("coverage", *form, *reveal) for reveal in ((), ("--reveal",)))
    pseudonym = FakePseudonyms(Steps()).of(FOUR).value

    assert not [each for each in (ONE, TWO, THREE, FOUR, MANAGEMENT) if each in hidden.output]
    assert pseudonym in "".join(hidden.output.split()) or not form
    assert FOUR in shown.output


def csv_rows(result: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(result.stdout)))


def test_csv_has_a_line_for_each_account_and_required_policy() -> None:
    reader = organization()
    reader.members[FOUR] = replace(reader.members[FOUR], joined_at=NOON)
    exception = CompiledException(id="EXC-1", accounts=(ONE,), policies=(DENY,), expires=NOON.date())
    tool = tool_of(reader, in_force=DOCUMENT.model_copy(update={"exceptions": (exception,)}))

    result = tool.run("coverage", "--csv", "--reveal")

    assert result.exit_code == 1
    rows = csv_rows(result)
    assert [(each["account"], each["policy"], each["status"], each["inherits"]) for each in rows] == [
        (ONE, "deny-leave", "EXCEPTED", "no"),
        (ONE, "region-lock", "CARRIED", "no"),
        (TWO, "deny-leave", "CARRIED", "no"),
        (TWO, "region-lock", "MISSING", "no"),
        (THREE, "deny-leave", "MISSING", "yes"),
        (FOUR, "deny-leave", "MISSING", "no"),
    ]
    assert (rows[0]["exceptions"], rows[0]["last_day"]) == ("EXC-1", NOON.date().isoformat())
    assert rows[-1]["joined_at"] == NOON.isoformat()


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1"])
def test_csv_is_safe_for_spreadsheets(name: str) -> None:
    reader = organization()
    reader.policy(DENY, name)

    names = {each["policy"] for each in csv_rows(tool_of(reader).run("coverage", "--csv"))} - {"region-lock"}

    assert len(names) == 1
    assert all(each.startswith("'") for each in names)


def test_exceptions_are_named_with_their_last_day_and_with_what_is_inherited_all_the_same() -> None:
    exception = CompiledException(id="EXC-1", accounts=(THREE, FOUR), policies=(DENY,), expires=NOON.date())
    tool = tool_of(in_force=DOCUMENT.model_copy(update={"exceptions": (exception,)}))

    output, fields = said(tool.run("coverage")), found(tool)

    assert f"Exception EXC-1 takes deny-leave from 2 accounts until {NOON.date()}." in output
    assert "2 accounts excepted, of which 1 inherit it all the same" in output
    named = [{"id": "EXC-1", "last_day": str(NOON.date()), "owner": None}]
    assert fields["exceptions"] == [
        {"account": THREE, "policy": "deny-leave", "inherits": True, "exceptions": named},
        {"account": FOUR, "policy": "deny-leave", "inherits": False, "exceptions": named},
    ]
    assert fields["policies"][0]["inherited"] == 0
    assert FOUR not in causes(fields)


OWNED = f"""\
version: 1
policies:
  - id: {DENY}
rules:
  - id: everyone
    attach: [{DENY}]
    match: all
exceptions:
  - id: EXC-1
    accounts: ["{FOUR}"]
    policies: [{DENY}]
    owner: jane@example.com
    approved_by: joe@example.com
    reason: a migration
    expires: {NOON.date()}
"""


@pytest.mark.parametrize("is_in_force", [True, False])
def test_the_owner_of_an_exception_is_that_of_the_stages_document_if_it_is_in_force(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_in_force: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    monkeypatch.chdir(tmp_path)
    document = Path("infra/guardrails/prod.yaml")
    document.parent.mkdir(parents=True)
    document.write_text(OWNED)
    tool = tool_of()
    assert tool.run("lock").exit_code == 0
    tool.in_force = read_guardrails(document, NOON)
    if not is_in_force:
        tool.in_force = tool.in_force.model_copy(update={"max_removals": 7})

    output, fields = said(tool.run("coverage")), found(tool)
    [row] = [each for each in csv_rows(tool.run("coverage", "--csv")) if each["status"] == "EXCEPTED"]

    owner = "jane@example.com" if is_in_force else None
    assert fields["exceptions"][0]["exceptions"] == [{"id": "EXC-1", "last_day": str(NOON.date()), "owner": owner}]
    assert (row["exceptions"], row["last_day"], row["exception_owners"]) == ("EXC-1", str(NOON.date()), owner or "")
    named = "EXC-1 (jane@example.com)" if is_in_force else "EXC-1"
    assert f"Exception {named} takes deny-leave from 1 account until {NOON.date()}." in output


def test_a_gap_of_a_paused_account_keeps_its_cause_and_says_until_when_and_who() -> None:
    tool = tool_of()
    tool.pauses = FakePauses(KnownPauses((pause(PROD, id="p1"), pause(FOUR, id="p2", owner="jane"))))

    output, fields = said(tool.run("coverage")), found(tool)
    rows = {each["account"]: each for each in csv_rows(tool.run("coverage", "--csv", "--reveal")) if each["cause"]}

    assert causes(fields)[FOUR] == [("deny-leave", "NEVER_SEEN", None)]
    assert (fields["with_gaps"], fields["paused"], fields["missing"], fields["missing_paused"]) == (3, 2, 3, 2)
    assert [each["paused"] for each in fields["policies"]] == [2, 0]
    until = NOON + timedelta(days=1)
    by_account = {each["account"]: each["paused"] for each in fields["gaps"]}
    assert by_account == {
        TWO: None,
        THREE: {
            "until": until.isoformat(),
            "undecided": False,
            "pauses": [{"id": "p1", "owner": "network team", "until": until.isoformat()}],
            "unreadable": [],
        },
        FOUR: {
            "until": until.isoformat(),
            "undecided": False,
            "pauses": [{"id": "p2", "owner": "jane", "until": until.isoformat()}],
            "unreadable": [],
        },
    }
    assert [(rows[each]["paused"], rows[each]["paused_until"], rows[each]["paused_by"]) for each in (TWO, FOUR)] == [
        ("", "", ""),
        ("yes", until.isoformat(), "jane"),
    ]
    assert "paused until 2026-11-25 12:00Z by jane" in output
    assert "missing on 2 accounts where nothing is repaired because of a pause" in output
    assert "3 with gaps (3 attachments missing), 2 of them paused." in output


def test_without_ous_it_is_undecided_whether_an_account_is_paused() -> None:
    reader = organization()
    reader.has_paths = False
    reader.refused["accounts_in"] = "AccessDeniedException"
    tool = tool_of(reader)
    tool.pauses = FakePauses(KnownPauses((pause(PROD, id="p1"),)))

    output, fields = said(tool.run("coverage")), found(tool)
    rows = [each for each in csv_rows(tool.run("coverage", "--csv")) if each["cause"]]

    assert {each["paused"]["undecided"] for each in fields["gaps"]} == {True}
    assert {each["paused"] for each in rows} == {"unknown"}
    assert "may be paused (its OUs could not be read) until 2026-11-25 12:00Z by network team" in output


def test_a_pause_row_that_is_not_readable_pauses_every_account_with_a_gap() -> None:
    tool = tool_of()
    tool.pauses = FakePauses(KnownPauses(unreadable={"odd": 1}))

    output, fields = said(tool.run("coverage")), found(tool)

    assert fields["paused"] == 3
    assert fields["gaps"][0]["paused"] == {"until": None, "undecided": True, "pauses": [], "unreadable": ["odd"]}
    assert "rows of the pauses are not readable (odd); see `joinguard pauses`" in output


def test_pauses_that_cannot_be_read_end_the_coverage() -> None:
    tool = tool_of()
    tool.pauses = FakePauses(error=RetryableError(fault("DynamoDB.AccessDeniedException", "no")))

    assert "DynamoDB.AccessDeniedException" in said(tool.run("coverage"))


def test_facts_that_cannot_be_read_leave_it_undecided() -> None:
    reader = organization()
    reader.attach(DENY, THREE, FOUR)
    reader.refused = {"tagged": "AccessDeniedException", "tags_of": "AccessDeniedException"}

    output, fields = said(tool_of(reader).run("coverage")), found(tool_of(reader))

    assert (fields["with_gaps"], fields["unclear"], fields["covered"]) == (0, 4, 0)
    assert "undecided for 4 accounts: tags could not be read" in output
    assert "Could not read: tags (AccessDeniedException)." in output


def test_targets_that_cannot_be_read_are_never_gaps() -> None:
    reader = organization()
    reader.refused = {"targets": "AccessDeniedException"}

    output, fields = said(tool_of(reader).run("coverage")), found(tool_of(reader))

    assert (fields["gaps"], fields["missing"], fields["unclear"]) == ([], 0, 4)
    assert "unknown for 4 accounts: where it is attached could not be read" in output


@pytest.mark.parametrize("part", ["accounts", "accounts_in", "targets", "tagged", "attached"])
def test_a_failure_that_may_pass_ends_it(part: str) -> None:
    """Half a snapshot would look like a whole one."""
    reader = organization()
    reader.unavailable, reader.has_paths = (part,), part != "accounts_in"

    result = tool_of(reader).run("coverage", "--places")

    assert isinstance(result.exception, RetryableError)
    assert "Coverage" not in result.output


def test_it_makes_a_call_for_each_policy_and_reads_no_content() -> None:
    reader = organization()
    for number in range(50):
        reader.member(f"{number:012}")

    tool_of(reader).run("coverage")

    assert reader.calls == {
        "identity": 1,
        "root": 1,
        "ous": 1,
        "policies": 1,
        "accounts": 1,
        "targets": 2,
        "tagged": 1,
    }


def test_places_are_read_of_the_accounts_with_gaps() -> None:
    reader = organization()
    for number in range(9):
        reader.policy(f"p-foreign{number}", f"foreign-{number}")
        reader.attach(f"p-foreign{number}", FOUR)

    without, fields = found(tool_of(reader)), found(tool_of(reader), "--places")

    assert causes(without)[FOUR] == [("deny-leave", "NEVER_SEEN", None)]
    assert causes(fields)[FOUR] == [("deny-leave", "NO_PLACE", None)]
    assert reader.calls["attached"] == 3


def test_an_account_that_leaves_meanwhile_does_not_end_the_reading_of_others() -> None:
    reader = organization()
    for number in range(9):
        reader.policy(f"p-foreign{number}", f"foreign-{number}")
        reader.attach(f"p-foreign{number}", FOUR)
    reader.leaving = {TWO}

    fields = found(tool_of(reader), "--places")

    assert causes(fields)[FOUR] == [("deny-leave", "NO_PLACE", None)]


def test_outcomes_are_read_only_of_accounts_with_gaps_at_most_eight_at_a_time() -> None:
    reader = organization()
    for number in range(40):
        reader.member(f"{number:012}")
    tool, asked, running, most = tool_of(reader), set[str](), 0, 0
    lock, together = threading.Lock(), threading.Barrier(8)
    known = tool.queues.of_account

    def of_account(account_id: str) -> Any:
        nonlocal running, most
        with lock:
            asked.add(account_id)
            running += 1
            most = max(most, running)
            number = len(asked)
        if number <= 8:
            together.wait()
        with lock:
            running -= 1
        return known(account_id)

    tool.queues.of_account = of_account  # type: ignore[method-assign]

    assert tool.run("coverage").exit_code == 1
    assert ONE not in asked
    assert len(asked) == 43
    assert most == 8


def test_outcomes_that_cannot_be_read_end_it() -> None:
    tool = tool_of()

    def refuse(_account_id: str) -> Any:
        raise PermanentError(fault("AccessDeniedException", "no"))

    tool.queues.of_account = refuse  # type: ignore[method-assign, assignment]

    assert isinstance(tool.run("coverage").exception, PermanentError)


def test_accounts_that_joined_earlier_can_be_left_out() -> None:
    reader = organization()
    for each, days in ((TWO, 2), (THREE, 1), (FOUR, 0)):
        reader.members[each] = replace(reader.members[each], joined_at=NOON - timedelta(days=days))
    day = (NOON - timedelta(days=1)).date().isoformat()
    reader.members[THREE] = replace(reader.members[THREE], joined_at=NOON.replace(hour=0) - timedelta(days=1))

    fields, output = found(tool_of(reader), "--since", day), said(tool_of(reader).run("coverage", "--since", day))

    assert list(causes(fields)) == [THREE, FOUR], "the day begins at midnight in UTC"
    assert fields["left_out"] == {"MANAGEMENT": 1, "SUSPENDED": 1, "JOINED_EARLIER": 1}
    assert fields["since"] == day
    assert "Of 1 account, it is not known when they joined" in output


def test_accounts_that_are_only_observed_are_counted_and_are_no_gaps() -> None:
    tool = tool_of(attach_to=FOUR)

    fields, output = found(tool), said(tool.run("coverage"))

    assert (list(causes(fields)), fields["observed"], fields["observed_lacking"]) == ([FOUR], 3, 2)
    assert "Only observed (AttachTo): 3 accounts, of which 2 lack a policy." in output


def test_guardrails_that_cannot_be_read_end_it_with_the_reason() -> None:
    class Artifacts:
        def read(self, key: str) -> bytes:
            raise PermanentError(fault("S3.AccessDenied", f"no {key}"))

    class Tool(OperatorCli):
        def context(self) -> Context:
            context = super().context()
            unreadable = read_or_unreadable(Artifacts(), "x")
            return replace(context, requirements=replace(context.requirements, guardrails=unreadable))

    assert isinstance(Tool(FakeQueues([])).run("coverage").exception, PermanentError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--csv", "--json"], "exclude each other"),
        (["--snapshot", "x.json"], "need each other"),
        (["--guardrails", "x.json"], "need each other"),
        (["--snapshot", "x.json", "--guardrails", "y.json", "--places"], "but --snapshot does not"),
        (["--since", "yesterday"], "'yesterday' is not a day. Use YYYY-MM-DD"),
        (["--since", "2026-13-01"], "is not a day"),
        (["--since", "2027-01-01"], "--since 2027-01-01 is in the future. Use a day that has begun (UTC)"),
    ],
)
def test_wrong_use(arguments: list[str], message: str) -> None:
    result = tool_of().run("coverage", *arguments)

    assert result.exit_code == 2
    assert message in said(result)


def test_a_recorded_organization_is_compared_without_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tool_of().run("snapshot", "organization.json").exit_code == 0
    Path("guardrails.json").write_bytes(DOCUMENT.canonical())
    nobody = tool_of(FakeOrganizationReader(), is_missing=True)
    arguments = ("--snapshot", "organization.json", "--guardrails", "guardrails.json")

    fields, output = found(nobody, *arguments), nobody.run("coverage", *arguments).output

    assert {account: [cause for _, cause, _ in each] for account, each in causes(fields).items()} == {
        TWO: ["UNKNOWN"],
        THREE: ["UNKNOWN"],
        FOUR: ["UNKNOWN"],
    }
    assert "so most causes are not known" in output
    assert "account 2" in output
    assert TWO not in output
    assert nobody.reader.calls == {}


def test_a_recording_keeps_when_accounts_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reader = organization()
    for number, each in enumerate((ONE, TWO, THREE, FOUR)):
        reader.members[each] = replace(reader.members[each], joined_at=NOON - timedelta(days=number))
    assert tool_of(reader).run("snapshot", "organization.json").exit_code == 0
    Path("guardrails.json").write_bytes(DOCUMENT.canonical())
    since = ("--since", (NOON - timedelta(days=1)).date().isoformat())

    offline = found(tool_of(), "--snapshot", "organization.json", "--guardrails", "guardrails.json", *since)

    assert list(causes(offline)) == [TWO] == list(causes(found(tool_of(reader), *since)))


# enforce --gaps


def test_paused_accounts_are_left_out_unless_forced() -> None:
    tool = tool_of()
    tool.pauses = FakePauses(KnownPauses((pause(PROD), pause(FOUR, ended=ended_at(NOON)))))

    planned = said(tool.run("enforce", "--gaps"))
    left = json.loads(tool.run("enforce", "--gaps", "--json", *CONFIRM).stdout)

    assert "1 account left out" in planned
    assert "paused until 2026-11-25 12:00Z by network team" in planned
    assert requested(tool) == [TWO, FOUR]
    assert [each["why"] for each in left["left_out"]] == ["paused until 2026-11-25 12:00Z by network team"]

    forced = tool_of()
    forced.pauses = tool.pauses
    forced.run("enforce", "--gaps", "--force", *CONFIRM)
    assert requested(forced) == [TWO, THREE, FOUR]


def requested(tool: OperatorCli) -> list[str]:
    return [JoinRequest.model_validate_json(each.body).account_id for each in tool.queues.repairs]


def test_gaps_are_planned_with_the_number_of_accounts_and_attachments_and_the_time() -> None:
    tool = tool_of()

    result = tool.run("enforce", "--gaps")

    assert result.exit_code == 0, said(result)
    assert "this sends 3 join requests for 3 attachments to the repairs queue" in said(result)
    assert "this takes about 2s at the organization's pace, 2 a second" in said(result)
    assert "Nothing was done. Add --confirm" in said(result)
    assert not [each for each in (ONE, TWO, THREE, FOUR) if each in result.output]
    assert (tool.queues.repairs, tool.bucket.objects) == ([], {})


def test_the_accounts_with_gaps_are_requested_and_the_action_is_on_record() -> None:
    tool = tool_of()

    result = tool.run("enforce", "--gaps", "--json", *CONFIRM)

    assert result.exit_code == 0, said(result)
    assert requested(tool) == [TWO, THREE, FOUR]
    fields = json.loads(result.stdout)
    assert (fields["attachments"], fields["left_out"], fields["coverage"]["with_gaps"]) == (3, [], 3)
    assert not [each for each in (TWO, THREE, FOUR) if each in result.output]
    intended, done = tool.bucket.audit_records
    assert (intended.action, intended.messages, done.results) == ("enforce", 3, {"sent": 3, "enforced": 3})


def test_account_ids_of_gaps_are_shown_on_request() -> None:
    result = tool_of().run("enforce", "--gaps", "--reveal")

    assert f"{TWO}, {THREE}, {FOUR}" in said(result)


@pytest.mark.parametrize("label", ["region-lock", REGIONS])
def test_a_policy_selects_the_accounts_that_lack_it(label: str) -> None:
    tool = tool_of()

    assert tool.run("enforce", "--gaps", "--policy", label, *CONFIRM).exit_code == 0
    assert requested(tool) == [TWO]


def test_a_policy_that_the_guardrails_do_not_name_is_refused_before_accounts_are_read() -> None:
    tool = tool_of()

    result = tool.run("enforce", "--gaps", "--policy", "region-lok")

    assert result.exit_code == 2
    assert "no policy 'region-lok'. Use one of deny-leave, region-lock" in said(result)
    assert tool.reader.calls["accounts"] == 0


def test_a_limit_counts_accounts_that_are_requested() -> None:
    tool = tool_of()
    add(tool, TWO, OutcomeStatus.RETRYING)

    tool.run("enforce", "--gaps", "--limit", "1", *CONFIRM)

    assert requested(tool) == [THREE]


def test_accounts_that_already_wait_are_left_out_with_the_reason() -> None:
    tool = tool_of()
    add(tool, TWO, OutcomeStatus.RETRYING)
    tool.queues.messages = [dead_letter(account=THREE)]

    result = tool.run("enforce", "--gaps", *CONFIRM)

    assert result.exit_code == 1, "accounts are left"
    assert requested(tool) == [FOUR]
    assert "an event of the account is being retried; see `outcomes --status RETRYING`" in said(result)
    assert "a dead letter of the account waits; see `list`, correct the cause, then `redrive`" in said(result)
    assert tool.queues.in_flight_ids == set(), "the dead letters are visible again"


def test_a_failed_outcome_whose_message_is_gone_does_not_wait() -> None:
    tool = tool_of()
    add(tool, TWO, OutcomeStatus.FAILED)

    tool.run("enforce", "--gaps", *CONFIRM)

    assert TWO in requested(tool)


def test_requests_that_would_fail_are_left_out_unless_forced() -> None:
    tool = tool_of()
    tool.organizations.enabled = False

    planned, forced = tool.run("enforce", "--gaps"), tool.run("enforce", "--gaps", "--force", *CONFIRM)

    assert planned.exit_code == 1
    assert "3 accounts left out" in said(planned)
    assert "SERVICE_CONTROL_POLICY is not enabled" in said(planned)
    assert "Nothing was done. Add --force" in said(planned)
    assert forced.exit_code == 1
    assert requested(tool) == [TWO, THREE, FOUR]


def test_what_cannot_be_attached_is_left_out() -> None:
    reader = organization()
    del reader.named[DENY]
    tool = tool_of(reader)

    planned, forced = tool.run("enforce", "--gaps"), tool.run("enforce", "--gaps", "--force", *CONFIRM)

    assert "3 accounts left out" in said(planned)
    assert "nothing that it lacks can be attached (NO_POLICY)" in said(planned)
    assert "a policy that it lacks cannot be attached (NO_POLICY)" in said(planned), "its request would fail"
    assert "3 accounts requested all the same" in said(forced)
    assert requested(tool) == [ONE, TWO, THREE, FOUR]


def many(number: int) -> tuple[OperatorCli, list[str]]:
    """Return an organization with more accounts with gaps than are read one by one."""
    reader = organization()
    accounts = [reader.member(f"{each:012}") for each in range(number)]
    reader.attach(DENY, THREE, FOUR)
    reader.attach(REGIONS, TWO)
    return tool_of(reader), accounts


def test_a_policy_that_accounts_need_not_carry_prevents_none_of_many_requests() -> None:
    tool, accounts = many(130)
    tool.organizations.policies = (DENY,)
    tool.organizations.tags = {}

    tool.run("enforce", "--gaps", *CONFIRM, "--wait", "0s")

    assert requested(tool) == accounts


def test_of_many_accounts_none_is_requested_that_lacks_a_place() -> None:
    tool, accounts = many(130)
    tool.in_force = DOCUMENT.model_copy(
        update={"rules": (DOCUMENT.rules[0], CompiledRule(id="too", attach=(REGIONS,), match="all"))}
    )
    tool.in_force = tool.in_force.model_copy(update={"policies_per_account": {SCP: 2}})

    result = tool.run("enforce", "--gaps", "--policy", DENY)

    assert f"{len(accounts)} accounts left out" in said(result)
    assert "a policy that it lacks cannot be attached (NO_PLACE)" in said(result)


def replacing(*, removes: bool) -> OperatorCli:
    """Return an organization whose account ONE carries what it need not, in place of what it must carry."""
    reader = FakeOrganizationReader()
    reader.policy(DENY, "deny-leave")
    reader.policy(REGIONS, "region-lock")
    reader.member(ONE, tags={"environment": "test"})
    reader.attach(REGIONS, ONE)
    tool = tool_of(reader, removes=removes)
    rules = (DOCUMENT.rules[0], DOCUMENT.rules[1].model_copy(update={"when_no_longer": "remove"}))
    tool.in_force = DOCUMENT.model_copy(update={"rules": rules, "policies_per_account": {SCP: 2}})
    tool.organizations.attached = ("p-FullAWSAccess", REGIONS)
    tool.organizations.tags = {"environment": "test"}
    return tool


def test_a_place_that_a_removal_makes_is_a_place() -> None:
    assert causes(found(replacing(removes=True)))[ONE] == [("deny-leave", "NEVER_SEEN", None)]
    assert causes(found(replacing(removes=False)))[ONE] == [("deny-leave", "NO_PLACE", None)]


def test_gaps_are_planned_with_the_removals_that_the_requests_may_bring() -> None:
    result, kept = replacing(removes=True).run("enforce", "--gaps"), replacing(removes=False).run("enforce", "--gaps")

    assert "carry 1 attachment that they do not need; the requests also ask to remove" in said(result)
    assert "this sends 1 join request" in said(result)
    assert "do not need" not in said(kept)


def test_what_is_not_clear_about_another_policy_does_not_matter() -> None:
    reader = organization()
    reader.refused = {"tagged": "AccessDeniedException", "tags_of": "AccessDeniedException"}
    reader.attach(REGIONS, TWO)

    assert tool_of(reader).run("enforce", "--gaps", "--policy", DENY, *CONFIRM).exit_code == 0
    whole = tool_of(reader).run("enforce", "--gaps", *CONFIRM)
    assert whole.exit_code == 1
    assert "it is not known what they lack: see `coverage`" in said(whole)


def test_a_dead_letter_of_another_organization_does_not_hold_an_account() -> None:
    tool = tool_of()
    foreign = {"source": "joinguard.operator", "event_id": "e", "requested_at": NOON.isoformat(), "account_id": THREE}
    foreign |= {"organization_id": "o-otherother1", "reason": "x"}
    tool.queues.messages = [dead_letter(code="WRONG_ORGANIZATION", body=json.dumps(foreign))]

    tool.run("enforce", "--gaps", *CONFIRM)

    assert THREE in requested(tool)


def test_forced_requests_are_sent_no_faster_than_one_attachment_each() -> None:
    reader = organization()
    del reader.named[DENY]
    for number in range(17):
        reader.member(f"{number:012}")
    tool = tool_of(reader)
    begin = tool.queues.clock.now()

    tool.run("enforce", "--gaps", "--force", *CONFIRM, "--wait", "0s")

    assert (tool.queues.clock.now() - begin).total_seconds() >= 9


def test_accounts_that_are_only_observed_are_left_out_and_counted() -> None:
    tool = tool_of(attach_to=FOUR)

    result = tool.run("enforce", "--gaps", *CONFIRM)

    assert requested(tool) == [FOUR]
    assert "left out because they are only observed (AttachTo), and lack a policy: 2 accounts" in said(result)


def test_without_gaps_there_is_nothing_to_do() -> None:
    reader = organization()
    reader.attach(DENY, THREE, FOUR)
    reader.attach(REGIONS, TWO)
    tool = tool_of(reader)

    result = tool.run("enforce", "--gaps", *CONFIRM)

    assert (result.exit_code, tool.queues.repairs, tool.bucket.objects) == (0, [], {})
    assert "Nothing to do" in said(result)


def test_what_is_not_clear_is_left() -> None:
    reader = organization()
    reader.attach(DENY, THREE, FOUR)
    reader.refused = {"targets": "AccessDeniedException"}

    result = tool_of(reader).run("enforce", "--gaps", *CONFIRM)

    assert result.exit_code == 1
    assert "4 accounts: 0 covered, 4 unclear." in said(result)


def test_requests_are_sent_as_fast_as_their_attachments_allow() -> None:
    """Each account lacks one of two policies: two accounts a second, and not one."""
    reader = organization()
    accounts = [reader.member(f"{number:012}") for number in range(17)]
    tool = tool_of(reader)
    begin = tool.queues.clock.now()

    tool.run("enforce", "--gaps", *CONFIRM, "--wait", "0s")

    assert len(requested(tool)) == len(accounts) + 3
    assert 9 <= (tool.queues.clock.now() - begin).total_seconds() < 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gaps", ONE], "or --gaps"),
        (["--gaps", "--from", "-"], "or --gaps"),
        ([ONE, "--policy", "x"], "Add --gaps"),
        ([ONE, "--limit", "1"], "Add --gaps"),
        ([ONE, "--reveal"], "Add --gaps"),
    ],
)
def test_wrong_use_of_gaps(arguments: list[str], message: str) -> None:
    tool = tool_of()

    result = tool.run("enforce", *arguments)

    assert (result.exit_code, tool.queues.joins) == (2, [])
    assert message in said(result)
