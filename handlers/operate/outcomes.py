"""Commands that show what is true now."""

import sys
from datetime import UTC, datetime
from typing import Final

import click
from rich.text import Text

from handlers.core.errors import JoinguardError
from handlers.operate.options import AccountIdType, as_json, on_workbench
from handlers.operate.records import outcomes_table, proof_told, told_outcomes, told_proof
from handlers.operate.terminal import Command, as_line, show, talk
from handlers.operate.workbench import Workbench
from schemas.outcome import Outcome, OutcomeStatus

#: Rows that cannot be read come after all others.
_LAST: Final = datetime.max.replace(tzinfo=UTC)


@click.command("outcome", cls=Command)
@click.argument("account_id", metavar="ACCOUNT", type=AccountIdType())
@as_json
@on_workbench
def outcome_of(bench: Workbench, account_id: str, *, machine: bool) -> None:
    """Show what is true now of one account: what it carries, its joins, when, and whether their evidence is there.

    Exit status 1 where evidence is missing or is not what was written, or a row cannot be read.
    """
    found = list(bench.outcomes.of_account(account_id))
    found.sort(key=lambda each: each.event_time if isinstance(each, Outcome) else _LAST)
    proofs = {each.event_id: bench.proofs.of(each) for each in found if isinstance(each, Outcome)}
    wrong = sum(proof.wrong for each in proofs.values() for proof in each)
    carried: list[str] | None = None
    try:
        carried = sorted(bench.organization.attached_policies(account_id))
        missing = sorted(set(bench.policy_ids) - set(carried))
        verdict = f"lacks {', '.join(missing)}" if missing else "carries every policy it must"
    except JoinguardError as error:
        missing, verdict = [], f"what it carries now cannot be told ({error.fault.code}): {error.fault.message}"
    if machine:
        events = told_outcomes(found)
        for each in events:
            each["evidence"] = [told_proof(proof) for proof in proofs.get(each["event_id"], ())]
        told = {"account": account_id, "carries": carried, "missing": missing, "verdict": verdict}
        as_line(told | {"wrong_evidence": wrong, "events": events})
    else:
        good = carried is not None and not missing
        show.print(Text.assemble(f"{account_id} ", (verdict, "green" if good else "red")))
        said = {event_id: [proof_told(proof) for proof in each] for event_id, each in proofs.items()}
        outcomes_table(found, f"Events of {account_id}", said)
        if wrong:
            talk.print(
                f"{wrong:,} pieces of evidence are wrong: see handlers/operate/RUNBOOK.md#evidence-differs", style="red"
            )
    sys.exit(1 if wrong or len(proofs) < len(found) else 0)


@click.command("outcomes", cls=Command)
@click.option(
    "--status",
    type=click.Choice([OutcomeStatus.FAILED, OutcomeStatus.RETRYING]),
    default=OutcomeStatus.FAILED,
    show_default=True,
    help="Which.",
)
@as_json
@on_workbench
def outcomes_of_many(bench: Workbench, status: OutcomeStatus, *, machine: bool) -> None:
    """Show all events that are not well, the longest unchanged first."""
    found = list(bench.outcomes.failing(status))
    if machine:
        as_line(told_outcomes(found))
    else:
        outcomes_table(found, f"Events that are {status.value}", {})
