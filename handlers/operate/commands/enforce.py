"""`enforce`."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, BinaryIO, Final

import click

from handlers.core.evidence.audit import AuditedAction
from handlers.core.evidence.references import event_reference, random_reference
from handlers.core.plurals import count
from handlers.core.redrive.dead_letter import new_message
from handlers.core.redrive.explanations import Explanation, Reason
from handlers.core.redrive.ports import Destination
from handlers.core.redrive.preflight import MAX_ACCOUNTS
from handlers.core.redrive.redrive import Redrive, Requests
from handlers.core.redrive.tracker import OutcomeTracker
from handlers.operate.advice import sentence, sentences
from handlers.operate.confirmation import NOTHING_TO_DO, Done, Intention, carry_out
from handlers.operate.context import Connection, Context
from handlers.operate.errors import OperateError
from handlers.operate.files import text_in
from handlers.operate.options import AccountIdType, Approval, DurationType, InputFileType, confirmed, with_connection
from handlers.operate.output import Command, hint, stderr
from handlers.operate.plans import print_unknown, time_estimate
from handlers.operate.send_back import notify, send_and_wait
from handlers.operate.tables import first
from schemas.audit import MessageDigest
from schemas.events import Join, JoinRequest, NoJoin, Rehearsal
from schemas.ids import AccountId
from schemas.intake import MAX_BODY_BYTES, InvalidEventError, read_event

#: More bytes than the account ids of the largest organization take.
_MAX_FILE: Final = 1_048_576
#: The number of accounts that a plan names for each reason.
_NAMED: Final = 10
_FORCE: Final = "Nothing was done. Add --force to send the requests anyway"


@click.command(
    cls=Command,
    examples=(
        "joinguard enforce 111122223333",
        'joinguard enforce --event event.json --confirm --reason "its event was lost, INC-123"',
        'joinguard enforce --from accounts.tsv --confirm --reason "SCPs were disabled, INC-123"',
        "joinguard enforce --gaps --policy deny-leave --limit 100",
    ),
)
@click.argument("account_ids", metavar="[ACCOUNT]...", nargs=-1, type=AccountIdType())
@click.option(
    "--event",
    type=InputFileType(),
    help="Take the account from this event (- for stdin): a CloudTrail record, or the output of `lookup-events`.",
)
@click.option("--from", "file", type=InputFileType(), help="Take the account ids from this file (- for stdin).")
@click.option("--gaps", is_flag=True, help="Take the accounts that lack a policy, as `coverage` finds them.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME_OR_ID",
    help="With --gaps: only accounts that lack this policy. They get everything that they lack. Can be repeated.",
)
@click.option("--limit", type=click.IntRange(1), help="With --gaps: at most this number of accounts.")
@click.option("--reveal", is_flag=True, help="With --gaps: show account ids instead of pseudonyms.")
@confirmed
@click.option(
    "--wait", type=DurationType(), default="30s", show_default=True, help="How long to wait until all are decided."
)
@click.option("--force", is_flag=True, help="Send requests although they would fail.")
@with_connection
def enforce(  # noqa: PLR0913 - the options of the command
    connection: Connection,
    account_ids: Sequence[str],
    event: BinaryIO | None,
    file: BinaryIO | None,
    approval: Approval,
    *,
    gaps: bool,
    policies: Sequence[str],
    limit: int | None,
    reveal: bool,
    wait: timedelta,
    force: bool,
) -> int:
    """Request the policies of accounts: of those that no event reported, or of all that lack a policy (--gaps).

    The request for one account goes to the joins queue. Those for several accounts go to the queue `Repairs`, whose
    worker lets live joins go first. They are sent no faster than the worker handles them. If requests fail, it stops.
    """
    if [bool(account_ids), event is not None, file is not None, gaps].count(True) != 1:
        raise click.UsageError(
            "give either an account id or several, --from FILE with account ids, --event FILE, or --gaps"
        )
    if not gaps and (policies or limit or reveal):
        raise click.UsageError("--policy, --limit and --reveal select among the accounts of --gaps. Add --gaps")
    context = connection()
    to: Destination
    if gaps:
        # The models that it needs take a while to import, and few commands need them.
        from handlers.operate.gaps import accounts_with_gaps  # noqa: PLC0415 - see above

        to = _repairs(context)
        found = accounts_with_gaps(context, connection.organization(), policies, limit, force=force)
        shown = str if reveal else found.pseudonym
        unknown = tuple(context.preflight.unknown)
        plan = _Plan(
            found.chosen,
            found.left_out,
            unknown,
            to,
            attachments=found.attachments,
            calls=found.calls,
            removals=found.removals,
            unclear=found.unclear,
            shown=shown,
            fields={"coverage": found.totals, "removals": found.removals},
        )
    else:
        if event:
            account_ids = [_account_of(context, event)]
        elif file:
            account_ids = list(_listed(file))
        account_ids = list(dict.fromkeys(account_ids))
        # Somebody waits for the one account; several are a backlog.
        to = "joins" if len(account_ids) == 1 else _repairs(context)
        plan = _plan(context, account_ids, to, force=force)
    _print_plan(context, plan)
    requests = [_request(context, each, approval) for each in plan.chosen]

    def send(audited: AuditedAction) -> Done:
        return _done(plan, _send(context, requests, audited, wait, plan))

    intention = Intention(
        "enforce",
        lambda: [_digest(context, each) for each in requests],
        _fields(plan, requests),
        obstacle=None if plan.chosen else plan.obstacle,
        complete=plan.is_whole,
    )
    return carry_out(context, intention, approval, send)


@dataclass(frozen=True)
class _Plan:
    """Which accounts requests are sent for."""

    chosen: Sequence[AccountId]
    #: With the reasons in words.
    left_out: dict[AccountId, str]
    unknown: Sequence[Explanation]
    #: The queue to which the requests are sent.
    to: Destination
    #: How many policies the chosen accounts lack, if that is known.
    attachments: int | None = None
    #: How many attachments the workers try for them, or may have to.
    calls: int = 0
    #: How many policies the chosen accounts may lose.
    removals: int = 0
    #: The number of accounts of which it is not known whether they lack a policy.
    unclear: int = 0
    #: How an account is shown.
    shown: Callable[[AccountId], str] = str
    #: For --json, beside the requests.
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether it covers every account that the operator asked for."""
        return not self.left_out and not self.unclear

    @property
    def obstacle(self) -> str:
        """What to say if nothing is chosen."""
        return _FORCE if self.left_out else NOTHING_TO_DO

    def rate(self, context: Context) -> float:
        """Return how many requests a second the workers handle: as many as their attachments allow."""
        if self.attachments is None:
            return context.pace
        return context.attachments_per_second * len(self.chosen) / max(self.calls, len(self.chosen), 1)


