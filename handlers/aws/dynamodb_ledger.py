"""DynamoDB: the outcomes, as the worker writes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from handlers.aws.dynamodb_rows import (
    NOT_LEASED,
    lease_limits,
    plain,
    readable,
    replacement,
    row_of,
    serialize,
    stamp,
    value_of,
)
from handlers.aws.errors import error_code, service_errors
from handlers.core.errors import AttemptInProgressError, RetryableError, fault
from handlers.core.joins.ports import Attempt
from handlers.core.timing import MAX_LEASE
from schemas.events import AccountEvent, Departure, Join
from schemas.keys import NO_ACCOUNT
from schemas.outcome import FAILING, Outcome, OutcomeStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from mypy_boto3_dynamodb import DynamoDBClient

    from handlers.core.joins.ports import Settlement
    from schemas.events import Event
    from schemas.ids import PolicyId, Sha256

#: An update expression has at most 4 KB, which is enough to remove the values of this number of attempts.
_MAX_REMOVED: Final = 40
#: A row is replaced only if these fields still have the values that were read.
_COMPARED: Final = ("status", "attempts", "updated_at", "lease_until", "source")
_BEGIN: Final = (
    "SET #status = if_not_exists(#status, :retrying), failing = if_not_exists(failing, :retrying), "
    "attempts = if_not_exists(attempts, :zero) + :one, intents = if_not_exists(intents, :no_intents), "
    "announced = if_not_exists(announced, :no_evidence), event_time = if_not_exists(event_time, :time), "
    "received_at = if_not_exists(received_at, :now), updated_at = :now, lease_until = :lease, "
    "event_name = :name, #source = :source"
)
_NOT_FINAL: Final = "attribute_not_exists(#status) OR #status IN (:retrying, :failed)"


class DynamoLedger:
    """Keep one row for each event, with the account id and the event id as its key.

    `attempts` is a fencing token: `begin` increments it, and only the attempt with the latest number may write.
    ::

        begin ────────▶ intend ────────▶ announce ──────▶ settle
        attempts + 1    intents[n] = …   announced[n] +   status, results; removes the lease,
        lease                            SHA-256 of the   and intents[n] and announced[n] of
                                         evidence         attempts whose evidence is written
        only if         only if          only if          only if
        not final and   attempts = n     attempts = n     attempts = n and
        not leased                                        not final, or the same status

    A row that is unreadable, CLOSED, OBSERVED, or final for something else (another source, or an event that was not a
    join) does not prevent an event from being handled: `begin` replaces it with a new row, which keeps what the next
    attempt needs.
    """

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def begin(self, event: Event, *, now: datetime, lease_until: datetime) -> Attempt | Outcome:
        """Begin an attempt at an event, or return the event's final outcome.

        Raises AttemptInProgressError while another worker holds the lease.
        """
        try:
            row = self._begin(event, now=now, lease_until=lease_until)
        except _ConditionFailedError as failed:
            row = failed.row
        else:
            if begun := readable(row):
                return _attempt(begun)
        known = readable(row)
        if known and _is_final(known, event):
            return known
        if known and known.lease_until and now <= known.lease_until <= now + MAX_LEASE:
            why = "another worker is handling this event; if it has died, its lease expires within two minutes"
            raise AttemptInProgressError(fault("ATTEMPT_IN_PROGRESS", why))
        return self._replace(event, row, now=now, lease_until=lease_until)

    def _begin(self, event: Event, *, now: datetime, lease_until: datetime) -> dict[str, Any]:
        """Increment the number of attempts and return the row; raise _ConditionFailedError with the row as it is."""
        values = {
            ":retrying": OutcomeStatus.RETRYING.value,
            ":failed": OutcomeStatus.FAILED.value,
            ":zero": 0,
            ":one": 1,
            ":no_intents": {},
            ":no_evidence": {},
            **lease_limits(now),
            ":lease": stamp(lease_until),
            ":name": event.event_name,
            ":time": stamp(event.event_time),
            ":source": event.source,
        }
        condition = f"({_NOT_FINAL}) AND ({NOT_LEASED})"
        try:
            return self._update(event, _BEGIN, condition, values, names={"#source": "source"})
        except _InvalidRowError:
            # This error does not return the row. A put on the condition that the row is missing fails with the row, and
            # needs no permission to read.
            fresh = _fresh(event, now=now, lease_until=lease_until).model_copy(update={"attempts": 1})
            return self._put(row_of(fresh), "attribute_not_exists(account_id)", {}, {})

    def _replace(self, event: Event, row: Mapping[str, Any], *, now: datetime, lease_until: datetime) -> Attempt:
        """Replace a row with a new one, unless it has changed since it was read."""
        known = readable(row)
        begun = replacement(row, _fresh(event, now=now, lease_until=lease_until))
        begun = begun.model_copy(update={"attempts": begun.attempts % 999_999 + 1})
        names = {f"#{name}": name for name in _COMPARED}
        same = [f"#{name} = :{name}" if name in row else f"attribute_not_exists(#{name})" for name in _COMPARED]
        values = {f":{name}": row[name] for name in _COMPARED if name in row}
        try:
            self._put(row_of(begun), " AND ".join(same), values, names)
        except _ConditionFailedError as failed:
            why = fault("ATTEMPT_IN_PROGRESS", "another worker is handling this event")
            raise AttemptInProgressError(why) from failed
        return _attempt(begun, replaced=known is None)

    def intend(
        self, event: Event, attempt: int, policies: Sequence[PolicyId], *, ambiguous: Collection[PolicyId]
    ) -> None:
        """Record the policies that the attempt is about to change, and the ambiguous ones.

        Raises AttemptInProgressError after a later attempt has begun.
        """
        values = {":policies": list(policies), ":unclear": sorted(ambiguous)}
        assignments = "intents.#attempt = :policies, unclear = :unclear"
        self._update_if_latest(event, attempt, assignments, values, {"#attempt": str(attempt)})

    def announce(
        self, event: Event, attempt: int, number: int, evidence: Sha256, *, ambiguous: Collection[PolicyId]
    ) -> None:
        """Record the SHA-256 of the evidence that `attempt` is about to write about attempt `number`.

        Raises AttemptInProgressError after a later attempt than `attempt` has begun.
        """
        values = {":none": [], ":evidence": [evidence], ":unclear": sorted(ambiguous)}
        appended = "announced.#number = list_append(if_not_exists(announced.#number, :none), :evidence)"
        self._update_if_latest(event, attempt, f"{appended}, unclear = :unclear", values, {"#number": str(number)})

    def _update_if_latest(
        self,
        event: Event,
        attempt: int,
        assignments: str,
        values: Mapping[str, Any],
        names: Mapping[str, str],
    ) -> None:
        """Update the event's row; raise AttemptInProgressError after a later attempt has begun."""
        values = {**values, ":attempt": attempt}
        try:
            self._update(event, f"SET {assignments}", "attempts = :attempt", values, names=names)
        except _ConditionFailedError as failed:
            why = fault("SUPERSEDED", "a later attempt at this event has begun")
            raise AttemptInProgressError(why) from failed

    def settle(self, event: Event, attempt: int, settlement: Settlement, *, now: datetime) -> bool:
        """Record the attempt's result and end its lease; return False after a later attempt has begun."""
        fields = _settled(settlement, now=now)
        values = {name: value for name, value in fields.items() if value is not None}
        # The latest attempts first, this one among them; what is left over does no harm and is removed next time.
        removable = sorted(settlement.proven, reverse=True)[:_MAX_REMOVED]
        proven = {f"#attempt{number}": str(number) for number in removable}
        assigned = [f"#{name} = :{name}" for name in values]
        removed = [f"#{name}" for name in fields if name not in values]
        removed += [f"{name}.{number}" for name in ("intents", "announced") for number in proven]
        try:
            self._update(
                event,
                f"SET {', '.join(assigned)} REMOVE {', '.join(removed)}",
                # The same final status is not a conflict: botocore repeats a call that got no answer. An operator may
                # have closed the outcome of an attempt that runs longer than its lease; what the attempt did counts.
                "attempts = :attempt AND #status IN (:retrying, :failed, :was_closed, :status)",
                {
                    ":attempt": attempt,
                    ":retrying": OutcomeStatus.RETRYING.value,
                    ":failed": OutcomeStatus.FAILED.value,
                    ":was_closed": OutcomeStatus.CLOSED.value,
                }
                | {f":{name}": value for name, value in values.items()},
                names={f"#{name}": name for name in fields} | proven,
            )
        except _ConditionFailedError:
            return False
        return True

    def record_rehearsal(self, outcome: Outcome) -> None:
        """Write the row of the last rehearsal, whatever it holds, so that the table does not grow."""
        row = {name: serialize(value) for name, value in row_of(outcome).items()}
        with service_errors("DynamoDB"):
            self._client.put_item(TableName=self._table, Item=row)

    def _update(
        self,
        event: Event,
        expression: str,
        condition: str,
        values: Mapping[str, Any],
        *,
        names: Mapping[str, str],
    ) -> dict[str, Any]:
        """Update the event's row and return it; raise _ConditionFailedError with the row as it is."""
        used = {"#status": "status"} | dict(names)
        with _write_errors():
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
        """Put a row and return it; raise _ConditionFailedError with the row as it is."""
        expressions: Any = {
            "ExpressionAttributeValues": {name: serialize(value) for name, value in values.items()},
            "ExpressionAttributeNames": dict(names),
        }
        with _write_errors():
            self._client.put_item(
                TableName=self._table,
                Item={name: serialize(value) for name, value in row.items()},
                ConditionExpression=condition,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **{name: each for name, each in expressions.items() if each},
            )
        return row


