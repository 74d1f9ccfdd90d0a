"""DynamoDB: the outcomes as operators read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer

from handlers.aws.faults import records_faults
from handlers.aws.ledger import outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from schemas.ids import AccountId
    from schemas.outcome import Outcome, OutcomeStatus

_deserialize = TypeDeserializer().deserialize


class OutcomesReader:
    """What is true now."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def of_account(self, account_id: AccountId | str) -> Iterator[Outcome]:
        """Yield all events of an account; of `none`, those that name no account."""
        yield from self._query(
            KeyConditionExpression="account_id = :a", ExpressionAttributeValues={":a": _s(account_id)}
        )

    def failing(self, status: OutcomeStatus) -> Iterator[Outcome]:
        """Yield all that are RETRYING or FAILED, the longest unchanged first."""
        yield from self._query(
            IndexName="failing",
            KeyConditionExpression="failing = :s",
            ExpressionAttributeValues={":s": _s(status.value)},
        )

    def _query(self, **asked: Any) -> Iterator[Outcome]:  # noqa: ANN401 - the SDK's own
        pages = self._client.get_paginator("query").paginate(TableName=self._table, **asked)
        with records_faults("DynamoDB"):
            for page in pages:
                for item in page["Items"]:
                    yield outcome({name: _deserialize(value) for name, value in item.items()})


def _s(text: str) -> dict[str, str]:
    return {"S": text}
