"""A stateful double of AWS Organizations with the real service's rates, conflicts, limits and faults.

`Organizations` answers calls, on any clock. `serving` puts it on loopback behind the real HTTP protocol, so that
boto3 and the function can call it (AWS_ENDPOINT_URL_ORGANIZATIONS).
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, fields
from enum import StrEnum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from infra.local.waiting import HANGS_AFTER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

READ, ATTACH, DETACH, DESCRIBE = "ListPoliciesForTarget", "AttachPolicy", "DetachPolicy", "DescribeAccount"
_WRITES: Final = frozenset({ATTACH, DETACH})
FULL_ACCESS: Final = "p-FullAWSAccess"


class Fault(StrEnum):
    """Faults that the double injects at random."""

    THROTTLE = "throttle"
    CONFLICT = "conflict"
    IN_PROGRESS = "in-progress"
    SERVER_ERROR = "server-error"
    GATEWAY = "gateway"
    GARBAGE = "garbage"
    #: The connection is reset before the call has an effect.
    CUT = "cut"
    #: The call takes effect, and the connection is reset before the response.
    CUT_AFTER = "cut-after"


_FAULTS: Final = {
    Fault.THROTTLE: (400, "TooManyRequestsException"),
    Fault.CONFLICT: (400, "ConcurrentModificationException"),
    Fault.IN_PROGRESS: (400, "PolicyChangesInProgressException"),
    Fault.SERVER_ERROR: (500, "ServiceException"),
}
#: What a call answers about an account that is not a member, unless it is TargetNotFoundException.
_NOT_FOUND: Final = {DESCRIBE: "AccountNotFoundException"}
#: The reasons of ConstraintViolationException.
_TOO_MANY: Final = "MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED"
_LAST: Final = "MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED"


@dataclass(frozen=True)
class Rules:
    """How the double behaves.

    Rates are calls per second, with bursts, as AWS documents them (2026):
    https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html
    Each of AttachPolicy and DetachPolicy has the rate of attachments, and each call that reads has that of reads.
    """

    attach_rate: float = 2.0
    attach_burst: float = 3.0
    read_rate: float = 5.0
    read_burst: float = 8.0
    #: Mean duration of a call in seconds; each call takes 50 % to 150 % of it. Overlapping writes conflict.
    write_seconds: float = 0.15
    read_seconds: float = 0.05
    max_attached: int = 10
    #: Seconds after a join during which calls answer TargetNotFoundException.
    unknown_for: float = 0.0
    #: Seconds after the start during which calls answer FinalizingOrganizationException.
    finalizing_for: float = 0.0
    type_enabled: bool = True
    #: Policies per page. With `empty_pages`, an empty page with a token comes before each page.
    page_size: int = 20
    empty_pages: bool = False
    #: Share of calls that fail at random; the seed makes the faults repeatable.
    faults: float = 0.0
    seed: int = 1
    #: Seconds of the double per real second.
    time_scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Rules:
        """Parse rules such as `faults=0.2,seed=7`; raise ValueError naming an unknown rule."""
        known = {each.name: each.default for each in fields(cls)}
        given: dict[str, Any] = {}
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            if name.strip() not in known:
                raise ValueError(f"{name.strip()!r} is not a rule of FAULTS; use one of {', '.join(known)}")
            given[name.strip()] = _value(name.strip(), known[name.strip()], value.strip())
        return cls(**given)


def _value(name: str, default: object, text: str) -> object:
    if isinstance(default, bool):
        return text in {"1", "true", "yes"}
    try:
        number = int(text) if isinstance(default, int) else float(text)
    except ValueError:
        number = -1
    at_least = sys.float_info.min if name in _POSITIVE else 0
    at_most, what = (1, "a number from 0 to 1") if name == "faults" else (sys.maxsize, "a number")
    # This form of the condition rejects NaN too.
    if not at_least <= number <= at_most:
        more = " above 0" if at_least else ""
        raise ValueError(f"{name}={text} in FAULTS is not possible; use {what}{more}, such as {default}")
    return number


#: Rules by which something is divided, or of which there is at least one.
_POSITIVE: Final = frozenset({"attach_rate", "attach_burst", "read_rate", "read_burst", "page_size", "time_scale"})


class Clock(Protocol):
    """A clock in seconds, real or virtual."""

    def seconds(self) -> float:
        """Return the time."""

    def wait(self, seconds: float) -> None:
        """Wait for this many seconds."""


class RealClock:
    """The machine's clock, sped up by a factor."""

    def __init__(self, scale: float = 1) -> None:
        self._scale = scale

    def seconds(self) -> float:
        """Return the scaled time."""
        return time.monotonic() * self._scale

    def wait(self, seconds: float) -> None:
        """Sleep for the real time that these seconds take."""
        time.sleep(seconds / self._scale)


