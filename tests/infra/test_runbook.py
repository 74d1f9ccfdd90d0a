"""Every link to the runbook leads to one of its sections."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from handlers.core.evidence.checks import CheckedEvidence, Verdict
from handlers.operate.outcome_tables import evidence_text
from infra.deploy.build import ROOT
from infra.deploy.template import load

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNBOOK = "handlers/operate/RUNBOOK.md"
#: Files with links: alarms, `make status`, the tool's messages, documents.
LINKING = [
    ROOT / "Makefile",
    *(path for folder in ("handlers", "infra", "schemas") for path in (ROOT / folder).rglob("*.py")),
    *(ROOT / "infra").glob("*.yaml"),
    *(path for path in ROOT.glob("*.md")),
]


def anchors() -> set[str]:
    """Return the anchors that GitHub gives the runbook's headings."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / RUNBOOK).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> Iterator[tuple[str, str, str]]:
    """Yield the file, the path and the anchor of each link."""
    for path in LINKING:
        for target, anchor in re.findall(r"([\w/.:-]*RUNBOOK\.md|\${RunbookUrl})(?:#([\w-]+))?", path.read_text()):
            yield path.relative_to(ROOT).as_posix(), target.replace("${RunbookUrl}", RUNBOOK), anchor


@pytest.mark.parametrize("file", sorted({file for file, _, _ in links()}))
def test_each_link_leads_to_a_section_of_the_runbook(file: str) -> None:
    for source, target, anchor in links():
        if source == file:
            assert target.endswith(RUNBOOK)
            assert not anchor or anchor in anchors(), f"{file} links to #{anchor}, which does not exist"


def test_alarms_status_and_messages_link_to_the_runbook() -> None:
    linking = {(file, anchor) for file, _, anchor in links()}

    assert {
        ("infra/template.yaml", "dead-letters"),
        ("infra/template.yaml", "rows-replaced"),
        ("infra/deploy/health/__init__.py", "dead-letters"),
        ("infra/deploy/health/__init__.py", "undelivered"),
        ("infra/deploy/health/check.py", "differs-from-the-template"),
        ("infra/deploy/health/delivery.py", "no-trail"),
        ("infra/deploy/health/bucket.py", "evidence-at-risk"),
        ("infra/deploy/health/records.py", "key-at-risk"),
    } <= linking
    assert [file for file, anchor in linking if file.startswith("handlers/") and anchor]


def texts_of_pages() -> dict[str, str]:
    """Return the text of each alarm and of each rule that pages by itself."""
    found = {}
    for template in ("template.yaml", "forwarder.yaml"):
        for name, resource in load((ROOT / "infra" / template).read_text())["Resources"].items():
            properties = resource.get("Properties", {})
            if resource["Type"] == "AWS::CloudWatch::Alarm":
                found[name] = str(properties["AlarmDescription"])
            elif properties.get("Targets", [{}])[0].get("Arn") == {"Ref": "Pages"}:
                found[name] = str(properties["Targets"][0]["InputTransformer"]["InputTemplate"])
    return found


def test_the_first_table_says_of_each_alarm_how_urgent_it_is_and_where_to_read_on() -> None:
    sections = {name: re.findall(r"#([\w-]+)", text) for name, text in texts_of_pages().items()}
    table = (ROOT / RUNBOOK).read_text().partition("| alarm | how urgent | section |\n")[2].partition("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[1:]]
    shown = {alarm: where for alarms, _, where in rows for alarm in re.findall(r"`(\w+)`", alarms)}

    assert {"EvidenceAtRisk", "KeysAtRisk"} <= shown.keys() == sections.keys()
    assert [name for name, [section] in sections.items() if f"(#{section})" not in shown[name]] == []
    assert list(shown)[:2] == ["GuardrailsChange", "OrganizationAtFault"]
    assert all(re.match("urgent|can wait|within", urgency) for _, urgency, _ in rows)


#: What the runbook says that only an administrator may do.
BY_ADMINISTRATORS = ("LookupEvents", "Enable", "Detach", "Start", "Cancel", "Update", "Delete")
BY_ADMINISTRATORS_WITH_MAKE = ("make deploy", "make revert-drift", "make forwarder", "make delegation-policy")


def operators_actions() -> set[str]:
    """Return what both operator roles may do."""
    resources = load((ROOT / "infra" / "template.yaml").read_text())["Resources"]
    policies = [resources[each]["Properties"]["PolicyDocument"] for each in ("OperatorsSee", "OperatorsRead")]
    listed = [each["Action"] for policy in policies for each in policy["Statement"]]
    return {action for each in listed for action in ([each] if isinstance(each, str) else each)}


COMMANDS = sorted(set(re.findall(r"^\$ aws ([a-z0-9]+) ([a-z-]+)", (ROOT / RUNBOOK).read_text(), re.MULTILINE)))


@pytest.mark.parametrize(("service", "command"), COMMANDS, ids=" ".join)
def test_the_operator_roles_may_run_each_command_that_only_reads(service: str, command: str) -> None:
    operation = "".join(word.capitalize() for word in command.split("-"))

    assert (f"{service}:{operation}" in operators_actions()) != operation.startswith(BY_ADMINISTRATORS)


def test_each_command_that_needs_an_administrator_is_marked_and_no_other() -> None:
    """Neither operator role may change the installation or read CloudTrail's events."""
    lines = re.findall(r"^\$ (.+)$", (ROOT / RUNBOOK).read_text(), re.MULTILINE)
    marked = {line for line in lines if re.search(r"# administrator(:|$)", line)}
    operations = {
        line: "".join(map(str.capitalize, line.split()[2].split("-"))) for line in lines if line[:4] == "aws "
    }
    needed = {line for line in lines if line.startswith(BY_ADMINISTRATORS_WITH_MAKE)}
    needed |= {line for line, operation in operations.items() if operation.startswith(BY_ADMINISTRATORS)}

    assert marked == needed


def test_the_operator_roles_may_read_the_dashboard_and_the_log() -> None:
    """A dashboard shows metrics, and its search expressions need GetMetricData, too."""
    assert {"cloudwatch:GetDashboard", "cloudwatch:GetMetricData", "logs:FilterLogEvents"} <= operators_actions()


def test_the_runbook_explains_each_verdict_as_the_tool_prints_it() -> None:
    section = (ROOT / RUNBOOK).read_text().partition("\n## Evidence differs\n")[2].partition("\n## ")[0]
    _, _, *rows = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    explained = {name for row in rows for name in row.split(", ")}
    printed = [evidence_text(CheckedEvidence("key", each, wrong=False)).plain.partition("): ")[2] for each in Verdict]

    assert {name for text in printed for name in explained if text.startswith(name)} == explained
    assert [text for text in printed if not text.startswith(tuple(explained))] == []
