"""Build the function's zip: our code from the commit, packages from the lock, the same bytes every time.

Nothing is compiled here and no Docker is needed: uv fetches the wheels of the target platform.
"""

import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from uv import find_uv_bin

from infra.deploy.sources import BuildError, sources

ROOT: Final = Path(__file__).resolve().parents[2]
#: The function's runtime.
RUNTIME: Final = "3.13"
Architecture = Literal["arm64", "x86_64"]
#: The C library of Lambda's Amazon Linux 2023 (glibc 2.34); wheels made for an older one run too.
_PLATFORMS: Final[dict[str, str]] = {
    "arm64": "aarch64-manylinux_2_34",
    "x86_64": "x86_64-manylinux_2_34",
}
#: Of a package's metadata only what scanners read stays; the rest differs from machine to machine.
_METADATA_KEPT: Final = frozenset({"METADATA", "entry_points.txt"})

#: Parts of packages that nothing of ours ever imports; a fifth of the zip.
_UNUSED: Final = ("aws_lambda_powertools/event_handler", "pydantic/v1")


@dataclass(frozen=True)
class Package:
    """A built zip."""

    path: Path
    #: The interpreter whose compiled files are in it; None where it was not at hand.
    compiled_by: str | None


def build(
    *,
    python_version: str = RUNTIME,
    architecture: Architecture = "arm64",
    target: Path | None = None,
    allow_dirty: bool = False,
) -> Package:
    """Build the zip for an interpreter version and an architecture, from the last commit or the files as they are here.

    Raises BuildError naming what differs from the commit, and with uv's own words where the packages cannot be had.
    """
    code = sources(ROOT, allow_dirty=allow_dirty)
    path = target or ROOT / "build" / f"joinguard-py{python_version}-{architecture}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        stage = Path(scratch) / "stage"
        _install(stage, python_version, architecture)
        for name, content in code.items():
            file = stage / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        _prune(stage)
        interpreter = _find_python(python_version)
        if interpreter:
            _compile(interpreter, stage)
        unfinished = Path(scratch) / "unfinished.zip"
        _zip(stage, unfinished)
        unfinished.replace(path)
    return Package(path, interpreter)


def _install(stage: Path, python_version: str, architecture: Architecture) -> None:
    requirements = _uv("export", "--frozen", "--only-group", "function", "--format", "requirements.txt")
    file = stage.parent / "requirements.txt"
    file.write_text(requirements)
    options = {
        "--target": str(stage),
        "--python-version": python_version,
        "--python-platform": _PLATFORMS[architecture],
        "--only-binary": ":all:",
        "--requirements": str(file),
    }
    _uv("pip", "install", "--require-hashes", "--no-deps", "--link-mode=copy", *_flat(options))


def _flat(options: dict[str, str]) -> Iterator[str]:
    for option in options.items():
        yield from option


def _find_python(version: str) -> str | None:
    """Find an interpreter of exactly the function's version; its compiled files are of no use to another."""
    try:
        # Where pyenv's shims come first on the path, they answer only for the version that it is told.
        return _uv("python", "find", "--system", "--no-python-downloads", version, PYENV_VERSION=version).strip()
    except BuildError:
        return None


def _uv(*arguments: str, **variables: str) -> str:
    command = [find_uv_bin(), "--directory", str(ROOT), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | variables
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - our own arguments
    if done.returncode:
        raise BuildError(f"uv {' '.join(arguments[:2])} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _prune(stage: Path) -> None:
    """Remove what does not run and what differs from machine to machine."""
    unused = [stage / part for part in _UNUSED]
    for unwanted in [*unused, stage / "bin", stage / ".lock", *stage.rglob("__pycache__"), *stage.rglob("*.pyi")]:
        if unwanted.is_dir():
            shutil.rmtree(unwanted)
        else:
            unwanted.unlink(missing_ok=True)
    for metadata in stage.glob("*.dist-info"):
        for file in metadata.iterdir():
            if file.is_file() and file.name not in _METADATA_KEPT:
                file.unlink()


def _compile(interpreter: str, stage: Path) -> None:
    """Add compiled files that are never checked against their sources: importing them costs no look-ups."""
    command = [interpreter, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(stage), "-p", "/var/task", str(stage)]
    environment = dict(os.environ) | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - our own arguments
    if done.returncode:
        raise BuildError(f"{interpreter} could not compile the package: {done.stdout.strip() or done.stderr.strip()}")


def _zip(stage: Path, target: Path) -> None:
    """Zip in a fixed order, with fixed times and modes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in sorted(path for path in stage.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(stage).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
