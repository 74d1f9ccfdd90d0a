"""The documents match the code: commands, options, settings, names, paths, links, and figures.

A figure that the code or the template decides is read from there and compared with each sentence that repeats it.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any, get_args

import click
import pytest
from botocore.session import get_session
from pydantic import BaseModel

from handlers.core.errors import RetryableError, fault
from handlers.core.redrive.redrive import Redrive
from handlers.core.timing import backoff, retry
from handlers.operate.__main__ import cli as operator
from handlers.settings import RemoverSettings, SealSettings, Settings, SweepSettings
from infra.deploy.__main__ import cli as deployer
from infra.deploy.build import ROOT
from infra.deploy.installing import TEMPLATE
from infra.deploy.preflight import EVENT_REGIONS
from infra.deploy.template import load
from infra.local.client import cli as local
from infra.local.organizations import Rules
from schemas.contracts import CONTRACTS
from schemas.dead_letter import CARRIED, ORDER
from schemas.outcome import AttachmentResult, OutcomeStatus
from schemas.sweep import SweepReport
from tests.bench import costs
from tests.bench.__main__ import PARTS
from tests.bench.__main__ import main as bench
from tests.bench.burst import Experiment
from tests.bench.paces import Aimd, Fixed, Shared, Unpaced
from tests.bench.rival import run_rival
from tests.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


def files(*endings: str) -> Iterator[Path]:
    """Yield the project's own files, without environments, caches, and builds."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [each for each in folders if each == ".github" or not each.startswith((".", "build", "__"))]
        yield from (ROOT / os.path.relpath(folder, ROOT) / name for name in names if name.endswith(endings))


def only(name: str) -> Path:
    """Return the only file with that name, in any folder."""
    [found] = files(name)
    return found


def named(*names: str) -> Any:
    """Return the only constant or class with one of these names, from any module."""
    definition = re.compile(rf"^(?:class )?({'|'.join(names)})\b(?:\(.*\):|(?:: [^=\n]+)? = )", re.MULTILINE)
    [(path, name)] = {
        (path, match[1]) for path in (ROOT / "handlers").rglob("*.py") for match in definition.finditer(read(path))
    }
    return getattr(importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)), name)


def read(path: Path) -> str:
    return path.read_text()


README = ROOT / "README.md"
WORKER = ROOT / "handlers" / "README.md"
OPERATE = ROOT / "handlers" / "operate" / "README.md"
INFRA = ROOT / "infra" / "README.md"
SCHEMAS = ROOT / "schemas" / "README.md"
TESTS = ROOT / "tests" / "README.md"
RUNBOOK, CONTRIBUTING = only("RUNBOOK.md"), only("CONTRIBUTING.md")
ROOMS = (WORKER, OPERATE, INFRA, SCHEMAS, TESTS)
#: The changelog describes the past, so it is not compared with the code.
DOCUMENTS = sorted(path for path in files(".md") if path.name != "CHANGELOG.md")
MAKEFILE = read(ROOT / "Makefile")
LOADED = load(read(TEMPLATE))
RESOURCES, PARAMETERS = LOADED["Resources"], LOADED["Parameters"]
#: The text in which each name that a document uses must occur.
SOURCES = "\n".join(
    read(path) for path in files(".py", ".yaml", ".toml", "Makefile") if path.name != "test_documents.py"
)
#: Targets whose names differ from the command's.
TARGET_OF = {"list": "dlq"}
#: Parameters that `make deploy` sets.
SET_BY_DEPLOY = {"OrganizationId", "ManagementAccountId", "NameSuffix", "CodeBucket", "CodeKey", "CodeVersion"}
SET_BY_DEPLOY |= {"ApprovedPlanKey", "ApprovedPlanUntil", "GuardrailsKey", "PolicyArns"}
#: Names of AWS, git, and the shell that our code does not need to contain.
FOREIGN = {
    "AWS_PROFILE",
    "CouldNotDetermineMessageSource",
    "MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED",
    "NO_PERMISSIONS",
    "NO_RESOURCE",
    "PutBucketPolicy",
    "REST.PUT.OBJECT",
    "THROTTLING",
    "_JOINGUARD_COMPLETE",
    "s3:BypassGovernanceRetention",
}
#: Values that the reader fills in.
PLACEHOLDERS = {"ACCOUNT", "ARN", "CODE", "EVENT_ID", "FILE", "ID", "KEY", "NAME", "POLICY", "ROOT", "INC"}
FOREIGN_OPTIONS = {"--hypothesis-profile", "--scenarios"}
NUMBERS = {
    "two": 2,
    "three": 3,
    "five": 5,
    "six": 6,
    "nine": 9,
    "ten": 10,
    "half an hour": 1800,
}


