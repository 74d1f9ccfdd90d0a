"""An AWS stand-in on loopback: ministack, in an environment of its own, IAM enforcement on."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import URLError

import boto3
from botocore.config import Config

from infra.deploy.build import ROOT

#: The stand-in takes a 12-digit access key as the root user of that account. Both ids are made up.
MANAGEMENT_ACCOUNT_ID: Final = "111111111111"
SECRET_ACCESS_KEY: Final = "test"  # noqa: S105 - the stand-in knows no other
REGION: Final = "us-east-1"
_PYTHON: Final = ROOT / ".venv-aws" / "bin" / "python"
_SECONDS_TO_START: Final = 30
#: Of our own environment the function's process sees only this; everything else would leak into it.
_INHERITED: Final = ("PATH", "LANG", "AWS_ENDPOINT_URL_ORGANIZATIONS")


class StandInError(Exception):
    """The stand-in did not start."""


@dataclass(frozen=True)
class StandIn:
    """A running stand-in."""

    endpoint: str
    log: Path
    process: subprocess.Popen[Any]
    region: str = REGION
    access_key_id: str = MANAGEMENT_ACCOUNT_ID
    secret_access_key: str = SECRET_ACCESS_KEY

    def client(self, service: str, **settings: str) -> Any:  # noqa: ANN401 - the callers name the service and the type
        """Make a client that talks to the stand-in, whatever the environment says; settings are boto3's own."""
        return self._session.client(service, **self._spoken_to(), **settings)  # type: ignore[call-overload]

    def resource(self, service: str) -> Any:  # noqa: ANN401 - as above
        """Make a resource that talks to the stand-in."""
        return self._session.resource(service, **self._spoken_to())  # type: ignore[call-overload]

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session(
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=self.region,
        )

    def _spoken_to(self) -> dict[str, Any]:
        config = Config(retries={"mode": "standard", "total_max_attempts": 3}, read_timeout=60)
        return {"endpoint_url": self.endpoint, "config": config}

    def wait(self) -> None:
        """Wait as long as it runs; raise StandInError when it has ended by itself."""
        status = self.process.wait()
        message = f"the AWS stand-in ended by itself (status {status}); {_kept(self.log)}"
        raise StandInError(message)


@contextmanager
def running(environ: Mapping[str, str] = os.environ) -> Iterator[StandIn]:
    """Run a stand-in until the block ends; leave no process and no file behind.

    Where the environment has AWS_ENDPOINT_URL_ORGANIZATIONS, the function uses that endpoint.
    """
    if not _PYTHON.exists():
        message = f"{_PYTHON.relative_to(ROOT)} is missing; run `make setup`"
        raise StandInError(message)
    with tempfile.TemporaryDirectory(prefix="joinguard-") as scratch:
        port = _free_port()
        log = Path(scratch) / "stand-in.log"
        with log.open("w") as output:
            process = _start(port, scratch, output, environ)
        try:
            _await(process, port, log)
            yield StandIn(endpoint=f"http://127.0.0.1:{port}", log=log, process=process)
        finally:
            _stop(process)


def _start(port: int, scratch: str, output: IO[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    inherited = {name: environ[name] for name in _INHERITED if name in environ}
    environment = inherited | {
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        # Else it opens a port on all interfaces.
        "IOT_MTLS_ENABLED": "0",
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "MINISTACK_ACCOUNT_ID": MANAGEMENT_ACCOUNT_ID,
        "STATE_DIR": f"{scratch}/state",
        "TMPDIR": scratch,
        "HOME": scratch,
        "LOG_LEVEL": "INFO",
    }
    return subprocess.Popen(  # noqa: S603 - our own arguments
        [_PYTHON, "-m", "ministack"],
        cwd=scratch,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_ministack/health", timeout=1):
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    message = f"the AWS stand-in did not start within {_SECONDS_TO_START} s; {_kept(log)}"
    raise StandInError(message)


def _kept(log: Path) -> str:
    """Keep the log beyond the run and say where."""
    keep = ROOT / "build" / "stand-in.log"
    keep.parent.mkdir(exist_ok=True)
    shutil.copy(log, keep)
    return f"its log is in {keep.relative_to(ROOT)}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the stand-in and the function processes that it started (its session)."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
