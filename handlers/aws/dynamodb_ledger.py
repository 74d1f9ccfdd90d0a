"""DynamoDB: the outcomes, what is true now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from handlers.aws.dynamodb_rows import plain, readable, row_of, salvaged, serialize, stamp
from handlers.aws.errors import error_code, service_errors
from handlers.core.errors import AttemptInProgressError, RetryableError, fault
from handlers.core.joins.ports import Attempt
from schemas.events import Join
from schemas.keys import NO_ACCOUNT
from schemas.outcome import FINAL, Outcome, OutcomeStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from mypy_boto3_dynamodb import DynamoDBClient

    from handlers.core.joins.ports import Settlement
    from schemas.events import NoJoin
    from schemas.ids import PolicyId, Sha256

#: Lambda ends an invocation after 15 minutes at most, and clocks may differ; a lease beyond that is no worker's.
LONGEST_LEASE: Final = timedelta(minutes=16)
#: A row that is replaced must still be as it was read in these.
_COMPARED: Final = ("status", "attempts", "updated_at", "lease_until", "source")


class DynamoLedger:
    """Keep one row an event, keyed by account id and event id.

    `attempts` is the fence: `begin` raises it, and only the attempt that has the latest number may write.
    ::

        begin ────────▶ intend ────────▶ announce ──────▶ settle
        attempts + 1    intents[n] = …   announced[n] +   status, results; gone are the lease,
        lease                            SHA-256 of the   and of proven attempts intents[n]
                                         evidence         and announced[n]
        only if         only if          only if          only if
        not final and   attempts = n     attempts = n     attempts = n and
        no lease runs                                     not final, but for the same

    A row that is final for something else (another source, or no join at all) or that cannot be read does not
    keep an event from being handled: `begin` puts a new row in its place, with what earlier attempts still owe.
    """

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def begin(self, event: Join | NoJoin, *, now: datetime, lease_until: datetime) -> Attempt | Outcome:
        """Take hold of an event, or return its final outcome.

        Raises AttemptInProgressError where another worker's lease still runs.
        """
        try:
            row = self._begin(event, now=now, lease_until=lease_until)
        except _RefusedError as refused:
            row = refused.row
        else:
            if begun := readable(row):
                return _attempt(begun)
        known = readable(row)
        if known and _is_final(known, event):
            return known
        if known and known.lease_until and now <= known.lease_until <= now + LONGEST_LEASE:
            raise AttemptInProgressError(
                fault(
                    "ATTEMPT_IN_PROGRESS",
                    "another worker is at this event; if it died, its lease runs out within two minutes",
                )
            )
        return self._replace(event, row, now=now, lease_until=lease_until)

    def _begin(self, event: Join | NoJoin, *, now: datetime, lease_until: datetime) -> dict[str, Any]:
        """Raise the number of attempts and return the row; raise _RefusedError with the row as it is."""
        not_final = "attribute_not_exists(#status) OR #status IN (:retrying, :failed)"
        not_leased = "attribute_not_exists(lease_until) OR lease_until < :now OR lease_until > :horizon"
        try:
            return self._update(
                event,
                "SET #status = if_not_exists(#status, :retrying), failing = if_not_exists(failing, :retrying), "
                "attempts = if_not_exists(attempts, :zero) + :one, intents = if_not_exists(intents, :no_intents), "
                "announced = if_not_exists(announced, :no_evidence), event_time = if_not_exists(event_time, :time), "
                "received_at = if_not_exists(received_at, :now), updated_at = :now, lease_until = :lease, "
                "event_name = :name, #source = :source",
                f"({not_final}) AND ({not_leased})",
                {
                    ":retrying": OutcomeStatus.RETRYING.value,
                    ":failed": OutcomeStatus.FAILED.value,
                    ":zero": 0,
                    ":one": 1,
                    ":no_intents": {},
                    ":no_evidence": {},
                    ":now": stamp(now),
                    ":horizon": stamp(now + LONGEST_LEASE),
                    ":lease": stamp(lease_until),
                    ":name": event.event_name,
                    ":time": stamp(event.event_time),
                    ":source": event.source,
                },
                names={"#source": "source"},
            )
        except _MistypedError:
            # Some value in the row is of another type than a worker writes. A put that only a missing row allows
            # is refused with the row, and so needs no permission to read.
            fresh = _fresh(event, now=now, lease_until=lease_until).model_copy(update={"attempts": 1})
            return self._put(row_of(fresh), "attribute_not_exists(account_id)", {}, {})

    def _replace(
        self, event: Join | NoJoin, row: Mapping[str, Any], *, now: datetime, lease_until: datetime
    ) -> Attempt:
        """Put a new row in the place of one, as long as that is as it was read."""
        known = readable(row)
        begun = salvaged(row, _fresh(event, now=now, lease_until=lease_until))
        begun = begun.model_copy(update={"attempts": begun.attempts % 999_999 + 1})
        names = {f"#{name}": name for name in _COMPARED}
        same = [f"#{name} = :{name}" if name in row else f"attribute_not_exists(#{name})" for name in _COMPARED]
        values = {f":{name}": row[name] for name in _COMPARED if name in row}
        try:
            self._put(row_of(begun), " AND ".join(same), values, names)
        except _RefusedError as refused:
            raise AttemptInProgressError(fault("ATTEMPT_IN_PROGRESS", "another worker is at this event")) from refused
        return _attempt(begun, replaced=known is None)

    def intend(
        self, event: Join | NoJoin, attempt: int, policies: Sequence[PolicyId], *, ambiguous: Collection[PolicyId]
    ) -> None:
        """Write down what the attempt is about to attach, and what may be attached already although no answer said so.

        Raises AttemptInProgressError where a later attempt has taken over.
        """
        told = {":policies": list(policies), ":unclear": sorted(ambiguous)}
        self._note(event, attempt, "intents.#attempt = :policies, unclear = :unclear", told, {"#attempt": str(attempt)})

    def announce(
        self, event: Join | NoJoin, attempt: int, number: int, evidence: Sha256, *, ambiguous: Collection[PolicyId]
    ) -> None:
        """Write down the SHA-256 of evidence that is about to be written for attempt `number`.

        Raises AttemptInProgressError where a later attempt than `attempt` has taken over.
        """
        appended = "announced.#number = list_append(if_not_exists(announced.#number, :none), :evidence)"
        told = {":none": [], ":evidence": [evidence], ":unclear": sorted(ambiguous)}
        self._note(event, attempt, f"{appended}, unclear = :unclear", told, {"#number": str(number)})

    def _note(
        self,
        event: Join | NoJoin,
        attempt: int,
        assignments: str,
        values: Mapping[str, Any],
        names: Mapping[str, str],
    ) -> None:
        """Write into the row of an event that is still this attempt's."""
        told = {**values, ":attempt": attempt}
        try:
            self._update(event, f"SET {assignments}", "attempts = :attempt", told, names=names)
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
            "unclear": sorted(settlement.ambiguous) or None,
        }
        for name, value in optional.items():
            if value is None:
                gone.append(name)
            else:
                values[name] = value
        if settlement.evidence_key:
            values |= {"evidence_key": settlement.evidence_key, "evidence_sha256": settlement.evidence_sha256}
        proven = {f"#attempt{number}": str(number) for number in settlement.proven}
        owed = [f"{name}.{attempt}" for name in ("intents", "announced") for attempt in proven]
        try:
            self._update(
                event,
                f"SET {', '.join(f'#{name} = :{name}' for name in values)} "
                f"REMOVE {', '.join([*(f'#{name}' for name in gone), *owed])}",
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
        with _refusals():
            answer = self._client.update_item(
                TableName=self._table,
                Key={"account_id": serialize(_account(event)), "event_id": serialize(event.event_id)},
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeNames={k: v for k, v in used.items() if k in f"{expression} {condition}"},
                ExpressionAttributeValues={name: serialize(value) for name, value in values.items()},
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        return plain(answer["Attributes"])

    def _put(
        self, row: dict[str, Any], condition: str, values: Mapping[str, Any], names: Mapping[str, str]
    ) -> dict[str, Any]:
        """Put a row and return it; raise _RefusedError with the row as it is."""
        expressions: Any = {
            "ExpressionAttributeValues": {name: serialize(value) for name, value in values.items()},
            "ExpressionAttributeNames": dict(names),
        }
        with _refusals():
            self._client.put_item(
                TableName=self._table,
                Item={name: serialize(value) for name, value in row.items()},
                ConditionExpression=condition,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **{name: each for name, each in expressions.items() if each},
            )
        return row


class _RefusedError(Exception):
    """The condition did not hold; carries the row as it is."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row
        super().__init__()


class _MistypedError(RetryableError):
    """A value in the row is of another type than the update takes."""


@contextmanager
def _refusals() -> Iterator[None]:
    """Tell a write that the row's state forbids from one that failed."""
    with service_errors("DynamoDB"):
        try:
            yield
        except ClientError as error:
            code = error_code(error)
            if code == "ConditionalCheckFailedException":
                raise _RefusedError(plain(cast("dict[str, Any]", error.response.get("Item", {})))) from error
            if code == "ValidationException":
                raise _MistypedError(fault(f"DynamoDB.{code}", f"DynamoDB refused the update: {error}")) from error
            raise


def _fresh(event: Join | NoJoin, *, now: datetime, lease_until: datetime) -> Outcome:
    """Return the outcome of an event whose first attempt is about to begin."""
    return Outcome(
        account_id=_account(event),
        event_id=event.event_id,
        event_name=event.event_name,
        source=event.source,
        status=OutcomeStatus.RETRYING,
        attempts=0,
        event_time=event.event_time,
        received_at=now,
        updated_at=now,
        lease_until=lease_until,
    )


def _attempt(begun: Outcome, *, replaced: bool = False) -> Attempt:
    return Attempt(
        number=begun.attempts,
        interrupted=begun.intents,
        ambiguous=frozenset(begun.unclear),
        event_time=begun.event_time,
        announced=begun.announced,
        replaced=replaced,
    )


def _is_final(known: Outcome, event: Join | NoJoin) -> bool:
    """Tell whether nothing is left to do: an outcome of another kind or source says nothing about this event."""
    if isinstance(event, Join):
        return known.status is OutcomeStatus.ENFORCED and known.source == event.source
    return known.status is OutcomeStatus.IGNORED


def _account(event: Join | NoJoin) -> str:
    return event.account_id if isinstance(event, Join) else NO_ACCOUNT
