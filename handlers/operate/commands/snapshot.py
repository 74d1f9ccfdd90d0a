"""`snapshot`."""

from collections.abc import Callable
from pathlib import Path

import click

from handlers.core.plurals import count
from handlers.operate.context import OrganizationContext
from handlers.operate.options import as_json, document_argument, with_organization
from handlers.operate.output import Command, print_json, stderr


@click.command(
    cls=Command,
    examples=("joinguard snapshot organization.json",),
)
@click.argument("file", type=click.Path(path_type=Path))
@document_argument
@click.option("--force", is_flag=True, help="Replace the file if it is already there.")
@as_json
@with_organization
def snapshot(
    open_organization: Callable[[], OrganizationContext], file: Path, document: Path, *, force: bool, as_json: bool
) -> int:
    """Record the organization in a FILE, for plans without credentials; only its owner can read the file.

    It holds account ids, names, e-mail addresses, tags, OUs, and all policies of the types that the DOCUMENT names
    (SCPs, if there is no document) with where they are attached.
    """
    # The models take a while to import, and no other command needs them.
    from handlers.operate import planning  # noqa: PLC0415 - see above

    recorded = planning.record(open_organization(), file, document, force=force)
    if as_json:
        unread = [each.model_dump(exclude_none=True) for each in recorded.unread]
        print_json({"file": str(file), "accounts": len(recorded.accounts), "unread": unread})
    else:
        stderr.print(f"{count(len(recorded.accounts), 'account')} in {file}; it is confidential")
        for each in recorded.unread:
            stderr.print(f"could not read {each.part} {each.policy or ''} ({each.code})", style="yellow")
    return 1 if recorded.unread else 0
