"""Lambda: receive requests from the queue and remove the policies that accounts no longer need."""

from typing import TYPE_CHECKING, Any

from handlers.batch import handle_batch
from handlers.bootstrap import remover

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from aws_lambda_powertools.utilities.typing import LambdaContext


def lambda_handler(event: dict[str, Any], context: "LambdaContext") -> "PartialItemFailureResponse":
    """Handle a batch of messages; return those that SQS has to deliver again."""
    return handle_batch(event, context, remover())
