"""The Makefile: every target has help, and no value can inject a command."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from handlers.operate.__main__ import cli
from infra.deploy.build import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
#: Targets whose names differ from the command's.
TARGET_OF = {"list": "dlq"}


def targets() -> set[str]:
    return {name for names in re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE) for name in names.split()}


def test_every_target_has_help_text_and_help_lists_it() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607 - make from PATH

    assert targets()
    assert set(re.findall(r"^  make ([a-z-]+) +\S", shown, re.MULTILINE)) == targets()


def test_every_command_of_the_operators_tool_has_a_target() -> None:
    assert {TARGET_OF.get(name, name) for name in cli.commands} <= targets()


#: Values that a shell or make could run as commands.
HOSTILE = {
    "a second command": "x; touch {marker}",
    "a pipe": "x | touch {marker} &",
    "a substitution": "x$(touch {marker})",
    "backticks": "x`touch {marker}`",
    "an apostrophe": "x'; touch {marker}; '",
    "quotes": 'x"; touch {marker}; "',
    "a backslash": 'x\\"; touch {marker} #',
    "a newline": "x\ntouch {marker} #",
    "a newline within quotes": "x'\n\ttouch {marker}\n'",
    "a make function": "$(shell touch {marker})",
    "make variables": "$(SHELL) ${{HOME}} $$HOME",
    "blanks": "two  words ",
    "a pattern": "*",
    "an empty value": "",
}
RECORDER = """#!/bin/sh
printf '%s\\0' "$@" FAULTS="$FAULTS" > "$RECORD"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout in a folder with a hostile name; its interpreter records its arguments."""
    root = tmp_path / 'it\'s a $(touch marker) "checkout"'
    (root / "infra").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "uv.lock", "infra/uv.txt"):
        shutil.copy(ROOT / name, root / name)
    for environment in (".venv", ".venv-aws", ".venv-lambda", ".venv-scan"):
        (root / environment / "bin").mkdir(parents=True)
        (root / environment / ".made").touch()
    (root / "tests" / "e2e").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "e2e" / "rie.txt", root / "tests" / "e2e" / "rie.txt")
    for environment in (".venv", ".venv-aws", ".venv-lambda", ".venv-scan"):
        os.utime(root / environment / ".made", (2**31, 2**31))
    for program in ("python", "uv"):
        interpreter(root / ".venv" / "bin" / program)
    return root


def interpreter(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(RECORDER)
    path.chmod(0o755)


def make(root: Path, *arguments: str, **environment: str) -> list[str]:
    """Run make in a checkout; return the arguments of the interpreter, or none if it was not called."""
    record = root / "record"
    record.unlink(missing_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    for name in ("PYTHON", "STAGE", "FAULTS", "FROM", "TO", "FOLDER", "ARGS"):
        inherited.pop(name, None)
    subprocess.run(  # noqa: S603 - our own command
        ["make", *arguments],  # noqa: S607 - make from PATH
        cwd=root,
        env=inherited | {"RECORD": str(record)} | environment,
        capture_output=True,
        check=False,
    )
    return record.read_text().split("\0")[:-1] if record.exists() else []


@pytest.mark.parametrize("from_environment", [False, True], ids=["as an argument of make", "in the environment"])
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(
    ("target", "name"),
    [("status", "STAGE"), ("redrive", "STAGE"), ("local", "FAULTS"), ("evidence", "FROM"), ("evidence", "FOLDER")],
)
def test_a_value_reaches_the_command_unchanged_and_runs_nothing(
    checkout: Path, target: str, name: str, value: str, *, from_environment: bool
) -> None:
    marker = checkout.parent / "marker"
    value = value.format(marker=marker)

    called = make(checkout, target, **{name: value}) if from_environment else make(checkout, target, f"{name}={value}")

    evidence = {"FROM": ("build/evidence/{}-to-", "{}"), "FOLDER": ("{}", "")}.get(name, ("", ""))
    folder, first = (each.replace("{}", value) for each in evidence)
    assert (
        called
        == {
            "evidence": [
                "-m",
                "infra.start",
                "infra.deploy.operate",
                "prod",
                "evidence",
                folder or "build/evidence/-to-",
                "--from",
                first,
                "--to",
                "",
                "FAULTS=",
            ],
            "status": ["-m", "infra.start", "infra.deploy", "status", "--stage", value, "FAULTS="],
            "redrive": ["-m", "infra.start", "infra.deploy.operate", value, "redrive", "FAULTS="],
            "local": ["-m", "infra.local", f"FAULTS={value}"],
        }[target]
    )
    assert not marker.exists()


@pytest.mark.parametrize(
    "value", [value for value in HOSTILE.values() if value], ids=[name for name in HOSTILE if HOSTILE[name]]
)
def test_the_interpreters_path_runs_nothing_either(checkout: Path, value: str) -> None:
    (checkout / ".venv" / ".made").unlink()
    marker = checkout.parent / "marker"

    assert not make(checkout, ".venv/.made", f"PYTHON={value.format(marker=marker)}")
    assert not marker.exists()


def test_an_interpreter_with_spaces_in_its_path_is_found(checkout: Path) -> None:
    (checkout / ".venv" / ".made").unlink()
    python = checkout.parent / "my own" / "python"
    interpreter(python)
    make(checkout, ".venv/.made", f"PYTHON={python}")

    assert (checkout / ".venv" / ".made").exists()


@pytest.mark.parametrize("name", ["RUN", "LOCAL", "GROUP", "COMMAND", "CURDIR", "MAKEFILE_LIST"])
@pytest.mark.parametrize("target", ["dlq", "status", "local", "help", ".venv-aws/.made"])
def test_a_user_cannot_set_makes_internal_variables(checkout: Path, target: str, name: str) -> None:
    marker = checkout.parent / "marker"
    usual = make(checkout, target)

    assert make(checkout, target, f"{name}=x; touch {marker};") == usual
    assert not marker.exists()


def test_the_shell_splits_args_into_words(checkout: Path) -> None:
    called = make(checkout, "redrive", "ARGS=--code X --reason 'two words'")

    assert called[:-1] == [
        "-m",
        "infra.start",
        "infra.deploy.operate",
        "prod",
        "redrive",
        "--code",
        "X",
        "--reason",
        "two words",
    ]


def test_uv_is_pinned_by_the_hashes_in_the_lock_file() -> None:
    [locked] = [each for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"] if each["name"] == "uv"]
    pin, *hashes = re.findall(r"^(uv==\S+)|--hash=(\S+)", (ROOT / "infra" / "uv.txt").read_text(), re.MULTILINE)
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["tools"]

    assert pin[0] == f"uv=={locked['version']}"
    assert pin[0] in tools
    assert {each[1] for each in hashes} == {each["hash"] for each in [locked["sdist"], *locked["wheels"]]}
    assert "--require-hashes --no-deps -r infra/uv.txt" in MAKEFILE
    assert not re.findall(r"pip install(?!.*--require-hashes)", MAKEFILE)
