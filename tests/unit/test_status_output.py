"""What `make status` prints: nothing cut off, what is not well first, readable without colours."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from typing import Final

import pytest

from infra.deploy.build import ROOT
from infra.deploy.health.check import RESTORE, Check

FOUND: Final = (
    Check("rule", "ENABLED", "ok"),
    Check("trail", "cannot be read: DescribeTrails is denied", "unknown", "assume the stack's role OperatorReads"),
    Check("worker's role", "the policy lacks the statement AttachToAccounts; " * 3, "wrong", RESTORE),
    Check("mapping", "Enabled", "ok"),
    Check("removals", "on, limit 2 a day", "ok", always_shown=True),
)


def printed(columns: int, *, everything: bool = False) -> str:
    """Return what is printed to a pipe whose other end is on a terminal of this width."""
    program = (
        "from infra.deploy.health.table import print_checks; from tests.unit.test_status_output import FOUND;"
        f"print_checks('Joinguard, stage prod', FOUND, everything={everything})"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    try:
        done = subprocess.run(command, env=environment, stdin=theirs, capture_output=True, text=True, check=True)  # noqa: S603 - this file's program
    finally:
        os.close(ours)
        os.close(theirs)
    return done.stdout


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_nothing_is_cut_off_at_any_width(columns: int) -> None:
    text = printed(columns)

    assert "…" not in text
    assert max(map(len, text.splitlines())) <= columns
    assert "runbook #differs-from-the-template" in text
    assert "The runbook is handlers/operate/RUNBOOK.md" in text
    assert text.count("AttachToAccounts") == 3


def test_what_is_not_well_comes_first_with_a_mark_in_words() -> None:
    text = printed(100, everything=True)

    places = [text.index(each) for each in ("WRONG", "worker's role", "UNKNOWN", "trail", "rule: ENABLED", "mapping:")]
    assert places == sorted(places)
    assert "\x1b" not in text


def test_what_is_well_is_only_counted() -> None:
    text = printed(100)

    assert "ENABLED" not in text
    assert "3 checks of 5 well; --all shows them" in text


def test_what_an_installation_removes_is_shown_although_it_is_well() -> None:
    assert "removals: on, limit 2 a day" in printed(100)