class Bucket:
    """A token bucket; a refused call takes no token."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, now

    def take(self, now: float) -> bool:
        """Take a token if there is one; return whether there was."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True)
class Answer:
    """An HTTP response; body None means that the connection is reset instead."""

    status: int
    body: bytes | None


@dataclass(repr=False)
class Organizations:
    """An organization, its attachments, and its answer to each call."""

    rules: Rules = field(default_factory=Rules)
    clock: Clock = field(default_factory=RealClock)
    policies: set[str] = field(default_factory=set)
    attached: dict[str, list[str]] = field(default_factory=dict)
    #: Every attachment in order: seconds, policy id, account id.
    history: list[tuple[float, str, str]] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    #: Number of failed calls by operation and error.
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: When the double started, in seconds of the epoch.
    started_at: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        """Fill the token buckets and start the clock."""
        now = self._start = self.clock.seconds()
        self._lock = threading.Lock()
        self._rng = Random(self.rules.seed)  # noqa: S311 - faults, not secrets
        rules = self.rules
        self._buckets = {
            **{each: Bucket(rules.attach_rate, rules.attach_burst, now) for each in (ATTACH, DETACH)},
            **{each: Bucket(rules.read_rate, rules.read_burst, now) for each in (READ, DESCRIBE)},
        }
        self._joined: dict[str, float] = {}
        self._writing_until = now

    def join(self, *account_ids: str) -> None:
        """Add accounts, or make members join again, with FullAWSAccess alone."""
        for account_id in account_ids:
            self.attached[account_id] = [FULL_ACCESS]
            self._joined[account_id] = self.clock.seconds()

    def leave(self, account_id: str) -> None:
        """Remove an account."""
        del self.attached[account_id]

    def answer(self, operation: str, request: dict[str, str]) -> Answer:
        """Answer a call as AWS would, and take about as long as AWS does."""
        with self._lock:
            self.calls[operation] += 1
            problem, fault = self._admit(operation, request)
            mean = self.rules.write_seconds if operation in _WRITES else self.rules.read_seconds
            seconds = mean * self._rng.uniform(0.5, 1.5)
            if problem is None and operation in _WRITES:
                self._writing_until = self.clock.seconds() + seconds
        if problem:
            self.clock.wait(self.rules.read_seconds)
            return self._refuse(operation, *problem)
        self.clock.wait(seconds)
        if fault is Fault.CUT:
            return self._spoil(operation, fault, Answer(0, None))
        with self._lock:
            answer = self._carry_out(operation, request)
        return self._spoil(operation, fault, answer)

    def _admit(self, operation: str, request: dict[str, str]) -> tuple[tuple[int, str] | None, Fault | None]:
        """Decide whether to refuse a call, and which random fault it meets.

        Returns status and code of a refusal, or None; and a fault for a call that is not refused, or None.
        """
        now = self.clock.seconds()
        account_id = _account_of(request)
        if not self._buckets[operation].take(now):
            return (400, "TooManyRequestsException"), None
        fault = self._rng.choice(list(Fault)) if self._rng.random() < self.rules.faults else None
        if fault in _FAULTS:
            return _FAULTS[fault], None
        if now < self._start + self.rules.finalizing_for:
            return (400, "FinalizingOrganizationException"), None
        if account_id not in self.attached or now < self._joined[account_id] + self.rules.unknown_for:
            return (400, _NOT_FOUND.get(operation, "TargetNotFoundException")), None
        if operation in _WRITES and now < self._writing_until:
            return (400, "ConcurrentModificationException"), None
        return None, fault

    def _carry_out(self, operation: str, request: dict[str, str]) -> Answer:
        match operation:
            case "AttachPolicy":
                return self._attach(request)
            case "DetachPolicy":
                return self._detach(request)
            case "DescribeAccount":
                return self._describe(request)
        return self._list(request)

    def _attach(self, request: dict[str, str]) -> Answer:
        policy_id, account_id = request["PolicyId"], request["TargetId"]
        carried = self.attached.get(account_id, [])
        problem, reason = None, ""
        if policy_id not in self.policies:
            problem = "PolicyNotFoundException"
        elif not self.rules.type_enabled:
            problem = "PolicyTypeNotEnabledException"
        elif policy_id in carried:
            problem = "DuplicatePolicyAttachmentException"
        elif len(carried) >= self.rules.max_attached:
            problem, reason = "ConstraintViolationException", _TOO_MANY
        if problem:
            return self._refuse(ATTACH, 400, problem, reason)
        carried.append(policy_id)
        self.history.append((self.clock.seconds(), policy_id, account_id))
        return Answer(200, b"")

    def _detach(self, request: dict[str, str]) -> Answer:
        policy_id, carried = request["PolicyId"], self.attached.get(request["TargetId"], [])
        problem, reason = None, ""
        if policy_id not in {*self.policies, FULL_ACCESS}:
            problem = "PolicyNotFoundException"
        elif policy_id not in carried:
            problem = "PolicyNotAttachedException"
        elif carried == [policy_id]:
            problem, reason = "ConstraintViolationException", _LAST
        if problem:
            return self._refuse(DETACH, 400, problem, reason)
        carried.remove(policy_id)
        return Answer(200, b"")

    def _describe(self, request: dict[str, str]) -> Answer:
        account_id = request["AccountId"]
        joined = self.started_at + self._joined[account_id] - self._start
        return _json(200, {"Account": {"Id": account_id, "State": "ACTIVE", "JoinedTimestamp": joined}})

    def _list(self, request: dict[str, str]) -> Answer:
        carried = self.attached.get(request["TargetId"], [])
        token = request.get("NextToken", "")
        if self.rules.empty_pages and not token.endswith("!"):
            return _json(200, {"Policies": [], "NextToken": f"{token or 0}!"})
        begin = int(token.rstrip("!") or 0)
        end = begin + self.rules.page_size
        page = [
            {"Id": policy_id, "Type": "SERVICE_CONTROL_POLICY", "AwsManaged": policy_id == FULL_ACCESS}
            for policy_id in carried[begin:end]
        ]
        return _json(200, {"Policies": page} | ({"NextToken": str(end)} if end < len(carried) else {}))

    def _spoil(self, operation: str, fault: Fault | None, answer: Answer) -> Answer:
        if fault is None:
            return answer
        self.refused[operation, fault] += 1
        if fault is Fault.GATEWAY:
            return Answer(502, b"<html>Bad Gateway</html>")
        if fault is Fault.GARBAGE:
            return Answer(500, b"\x00\xffgarbage")
        return Answer(0, None)

    def _refuse(self, operation: str, status: int, code: str, reason: str = "") -> Answer:
        self.refused[operation, code] += 1
        body = {"__type": code, "Message": f"{code} from the double of Organizations"}
        return _json(status, body | ({"Reason": reason} if reason else {}))


