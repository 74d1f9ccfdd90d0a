"""DynamoDB: one row that counts the removals of a day, whichever worker makes them."""

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

_ROW: Final = {"name": {"S": "Removals"}}


class DynamoRemovalLimit:
    """Count removals of the day, in UTC, each once. Without an answer of the table, nothing is removed."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def take(self, removal: Sha256, limit: int, now: datetime) -> bool:
        """Count a removal, unless it was counted today; return False if as many as the limit were.

        Raises RetryableError if another worker counts for a later day, so that one of the clocks is wrong.
        """
        today = now.astimezone(UTC).date().isoformat()
        refused = self._add(removal, limit, today)
        # The first removal of a day replaces those of the day before.
        if refused is not None and str(refused.get("day", "")) < today and limit > 0:
            refused = None if self._begin(removal, today) is None else self._add(removal, limit, today)
        if refused is not None and str(refused.get("day", "")) > today:
            raise RetryableError(fault("CLOCK_DIFFERS", "removals of a later day are being counted; it is tried again"))
        return refused is None

    def _add(self, removal: Sha256, limit: int, today: str) -> Mapping[str, Any] | None:
        # A limit that is lowered holds for what was counted before, too.
        within = "(size(counted) < :limit OR (contains(counted, :name) AND size(counted) <= :limit))"
        condition = f"#day = :today AND {within}"
        values = {":name": {"S": removal}, ":limit": {"N": str(limit)}, ":today": {"S": today}}
        return self._refused("ADD counted :removal", condition, {":removal": {"SS": [removal]}, **values})

    def _begin(self, removal: Sha256, today: str) -> Mapping[str, Any] | None:
        condition = "attribute_not_exists(#day) OR #day < :today"
        values = {":removal": {"SS": [removal]}, ":today": {"S": today}}
        return self._refused("SET #day = :today, counted = :removal", condition, values)

    def _refused(self, expression: str, condition: str, values: dict[str, Any]) -> Mapping[str, Any] | None:
        """Update the row; return None, or the row as it is if the condition is not met."""
        with service_errors("DynamoDB"):
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=_ROW,
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
