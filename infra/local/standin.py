"""Run an AWS stand-in on loopback: ministack in its own environment, with IAM enforcement."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from infra.deploy.build import ROOT
from infra.local.waiting import HANGS_AFTER, until

#: The stand-in accepts a 12-digit access key id as the root user of that account. The account does not exist.
MANAGEMENT_ACCOUNT_ID: Final = "111111111111"
SECRET_ACCESS_KEY: Final = "test"  # noqa: S105 - the stand-in accepts any
REGION: Final = "us-east-1"
_PYTHON: Final = ROOT / ".venv-aws" / "bin" / "python"
#: The only variables that the stand-in, and so the function, inherits from this process.
_INHERITED: Final = ("PATH", "LANG")


class StandInError(Exception):
    """The stand-in did not start or did not keep running."""


@dataclass(frozen=True)
class StandIn:
    """A running stand-in."""

    endpoint: str
    log: Path
    process: subprocess.Popen[Any]
    region: str = REGION
    access_key_id: str = MANAGEMENT_ACCOUNT_ID
    secret_access_key: str = SECRET_ACCESS_KEY
    #: Where the function calls Organizations.
    organizations_endpoint: str = ""

    def client(self, service: str, **settings: str) -> Any:
        """Return a client of the stand-in that ignores AWS settings of the environment; settings are boto3's own."""
        return self._session.client(service, **self._settings(), **settings)  # type: ignore[call-overload]

    def resource(self, service: str) -> Any:
        """Return a resource of the stand-in."""
        return self._session.resource(service, **self._settings())  # type: ignore[call-overload]

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session(
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=self.region,
        )

    def _settings(self) -> dict[str, Any]:
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 3},
            connect_timeout=HANGS_AFTER,
            read_timeout=HANGS_AFTER,
        )
        return {"endpoint_url": self.endpoint, "config": config}

    def check(self) -> None:
        """Raise StandInError if it has exited."""
        status = self.process.poll()
        if status is not None:
            raise StandInError(f"the AWS stand-in exited with status {status}; {_keep(self.log)}")


@contextmanager
def running(organizations: str | None = None, *, python: Path = _PYTHON) -> Iterator[StandIn]:
    """Run a stand-in within the block; afterwards, no process and no file remains.

    `organizations` is another endpoint for the function's calls to Organizations.
    """
    if not python.exists():
        raise StandInError(f"{python} is missing; run `make setup`")
    endpoint = {"AWS_ENDPOINT_URL_ORGANIZATIONS": organizations} if organizations else {}
    with tempfile.TemporaryDirectory(prefix="joinguard-") as scratch, ExitStack() as started:
        log = Path(scratch) / "stand-in.log"
        while True:
            port = _free_port()
            process = started.enter_context(_started(python, _environment(port, scratch) | endpoint, log))
            if _listens(process, log):
                break
            # Another process may have taken the port in the meantime; then try another port.
            if "already in use" not in _content(log):
                raise StandInError(f"the AWS stand-in did not start (status {process.returncode}); {_keep(log)}")
        at = f"http://127.0.0.1:{port}"
        yield StandIn(endpoint=at, log=log, process=process, organizations_endpoint=organizations or at)


def _environment(port: int, scratch: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        # The default opens a port on all interfaces.
        "IOT_MTLS_ENABLED": "0",
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "MINISTACK_ACCOUNT_ID": MANAGEMENT_ACCOUNT_ID,
        "STATE_DIR": f"{scratch}/state",
        "TMPDIR": scratch,
        "HOME": scratch,
        "LOG_LEVEL": "INFO",
    }


@contextmanager
def _started(python: Path, environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: S603 - our own arguments
            [python, "-m", "ministack"],
            cwd=log.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def _listens(process: subprocess.Popen[bytes], log: Path) -> bool:
    """Wait until the log says that it listens, or until it exits; return whether it listens.

    An answer on the port would prove nothing: another process may use the port.
    """
    until(lambda: process.poll() is not None or "running on http://" in _content(log), "the AWS stand-in to start")
    return process.poll() is None


def _content(log: Path) -> str:
    return log.read_text(errors="replace").lower()


def _keep(log: Path) -> str:
    """Copy the log out of the temporary folder; return where it is."""
    keep = ROOT / "build" / "stand-in.log"
    keep.parent.mkdir(exist_ok=True)
    shutil.copy(log, keep)
    return f"its log is in {keep.relative_to(ROOT)}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill the stand-in and the function processes that it started, which are in its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