def where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    """Return a document without its code blocks, on one line."""
    return " ".join(re.sub(r"^```.*?^```", "", read(path), flags=re.MULTILINE | re.DOTALL).split())


def spans(path: Path) -> list[str]:
    """Return the code spans of a document."""
    return re.findall(r"`([^`]+)`", prose(path))


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", read(path), re.MULTILINE | re.DOTALL)


def typed(path: Path) -> Iterator[str]:
    """Yield the commands that a reader types, without comments."""
    for block in blocks(path):
        yield from re.findall(r"^\s*\$ (.+?)(?:  +#.*)?$", block, re.MULTILINE)
    yield from (span for span in spans(path) if re.match(r"(make|joinguard) [a-z]", span))


def table(path: Path, heading: str) -> list[list[str]]:
    """Return the rows of the table whose header row begins with a heading, without that row."""
    lines = [line.strip() for line in read(path).splitlines()]
    [start] = [number for number, line in enumerate(lines) if line.startswith(f"| {heading} |")]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def coded(cells: Iterable[str]) -> set[str]:
    return {span for cell in cells for span in re.findall(r"`([^`]+)`", cell)}


by_document = pytest.mark.parametrize("path", DOCUMENTS, ids=where)


# ---------------------------------------------------------------- form


def test_the_top_readme_is_short() -> None:
    assert len(read(README).splitlines()) <= 130


def test_each_room_has_a_readme_and_the_top_readme_links_to_it() -> None:
    links = set(re.findall(r"\]\(([^)#]+)\)", read(README)))

    assert {where(path) for path in (*ROOMS, RUNBOOK, CONTRIBUTING)} <= links
    assert {path for path in DOCUMENTS if path.name == "README.md"} == {README, *ROOMS}


@pytest.mark.parametrize("path", ROOMS, ids=where)
def test_each_rooms_readme_begins_with_where_to_change_what(path: Path) -> None:
    first, second = re.findall(r"^## (.+)$", read(path), re.MULTILINE)[:2]
    rows = table(path, "to change")

    assert first == "Where to change what" != second
    assert len(rows) >= 5
    assert all(re.search(r"\]\(|`\w+`", row[1]) for row in rows)


def test_each_decision_is_dated_and_recorded_once() -> None:
    decisions = [
        line
        for path in DOCUMENTS
        for line in re.findall(
            r"^- \*\*(.+?)\*\*", read(path).partition("\n## Decisions\n")[2], re.MULTILINE | re.DOTALL
        )
    ]

    assert len(decisions) >= 20
    assert len(set(decisions)) == len(decisions)
    assert all(re.match(r"\d{4}-\d{2}-\d{2}: ", each) for each in decisions)


@pytest.mark.parametrize("path", [README, OPERATE, INFRA], ids=where)
def test_each_example_of_output_names_the_command_that_prints_it(path: Path) -> None:
    marked = re.findall(r"^<!-- output of: (.+) -->\n```console\n\$ (.+)$", read(path), re.MULTILINE)
    shown = [block for block in blocks(path) if len(re.findall(r"^(?!\$)\S", block, re.MULTILINE))]

    assert [command for command, _ in marked] == [first for _, first in marked]
    assert len(marked) == len([block for block in shown if block.startswith("$ ")])


