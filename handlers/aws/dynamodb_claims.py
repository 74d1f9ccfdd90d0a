"""DynamoDB: the claims in the outcomes, as the worker that removes policies reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from handlers.aws.dynamodb_rows import plain
from handlers.aws.errors import service_errors
from schemas.ids import PolicyId
from schemas.outcome import Claim

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

    from schemas.ids import AccountId

_claims: Final[TypeAdapter[dict[PolicyId, Claim]]] = TypeAdapter(dict[PolicyId, Claim])


class DynamoClaims:
    """Read the claims of an account."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def of(self, account_id: AccountId) -> Iterator[Mapping[PolicyId, Claim]]:
        """Yield the claims of each event of an account; those of an unreadable row are left out."""
        pages: Any = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="account_id = :account",
            FilterExpression="attribute_exists(claims)",
            ProjectionExpression="claims",
            ExpressionAttributeValues={":account": {"S": account_id}},
            ConsistentRead=True,
        )
        with service_errors("DynamoDB"):
            for page in pages:
                for item in page["Items"]:
                    try:
                        yield _claims.validate_python(plain(item)["claims"])
                    except ValidationError:
                        continue
