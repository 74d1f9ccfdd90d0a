"""`pause`."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import click
from pydantic import TypeAdapter, ValidationError

from handlers.core.evidence.audit import AuditedAction
from handlers.core.guardrails.pauses import MOST
from handlers.core.plurals import count
from handlers.core.reconcile.pause_records import BEGUN, ENDED, reference
from handlers.operate.confirmation import Done, Intention, carry_out
from handlers.operate.context import Connection, Context
from handlers.operate.errors import OperateError
from handlers.operate.hints import as_typed
from handlers.operate.options import AccountIdType, Approval, UntilType, confirmed, with_connection
from handlers.operate.output import Command, hint, stderr
from handlers.operate.pausing import Concerned, concerned, moment, scope_of
from handlers.operate.tables import duration
from schemas.audit import MessageDigest
from schemas.pause import LONGEST, Owner, Pause, PauseTerms

#: A process that takes longer than this to write a pause would write one that is over.
_SHORTEST: Final = timedelta(minutes=1)


@click.command(
    cls=Command,
    examples=(
        "joinguard pause --ou /Workloads/Migration --until 3d --owner network-team",
        'joinguard pause --account 111122223333 --until 4h --owner jane --confirm --reason "a restore, INC-123"',
    ),
)
@click.option("--organization", "whole", is_flag=True, help="Pause every account of the organization.")
@click.option("--ou", metavar="ID_OR_PATH", help="Pause an OU and everything below it (ou-…, or a path such as /A/B).")
@click.option("--account", type=AccountIdType(), help="Pause one account.")
@click.option(
    "--until",
    type=UntilType(),
    required=True,
    help=f"When it ends: 4h, 3d, 2026-12-01 (the last day, UTC), 2026-12-01T08:00:00Z. At most {LONGEST.days} days.",
)
@click.option("--owner", required=True, help="The person or team that answers for it. Operators see it.")
@confirmed
@with_connection
def pause(  # noqa: PLR0913 - the options of the command
    connection: Connection,
    *,
    whole: bool,
    ou: str | None,
    account: str | None,
    until: timedelta | datetime,
    owner: str,
    approval: Approval,
) -> int:
    """Stop repairing accounts until a moment, so that Joinguard does not fight with somebody else.

    Meanwhile the sweep requests nothing for these accounts, and policies that somebody detaches are not attached again.
    Joins are handled as always. A pause of the same scope and owner is replaced.
    """
    if [whole, bool(ou), bool(account)].count(True) != 1:
        raise click.UsageError("give either --organization, --ou ID_OR_PATH, or --account ID")
    context = connection()
    now = context.clock.now()
    end, by = _end(until, now), _owner(owner)
    found = concerned(context, connection.organization(), ou=ou, account=account)
    before = context.known_pauses()
    replaced = before.same(found.scope, by, now)
    others = [each for each in before.in_force(now) if each not in replaced]
    if len(others) >= MOST:
        raise OperateError(
            as_typed(f"{MOST} pauses are in force, and there can be no more. End one with `resume ID` first")
        )
    terms = PauseTerms(id=secrets.token_hex(4), scope=found.scope, owner=by, begun_at=now, until=end)
    _print_plan(context, found, terms, replaced, others)
    if before.unreadable:
        rows = ", ".join(sorted(before.unreadable))
        hint(f"rows are not readable, so every account counts as paused already ({rows}); see `pauses`", "yellow")

    def effect(audited: AuditedAction) -> Done:
        intended = audited.intended
        begun = Pause(
            **terms.model_dump(),
            reason=intended.reason,
            actor=intended.actor,
            actor_name=intended.actor_name,
            actor_id=intended.actor_id,
            act_id=intended.act_id,
        )
        context.change_pauses(before.with_begun(begun), before)
        audited.add(BEGUN, [begun.id])
        if replaced:
            audited.add(ENDED, [each.id for each in replaced])
        return Done(f"{found.named} is paused until {moment(end)}; `resume {begun.id}` ends it", complete=True)

    intention = Intention(
        "pause",
        lambda: [reference(terms, context.pseudonyms), *(MessageDigest(event_id=each.id) for each in replaced)],
        {
            "pause": terms.model_dump(mode="json"),
            "accounts": found.accounts,
            "unknown": found.unknown or None,
            "replaces": [each.id for each in replaced],
            "others_in_force": [each.id for each in others],
        },
    )
    return carry_out(context, intention, approval, effect)


def _end(until: timedelta | datetime, now: datetime) -> datetime:
    """Return when a pause ends; raise UsageError if that is too early or too late."""
    try:
        end = now + until if isinstance(until, timedelta) else until
    except OverflowError:
        end = datetime.max.replace(tzinfo=now.tzinfo)
    if end < now + _SHORTEST:
        raise click.UsageError("--until: a pause lasts at least a minute. Use a later time, such as 4h or 3d")
    if end > now + LONGEST:
        latest = moment(now + LONGEST)
        raise click.UsageError(
            f"--until: a pause lasts at most {LONGEST.days} days, until {latest}. Use an earlier time, and pause again "
            "later; an exception in the guardrails can last longer"
        )
    return end


def _owner(text: str) -> str:
    try:
        return TypeAdapter(Owner).validate_python(text)
    except ValidationError:
        raise click.UsageError(
            "--owner has 1 to 128 characters, not only white space. Name the person or the team that answers for it"
        ) from None


def _print_plan(
    context: Context, found: Concerned, terms: PauseTerms, replaced: Sequence[Pause], others: Sequence[Pause]
) -> None:
    accounts = (
        "" if found.accounts is None or terms.scope.isdecimal() else f", {count(found.accounts, 'account')} today,"
    )
    stderr.print(
        f"this pauses {found.named}{accounts} for {duration(terms.until - terms.begun_at)}, until "
        f"{moment(terms.until)}: the sweep requests nothing there, and what somebody detaches is not attached again"
    )
    stderr.print("joins are handled as always: an account that joins gets its policies")
    if found.unknown:
        stderr.print(f"not known: {found.unknown}", style="yellow")
    for each in replaced:
        stderr.print(
            f"it replaces pause {each.id} of the same scope and owner, until {moment(each.until)}", style="yellow"
        )
    for each in others:
        scope = scope_of(each, lambda account_id: context.pseudonyms.of(account_id).value)
        hint(f"also in force: pause {each.id} of {scope} until {moment(each.until)} by {each.owner}")