class _ConditionFailedError(Exception):
    """The condition of a write is not met; `row` is the row as it is."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row
        super().__init__()


class _InvalidRowError(RetryableError):
    """A value in the row has another type than the worker writes, so that DynamoDB cannot update it."""


@contextmanager
def _write_errors() -> Iterator[None]:
    """Distinguish writes that the state of the row prevents from calls that failed."""
    with service_errors("DynamoDB"):
        try:
            yield
        except ClientError as error:
            code = error_code(error)
            if code == "ConditionalCheckFailedException":
                raise _ConditionFailedError(plain(cast("dict[str, Any]", error.response.get("Item", {})))) from error
            if code == "ValidationException":
                raise _InvalidRowError(fault(f"DynamoDB.{code}", f"DynamoDB rejected the update: {error}")) from error
            raise


def _fresh(event: Event, *, now: datetime, lease_until: datetime) -> Outcome:
    """Return the outcome of an event before its first attempt."""
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
        received_at=begun.received_at,
        announced=begun.announced,
        claims=begun.claims,
        replaced=replaced,
    )


def _settled(settlement: Settlement, *, now: datetime) -> dict[str, Any]:
    """Return the fields that a settlement changes; None removes a field."""
    fault = settlement.fault
    fields: dict[str, Any] = {
        "status": settlement.status.value,
        "failing": settlement.status.value if settlement.status in FAILING else None,
        "updated_at": stamp(now),
        "done_at": None if settlement.status is OutcomeStatus.RETRYING else stamp(now),
        "policies": [policy.model_dump(mode="json", exclude_none=True) for policy in settlement.policies],
        "fault": fault.model_dump(mode="json", exclude_none=True) if fault else None,
        "guardrails": settlement.guardrails,
        "unclear": sorted(settlement.ambiguous) or None,
        "claims": {name: value_of(claim.model_dump()) for name, claim in settlement.claims.items()} or None,
        "lease_until": None,
        "closed": None,
        "called": value_of(settlement.called.model_dump(exclude_none=True)) if settlement.called else None,
        "departed": value_of(settlement.departed.model_dump()) if settlement.departed else None,
    }
    if settlement.evidence_key:
        fields |= {"evidence_key": settlement.evidence_key, "evidence_sha256": settlement.evidence_sha256}
    return fields


def _is_final(known: Outcome, event: Event) -> bool:
    """Return whether there is nothing left to do.

    A final outcome of another source, or of an event that was not a join, does not apply to this event.
    """
    if isinstance(event, Join):
        return known.status is OutcomeStatus.ENFORCED and known.source == event.source
    if isinstance(event, Departure):
        decided = known.status is OutcomeStatus.IGNORED or known.departed is not None
        return decided and known.source == event.source
    return known.status is OutcomeStatus.IGNORED


def _account(event: Event) -> str:
    return event.account_id if isinstance(event, AccountEvent) else NO_ACCOUNT
