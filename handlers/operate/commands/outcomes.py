"""`outcomes`."""

import click

from handlers.operate.context import Context
from handlers.operate.options import as_json, with_context
from handlers.operate.outcome_tables import outcome_fields, print_outcomes
from handlers.operate.output import Command, print_json
from schemas.outcome import OutcomeStatus


@click.command(cls=Command)
@click.option(
    "--status",
    type=click.Choice([OutcomeStatus.FAILED, OutcomeStatus.RETRYING]),
    default=OutcomeStatus.FAILED,
    show_default=True,
    help="Which outcomes.",
)
@as_json
@with_context
def outcomes(context: Context, status: OutcomeStatus, *, as_json: bool) -> None:
    """Show all events that failed or are being retried, the least recently updated first."""
    found = list(context.outcomes.failing(status))
    if as_json:
        print_json(outcome_fields(found))
    else:
        print_outcomes(found, f"Events that are {status.value}", {})
