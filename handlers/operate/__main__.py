"""The operator's tool: see why letters are dead, mend, put back exactly what should be put back, leave a trace.

Data goes to stdout, talk to stderr. Exit status 0: done; 1: something failed or is left; 2: wrong use.
"""

import json
import re
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from handlers.core.acts import next_step
from handlers.core.errors import RetryableError
from handlers.core.letters import RETENTION, DeadLetter, edited, restored
from handlers.core.redrive import Filter, Plan, Redrive, group, make_plan
from handlers.operate.options import acting, as_json, filtered, on_workbench
from handlers.operate.screens import age, difference, outcomes_table, progress, rows, show, talk, tell_plan
from handlers.operate.workbench import OperateError, Workbench, open_workbench
from schemas.events import JoinRequest
from schemas.intake import InvalidEventError
from schemas.outcome import OutcomeStatus


class Commands(click.Group):
    """Commands whose failures are one clear line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own
        """Run a command; say what went wrong, and no traceback."""
        try:
            return super().invoke(ctx)
        except (OperateError, RetryableError, InvalidEventError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--stack", default="joinguard", show_default=True, help="The installation's stack.")
@click.option("--profile", help="One of your AWS profiles.")
@click.option("--region", help="The stack's Region.")
@click.pass_context
def cli(ctx: click.Context, stack: str, profile: str | None, region: str | None) -> None:
    """See why accounts have not got their policies, and put right what can be put right.

    Start with `list`. Nothing is changed without --confirm and --reason, and what is changed is on record for ever.
    """
    ctx.obj = lambda: open_workbench(stack, profile, region)


@cli.command("list")
@click.option(
    "--by",
    type=click.Choice(["code", "account", "policy", "event", "day"]),
    default="code",
    show_default=True,
    help="What to group by.",
)
@filtered
@as_json
@on_workbench
def list_letters(bench: Workbench, by: str, wanted: Filter, *, machine: bool) -> None:
    """Show what waits in both queues, and why. Consumes nothing; SQS counts the look as a receive."""
    now = bench.clock.now()
    with _in_hand(bench) as found:
        letters = [each for each in found if wanted.matches(each, now)]
    summary = [
        {
            by: key,
            "letters": len(group_),
            "oldest": age(now - min(each.sent_at for each in group_)),
            "left": age(min(each.sent_at for each in group_) + RETENTION - now),
            "redrives": max(each.redrives for each in group_),
            "queue": ", ".join(sorted({each.queue for each in group_})),
            "why": group_[0].why,
            "ids": [each.message_id for each in group_[:10]],
            "next step": next_step(group_[0].code),
        }
        for key, group_ in group(letters, by).items()
    ]
    rows(f"{len(letters)} letters, by {by}", summary, machine=machine)


@cli.command("show")
@click.argument("message_id")
@as_json
@on_workbench
def show_letter(bench: Workbench, message_id: str, *, machine: bool) -> None:
    """Show one letter whole: body, attributes, outcome, evidence, next step."""
    with _in_hand(bench) as letters:
        letter = _one(letters, message_id)
    outcomes = list(bench.outcomes.of_account(letter.account_id)) if letter.account_id else []
    outcome = next((each for each in outcomes if each.event_id == letter.event_id), None)
    evidence = []
    if outcome:
        evidence = bench.archive.under(f"evidence/{outcome.event_time:%Y/%m/%d}/{outcome.event_id}/")
    found = {
        "queue": letter.queue,
        "why": f"{letter.code}: {letter.why}",
        "next step": next_step(letter.code),
        "would fail again": bench.preflight.would_fail(letter) or "nothing speaks against a redrive",
        "attributes": {name: letter.says(name) for name in letter.attributes},
        "history": bench.history(letter),
        "outcome": json.loads(outcome.model_dump_json(exclude_none=True)) if outcome else None,
        "evidence": evidence,
        "body": letter.body,
    }
    if machine:
        click.echo(json.dumps(found))
        return
    table = Table("", "", title=f"Letter {message_id}", show_header=False)
    for name, value in found.items():
        table.add_row(name, escape(value if isinstance(value, str) else json.dumps(value, indent=1)))
    show.print(table)


@cli.command()
@filtered
@acting
@click.option("--max-redrives", default=3, show_default=True, help="Leave out what was put back so often.")
@click.option(
    "--rate",
    type=float,
    help="Letters a second. Default: what the workers absorb. 0: as fast as SQS, before live joins.",
)
@click.option("--breaker", default=5, show_default=True, help="Stop when so many came back dead.")
@click.option("--force", is_flag=True, help="Also what would only come back.")
@click.option("--native", is_flag=True, help="Let SQS move all dead letters by itself.")
@on_workbench
def redrive(  # noqa: PLR0913, PLR0917 - the options of a command
    bench: Workbench,
    wanted: Filter,
    reason: str | None,
    max_redrives: int,
    rate: float | None,
    breaker: int,
    *,
    confirm: bool,
    force: bool,
    native: bool,
) -> None:
    """Put letters back on the queue: send first, delete after. Shows the plan; does it with --confirm --reason."""
    if native:
        _move(bench, wanted, reason, confirm=confirm)
        return
    pace = 2 / max(1, len(bench.policy_ids)) if rate is None else rate or None
    engine = Redrive(bench.post, time.sleep, time.monotonic, rate=pace, breaker=breaker)
    with _in_hand(bench) as letters:
        plan = make_plan(
            letters,
            wanted,
            now=bench.clock.now(),
            max_redrives=max_redrives,
            would_fail=bench.preflight.would_fail,
            force=force,
        )
        tell_plan(plan, "redriven", None if pace is None else len(plan.chosen) / pace)
        if not _may(plan, reason, confirm=confirm):
            return
        deed = bench.begin("redrive", reason or "", list(plan.chosen))
        letters[:] = [*plan.others, *(letter for letter, _ in plan.left_out)]
    try:
        with progress() as bar:
            task = bar.add_task("redriving", total=len(plan.chosen))
            engine.run(plan.chosen, lambda done: bar.advance(task, done))
    finally:
        deed.end(chosen=len(plan.chosen), sent=engine.sent, deleted=engine.deleted)
    talk.print(f"{engine.sent} sent, {engine.deleted} of them deleted, {len(plan.chosen) - engine.sent} left")
    if engine.stopped:
        raise OperateError(engine.stopped)
    sys.exit(0 if engine.deleted == len(plan.chosen) and not plan.left_out else 1)


@cli.command()
@filtered
@acting
@on_workbench
def drop(bench: Workbench, wanted: Filter, reason: str | None, *, confirm: bool) -> None:
    """Take letters away for good, after a backup. Needs a filter."""
    if wanted.is_empty:
        message = "say which letters: a filter or --id is needed to drop"
        raise click.UsageError(message)
    with _in_hand(bench) as letters:
        now = bench.clock.now()
        plan = make_plan(letters, wanted, now=now, max_redrives=0, would_fail=lambda _: None, force=True)
        tell_plan(plan, "dropped", None)
        if not _may(plan, reason, confirm=confirm):
            return
        deed = bench.begin("drop", reason or "", list(plan.chosen))
        kept = deed.back_up(plan.chosen)
        gone = bench.post.delete(plan.chosen)
        letters[:] = [each for each in letters if each not in gone]
        deed.end(chosen=len(plan.chosen), deleted=len(gone))
    talk.print(f"{len(gone)} dropped; `restore {kept}` brings them back")


@cli.command()
@click.argument("key")
@acting
@on_workbench
def restore(bench: Workbench, key: str, reason: str | None, *, confirm: bool) -> None:
    """Put the letters of a backup on the queue again."""
    letters = [restored(line) for line in bench.archive.read(key).decode().splitlines()]
    plan = Plan(tuple(letters), (), ())
    tell_plan(plan, "restored to the joins queue", None)
    if not _may(plan, reason, confirm=confirm):
        return
    deed = bench.begin("restore", reason or "", letters)
    sent = sum(len(bench.post.resend(letters[begin : begin + 10])) for begin in range(0, len(letters), 10))
    deed.end(chosen=len(letters), sent=sent)
    talk.print(f"{sent} restored")
    sys.exit(0 if sent == len(letters) else 1)


@cli.command()
@click.argument("message_id")
@acting
@on_workbench
def edit(bench: Workbench, message_id: str, reason: str | None, *, confirm: bool) -> None:
    """Open a letter's body in $EDITOR, check it, show the difference, send it back."""
    with _in_hand(bench) as letters:
        letter = _one(letters, message_id)
        body = click.edit(letter.body, extension=".json")
        changed = edited(letter, (body or letter.body).rstrip("\n"))
        difference(letter.body, changed.body)
        if not _may(Plan((changed,) if changed.body != letter.body else (), (), ()), reason, confirm=confirm):
            return
        deed = bench.begin("edit", reason or "", [letter, changed])
        kept = deed.back_up([letter])
        sent = bench.post.resend([changed])
        gone = bench.post.delete([letter]) if sent else []
        deed.end(sent=len(sent), deleted=len(gone))
        talk.print(f"sent with the new body; the old one is kept in {kept}")


