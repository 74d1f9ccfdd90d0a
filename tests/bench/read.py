"""Read all objects of a bucket once, in a process of its own: with a bare loop, or as `joinguard verify` does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
import click
from botocore.config import Config

from handlers.aws.s3_verify import S3SealedBucket
from handlers.clock import SystemClock
from handlers.core.evidence.checkpoint import VerifierKey
from handlers.core.evidence.verify import Verifier, VerifyDependencies, VerifyRequest
from handlers.operate.signatures import is_signed
from handlers.operate.sorted_records import SortedRecords
from handlers.operate.verifying import FileProgress
from schemas.verification import FindingKind

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectVersionTypeDef

BUCKET: Final = "evidence"
_THREADS: Final = 16


@click.group()
def main() -> None:
    """Read all objects once; the peak memory of the process, in KiB, is the last line of stderr."""


@main.result_callback()
def _peak(_result: object) -> None:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    click.echo(status.partition("VmHWM:")[2].split()[0], err=True)


@main.command()
def loop() -> None:
    """List all versions and get each."""
    s3 = _client()
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET):
        for each in page["Versions"]:
            _get(s3, each)


@main.command()
def loop_in_threads() -> None:
    """List all versions and get them in threads."""
    s3 = _client()
    with ThreadPoolExecutor(_THREADS) as pool:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET):
            list(pool.map(lambda each: _get(s3, each), page["Versions"]))


@main.command()
@click.argument("key")
@click.argument("progress", type=click.Path(path_type=Path))
@click.argument("objects", type=int)
@click.option("--quick", is_flag=True)
def verify(key: str, progress: Path, objects: int, *, quick: bool) -> None:
    """Verify all objects; fail if another number of them is valid."""
    dependencies = VerifyDependencies(
        S3SealedBucket(_client(), BUCKET, None),
        is_signed,
        SortedRecords,
        FileProgress(progress),
        SystemClock(),
        lambda _part, _number: None,
    )
    found = Verifier(dependencies, VerifyRequest([VerifierKey.parse(key)], is_quick=quick)).run().verification
    # The benchmark's log has an end.
    if found.valid != objects or {each.kind for each in found.findings} - {FindingKind.GAP}:
        raise click.ClickException(f"{found.valid} objects are valid; {found.findings[:3]}")


def _client() -> S3Client:
    return boto3.client("s3", config=Config(max_pool_connections=_THREADS))


def _get(s3: S3Client, version: ObjectVersionTypeDef) -> None:
    s3.get_object(Bucket=BUCKET, Key=version["Key"], VersionId=version["VersionId"])["Body"].read()


if __name__ == "__main__":
    main()
