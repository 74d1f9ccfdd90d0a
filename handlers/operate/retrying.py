"""Joins that the worker is retrying: no message of theirs is in a queue of failed messages yet."""

from handlers.core.errors import JoinguardError
from handlers.operate.context import Context
from handlers.operate.output import hint
from schemas.outcome import OutcomeStatus


def number_retrying(context: Context) -> int | None:
    """Return the number of joins that are RETRYING; None if DynamoDB does not answer, which hides nothing else."""
    try:
        return context.outcomes.count(OutcomeStatus.RETRYING)
    except JoinguardError:
        return None


def print_retrying(context: Context) -> None:
    """Print how many joins are RETRYING, if any is."""
    if number := number_retrying(context):
        joins = "1 join is" if number == 1 else f"{number:,} joins are"
        hint(f"{joins} RETRYING, and not in these queues yet: `outcomes --status RETRYING`", "yellow")