@cli.command("outcome")
@click.argument("account_id")
@as_json
@on_workbench
def outcome_of(bench: Workbench, account_id: str, *, machine: bool) -> None:
    """Show what is true now of one account: its joins, policies, times, evidence."""
    outcomes_table(bench.outcomes.of_account(account_id), f"Account {account_id}", machine=machine)


@cli.command("outcomes")
@click.option("--status", type=click.Choice(["FAILED", "RETRYING"]), default="FAILED", show_default=True, help="Which.")
@as_json
@on_workbench
def outcomes(bench: Workbench, status: str, *, machine: bool) -> None:
    """Show all events that are not well."""
    outcomes_table(bench.outcomes.failing(OutcomeStatus(status)), f"Events that are {status}", machine=machine)


@cli.command()
@click.argument("account_id")
@acting
@on_workbench
def enforce(bench: Workbench, account_id: str, reason: str | None, *, confirm: bool) -> None:
    """Ask for an account to be treated as one that joined: for the account that no event told us about."""
    if not re.fullmatch("[0-9]{12}", account_id):
        message = f"{account_id!r} is no account id; it has twelve digits"
        raise click.UsageError(message)
    if not (confirm and reason):
        talk.print('a join request would be put on the queue. Nothing was done; say --confirm --reason "…" to do it')
        return
    request = JoinRequest(
        source="joinguard.operator",
        event_id=str(uuid.uuid4()),
        requested_at=bench.clock.now(),
        account_id=account_id,
        organization_id=bench.organization_id,
        reason=reason,
    )
    deed = bench.begin("enforce", reason, [])
    bench.post.put(request.model_dump_json())
    deed.end(sent=1)
    talk.print(f"event {request.event_id} is on the queue; `outcome {account_id}` shows what becomes of it")


