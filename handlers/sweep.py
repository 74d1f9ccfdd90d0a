"""Lambda: find what no event told of, in the whole organization, and request it."""

from typing import TYPE_CHECKING, Any

from handlers.bootstrap import sweeper
from handlers.sweeping import sweep

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def lambda_handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Do the sweep's next steps, and return how far it is."""
    return sweep(event, context, sweeper())
