"""Commands that take letters away and bring them back: dry without --confirm and --reason, on record."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial

import click

from handlers.core.letters import DeadLetter, restored
from handlers.core.plan import Filter, Plan
from handlers.operate.options import acting, filtered, limited, on_workbench
from handlers.operate.planning import end, may, tell
from handlers.operate.screens import advancing, browsed, talk
from handlers.operate.workbench import OperateError, Workbench


@click.command()
@limited
@filtered
@acting
@on_workbench
def drop(bench: Workbench, wanted: Filter, reason: str | None, *, machine: bool) -> None:
    """Take letters away, after a backup of bodies and attributes. Needs a filter."""
    if wanted.is_empty:
        message = "say which letters: a filter or --id is needed to drop"
        raise click.UsageError(message)
    with bench.hand() as hand:
        now = bench.clock.now()
        found = [each for each in browsed(hand, "looking into both queues") if wanted.matches(each, now)]
        chosen = sorted(found, key=lambda each: each.first_seen)[: wanted.limit]
        hand.release_all_but(chosen)
        plan = Plan(tuple(chosen))
        tell(plan, "dropped", machine=machine)
        named = bool(wanted.ids or wanted.events)
        if not may(plan, reason, machine=machine, named=named, elsewhere=hand.elsewhere):
            return
        with bench.begin("drop", reason or "", [letter.digest() for letter in chosen]) as deed:
            kept = bench.back_up(deed, chosen)
            talk.print(f"`restore {kept}` brings back what is dropped now")
            became: dict[str, str] = {}
            try:
                with advancing("dropping", len(chosen)) as advance:
                    for batch in _in_tens(chosen):
                        bench.patiently(hand.keep)
                        gone = bench.patiently(partial(hand.delete, batch))
                        became |= dict.fromkeys(gone, "dropped")
                        advance(len(gone))
            finally:
                deed.results, deed.became = {"dropped": len(became)}, became
    end(plan, deed.act.act_id, deed.results, f"{len(became):,} dropped", machine=machine)
    sys.exit(0 if len(became) == len(chosen) else 1)


@click.command()
@click.argument("key")
@acting
@on_workbench
def restore(bench: Workbench, key: str, reason: str | None, *, machine: bool) -> None:
    """Put the letters of a backup where they lay, as they were.

    KEY is what `drop` or `edit` said. Letters that lie there still, and those that were restored before, are left out.
    """
    try:
        letters = [restored(line) for line in bench.archive.read(key).decode().splitlines()]
    except (ValueError, KeyError, TypeError) as error:
        message = f"{key} is no backup; `drop` and `edit` say the keys of theirs"
        raise OperateError(message) from error
    with bench.hand() as hand:
        there = {letter.message_id for letter in browsed(hand, "looking into both queues")}
        before = bench.trail.restored_since(letters, key)
    left_out = [(each, "it lies there still") for each in letters if each.message_id in there]
    left_out += [(each, "it was restored before") for each in letters if each.message_id in before - there]
    plan = Plan(tuple(each for each in letters if each.message_id not in there | before), tuple(left_out))
    tell(plan, "restored", machine=machine)
    if not may(plan, reason, machine=machine, elsewhere=hand.elsewhere):
        return
    with bench.begin("restore", reason or "", [letter.digest() for letter in plan.chosen]) as deed:
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


def _in_tens(letters: Sequence[DeadLetter]) -> Iterator[Sequence[DeadLetter]]:
    """Put letters into batches as SQS has them."""
    for begin in range(0, len(letters), 10):
        yield letters[begin : begin + 10]
