"""`verify`."""

from datetime import datetime
from pathlib import Path

import click

from handlers.operate.context import Connection
from handlers.operate.options import DayType, as_json, check_days, with_connection
from handlers.operate.output import Command

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(
    cls=Command,
    examples=(
        "joinguard verify",
        "joinguard verify --quick --json",
        "joinguard verify --offline . --key log.key",
        "joinguard verify --proof object.tlog-proof --key log.key",
    ),
)
@click.option(
    "--from", "since", type=DayType(), metavar="DAY", help="Only objects that S3 stored on or after this day (UTC)."
)
@click.option("--to", "last_day", type=DayType(), metavar="DAY", help="Only objects that S3 stored until this day.")
@click.option(
    "--quick", is_flag=True, help="Compare the listing of the bucket with the log: no bytes, retention and outcomes."
)
@click.option(
    "--offline",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="Verify a download of the bucket (aws s3 sync), without AWS; needs --key.",
)
@click.option(
    "--key",
    "key_file",
    type=_FILE,
    help="A file with the log's public keys, one in a line (NAME+ID+KEY). Default: the key of the stack in KMS.",
)
@click.option(
    "--against",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A checkpoint that was kept elsewhere, or a folder of them. Can be repeated.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file that keeps the progress. Default: one in your cache directory.",
)
@click.option("--proof", "proof_file", type=_FILE, help="Only check this proof of one object; needs --key.")
@click.option("--object", "object_file", type=_FILE, help="The object that the proof is about, to compare its bytes.")
@as_json
@with_connection
def verify(  # noqa: PLR0913 - the options of the command
    connection: Connection,
    *,
    since: datetime | None,
    last_day: datetime | None,
    quick: bool,
    folder: Path | None,
    key_file: Path | None,
    against: tuple[Path, ...],
    resume: Path | None,
    proof_file: Path | None,
    object_file: Path | None,
    as_json: bool,
) -> int:
    """Verify the sealed log, the evidence in the bucket, the outcomes, and what accounts carry now.

    It changes nothing, and an interrupted verification goes on where it was. Exit status 1 if something was found.
    """
    if (folder or proof_file) and not key_file:
        raise click.UsageError("--offline and --proof need the log's public key. Add --key FILE")
    without = {"--from": since, "--to": last_day, "--quick": quick, "--offline": folder, "--against": against}
    if proof_file and (given := [name for name, value in (without | {"--resume": resume}).items() if value]):
        raise click.UsageError(
            f"--proof excludes {', '.join(given)}: it checks that proof alone. Remove one or the other"
        )
    if object_file and not proof_file:
        raise click.UsageError("--object is compared with a proof. Add --proof FILE")
    if resume and (quick or folder):
        raise click.UsageError("--quick and --offline keep no progress. Remove them, or --resume")
    check_days(since, last_day, connection.now())
    # `cryptography` and the models of the log take a while to import, and few commands need them.
    from handlers.operate import proving, verifying  # noqa: PLC0415 - see above

    if proof_file and key_file:
        return proving.check(proof_file, key_file, object_file, as_json=as_json)
    request = verifying.Request(
        since=since,
        last_day=last_day,
        is_quick=quick,
        folder=folder,
        key_file=key_file,
        against=against,
        resume=resume,
        as_json=as_json,
    )
    return verifying.verify(request, connection)
