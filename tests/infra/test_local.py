"""Local runs that do not start, or that end early."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from infra.deploy.build import ROOT
from infra.local.__main__ import fault_injection
from infra.local.client import cli as client
from infra.local.demo import run_on
from infra.local.standin import StandInError, running
from infra.local.waiting import until

LOG = ROOT / "build" / "stand-in.log"
#: A stand-in whose first port is taken.
SECOND_TRY = """#!/bin/sh
if [ ! -e tried ]; then touch tried; echo "[Errno 98] Address already in use"; exit 1; fi
echo "Running on http://127.0.0.1:$GATEWAY_PORT"
exec sleep 900
"""


def test_without_its_environment_the_stand_in_does_not_start(tmp_path: Path) -> None:
    absent = tmp_path / "python"

    with pytest.raises(StandInError, match="python is missing; run `make setup`"), running(python=absent):
        pass


def test_a_stand_in_that_does_not_start_is_an_error_and_its_log_is_kept() -> None:
    """This interpreter has no ministack."""
    message = r"did not start \(status 1\); its log is in build/stand-in.log"

    with pytest.raises(StandInError, match=message), running(python=Path(sys.executable)):
        pass
    assert "No module named ministack" in LOG.read_text()


def test_a_stand_in_tries_another_port_and_its_end_is_an_error(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(SECOND_TRY)
    program.chmod(0o755)

    with running(python=program) as aws:
        port = urlsplit(aws.endpoint).port
        aws.check()
        os.killpg(aws.process.pid, signal.SIGKILL)
        aws.process.wait()
        with pytest.raises(StandInError, match=r"exited with status -9; its log is in build/stand-in.log"):
            aws.check()

    assert LOG.read_text().endswith(f"Running on http://127.0.0.1:{port}\n")


def test_a_demo_that_does_not_start_fails_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_on(running(python=tmp_path / "python")) == 1
    printed = capsys.readouterr().out
    assert "failed: " in printed
    assert "python is missing; run `make setup`" in " ".join(printed.split())
    assert "Every account carries its policies" not in printed


def test_without_rules_there_is_no_double_of_organizations() -> None:
    for nothing in (None, ""):
        with fault_injection(nothing) as (endpoint, _):
            assert endpoint is None


def test_a_wait_that_hangs_is_an_error_that_names_what_it_waited_for() -> None:
    with pytest.raises(TimeoutError, match=r"waited 0.1 s for the queue to be empty"):
        until(lambda: False, "the queue to be empty", hangs_after=0.1)


def test_an_account_id_that_is_none_is_refused_in_one_line_before_anything_is_sent() -> None:
    result = CliRunner().invoke(client, ["join", "--account", "12"])

    assert (result.exit_code, result.output) == (
        1,
        "Error: '12' is not an account id. An account id has twelve digits\n",
    )
