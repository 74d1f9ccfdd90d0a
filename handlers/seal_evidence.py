"""Lambda: seal what is new in the evidence bucket, and sign a checkpoint."""

from typing import TYPE_CHECKING, Any

from handlers.bootstrap import sealer
from handlers.sealing import seal

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def lambda_handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Continue the sealed log, and return how far it is."""
    return seal(context, sealer())
