"""`restore`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import click

from handlers.core.evidence.audit import AuditedAction
from handlers.core.redrive.backup import BackupError, read_backup
from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.explanations import Explanation, Problems, Reason
from handlers.core.redrive.selection import Plan
from handlers.operate.completion import complete_backup
from handlers.operate.confirmation import Done, carry_out
from handlers.operate.context import Context
from handlers.operate.errors import OperateError
from handlers.operate.options import Approval, confirmed, with_context
from handlers.operate.output import Command
from handlers.operate.plans import intention, print_plan
from handlers.operate.progress import progress, receive_all
from schemas.attribute import MAX_BATCH
from schemas.keys import backup_action

#: The number of keys that an error names.
_NAMED: Final = 3


@click.command(
    cls=Command,
    examples=(
        "joinguard restore backups/2026/11/25/0a1b2c.jsonl",
        'joinguard restore backups/2026/11/25/0a1b2c.jsonl --confirm --reason "dropped by mistake, INC-123"',
    ),
)
@click.argument("key", shell_complete=complete_backup)
@confirmed
@click.option("--force", is_flag=True, help="Restore although others have messages in flight, perhaps some of these.")
@with_context
def restore(context: Context, key: str, approval: Approval, *, force: bool) -> int:
    """Send the messages of a backup to the queues that they were in, unchanged.

    KEY is the key that `drop` or `edit` printed; its beginning is enough, or that of its last part. Messages that are
    in their queue, and messages that were restored before, are left out. The outcomes that `drop` closed are FAILED
    again.
    """
    key = _key(context, key)
    plan = _plan(context, key)
    print_plan(plan, "restored", approval)
    if plan.elsewhere and plan.chosen and approval.reason and not force:
        raise OperateError(
            "some of these messages may be in flight, and would then be in their queue twice. Run the command again "
            "in 15 minutes, or add --force"
        )

    def send(audited: AuditedAction) -> Done:
        with progress("restoring", len(plan.chosen)) as advance:
            for batch in _batches(plan.chosen):
                # First, so that running the command again repairs what an interrupt left.
                keys = {each.outcome_key for each in batch if each.outcome_key}
                if reopened := context.reopen(key, keys):
                    audited.results["reopened"] = audited.results.get("reopened", 0) + len(reopened)
                sent = context.patiently(partial(context.queues.send, batch[0].queue, batch))
                audited.add("restored", [each.message_id for each in sent.accepted])
                for message_id, why in sent.refused.items():
                    audited.add(f"refused: {why}", [message_id])
                advance(len(sent.accepted))
        number = audited.results.get("restored", 0)
        return Done(
            f"{number:,} restored, with new message ids; `list` shows them", complete=number == len(plan.chosen)
        )

    return carry_out(context, intention(context, "restore", plan), approval, send)


def _key(context: Context, given: str) -> str:
    """Return the key of the backup that has this key or begins so; raise OperateError if not exactly one does."""
    keys = context.history.backup_keys()
    found = [each for each in keys if given and (each.startswith(given) or backup_action(each).startswith(given))]
    if given in found or len(found) == 1:
        return given if given in found else found[0]
    if found:
        few = ", ".join(found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
        raise OperateError(f"{len(found):,} backups have a key that begins with {given} ({few}). Use more characters")
    raise OperateError(f"no backup has the key {given}. `backups` lists the keys")


def _plan(context: Context, key: str) -> Plan:
    try:
        backed_up = read_backup(context.archive.read(key))
    except BackupError as error:
        raise OperateError(
            f"{key} is not a backup of `drop` or `edit`: {error}. Nothing was restored. Check the key; if it is right, "
            "somebody replaced the object: see its earlier versions"
        ) from error
    with context.in_flight() as in_flight:
        present = Counter(each.fingerprint for each in receive_all(in_flight, "receiving both queues"))
    restored = context.history.restored_since({each.message_id for each in backed_up}, key)
    chosen: list[DeadLetter] = []
    left_out: list[tuple[DeadLetter, Problems]] = []
    for each in backed_up:
        if present[each.fingerprint]:
            present[each.fingerprint] -= 1
            left_out.append((each, (Explanation(Reason.IN_ITS_QUEUE),)))
        elif each.message_id in restored:
            left_out.append((each, (Explanation(Reason.RESTORED_BEFORE),)))
        else:
            chosen.append(each)
    return Plan(tuple(chosen), tuple(left_out), elsewhere=in_flight.elsewhere)


def _batches(dead_letters: Sequence[DeadLetter]) -> Iterator[Sequence[DeadLetter]]:
    """Divide messages into batches of one queue each."""
    for queue in dict.fromkeys(each.queue for each in dead_letters):
        ours = [each for each in dead_letters if each.queue == queue]
        for begin in range(0, len(ours), MAX_BATCH):
            yield ours[begin : begin + MAX_BATCH]
