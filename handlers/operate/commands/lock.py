"""`lock`."""

from collections.abc import Callable
from pathlib import Path

import click

from handlers.operate.context import OrganizationContext
from handlers.operate.options import as_json, document_argument, with_organization
from handlers.operate.output import Command


@click.command(
    cls=Command,
    examples=("joinguard lock", "joinguard lock infra/guardrails/prod.yaml --check"),
)
@document_argument
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit status 1 if the lock file is stale.")
@as_json
@with_organization
def lock(organize: Callable[[], OrganizationContext], document: Path, *, only_check: bool, as_json: bool) -> int:
    """Look up the names of a guardrails DOCUMENT in the organization, and write its lock file for review.

    Shows what changed since the lock file was made: policies renamed, deleted, or with other content, OUs moved or
    gone. Exit status 1 if a name is not found or an example fails; then nothing is written.
    """
    # The models of the document take a while to import, and no other command needs them.
    from handlers.operate.locking import run  # noqa: PLC0415 - see above

    return run(organize(), document, only_check=only_check, as_json=as_json)