def _repairs(context: Context) -> Destination:
    """Return the queue for many requests; raise OperateError if the stack is of an earlier version and has none."""
    if not context.has_repairs:
        raise OperateError(
            "the installation has no queue for requests that let live joins go first (Repairs): its stack is of an "
            "earlier version. Run `make deploy`, then this command again; or give one account at a time"
        )
    return "repairs"


def _plan(context: Context, account_ids: Sequence[AccountId], to: Destination, *, force: bool) -> _Plan:
    left_out: dict[AccountId, str] = {}
    preflight = context.preflight
    for number, each in enumerate(account_ids):
        problems = preflight.of_account(each, read_account=number < MAX_ACCOUNTS)
        if len(account_ids) > 1 and problems and problems[0].reason is Reason.MANAGEMENT_ACCOUNT:
            # A list of all accounts of the organization has it.
            stderr.print(f"without {each}: {sentences(problems, message=False)}")
            account_ids = [other for other in account_ids if other != each]
        elif problems:
            left_out[each] = sentences(problems, message=False)
    chosen = account_ids if force else [each for each in account_ids if each not in left_out]
    return _Plan(chosen, left_out, tuple(preflight.unknown), to)


def _print_plan(context: Context, plan: _Plan) -> None:
    print_unknown(plan.unknown)
    reasons: dict[str, list[AccountId]] = {}
    for account_id, why in plan.left_out.items():
        reasons.setdefault(why, []).append(account_id)
    for why, accounts in reasons.items():
        if plan.attachments is None:
            stderr.print(f"{_few(plan, accounts)} would fail: {why}", style="yellow")
        else:
            what = "requested all the same" if accounts[0] in plan.chosen else "left out"
            hint(f"{count(len(accounts), 'account')} {what}: {_few(plan, accounts)}: {why}", "yellow")
    if plan.chosen:
        attaching = "" if plan.attachments is None else f" for {count(plan.attachments, 'attachment')}"
        requests = count(len(plan.chosen), "join request")
        stderr.print(f"this sends {requests}{attaching} to the {plan.to} queue: {_few(plan, plan.chosen)}")
    if plan.removals:
        stderr.print(
            f"these accounts carry {count(plan.removals, 'attachment')} that they do not need; the requests also ask "
            "to remove what Joinguard attached",
            style="yellow",
        )
    if len(plan.chosen) > 1:
        rate = plan.rate(context)
        stderr.print(time_estimate(len(plan.chosen), rate, rate))
    scope = context.requirements.scope
    if observed := [each for each in plan.chosen if not scope.attaches_to(each)]:
        stderr.print(
            f"this stage only observes {_few(plan, observed)} (AttachTo): nothing will be attached", style="yellow"
        )


