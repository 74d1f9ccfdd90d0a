"""A proxy between the function and Organizations that counts calls and fails some of them."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from threading import Lock
from typing import TYPE_CHECKING, Any

from infra.local.organizations import passed_on, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Relay:
    """Forward calls, count them by operation, and fail those that a test has chosen."""

    def __init__(self) -> None:
        #: The endpoint of Organizations; set once it is known.
        self.target = ""
        self.endpoint = ""
        self._lock = Lock()
        self._calls: Counter[str] = Counter()
        self._failures: dict[str, list[tuple[int, str]]] = {}
        self._message = "injected"
        self._fault: tuple[int, str] | None = None
        self._changes: dict[str, Callable[[Any], None]] = {}

    def fail_next(self, operation: str, *faults: tuple[int, str]) -> None:
        """Fail the next calls of an operation with these HTTP statuses and error codes."""
        with self._lock:
            self._failures.setdefault(operation, []).extend(faults)

    def say(self, message: str) -> None:
        """Set the message of each failed call, until `reset`."""
        self._message = message

    def change_answers(self, operation: str, change: Callable[[Any], None]) -> None:
        """Change the answers of an operation, each a JSON object that `change` may change."""
        with self._lock:
            self._changes[operation] = change

    def reset(self) -> None:
        """Forward all calls and answers again, and reset the counts."""
        with self._lock:
            self._failures.clear()
            self._changes.clear()
            self._calls.clear()
            self._message = "injected"

    def fail_all(self, fault: tuple[int, str]) -> None:
        """Fail every call with this HTTP status and error code."""
        self._fault = fault

    def counted(self) -> dict[str, int]:
        """Return the number of calls of each operation since the last call of this method."""
        with self._lock:
            calls, self._calls = self._calls, Counter()
        return dict(calls)

    def answer(self, operation: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Count a call, and fail it or forward it."""
        with self._lock:
            self._calls[operation] += 1
            failures = self._failures.get(operation)
            fault = failures.pop(0) if failures else self._fault
            change = self._changes.get(operation)
        if fault:
            return fault[0], json.dumps({"__type": fault[1], "Message": self._message}).encode()
        kept = {key: value for key, value in headers.items() if key not in {"Connection", "Content-Length"}}
        status, answer, _ = passed_on(self.target, "POST", "/", body, kept)
        if not change or status != HTTPStatus.OK:
            return status, answer
        content = json.loads(answer)
        change(content)
        return status, json.dumps(content).encode()


@contextmanager
def running_relay() -> Iterator[Relay]:
    """Run a relay on loopback until the block ends."""
    relay = Relay()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            status, answer = relay.answer(operation, body, dict(self.headers))
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with served(Handler) as endpoint:
        relay.endpoint = endpoint
        yield relay
