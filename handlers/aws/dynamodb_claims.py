"""DynamoDB: the claims in the outcomes, as the worker that removes policies reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from handlers.aws.dynamodb_rows import plain
from handlers.aws.errors import service_errors
from handlers.core.errors import Cause, PermanentError
from handlers.core.joins.claims import UNREADABLE
from handlers.core.joins.ports import EventChanges
from schemas.ids import PolicyId
from schemas.outcome import Claim

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

    from schemas.ids import AccountId

_claims: Final[TypeAdapter[dict[PolicyId, Claim]]] = TypeAdapter(dict[PolicyId, Claim])
_intents: Final[TypeAdapter[dict[str, list[PolicyId]]]] = TypeAdapter(dict[str, list[PolicyId]])
_unclear: Final[TypeAdapter[list[PolicyId]]] = TypeAdapter(list[PolicyId])


class DynamoClaims:
    """Read the claims of an account, and what its attempts have not recorded yet."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def of(self, account_id: AccountId) -> Iterator[EventChanges]:
        """Yield what the row of each event of an account says; raise PermanentError if one is not readable."""
        pages: Any = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="account_id = :account",
            ProjectionExpression="claims, intents, unclear, failing",
            ExpressionAttributeValues={":account": {"S": account_id}},
            ConsistentRead=True,
        )
        with service_errors("DynamoDB"):
            for page in pages:
                yield from map(_changes, page["Items"])


def _changes(item: Mapping[str, Any]) -> EventChanges:
    row = plain(item)
    try:
        intents = _intents.validate_python(row.get("intents", {})).values()
        unclear = _unclear.validate_python(row.get("unclear", []))
        claims = _claims.validate_python(row.get("claims", {}))
    except ValidationError:
        # Without the cause, which may hold what somebody wrote into the row.
        raise PermanentError(UNREADABLE, cause=Cause.CLAIMS_UNREADABLE) from None
    # Only events that are not decided are in the index.
    return EventChanges(claims, frozenset(unclear).union(*intents) if "failing" in row else frozenset())
