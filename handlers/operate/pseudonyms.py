"""What the commands about pseudonyms have in common: their audit records, and what they say about keys."""

from collections.abc import Iterable, Sequence

from handlers.operate.context import Context
from handlers.operate.output import hint, plain
from handlers.operate.tables import Cell, lines, print_table
from schemas.audit import MessageDigest
from schemas.pseudonym import Pseudonym


def digests(values: Iterable[str]) -> list[MessageDigest]:
    """Return what an audit record holds of pseudonyms: themselves, and nothing of what they stand for."""
    return [MessageDigest(event_id=each) for each in values]


def print_pseudonyms(title: str, rows: Iterable[tuple[Pseudonym, str]], current: str) -> None:
    """Print a table of pseudonyms, of what they stand for, and of their keys, given the key in force."""
    cells: list[Sequence[Cell]] = []
    for pseudonym, text in rows:
        which = "current" if pseudonym.key_version == current else "former"
        key = plain(f"{which} key {pseudonym.key_version}", "dim")
        # In one column, because none of them is short.
        cells.append([lines(plain(pseudonym.value, "bold"), text, key)])
    print_table(title, ["pseudonym, what it stands for, key"], cells)


def say_lost(context: Context) -> None:
    """Say which former keys do not exist any more."""
    for each in context.pseudonyms.lost_keys:
        hint(
            f"key {each} does not exist any more, or is disabled: nobody can resolve or compare the pseudonyms that "
            "were made with it",
            "yellow",
        )