def _move(bench: Workbench, wanted: Filter, reason: str | None, *, confirm: bool) -> None:
    """Hand everything to SQS's own move task, which takes no filter, keeps no count and asks nobody."""
    if not wanted.is_empty or wanted.limit:
        message = "SQS moves all or nothing: --native takes no filter"
        raise click.UsageError(message)
    if not (confirm and reason):
        talk.print('SQS would move all dead letters. Nothing was done; say --confirm --reason "…" to do it')
        return
    deed = bench.begin("move", reason, [])
    handle = bench.move_all()
    talk.print("SQS moves; Ctrl-C cancels what is not moved yet")
    try:
        with progress() as bar:
            bar_id = bar.add_task("moving", total=None)
            while (task := bench.moving())["Status"] == "RUNNING":
                total = task.get("ApproximateNumberOfMessagesToMove")
                bar.update(bar_id, completed=task.get("ApproximateNumberOfMessagesMoved", 0), total=total)
                time.sleep(2)
    except KeyboardInterrupt:
        bench.cancel_move(handle)
        task = bench.moving()
    moved = int(task.get("ApproximateNumberOfMessagesMoved", 0))
    deed.end(moved=moved)
    talk.print(f"{task['Status']}: {moved} moved{'; ' + task['FailureReason'] if 'FailureReason' in task else ''}")
    sys.exit(0 if task["Status"] == "COMPLETED" else 1)


@contextmanager
def _in_hand(bench: Workbench) -> Iterator[list[DeadLetter]]:
    """Take all letters in hand; whatever is still on the list in the end is given back."""
    letters: list[DeadLetter] = []
    try:
        with talk.status("looking into both queues") as status:
            for letter in bench.post.browse():
                letters.append(letter)
                if len(letters) % 500 == 0:
                    status.update(f"{len(letters)} letters so far")
        yield letters
    finally:
        bench.post.release(letters)


def _one(letters: list[DeadLetter], message_id: str) -> DeadLetter:
    found = next((each for each in letters if each.message_id == message_id), None)
    if found is None:
        message = f"there is no letter {message_id}; `list --by account` and `list --json` show which there are"
        raise OperateError(message)
    return found


def _may(plan: Plan, reason: str | None, *, confirm: bool) -> bool:
    """Tell whether a plan is to be carried out."""
    if not plan.chosen:
        talk.print("nothing to do")
        if confirm and plan.left_out:
            sys.exit(1)
        return False
    if not (confirm and reason):
        talk.print('Nothing was done; say --confirm --reason "…" to do it')
        return False
    return True


if __name__ == "__main__":
    cli(prog_name="joinguard")
