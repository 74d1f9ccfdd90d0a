"""The function's zip."""

from __future__ import annotations

import platform
import subprocess
import sys
import zipfile
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from infra.deploy.__main__ import cli
from infra.deploy.build import ROOT, Architecture, build
from infra.deploy.sources import BuildError
from infra.local.installation import build_local

if TYPE_CHECKING:
    from pathlib import Path

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
MACHINE: Architecture = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"


@pytest.fixture(scope="module")
def package() -> Path:
    return build_local()


def test_the_same_sources_give_the_same_bytes(package: Path, tmp_path: Path) -> None:
    again = build(python_version=HERE, architecture=MACHINE, target=tmp_path / "again.zip", allow_dirty=True)

    assert again.path.read_bytes() == package.read_bytes()


def test_the_zip_contains_only_the_functions_packages(package: Path) -> None:
    names = zipfile.ZipFile(package).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}

    assert {"handlers", "schemas", "pydantic", "pydantic_core", "aws_lambda_powertools"} <= tops
    assert not tops & {"boto3", "botocore", "infra", "tests", "bin", "aws_xray_sdk", "moto", "rich"}
    assert not [name for name in names if name.endswith((".pyi", ".yaml", ".md"))]


def test_the_zip_contains_only_code_of_ours_and_not_the_operators_tool(package: Path) -> None:
    names = [name for name in zipfile.ZipFile(package).namelist() if name.startswith(("handlers/", "schemas/"))]

    assert not [name for name in names if not name.endswith((".py", ".pyc"))]
    assert not [name for name in names if name.startswith(("handlers/operate/", "schemas/json/"))]


def test_the_zip_is_smaller_than_six_megabytes(package: Path) -> None:
    assert package.stat().st_size < 6_000_000


def test_the_zip_is_compiled_for_its_interpreter_and_imports_without_other_packages(
    package: Path, tmp_path: Path
) -> None:
    """Python uses the compiled files as they are, and neither compiles nor checks any at start."""
    zipfile.ZipFile(package).extractall(tmp_path)
    compiled = sorted(tmp_path.rglob("attach_policies.*.pyc"))
    code = "import sys; sys.path.insert(0, '.'); import handlers.attach_policies as m; print(m.__cached__)"

    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-I", "-B", "-c", code], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )

    assert len(compiled) == 1
    # Flags 1: hash-based, never checked against the source (PEP 552).
    assert compiled[0].read_bytes()[4:8] == (1).to_bytes(4, "little")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"__pycache__/{compiled[0].name}")


def test_the_zip_of_another_architecture_contains_its_libraries(tmp_path: Path) -> None:
    target = tmp_path / "arm64.zip"
    path = build(python_version="3.13", architecture="arm64", target=target, allow_dirty=True).path

    libraries = [name for name in zipfile.ZipFile(path).namelist() if name.endswith(".so")]

    assert libraries
    assert all("aarch64" in name for name in libraries)


#: The packages that the function imports. Each one makes the start slower: measure before you add one.
IMPORTED = {
    "annotated_types",
    "aws_lambda_powertools",
    "boto3",
    "botocore",
    "dateutil",
    "handlers",
    "jmespath",
    "pydantic",
    "pydantic_core",
    "s3transfer",
    "schemas",
    "six",
    "typing_extensions",
    "typing_inspection",
    "urllib3",
}
HEAVY = {"aws_xray_sdk", "ctypes.util", "pydantic.v1", "sqlite3", "unittest", "xml.dom"}
#: Includes asyncio, which Powertools' batch utility imports although nothing here uses it.
MODULES = 635


