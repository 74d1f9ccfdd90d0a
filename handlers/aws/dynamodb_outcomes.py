"""DynamoDB: the outcomes, as operators read and close them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Literal

from handlers.aws.dynamodb_rows import NOT_LEASED, lease_limits, plain, readable, serialize, stamp, value_of
from handlers.aws.errors import service_errors
from handlers.core.errors import RetryableError, fault
from handlers.core.ports import UnreadableRow
from schemas.outcome import OutcomeStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from mypy_boto3_dynamodb import DynamoDBClient

    from handlers.core.reconcile.coverage import Rows
    from schemas.ids import AccountId
    from schemas.outcome import Closed, Outcome

#: The number of calls for one batch: DynamoDB may leave keys unprocessed.
_TRIES: Final = 4
#: Parallel calls.
_PARALLEL: Final = 8
#: The number of accounts whose outcomes are in memory at a time.
_PORTION: Final = 200


class DynamoOutcomes:
    """Read the outcomes, and close those of dropped messages."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def of_account(self, account_id: AccountId | str) -> Iterator[Outcome | UnreadableRow]:
        """Yield the outcomes of all events of an account; of `none`, of the events that name no account."""
        yield from self._rows(
            "query", KeyConditionExpression="account_id = :a", ExpressionAttributeValues={":a": _s(account_id)}
        )

    def of_accounts(self, account_ids: Sequence[AccountId]) -> Iterator[tuple[AccountId, Rows]]:
        """Yield the outcomes of accounts in the order of the accounts, several of which are read at a time."""

        def read(account_id: AccountId) -> Rows:
            return tuple(self.of_account(account_id))

        # In portions, because a pool takes all of its work at once and keeps the results.
        with ThreadPoolExecutor(_PARALLEL) as pool:
            for begin in range(0, len(account_ids), _PORTION):
                portion = account_ids[begin : begin + _PORTION]
                yield from zip(portion, pool.map(read, portion), strict=True)

    def failing(self, status: OutcomeStatus) -> Iterator[Outcome | UnreadableRow]:
        """Yield all outcomes that are RETRYING or FAILED, the least recently updated first."""
        yield from self._rows(
            "query",
            IndexName="failing",
            KeyConditionExpression="failing = :s",
            ExpressionAttributeValues={":s": _s(status.value)},
        )

    def count(self, status: OutcomeStatus) -> int:
        """Return the number of outcomes that are RETRYING or FAILED."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName="failing",
            KeyConditionExpression="failing = :s",
            ExpressionAttributeValues={":s": _s(status.value)},
            Select="COUNT",
        )
        with service_errors("DynamoDB"):
            return sum(page["Count"] for page in pages)

    def scan(self, status: OutcomeStatus | None) -> Iterator[Outcome | UnreadableRow]:
        """Yield all outcomes with a status, or with any; this reads the whole table."""
        only: Any = {}
        if status:
            only = {
                "FilterExpression": "#status = :status",
                "ExpressionAttributeNames": {"#status": "status"},
                "ExpressionAttributeValues": {":status": _s(status.value)},
            }
        yield from self._rows("scan", **only)

    def account_ids(self) -> Iterator[str]:
        """Yield the account id of each row, once, whatever it is; this reads the keys of the whole table."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table, Select="SPECIFIC_ATTRIBUTES", ProjectionExpression="account_id"
        )
        seen: set[str] = set()
        with service_errors("DynamoDB"):
            for page in pages:
                found = {str(plain(each)["account_id"]) for each in page["Items"]} - seen
                seen |= found
                yield from sorted(found)

    def of_events(self, keys: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], Outcome | UnreadableRow]:
        """Return the outcomes of up to 100 events, by account id and event id; events without one are left out.

        Raises RetryableError if DynamoDB leaves some of them unprocessed.
        """
        request: Any = {self._table: {"Keys": [_key(*each) for each in keys], "ConsistentRead": True}}
        found: dict[tuple[str, str], Outcome | UnreadableRow] = {}
        for _ in range(_TRIES):
            with service_errors("DynamoDB"):
                answer = self._client.batch_get_item(RequestItems=request)
            outcomes = map(_outcome, answer["Responses"].get(self._table, []))
            found |= {(each.account_id, each.event_id): each for each in outcomes}
            request = answer.get("UnprocessedKeys")
            if not request:
                return found
        raise RetryableError(
            fault("DynamoDB.UnprocessedKeys", "DynamoDB did not return all of the requested outcomes; try again"),
            soon=True,
        )

    def close(self, keys: Collection[tuple[str, str]], closed: Closed) -> list[tuple[str, str]]:
        """Close the outcomes of events that are RETRYING or FAILED, unless an attempt is running; return the closed.

        Closing an outcome again in the same action, as after a lost answer, is no conflict.
        """
        values = {
            ":status": OutcomeStatus.CLOSED.value,
            ":retrying": OutcomeStatus.RETRYING.value,
            ":failed": OutcomeStatus.FAILED.value,
            ":closed": value_of(closed.model_dump(exclude_none=True)),
            ":act": closed.act_id,
            **lease_limits(closed.closed_at),
        }
        expression = "SET #status = :status, closed = :closed, updated_at = :now REMOVE failing, lease_until"
        condition = f"#status IN (:retrying, :failed) AND ({NOT_LEASED}) OR closed.act_id = :act"
        return self._update(keys, expression, condition, values)

    def reopen(self, keys: Collection[tuple[str, str]], act_id: str, now: datetime) -> list[tuple[str, str]]:
        """Make outcomes that an action closed FAILED again; return those that were reopened."""
        expression = "SET #status = :failed, failing = :failed, updated_at = :now REMOVE closed"
        values = {":failed": OutcomeStatus.FAILED.value, ":now": stamp(now), ":act": act_id}
        return self._update(keys, expression, "closed.act_id = :act", values)

    def _update(
        self, keys: Collection[tuple[str, str]], expression: str, condition: str, values: Mapping[str, Any]
    ) -> list[tuple[str, str]]:
        """Update the rows that meet the condition; return their keys."""

        def update(key: tuple[str, str]) -> bool:
            with service_errors("DynamoDB"):
                try:
                    self._client.update_item(
                        TableName=self._table,
                        Key=_key(*key),
                        UpdateExpression=expression,
                        ConditionExpression=condition,
                        ExpressionAttributeNames={"#status": "status"},
                        ExpressionAttributeValues={name: serialize(value) for name, value in values.items()},
                    )
                except self._client.exceptions.ConditionalCheckFailedException:
                    return False
            return True

        with ThreadPoolExecutor(_PARALLEL) as pool:
            return [key for key, done in zip(keys, pool.map(update, keys), strict=True) if done]

    def _rows(self, operation: Literal["query", "scan"], **parameters: Any) -> Iterator[Outcome | UnreadableRow]:
        pages: Any = self._client.get_paginator(operation).paginate(TableName=self._table, **parameters)
        with service_errors("DynamoDB"):
            for page in pages:
                yield from map(_outcome, page["Items"])


def _outcome(item: Mapping[str, Any]) -> Outcome | UnreadableRow:
    row = plain(item)
    return readable(row) or UnreadableRow(str(row["account_id"]), str(row["event_id"]))


def _key(account_id: str, event_id: str) -> dict[str, dict[str, str]]:
    return {"account_id": _s(account_id), "event_id": _s(event_id)}


def _s(value: str) -> dict[str, str]:
    return {"S": value}
