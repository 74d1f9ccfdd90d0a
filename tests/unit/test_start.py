"""How the operators' tool starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
