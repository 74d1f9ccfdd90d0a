"""Commands that send something new: a letter with a mended body, a join that no event told about."""

import sys
import tempfile
import uuid
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import click

from handlers.core.evidence.references import event_reference
from handlers.core.redrive.dead_letter import DeadLetter, edited
from handlers.core.redrive.selection import Plan
from handlers.operate.acting import see_what_becomes
from handlers.operate.options import AccountIdType, Age, acting, on_workbench
from handlers.operate.planning import end, may
from handlers.operate.screens import browsed, difference, say_unknown
from handlers.operate.terminal import Command, as_line, talk
from handlers.operate.workbench import OperateError, Workbench
from schemas.audit import LetterDigest
from schemas.events import JoinRequest, NoJoin
from schemas.ids import AccountId
from schemas.intake import MAX_BODY_BYTES, InvalidEventError, read_event


@click.command(cls=Command)
@click.argument("letter_id", metavar="ID")
@click.option("--body", type=click.File("rb"), help="Take the new body from this file (- for stdin), not from $EDITOR.")
@acting
@click.option("--wait", type=Age(), default="30s", show_default=True, help="How long to see what becomes of it.")
@click.option("--force", is_flag=True, help="Also where it would only come back.")
@on_workbench
def edit(  # noqa: PLR0913 - the options of a command
    bench: Workbench,
    letter_id: str,
    body: BinaryIO | None,
    reason: str | None,
    wait: timedelta,
    *,
    force: bool,
    machine: bool,
) -> None:
    """Open a letter's body in $EDITOR, check it, show the difference, send it back.

    What is not sent, because it cannot be read or for want of --confirm, is kept in a file for --body until it is.
    """
    with bench.hand() as hand:
        letter = bench.pick(browsed(hand, "looking for it"), letter_id)
        hand.release_all_but([letter])
        changed = _changed(letter, letter_id, body)
        difference(letter.body, changed.body)
        problem = changed.stuck or (None if force else bench.preflight.would_fail(changed))
        different = changed.body != letter.body
        plan = Plan(
            (changed,) if different and not problem else (),
            ((changed, problem),) if problem else (),
            unknown=tuple(bench.preflight.unknown),
        )
        say_unknown(plan.unknown)
        if problem:
            talk.print(f"it would only come back: {problem}", style="yellow")
        if different and not (plan.chosen and reason):
            talk.print(f"`edit {letter_id} --body {_kept(changed.body, body)}` takes it from there")
        if not may(plan, reason, machine=machine):
            return
        hand.keep()
        if not hand.has(letter):
            raise OperateError(
                f"the letter is not in hand any more; its new body is kept in {_kept(changed.body, body)}"
            )
        with bench.begin("edit", reason or "", [letter, changed]) as deed:
            kept = bench.back_up(deed, [letter])
            talk.print(f"`restore {kept}` brings the old body back")
            engine = bench.redriver(hand, rate=None, breaker=1, tell=talk.print)
            try:
                engine.run([changed], lambda _: None)
                see_what_becomes(engine, wait)
            finally:
                deed.results, deed.became = engine.results, engine.fates
    fate = ", ".join(engine.fates.values()) or "left where it is"
    end(plan, deed.act.act_id, engine.results, fate, machine=machine)
    if engine.deleted and body and Path(body.name).parent == _drawer():
        Path(body.name).unlink(missing_ok=True)
    sys.exit(0 if engine.deleted and not engine.dead else 1)


def _changed(letter: DeadLetter, letter_id: str, body: BinaryIO | None) -> DeadLetter:
    """Return the letter with the body that the operator wants; what cannot be read is kept in a file."""
    try:
        told = (
            body.read(MAX_BODY_BYTES + 1).decode()
            if body
            else click.edit(letter.body, extension=".json", require_save=False)
        )
    except UnicodeDecodeError as error:
        raise OperateError(f"the new body is no UTF-8 text: {error}") from error
    # Editors end the last line.
    text = (told or letter.body) if letter.body.endswith("\n") else (told or letter.body).removesuffix("\n")
    try:
        return edited(letter, text)
    except InvalidEventError as error:
        raise OperateError(
            f"the body still cannot be read: {error}. It is kept: correct it there and say "
            f"`edit {letter_id} --body {_kept(text, body)}`"
        ) from error


