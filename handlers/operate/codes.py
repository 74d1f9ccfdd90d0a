"""Tell a mistyped code from one that nothing has."""

from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches

import click

from handlers.core.redrive.dead_letter import DeadLetter
from handlers.operate.completion import CODES


def check_codes(wanted: Iterable[str], seen: Collection[str]) -> None:
    """Raise UsageError for a code that is neither known nor among those that were seen; name the nearest one."""
    known = sorted({*CODES, *seen})
    by_lower = {each.lower(): each for each in known}
    for code in wanted:
        if code not in known:
            near = get_close_matches(code[:128].lower(), by_lower, 1)
            meant = f"Did you mean {by_lower[near[0]]}?" if near else "`list --by code` shows those of the messages"
            raise click.UsageError(f"nothing has the code {code}, and the worker writes no such code. {meant}")


def noting_codes(dead_letters: Iterable[DeadLetter], codes: set[str]) -> Iterator[DeadLetter]:
    """Yield messages, and note their codes."""
    for each in dead_letters:
        codes.add(each.code)
        yield each
