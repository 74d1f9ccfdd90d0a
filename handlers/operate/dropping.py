"""Commands that take letters away and bring them back: dry without --confirm and --reason, on record."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import click

from handlers.core.redrive.backups import BackupError, restored
from handlers.core.redrive.dead_letter import DeadLetter, Likeness
from handlers.core.redrive.selection import Filter, Plan, select
from handlers.operate.options import acting, filtered, limited, on_workbench
from handlers.operate.planning import end, may, tell
from handlers.operate.screens import advancing, browsed
from handlers.operate.terminal import Command, talk
from handlers.operate.workbench import OperateError, Workbench


@click.command(cls=Command)
@limited
@filtered
@acting
@on_workbench
def drop(bench: Workbench, wanted: Filter, reason: str | None, *, machine: bool) -> None:
    """Take letters away, after a backup of bodies and attributes. Needs a filter."""
    if wanted.is_empty:
        raise click.UsageError("say which letters: a filter or --id is needed to drop")
    with bench.hand() as hand:
        meant, missing = select(browsed(hand, "looking into both queues"), wanted, bench.clock.now())
        chosen = meant[: wanted.limit]
        hand.release_all_but(chosen)
        plan = Plan(tuple(chosen), missing=missing, elsewhere=hand.elsewhere)
        tell(plan, "dropped", machine=machine)
        if not may(plan, reason, machine=machine):
            return
        with bench.begin("drop", reason or "", chosen) as deed:
            kept = bench.back_up(deed, chosen)
            talk.print(f"`restore {kept}` brings back what is dropped now")
            became: dict[str, str] = {}
            try:
                with advancing("dropping", len(chosen)) as advance:
                    for batch in _in_tens(chosen):
                        hand.keep()
                        gone = hand.delete(batch)
                        became |= dict.fromkeys(gone, "dropped")
                        advance(len(gone))
            finally:
                deed.results, deed.became = {"dropped": len(became)}, became
    end(plan, deed.act.act_id, deed.results, f"{len(became):,} dropped", machine=machine)
    sys.exit(0 if len(became) == len(chosen) and not plan.leaves else 1)


@click.command(cls=Command)
@click.argument("key")
@acting
@click.option("--force", is_flag=True, help="Also while letters are in other hands, and perhaps some of these.")
@on_workbench
def restore(bench: Workbench, key: str, reason: str | None, *, force: bool, machine: bool) -> None:
    """Put the letters of a backup where they lay, as they were.

    KEY is what `drop` or `edit` said. Letters that lie there still or again, and those of which it is on record that
    they were restored, are left out.
    """
    try:
        letters = restored(bench.archive.read(key))
    except BackupError as error:
        raise OperateError(
            f"{key} is no backup as `drop` and `edit` write them: {error}. Nothing was restored. They say the keys of "
            "theirs; where this is one, somebody has put another object in its place: look at its earlier versions"
        ) from error
    with bench.hand() as hand:
        there = Counter(letter.likeness for letter in browsed(hand, "looking into both queues"))
    plan = _restoring(letters, there, bench.trail.restored_since(letters, key), hand.elsewhere)
    tell(plan, "restored", machine=machine)
    if plan.elsewhere and plan.chosen and reason and not force:
        raise OperateError(
            "some of these may be in other hands, and would be there twice: again within 15 minutes, or --force"
        )
    if not may(plan, reason, machine=machine):
        return
    with bench.begin("restore", reason or "", plan.chosen) as deed:
        became: dict[str, str] = {}
        try:
            with advancing("restoring", len(plan.chosen)) as advance:
                for queue in dict.fromkeys(letter.queue for letter in plan.chosen):
                    for batch in _in_tens([letter for letter in plan.chosen if letter.queue == queue]):
                        sent = bench.patiently(partial(bench.post.send, queue, batch))
                        became |= {each.message_id: "restored" for each in sent.taken}
                        became |= {each: f"refused: {why}" for each, why in sent.refused.items()}
                        advance(len(sent.taken))
        finally:
            done = sum(each == "restored" for each in became.values())
            deed.results, deed.became = {"restored": done}, became
    end(plan, deed.act.act_id, deed.results, f"{done:,} restored; `list` shows them", machine=machine)
    sys.exit(0 if done == len(plan.chosen) else 1)


def _restoring(letters: Sequence[DeadLetter], there: Counter[Likeness], before: set[str], elsewhere: int) -> Plan:
    """Leave out what lies there, each as often as it does, and what is on record as restored."""
    left = Counter(there)
    chosen, left_out = [], []
    for letter in letters:
        if left[letter.likeness]:
            left[letter.likeness] -= 1
            left_out.append((letter, "it lies there"))
        elif letter.message_id in before:
            left_out.append((letter, "it was restored before"))
        else:
            chosen.append(letter)
    return Plan(tuple(chosen), tuple(left_out), elsewhere=elsewhere)


def _in_tens(letters: Sequence[DeadLetter]) -> Iterator[Sequence[DeadLetter]]:
    """Put letters into batches as SQS has them."""
    for begin in range(0, len(letters), 10):
        yield letters[begin : begin + 10]
