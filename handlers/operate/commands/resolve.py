"""`resolve`."""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO, Final

import click

from handlers.core.evidence.resolve import ACCOUNT, Candidate, Resolved, accounts, people
from handlers.core.evidence.resolve import resolve as resolve_pseudonyms
from handlers.operate.context import Connection, Context
from handlers.operate.files import text_in
from handlers.operate.options import PSEUDONYM_FORM, InputFileType, as_json, recorded_reason, with_connection
from handlers.operate.output import Command, hint, print_json
from handlers.operate.pseudonyms import digests, print_pseudonyms, say_lost

#: More bytes than the names of the largest organization's people take.
_MAX_FILE: Final = 16_777_216


@click.command(
    cls=Command,
    examples=(
        'joinguard resolve acct-52bae77317b6e63f83be0c1b773d1b95 --reason "INC-123"',
        'joinguard resolve name-0f3a5c7e9b1d2f4a6c8e0b2d4f6a8c0e --candidates people.txt --reason "INC-123"',
    ),
)
@click.argument("values", metavar="PSEUDONYM...", nargs=-1, required=True, type=PSEUDONYM_FORM)
@click.option(
    "--candidates",
    "file",
    type=InputFileType(),
    metavar="FILE",
    help="A file with names of sessions and users, ARNs, or account ids, one a line; `-` for stdin.",
)
@recorded_reason
@as_json
@with_connection
def resolve(connection: Connection, values: Sequence[str], file: BinaryIO | None, *, reason: str, as_json: bool) -> int:
    """Show which account, principal or person pseudonyms stand for, as far as a candidate does.

    Accounts are those of the organization, and those that have left and of which there are outcomes. For people, name
    the candidates. The pseudonyms are on record before anything is shown, with who asked and why; the names are not.
    Exit status 1 if one is not resolved.
    """
    given = _given(file) if file else []
    context = connection()
    wanted = list(dict.fromkeys(values))
    keys = list(context.pseudonyms.under_each_key())
    with context.begin("resolve", reason, digests(wanted)) as audited:
        candidates = chain(_given_candidates(context, given), _account_candidates(connection, context, wanted))
        found = resolve_pseudonyms(wanted, candidates, keys)
        unknown = [each for each in wanted if each not in found]
        audited.add("resolved", list(found))
        audited.add("unknown", unknown)
    current = context.pseudonyms.key_version
    if as_json:
        print_json([_fields(each, found.get(each), current) for each in wanted])
    elif found:
        rows = [(found[each].pseudonym, found[each].text) for each in wanted if each in found]
        print_pseudonyms("Resolved", rows, current)
    if unknown:
        hint(f"not resolved: {', '.join(unknown)}. {_why(unknown, named=bool(given))}", "yellow")
        say_lost(context)
    return int(bool(unknown))


def _given(file: BinaryIO) -> list[str]:
    """Return the candidates of a file; raise UsageError if it has none."""
    found = [each.strip() for each in text_in(file, _MAX_FILE).splitlines() if each.strip()]
    if not found:
        raise click.UsageError(
            f"{file.name}: the file has no candidates. Write one a line: a name, an ARN, or an account id"
        )
    return found


def _given_candidates(context: Context, given: Sequence[str]) -> Iterator[Candidate]:
    account_ids = [each for each in given if _is_account(each)]
    arns = [each for each in given if each.startswith("arn:")]
    names = [each for each in given if each not in {*account_ids, *arns}]
    yield from accounts(account_ids)
    yield from people(names, arns, context.roles)


def _account_candidates(connection: Connection, context: Context, wanted: Sequence[str]) -> Iterator[Candidate]:
    """Yield the accounts of the organization, then those of the outcomes; each is read only when it is needed."""
    if any(each.startswith(ACCOUNT) for each in wanted):
        yield from accounts(each.id for each in connection.organization().reader.accounts())
        yield from accounts(filter(_is_account, context.outcomes.account_ids()))


def _is_account(text: str) -> bool:
    return re.fullmatch("[0-9]{12}", text, re.ASCII) is not None


def _fields(value: str, found: Resolved | None, current: str) -> dict[str, Any]:
    return {
        "pseudonym": value,
        "resolved": found is not None,
        "name": found.text if found else None,
        "key_version": found.pseudonym.key_version if found else None,
        "current": found.pseudonym.key_version == current if found else None,
    }


def _why(unknown: Sequence[str], *, named: bool) -> str:
    """Return why pseudonyms may not be resolved, and the next step."""
    steps = []
    if any(each.startswith(ACCOUNT) for each in unknown):
        steps.append(
            "No account of the organization or of the outcomes has the pseudonym of an account; add --candidates FILE "
            "with the ids of accounts that left"
        )
    if any(not each.startswith(ACCOUNT) for each in unknown):
        none, more = ("No candidate has", "more names") if named else ("Only candidates can be compared with", "names")
        steps.append(f"{none} the pseudonym of a person or principal; add --candidates FILE with {more} or ARNs")
    return ". ".join(steps)
