"""DynamoDB: one row from which all workers take their turns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from handlers.aws.errors import FAILURES, error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_ROW: Final = {"name": {"S": "AttachPolicy"}}
#: A turn that is later than this was reserved by a wrong clock; it is ignored.
_HORIZON: Final = timedelta(seconds=60)
_TRIES: Final = 4


class DynamoPace:
    """Reserve turns at a fixed interval, shared by any number of workers.

    Organizations allows two attachments a second for the whole account and rejects attachments that overlap. Turns half
    a second apart avoid both. A turn that is not used, because its worker crashed, delays the others by one interval.
    """

    def __init__(self, client: DynamoDBClient, table: str, interval: timedelta) -> None:
        self._client = client
        self._table = table
        self._interval = interval

    def reserve(self, now: datetime) -> datetime:
        """Reserve the caller's turn and return its time: now, if no other worker waits.

        Returns now also if the table is not available: throttles then slow the workers down, and attaching the policies
        matters more.
        """
        try:
            for _ in range(_TRIES):
                turn = self._reserve_next(now)
                if turn or self._reserve_now(now) <= now:
                    return turn or now
        except FAILURES:
            pass
        return now

    def reserve_free(self, now: datetime) -> datetime:
        """Reserve a turn now and return `now`, or return when the next turn is free, without reserving it.

        Returns now also if the table is not available, as above.
        """
        try:
            return self._reserve_now(now)
        except FAILURES:
            return now

    def _reserve_next(self, now: datetime) -> datetime | None:
        """Reserve the turn after the last reserved one; None if there is none in the future."""
        is_reserved, old = self._update("SET next_at = next_at + :interval", "next_at BETWEEN :now AND :horizon", now)
        return _next_at(old) if is_reserved else None

    def _reserve_now(self, now: datetime) -> datetime:
        """Reserve a turn now and return `now`; if another worker was faster, return when the next turn is free."""
        free = "attribute_not_exists(next_at) OR next_at <= :now OR next_at > :horizon"
        is_reserved, old = self._update("SET next_at = :after", free, now)
        return now if is_reserved else _next_at(old)

    def _update(self, expression: str, condition: str, now: datetime) -> tuple[bool, dict[str, Any]]:
        """Update the row; return whether the condition was met, and the old row."""
        values = {
            ":now": _milliseconds(now),
            ":horizon": _milliseconds(now + _HORIZON),
            ":after": _milliseconds(now + self._interval),
            ":interval": round(self._interval.total_seconds() * 1000),
        }
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=_ROW,
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeValues={
                    name: {"N": str(value)} for name, value in values.items() if name in f"{expression} {condition}"
                },
                ReturnValues="UPDATED_OLD",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return False, cast("dict[str, Any]", error.response).get("Item", {})
            raise
        return True, dict(answer.get("Attributes", {}))


def _next_at(row: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(int(row["next_at"]["N"]) / 1000, UTC)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