def _drawer() -> Path:
    """Return where bodies are kept that were not sent, each until it is; nobody else may read there."""
    return Path(click.get_app_dir("joinguard")) / "edits"


def _kept(text: str, body: BinaryIO | None) -> str:
    """Return the name of the file that the body came from, or of one where it is kept."""
    if body and Path(body.name).exists():
        return body.name
    _drawer().mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=_drawer(), suffix=".json", delete=False, encoding="utf-8") as file:
        file.write(text)
    return file.name


@click.command(cls=Command)
@click.argument("account_id", metavar="[ACCOUNT]", required=False, type=AccountIdType())
@click.option(
    "--event",
    type=click.File("rb"),
    help="Take the account from this event (- for stdin): a CloudTrail record, or what `lookup-events` printed.",
)
@acting
@click.option("--force", is_flag=True, help="Also where nothing can be attached to it.")
@on_workbench
def enforce(  # noqa: PLR0913 - the options of a command
    bench: Workbench,
    account_id: str | None,
    event: BinaryIO | None,
    reason: str | None,
    *,
    force: bool,
    machine: bool,
) -> None:
    """Ask for an account that no event told us about, as if it had joined now."""
    if (account_id is None) == (event is None):
        raise click.UsageError("say which account: its id, or --event FILE with the event of its join, and not both")
    account_id = account_id or _account_of(bench, event)
    problem = bench.preflight.of_account(account_id)
    say_unknown(bench.preflight.unknown)
    if problem:
        talk.print(f"it would fail: {problem}", style="yellow")
    if not reason or (problem and not force):
        if machine:
            as_line({"done": False, "account": account_id, "would_fail": problem, "unknown": bench.preflight.unknown})
        if reason:
            talk.print("Nothing was done; --force does it all the same")
            sys.exit(1)
        talk.print(f'Nothing was done; say --confirm --reason "…" to put a join request for {account_id} on the queue')
        return
    request = JoinRequest(
        source="joinguard.operator",
        event_id=str(uuid.uuid4()),
        requested_at=bench.clock.now(),
        account_id=account_id,
        organization_id=bench.organization_id,
        reason=reason,
    )
    body = request.model_dump_json()
    keyed = bench.pseudonyms.digest
    digest = LetterDigest(event_id=event_reference(request.event_id, keyed), body_digest=keyed("body", body))
    with bench.begin_new("enforce", reason, [digest]) as deed:
        bench.post.put(body)
        deed.results, deed.became = {"sent": 1}, {digest.event_id or "": "sent"}
    if machine:
        as_line({"done": True, "act": deed.act.act_id, "event_id": request.event_id, "account": account_id})
    talk.print(f"event {request.event_id} is on the queue; `outcome {account_id}` shows what becomes of it")


def _account_of(bench: Workbench, event: BinaryIO | None) -> AccountId:
    """Return the account that an event says has joined; raise OperateError where it says something else."""
    told = event.read(MAX_BODY_BYTES + 1) if event else b""
    try:
        meant = read_event(told, management_account_id=bench.preflight.management_account_id)
    except InvalidEventError as error:
        raise OperateError(
            f"the event cannot be read: {error}. Take one record as CloudTrail has it, or say ACCOUNT"
        ) from error
    if isinstance(meant, NoJoin):
        raise OperateError(
            f"the event reports no join: {meant.reason}. Where the account is a member all the same, say ACCOUNT"
        )
    if meant.organization_id not in {None, bench.organization_id}:
        raise OperateError(
            f"the event is about organization {meant.organization_id}, and this is {bench.organization_id}"
        )
    return meant.account_id
