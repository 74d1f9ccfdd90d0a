"""DynamoDB: the outcomes, what is true now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from handlers.aws.faults import error_code, records_faults
from handlers.core.errors import AttemptInProgressError, fault
from handlers.core.ports import Attempt
from schemas.events import Join
from schemas.outcome import FINAL, Outcome, OutcomeStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from mypy_boto3_dynamodb import DynamoDBClient

    from handlers.core.ports import Settlement
    from schemas.events import NoJoin
    from schemas.ids import PolicyId

#: Key of a row whose event names no account.
NO_ACCOUNT: Final = "none"

_serialize: Final = TypeSerializer().serialize
_deserialize: Final = TypeDeserializer().deserialize


class DynamoLedger:
    """Keep one row an event, keyed by account id and event id.

    `attempts` is the fence: `begin` raises it, and only the attempt that has the latest number may write.
    ::

        begin ────────▶ intend ────────▶ settle
        attempts + 1    intents[n] = …   status, results; lease and proven intents gone
        lease           only if          only if
        only if         attempts = n     attempts = n and
        not final and                    not final, but for the same
        no lease runs
    """

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def begin(self, event: Join | NoJoin, *, now: datetime, lease_until: datetime) -> Attempt | Outcome:
        """Take hold of an event, or return its final outcome.

        Raises AttemptInProgressError where another worker's lease still runs.
        """
        not_final = "attribute_not_exists(#status) OR #status IN (:retrying, :failed)"
        not_leased = "attribute_not_exists(lease_until) OR lease_until < :now"
        try:
            row = self._update(
                event,
                "SET #status = if_not_exists(#status, :retrying), failing = if_not_exists(failing, :retrying), "
                "attempts = if_not_exists(attempts, :zero) + :one, intents = if_not_exists(intents, :empty), "
                "received_at = if_not_exists(received_at, :now), updated_at = :now, lease_until = :lease, "
                "event_name = :name, event_time = :time, #source = :source",
                f"({not_final}) AND ({not_leased})",
                {
                    ":retrying": OutcomeStatus.RETRYING.value,
                    ":failed": OutcomeStatus.FAILED.value,
                    ":zero": 0,
                    ":one": 1,
                    ":empty": {},
                    ":now": stamp(now),
                    ":lease": stamp(lease_until),
                    ":name": event.event_name,
                    ":time": stamp(event.event_time),
                    ":source": event.source,
                },
                names={"#source": "source"},
            )
        except _RefusedError as refused:
            if refused.row.get("status") in FINAL:
                return outcome(refused.row)
            message = "another worker is at this event; if it died, its lease runs out within two minutes"
            raise AttemptInProgressError(fault("ATTEMPT_IN_PROGRESS", message)) from refused
        begun = outcome(row)
        return Attempt(number=begun.attempts, interrupted=begun.intents, unclear=frozenset(begun.unclear))

    def intend(
        self, event: Join | NoJoin, attempt: int, policies: Sequence[PolicyId], *, unclear: Collection[PolicyId] = ()
    ) -> None:
        """Write down what the attempt is about to attach, and what of it failed in a way that may have taken effect.

        Raises AttemptInProgressError where a later attempt has taken over.
        """
        try:
            self._update(
                event,
                "SET intents.#attempt = :policies, unclear = :unclear",
                "attempts = :attempt",
                {":policies": list(policies), ":unclear": sorted(unclear), ":attempt": attempt},
                names={"#attempt": str(attempt)},
            )
        except _RefusedError as refused:
            raise AttemptInProgressError(fault("SUPERSEDED", "a later attempt at this event took over")) from refused

    def settle(self, event: Join | NoJoin, attempt: int, settlement: Settlement, *, now: datetime) -> bool:
        """Write what the attempt came to and give up the lease; False where a later attempt has taken over."""
        values: dict[str, Any] = {
            "status": settlement.status.value,
            "updated_at": stamp(now),
            "policies": [policy.model_dump(mode="json", exclude_none=True) for policy in settlement.policies],
        }
        gone = ["lease_until"]
        optional = {
            "failing": None if settlement.status in FINAL else settlement.status.value,
            "done_at": None if settlement.status is OutcomeStatus.RETRYING else stamp(now),
            "fault": settlement.fault.model_dump(mode="json", exclude_none=True) if settlement.fault else None,
            "unclear": sorted(settlement.unclear) or None,
        }
        for name, value in optional.items():
            if value is None:
                gone.append(name)
            else:
                values[name] = value
        if settlement.evidence_key:
            values["evidence_key"] = settlement.evidence_key
        proven = {f"#attempt{number}": str(number) for number in settlement.proven}
        try:
            self._update(
                event,
                f"SET {', '.join(f'#{name} = :{name}' for name in values)} "
                f"REMOVE {', '.join([*(f'#{name}' for name in gone), *(f'intents.{name}' for name in proven)])}",
                # The same final outcome once more is no conflict: botocore may have seen no answer the first time.
                "attempts = :attempt AND #status IN (:retrying, :failed, :status)",
                {":attempt": attempt, ":retrying": OutcomeStatus.RETRYING.value, ":failed": OutcomeStatus.FAILED.value}
                | {f":{name}": value for name, value in values.items()},
                names={f"#{name}": name for name in [*values, *gone]} | proven,
            )
        except _RefusedError:
            return False
        return True

    def _update(
        self,
        event: Join | NoJoin,
        expression: str,
        condition: str,
        values: Mapping[str, Any],
        *,
        names: Mapping[str, str],
    ) -> dict[str, Any]:
        """Update the event's row and return it; raise _RefusedError with the row as it is."""
        used = {"#status": "status"} | dict(names)
        account_id = event.account_id if isinstance(event, Join) else NO_ACCOUNT
        with records_faults("DynamoDB"):
            try:
                answer = self._client.update_item(
                    TableName=self._table,
                    Key={"account_id": {"S": account_id}, "event_id": {"S": event.event_id}},
                    UpdateExpression=expression,
                    ConditionExpression=condition,
                    ExpressionAttributeNames={k: v for k, v in used.items() if k in f"{expression} {condition}"},
                    ExpressionAttributeValues={name: _serialize(value) for name, value in values.items()},
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as error:
                if error_code(error) == "ConditionalCheckFailedException":
                    raise _RefusedError(_plain(cast("dict[str, Any]", error.response.get("Item", {})))) from error
                raise
        return _plain(answer["Attributes"])


class _RefusedError(Exception):
    """The condition did not hold; carries the row as it is."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row
        super().__init__()


def outcome(row: Mapping[str, Any]) -> Outcome:
    """Read a row of the table."""
    return Outcome.model_validate({name: value for name, value in row.items() if name in Outcome.model_fields})


def stamp(moment: datetime) -> str:
    """Write a moment so that the order of texts is the order of time."""
    # Not by strftime, which writes the years before 1000 with less than four digits.
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _deserialize(value) for name, value in item.items()}
