"""Between the function and all of AWS: counts every call, and breaks those that it is told to break."""

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
    """What can befall a call."""

    KILL_BEFORE = "the process is killed before"
    KILL_AFTER = "the process is killed after"
    CUT_BEFORE = "the connection is cut before"
    CUT_AFTER = "the connection is cut after"
    SERVER_ERROR = "a server error"
    THROTTLE = "a throttle"
    GARBAGE = "a garbled answer after"
    DENIED = "access denied"


_ERRORS: Final = {
    Break.SERVER_ERROR: (500, "InternalFailure"),
    Break.THROTTLE: (400, "ThrottlingException"),
    Break.DENIED: (400, "AccessDeniedException"),
}


@dataclass(repr=False)
class Chaos:
    """A proxy with a plan."""

    #: Where calls go: to the double of Organizations, all others to the stand-in.
    organizations: str
    others: str
    endpoint: str = ""
    #: Calls since the last time that this was emptied.
    calls: list[str] = field(default_factory=list)
    #: Asked for each call, with its number and its name.
    plan: Callable[[int, str], Break | None] = field(default=lambda _number, _name: None)
    kill: Callable[[], None] = field(default=lambda: None)
    #: Told of each call that is passed on: its name, what was asked, what was answered.
    hear: Callable[[str, bytes, bytes], None] = field(default=lambda _name, _asked, _answered: None)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def count(self, name: str) -> Break | None:
        with self._lock:
            self.calls.append(name)
            return self.plan(len(self.calls), name)

    def forward(
        self, name: str, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Pass a call on; return status, body and headers of the answer."""
        target = self.organizations if name.startswith("Organizations") else self.others
        kept = {key: value for key, value in headers.items() if key not in {"Connection", "Content-Length"}}
        status, answer, told = passed_on(target, method, path, body, kept)
        self.hear(name, body, answer)
        return status, answer, told


@contextmanager
def wreaking(organizations: str, others: str) -> Iterator[Chaos]:
    """Run the proxy on loopback until the block ends."""
    chaos = Chaos(organizations, others)

    class ThisHandler(_Handler):
        pass

    ThisHandler.chaos = chaos
    with served(ThisHandler) as endpoint:
        chaos.endpoint = endpoint
        yield chaos


class _Handler(BaseHTTPRequestHandler):
    """One call: count it, and let happen to it what the plan says."""

    protocol_version = "HTTP/1.1"
    chaos: Chaos

    def do_POST(self) -> None:
        self._pass()

    def do_PUT(self) -> None:
        self._pass()

    def do_GET(self) -> None:
        self._pass()

    def do_HEAD(self) -> None:
        self._pass()

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = self._name(body)
        what = self.chaos.count(name)
        if what in {Break.KILL_BEFORE, Break.CUT_BEFORE}:
            self._end(what)
        elif what in _ERRORS:
            self._refuse(*_ERRORS[what])
        else:
            status, answer, headers = self.chaos.forward(name, self.command, self.path, body, dict(self.headers))
            if what in {Break.KILL_AFTER, Break.CUT_AFTER}:
                self._end(what)
            elif what is Break.GARBAGE:
                self._answer(500, b"\x00\xff garbage", {})
            else:
                self._answer(status, answer, headers)

    def _name(self, body: bytes) -> str:
        """Return service and operation: from the target of JSON, the action of a form; of S3, the method."""
        prefix, _, operation = self.headers.get("X-Amz-Target", "").rpartition(".")
        if prefix:
            return f"{_SERVICES[prefix]}.{operation}"
        [action] = parse_qs(body.decode("latin-1")).get("Action", [""])
        return f"Form.{action}" if action else f"S3.{self.command}"

    def _end(self, what: Break | None) -> None:
        if what in {Break.KILL_BEFORE, Break.KILL_AFTER}:
            self.chaos.kill()
        cut(self)

    def _refuse(self, status: int, code: str) -> None:
        if "X-Amz-Target" in self.headers:
            self._answer(status, json.dumps({"__type": code, "Message": "chaos"}).encode(), {})
        else:
            xml = f"<Error><Code>{code}</Code><Message>chaos</Message></Error>"
            self._answer(status, xml.encode(), {"Content-Type": "application/xml"})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        told = {key.lower(): value for key, value in headers.items()}
        for key, value in told.items():
            if key.startswith("x-amz-") or key in {"content-type", "etag", "last-modified"}:
                self.send_header(key, value)
        # What is asked for without its body has its length all the same.
        self.send_header("Content-Length", told.get("content-length", "0") if self._is_bare else str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self._is_bare else body)

    @property
    def _is_bare(self) -> bool:
        return self.command == "HEAD"

    def log_message(self, *_: object) -> None:
        pass


class Driver:
    """A running `tests.driver`, one delivery at a time."""

    def __init__(self, environment: Mapping[str, str], *, first: Mapping[str, Any]) -> None:
        """Start it; the first record is handled without a child, and how it ended is not told."""
        self._talk = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.driver"],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._talk,
            text=True,
        )
        self._child = 0
        self._write(first, ahead=0, milliseconds=60_000)
        self._answer("warm")

    def kill(self) -> None:
        """Kill the child that is at work, as the platform would: without a word."""
        os.kill(self._child, signal.SIGKILL)

    def deliver(self, record: Mapping[str, Any], *, ahead: float, milliseconds: int = 60_000) -> int:
        """Deliver a record; return 0 where it is done, 1 where it comes again, less than 0 where it was killed."""
        self._write(record, ahead=ahead, milliseconds=milliseconds)
        self._child = self._answer("pid")
        return self._answer("status")

    def stop(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=HANGS_AFTER)
        self._process.stdout.close()
        self._talk.close()

    def _write(self, record: Mapping[str, Any], *, ahead: float, milliseconds: int) -> None:
        assert self._process.stdin
        delivery = {"record": record, "ahead": ahead, "milliseconds": milliseconds}
        self._process.stdin.write(json.dumps(delivery) + "\n")
        self._process.stdin.flush()

    def _answer(self, name: str) -> int:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._talk.seek(0)
            raise AssertionError(f"the driver has ended:\n{self._talk.read()[-2000:]}")
        found: dict[str, int] = json.loads(line)
        return found[name]
