"""`resume`."""

import click

from handlers.core.evidence.audit import AuditedAction
from handlers.core.guardrails.pauses import KnownPauses
from handlers.core.reconcile.pause_records import ENDED, row_reference
from handlers.operate.confirmation import Done, Intention, carry_out
from handlers.operate.context import Context
from handlers.operate.errors import OperateError
from handlers.operate.hints import as_typed
from handlers.operate.options import Approval, confirmed, with_context
from handlers.operate.output import Command, stderr
from handlers.operate.pausing import moment, scope_of
from schemas.audit import MessageDigest
from schemas.pause import Ended


@click.command(
    cls=Command,
    examples=(
        "joinguard resume 3f2a9c1e",
        'joinguard resume 3f2a9c1e --confirm --reason "the migration is over, INC-123"',
    ),
)
@click.argument("id_", metavar="ID")
@confirmed
@with_context
def resume(context: Context, *, id_: str, approval: Approval) -> int:
    """End a pause before its time, by its id or the beginning of it. The next sweep requests what is missing."""
    known, now = context.known_pauses(), context.clock.now()
    found = _find(known, id_)
    pause = next((each for each in known.readable if each.id == found), None)
    # The name of a row that is not readable can be anything, also an account id.
    reference = pause.id if pause else row_reference(found, context.pseudonyms)
    obstacle = None
    if pause and not pause.is_in_force(now):
        obstacle = f"pause {found} ended at {moment(pause.is_over_at)}. Nothing to do"
    elif pause:
        scope = scope_of(pause, lambda account_id: context.pseudonyms.of(account_id).value)
        stderr.print(f"this ends the pause of {scope} by {pause.owner} ({pause.reason}), until {moment(pause.until)}")
    else:
        stderr.print(
            f"this deletes row {found} of the pauses, which is not readable and therefore pauses every account",
            style="yellow",
        )

    def effect(audited: AuditedAction) -> Done:
        intended = audited.intended
        ended = Ended(
            actor=intended.actor,
            actor_name=intended.actor_name,
            actor_id=intended.actor_id,
            act_id=intended.act_id,
            at=context.clock.now(),
        )
        context.change_pauses(known.with_ended(found, ended), known)
        audited.add(ENDED, [reference])
        return Done(f"pause {found} is ended; `pauses` shows what is left", complete=True)

    intention = Intention(
        "resume",
        lambda: [MessageDigest(event_id=reference)],
        {"id": found, "readable": pause is not None},
        obstacle=obstacle,
    )
    return carry_out(context, intention, approval, effect)


def _find(known: KnownPauses, id_: str) -> str:
    """Return the id that is meant; raise OperateError if none or several begin so."""
    ids = [*(each.id for each in known.readable), *known.unreadable]
    if id_ in ids:
        return id_
    found = [each for each in ids if id_ and each.startswith(id_)]
    if len(found) > 1:
        raise OperateError(f"{len(found)} pauses have an id that begins with {id_}. Use more characters of the id")
    if not found:
        raise OperateError(as_typed(f"no pause has the id {id_}. `pauses` lists them"))
    return found[0]
