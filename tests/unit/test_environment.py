"""The environment of embedded runs, without the settings of their user."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.request import proxy_bypass

import pytest

from infra.local.environment import isolate_from_user

if TYPE_CHECKING:
    from collections.abc import Mapping


def test_the_settings_of_aws_and_python_are_removed() -> None:
    environ = {
        "AWS_PROFILE": "nobody",
        "AWS_ENDPOINT_URL_DYNAMODB": "http://elsewhere",
        "AWS_CONFIG_FILE": "/home/somebody/.aws/config",
        "AWS_A_FUTURE_SETTING": "1",
        "PYTHONPATH": "/elsewhere",
        "PYTHONWARNINGS": "error",
        "PATH": "/bin",
        "HTTPS_PROXY": "http://proxy",
    }

    isolate_from_user(environ)

    assert environ.pop("no_proxy") == environ.pop("NO_PROXY")
    assert environ == {
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PATH": "/bin",
        "HTTPS_PROXY": "http://proxy",
    }


@pytest.mark.parametrize(
    "before", [{}, {"NO_PROXY": "example.com"}, {"no_proxy": "example.com", "NO_PROXY": "other"}, {"no_proxy": "*"}]
)
def test_loopback_bypasses_the_proxy_and_other_hosts_do_as_before(
    before: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    environ = dict(os.environ)

    isolate_from_user(environ)
    isolate_from_user(environ)

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, environ[name])
    assert proxy_bypass("127.0.0.1:4566")
    assert proxy_bypass("localhost")
    assert bool(proxy_bypass("pypi.org")) is (before.get("no_proxy") == "*")
    assert bool(proxy_bypass("example.com")) is bool(before)
