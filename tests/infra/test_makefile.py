"""The Makefile is the front door: every target says what it does."""

import re
import shlex
import subprocess

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


@pytest.mark.parametrize("name", ["README.md", "RUNBOOK.md"])
def test_nothing_asks_for_a_target_that_is_not_there(name: str) -> None:
    text = (ROOT / name).read_text()

    asked = set(re.findall(r"`make ([a-z-]+)", text)) | set(re.findall(r"^(?:\$ )?make ([a-z-]+)", text, re.MULTILINE))

    assert {"status", "deploy", "dlq", "redrive"} <= asked <= targets()


def test_every_command_of_the_operators_tool_has_a_target() -> None:
    assert {TARGET_OF.get(name, name) for name in cli.commands} <= targets()


def operators_lines() -> list[str]:
    """Return each line of the documents that calls the operator's tool through make, with its arguments."""
    text = "".join((ROOT / name).read_text() for name in ("README.md", "RUNBOOK.md"))
    names = "|".join(TARGET_OF.get(name, name) for name in cli.commands)
    return sorted(set(re.findall(rf"^\s*\$ (make (?:{names})\b.*?)(?:  +#.*)?$", text, re.MULTILINE)))


@pytest.mark.parametrize("line", operators_lines())
def test_what_the_documents_tell_operators_to_type_is_understood(line: str) -> None:
    _make, target, *assigned = shlex.split(line)
    arguments = shlex.split(assigned[0].removeprefix("ARGS=").replace("ACCOUNT", "222222222222")) if assigned else []
    command = cli.commands[{target: name for name, target in TARGET_OF.items()}.get(target, target)]

    with command.make_context(target, arguments) as context:
        assert not context.args
