"""Imports run one way: entry points, bootstrap, aws, core, schemas; infra imports no tests."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from infra.deploy.build import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The rooms, and which of our modules each may import. All rooms of `core` may import the shared kernel.
KERNEL = {
    "handlers.core.errors",
    "handlers.core.plurals",
    "handlers.core.ports",
    "handlers.core.redaction",
    "handlers.core.timing",
}
DECISIONS = {
    "handlers.core.joins",
    "handlers.core.guardrails",
    "handlers.core.reconcile",
    "handlers.core.evidence",
    "handlers.core.redrive",
}
ALLOWED: dict[str, set[str]] = {
    "schemas": {"schemas"},
    **{module: {*KERNEL, "schemas"} for module in KERNEL},
    "handlers.core.guardrails": {*KERNEL, "handlers.core.guardrails", "schemas"},
    "handlers.core.evidence": {*KERNEL, "handlers.core.evidence", "schemas"},
    "handlers.core.joins": {
        *KERNEL,
        "handlers.core.joins",
        "handlers.core.guardrails",
        "handlers.core.evidence",
        "schemas",
    },
    "handlers.core.redrive": {
        *KERNEL,
        "handlers.core.redrive",
        "handlers.core.guardrails",
        "handlers.core.evidence",
        "schemas",
    },
    "handlers.core.reconcile": {
        *KERNEL,
        "handlers.core.reconcile",
        "handlers.core.guardrails",
        "handlers.core.evidence",
        "schemas",
    },
    "handlers.aws": {"handlers.aws", *KERNEL, *DECISIONS, "schemas"},
    "handlers.settings": {"schemas"},
    "handlers.clock": set(),
    "handlers.time_limit": set(),
    "handlers.bootstrap": {"handlers.aws", "handlers.clock", *KERNEL, *DECISIONS, "handlers.settings", "schemas"},
    "handlers.operate.installation": {
        "handlers.aws",
        "handlers.clock",
        *DECISIONS,
        "handlers.operate",
        "handlers.operate.errors",
        "schemas",
    },
    "handlers.operate.errors": set(),
    "handlers.operate.commands": {
        "handlers.operate",
        "handlers.operate.errors",
        *KERNEL,
        *DECISIONS,
        "schemas",
    },
    "handlers.operate.__main__": {
        "handlers.operate",
        "handlers.operate.commands",
        "handlers.operate.installation",
        "handlers.operate.errors",
        *KERNEL,
        *DECISIONS,
    },
    "handlers.operate.start": {"handlers.operate.__main__", "handlers.operate.errors"},
    "handlers.operate": {
        "handlers.operate",
        "handlers.operate.errors",
        *KERNEL,
        *DECISIONS,
        "schemas",
    },
    "handlers.batch": {"handlers.time_limit", *KERNEL, *DECISIONS, "schemas"},
    "handlers.sweeping": {*KERNEL, *DECISIONS, "schemas"},
    "handlers.sealing": {*KERNEL, *DECISIONS, "schemas"},
    "an entry point": {"handlers.batch", "handlers.bootstrap", "handlers.sealing", "handlers.sweeping"},
}
FORBIDDEN = {"boto3", "botocore", "aws_lambda_powertools", "click", "os", "io", "pathlib", "socket", "time"}
INFRA = sorted((ROOT / "infra").rglob("*.py"))
MODULES = sorted([*(ROOT / "handlers").rglob("*.py"), *(ROOT / "schemas").rglob("*.py")])


def room(module: str) -> str:
    """Return the room of a module: the longest name in ALLOWED that its name begins with."""
    rooms = [name for name in ALLOWED if module == name or module.startswith(f"{name}.")]
    return max(rooms, key=len, default="an entry point")


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

    assert {room(name) if name.startswith(("handlers", "schemas")) else name for name in ours} <= ALLOWED[where]
    if where.startswith(("handlers.core", "schemas")):
        assert not {name.split(".")[0] for name in imported(path)} & FORBIDDEN


def test_the_rooms_of_core_are_the_kernel_and_these() -> None:
    """A module outside these rooms could be imported from everywhere."""
    modules = {name_of(path) for path in MODULES if name_of(path).startswith("handlers.core.")}

    assert {room(name) for name in modules} == KERNEL | DECISIONS


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.parent.name == "commands"], ids=lambda path: path.stem
)
def test_a_command_imports_no_other_command(path: Path) -> None:
    assert not {name for name in imported(path) if name.startswith("handlers.operate.commands")}


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path).startswith("handlers.core")], ids=name_of)
def test_core_contains_no_error_codes_of_aws(path: Path) -> None:
    """`handlers.aws.errors` maps codes to causes."""
    strings = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value
    }

    assert not {text for text in strings if re.fullmatch(r"[A-Z][A-Za-z]+(Exception|Denied|Key|Limit)", text)}


@pytest.mark.parametrize("path", INFRA, ids=map(name_of, INFRA))
def test_infra_imports_no_tests(path: Path) -> None:
    assert "tests" not in {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path).startswith("handlers.core")], ids=name_of)
def test_core_reads_no_clock_except_the_one_that_it_receives(path: Path) -> None:
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "datetime"
    }

    assert not calls & {"now", "utcnow", "today"}


def test_the_entry_point_imports_with_an_empty_environment_and_without_a_network_call() -> None:
    code = """if True:
        import sys
        def watch(event, arguments):
            assert not event.startswith("socket."), event
        sys.addaudithook(watch)
        import handlers.attach_policies
    """

    result = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], cwd=ROOT, env={}, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
