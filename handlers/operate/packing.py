"""What `evidence` does: gather the records of a period, and write them as one folder."""

from __future__ import annotations

import gc
import importlib
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from handlers.operate.errors import OperateError
from handlers.operate.output import clean, print_json, stderr, stdout
from handlers.operate.pack.folder import manifest_bytes, refuse_taken, write_folder
from handlers.operate.pack.gather import Request, gather
from handlers.operate.pack.words import integrity
from handlers.operate.progress import writing
from schemas.pack import ProofState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handlers.operate.context import Connection
    from schemas.pack import Manifest, Pack

#: The packages that render a pack, which no other command needs.
_PACKAGES: Final = ("jinja2", "reportlab", "xlsxwriter")
#: The number of new objects after which Python looks for unreachable ones; its default is 700 (3.11) or 2,000.
_COLLECTED_AFTER: Final = 1_000_000


@dataclass(frozen=True)
class _Made:
    pack: Pack
    manifest: Manifest

    @property
    def is_whole(self) -> bool:
        """Whether everything could be read and verified, and is as it was sealed."""
        pack = self.pack
        verified = pack.verification
        return not (
            pack.not_verified
            or (verified and verified.found_any)
            or any(each.unread for each in pack.sources)
            or pack.disagreements
            or any(each.proof is ProofState.DIFFERS for each in pack.objects)
        )


def evidence(request: Request, connection: Connection, *, as_json: bool) -> int:
    """Write the evidence pack of a period; return 1 if something could not be read or verified, or was altered."""
    _require_packages()
    refuse_taken(request.folder)
    with _collecting_rarely():
        pack, proofs = gather(request, connection)
        from handlers.operate.pack.files import files  # noqa: PLC0415 - it imports packages that may not be installed

        with writing() as show:
            made = _Made(pack, write_folder(request.folder, pack, files(pack, proofs, show)))
    _print(request, made, as_json=as_json)
    return 0 if made.is_whole else 1


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Let Python look for unreachable objects less often.

    A pack keeps almost every object that it makes. Each search reads all of them, and took a fifth of the time.
    """
    before = gc.get_threshold()
    gc.set_threshold(_COLLECTED_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _require_packages() -> None:
    """Raise OperateError if packages that render a pack are not installed, before anything is read."""
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise OperateError(
                f"the package {name}, which evidence packs are rendered with, is not installed. Install it: "
                "uv tool install 'joinguard[evidence]' (or pip install 'joinguard[evidence]')"
            ) from error


def _print(request: Request, made: _Made, *, as_json: bool) -> None:
    pack, manifest = made.pack, made.manifest
    digest = sha256(manifest_bytes(manifest)).hexdigest()
    own = [each for each in pack.unproven if not each.is_general]
    if as_json:
        print_json(
            {
                "folder": str(request.folder),
                "manifest_sha256": digest,
                "files": len(manifest.files),
                "reveals": pack.reveals,
                "findings": sum(pack.verification.found.values()) if pack.verification else None,
                "summary": pack.summary.model_dump(mode="json"),
                "unproven": [each.model_dump(mode="json") for each in own],
            }
        )
        return
    if pack.verification and pack.verification.found_any:
        stderr.print(integrity(pack).sentence, style="red")
    for each in own:
        stderr.print(f"not proven: {each.text}", style="yellow")
    stdout.print(f"{clean(str(request.folder))}: {len(manifest.files) + 1} files; begin with report.html")
    stdout.print(f"SHA-256 of manifest.json, to keep elsewhere: {digest}", soft_wrap=True)
    if pack.reveals:
        stderr.print("the pack names accounts by their IDs", style="yellow")