def _few(plan: _Plan, accounts: Sequence[AccountId]) -> str:
    return first(accounts, _NAMED, plan.shown)


def _fields(plan: _Plan, requests: Sequence[JoinRequest]) -> dict[str, Any]:
    return {
        "requests": [{"account": plan.shown(each.account_id), "event_id": each.event_id} for each in requests],
        "left_out": [{"account": plan.shown(account), "why": why} for account, why in plan.left_out.items()],
        "unknown": [sentence(each) for each in plan.unknown],
        **({} if plan.attachments is None else {"attachments": plan.attachments}),
        **plan.fields,
    }


def _send(
    context: Context, requests: Sequence[JoinRequest], audited: AuditedAction, wait: timedelta, plan: _Plan
) -> Redrive:
    messages = [new_message(each.model_dump_json(), each.event_id, context.clock.now()) for each in requests]
    with context.in_flight() as in_flight:
        sending = Requests(
            in_flight,
            OutcomeTracker(context.outcomes),
            context.clock,
            context.patiently,
            rate=plan.rate(context),
            notify=notify,
            to=plan.to,
        )
        try:
            send_and_wait(sending, messages, wait, audited, what="requesting")
        finally:
            named = {each.event_id: event_reference(each.event_id, context.pseudonyms.digest) for each in requests}
            audited.result_of = {named[each]: result for each, result in audited.result_of.items()}
    return sending


def _done(plan: _Plan, ended: Redrive) -> Done:
    parts = [f"{ended.sent:,} sent"]
    if left := len(plan.chosen) - ended.sent:
        parts.append(f"{left:,} not sent")
    parts += [f"{number:,} {status.value.lower()}" for status, number in sorted(ended.tracker.by_status.items())]
    account = plan.chosen[0] if len(plan.chosen) == 1 and plan.shown is str else "ACCOUNT"
    if requested := ended.tracker.removals_requested:
        parts.append(f"{count(requested, 'removal')} requested: `outcome {account}` shows what became of it")
    if undecided := ended.tracker.undecided:
        parts.append(f"{undecided:,} without an outcome yet: `outcome {account}` shows it")
    if plan.unclear:
        parts.append(f"of {count(plan.unclear, 'account')}, it is not known what they lack: see `coverage`")
    complete = ended.sent == len(plan.chosen) and not ended.failed and plan.is_whole
    return Done("; ".join(parts), complete, stopped=sentence(ended.stopped) if ended.stopped else None)


def _request(context: Context, account_id: AccountId, approval: Approval) -> JoinRequest:
    return JoinRequest(
        source="joinguard.operator",
        event_id=random_reference("request"),
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


def _listed(file: BinaryIO) -> Iterator[AccountId]:
    """Yield the account ids of a file, divided by white space; raise UsageError for anything else in it."""
    text = text_in(file, _MAX_FILE)
    if not text.split():
        raise click.UsageError(f"{file.name}: the file has no account ids. Write one id a line")
    for number, line in enumerate(text.splitlines(), 1):
        for each in line.split():
            if not re.fullmatch("[0-9]{12}", each):
                raise click.UsageError(
                    f"{file.name}: line {number}: {each[:40]!r} is not an account id. An account id has twelve digits"
                )
            yield each


def _account_of(context: Context, event: BinaryIO) -> AccountId:
    """Return the account that has to be evaluated after an event; raise OperateError if there is none."""
    body = event.read(MAX_BODY_BYTES + 1)
    requirements = context.requirements
    try:
        join = read_event(body, management_account_id=requirements.management_account_id)
    except InvalidEventError as error:
        raise OperateError(
            f"the event is unreadable: {error}. Use one record in CloudTrail's form, or give the account id"
        ) from error
    if not isinstance(join, Join):
        why = join.reason if isinstance(join, NoJoin | Rehearsal) else "no account joined or changed"
        raise OperateError(
            f"no account has to be evaluated after this event: {why}. If the account is a member, give the account id"
        )
    if join.organization_id not in {None, requirements.organization_id}:
        raise OperateError(
            f"the event is about organization {join.organization_id}; this is {requirements.organization_id}"
        )
    return join.account_id