def _account_of(request: Mapping[str, str]) -> str:
    return request.get("TargetId") or request["AccountId"]


def _json(status: int, body: object) -> Answer:
    return Answer(status, json.dumps(body).encode())


@contextmanager
def serving(organizations: Organizations, *, port: int = 0) -> Iterator[str]:
    """Serve a double on loopback within the block; yield its endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            answer = organizations.answer(operation, request)
            if answer.body is None:
                cut(self)
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    with served(Handler, port=port) as endpoint:
        yield endpoint


@contextmanager
def served(handler: type[BaseHTTPRequestHandler], *, port: int = 0) -> Iterator[str]:
    """Serve requests on loopback within the block; yield the endpoint."""
    # With Nagle's algorithm, the body waits for the acknowledgement of the headers: 40 ms per call.
    handler.disable_nagle_algorithm = True
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def passed_on(
    endpoint: str, method: str, path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[int, bytes, Mapping[str, str]]:
    """Send a request on loopback, without a proxy; return status, body and headers of the response."""
    with closing(HTTPConnection(urlsplit(endpoint).netloc, timeout=HANGS_AFTER)) as connection:
        connection.request(method, path, body, {**headers, "Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.headers)


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Reset a connection without a response."""
    handler.close_connection = True
    with suppress(OSError):
        # With a linger time of 0, close sends a reset (RST) instead of FIN.
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()


def policies_of(organizations: Organizations, account_ids: Iterable[str]) -> dict[str, set[str]]:
    """Return the policies attached to each account, without FullAWSAccess."""
    return {each: set(organizations.attached[each]) - {FULL_ACCESS} for each in account_ids}
