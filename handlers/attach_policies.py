"""Lambda: receive the events of accounts from the queue and attach the policies that the accounts must carry."""

from typing import TYPE_CHECKING, Any

from handlers.batch import handle_batch
from handlers.bootstrap import enforcer

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from aws_lambda_powertools.utilities.typing import LambdaContext


def lambda_handler(event: dict[str, Any], context: "LambdaContext") -> "PartialItemFailureResponse":
    """Handle a batch of messages; return those that SQS has to deliver again."""
    # A batch holds messages of one queue.
    return handle_batch(event, context, enforcer(event["Records"][0].get("eventSourceARN", "")))
