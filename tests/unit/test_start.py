"""How the operators' tool starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from handlers.operate.__main__ import cli as operate
from infra.deploy.__main__ import cli as deploy
from infra.deploy.build import ROOT


@pytest.mark.parametrize("arguments", [["--help"], ["redrive", "--help"], ["list", "--by", "nothing"]])
def test_help_and_usage_errors_import_no_sdk(arguments: list[str]) -> None:
    """boto3 takes longer to import than everything else together."""
    code = f"""if True:
        import atexit, os, sys
        atexit.register(lambda: os._exit(3 if "boto3" in sys.modules else 0))
        from handlers.operate.__main__ import cli
        cli.main({arguments!r}, prog_name="joinguard")
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)  # noqa: S603 - our own code

    assert done.returncode == 0, done.stderr


def test_a_command_works_with_stderr_closed() -> None:
    """`sys.stderr` is then None."""
    command = 'exec "$0" -m handlers.operate redrive --help 2>&-'
    done = subprocess.run(["sh", "-c", command, sys.executable], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603, S607 - our own command, sh from PATH

    assert done.returncode == 0
    assert done.stdout.startswith("Usage: joinguard redrive")


#: A module that is loaded at the start, and which a person interrupts.
SLOW = """import os, signal
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "infra.start", "infra.deploy", "status"],
        ["-m", "infra.start", "infra.deploy.operate", "prod", "list"],
        ["-c", "from handlers.operate.start import main; main()"],
    ],
    ids=["make status", "make dlq", "joinguard"],
)
def test_an_interrupt_while_a_command_loads_prints_no_traceback(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text(SLOW)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])

    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, *command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_while_the_installation_is_found_prints_one_line() -> None:
    result = CliRunner().invoke(operate, ["list"], obj=interrupt)

    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("command", [["status"], ["revert-drift"]])
def test_an_interrupt_during_status_prints_one_line(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The session is what boto3 makes first."""
    monkeypatch.setattr("boto3.Session", interrupt)

    result = CliRunner().invoke(deploy, command)

    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
