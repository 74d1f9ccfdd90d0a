"""`proof`."""

from pathlib import Path

import click

from handlers.operate.context import Connection
from handlers.operate.options import SEALED_KEY_FORM, as_json, with_connection
from handlers.operate.output import Command


@click.command(
    cls=Command,
    examples=(
        "joinguard proof evidence/2026/11/25/EVENT/ACCOUNT/0001.json > object.tlog-proof",
        "joinguard proof acts/2026/11/25/ACTION/done.json --out done.tlog-proof",
    ),
)
@click.argument("key", metavar="KEY", type=SEALED_KEY_FORM)
@click.option("--version", "version_id", metavar="ID", help="The version of the object. Default: the first one.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file instead of stdout.")
@click.option(
    "--offline",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="Prove from a download of the bucket (aws s3 sync), without AWS; needs --key.",
)
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file with the log's public keys. Default: the key of the stack in KMS.",
)
@as_json
@with_connection
def proof(  # noqa: PLR0913 - the options of the command
    connection: Connection,
    *,
    key: str,
    version_id: str | None,
    out: Path | None,
    folder: Path | None,
    key_file: Path | None,
    as_json: bool,
) -> int:
    """Write a proof that the object with a KEY is in the sealed log, for anybody with the log's public key.

    The proof is a text in the format of c2sp.org/tlog-proof, with what was sealed of the object.
    """
    if folder and not key_file:
        raise click.UsageError("--offline needs the log's public key. Add --key FILE")
    # As for `verify`.
    from handlers.operate import proving, verifying  # noqa: PLC0415 - see above

    source = verifying.open_source(connection, folder, key_file)
    made = proving.make(source, key, version_id, connection.now())
    return proving.write(source, made, out, as_json=as_json)
