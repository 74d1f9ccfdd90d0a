"""A profile that cannot assume one of the stack's roles: the operators' tool says why, and what to change."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from handlers.core.evidence.actor import is_generated
from handlers.operate.errors import OperateError
from handlers.operate.installation import open_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROFILE = """[default]
aws_access_key_id = x
aws_secret_access_key = x
[profile joinguard]
role_arn = arn:aws:iam::111111111111:role/OperatorActs
source_profile = default
"""


class Sts:
    """An STS that lets nobody assume a role, and records the names of the sessions."""

    def __init__(self) -> None:
        self.code = "AccessDenied"
        self.names: list[str] = []
        sts = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                sts.names += request["RoleSessionName"]
                self.send_response(403 if sts.code == "AccessDenied" else 400)
                self.end_headers()
                self.wfile.write(f"<ErrorResponse><Error><Code>{sts.code}</Code></Error></ErrorResponse>".encode())

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def sts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sts]:
    sts = Sts()
    thread = Thread(target=sts.server.serve_forever)
    thread.start()
    (tmp_path / "config").write_text(PROFILE)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{sts.server.server_port}")
    yield sts
    sts.server.shutdown()
    thread.join()
    sts.server.server_close()


def error() -> str:
    with pytest.raises(OperateError) as raised:
        open_context("joinguard", "joinguard", "us-east-1", 1)
    return str(raised.value)


def test_without_a_name_the_sdk_generates_one_and_the_error_says_how_to_choose_one(sts: Sts) -> None:
    assert "refuse generated names of sessions" in error()
    assert "Set role_session_name in your profile" in error()
    assert all(is_generated(name) for name in sts.names)


def test_the_name_in_a_profile_is_that_of_the_session(sts: Sts, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(f"{PROFILE}role_session_name = jane@example.com\n")

    error()

    assert sts.names == ["jane@example.com"]


def test_a_profile_with_a_longer_duration_than_the_roles_is_told_to_remove_it(sts: Sts, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(f"{PROFILE}duration_seconds = 14400\n")
    sts.code = "ValidationError"

    assert "Remove duration_seconds from the profile" in error()
