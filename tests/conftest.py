"""Settings for all tests: the environment, Hypothesis, and readable failures."""

from __future__ import annotations

import os
import pickle
import signal
from dataclasses import is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import pytest
from botocore.loaders import JSONFileLoader
from hypothesis import HealthCheck, settings
from hypothesis.vendor.pretty import for_type_by_name, pretty

from infra.local.environment import isolate_from_user

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

#: The variables that tests keep of their user's environment: where programs, files and packages are.
_KEPT: Final = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "XDG_CACHE_HOME", "NETRC"}
_KEPT_PREFIXES: Final = ("LC_", "LD_", "DYLD_", "UV_", "PIP_", "SSL_", "PYENV_", "PYTEST_", "COV_", "COVERAGE_")
_KEPT_SUFFIXES: Final = ("_PROXY",)
#: pytest prints the repr of a fixture with each failed assertion, and Hypothesis with each failed example.
_LONGEST_REPR: Final = 500


def _once(load: Callable[[JSONFileLoader, str], object]) -> Callable[[JSONFileLoader, str], object]:
    """Return a loader that reads each file once; each call returns a copy, because moto changes what it loads."""
    loader = JSONFileLoader()
    read = cache(lambda path: pickle.dumps(load(loader, path)))
    return lambda _self, path: pickle.loads(read(path))  # noqa: S301 - our own bytes


# Every boto3 session would read the service models again, which takes longer than most tests.
JSONFileLoader.load_file = _once(JSONFileLoader.load_file)  # type: ignore[method-assign, assignment]

# The same examples in every run and no deadline, so that the result of a run depends on the code only.
settings.register_profile(
    "same",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
# Different examples in each run: make test ARGS="--hypothesis-profile=others".
settings.register_profile("others", settings.get_profile("same"), derandomize=False, print_blob=True)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scenarios", type=int, default=2_000, help="The number of histories of the model.")


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Remove the user's environment, after pytest has read its own settings and before it starts workers."""
    for name in list(os.environ):
        upper = name.upper()
        kept = name in _KEPT or upper.startswith(_KEPT_PREFIXES) or upper.endswith(_KEPT_SUFFIXES)
        if not kept:
            del os.environ[name]
    isolate_from_user()
    os.umask(0o022)
    # A process started in the background ignores interrupts, and so would the processes that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Reject a fixture whose long repr would hide why a test failed, except for parametrized fixtures."""
    fixture = yield
    if is_dataclass(fixture):
        # Hypothesis prints all fields of a dataclass and ignores its repr.
        kind = type(fixture)
        for_type_by_name(kind.__module__, kind.__name__, lambda value, printer, _: printer.text(repr(value)))
    length = 0 if hasattr(request, "param") else max(len(repr(fixture)), len(pretty(fixture)))
    assert length <= _LONGEST_REPR, f"the repr of fixture {fixturedef.argname} takes {length} characters"
    return fixture
