"""DynamoDB: which versions of objects the sealed log has, and how far sealing is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from boto3.dynamodb.table import BatchWriter
from pydantic import ValidationError

from handlers.aws.errors import service_errors
from handlers.core.errors import RetryableError, fault
from handlers.core.evidence.sealing import ObjectVersion
from schemas.sealed import SealState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

#: The key of the state. The ids of versions hold no space.
_STATE: Final = {"version": {"S": "state"}}
#: The most keys that BatchGetItem takes.
_MAX_READ: Final = 100
_TRIES: Final = 5


class DynamoSealedIndex:
    """Keep one item for each version, and one for the state."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def state(self) -> SealState | None:
        """Return what is kept; a new state if there is none, and None if it cannot be read."""
        with service_errors("DynamoDB"):
            found: Any = self._client.get_item(TableName=self._table, Key=_STATE, ConsistentRead=True)
        if "Item" not in found:
            return SealState()
        try:
            return SealState.model_validate_json(found["Item"].get("kept", {}).get("S", ""))
        except ValidationError:
            return None

    def save(self, state: SealState) -> None:
        """Keep a state."""
        kept = {"S": state.model_dump_json(exclude_none=True)}
        with service_errors("DynamoDB"):
            self._client.put_item(TableName=self._table, Item={**_STATE, "kept": kept})

    def known(self, versions: Sequence[ObjectVersion]) -> set[ObjectVersion]:
        """Return which of these versions the log has. Raises RetryableError if DynamoDB does not return all of them."""
        by_name = {_name(each): each for each in versions}
        names = list(by_name)
        chunks = (names[at : at + _MAX_READ] for at in range(0, len(names), _MAX_READ))
        return {by_name[item["version"]["S"]] for chunk in chunks for item in self._items(chunk)}

    def add(self, versions: Sequence[ObjectVersion]) -> None:
        """Add versions, also those that it has."""
        # It sends again what DynamoDB leaves unprocessed. The items are those of the client, so nothing is converted.
        with service_errors("DynamoDB"), BatchWriter(self._table, self._client) as writer:
            for each in versions:
                writer.put_item(Item={"version": {"S": _name(each)}})

    def _items(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        request: Any = {self._table: {"Keys": [{"version": {"S": each}} for each in names], "ConsistentRead": True}}
        for _ in range(_TRIES):
            with service_errors("DynamoDB"):
                answer = self._client.batch_get_item(RequestItems=request)
            yield from answer["Responses"].get(self._table, [])
            request = answer.get("UnprocessedKeys")
            if not request:
                return
        raise RetryableError(fault("DynamoDB.UnprocessedKeys", "DynamoDB did not return all of the keys"), soon=True)


def _name(version: ObjectVersion) -> str:
    return f"{version.version_id} {version.key}"
