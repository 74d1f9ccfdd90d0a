"""A proxy between the function and AWS that counts every call and breaks calls as planned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from infra.deploy.build import ROOT
from infra.local.organizations import cut, passed_on, served
from infra.local.waiting import HANGS_AFTER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SERVICES: Final = {
    "AWSOrganizationsV20161128": "Organizations",
    "DynamoDB_20120810": "DynamoDB",
    "AmazonSQS": "SQS",
    "TrentService": "KMS",
}


class Break(StrEnum):
    """The ways in which a call can break."""

    KILL_BEFORE = "the process is killed before"
    KILL_AFTER = "the process is killed after"
    CUT_BEFORE = "the connection is cut before"
    CUT_AFTER = "the connection is cut after"
    SERVER_ERROR = "a server error"
    THROTTLE = "a throttle"
    GARBAGE = "a garbled response after"
    DENIED = "access denied"


_ERRORS: Final = {
    Break.SERVER_ERROR: (500, "InternalFailure"),
    Break.THROTTLE: (400, "ThrottlingException"),
    Break.DENIED: (400, "AccessDeniedException"),
}


@dataclass(repr=False)
class Chaos:
    """The state of the proxy."""

    #: The endpoints of the double of Organizations and of the stand-in for all other services.
    organizations: str
    others: str
    endpoint: str = ""
    #: The names of all calls since a test last cleared the list.
    calls: list[str] = field(default_factory=list)
    #: Returns how to break a call, given its number and its name.
    plan: Callable[[int, str], Break | None] = field(default=lambda _number, _name: None)
    kill: Callable[[], None] = field(default=lambda: None)
    #: Called after each forwarded call with its name, its request and its response.
    on_response: Callable[[str, bytes, bytes], None] = field(default=lambda _name, _request, _response: None)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def count(self, name: str) -> Break | None:
        with self._lock:
            self.calls.append(name)
            return self.plan(len(self.calls), name)

    def forward(
        self, name: str, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Forward a call; return the status, body and headers of the response."""
        target = self.organizations if name.startswith("Organizations") else self.others
        kept = {key: value for key, value in headers.items() if key not in {"Connection", "Content-Length"}}
        status, response, response_headers = passed_on(target, method, path, body, kept)
        self.on_response(name, body, response)
        return status, response, response_headers


@contextmanager
def running_chaos(organizations: str, others: str) -> Iterator[Chaos]:
    """Run the proxy on loopback until the block ends."""
    chaos = Chaos(organizations, others)

    class ThisHandler(_Handler):
        pass

    ThisHandler.chaos = chaos
    with served(ThisHandler) as endpoint:
        chaos.endpoint = endpoint
        yield chaos


class _Handler(BaseHTTPRequestHandler):
    """Count each call, and forward or break it as planned."""

    protocol_version = "HTTP/1.1"
    chaos: Chaos

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = self._name(body)
        what = self.chaos.count(name)
        if what in {Break.KILL_BEFORE, Break.CUT_BEFORE}:
            self._cut(what)
        elif what in _ERRORS:
            self._reject(*_ERRORS[what])
        else:
            status, answer, headers = self.chaos.forward(name, self.command, self.path, body, dict(self.headers))
            if what in {Break.KILL_AFTER, Break.CUT_AFTER}:
                self._cut(what)
            elif what is Break.GARBAGE:
                self._answer(500, b"\x00\xff garbage", {})
            else:
                self._answer(status, answer, headers)

    def _name(self, body: bytes) -> str:
        """Return service and operation: from the JSON target or the form's action, or for S3 the HTTP method."""
        prefix, _, operation = self.headers.get("X-Amz-Target", "").rpartition(".")
        if prefix:
            return f"{_SERVICES[prefix]}.{operation}"
        [action] = parse_qs(body.decode("latin-1")).get("Action", [""])
        return f"Form.{action}" if action else f"S3.{self.command}"

    def _cut(self, what: Break | None) -> None:
        if what in {Break.KILL_BEFORE, Break.KILL_AFTER}:
            self.chaos.kill()
        cut(self)

    def _reject(self, status: int, code: str) -> None:
        if "X-Amz-Target" in self.headers:
            self._answer(status, json.dumps({"__type": code, "Message": "chaos"}).encode(), {})
        else:
            xml = f"<Error><Code>{code}</Code><Message>chaos</Message></Error>"
            self._answer(status, xml.encode(), {"Content-Type": "application/xml"})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        lower = {key.lower(): value for key, value in headers.items()}
        for key, value in lower.items():
            if key.startswith("x-amz-") or key in {"content-type", "etag", "last-modified"}:
                self.send_header(key, value)
        # The response to HEAD has the length of the body that it omits.
        self.send_header("Content-Length", lower.get("content-length", "0") if self._is_head else str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self._is_head else body)

    @property
    def _is_head(self) -> bool:
        return self.command == "HEAD"

    def log_message(self, *_: object) -> None:
        pass


class Driver:
    """A `tests.driver` process, which handles one delivery at a time."""

    def __init__(self, environment: Mapping[str, str], *, first: Mapping[str, Any]) -> None:
        """Start the process. It handles the first record without a child process and does not report its result."""
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.driver"],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        self._child = 0
        self._write(first, ahead=0, milliseconds=60_000)
        self._answer("warm")

    def kill(self) -> None:
        """Kill the child process that handles the delivery, without warning, as Lambda would."""
        os.kill(self._child, signal.SIGKILL)

    def deliver(self, record: Mapping[str, Any], *, ahead: float, milliseconds: int = 60_000) -> int:
        """Deliver a record; return 0 if it succeeded, 1 if it is to be retried, and less than 0 if it was killed."""
        self._write(record, ahead=ahead, milliseconds=milliseconds)
        self._child = self._answer("pid")
        return self._answer("status")

    def stop(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=HANGS_AFTER)
        self._process.stdout.close()
        self._stderr.close()

    def _write(self, record: Mapping[str, Any], *, ahead: float, milliseconds: int) -> None:
        assert self._process.stdin
        delivery = {"record": record, "ahead": ahead, "milliseconds": milliseconds}
        self._process.stdin.write(json.dumps(delivery) + "\n")
        self._process.stdin.flush()

    def _answer(self, name: str) -> int:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._stderr.seek(0)
            raise AssertionError(f"the driver has ended:\n{self._stderr.read()[-2000:]}")
        answer: dict[str, int] = json.loads(line)
        return answer[name]
