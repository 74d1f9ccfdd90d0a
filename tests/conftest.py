"""What holds for all tests: the environment, the examples that Hypothesis tries, and failures that can be read."""

from __future__ import annotations

import os
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

#: What a test and the processes that it starts see of their user's environment: where programs, files and packages are.
_SEEN: Final = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "XDG_CACHE_HOME", "NETRC"}
_SEEN_BEGINNINGS: Final = ("LC_", "LD_", "DYLD_", "UV_", "PIP_", "SSL_", "PYENV_", "PYTEST_", "COV_", "COVERAGE_")
_SEEN_ENDS: Final = ("_PROXY",)
#: A fixture is shown with each failing assertion and with each example that fails.
_LONGEST_REPR: Final = 500


def _once(load: Callable[[JSONFileLoader, str], object]) -> Callable[[JSONFileLoader, str], object]:
    loader = JSONFileLoader()
    read = cache(lambda path: load(loader, path))
    return lambda _self, path: read(path)


# Each session reads the models of its services anew, which takes longer than most tests' own work.
JSONFileLoader.load_file = _once(JSONFileLoader.load_file)  # type: ignore[method-assign, assignment]

# The same examples each time, and no bound on time: whether a run is green depends on the code and on nothing else.
settings.register_profile(
    "same",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
# Others each time: make test ARGS="--hypothesis-profile=others".
settings.register_profile("others", settings.get_profile("same"), derandomize=False, print_blob=True)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scenarios", type=int, default=2_000, help="How many histories of the protocol's model are run.")


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Leave the user's environment behind; late enough for pytest's own settings, before any worker is started."""
    for name in list(os.environ):
        upper = name.upper()
        seen = name in _SEEN or upper.startswith(_SEEN_BEGINNINGS) or upper.endswith(_SEEN_ENDS)
        if not seen:
            del os.environ[name]
    isolate_from_user()
    os.umask(0o022)
    # What is started in the background ignores interrupts, and so would the processes that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Refuse a fixture whose repr would hide why a test failed; a parameter is the test's own business."""
    found = yield
    if is_dataclass(found):
        # Hypothesis shows all fields of a dataclass, whatever its repr says.
        kind = type(found)
        for_type_by_name(kind.__module__, kind.__name__, lambda value, printer, _: printer.text(repr(value)))
    length = 0 if hasattr(request, "param") else max(len(repr(found)), len(pretty(found)))
    assert length <= _LONGEST_REPR, f"the repr of fixture {fixturedef.argname} takes {length} characters"
    return found
