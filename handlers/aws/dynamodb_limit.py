"""DynamoDB: one row that counts the removals of a day, whichever worker makes them."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from handlers.aws.errors import error_code, service_errors

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_dynamodb import DynamoDBClient

    from schemas.ids import Sha256

_ROW: Final = {"name": {"S": "Removals"}}


class DynamoRemovalLimit:
    """Count removals of the day, in UTC, each once. Without an answer of the table, nothing is removed."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def take(self, removal: Sha256, limit: int, now: datetime) -> bool:
        """Count a removal, unless it was counted today; return False if as many as the limit were."""
        today = now.astimezone(UTC).date().isoformat()
        # The first removal of a day replaces those of the day before.
        return (
            self._add(removal, limit, today)
            or (limit > 0 and self._begin(removal, today))
            or self._add(removal, limit, today)
        )

    def _add(self, removal: Sha256, limit: int, today: str) -> bool:
        return self._update(
            "ADD counted :removal",
            "#day = :today AND (contains(counted, :name) OR size(counted) < :limit)",
            {
                ":removal": {"SS": [removal]},
                ":name": {"S": removal},
                ":limit": {"N": str(limit)},
                ":today": {"S": today},
            },
        )

    def _begin(self, removal: Sha256, today: str) -> bool:
        return self._update(
            "SET #day = :today, counted = :removal",
            "attribute_not_exists(#day) OR #day < :today",
            {":removal": {"SS": [removal]}, ":today": {"S": today}},
        )

    def _update(self, expression: str, condition: str, values: dict[str, Any]) -> bool:
        """Update the row; return False if the condition is not met."""
        with service_errors("DynamoDB"):
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=_ROW,
                    UpdateExpression=expression,
                    ConditionExpression=condition,
                    ExpressionAttributeNames={"#day": "day"},
                    ExpressionAttributeValues=values,
                )
            except ClientError as error:
                if error_code(error) == "ConditionalCheckFailedException":
                    return False
                raise
        return True
