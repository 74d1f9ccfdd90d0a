"""The lock file: what a document stands for, what changed since, and the command that writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers.core.errors import RetryableError, fault
from handlers.core.guardrails.lock import check_lock
from handlers.core.guardrails.names import read_names
from handlers.core.guardrails.ports import Finding
from handlers.operate.guardrails_document import GuardrailsError, load
from handlers.operate.guardrails_files import confirmed_lock, default_document, lock_path
from schemas.guardrails import Document
from tests.fake_organization import ROOT_OU, FakeOrganizationReader
from tests.fakes import NOON
from tests.operator_cli import OperatorCli, operator_cli

DENY, REGIONS = "p-denyleave1", "p-regionlock"
PROD, WEB, TEST = "ou-root-prod0000", "ou-root-web00000", "ou-root-test0000"
TEXT = """\
version: 1
policies: [deny-leave, region-lock]
rules:
  - {id: everyone, attach: [deny-leave], match: all}
  - id: prod
    attach: [region-lock]
    match: [{ou: "/*/Web/**"}]
    exclude: [{ou: /Test}]
"""


def organization() -> FakeOrganizationReader:
    made = FakeOrganizationReader()
    made.ou(PROD, "Prod")
    made.ou(WEB, "Web", PROD)
    made.ou(TEST, "Test")
    made.policy(DENY, "deny-leave")
    made.policy(REGIONS, "region-lock", content='{"a": 1}')
    return made


def tool_of(reader: FakeOrganizationReader) -> OperatorCli:
    tool = operator_cli()
    tool.reader = reader
    return tool


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = default_document("joinguard")
    path.parent.mkdir(parents=True)
    path.write_text(TEXT)
    return path


def test_the_lock_file_is_written_beside_the_document_once_and_is_then_up_to_date(document: Path) -> None:
    reader = organization()
    first = tool_of(reader).run("lock")
    lock = json.loads(lock_path(document).read_text())
    written_at = lock_path(document).stat().st_mtime_ns
    second = tool_of(reader).run("lock")

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert "is new; review and commit it" in first.output
    assert "is up to date" in second.output
    assert lock_path(document).name == "prod.lock.json"
    assert lock_path(document).stat().st_mtime_ns == written_at
    assert [(each["policy"], each["id"]) for each in lock["policies"]] == [
        ("deny-leave", DENY),
        ("region-lock", REGIONS),
    ]
    assert lock["ous"] == {"/*/Web/**": {"/Prod/Web": WEB}, "/Test": {"/Test": TEST}}


def test_a_lock_file_that_cannot_be_written_is_an_error_with_the_next_step(document: Path) -> None:
    lock_path(document).symlink_to("nowhere/prod.lock.json")

    result = tool_of(organization()).run("lock")

    assert f"cannot write {lock_path(document)}: No such file or directory. Name a file in" in str(result.exception)


CHANGES: dict[str, tuple[Callable[[FakeOrganizationReader], object], str]] = {
    "content": (
        lambda made: made.policy(REGIONS, "region-lock", content="{}"),
        "infra/guardrails/prod.yaml:2: policy region-lock: the content of region-lock (p-regionlock) changed",
    ),
    "another policy of the name": (
        lambda made: (made.policy(REGIONS, "old-lock"), made.policy("p-newlock00", "region-lock")),
        "region-lock is another policy now: p-newlock00; p-regionlock, which the lock file names, is old-lock now",
    ),
    "the policy deleted and made again": (
        lambda made: (made.named.pop(REGIONS), made.policy("p-newlock00", "region-lock")),
        "p-regionlock, which the lock file names, was deleted",
    ),
    "an OU that is made again": (
        lambda made: (made.ou_names.pop(TEST), made.ou("ou-root-test0001", "Test")),
        ":8: rule prod: /Test: /Test is another OU now: ou-root-test0001; ou-root-test0000, which was /Test, was",
    ),
    "a second OU that the pattern means": (
        lambda made: made.ou("ou-root-testweb0", "Web", TEST),
        ":7: rule prod: /*/Web/**: /Test/Web (ou-root-testweb0) is selected now too",
    ),
    "an OU that moved": (
        lambda made: made.ou(WEB, "Web", TEST),
        "/*/Web/**: ou-root-web00000, which was /Prod/Web, is /Test/Web now",
    ),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_what_changed_in_the_organization_makes_the_lock_file_stale(
    document: Path, change: Callable[[FakeOrganizationReader], object], message: str
) -> None:
    reader = organization()
    tool_of(reader).run("lock")
    before = lock_path(document).read_text()
    change(reader)

    checked = tool_of(reader).run("lock", "--check")
    assert lock_path(document).read_text() == before
    loaded = load(document, NOON)
    with pytest.raises(GuardrailsError) as refused:
        confirmed_lock(loaded, lock_path(document), read_names(reader, loaded.document))
    written = tool_of(reader).run("lock")

    assert checked.exit_code == 1
    assert message in checked.output
    assert message in str(refused.value)
    assert "the lock file is stale" in str(refused.value)
    assert written.exit_code == 0
    assert message in written.output
    assert lock_path(document).read_text() != before


def test_the_deployment_gets_the_lock_if_it_is_not_stale(document: Path) -> None:
    reader = organization()
    tool_of(reader).run("lock")
    loaded = load(document, NOON)

    lock = confirmed_lock(loaded, lock_path(document), read_names(reader, loaded.document))

    assert [each.id for each in lock.policies] == [DENY, REGIONS]


def test_what_access_analyzer_finds_is_a_note_with_the_line_of_the_policy(document: Path) -> None:
    tool = tool_of(organization())
    wrong = Finding("ERROR", "INVALID_ACTION", "The action s3:Xyz does not exist.")
    tool.validator.found['{"a": 1}'] = (wrong,)

    result = tool.run("lock")
    as_json = json.loads(tool.run("lock", "--json").stdout)

    assert result.exit_code == 0, "AWS has accepted the policy"
    assert lock_path(document).exists()
    said = "ERROR INVALID_ACTION: The action s3:Xyz does not exist."
    assert f"infra/guardrails/prod.yaml:2: policy region-lock: {said}" in result.stderr
    assert [each["message"] for each in as_json["findings"]] == [said]


@pytest.mark.usefixtures("document")
def test_it_is_said_that_access_analyzer_could_not_be_asked() -> None:
    tool = tool_of(organization())
    tool.validator.error = RetryableError(fault("AccessAnalyzer.AccessDeniedException", "not allowed"))

    result = tool.run("lock")

    assert result.exit_code == 0
    assert "could not be asked (AccessAnalyzer.AccessDeniedException)" in result.stderr
    assert "allow access-analyzer:ValidatePolicy" in result.stderr


def test_the_deployment_refuses_a_document_without_a_lock_file(document: Path) -> None:
    loaded = load(document, NOON)

    with pytest.raises(GuardrailsError, match="has no lock file yet"):
        confirmed_lock(loaded, lock_path(document), read_names(organization(), loaded.document))


NOT_FOUND: dict[str, tuple[Callable[[FakeOrganizationReader], object], str]] = {
    "a renamed policy": (
        lambda made: made.policy(REGIONS, "region-locks"),
        "no SERVICE_CONTROL_POLICY region-lock; did you mean region-locks?; p-regionlock, which the lock file names,",
    ),
    "a deleted policy": (lambda made: made.named.pop(REGIONS), "p-regionlock, which the lock file names, was deleted"),
    "a renamed OU": (
        lambda made: made.ou(TEST, "Tests"),
        "the organization has no OU /Test; did you mean /Tests?; ou-root-test0000, which was /Test, is /Tests now",
    ),
    "a deleted OU": (lambda made: made.ou_names.pop(TEST), "ou-root-test0000, which was /Test, was deleted"),
    "a content that may not be read": (
        lambda made: made.refused.update(content="AccessDeniedException"),
        "the content of region-lock cannot be read; allow organizations:DescribePolicy",
    ),
    "an OU whose name holds a slash": (
        lambda made: made.ou("ou-root-slash000", "x/Web"),
        "/*/Web/** also means OUs with / or * in their names; write ids instead (ou-root-slash000)",
    ),
    "an OU with the path of another": (
        lambda made: made.ou("ou-root-slash000", "Prod/Web"),
        "write ids instead (ou-root-slash000, ou-root-web00000)",
    ),
}


@pytest.mark.parametrize(("change", "message"), NOT_FOUND.values(), ids=NOT_FOUND)
def test_a_name_that_is_not_found_says_what_became_of_it_and_nothing_is_written(
    document: Path, change: Callable[[FakeOrganizationReader], object], message: str
) -> None:
    reader = organization()
    tool_of(reader).run("lock")
    before = lock_path(document).read_text()
    change(reader)

    result = tool_of(reader).run("lock")
    as_json = tool_of(reader).run("lock", "--json")

    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert message in str(result.exception)
    assert any(message in each["message"] for each in json.loads(as_json.stdout)["problems"])
    assert lock_path(document).read_text() == before


def test_an_example_that_the_rules_contradict_in_this_organization_is_an_error(document: Path) -> None:
    document.write_text(TEXT + "examples:\n  - {account: {ou: /Prod/Nowhere}, carries: [deny-leave]}\n")

    result = tool_of(organization()).run("lock")

    assert result.exit_code == 1
    assert "prod.yaml:10: example 1: the organization has no OU /Prod/Nowhere; correct it" in str(result.exception)
    assert not lock_path(document).exists()


def test_a_rule_that_changed_makes_the_lock_file_stale(document: Path) -> None:
    reader = organization()
    tool_of(reader).run("lock")
    document.write_text(TEXT.replace("    exclude: [{ou: /Test}]\n", "    exclude: [{ou: /Test}, {joined: INVITED}]\n"))

    result = tool_of(reader).run("lock", "--check")

    assert result.exit_code == 1
    assert "changed since the lock file was made" in result.output


def test_a_file_that_is_no_lock_file_is_named(document: Path) -> None:
    lock_path(document).write_text('{"policies": 1}')

    result = tool_of(organization()).run("lock")

    assert result.exit_code == 1
    assert "infra/guardrails/prod.lock.json is not a lock file; delete it and run `joinguard lock`" in str(
        result.exception
    )


def test_only_the_contents_of_named_policies_are_read() -> None:
    """DescribePolicy is the slowest of the calls, and an organization can have 10,000 policies."""
    reader = organization()
    for number in range(50):
        reader.policy(f"p-other{number:04}", f"other-{number}")
    written: dict[str, Any] = {
        "version": 1,
        "policies": ["deny-leave"],
        "rules": [{"id": "one", "attach": ["deny-leave"], "match": "all"}],
    }

    names = read_names(reader, Document.model_validate(written))

    assert reader.calls["content"] == 1
    assert reader.calls["accounts"] == 0
    assert len(names.policies) == 53
    assert names.ous == {"/": ROOT_OU, "/Prod": PROD, "/Prod/Web": WEB, "/Test": TEST}
    assert check_lock(Document.model_validate(written), None, names).lock
