"""The Makefile is the front door: every target says what it does."""

import re
import subprocess

from infra.deploy.build import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()


def test_every_target_has_help_and_is_shown_by_help() -> None:
    targets = {name for names in re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE) for name in names.split()}
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607 - whatever make there is

    assert targets
    assert set(re.findall(r"^  make ([a-z-]+) +\S", shown, re.MULTILINE)) == targets


def test_nothing_asks_for_a_target_that_is_not_there() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = {name for names in re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE) for name in names.split()}

    asked = set(re.findall(r"`make ([a-z-]+)", readme)) | set(
        re.findall(r"^(?:\$ )?make ([a-z-]+)", readme, re.MULTILINE)
    )

    assert {"demo", "test"} <= asked <= targets
