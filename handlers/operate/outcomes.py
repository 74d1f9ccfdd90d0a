"""Commands that show what is true now."""

import click
from rich.text import Text

from handlers.core.errors import JoinguardError
from handlers.operate.options import AccountIdType, as_json, on_workbench
from handlers.operate.screens import as_line, outcomes_table, show, told_outcomes
from handlers.operate.workbench import Workbench
from schemas.outcome import OutcomeStatus


@click.command("outcome")
@click.argument("account_id", metavar="ACCOUNT", type=AccountIdType())
@as_json
@on_workbench
def outcome_of(bench: Workbench, account_id: str, *, machine: bool) -> None:
    """Show what is true now of one account: what it carries, its joins, when, evidence."""
    found = sorted(bench.outcomes.of_account(account_id), key=lambda each: each.event_time)
    carried: list[str] | None = None
    try:
        carried = sorted(bench.organization.attached_policies(account_id))
        missing = sorted(set(bench.policy_ids) - set(carried))
        verdict = f"lacks {', '.join(missing)}" if missing else "carries every policy it must"
    except JoinguardError as error:
        missing, verdict = [], f"what it carries now cannot be told ({error.fault.code}): {error.fault.message}"
    if machine:
        events = told_outcomes(found)
        as_line({"account": account_id, "carries": carried, "missing": missing, "verdict": verdict, "events": events})
        return
    good = carried is not None and not missing
    show.print(Text.assemble(f"{account_id} ", (verdict, "green" if good else "red")))
    outcomes_table(found, f"Events of {account_id}")


@click.command("outcomes")
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
        outcomes_table(found, f"Events that are {status.value}")
