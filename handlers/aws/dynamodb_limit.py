"""DynamoDB: rows that count what may be done a limited number of times a day, whichever worker does it."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from handlers.aws.dynamodb_rows import plain
from handlers.aws.errors import error_code, service_errors
from handlers.core.errors import RetryableError, fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mypy_boto3_dynamodb import DynamoDBClient

    from schemas.ids import Sha256

#: The rows.
REMOVALS: Final = "Removals"
RESTORES: Final = "Restores"


class DynamoDailyLimit:
    """Count what is done on a day, in UTC, each thing once. Without an answer of the table, nothing is done."""

    def __init__(self, client: DynamoDBClient, table: str, name: str = REMOVALS) -> None:
        self._client = client
        self._table = table
        self._key: Any = {"name": {"S": name}}

    def take(self, counted: Sha256, limit: int, now: datetime) -> bool:
        """Count something, unless it was counted today; return False if as many as the limit were.

        Raises RetryableError if another worker counts for a later day, so that one of the clocks is wrong.
        """
        today = now.astimezone(UTC).date().isoformat()
        refused = self._add(counted, limit, today)
        # The first one of a day replaces those of the day before.
        if refused is not None and str(refused.get("day", "")) < today and limit > 0:
            refused = None if self._begin(counted, today) is None else self._add(counted, limit, today)
        if refused is not None and str(refused.get("day", "")) > today:
            raise RetryableError(fault("CLOCK_DIFFERS", "a later day is being counted; it is tried again"))
        return refused is None

    def _add(self, counted: Sha256, limit: int, today: str) -> Mapping[str, Any] | None:
        # A limit that is lowered holds for what was counted before, too.
        within = "(size(counted) < :limit OR (contains(counted, :name) AND size(counted) <= :limit))"
        condition = f"#day = :today AND {within}"
        values = {":name": {"S": counted}, ":limit": {"N": str(limit)}, ":today": {"S": today}}
        return self._refused("ADD counted :removal", condition, {":removal": {"SS": [counted]}, **values})

    def _begin(self, counted: Sha256, today: str) -> Mapping[str, Any] | None:
        condition = "attribute_not_exists(#day) OR #day < :today"
        values = {":removal": {"SS": [counted]}, ":today": {"S": today}}
        return self._refused("SET #day = :today, counted = :removal", condition, values)

    def _refused(self, expression: str, condition: str, values: dict[str, Any]) -> Mapping[str, Any] | None:
        """Update the row; return None, or the row as it is if the condition is not met."""
        with service_errors("DynamoDB"):
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=self._key,
                    UpdateExpression=expression,
                    ConditionExpression=condition,
                    ExpressionAttributeNames={"#day": "day"},
                    ExpressionAttributeValues=values,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as error:
                if error_code(error) == "ConditionalCheckFailedException":
                    return plain(cast("dict[str, Any]", error.response.get("Item", {})))
                raise
        return None