# ---------------------------------------------------------------- paths and links


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    headings = re.findall(r"^#+ (.+)$", read(path), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@by_document
def test_each_link_leads_to_a_file_and_a_heading_that_exist(path: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", read(path)):
        to, _, anchor = target.partition("#")
        there = path.parent / to if to else path
        if not re.match(r"https?:", target) and (not there.exists() or (anchor and anchor not in anchors(there))):
            broken.append(target)

    assert not broken


@by_document
def test_each_path_in_a_sentence_or_a_command_exists(path: Path) -> None:
    commented = (line for block in blocks(path) for line in block.splitlines() if line.startswith("$"))
    tokens = [word for text in (*spans(path), *commented) for word in re.split(r"[\s'\"=,]+", text)]
    ours = [
        token
        for token in tokens
        if re.match(r"(handlers|infra|schemas|tests|\.github|\.ci)/", token)
        or re.fullmatch(r"[a-z_/]+\.(py|yaml|toml|txt)", token)
    ]
    local = {each.name for each in files(".py", ".yaml", ".toml", ".txt")}

    assert not [
        token
        for token in ours
        if not (ROOT / token).exists() and not (path.parent / token).exists() and token.rstrip(":") not in local
    ]


@by_document
def test_the_text_of_a_link_to_a_file_is_the_files_name(path: Path) -> None:
    for text, target in re.findall(r"\[([\w./]+\.(?:py|yaml|json|md))\]\(([^)]+)\)", read(path)):
        assert target.partition("#")[0].endswith(text.rpartition("/")[2])


def test_the_tree_of_rooms_is_the_tree_of_folders() -> None:
    [tree] = [block for block in blocks(WORKER) if block.startswith("handlers/")]
    drawn = re.findall(r"^ *([a-z]+)/ ", tree, re.MULTILINE)
    there = {
        path.name
        for path in (ROOT / "handlers").rglob("*")
        if path.is_dir() and (path / "__init__.py").exists() and path.parent.name != "operate"
    }

    assert set(drawn) == there | {"handlers"}
    assert len(drawn) == len(set(drawn))


# ---------------------------------------------------------------- commands


def targets() -> set[str]:
    return {name for names in re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE) for name in names.split()}


@by_document
def test_each_make_target_exists(path: Path) -> None:
    used = {line.split()[1] for line in typed(path) if line.startswith("make ")}

    assert used <= targets()


def test_the_documents_name_each_target_that_a_reader_may_need() -> None:
    used = {line.split()[1] for path in DOCUMENTS for line in typed(path) if line.startswith("make ")}

    assert targets() - used - set(operator.commands) <= {"help", "clean", "format", "lint", "types"}


def lines() -> list[str]:
    """Return each line that runs one of our commands with arguments."""
    return sorted(
        {line for path in DOCUMENTS for line in typed(path) if "ARGS=" in line or line.startswith("joinguard")}
    )


@pytest.mark.parametrize("line", lines())
def test_each_command_in_the_documents_is_valid(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    # The commands read these files.
    monkeypatch.chdir(tmp_path)
    for file in (
        "event.json",
        "accounts.tsv",
        "log.key",
        "object.tlog-proof",
        "object.json",
        "verification.json",
        "kept",
        "KEPT",
        "FILE",
        "people",
    ):
        (tmp_path / file).touch()
    (tmp_path / "bucket").mkdir()
    program, name, *rest = shlex.split(line)
    [given] = [each.removeprefix("ARGS=") for each in rest if each.startswith("ARGS=")] or [shlex.join(rest)]
    meant = {"ACCOUNT": "222222222222", "KEY": "acts/2026/11/25/ACTION/done.json"}
    words = [meant.get(word, word) for word in shlex.split(given) if word != "…"]
    if name == "test":
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            pytestconfig.getoption(option)
        return
    assert program == "make" or name in operator.commands
    command = {
        **local.commands,
        **deployer.commands,
        **operator.commands,
        "dlq": operator.commands["list"],
        "bench": bench,
    }[name]

    with command.make_context(name, words) as context:
        assert not context.args


def options(command: click.Command) -> set[str]:
    return {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help"}


OURS: Mapping[str, set[str]] = {
    "joinguard": options(operator).union(*map(options, operator.commands.values())),
    "make": options(deployer).union(*map(options, deployer.commands.values())) | options(bench),
}


@by_document
def test_each_option_in_a_sentence_exists(path: Path) -> None:
    used = {
        option
        for span in spans(path)
        if not span.startswith("aws ")
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)
    }

    assert used <= OURS["joinguard"] | OURS["make"] | FOREIGN_OPTIONS


def test_the_tools_readme_names_each_of_its_commands_and_options() -> None:
    rows = table(OPERATE, "command")
    named_first = {row[0].strip("`").split()[0].strip("`") for row in rows} | {
        span.split()[0] for row in rows for span in coded(row[:1])
    }
    documented = set(re.findall(r"--[a-z][a-z-]*", prose(OPERATE)))

    assert set(operator.commands) <= named_first
    assert {each for each in OURS["joinguard"] if each.startswith("--")} <= documented


@pytest.mark.parametrize("row", table(OPERATE, "command"), ids=lambda row: row[0])
def test_each_option_in_a_commands_row_belongs_to_that_command(row: list[str]) -> None:
    names = [span.split()[0] for span in coded(row[:1])]
    [command] = [operator.commands[name] for name in names if name in operator.commands]
    used = {option for cell in row for option in re.findall(r"--[a-z][a-z-]*", cell)}

    assert used <= options(command)


def test_each_benchmark_is_documented_and_no_other() -> None:
    assert {each for row in table(TESTS, "part") for each in coded(row[:1])} == set(PARTS)


# ---------------------------------------------------------------- names


@by_document
def test_each_name_in_a_sentence_occurs_in_our_code_or_in_aws(path: Path) -> None:
    services = ("cloudcontrol", "cloudformation", "cloudtrail", "events", "kms", "lambda", "logs", "organizations")
    models = [get_session().get_service_model(each) for each in services]
    aws = {name for model in models for name in (*model.operation_names, *model.shape_names)}
    names = {
        word
        for span in spans(path)
        for word in re.findall(r"(?<![\w./$-])[A-Za-z_][\w.:]*\w", span)
        if re.search("[A-Z]", word) and (re.search("[a-z]", word) or "_" in word)
    }

    unknown = {name for name in names - aws - FOREIGN - PLACEHOLDERS if name.rpartition(".")[2] not in SOURCES}
    assert not {name for name in unknown if not re.fullmatch(r"(MM|YYYY|DD|INC)\S*", name)}


def test_each_setting_of_the_functions_is_documented_and_no_other() -> None:
    documented = coded(row[0] for row in table(WORKER, "variable"))
    functions = [each for each in RESOURCES.values() if each["Type"] == "AWS::Lambda::Function"]
    variables = {name for each in functions for name in each["Properties"]["Environment"]["Variables"]}

    assert documented == {
        name.upper()
        for settings in (Settings, RemoverSettings, SweepSettings, SealSettings)
        for name in settings.model_fields
    }
    assert documented <= variables


def test_each_parameter_of_a_stage_is_documented_with_its_default() -> None:
    documented = {row[0].strip("`"): row[1].strip("`") for row in table(INFRA, "parameter")}
    prepared = {name: str(each.get("Default", "")) for name, each in PARAMETERS.items() if name not in SET_BY_DEPLOY}

    assert documented.pop("RunbookUrl") == "the runbook in this repository"
    assert prepared.pop("RunbookUrl").endswith(where(RUNBOOK))
    assert documented == prepared
    assert coded([prose(INFRA)]) >= SET_BY_DEPLOY


def test_what_a_permissions_boundary_must_allow_is_what_the_roles_may_do() -> None:
    """A role without an action of its policies fails where the boundary's author followed this list."""
    roles = {
        name: each["Properties"]
        for file in ("template.yaml", "forwarder.yaml")
        for name, each in load(read(ROOT / "infra" / file))["Resources"].items()
        if each["Type"] == "AWS::IAM::Role"
    }
    needed = {}
    for name, properties in roles.items():
        attached = [RESOURCES[arn["Ref"]]["Properties"] for arn in properties.get("ManagedPolicyArns", [])]
        attached += [
            each["Properties"]
            for each in RESOURCES.values()
            if each["Type"] == "AWS::IAM::Policy" and {"Ref": name} in each["Properties"]["Roles"]
        ]
        statements = [
            each
            for policy in [*properties.get("Policies", []), *attached]
            for each in policy["PolicyDocument"]["Statement"]
        ]
        actions = [each["Action"] for each in statements]
        needed[name] = {each for action in actions for each in ([action] if isinstance(action, str) else action)}
    listed = {row[0].strip("`"): coded(row[1:]) for row in table(INFRA, "role")}

    assert listed["OperatorActs"] >= {"OperatorReads"}
    listed["OperatorActs"] = (listed["OperatorActs"] | listed["OperatorReads"]) - {"OperatorReads"}
    assert listed == needed


def test_each_code_of_a_dead_letter_has_a_section_with_a_command_in_the_runbook() -> None:
    chapter = read(RUNBOOK).partition("\n## Dead letters\n")[2].partition("\n## ")[0]
    sections = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^### |\Z)", chapter, re.MULTILINE | re.DOTALL))

    assert set(sections) == set(named("CAUSES"))
    assert not [code for code, text in sections.items() if not re.search(r"^\$ (make|aws) ", text, re.MULTILINE)]


def test_each_code_for_bad_input_has_a_section_in_the_runbook() -> None:
    ours = coded(row[1] for row in table(WORKER, "input"))

    assert ours
    assert ours <= set(named("CAUSES"))


def test_each_contract_is_documented_and_no_other() -> None:
    assert {re.sub(r"[\[\]]|\(.*", "", row[0]) for row in table(SCHEMAS, "contract")} == set(CONTRACTS)


def test_each_version_of_a_record_is_documented() -> None:
    rows = re.findall(r"^\| \w+ \| `(joinguard/\w+/\d)` \| (.*) \|$", read(SCHEMAS), re.MULTILINE)
    documented = {current: coded([older]) for current, older in rows}
    # The evidence of a sweep contains its report, which has the version.
    contracts: list[type[BaseModel]] = [*CONTRACTS.values(), SweepReport]
    models = [model for model in contracts if "schema_version" in model.model_fields]
    fields = [model.model_fields["schema_version"] for model in models]

    assert documented == {field.default: {*get_args(field.annotation)} - {field.default} for field in fields}


def test_each_status_and_each_result_of_a_policy_is_documented() -> None:
    assert coded(row[0] for row in table(WORKER, "status")) == set(OutcomeStatus)
    assert all(re.search(rf"\b{result}\b", prose(WORKER)) for result in AttachmentResult)


def test_each_verdict_about_evidence_is_documented() -> None:
    assert coded(row[0] for row in table(OPERATE, "verdict")) == set(named("Verdict"))


def test_each_attribute_of_a_dead_letter_is_documented() -> None:
    assert {*ORDER, CARRIED} <= set(spans(WORKER))


# ---------------------------------------------------------------- tests that the documents cite

THREATS = only("THREATS.md")
#: What the document says of each thing that somebody could write to.
SAID = ("Could", "Stopped by", "Found by", "Shown by", "Auditor")


@by_document
def test_each_test_that_a_document_cites_exists(path: Path) -> None:
    there = {
        name
        for each in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", read(each), re.MULTILINE)
    }

    assert {span for span in spans(path) if re.fullmatch(r"test_\w+", span)} <= there


def test_each_threat_says_what_stops_it_what_finds_it_and_which_tests_show_that() -> None:
    threats = re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", read(THREATS), re.MULTILINE | re.DOTALL)

    assert len(threats) >= 15
    for name, text in threats:
        assert tuple(re.findall(r"^- \*\*(.+?):\*\*", text, re.MULTILINE)) == SAID, name
        shown = text.partition("**Shown by:**")[2].partition("- **Auditor:**")[0]
        assert re.search(r"`test_\w+`", shown), f"no test shows what is said of: {name}"


# ---------------------------------------------------------------- figures


class _Longest(Random):
    """Draws the largest value each time."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


def pauses() -> list[float]:
    """Return the longest pauses between the retries of a call."""
    clock = FakeClock()
    begin = clock.now()
    times: list[float] = []

    def call() -> None:
        times.append((clock.now() - begin).total_seconds())
        raise RetryableError(fault("X", "x"), soon=True)

    with pytest.raises(RetryableError):
        retry(call, deadline=begin + timedelta(minutes=1), clock=clock, rng=_Longest())
    return [round(after - before, 3) for before, after in pairwise(times)]


def default(command: click.Command, option: str) -> float:
    [found] = [each for each in command.params if option in each.opts]
    return float(str(found.default).removesuffix("s"))


def queue(name: str) -> Any:
    return RESOURCES[name]["Properties"]


MAPPING = RESOURCES["AttachPoliciesMapping"]["Properties"]
RECEIVES = queue("Joins")["RedrivePolicy"]["maxReceiveCount"]
RULE = RESOURCES["MemberAccountInitialization"]["Properties"]["Targets"][0]["RetryPolicy"]
ALARMS = [each for each in RESOURCES.values() if each["Type"] == "AWS::CloudWatch::Alarm"]
LONGEST = [backoff(receives, _Longest()) for receives in (1, 2, 100)]
RATE = PARAMETERS["AttachmentsPerSecond"]["Default"]
#: Minutes between two rehearsals, and after which the alarm is on if none came through.
EVERY = int(re.findall(r"rate\((\d+) minutes\)", RESOURCES["Rehearsal"]["Properties"]["ScheduleExpression"])[0])
LOST_AFTER = (
    RESOURCES["NoRehearsals"]["Properties"]["Period"]
    * RESOURCES["NoRehearsals"]["Properties"]["EvaluationPeriods"]
    / 60
)
#: The pattern allows one policy, and this many more.
MOST_POLICIES = 1 + int(re.findall(r"\{0,(\d+)\}", PARAMETERS["PolicyIds"]["AllowedPattern"])[0])
#: A pattern with a group for each figure, and the figures in the code or the template. At least one document must match
#: each pattern, and every match must have these figures.
FIGURES: dict[str, tuple[float, ...]] = {
    r"hidden for (\w+) s to (\w+) min": (LONGEST[0] / 2, LONGEST[-1] / 60),
    r"pauses that double from ([\d.]+) s to ([\d.]+) s": (pauses()[0], max(pauses())),
    r"for (\w+) minutes after the join": (named("RECENT") / timedelta(minutes=1),),
    r"retries exhausted \((\w+) receives\)": (RECEIVES,),
    r"after (\w+) receives": (RECEIVES,),
    r"delivers each message (\w+) times, (\w+) minutes apart": (RECEIVES, queue("Joins")["VisibilityTimeout"] / 60),
    r"joins wait in the queue, for at most (\w+) days": (queue("Joins")["MessageRetentionPeriod"] / 86400,),
    r"batches of (\w+), a timeout of (\w+) s, a visibility timeout of (\w+) s, (\w+) receives": (
        MAPPING["BatchSize"],
        RESOURCES["AttachPolicies"]["Properties"]["Timeout"],
        queue("Joins")["VisibilityTimeout"],
        RECEIVES,
    ),
    r"\| receives before the message becomes a dead letter \| (\w+) \|": (RECEIVES,),
    r"\| visibility timeout \| (\w+) s \|": (queue("Joins")["VisibilityTimeout"],),
    r"\| retention \| (\w+) days \| (\w+) days \|": (
        queue("Joins")["MessageRetentionPeriod"] / 86400,
        queue("DeadLetters")["MessageRetentionPeriod"] / 86400,
    ),
    r"\| batch size \| (\w+) \|": (MAPPING["BatchSize"],),
    r"\| batch size of repairs \| (\w+) \|": (RESOURCES["RepairsMapping"]["Properties"]["BatchSize"],),
    r"for (\w+) seconds; then it reserves": (named("YIELDS_FOR").total_seconds(),),
    r"one has waited for (\w+) days": (int(re.findall(r"age, 0\) > (\d+)", str(ALARMS))[0]) / 86_400,),
    r"\| timeout \| (\w+) s \|": (RESOURCES["AttachPolicies"]["Properties"]["Timeout"],),
    r"\| maximum concurrency for each queue \| (\w+) \|": (MAPPING["ScalingConfig"]["MaximumConcurrency"],),
    r"\| eventbridge retries \| (\w+) times within (\w+) hours \|": (
        RULE["MaximumRetryAttempts"],
        RULE["MaximumEventAgeInSeconds"] / 3600,
    ),
    r"default bus every (\w+) minutes": (EVERY,),
    r"none has come through for (\w+) minutes": (LOST_AFTER,),
    r"a year of rehearsals, (\d+),(\d+), at": divmod(365 * 24 * 60 // EVERY, 1000),
    r"locked for (\w+) years": (PARAMETERS["RetentionDays"]["Default"] // 365,),
    r"([\d]+) days are seven years": (PARAMETERS["RetentionDays"]["Default"],),
    r"`backupdays` \((\w+) days\)": (PARAMETERS["BackupDays"]["Default"],),
    r"backups are deleted after (\w+) days": (PARAMETERS["BackupDays"]["Default"],),
    r"the oldest join has waited for (half an hour)": (RESOURCES["JoinsWaitTooLong"]["Properties"]["Threshold"],),
    r"allows? (\w+) attachments a second": (RATE,),
    r"attachments a second,? with a burst of (\w+)": (Rules().attach_burst,),
    r"(\w+) reads a second with a burst of (\w+)": (Rules().read_rate, Rules().read_burst),
    r"in order of attachment; one to (\w+)": (MOST_POLICIES,),
    r"`policyids` names your own, up to (\w+)\.": (MOST_POLICIES,),
    r"the root's (\w+) places": (PARAMETERS["PoliciesPerAccount"]["Default"],),
    r"turn that is more than (\w+) seconds away": (named("_HORIZON").total_seconds(),),
    r"standard mode with (\w+) attempts": (named("_COMMON").retries["total_max_attempts"],),
    r"first (\w+) messages go alone": (default(operator.commands["redrive"], "--breaker"),),
    r"stops when (\w+) messages have failed again \(`--breaker`\)": (
        default(operator.commands["redrive"], "--breaker"),
    ),
    r"redriven (\w+) times \(`--max-redrives`\)": (default(operator.commands["redrive"], "--max-redrives"),),
    r"for (\w+) seconds after the last message \(`--wait`\)": (default(operator.commands["redrive"], "--wait"),),
    r"long poll of (\w+) second \(`--poll`\)": (default(operator, "--poll"),),
    r"more than (\w+) joins are queued": (Redrive.max_backlog,),
    r"first (\w+) accounts": (named("MAX_ACCOUNTS"),),
    r"the tool retries for (\w+) minutes": (named("PATIENCE") / timedelta(minutes=1),),
    r"after `kill -9`, within (\w+) minutes": (named("VISIBILITY_TIMEOUT") / 60,),
    r"did not extend the visibility for (\w+) minutes": (named("VISIBILITY_TIMEOUT") / 60,),
}


def number(word: str) -> float:
    return NUMBERS.get(word) or float(word)


@pytest.mark.parametrize("sentence", FIGURES)
def test_each_figure_is_that_of_the_code_or_the_template(sentence: str) -> None:
    text = " ".join(" ".join(map(read, DOCUMENTS)).replace("**", "").split()).lower()
    found = [tuple(map(number, match.groups())) for match in re.finditer(sentence, text)]

    assert found
    assert set(found) == {FIGURES[sentence]}


def test_the_documents_name_the_regions_of_the_events_in_each_partition() -> None:
    for text in (prose(INFRA), prose(RUNBOOK)):
        assert set(EVENT_REGIONS.values()) <= set(re.findall(r"\b[a-z]{2,4}(?:-[a-z]+)+-\d\b", text))


# Virtual time gives the same figures on every machine, so the documents can show those of the current code.


def test_the_headline_figure_is_that_of_the_model_of_a_function_on_the_rule() -> None:
    [row] = [row for row in table(WORKER, "strategy") if row[0].startswith("a function on the rule")]
    [bare] = re.findall(r"(\d+) accounts without all their policies", prose(README))
    rival = run_rival(1_000)

    assert int(bare) == int(row[1].split()[0]) == rival["accounts without all policies"]
    assert float(row[2].removesuffix(" %")) == round(rival["throttled"] * 100, 1)


@pytest.mark.parametrize("joins", [100, 1_000])
def test_the_figures_of_a_burst_are_those_of_the_model(joins: int) -> None:
    [row] = [row for row in table(WORKER, "joins") if row[0] == f"{joins:,}"]
    burst = Experiment(joins, Shared).run()
    share = [burst.guardrail[min(joins - 1, int(joins * part))] for part in (0.5, 0.95, 1)]

    assert float(row[1].split()[0]) == round(burst.over_limit, 3)
    assert int(row[2]) == burst.dead_letters
    assert [int(each) for each in re.findall(r"(\d+) s", row[3])] == [round(each) for each in share]


@pytest.mark.parametrize(
    ("strategy", "pace"),
    [
        ("retries with jitter alone", Unpaced),
        ("each worker alone, one a second", Fixed),
        ("each worker alone, AIMD", Aimd),
        ("**turns from one row**", Shared),
    ],
)
def test_the_figures_of_the_strategies_are_those_of_the_model(strategy: str, pace: Any) -> None:
    [row] = [row for row in table(WORKER, "strategy") if row[0] == strategy]
    burst = Experiment(1_000, pace).run()
    over, throttled, conflicts, receives = (float(cell.strip("* %")) for cell in row[1:])

    assert (over, receives) == (round(burst.over_limit, 3), burst.receives)
    assert (throttled, conflicts) == (round(burst.throttled * 100, 1), round(burst.conflicts * 100, 1))


# So does a calculation.


def test_the_costs_of_seven_years_are_those_of_the_calculation() -> None:
    rows = {row[0].strip("*"): [cell.strip("*") for cell in row[1:]] for row in table(INFRA, "in seven years")}
    by_part, by_service, once = costs.measure().values()
    [everything] = once.values()
    said = dict(re.findall(r"(\w+) \$([\d,]*\d)", prose(INFRA).partition("**By service,**")[2].partition(". ##")[0]))

    assert rows == {part: [f"${each:,.0f}" for each in columns.values()] for part, columns in by_part.items()}
    assert said == {service: f"{list(columns.values())[-1]:,.0f}" for service, columns in by_service.items()}
    few, many = everything.values()
    assert few < 1
    assert f"after seven years costs less than $1 and ${many:,.0f}" in prose(INFRA)
