"""DynamoDB: one row that all workers take their turns from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from handlers.aws.errors import FAILURES, error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_ROW: Final = {"name": {"S": "AttachPolicy"}}
#: A turn further off than this was taken by a clock that is wrong; it is not waited for.
_HORIZON: Final = timedelta(seconds=60)
_TRIES: Final = 4


class DynamoPace:
    """Hand out moments that lie an interval apart, to whatever number of workers.

    Organizations allows two attachments a second for the whole account and refuses those that overlap, so
    turns half a second apart avoid both. A turn that is not used (a crash) costs its interval and no more.
    """

    def __init__(self, client: DynamoDBClient, table: str, interval: timedelta) -> None:
        self._client = client
        self._table = table
        self._interval = interval

    def reserve(self, now: datetime) -> datetime:
        """Return when the caller's turn is: now where nobody waits.

        Where the table cannot be asked the answer is now too: throttles slow down, and guardrails matter more.
        """
        try:
            for _ in range(_TRIES):
                turn = self._queue_up(now) or self._go_ahead(now)
                if turn:
                    return turn
        except FAILURES:
            pass
        return now

    def _queue_up(self, now: datetime) -> datetime | None:
        """Take the turn after the last one that is taken; None where no turn lies ahead."""
        old = self._update("SET next_at = next_at + :interval", "next_at BETWEEN :now AND :horizon", now)
        return None if old is None else _moment(int(old["next_at"]["N"]))

    def _go_ahead(self, now: datetime) -> datetime | None:
        """Take the turn now; None where somebody was faster."""
        nobody = "attribute_not_exists(next_at) OR next_at < :now OR next_at > :horizon"
        return None if self._update("SET next_at = :after", nobody, now) is None else now

    def _update(self, expression: str, condition: str, now: datetime) -> dict[str, Any] | None:
        """Update the row and return what it was; None where the condition does not hold."""
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
