"""The project seen from outside: the console script, its packages, the CI workflow, the files at the root."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml
from uv import find_uv_bin

from handlers.operate.start import main
from infra.deploy.build import ROOT, RUNTIME

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
JOINGUARD = Path(sysconfig.get_path("scripts")) / "joinguard"
#: The package that installs a module of another name.
INSTALLED_BY = {"botocore": "boto3", "markupsafe": "jinja2", "pydantic_core": "pydantic", "yaml": "pyyaml"}
#: Modules that only `joinguard evidence` imports.
RENDERING = ROOT / "handlers" / "operate" / "pack"
#: Modules that only the function imports; its packages are in a group of their own.
FUNCTION = {
    "handlers/attach_policies.py",
    "handlers/batch.py",
    "handlers/detach_policies.py",
    "handlers/bootstrap.py",
    "handlers/seal_evidence.py",
    "handlers/sealing.py",
    "handlers/settings.py",
    "handlers/sweep.py",
    "handlers/sweeping.py",
    "handlers/time_limit.py",
}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement)[0].replace("-", "_") for requirement in requirements}


def imported(path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text()))
    modules = [
        name
        for node in tree
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([each.name for each in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    ]
    return {name.split(".")[0] for name in modules} - sys.stdlib_module_names - {"handlers", "schemas"}


def test_the_console_script_is_installed_and_calls_the_tools_start() -> None:
    [script] = entry_points(group="console_scripts", name="joinguard")

    assert script.load() is main


def test_the_console_script_works_in_any_folder_like_the_module(tmp_path: Path) -> None:
    script = subprocess.run([JOINGUARD, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S603 - our own command
    module = subprocess.run(
        [sys.executable, "-m", "handlers.operate", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert script.stdout.startswith("Usage: joinguard [OPTIONS] COMMAND")
    assert script.stdout == module.stdout


@pytest.mark.parametrize("arguments", ["--help", "list --help"])
@pytest.mark.parametrize(
    ("redirection", "message"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_stdout_that_takes_nothing_is_one_line_and_exit_status_1(
    arguments: str, redirection: str, message: str, buffered: str
) -> None:
    done = subprocess.run(  # noqa: S602 - our own command; the shell redirects its output
        f"{sys.executable} -m handlers.operate {arguments} {redirection}",
        cwd=ROOT,
        shell=True,
        env=os.environ | {"PYTHONUNBUFFERED": buffered},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == f"Error: cannot write to stdout: {message}\n"


def test_the_tool_prints_its_version(tmp_path: Path) -> None:
    done = subprocess.run([JOINGUARD, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S603 - our own command

    assert done.stdout == f"joinguard, version {PYPROJECT['project']['version']}\n"


def test_the_console_script_exits_with_2_after_a_usage_error(tmp_path: Path) -> None:
    done = subprocess.run([JOINGUARD, "liszt"], cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - our own command

    assert done.returncode == 2
    assert "liszt" in done.stderr


def packages_of(paths: Iterable[Path]) -> set[str]:
    """Return the packages that modules import. Only type checkers import the stubs."""
    needed = set().union(*map(imported, paths))
    return {INSTALLED_BY.get(name, name) for name in needed if not name.startswith("mypy_boto3")}


def test_the_tools_packages_are_the_projects_dependencies() -> None:
    """`uv tool install .` then installs exactly the packages that the tool imports."""
    paths = [path for folder in ("handlers", "schemas") for path in (ROOT / folder).rglob("*.py")]
    tool = [path for path in paths if path.relative_to(ROOT).as_posix() not in FUNCTION]

    assert packages_of(path for path in tool if RENDERING not in path.parents) == names(
        PYPROJECT["project"]["dependencies"]
    )


def test_what_renders_evidence_packs_needs_an_extra_of_its_own() -> None:
    needed = packages_of(RENDERING.glob("*.py")) - names(PYPROJECT["project"]["dependencies"])

    assert needed == names(PYPROJECT["project"]["optional-dependencies"]["evidence"])


def test_the_functions_packages_are_in_its_group() -> None:
    needed = set().union(*(imported(ROOT / path) for path in FUNCTION))

    assert needed <= names(PYPROJECT["dependency-groups"]["function"]) | {"boto3", "botocore"}


def test_the_wheel_contains_only_the_tool_and_the_contracts(tmp_path: Path) -> None:
    """Build offline; uv is the build backend."""
    command = [find_uv_bin(), "build", "--offline", "--wheel", "--out-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)  # noqa: S603 - our own command
    [wheel] = tmp_path.glob("*.whl")

    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"handlers", "schemas"}
    assert "handlers/operate/__main__.py" in names
    assert {"schemas/json/act.json", "handlers/operate/pack/page.html", "handlers/operate/pack/page.css"} <= {*names}


WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
[JOB] = yaml.safe_load(WORKFLOW)["jobs"].values()
VERSIONS: list[str] = JOB["strategy"]["matrix"]["python"]


def test_each_action_is_pinned_by_commit_and_names_its_tag() -> None:
    used = re.findall(r"uses: *(.*)", WORKFLOW)

    assert used
    assert [line for line in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[0-9.]+", line)] == []


def test_the_workflow_runs_the_developers_command_with_the_interpreter_of_the_matrix() -> None:
    [python] = [step for step in JOB["steps"] if step.get("id") == "python"]
    [run] = [step for step in JOB["steps"] if "run" in step]

    assert run["run"] == ".ci/run"
    assert python["with"]["python-version"] == "${{ matrix.python }}"
    assert run["env"] == {"PYTHON": "${{ steps.python.outputs.python-path }}"}
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "\nmake test" in (ROOT / ".ci" / "run").read_text()


def test_the_workflow_may_only_read_the_repository() -> None:
    assert yaml.safe_load(WORKFLOW)["permissions"] == {"contents": "read"}
    assert "permissions" not in JOB
    assert JOB["timeout-minutes"] <= 60


def test_the_tested_python_versions_are_the_declared_ones() -> None:
    classifiers = re.findall(r"Python :: (3\.[0-9]+)", "\n".join(PYPROJECT["project"]["classifiers"]))

    assert classifiers == VERSIONS
    assert PYPROJECT["project"]["requires-python"] == f">={VERSIONS[0]}"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == VERSIONS[0]
    assert RUNTIME in VERSIONS


#: The names at the root, without dotfiles.
AT_THE_ROOT = {
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "handlers",
    "infra",
    "pyproject.toml",
    "schemas",
    "tests",
    "uv.lock",
}


def test_the_root_holds_only_the_expected_names() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607 - git from PATH
    tops = {line.split("/")[0] for line in listed.splitlines()}

    assert {top for top in tops if not top.startswith(".")} == AT_THE_ROOT
    assert {".ci", ".github", ".gitignore"} <= tops


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md"])
def test_each_relative_link_leads_to_a_file(name: str) -> None:
    document = ROOT / name
    links = [link for link in re.findall(r"\]\(([^)#]+)", document.read_text()) if not link.startswith("https://")]

    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_changelog_has_a_section_for_unreleased_changes_and_names_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()

    assert text.index("\n## [Unreleased]\n") < text.index("\n### Added\n")
    assert f" {PYPROJECT['project']['version']}" in text
