"""`pseudonym`."""

from collections.abc import Sequence

import click

from handlers.core.evidence.resolve import ACCOUNT, NAME, PRINCIPAL, Candidate
from handlers.operate.context import Context
from handlers.operate.options import NAME_FORM, PRINCIPAL_FORM, AccountIdType, as_json, recorded_reason, with_context
from handlers.operate.output import Command, print_json
from handlers.operate.pseudonyms import digests, print_pseudonyms, say_lost
from schemas.ids import AccountId


@click.command(
    cls=Command,
    examples=(
        'joinguard pseudonym 222222222222 --reason "audit 2026"',
        'joinguard pseudonym --session jane@example.com --reason "INC-123"',
    ),
)
@click.argument("account_ids", metavar="[ACCOUNT]...", nargs=-1, type=AccountIdType())
@click.option(
    "--principal",
    "arns",
    multiple=True,
    metavar="ARN",
    type=PRINCIPAL_FORM,
    help="A session, user or role. Can be repeated.",
)
@click.option(
    "--session",
    "names",
    multiple=True,
    metavar="NAME",
    type=NAME_FORM,
    help="The name of a session or user. Can be repeated.",
)
@recorded_reason
@as_json
@with_context
def pseudonym(  # noqa: PLR0913 - the options of the command
    context: Context,
    account_ids: Sequence[AccountId],
    arns: Sequence[str],
    names: Sequence[str],
    *,
    reason: str,
    as_json: bool,
) -> None:
    """Show under which pseudonyms records hold an account, a principal or a person, with the current and former keys.

    The pseudonyms are on record before they are shown, with who asked and why; the names are not.
    """
    kinds = ((ACCOUNT, account_ids), (PRINCIPAL, arns), (NAME, names))
    asked = [Candidate(kind, text) for kind, texts in kinds for text in dict.fromkeys(texts)]
    if not asked:
        raise click.UsageError("nothing to derive a pseudonym of. Add account ids, --principal ARN, or --session NAME")
    keys = list(context.pseudonyms.under_each_key())
    found = [(each, made) for each in asked for made in each.under(keys)]
    values = [made.value for _, made in found]
    with context.begin("pseudonym", reason, digests(values)) as audited:
        audited.add("derived", values)
    current = context.pseudonyms.key_version
    if as_json:
        print_json(
            [
                {
                    "name": each.text,
                    "pseudonym": made.value,
                    "key_version": made.key_version,
                    "current": made.key_version == current,
                }
                for each, made in found
            ]
        )
    else:
        print_pseudonyms("Pseudonyms", [(made, each.text) for each, made in found], current)
    say_lost(context)
