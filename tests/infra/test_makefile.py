"""The Makefile is the front door: every target says what it does."""

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
#: Where the target is called otherwise than the command.
TARGET_OF = {"list": "dlq"}


def targets() -> set[str]:
    return {name for names in re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE) for name in names.split()}


def test_every_target_has_help_and_is_shown_by_help() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607 - whatever make there is

    assert targets()
    assert set(re.findall(r"^  make ([a-z-]+) +\S", shown, re.MULTILINE)) == targets()


def test_every_command_of_the_operators_tool_has_a_target() -> None:
    assert {TARGET_OF.get(name, name) for name in cli.commands} <= targets()


#: What a value could do to a shell, or to make itself, which would run the last but one.
HOSTILE = {
    "a second command": "x; touch {marker}",
    "a pipe": "x | touch {marker} &",
    "a substitution": "x$(touch {marker})",
    "backticks": "x`touch {marker}`",
    "an apostrophe": "x'; touch {marker}; '",
    "quotes": 'x"; touch {marker}; "',
    "a backslash": 'x\\"; touch {marker} #',
    "a line end": "x\ntouch {marker} #",
    "a line end within quotes": "x'\n\ttouch {marker}\n'",
    "a function of make": "$(shell touch {marker})",
    "a variable of make": "$(SHELL) ${{HOME}} $$HOME",
    "blanks": "two  words ",
    "a pattern": "*",
    "nothing": "",
}
RECORDER = """#!/bin/sh
printf '%s\\0' "$@" FAULTS="$FAULTS" > "$RECORD"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout whose interpreter writes down what it is called with, in a folder with a hostile name."""
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
    """Run make there; return the words that the interpreter was called with, none where it was not."""
    record = root / "record"
    record.unlink(missing_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    for name in ("PYTHON", "STAGE", "STACK", "FAULTS", "ARGS"):
        inherited.pop(name, None)
    subprocess.run(  # noqa: S603 - our own command
        ["make", *arguments],  # noqa: S607 - whatever make there is
        cwd=root,
        env=inherited | {"RECORD": str(record)} | environment,
        capture_output=True,
        check=False,
    )
    return record.read_text().split("\0")[:-1] if record.exists() else []


@pytest.mark.parametrize("from_environment", [False, True], ids=["given to make", "in the environment"])
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(("target", "name"), [("status", "STAGE"), ("redrive", "STACK"), ("local", "FAULTS")])
def test_a_value_reaches_the_command_as_it_is_and_runs_nothing(
    checkout: Path, target: str, name: str, value: str, *, from_environment: bool
) -> None:
    marker = checkout.parent / "marker"
    value = value.format(marker=marker)

    called = make(checkout, target, **{name: value}) if from_environment else make(checkout, target, f"{name}={value}")

    assert (
        called
        == {
            "status": ["-m", "infra.deploy", "status", "--stage", value, "FAULTS="],
            "redrive": ["-m", "handlers.operate", "--stack", value, "redrive", "FAULTS="],
            "local": ["-m", "infra.local", f"FAULTS={value}"],
        }[target]
    )
    assert not marker.exists()


@pytest.mark.parametrize(
    "value", [value for value in HOSTILE.values() if value], ids=[name for name in HOSTILE if HOSTILE[name]]
)
def test_the_interpreter_is_one_word_too(checkout: Path, value: str) -> None:
    (checkout / ".venv" / ".made").unlink()
    marker = checkout.parent / "marker"

    assert not make(checkout, ".venv/.made", f"PYTHON={value.format(marker=marker)}")
    assert not marker.exists()


def test_an_interpreter_whose_path_has_blanks_is_found(checkout: Path) -> None:
    (checkout / ".venv" / ".made").unlink()
    python = checkout.parent / "my own" / "python"
    interpreter(python)
    make(checkout, ".venv/.made", f"PYTHON={python}")

    assert (checkout / ".venv" / ".made").exists()


@pytest.mark.parametrize("name", ["RUN", "LOCAL", "GROUP", "COMMAND", "CURDIR", "MAKEFILE_LIST"])
@pytest.mark.parametrize("target", ["dlq", "status", "local", "help", ".venv-aws/.made"])
def test_what_make_uses_for_itself_is_not_the_users_to_set(checkout: Path, target: str, name: str) -> None:
    marker = checkout.parent / "marker"
    usual = make(checkout, target)

    assert make(checkout, target, f"{name}=x; touch {marker};") == usual
    assert not marker.exists()


def test_words_for_the_command_are_words_for_the_shell(checkout: Path) -> None:
    called = make(checkout, "redrive", "ARGS=--code X --reason 'two words'")

    assert called[:-1] == [
        "-m",
        "handlers.operate",
        "--stack",
        "joinguard",
        "redrive",
        "--code",
        "X",
        "--reason",
        "two words",
    ]


def test_what_installs_everything_else_is_pinned_by_the_hashes_of_the_lock() -> None:
    [locked] = [each for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"] if each["name"] == "uv"]
    pin, *hashes = re.findall(r"^(uv==\S+)|--hash=(\S+)", (ROOT / "infra" / "uv.txt").read_text(), re.MULTILINE)
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["tools"]

    assert pin[0] == f"uv=={locked['version']}"
    assert pin[0] in tools
    assert {each[1] for each in hashes} == {each["hash"] for each in [locked["sdist"], *locked["wheels"]]}
    assert "--require-hashes --no-deps -r infra/uv.txt" in MAKEFILE
    assert not re.findall(r"pip install(?!.*--require-hashes)", MAKEFILE)
