"""What `proof` and `verify --proof` do: write a proof that an object is in the sealed log, and check one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from handlers.core.evidence.proofs import Proof, differs, prove
from handlers.core.evidence.verify_log import LogReader
from handlers.core.evidence.verifying import Findings
from handlers.operate.errors import OperateError
from handlers.operate.files import read_file, writing_to
from handlers.operate.hints import as_typed
from handlers.operate.output import hint, print_json, stderr, stdout
from handlers.operate.progress import counting
from handlers.operate.sealed_folder import MAX_OBJECT
from handlers.operate.signatures import is_signed
from handlers.operate.sorted_records import SortedRecords
from handlers.operate.verifying import read_keys, read_text

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from handlers.core.evidence.verify_log import ReadLog
    from handlers.operate.verifying import Source


_AFTER_MISMATCH: Final = (
    "get the object above in this version from the bucket, and compare that; if it is the same as this file, see "
    "handlers/operate/RUNBOOK.md#a-verification-found-something"
)


def make(source: Source, key: str, version_id: str | None, now: datetime) -> Proof:
    """Return the proof of an object."""
    return prove(read_log(source, now), source.bucket, key, version_id)


def read_log(source: Source, now: datetime) -> ReadLog:
    """Read the log up to its last checkpoint.

    Raises PermanentError if there is no log that the keys signed; RetryableError if a call fails.
    """
    with counting("verifying") as show:
        reader = LogReader(source.bucket, source.keys, is_signed, Findings(), now, show)
        return reader.read(SortedRecords(), SortedRecords())


def write(source: Source, proof: Proof, out: Path | None, *, as_json: bool) -> int:
    """Write a proof; return the exit status."""
    text = proof.encode()
    if out:
        with writing_to(out):
            out.write_text(text, encoding="utf-8")
    if as_json:
        proved = proof.check(source.keys, is_signed)
        leaf = proved.leaf.model_dump(mode="json", exclude_none=True)
        print_json({"index": proof.index, "leaf": leaf, "keys": list(map(str, source.keys)), "proof": text})
    elif not out:
        click.echo(text, nl=False)
    name = out or "FILE"
    hint(f"Whoever has the public key checks it: `verify --proof {name} --key KEYFILE --object OBJECT`")
    for each in source.keys:
        stderr.print(f"The line of KEYFILE: {each}")
    return 0


def _object(path: Path) -> bytes:
    try:
        return read_file(path, MAX_OBJECT)
    except OSError as error:
        raise OperateError(f"cannot read {path}: {error.strerror}. Name a copy of the object") from error


def check(proof_file: Path, key_file: Path, object_file: Path | None, *, as_json: bool) -> int:
    """Check a proof without AWS, and the object that it is about; return the exit status."""
    keys = read_keys(key_file)
    try:
        proof = Proof.parse(read_text(proof_file, "proof"))
        proved = proof.check(keys, is_signed)
    except ValueError as error:
        raise OperateError(
            f"{proof_file}: {error}. Do not rely on it: check that {key_file} has the key of this log "
            "(`joinguard verify --json` prints it), and ask for a new proof"
        ) from None
    wrong = differs(proved.leaf, _object(object_file)) if object_file else None
    leaf = proved.leaf.model_dump(mode="json", exclude_none=True)
    if as_json:
        fields = {"valid": wrong is None, "index": proof.index, "size": proved.checkpoint.size, "leaf": leaf}
        print_json(fields | {"origin": proved.checkpoint.origin, "compared": object_file is not None, "why": wrong})
    else:
        if object_file:
            says = f"is not the object that was sealed: {wrong}" if wrong else "is the object that was sealed"
            stdout.print(f"{object_file} {says}", soft_wrap=True)
        stdout.print(
            f"{proved.leaf.key} is leaf {proof.index:,} of {proved.checkpoint.size:,} in {proved.checkpoint.origin}",
            soft_wrap=True,
        )
        for name, value in leaf.items():
            stdout.print(f"{name:14} {value}", soft_wrap=True)
        if not object_file:
            stderr.print("The object itself was not compared: add --object FILE", style="yellow")
        if wrong:
            hint(as_typed(f"→ {_AFTER_MISMATCH}"))
    return 1 if wrong else 0
