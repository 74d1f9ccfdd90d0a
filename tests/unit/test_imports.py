"""Imports run one way: entry points, bootstrap, aws, core, schemas; infra imports no tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from infra.deploy.build import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What a room may import of ours, and what of others it must not.
ALLOWED: dict[str, set[str]] = {
    "schemas": {"schemas"},
    "handlers.core": {"handlers.core", "schemas"},
    "handlers.aws": {"handlers.aws", "handlers.core", "schemas"},
    "handlers.settings": {"schemas"},
    "handlers.clock": set(),
    "handlers.bootstrap": {"handlers.aws", "handlers.clock", "handlers.core", "handlers.settings", "schemas"},
    "handlers.operate.workbench": {"handlers.aws", "handlers.clock", "handlers.core", "schemas"},
    "handlers.operate": {"handlers.operate", "handlers.operate.workbench", "handlers.core", "schemas"},
    "an entry point": {"handlers.bootstrap", "handlers.clock", "handlers.core", "schemas"},
}
FORBIDDEN = {
    "schemas": {"boto3", "botocore", "aws_lambda_powertools", "os", "io", "pathlib", "socket", "time"},
    "handlers.core": {"boto3", "botocore", "aws_lambda_powertools", "os", "io", "pathlib", "socket", "time"},
}
INFRA = sorted((ROOT / "infra").rglob("*.py"))
MODULES = sorted([*(ROOT / "handlers").rglob("*.py"), *(ROOT / "schemas").rglob("*.py")])


def room(module: str) -> str:
    for name in ALLOWED:
        if module == name or module.startswith(f"{name}."):
            return name
    return "an entry point"


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=map(name_of, MODULES))
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    where = room(name_of(path))
    ours = {name for name in imported(path) if name.split(".")[0] in {"handlers", "schemas", "infra", "tests"}}

    assert {room(name) if name != "infra" else name for name in ours} <= ALLOWED[where]
    assert not {name.split(".")[0] for name in imported(path)} & FORBIDDEN.get(where, set())


@pytest.mark.parametrize("path", INFRA, ids=map(name_of, INFRA))
def test_infra_imports_no_tests(path: Path) -> None:
    assert "tests" not in {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", [path for path in MODULES if room(name_of(path)) == "handlers.core"], ids=name_of)
def test_a_decision_asks_no_clock_but_the_one_it_is_given(path: Path) -> None:
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "datetime"
    }

    assert not calls & {"now", "utcnow", "today"}


def test_an_entry_point_imports_with_an_empty_environment_and_calls_nobody() -> None:
    code = """if True:
        import sys
        def watch(event, arguments):
            assert not event.startswith("socket."), event
        sys.addaudithook(watch)
        import handlers.attach_policies
    """

    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], cwd=ROOT, env={}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
