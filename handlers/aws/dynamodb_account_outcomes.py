"""DynamoDB: the outcomes of one account, as the worker reads them, and closes them after the account has left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from handlers.aws.dynamodb_rows import NOT_LEASED, lease_limits, plain, readable, serialize, stamp, value_of
from handlers.aws.errors import error_code, service_errors
from handlers.core.joins.ports import Closing
from schemas.events import DEPARTURES
from schemas.outcome import FAILING, OutcomeStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from mypy_boto3_dynamodb import DynamoDBClient

    from schemas.ids import AccountId
    from schemas.outcome import Departed, Outcome

_CLOSE: Final = "SET #status = :status, departed = :departed, updated_at = :now REMOVE failing, lease_until"
_OPEN: Final = "#status IN (:retrying, :failed) AND event_time < :left_at"


class DynamoAccountOutcomes:
    """Read the outcomes of an account, and close those of its events before its departure."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def close(self, account_id: AccountId, departed: Departed, now: datetime) -> Closing:
        """Close the outcomes of the account's events before its departure that are RETRYING or FAILED.

        An outcome that an attempt is being made at stays open and is counted.
        """
        found = [
            self._close(each, departed, now)
            for each in self.outcomes(account_id)
            if each.status in FAILING and each.event_time < departed.left_at and each.event_name not in DEPARTURES
        ]
        return Closing(closed=found.count(True), running=found.count(False))

    def outcomes(self, account_id: AccountId) -> Iterator[Outcome]:
        """Yield the readable outcomes of all events of an account; what no worker wrote is left alone."""
        pages: Any = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="account_id = :account",
            ExpressionAttributeValues={":account": {"S": account_id}},
            ConsistentRead=True,
        )
        with service_errors("DynamoDB"):
            for page in pages:
                yield from filter(None, (readable(plain(each)) for each in page["Items"]))

    def _close(self, row: Outcome, departed: Departed, now: datetime) -> bool | None:
        """Close a row; return False while an attempt is running, and None if it is not open any more."""
        values = {
            ":status": OutcomeStatus.CLOSED.value,
            ":retrying": OutcomeStatus.RETRYING.value,
            ":failed": OutcomeStatus.FAILED.value,
            ":departed": value_of(departed.model_dump()),
            ":left_at": stamp(departed.left_at),
            **lease_limits(now),
        }
        with service_errors("DynamoDB"):
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key={"account_id": {"S": row.account_id}, "event_id": {"S": row.event_id}},
                    UpdateExpression=_CLOSE,
                    ConditionExpression=f"{_OPEN} AND ({NOT_LEASED})",
                    ExpressionAttributeNames={"#status": "status"},
                    ExpressionAttributeValues={name: serialize(value) for name, value in values.items()},
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                known = readable(plain(cast("dict[str, Any]", error.response.get("Item", {}))))
                return False if known and known.status in FAILING else None
        return True
