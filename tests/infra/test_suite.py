"""The tests themselves: their results depend on neither the machine nor the environment, and failures are readable."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from infra.deploy.build import ROOT
from infra.local.waiting import HANGS_AFTER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDERS = ("tests", "infra/local")
#: Measurements, not tests.
BENCH = ROOT / "tests" / "bench"

A_TEST = """
import os, urllib.request
import pytest

@pytest.fixture
def large():
    return "x" * 45_000

def test_reports_its_failure(large):
    assert large == ""

def test_sees_no_settings_of_the_user():
    assert not [n for n in os.environ if n.startswith("AWS_") and n not in {
        "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"}]
    assert not {"NO_COLOR", "COLUMNS", "PYTHONWARNINGS", "FAULTS", "MAKEFLAGS"} & set(os.environ)
    assert urllib.request.proxy_bypass("127.0.0.1")
"""


def literal_timeouts(path: Path) -> Iterator[str]:
    """Yield the lines of a file that pass a literal timeout."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == "timeout" and isinstance(keyword.value, ast.Constant):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}"


def test_every_wait_has_the_one_timeout_that_only_a_hang_reaches() -> None:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if BENCH not in path.parents]

    assert [line for path in paths for line in literal_timeouts(path)] == []
    assert HANGS_AFTER >= 300


def test_a_test_sees_no_settings_of_the_user_and_its_failure_is_readable(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(A_TEST)
    settings = {
        "AWS_PROFILE": "nobody",
        "AWS_ENDPOINT_URL": "http://elsewhere",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NO_COLOR": "1",
        "COLUMNS": "40",
        "FAULTS": "faults=1",
        "MAKEFLAGS": "k",
        "PYTHONWARNINGS": "default",
    }

    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_AFTER,
    )

    assert "the repr of fixture large takes 45002 characters" in done.stdout
    assert "1 passed, 1 error" in done.stdout
    assert len(done.stdout) < 10_000
