"""`enforce`."""

import uuid
from typing import BinaryIO

import click

from handlers.core.evidence.audit import AuditedAction
from handlers.core.evidence.references import event_reference
from handlers.operate.advice import sentence, sentences
from handlers.operate.confirmation import Done, Intention, carry_out
from handlers.operate.context import Context
from handlers.operate.errors import OperateError
from handlers.operate.options import AccountIdType, Approval, confirmed, with_context
from handlers.operate.output import Command, stderr
from handlers.operate.plans import print_unknown
from schemas.audit import MessageDigest
from schemas.events import JoinRequest, NoJoin
from schemas.ids import AccountId
from schemas.intake import MAX_BODY_BYTES, InvalidEventError, read_event


@click.command(
    cls=Command,
    examples=(
        "joinguard enforce 111122223333",
        'joinguard enforce --event event.json --confirm --reason "its event was lost, INC-123"',
    ),
)
@click.argument("account_id", metavar="[ACCOUNT]", required=False, type=AccountIdType())
@click.option(
    "--event",
    type=click.File("rb"),
    help="Take the account from this event (- for stdin): a CloudTrail record, or the output of `lookup-events`.",
)
@confirmed
@click.option("--force", is_flag=True, help="Send the request although it would fail.")
@with_context
def enforce(
    context: Context, account_id: str | None, event: BinaryIO | None, approval: Approval, *, force: bool
) -> int:
    """Request the policies of an account whose join no event reported."""
    if (account_id is None) == (event is None):
        raise click.UsageError("give either an account id, or --event FILE with the event of its join")
    account_id = account_id or _account_of(context, event)
    problems = context.preflight.of_account(account_id)
    print_unknown(context.preflight.unknown)
    if problems:
        stderr.print(f"it would fail: {sentences(problems, message=False)}", style="yellow")
    stderr.print(f"this sends a join request for {account_id} to the joins queue")
    if not context.requirements.scope.attaches_to(account_id):
        stderr.print("this stage only observes the account (AttachTo), so nothing will be attached", style="yellow")
    request = _request(context, account_id, approval)

    def send(audited: AuditedAction) -> Done:
        context.queues.send_join(request.model_dump_json())
        audited.add("sent", [each.event_id for each in audited.intended.letters if each.event_id])
        return Done(
            f"event {request.event_id} is in the queue; `outcome {account_id}` shows its outcome",
            complete=True,
            fields={"event_id": request.event_id},
        )

    blocked = bool(problems) and not force
    intention = Intention(
        "enforce",
        lambda: [_digest(context, request)],
        {
            "account": account_id,
            "would_fail": sentences(problems, message=False) or None,
            "unknown": [sentence(each) for each in context.preflight.unknown],
        },
        obstacle="Nothing was done. Add --force to send the request anyway" if blocked else None,
        complete=not blocked,
    )
    return carry_out(context, intention, approval, send)


def _request(context: Context, account_id: AccountId, approval: Approval) -> JoinRequest:
    return JoinRequest(
        source="joinguard.operator",
        event_id=str(uuid.uuid4()),
        requested_at=context.clock.now(),
        account_id=account_id,
        organization_id=context.requirements.organization_id,
        reason=approval.reason or "not confirmed",
    )


def _digest(context: Context, request: JoinRequest) -> MessageDigest:
    keyed = context.pseudonyms.digest
    return MessageDigest(
        event_id=event_reference(request.event_id, keyed), body_digest=keyed("body", request.model_dump_json())
    )


def _account_of(context: Context, event: BinaryIO | None) -> AccountId:
    """Return the account that has to be evaluated after an event; raise OperateError if there is none."""
    body = event.read(MAX_BODY_BYTES + 1) if event else b""
    requirements = context.requirements
    try:
        join = read_event(body, management_account_id=requirements.management_account_id)
    except InvalidEventError as error:
        raise OperateError(
            f"the event is unreadable: {error}. Use one record in CloudTrail's form, or give the account id"
        ) from error
    if isinstance(join, NoJoin):
        raise OperateError(
            f"no account has to be evaluated after this event: {join.reason}. "
            "If the account is a member, give the account id"
        )
    if join.organization_id not in {None, requirements.organization_id}:
        raise OperateError(
            f"the event is about organization {join.organization_id}; this is {requirements.organization_id}"
        )
    return join.account_id
