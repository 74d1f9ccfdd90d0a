"""DynamoDB: one row from which all workers take their turns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

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
                turn = self._reserve_next(now) or self._reserve_now(now)
                if turn:
                    return turn
        except FAILURES:
            pass
        return now

    def _reserve_next(self, now: datetime) -> datetime | None:
        """Reserve the turn after the last reserved one; None if there is none in the future."""
        old = self._update("SET next_at = next_at + :interval", "next_at BETWEEN :now AND :horizon", now)
        return None if old is None else _moment(int(old["next_at"]["N"]))

    def _reserve_now(self, now: datetime) -> datetime | None:
        """Reserve a turn now; None if another worker was faster."""
        free = "attribute_not_exists(next_at) OR next_at < :now OR next_at > :horizon"
        return None if self._update("SET next_at = :after", free, now) is None else now

    def _update(self, expression: str, condition: str, now: datetime) -> dict[str, Any] | None:
        """Update the row and return the old values of the updated fields; None if the condition is not met."""
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
            )
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return None
            raise
        return dict(answer.get("Attributes", {}))


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
