"""Write a pack as a folder: all of it, or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from handlers.operate.errors import OperateError
from handlers.operate.output import clean
from schemas.pack import Manifest, PackFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schemas.pack import Pack

MANIFEST: Final = "manifest.json"


def refuse_taken(folder: Path) -> None:
    """Raise OperateError unless a folder can be made here: it does not exist, or is empty."""
    shown = clean(str(folder))
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise OperateError(f"{shown} is not a folder. Name one that does not exist, or an empty one")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise OperateError(f"the folder {shown} is not empty. Name one that does not exist, or an empty one")
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperateError(f"cannot write to {shown}: {error.strerror}") from error


def write_folder(folder: Path, pack: Pack, files: Iterable[tuple[str, bytes]]) -> Manifest:
    """Write files and the manifest beside the folder, and give them its name when everything is written.

    Only the caller can read the folder. Raises OperateError if that fails, and leaves nothing behind.
    """
    refuse_taken(folder)
    try:
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            written = tuple(sorted(_written(unfinished, files), key=lambda each: each.path))
            manifest = Manifest(
                organization_id=pack.organization_id,
                period=pack.period,
                made_at=pack.made_at,
                reveals=pack.reveals,
                files=written,
            )
            (unfinished / MANIFEST).write_bytes(manifest_bytes(manifest))
            # This replaces an empty folder, and fails if somebody has put something into it.
            unfinished.replace(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except OSError as error:
        raise OperateError(f"cannot write {clean(str(folder))}: {error.strerror}") from error
    return manifest


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return a manifest as it is written."""
    return manifest.model_dump_json(indent=2).encode() + b"\n"


def _written(folder: Path, files: Iterable[tuple[str, bytes]]) -> Iterator[PackFile]:
    for name, content in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise OperateError(f"{clean(name)} is not a name of a file in the pack")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield PackFile(path=name, size=len(content), sha256=sha256(content).hexdigest())