def test_the_function_imports_only_the_listed_packages(package: Path, tmp_path: Path) -> None:
    """Count modules, not seconds, so that the result is the same on every machine."""
    zipfile.ZipFile(package).extractall(tmp_path)
    code = "import sys; sys.path.insert(0, '.'); import handlers.attach_policies; print(*sys.modules)"
    runtime = ROOT / ".venv-lambda" / "bin" / "python"

    done = subprocess.run(  # noqa: S603 - our own code
        [str(runtime), "-c", code], cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    )

    modules = set(done.stdout.split())
    ours = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    assert {name for name in ours if not name.startswith(("_", "__"))} <= IMPORTED
    assert not modules & HEAVY
    assert len(modules) <= MODULES


def test_the_function_imports_nothing_of_the_operators_tool() -> None:
    """Accounts are without guardrails while the function starts."""
    code = "import sys; import handlers.attach_policies; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - our own code

    modules = set(done.stdout.split())
    decisions = {name.removeprefix("handlers.core.") for name in modules if name.startswith("handlers.core.")}
    assert decisions == {
        "errors",
        "evidence",
        "evidence.ports",
        "evidence.references",
        "evidence.rehearsals",
        "joins",
        "joins.attach",
        "joins.attempt",
        "joins.claims",
        "joins.depart",
        "joins.policy_change",
        "joins.rehearse",
        "joins.restores",
        "joins.run",
        "joins.requests",
        "joins.worker",
        "joins.yielding",
        "guardrails",
        "guardrails.conditions",
        "guardrails.evaluate",
        "guardrails.facts",
        "guardrails.places",
        "guardrails.ports",
        "guardrails.reading",
        "guardrails.scope",
        "joins.failure_attributes",
        "joins.ports",
        "ports",
        "redaction",
        "timing",
    }
    assert not {"schemas.audit", "schemas.guardrails"} & modules


@pytest.fixture
def no_interpreters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide all interpreters that uv could find outside this project's environment."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path))


def build_by_command(version: str, architecture: str) -> tuple[str, list[str]]:
    """Run the command; check what it prints, and return its notice and the names in the zip."""
    arguments = ["--python-version", version, "--architecture", architecture, "--allow-dirty"]
    built = CliRunner().invoke(cli, ["build", *arguments])
    assert built.exit_code == 0, built.exception
    name, size, _, _, digest = built.stdout.split()
    path = ROOT / name
    assert (name, digest) == (
        f"build/joinguard-py{version}-{architecture}.zip",
        sha256(path.read_bytes()).hexdigest(),
    )
    assert int(size.replace(",", "")) == path.stat().st_size
    return " ".join(built.stderr.split()), zipfile.ZipFile(path).namelist()


@pytest.mark.usefixtures("no_interpreters")
def test_without_the_runtimes_interpreter_the_zip_has_only_sources_and_the_command_says_so() -> None:
    notice, names = build_by_command("3.12", "arm64")

    assert "To include them, put python3.12 on PATH" in notice
    assert not [each for each in names if each.endswith(".pyc")]


def test_with_the_runtimes_interpreter_the_command_has_nothing_to_say() -> None:
    notice, names = build_by_command(HERE, MACHINE)

    assert notice == ""
    assert "handlers/attach_policies.py" in names
    assert [
        each for each in names if each.startswith("handlers/__pycache__/attach_policies.") and each.endswith(".pyc")
    ]


def test_a_package_that_cannot_be_compiled_is_an_error_with_the_compilers_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "compileall.py").write_text("raise SystemExit('No space left on device')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with pytest.raises(BuildError, match="failed to compile the package: No space left on device"):
        build(python_version=HERE, architecture=MACHINE, target=tmp_path / "x.zip", allow_dirty=True)
    assert not (tmp_path / "x.zip").exists()


def test_a_zip_of_other_sources_is_deleted_and_one_of_the_same_sources_is_reused(tmp_path: Path) -> None:
    outdated = tmp_path / "joinguard-py3.11-x86_64-0000000000000000.zip"
    outdated.write_bytes(b"old")

    first = build_local(tmp_path)
    assert list(tmp_path.iterdir()) == [first]
    written = first.stat()
    assert build_local(tmp_path) == first
    assert first.stat().st_mtime_ns == written.st_mtime_ns
