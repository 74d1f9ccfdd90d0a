"""`plan`, `snapshot` and `explain`, from outside."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from handlers.core.errors import RetryableError
from handlers.core.guardrails.snapshot import Wanted, take_snapshot, with_tags
from handlers.operate.guardrails_files import default_document, lock_path
from schemas.compiled_guardrails import SCP, CompiledGuardrails
from schemas.snapshot import Snapshot
from tests.fake_organization import FULL_ACCESS, ROOT_OU, FakeOrganizationReader
from tests.fakes import MANAGEMENT, FakeClock
from tests.operator_cli import OperatorCli, operator_cli

DENY, REGIONS = "p-denyleave1", "p-regionlock"
PROD, WEB, TEST = "ou-root-prod0000", "ou-root-web00000", "ou-root-test0000"
ONE, TWO, THREE = "222222222221", "222222222222", "222222222223"
TEXT = """\
version: 1
policies: [deny-leave, region-lock]
rules:
  - {id: everyone, attach: [deny-leave], match: all}
  - id: prod
    attach: [region-lock]
    match:
      - ou: /Prod/**
        tags: {environment: [prod]}
    when_no_longer: remove
"""


def organization() -> FakeOrganizationReader:
    made = FakeOrganizationReader()
    made.ou(PROD, "Prod")
    made.ou(WEB, "Web", PROD)
    made.ou(TEST, "Test")
    made.policy(DENY, "deny-leave")
    made.policy(REGIONS, "region-lock")
    made.member(ONE, WEB, tags={"environment": "prod"})
    made.member(TWO, TEST)
    made.member(THREE, state="SUSPENDED")
    made.attach(DENY, ONE)
    made.attach(REGIONS, TWO)
    return made


def tool_of(reader: FakeOrganizationReader) -> OperatorCli:
    tool = operator_cli()
    tool.reader = reader
    return tool


def said(result: Result) -> str:
    return f"{result.output}{result.exception or ''}"


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = default_document("joinguard")
    path.parent.mkdir(parents=True)
    path.write_text(TEXT)
    return path


def planned(tool: OperatorCli, *arguments: str) -> dict[str, Any]:
    result = tool.run("plan", "--json", *arguments)
    assert result.exit_code == 0, said(result)
    plan: dict[str, Any] = json.loads(result.stdout)
    return plan


def by_policy(plan: dict[str, Any], key: str) -> dict[str, Any]:
    return {each["policy"]: each[key] for each in plan["policies"]}


@pytest.mark.usefixtures("document")
def test_the_plan_says_who_gets_and_loses_what() -> None:
    plan = planned(tool_of(organization()), "--before", "none", "--reveal")

    assert by_policy(plan, "get") == {"deny-leave": [TWO], "region-lock": [ONE]}
    assert by_policy(plan, "lose") == {"deny-leave": [], "region-lock": [TWO]}
    assert by_policy(plan, "carry") == {"deny-leave": 1, "region-lock": 0}
    assert (plan["accounts"], plan["left_out"]) == (2, {"MANAGEMENT": 1, "SUSPENDED": 1})
    assert (plan["attachments"], plan["removals"], plan["seconds"]) == (2, 1, 1)
    assert plan["problems"] == []


@pytest.mark.usefixtures("document")
@pytest.mark.parametrize("form", ["--json", "--markdown", "--places"])
def test_account_ids_are_shown_only_on_request(form: str) -> None:
    hidden = tool_of(organization()).run("plan", "--before", "none", form)
    shown = tool_of(organization()).run("plan", "--before", "none", form, "--reveal")

    assert TWO not in hidden.output
    assert TWO in shown.output


@pytest.mark.usefixtures("document")
def test_the_table_says_in_words_what_happens() -> None:
    output = tool_of(organization()).run("plan", "--before", "none").output

    for text in (
        "1 carry it, 1 get it",
        "1 get it, 1 lose it",
        "2 accounts: 2 attachments (about 1s at 2 a second), at most 1 removal (only of what Joinguard attached).",
        "Left out: 1 MANAGEMENT",
        "infra/guardrails/prod.lock.json:1: is not up to date; run `joinguard lock`",
    ):
        assert text in output


@pytest.mark.usefixtures("document")
def test_names_in_markdown_are_shown_as_they_are() -> None:
    reader = organization()
    reader.ou(WEB, "a|b <script> @team", PROD)
    reader.member("222222222224", WEB, tags={"environment": "prod"})
    reader.member("222222222225", PROD)

    output = tool_of(reader).run("plan", "--before", "none", "--markdown").output

    assert "/Prod/a\\|b &lt;script\\> \\@team" in output
    assert "| Policy | Carry | Get | Lose | No place | Also |" in output


@pytest.mark.usefixtures("document")
@pytest.mark.parametrize(("options", "status"), [([], 0), (["--detailed-exitcode"], 2)])
def test_the_exit_status_of_changes(options: list[str], status: int) -> None:
    assert tool_of(organization()).run("plan", "--before", "none", *options).exit_code == status


@pytest.mark.usefixtures("document")
def test_nothing_to_do_is_exit_status_0() -> None:
    reader = organization()
    reader.attachments = {DENY: {ONE, TWO}, REGIONS: {ONE}}

    result = tool_of(reader).run("plan", "--before", "none", "--detailed-exitcode")

    assert result.exit_code == 0
    assert "Nothing to do for 2 accounts." in result.output


def test_a_rule_that_selects_no_account_is_an_error_unless_it_may(document: Path) -> None:
    document.write_text(TEXT.replace("environment: [prod]", "environment: [prd]"))
    wrong = tool_of(organization()).run("plan", "--before", "none", "--detailed-exitcode")
    document.write_text(document.read_text() + "    allow_empty: true\n")
    right = tool_of(organization()).run("plan", "--before", "none")

    assert wrong.exit_code == 1
    assert "infra/guardrails/prod.yaml:5: rule prod: selects no account; correct match, or add allow" in wrong.output
    assert right.exit_code == 0, right.output


def test_an_example_that_fails_is_an_error(document: Path) -> None:
    document.write_text(TEXT + "examples:\n  - {account: {ou: /Test, tags: {}}, carries: [region-lock]}\n")

    result = tool_of(organization()).run("plan", "--before", "none")

    assert result.exit_code == 1
    assert "prod.yaml:12: example 1" in said(result)


def test_a_name_that_is_not_found_ends_the_plan_before_accounts_are_read(document: Path) -> None:
    document.write_text(TEXT.replace("/Prod/**", "/Prd/**"))
    reader = organization()

    result = tool_of(reader).run("plan", "--before", "none")

    assert result.exit_code == 1
    assert "prod.yaml:8: rule prod: the organization has no OU /Prd; did you mean /Prod?" in said(result)
    assert reader.calls["accounts"] == reader.calls["targets"] == 0


@pytest.mark.usefixtures("document")
def test_the_guardrails_in_force_are_those_of_the_installation_or_of_a_file(tmp_path: Path) -> None:
    before = CompiledGuardrails.model_validate(
        {"policies": [{"id": DENY, "type": SCP}], "rules": [{"id": "all", "attach": [DENY], "match": "all"}]}
    )
    (tmp_path / "before.json").write_bytes(before.canonical())
    installed = tool_of(organization())
    installed.in_force = before
    from_file = planned(tool_of(organization()), "--before", "before.json")

    for plan in (planned(installed), from_file):
        assert plan["before"] == before.sha256()
        assert by_policy(plan, "missing_today") == {"deny-leave": 1, "region-lock": 0}
    assert planned(tool_of(organization()), "--before", "none")["digest"] == from_file["digest"]


def test_a_document_with_its_lock_file_can_be_the_guardrails_in_force(document: Path) -> None:
    tool_of(organization()).run("lock")
    lock = json.loads(lock_path(document).read_text())

    plan = planned(tool_of(organization()), "--before", str(document))

    assert plan["before"] == plan["after"] == lock["compiled"]
    assert plan["notes"] == []


@pytest.mark.usefixtures("document")
def test_tags_are_read_only_if_a_rule_needs_them_and_in_bulk_only_by_the_management_account(
    document: Path,
) -> None:
    in_bulk, member = organization(), organization()
    planned(tool_of(in_bulk), "--before", "none")
    elsewhere = tool_of(member)
    elsewhere.account_id = ONE
    plan = planned(elsewhere, "--before", "none", "--reveal")

    assert (in_bulk.calls["tagged"], in_bulk.calls["tags_of"]) == (1, 0)
    # Only the account in /Prod depends on its tags.
    assert (member.calls["tagged"], member.calls["tags_of"]) == (0, 1)
    assert by_policy(plan, "get")["region-lock"] == [ONE]

    document.write_text(TEXT.replace("        tags: {environment: [prod]}\n", ""))
    without = organization()
    planned(tool_of(without), "--before", "none")
    assert (without.calls["tagged"], without.calls["tags_of"]) == (0, 0)


@pytest.mark.usefixtures("document")
def test_tags_that_cannot_be_read_leave_the_policy_undecided_and_remove_nothing() -> None:
    reader = organization()
    reader.attach(REGIONS, ONE)
    reader.refused = {"tagged": "AccessDeniedException", "tags_of": "AccessDeniedException"}

    plan = planned(tool_of(reader), "--before", "none")

    assert by_policy(plan, "undecided") == {"deny-leave": 0, "region-lock": 1}
    assert by_policy(plan, "lose") == {"deny-leave": 0, "region-lock": 1}, "the account in /Test is decided"
    assert plan["unread"] == [{"part": "tags", "code": "AccessDeniedException"}]


@pytest.mark.usefixtures("document")
def test_a_plan_that_leaves_something_undecided_is_not_nothing_to_do() -> None:
    reader = organization()
    reader.attachments = {DENY: {ONE, TWO}}
    reader.refused = {"tagged": "AccessDeniedException", "tags_of": "AccessDeniedException"}

    result = tool_of(reader).run("plan", "--before", "none", "--detailed-exitcode")

    assert result.exit_code == 2
    assert "Nothing to do, as far as could be read, for 2 accounts." in result.output
    assert "Could not read: tags (AccessDeniedException)." in result.output


@pytest.mark.usefixtures("document")
def test_without_paths_in_the_answers_the_ous_are_read_from_the_ous() -> None:
    reader = organization()
    reader.has_paths = False

    plan = planned(tool_of(reader), "--before", "none", "--reveal")

    assert reader.calls["accounts_in"] == 4
    assert by_policy(plan, "get") == {"deny-leave": [TWO], "region-lock": [ONE]}


@pytest.mark.usefixtures("document")
def test_ous_that_cannot_be_read_are_unknown() -> None:
    reader = organization()
    reader.has_paths = False
    reader.refused = {"accounts_in": "AccessDeniedException"}

    plan = planned(tool_of(reader), "--before", "none", "--reveal")

    assert by_policy(plan, "undecided")["region-lock"] == [ONE]
    assert plan["unread"] == [{"part": "ous", "code": "AccessDeniedException"}]


@pytest.mark.usefixtures("document")
def test_a_policy_whose_targets_cannot_be_read_is_an_error() -> None:
    reader = organization()
    reader.refused = {"targets": "AccessDeniedException"}

    result = tool_of(reader).run("plan", "--before", "none")

    assert result.exit_code == 1
    assert "prod.yaml:2: policy deny-leave: the accounts that it is attached to could not be read" in result.output
    assert "Nothing to do, as far as could be read, for 2 accounts." in result.output


@pytest.mark.usefixtures("document")
@pytest.mark.parametrize("part", ["accounts", "accounts_in", "targets", "content", "tagged", "tags_of", "attached"])
def test_a_failure_that_may_pass_ends_the_plan(part: str) -> None:
    """Half a snapshot would look like a whole one."""
    reader = organization()
    reader.unavailable = (part,)
    reader.has_paths = part != "accounts_in"
    tool = tool_of(reader)
    # Only the management account reads tags in bulk.
    tool.account_id = ONE if part == "tags_of" else MANAGEMENT

    result = tool.run("plan", "--before", "none", "--places")

    assert result.exit_code == 1
    assert isinstance(result.exception, RetryableError)
    assert "Policy" not in result.output


@pytest.mark.usefixtures("document")
def test_places_are_read_only_of_accounts_that_get_something() -> None:
    reader = organization()
    for number in range(9):
        reader.policy(f"p-foreign{number}", f"foreign-{number}")
        reader.attach(f"p-foreign{number}", TWO)

    without = planned(tool_of(reader), "--before", "none")
    assert reader.calls["attached"] == 0
    plan = planned(tool_of(reader), "--before", "none", "--places")

    assert by_policy(without, "no_place") == {"deny-leave": 0, "region-lock": 0}
    assert by_policy(plan, "no_place") == {"deny-leave": 1, "region-lock": 0}
    assert reader.calls["attached"] == 2


@pytest.mark.usefixtures("document")
def test_an_account_that_two_pages_list_is_one_account() -> None:
    reader = organization()
    reader.repeated = [TWO]

    plan = planned(tool_of(reader), "--before", "none", "--reveal")

    assert (plan["accounts"], by_policy(plan, "get")["deny-leave"]) == (2, [TWO])


@pytest.mark.parametrize("form", ["--json", "--markdown"])
def test_an_ou_that_was_made_while_the_organization_was_read_is_named_by_its_id(document: Path, form: str) -> None:
    reader = organization()
    new = reader.ou("ou-root-new00000", "New")
    accounts = [reader.member(f"33333333333{number}", new) for number in range(3)]
    del reader.ou_names[new]
    listed = ", ".join(f'"{each}"' for each in accounts)
    document.write_text(
        "version: 1\npolicies: [deny-leave]\n"
        f"rules: [{{id: new, attach: [deny-leave], match: [{{account: [{listed}]}}]}}]\n"
    )

    result = tool_of(reader).run("plan", "--before", "none", form)

    assert result.exit_code == 0, said(result)
    assert new in result.output


def test_places_are_read_of_accounts_that_seem_to_have_none(document: Path) -> None:
    """An account without FullAWSAccess has a place more than the others."""
    names = [f"policy-{number}" for number in range(10)]
    document.write_text(
        f"version: 1\npolicies: [{', '.join(names)}]\n"
        f"rules: [{{id: all, attach: [{', '.join(names)}], match: [{{account: '{TWO}'}}]}}]\n"
    )
    reader = organization()
    for each in (FULL_ACCESS, REGIONS):
        reader.attachments[each].discard(TWO)
    for number, name in enumerate(names):
        reader.policy(f"p-policy000{number}", name)
        if number < 9:
            reader.attach(f"p-policy000{number}", TWO)

    without = planned(tool_of(reader), "--before", "none", "--reveal")
    plan = planned(tool_of(reader), "--before", "none", "--places", "--reveal")

    assert (by_policy(without, "no_place")["policy-9"], by_policy(without, "get")["policy-9"]) == ([TWO], [])
    assert (by_policy(plan, "no_place")["policy-9"], by_policy(plan, "get")["policy-9"]) == ([], [TWO])


@pytest.mark.usefixtures("document")
def test_a_recorded_organization_gives_the_same_plan_without_any_call() -> None:
    recorded = tool_of(organization()).run("snapshot", "organization.json")
    file = Path("organization.json")
    nobody = tool_of(FakeOrganizationReader())

    offline = planned(nobody, "--snapshot", "organization.json", "--reveal")
    online = planned(tool_of(organization()), "--before", "none", "--reveal")

    assert recorded.exit_code == 0, said(recorded)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert nobody.reader.calls.total() == 0
    assert offline["digest"] == online["digest"]
    assert offline["types_in_full"] == [SCP], "a recording holds every policy"
    assert online["types_in_full"] == []
    assert Snapshot.model_validate_json(file.read_bytes()).accounts


def test_a_recording_without_a_policy_type_of_the_document_is_not_an_organization_without_such_policies(
    document: Path,
) -> None:
    tool_of(organization()).run("snapshot", "organization.json")
    document.write_text(TEXT.replace("region-lock]\nrules", "{name: region-lock, type: TAG_POLICY}]\nrules"))

    result = tool_of(organization()).run("plan", "--snapshot", "organization.json")

    assert result.exit_code == 1
    assert "the recording has no policies of TAG_POLICY. Record one: `joinguard snapshot FILE`" in said(result)


@pytest.mark.usefixtures("document")
def test_a_recording_is_not_replaced_without_force() -> None:
    Path("organization.json").write_text("mine")
    reader = organization()
    refused = tool_of(reader).run("snapshot", "organization.json")

    assert refused.exit_code == 1
    assert "is already there. Choose another name, or add --force" in said(refused)
    assert Path("organization.json").read_text() == "mine"
    assert reader.calls.total() == 0
    assert tool_of(reader).run("snapshot", "organization.json", "--force").exit_code == 0
    assert [each.name for each in Path().iterdir() if each.is_file()] == ["organization.json"]


@pytest.mark.usefixtures("document")
@pytest.mark.parametrize(
    "change",
    [
        lambda recorded: recorded["ous"].reverse(),
        lambda recorded: recorded["ous"].pop(0),
        lambda recorded: recorded["accounts"].append(recorded["accounts"][0]),
    ],
    ids=["an OU before its parent", "an OU without its parent", "an account twice"],
)
def test_a_recording_that_is_no_organization_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    tool_of(organization()).run("snapshot", "organization.json")
    recorded = json.loads(Path("organization.json").read_text())
    change(recorded)
    Path("organization.json").write_text(json.dumps(recorded))

    result = tool_of(organization()).run("plan", "--before", "none", "--snapshot", "organization.json")

    assert result.exit_code == 1
    assert "is not a recorded organization. Record one" in said(result)


@pytest.mark.usefixtures("document")
def test_a_recording_that_lacks_a_part_says_so_and_exits_with_1() -> None:
    reader = organization()
    reader.refused = {"tagged": "AccessDeniedException", "tags_of": "AccessDeniedException"}

    result = tool_of(reader).run("snapshot", "organization.json", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["unread"] == [{"part": "tags", "code": "AccessDeniedException"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--snapshot", "nothing.json"], "cannot read nothing.json"),
        (["--snapshot", "infra/guardrails/prod.yaml"], "is not a recorded organization"),
        (["--before", "nothing.json"], "cannot read the guardrails nothing.json"),
        (["--before", "infra/guardrails/prod.yaml"], "has no lock file. Run `joinguard lock"),
        (
            ["nothing.yaml"],
            "document nothing.yaml: No such file or directory. Write it, as in infra/guardrails/example.yaml, or name",
        ),
    ],
)
@pytest.mark.usefixtures("document")
def test_files_that_are_not_what_they_must_be_are_named(arguments: list[str], message: str) -> None:
    result = tool_of(organization()).run("plan", *arguments)

    assert result.exit_code == 1
    assert message in said(result)


@pytest.mark.parametrize("arguments", [["--markdown", "--json"], ["--places", "--snapshot", "x.json"]])
@pytest.mark.usefixtures("document")
def test_options_that_exclude_each_other_are_wrong_use(arguments: list[str]) -> None:
    assert tool_of(organization()).run("plan", *arguments).exit_code == 2


def test_what_holds_the_places_is_named(document: Path) -> None:
    document.write_text(TEXT + "limits: {policies_per_account: {SERVICE_CONTROL_POLICY: 2}}\n")
    reader = organization()

    output = tool_of(reader).run("plan", "--before", "none").output

    # The account in /Test carries region-lock, which is less important, beside AWS's own policy.
    assert "1 have no place for it" in output
    assert "detach or merge region-lock to make place" in output
    assert "up to 1 of the places are held by policies that are not in the document" in output


EXCEPTION = (
    "  - {{id: {id}, accounts: ['{account}'], policies: [deny-leave], owner: a@example.com, "
    "approved_by: b@example.com, reason: x, expires: {expires}}}\n"
)


def test_each_exception_says_what_it_does(document: Path) -> None:
    given = [
        ("soon", ONE, "2026-12-01"),
        ("long", "222222222229", "2027-12-01"),
        ("closed", THREE, "2027-12-01"),
        ("over", TWO, "2026-11-01"),
    ]
    lines = (EXCEPTION.format(id=id_, account=account, expires=expires) for id_, account, expires in given)
    document.write_text(TEXT + "exceptions:\n" + "".join(lines))

    result = tool_of(organization()).run("plan", "--before", "none")

    text = " ".join(result.output.split())
    assert "soon 2026-12-01 ends soon; takes away 1 attachment" in text
    assert "long 2027-12-01 in force; takes nothing away; 1 account not in the organization" in text
    assert "closed 2027-12-01 in force; takes nothing away; 1 account left out" in text
    assert "over 2026-11-01 over; not undone yet: 1 attachment to come back" in text
    assert (
        "prod.yaml:15: exception over: ended on 2026-11-01; run `joinguard enforce` for its accounts, then take it out"
        in text
    )


def test_what_no_deployment_carries_out_is_said(document: Path) -> None:
    document.write_text(TEXT + "limits: {removals: 0}\n")
    tool = tool_of(organization())

    output = tool.run("plan", "--before", "none").output

    assert 'Only a stage with RemovePolicies "true" removes policies.' in output
    assert "The plan has at most 1 removal, more than limits.removals (0)." in output
    assert "A deployment attaches nothing by itself" in output


#: The short form of the fake installation.
INSTALLED = CompiledGuardrails.model_validate(
    {"policies": [{"id": DENY, "type": SCP}], "rules": [{"id": "all", "attach": [DENY], "match": "all"}]}
)


def installed(**changes: Any) -> OperatorCli:
    tool = tool_of(organization())
    tool.in_force = INSTALLED
    for name, value in changes.items():
        setattr(tool, name, value)
    return tool


APPROVE = "A deployment needs your approval of it: `make deploy ARGS='--approve "
OURS = "Only what Joinguard's records say it attached is removed, never one of AWS's own policies or the last SCP"


@pytest.mark.parametrize("form", [[], ["--markdown"]], ids=["table", "Markdown"])
def test_an_installation_that_removes_policies_needs_approval_above_the_limit(document: Path, form: list[str]) -> None:
    document.write_text(TEXT + "limits: {removals: 0}\n")
    tool = installed(removes=True)

    output = tool.run("plan", *form).output.replace("\\", "")
    plan = planned(tool)

    assert f"{APPROVE}{plan['digest']}'`." in output
    assert OURS in output
    assert "RemovePolicies" not in output
    assert "limits.removals is 0" in output
    assert (plan["removes"], plan["needs_approval"]) == (True, True)


@pytest.mark.parametrize("form", [[], ["--markdown"]], ids=["table", "Markdown"])
def test_the_digest_of_a_plan_with_places_is_not_offered_for_approval(document: Path, form: list[str]) -> None:
    """A deployment plans without them, and refuses the digest."""
    document.write_text(TEXT + "limits: {removals: 0}\n")

    output = installed(removes=True).run("plan", "--places", *form).output.replace("\\", "")

    assert "--approve" not in output
    assert "The digest to approve is that of a plan without --places: `joinguard plan`." in " ".join(output.split())


@pytest.mark.parametrize("form", [[], ["--markdown"]], ids=["table", "Markdown"])
def test_an_installation_that_removes_nothing_needs_no_approval(document: Path, form: list[str]) -> None:
    document.write_text(TEXT + "limits: {removals: 0}\n")

    output = installed().run("plan", *form).output
    plan = planned(installed())

    assert 'Nothing is removed, because RemovePolicies of the stage is not "true"' in output
    assert "--approve" not in output
    assert OURS not in output
    assert (plan["removals"], plan["removes"], plan["needs_approval"]) == (1, False, False)


@pytest.mark.usefixtures("document")
def test_removals_within_the_limit_need_no_approval() -> None:
    plan = planned(installed(removes=True))

    assert (plan["removals"], plan["max_removals"], plan["needs_approval"]) == (1, 25, False)
    assert "--approve" not in installed(removes=True).run("plan").output


def test_a_plan_of_which_not_everything_could_be_read_cannot_be_approved(document: Path) -> None:
    document.write_text(TEXT + "limits: {removals: 0}\n")
    tool = installed(removes=True)
    tool.reader.refused = {"tagged": "AccessDeniedException", "tags_of": "AccessDeniedException"}

    output = tool.run("plan").output

    assert "It cannot be approved, because not everything that decides could be read." in output
    assert "--approve" not in output


@pytest.mark.usefixtures("document")
@pytest.mark.parametrize("form", [[], ["--markdown"]], ids=["table", "Markdown"])
def test_accounts_that_the_installation_only_observes_are_left_out_and_said(form: list[str]) -> None:
    output = installed(attach_to=ONE).run("plan", *form).output
    plan = planned(installed(attach_to=ONE), "--reveal")

    assert "Only observed (AttachTo): 1 account, which neither get nor lose a policy." in " ".join(output.split())
    assert "only observed, and would otherwise lose it: 1 account" in " ".join(output.split())
    assert plan["only_observed"] == 1
    assert by_policy(plan, "get") == {"deny-leave": [], "region-lock": [ONE]}
    assert by_policy(plan, "would_get") == {"deny-leave": [TWO], "region-lock": []}
    assert (by_policy(plan, "lose")["region-lock"], by_policy(plan, "would_lose")["region-lock"]) == ([], [TWO])


@pytest.mark.usefixtures("document")
def test_before_the_first_deployment_a_plan_compares_with_none_and_says_so() -> None:
    result = installed(is_missing=True).run("plan")
    plan, compared = planned(installed(is_missing=True)), planned(installed(), "--before", "none")

    assert result.exit_code == 0, said(result)
    assert "nothing is installed yet, so the plan compares with no guardrails" in result.stderr
    assert "Compared with no guardrails in force." in result.stdout
    assert (plan["before"], plan["removes"], plan["digest"]) == (None, None, compared["digest"])


@pytest.mark.usefixtures("document")
def test_without_an_installation_an_option_says_which_accounts_are_attached_to() -> None:
    everyone = planned(tool_of(organization()), "--before", "none")
    same, other = (planned(tool_of(organization()), "--before", "none", "--attach-to", each) for each in ("all", ONE))
    wrong = tool_of(organization()).run("plan", "--attach-to", "some")

    assert everyone["digest"] == same["digest"] != other["digest"]
    assert (everyone["removes"], everyone["only_observed"], other["only_observed"]) == (None, 0, 1)
    assert wrong.exit_code == 2
    assert "'some' is not all, none, or account ids of 12 digits" in wrong.output
    # It replaces what the installation says.
    assert planned(installed(attach_to="none"), "--attach-to", "all")["only_observed"] == 0


def test_tags_of_other_accounts_are_not_absent_but_unknown() -> None:
    reader = organization()
    snapshot = take_snapshot(reader, Wanted([SCP]), FakeClock(), lambda _part, _number: None)

    one = with_tags(snapshot, reader, lambda each: each.id == ONE, lambda _part, _number: None, in_bulk=False)

    assert {each.id: each.tags for each in one.accounts} == {
        MANAGEMENT: None,
        ONE: {"environment": "prod"},
        TWO: None,
        THREE: None,
    }


# explain


def explained(tool: OperatorCli, *arguments: str) -> tuple[int, dict[str, Any]]:
    result = tool.run("explain", ONE, "--json", *arguments)
    assert result.stdout, said(result)
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def locked(document: Path) -> Path:
    assert tool_of(organization()).run("lock").exit_code == 0
    return document


def test_explain_says_which_rules_decide_and_what_is_attached(locked: Path) -> None:
    status, found = explained(tool_of(organization()), "--document", str(locked))

    assert status == 1, "it lacks a policy"
    assert found["facts"]["ous"] == [ROOT_OU, PROD, WEB]
    assert [(each["policy"], each["ruling"], each["attached"], each["demanded_by"]) for each in found["policies"]] == [
        ("deny-leave", "REQUIRED", True, ["everyone"]),
        ("region-lock", "REQUIRED", False, ["prod"]),
    ]


@pytest.mark.parametrize(
    ("changes", "ruling"),
    [
        (["ou=/Test"], "NOT_REQUIRED"),
        ([f"ou={TEST}"], "NOT_REQUIRED"),
        (["tags.environment=test"], "NOT_REQUIRED"),
        (["tags.environment"], "NOT_REQUIRED"),
        (["tags.environment=", "tags.environment=prod"], "REQUIRED"),
        (["ou=/Prod", "name=x", "email=a@b.c", "joined=INVITED"], "REQUIRED"),
    ],
)
def test_explain_answers_as_if_a_fact_were_different(locked: Path, changes: list[str], ruling: str) -> None:
    options = [option for change in changes for option in ("--as-if", change)]
    _, found = explained(tool_of(organization()), "--document", str(locked), *options)

    assert {each["policy"]: each["ruling"] for each in found["policies"]}["region-lock"] == ruling


@pytest.mark.parametrize("change", ["ou", "ou=/Nowhere", "tags.", "joined=x", "x=y", "name="])
def test_a_fact_that_is_not_valid_is_named(locked: Path, change: str) -> None:
    result = tool_of(organization()).run("explain", ONE, "--document", str(locked), "--as-if", change)

    assert result.exit_code == 1
    assert change.partition("=")[2] in said(result)
    assert "Use " in said(result)


def test_the_management_account_lacks_nothing(locked: Path) -> None:
    result = tool_of(organization()).run("explain", MANAGEMENT, "--document", str(locked))

    assert result.exit_code == 1
    assert "is the management account, to which no policy is attached" in said(result)


def test_a_tag_cannot_be_changed_if_the_others_are_unknown(locked: Path) -> None:
    reader = organization()
    reader.refused = {"tags_of": "AccessDeniedException"}

    result = tool_of(reader).run("explain", ONE, "--document", str(locked), "--as-if", "tags.environment=prod")

    assert result.exit_code == 1
    assert "use credentials that may call organizations:ListTagsForResource" in said(result)


def test_explain_says_in_words_what_cannot_be_read(locked: Path) -> None:
    reader = organization()
    reader.refused = {"tags_of": "AccessDeniedException"}

    result = tool_of(reader).run("explain", ONE, "--document", str(locked))

    assert result.exit_code == 1
    assert "cannot read its tags (AccessDeniedException)" in result.output
    assert "undecided in rule prod" in result.output
    assert "cannot be read: tags" in result.output


def test_explain_uses_the_guardrails_in_force_and_says_what_else_is_attached() -> None:
    tool = tool_of(organization())

    result = tool.run("explain", ONE)

    assert result.exit_code == 1
    assert "demanded by rule everyone" in result.output
    assert "Carries too: FullAWSAccess, deny-leave" in result.output


ANYWHERE = {
    "policies": [{"id": DENY, "type": SCP}],
    "rules": [{"id": "none", "attach": [DENY], "match": [{"account": [TWO]}], "when_no_longer": "remove"}],
}


@pytest.mark.parametrize(
    ("changes", "removes", "words"),
    [
        ({"removes": True}, True, "is removed at the next event of the account if Joinguard attached it"),
        ({"removes": True, "attach_to": TWO}, False, "the account is only observed (AttachTo), so it stays"),
        ({}, False, 'RemovePolicies is not "true" in the stage, so it stays'),
    ],
    ids=["removes", "only observes", "removes nothing"],
)
def test_explain_says_whether_a_policy_that_is_not_required_is_removed(
    changes: dict[str, Any], *, removes: bool, words: str
) -> None:
    tool = installed(**changes, in_force=CompiledGuardrails.model_validate(ANYWHERE))

    output = " ".join(tool.run("explain", ONE).output.replace("│", " ").split())
    status, found = explained(tool)

    assert words in output
    assert (status, found["removes"], found["policies"][0]["removable"]) == (0, removes, True)


def test_explain_says_of_a_document_what_a_removal_depends_on(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(CompiledGuardrails.model_validate(ANYWHERE).canonical())

    output = tool_of(organization()).run("explain", ONE, "--document", str(path)).output
    absent = tool_of(organization()).run("explain", THREE, "--document", str(path)).output

    words = 'is removed if Joinguard attached it and the stage has RemovePolicies "true"'
    assert words in " ".join(output.replace("│", " ").split())
    assert "is removed" not in absent, "the account does not carry it"


def test_an_account_that_is_not_in_the_organization_cannot_be_explained() -> None:
    assert "is not an account of this organization" in said(tool_of(organization()).run("explain", "999999999999"))


@pytest.mark.parametrize(("option", "removes"), [("--removes", True), ("--keeps", False)])
def test_an_option_says_whether_policies_are_removed(document: Path, option: str, *, removes: bool) -> None:
    document.write_text(TEXT + "limits: {removals: 0}\n")

    of_installation = planned(installed(removes=not removes), option)
    of_none = planned(tool_of(organization()), "--before", "none", option)

    for plan in (of_installation, of_none):
        assert (plan["removes"], plan["needs_approval"]) == (removes, removes)


@pytest.mark.parametrize("form", [[], ["--markdown"]], ids=["table", "Markdown"])
def test_with_make_the_next_steps_of_a_plan_name_the_stage(
    document: Path, form: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document.write_text(TEXT + "limits: {removals: 0}\n")
    monkeypatch.setenv("JOINGUARD_STAGE_OF_MAKE", "test")

    output = " ".join(installed(removes=True).run("plan", *form).output.replace("\\", "").split())
    lock = tool_of(organization()).run("lock", "--check").output

    assert "`make deploy STAGE=test ARGS='--approve " in output
    assert '`make enforce STAGE=test ARGS="--from FILE"`' in output
    assert "is not up to date; run `make lock STAGE=test`" in output
    assert "is stale; run `make lock STAGE=test`" in lock
