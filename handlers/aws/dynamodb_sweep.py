"""DynamoDB: what the sweep keeps between its invocations, which one of them holds at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError
from pydantic import ValidationError

from handlers.aws.dynamodb_rows import stamp
from handlers.aws.errors import error_code, service_errors
from handlers.core.errors import RetryableError, fault
from schemas.sweep import SweepState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from mypy_boto3_dynamodb import DynamoDBClient

    from schemas.ids import ActionId

#: The key of the state.
STATE_KEY: Final = {"name": {"S": "Sweep"}}
#: Pieces that no invocation deleted expire, if the table has a time to live.
_EXPIRE_AFTER: Final = timedelta(days=30)
#: The longest hold: Lambda ends an invocation after at most 15 minutes. A later end was written by a wrong clock.
_LONGEST: Final = timedelta(minutes=20)
_MOVED_ON: Final = fault("SWEEP_LEASE", "another invocation has taken hold of the sweep's state")


class DynamoSweepStore:
    """Keep the state in the item `Sweep`, and pieces in items of their own.

    `holds` is a fencing token: each invocation that takes hold increments it, and only the latest one may save.
    """

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table
        self._hold = 0
        self._expires = 0

    def read(self) -> SweepState | None:
        """Return the state, without taking hold; None before the first sweep, and if the item is unreadable."""
        with service_errors("DynamoDB"):
            found = self._client.get_item(TableName=self._table, Key=STATE_KEY, ConsistentRead=True)
        return state_of(found.get("Item", {}))

    def acquire(self, now: datetime, until: datetime) -> SweepState | None:
        """Take hold until a moment, and return what is kept; None while another invocation holds it."""
        free = "attribute_not_exists(held_until) OR held_until < :now OR held_until > :horizon"
        with service_errors("DynamoDB"):
            try:
                answer = self._client.update_item(
                    TableName=self._table,
                    Key=STATE_KEY,
                    UpdateExpression="SET held_until = :until ADD holds :one",
                    ConditionExpression=free,
                    ExpressionAttributeValues={
                        ":now": {"S": stamp(now)},
                        ":until": {"S": stamp(until)},
                        ":horizon": {"S": stamp(now + _LONGEST)},
                        ":one": {"N": "1"},
                    },
                    ReturnValues="ALL_NEW",
                )
            except ClientError as error:
                if error_code(error) == "ConditionalCheckFailedException":
                    return None
                raise
        self._hold = int(answer["Attributes"]["holds"]["N"])
        self._expires = int((now + _EXPIRE_AFTER).timestamp())
        return state_of(answer["Attributes"]) or SweepState(since=now)

    def save(self, state: SweepState) -> None:
        """Keep a state; raise RetryableError if another invocation has taken hold since."""
        self._update("SET kept = :kept", {":kept": {"S": state.model_dump_json(exclude_none=True)}})

    def release(self) -> None:
        """Let go, unless another invocation has taken hold since."""
        try:
            self._update("REMOVE held_until", {})
        except RetryableError:
            # The hold ends by itself.
            return

    def put(self, sweep_id: ActionId, kind: str, number: int, piece: bytes) -> None:
        """Keep a piece of what a sweep read or decided, instead of an earlier one with this number."""
        item: Any = {
            **_piece(sweep_id, kind, number),
            "content": {"B": piece},
            "expires_at": {"N": str(self._expires)},
        }
        with service_errors("DynamoDB"):
            self._client.put_item(TableName=self._table, Item=item)

    def get(self, sweep_id: ActionId, kind: str, count: int) -> Sequence[bytes] | None:
        """Return the first pieces of a kind, in order; None if one of them is missing."""
        found = []
        for number in range(count):
            with service_errors("DynamoDB"):
                answer = self._client.get_item(
                    TableName=self._table, Key=_piece(sweep_id, kind, number), ConsistentRead=True
                )
            item: Mapping[str, Any] = answer.get("Item", {})
            if "B" not in item.get("content", {}):
                return None
            found.append(bytes(item["content"]["B"]))
        return found

    def delete(self, sweep_id: ActionId, kind: str, count: int) -> None:
        """Delete the first pieces of a kind."""
        for number in range(count):
            with service_errors("DynamoDB"):
                self._client.delete_item(TableName=self._table, Key=_piece(sweep_id, kind, number))

    def _update(self, expression: str, values: dict[str, Any]) -> None:
        with service_errors("DynamoDB"):
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=STATE_KEY,
                    UpdateExpression=expression,
                    ConditionExpression="holds = :hold",
                    ExpressionAttributeValues={":hold": {"N": str(self._hold)}, **values},
                )
            except ClientError as error:
                if error_code(error) == "ConditionalCheckFailedException":
                    raise RetryableError(_MOVED_ON) from error
                raise


def _piece(sweep_id: ActionId, kind: str, number: int) -> dict[str, Any]:
    return {"name": {"S": f"Sweep/{sweep_id}/{kind}/{number}"}}


def state_of(item: Mapping[str, Any]) -> SweepState | None:
    """Return the state that an item keeps; None if there is none, or if it is unreadable."""
    try:
        return SweepState.model_validate_json(item.get("kept", {}).get("S", ""))
    except ValidationError:
        # What an earlier version wrote, or somebody else: the sweep begins anew.
        return None
