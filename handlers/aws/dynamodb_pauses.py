"""DynamoDB: all pauses in one item, because every sweep reads all of them, and a query cannot find items by their key.

The item has an attribute for each pause, by its id, and one that names the action that wrote it last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from handlers.aws.dynamodb_rows import plain, serialize, value_of
from handlers.aws.errors import service_errors
from handlers.core.errors import Cause, RetryableError, fault
from handlers.core.guardrails.pauses import KnownPauses
from schemas.pause import Pause

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

#: The key of the item.
_ITEM: Final = {"name": "Pauses"}
_VERSION: Final = "version"


class DynamoPauses:
    """Read all pauses with one call, and replace them with one call."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def read(self) -> KnownPauses:
        """Return all pauses."""
        with service_errors("DynamoDB"):
            answer = self._client.get_item(TableName=self._table, Key=_serialized(_ITEM), ConsistentRead=True)
        row = plain(answer.get("Item", {}))
        version = row.pop(_VERSION, None)
        readable: list[Pause] = []
        unreadable: dict[str, object] = {}
        for name in row.keys() - _ITEM.keys():
            if pause := _pause(name, row[name]):
                readable.append(pause)
            else:
                unreadable[name] = row[name]
        return KnownPauses(tuple(sorted(readable, key=lambda each: each.begun_at)), unreadable, version)

    def write(self, pauses: KnownPauses, before: KnownPauses) -> None:
        """Replace all pauses; raise RetryableError if somebody has changed them since they were read."""
        readable = {each.id: value_of(each.model_dump(exclude_none=True)) for each in pauses.readable}
        row = {**pauses.unreadable, **readable, **_ITEM, _VERSION: pauses.version}
        # The second condition is met if this write succeeded before, and its answer was lost.
        condition = "#version = :before" if before.version is not None else "attribute_not_exists(#version)"
        values = {":after": pauses.version} | ({":before": before.version} if before.version is not None else {})
        with service_errors("DynamoDB"):
            try:
                self._client.put_item(
                    TableName=self._table,
                    Item=_serialized(row),
                    ConditionExpression=f"{condition} OR #version = :after",
                    ExpressionAttributeNames={"#version": _VERSION},
                    ExpressionAttributeValues=_serialized(values),
                )
            except self._client.exceptions.ConditionalCheckFailedException as error:
                raise RetryableError(
                    fault("PAUSES_CHANGED", "somebody has changed the pauses since they were read; nothing was done"),
                    cause=Cause.CHANGED_MEANWHILE,
                ) from error


def _pause(name: str, value: Any) -> Pause | None:
    """Read a pause; return None if it is not as this class writes it."""
    try:
        pause = Pause.model_validate(value)
    except ValidationError:
        return None
    return pause if pause.id == name else None


def _serialized(values: dict[str, Any]) -> dict[str, Any]:
    return {name: serialize(value) for name, value in values.items()}
