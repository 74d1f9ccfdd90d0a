"""Observe an installation: its queues, records and attachments, for the demo and the tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import Attr

from handlers.aws.dynamodb_rows import outcome
from infra.local.waiting import HANGS_AFTER, until
from schemas.evidence import Evidence
from schemas.outcome import OutcomeStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.local.installation import Installation
    from infra.local.standin import StandIn
    from schemas.outcome import Outcome


class Watch:
    """An installation's queues, records and organization, read through AWS APIs."""

    def __init__(self, aws: StandIn, installation: Installation) -> None:
        self._sqs = aws.client("sqs")
        self._s3 = aws.client("s3")
        self._organizations = aws.client("organizations")
        self._table = aws.resource("dynamodb").Table(installation.outcomes_table)
        self._at = installation

    def put(self, event: Mapping[str, Any] | str) -> None:
        """Send an event to the queue as EventBridge does."""
        body = event if isinstance(event, str) else json.dumps(event)
        self._sqs.send_message(QueueUrl=self._at.queue_url, MessageBody=body)

    def request(self, body: str) -> None:
        """Send a request to the queue whose worker lets live joins go first."""
        self._sqs.send_message(QueueUrl=self._at.repairs_queue_url, MessageBody=body)

    def until_quiet(self) -> None:
        """Wait until the queues of the worker have no message: visible, in flight or delayed."""
        urls = (self._at.queue_url, self._at.repairs_queue_url)
        until(lambda: not any(map(self._count, urls)), "the queues to be empty")

    def outcome(self, event_id: str) -> Outcome | None:
        """Return an event's outcome row, or None."""
        found = self._table.scan(ConsistentRead=True, FilterExpression=Attr("event_id").eq(event_id))["Items"]
        return outcome(found[0]) if found else None

    def evidence(self, event_id: str) -> list[Evidence]:
        """Return an event's evidence in the order of attempts."""
        row = self.outcome(event_id)
        if row is None:
            return []
        # Taken from the row: if the event's id contains twelve digits, the key has a digest instead.
        folder = (
            row.evidence_key.rsplit("/", 2)[0] if row.evidence_key else f"evidence/{row.event_time:%Y/%m/%d}/{event_id}"
        )
        listed = self._s3.list_objects_v2(Bucket=self._at.evidence_bucket, Prefix=f"{folder}/").get("Contents", [])
        found = [Evidence.model_validate_json(self._read(each["Key"])) for each in listed]
        return sorted(found, key=lambda each: each.attempt)

    def attached(self, account_id: str) -> set[str]:
        """Return the required policies that are attached to the account."""
        found = self._organizations.list_policies_for_target(TargetId=account_id, Filter="SERVICE_CONTROL_POLICY")
        return {policy["Id"] for policy in found["Policies"]} & set(self._at.policy_ids)

    def dead_letters(self) -> list[dict[str, Any]]:
        """Return the dead letters as SQS returns them, and make them visible again."""
        url, found = self._at.dead_letter_queue_url, list[dict[str, Any]]()
        while batch := self._sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=HANGS_AFTER
        ).get("Messages"):
            found += batch
        for message in found:
            self._sqs.change_message_visibility(
                QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
            )
        return found

    def redrive(self, message: Mapping[str, Any], *, body: str | None = None) -> None:
        """Send a dead letter to the queue with its attributes and one more redrive, then delete it."""
        attributes = {name: dict(value) for name, value in message["MessageAttributes"].items()}
        attributes["REDRIVES"]["StringValue"] = str(int(attributes["REDRIVES"]["StringValue"]) + 1)
        self._sqs.send_message(
            QueueUrl=self._at.queue_url, MessageBody=body or message["Body"], MessageAttributes=attributes
        )
        self.delete(message)

    def delete(self, message: Mapping[str, Any]) -> None:
        """Delete a dead letter."""
        self._sqs.delete_message(QueueUrl=self._at.dead_letter_queue_url, ReceiptHandle=message["ReceiptHandle"])

    def clear(self) -> None:
        """Delete all messages, those in flight too, and all outcomes; evidence is locked and remains."""
        at = self._at
        for url in (at.queue_url, at.repairs_queue_url, at.dead_letter_queue_url, at.undelivered_queue_url):
            self._sqs.purge_queue(QueueUrl=url)
        for row in self._table.scan(ConsistentRead=True)["Items"]:
            self._table.delete_item(Key={name: row[name] for name in ("account_id", "event_id")})

    def dead_letter_count(self) -> int:
        """Return the number of dead letters."""
        return self._count(self._at.dead_letter_queue_url)

    def failing(self) -> list[str]:
        """Return the ids of the events in the index `failing`."""
        found = [
            self._table.query(
                IndexName="failing",
                KeyConditionExpression="failing = :status",
                ExpressionAttributeValues={":status": status.value},
            )["Items"]
            for status in (OutcomeStatus.FAILED, OutcomeStatus.RETRYING)
        ]
        return [str(item["event_id"]) for items in found for item in items]

    def _count(self, queue_url: str) -> int:
        names = [f"ApproximateNumberOfMessages{which}" for which in ("", "NotVisible", "Delayed")]
        found = self._sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def _read(self, key: str) -> bytes:
        body: bytes = self._s3.get_object(Bucket=self._at.evidence_bucket, Key=key)["Body"].read()
        return body
